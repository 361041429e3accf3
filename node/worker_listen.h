/*
 * The listening sockets of a worker, its own and those of a backed-off sibling: accepting, access rules,
 * socket options, TLS contexts, and who a client is by its certificate. Worker process.
 */
#ifndef NODE_WORKER_LISTEN_H
#define NODE_WORKER_LISTEN_H

#include "node/child.h"
#include "shared/bytes.h"
#include "shared/config.h"
#include "shared/status.h"

#include <openssl/types.h>

struct connection;
struct transport;
struct tls_revoked;
struct tls_tickets;
struct worker;
struct worker_listener;

/* Makes the TLS contexts out of the key material. STATUS_INVALID: logged. */
enum status worker_listen_open(struct worker *worker) CHECK_RESULT;
/*
 * A new context for the listener at `index` of `config`, made out of `secrets` and proven by a handshake in
 * memory; *ret_context is NULL for a plain one. STATUS_INVALID: `error` (TLS_ERROR_SIZE bytes) says why.
 */
enum status worker_listen_prepare(const struct config *config, size_t index, struct bytes secrets,
    struct tls_tickets *tickets, struct tls_revoked *revoked, SSL_CTX **ret_context,
    char *error) CHECK_RESULT;
/* What worker_listen_switch() must not fail to get, made before. */
struct worker_listeners_next;
enum status worker_listen_make_next(struct worker *worker, const struct config *config, const uint8_t *places,
    struct worker_listeners_next **ret_next) CHECK_RESULT;
void worker_listen_drop_next(struct worker_listeners_next **next);
/*
 * New connections get these contexts (one per listener of `config`, taken); those that are there keep theirs.
 * A listener that is gone accepts who waits already, then nobody; its connections stay. Takes `next`.
 */
void worker_listen_switch(struct worker *worker, const struct config *config, SSL_CTX **contexts,
    struct worker_listeners_next **next);
/* child_handlers.sockets. */
void worker_listen_sockets(void *context, const struct child_slot *slot);
/* Begins to accept from the own sockets. */
void worker_listen_start(struct worker *worker);
/* Accepts no more, own and adopted. */
void worker_listen_stop(struct worker *worker);
void worker_listen_adopt(struct worker *worker, const struct child_slot *adopted);
void worker_listen_unadopt(struct worker *worker, const struct child_slot *adopted);
/* Every tick: accepts again after a pause for want of descriptors, or of tokens of max_conn_rate. */
void worker_listen_resume(struct worker *worker);
/* After the last connection. */
void worker_listen_done(struct worker *worker);

const struct config_listener *worker_listener_config(const struct worker_listener *listener);
SSL_CTX *worker_listener_tls(const struct worker_listener *listener); /* NULL: plain */
/* Makes the layers (TLS, WebSocket) of a connection that was accepted. Takes the socket; closes it on
 * failure. */
enum status worker_listener_transport(
    struct worker_listener *listener, int fd, struct transport *transport) CHECK_RESULT;
/* A connection of this listener has ended. */
void worker_listener_left(struct worker_listener *listener);
/* Takes user name and client identifier from the client's certificate as the listener asks. False: it cannot,
   and the log says why. */
bool worker_listener_identify(struct connection *connection);

#endif
