/* What the files of worker_listen.h share: one listener, and one of its sockets. Nobody else includes it. */
#ifndef NODE_WORKER_LISTEN_PRIVATE_H
#define NODE_WORKER_LISTEN_PRIVATE_H

#include "node/worker_context.h"
#include "node/worker_listen.h"

#include "shared/token_bucket.h"
#include "shared/transport_websocket.h"

struct listening { /* one socket, own or adopted */
    struct list siblings;
    struct worker_listener *listener;
    struct event *event;
    int fd;        /* borrowed from the child module */
    unsigned slot; /* whose it is */
};

struct worker_listener {
    struct worker *worker;
    const struct config_listener *config;
    uint8_t place;              /* of its sockets and its count of connections */
    struct config *config_held; /* shared, of a retired one: the last configuration that it was in */
    struct list retired;        /* on worker->retired_listeners, or on none */
    SSL_CTX *context;           /* owned; NULL: plain */
    uint32_t open;              /* connections of it here */
    struct websocket_settings websocket;
    struct list sockets;
    uint64_t *connections;       /* this worker's, in its counter page */
    struct token_bucket accepts; /* max_conn_rate */
    bool rate_paused;            /* no token is left: no socket is watched */
};

void worker_listener_free(struct worker_listener **listener);
/* Accepts from the slot's sockets for whose place there is a listener and that are not watched yet. */
void worker_listen_accept_from(struct worker *worker, const struct child_slot *slot);
/* Accepts who waits in its sockets already (no more than a backlog), then lets go of them. */
void worker_listen_leave(struct worker_listener *listener);

#endif
