/*
 * The listening sockets: one per listener and worker slot, all SO_REUSEPORT, open for the node's whole life,
 * so that no worker's death refuses a connection. A Unix socket, for which the kernel does not do that, is
 * one for all slots. Master only; never accepts.
 */
#ifndef NODE_MASTER_LISTENERS_H
#define NODE_MASTER_LISTENERS_H

#include "shared/config.h"
#include "shared/status.h"

#include <stdint.h>
#include <sys/types.h>

struct master_listener;

struct master_listeners {
    const struct config *config; /* borrowed */
    unsigned workers;
    unsigned count; /* of listeners */
    struct master_listener *
        *shared; /* owned, [count]: as in the configuration; those of a former set are shared */
};

/* What a failed open is told to: an error of the configuration, or a log line (NULL). */
struct config_errors;

/*
 * Opens all or none. `running` (NULL: none) has the sockets that are there: a listener on the same address
 * gets them, whatever its name. `busy`: bits of places (counters.h) that somebody still counts connections
 * in. Each listener that cannot be opened is told, with its name, address, why, and what to do. The files of
 * Unix sockets are made for the user `uid`, group `gid`.
 */
enum status master_listeners_open(const struct config *config, uid_t uid, gid_t gid,
    const struct master_listeners *running, uint64_t busy, struct config_errors *errors,
    struct master_listeners *ret_listeners) CHECK_RESULT;
/* Closes what no other set shares; removes the files of Unix sockets, too. */
void master_listeners_close(struct master_listeners *listeners);
/* This set is in use now: backlogs and modes as its configuration has them. */
void master_listeners_apply(const struct master_listeners *listeners);

/* The place of each listener in counters and messages: stays with its sockets. */
#define MASTER_NO_PLACE 255
void master_listeners_places(const struct master_listeners *listeners, uint8_t places[CONFIG_LISTENERS_MAX]);
int master_listeners_socket(const struct master_listeners *listeners, unsigned listener, unsigned slot);

#define MASTER_ADDRESS_SIZE 128
/* "127.0.0.1:1883", "[::]:8883", "/run/shoal.sock": what the socket is really bound to. */
void master_listeners_address(
    const struct master_listeners *listeners, unsigned listener, char text[MASTER_ADDRESS_SIZE]);

#endif
