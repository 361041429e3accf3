/*
 * The listening sockets: one per listener and worker slot, all SO_REUSEPORT, open for the node's whole life,
 * so that no worker's death refuses a connection. Master only; never accepts.
 */
#ifndef NODE_MASTER_LISTENERS_H
#define NODE_MASTER_LISTENERS_H

#include "shared/config.h"
#include "shared/status.h"

struct master_listeners {
    unsigned workers;
    unsigned count; /* of listeners */
    int *sockets;   /* owned, [listener * workers + slot]; -1: not open */
};

/* Opens all or none. Logs each listener that cannot be opened: its name, address, why, and what to do. */
enum status master_listeners_open(
    const struct config *config, struct master_listeners *ret_listeners) CHECK_RESULT;
void master_listeners_close(struct master_listeners *listeners);

int master_listeners_socket(const struct master_listeners *listeners, unsigned listener, unsigned slot);

#define MASTER_ADDRESS_SIZE 64
/* "127.0.0.1:1883", "[::]:8883": what the socket is really bound to. */
void master_listeners_address(
    const struct master_listeners *listeners, unsigned listener, char text[MASTER_ADDRESS_SIZE]);

#endif
