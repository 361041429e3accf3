/*
 * nanomsg's tcp for the link: one PULL inbox bound to this node's address, a PUSH to that of each other node.
 * Brings messages of anybody who connects; what they mean is the wire's business. Runs on the link's libevent
 * loop.
 */
#ifndef NODE_LINK_SOCKETS_H
#define NODE_LINK_SOCKETS_H

#include "shared/bytes.h"
#include "shared/config.h"
#include "shared/status.h"

#include <event2/event.h>

struct link_sockets;

struct link_sockets_settings {
    struct event_base *base;              /* borrowed */
    const struct config_cluster *cluster; /* borrowed */
    void *context;
    void (*receive)(void *context, struct bytes message);
    void (*writable)(void *context, unsigned node);
    void (*broken)(void *context, unsigned node); /* a connection to its inbox ended */
};

/* STATUS_SYSTEM: link_sockets_error() says why. */
enum status link_sockets_open(
    const struct link_sockets_settings *settings, struct link_sockets **ret_sockets) CHECK_RESULT;
void link_sockets_close(struct link_sockets **sockets);
const char *link_sockets_error(void);

/* STATUS_AGAIN: `writable` will be called. */
enum status link_sockets_send(struct link_sockets *sockets, unsigned node, struct bytes message);
/* Looks for connections that broke; every 20 ms or so. */
void link_sockets_tick(struct link_sockets *sockets);

#endif
