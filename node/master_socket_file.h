/*
 * The file of a listening Unix socket: made, and removed again if it is still ours. A file that a dead node
 * left behind is replaced; any other is left alone. Master only.
 */
#ifndef NODE_MASTER_SOCKET_FILE_H
#define NODE_MASTER_SOCKET_FILE_H

#include "shared/config.h"
#include "shared/status.h"

#include <sys/types.h>

struct master_socket_file { /* which file it is, so that another's of the same name stays */
    dev_t device;
    ino_t number; /* 0: none */
};

/* Binds and listens; the file belongs to the user and the group, with the listener's mode. *ret_error says in
   words what is wrong if that is more than errno's text. Missing folders are made. */
enum status master_socket_file_open(const struct config_listener *listener, uid_t uid, gid_t gid,
    struct master_socket_file *ret_file, int *ret_fd, const char **ret_error) CHECK_RESULT;
/* Sets the listener's mode, if the file is still ours. */
enum status master_socket_file_mode(
    const struct config_listener *listener, const struct master_socket_file *file) CHECK_RESULT;
void master_socket_file_remove(const struct config_listener *listener, struct master_socket_file *file);

#endif
