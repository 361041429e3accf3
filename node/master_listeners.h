/*
 * The listening sockets: one per listener and worker slot, all SO_REUSEPORT, open for the node's whole life,
 * so that no worker's death refuses a connection. A Unix socket, for which the kernel does not do that, is
 * one for all slots. Master only; never accepts.
 */
#ifndef NODE_MASTER_LISTENERS_H
#define NODE_MASTER_LISTENERS_H

#include "shared/config.h"
#include "shared/status.h"

#include <sys/types.h>

struct master_listeners {
    const struct config *config; /* borrowed */
    unsigned workers;
    unsigned count;                   /* of listeners */
    int *sockets;                     /* owned, [listener * workers + slot]; -1: not open */
    struct master_socket_file *files; /* owned, [count]: of the Unix sockets */
};

/* Opens all or none. Logs each listener that cannot be opened: its name, address, why, and what to do. */
/* The files of Unix sockets are made for the user `uid`, group `gid`. */
enum status master_listeners_open(
    const struct config *config, uid_t uid, gid_t gid, struct master_listeners *ret_listeners) CHECK_RESULT;
/* Removes those files, too. */
void master_listeners_close(struct master_listeners *listeners);

int master_listeners_socket(const struct master_listeners *listeners, unsigned listener, unsigned slot);

#define MASTER_ADDRESS_SIZE 128
/* "127.0.0.1:1883", "[::]:8883", "/run/shoal.sock": what the socket is really bound to. */
void master_listeners_address(
    const struct master_listeners *listeners, unsigned listener, char text[MASTER_ADDRESS_SIZE]);

#endif
