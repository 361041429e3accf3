/*
 * The control socket run_dir/control: one JSON object a line, an answer a line. Only root and the node's user
 * get an answer. A client that is slow or silent is closed; it holds up nothing. Master only.
 */
#ifndef NODE_MASTER_CONTROL_H
#define NODE_MASTER_CONTROL_H

#include "node/master_folders.h"
#include "shared/status.h"

#include <event2/event.h>
#include <jansson.h>

#define MASTER_CONTROL_NAME    "control"
#define MASTER_CONTROL_CLIENTS 16
#define MASTER_CONTROL_REQUEST 4096 /* bytes of one request line */

struct master_control;

struct master_control_settings {
    struct event_base *base;              /* borrowed */
    const struct master_folders *folders; /* borrowed */
    void *context;
    /* The answer to a request ("command" is a string in it) as one line of JSON without its end, to free().
       NULL: master_control_answer() will bring it to `client`, a number never used twice and never 0. */
    char *(*answer)(void *context, const char *command, const json_t *request, uint64_t client);
};

/* STATUS_SYSTEM: errno says why. */
enum status master_control_open(
    const struct master_control_settings *settings, struct master_control **ret_control) CHECK_RESULT;
/* The answer that came later. A client that has gone meanwhile misses it. */
void master_control_answer(struct master_control *control, uint64_t client, const char *text);
/* Closes all clients, too. */
void master_control_close(struct master_control **control);

#endif
