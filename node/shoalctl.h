/* What the files of shoalctl share: exit codes, the conversation with the master, one function per command.
 */
#ifndef NODE_SHOALCTL_H
#define NODE_SHOALCTL_H

#include "shared/status.h"

#include <jansson.h>
#include <stdbool.h>

enum shoalctl_exit {
    SHOALCTL_EXIT_OK = 0,
    SHOALCTL_EXIT_CONFIG = 1,    /* the configuration file cannot be read, or not converted */
    SHOALCTL_EXIT_USAGE = 2,     /* the command line is wrong */
    SHOALCTL_EXIT_NO_ANSWER = 3, /* no node runs there, or it does not answer */
    SHOALCTL_EXIT_REFUSED = 4,   /* the node answered that it will not, or that a reload failed */
};

/* Connects to the control socket `path`, of any length; prints what is wrong. */
enum status shoalctl_connect(const char *path, int *ret_fd) CHECK_RESULT;
/* Sends a request and waits for the answer, `timeout_s` at most; prints what is wrong. */
enum status shoalctl_ask(int fd, const json_t *request, unsigned timeout_s, json_t **ret_answer) CHECK_RESULT;
/* Waits until the node has gone: STATUS_AGAIN if it has not within `timeout_s`. */
enum status shoalctl_wait_end(int fd, unsigned timeout_s) CHECK_RESULT;

/* Prints the answer to "status" for a person. */
void shoalctl_print_status(const json_t *status);
/* The cluster as the node sees it; false: it is alone. */
bool shoalctl_print_cluster(const json_t *status);
/* Prints the answer to "certs" for a person. */
void shoalctl_print_certs(const json_t *certs);
/* Prints the report of a reload, or of what one would do, for a person; problems on standard error. Returns
   the exit code. */
int shoalctl_print_reload(const json_t *report, bool dry_run);

#endif
