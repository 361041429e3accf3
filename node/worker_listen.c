/*
 * Accepting clients: from the worker's own sockets and, while a sibling is backed off, from its. Worker
 * process. Never blocks; a flood of connections is taken in portions per turn.
 */
#include "node/worker_listen.h"
#include "node/connection.h"
#include "node/tls_material.h"
#include "node/worker_context.h"
#include "node/worker_listen_private.h"

#include "shared/log.h"
#include "shared/tls_peer.h"
#include "shared/token_bucket.h"
#include "shared/transport_websocket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_PORTION 64 /* connections per listener and turn */
/* The same of a Unix socket, from which all workers accept: so that the others get theirs. */
#define ACCEPT_PORTION_SHARED 1

const struct config_listener *worker_listener_config(const struct worker_listener *listener)
{
    return listener->config;
}

SSL_CTX *worker_listener_tls(const struct worker_listener *listener)
{
    return listener->context;
}

enum status worker_listener_transport(struct worker_listener *listener, int fd, struct transport *transport)
{
    struct worker *worker = listener->worker;
    enum status status = STATUS_OK;
    if (listener->context == NULL)
        transport_init_plain(transport, fd);
    else
        status = transport_init_tls(transport, fd, listener->context, worker->transport_scratch);
    if (status != STATUS_OK) {
        close(fd);
        return status;
    }
    if (config_listener_has_websocket(listener->config))
        status = transport_add_websocket(transport, &listener->websocket, worker->websocket_frames);
    if (status != STATUS_OK)
        transport_done(transport);
    return status;
}

void worker_listener_left(struct worker_listener *listener)
{
    --*listener->connections;
    if (--listener->open == 0 && listener->config_held != NULL)
        worker_listener_free(&listener);
}

/* Socket options
 * ---------------------------------------------------------------------------------------------- */

static void set_option(int fd, int level, int option, int value)
{
    (void)setsockopt(
        fd, level, option, &value, sizeof value); /* a wish: without it the connection works, too */
}

/* Dead peers are found by keep-alive probes when idle and by the user time-out while data is unacknowledged.
 */
static void set_options(int fd, const struct config_listener *config)
{
    if (config->sndbuf > 0)
        set_option(fd, SOL_SOCKET, SO_SNDBUF, (int)config->sndbuf);
    if (config->recbuf > 0)
        set_option(fd, SOL_SOCKET, SO_RCVBUF, (int)config->recbuf);
    if (config->type == CONFIG_LISTENER_UNIX)
        return;
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, config->nodelay);
    if (config->tcp_keepalive_s > 0) {
        set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)config->tcp_keepalive_s);
        set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
        set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
    }
    if (config->tcp_user_timeout_ms > 0)
        set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)config->tcp_user_timeout_ms);
}

/* Accepting
 * --------------------------------------------------------------------------------------------------- */

/* Who is at the other end, as far as is known now; a proxy's header will say more. */
static void find_peer(const struct worker_listener *listener, int fd, const struct sockaddr *address,
    struct peer_address *ret_peer)
{
    struct ucred credentials;
    socklen_t size = sizeof credentials;
    if (listener->config->type != CONFIG_LISTENER_UNIX)
        peer_address_set(ret_peer, address);
    else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0)
        peer_address_set_local(ret_peer, credentials.pid, credentials.uid);
    else
        *ret_peer = (struct peer_address){.family = AF_UNSPEC};
}

/* Of a Unix socket the file's mode has decided; behind a proxy, the announced address will. */
static bool may_come_in(const struct config_listener *config, const struct sockaddr *address)
{
    return config->type == CONFIG_LISTENER_UNIX || config->proxy_protocol ||
           config_access_allows(&config->access, address);
}

static void accept_one(struct worker_listener *listener, int fd, const struct sockaddr_storage *address)
{
    struct worker *worker = listener->worker;
    struct counters *counters = worker->counters;
    struct peer_address peer;
    char text[PEER_TEXT_SIZE];
    find_peer(listener, fd, (const struct sockaddr *)address, &peer);
    counters->connections_accepted++;
    if (!may_come_in(listener->config, (const struct sockaddr *)address)) {
        counters->connections_refused++;
        log_info("%s: refused by the access rules of listener %s", peer_address_text(&peer, text),
            listener->config->key);
        close(fd);
        return;
    }
    uint64_t open =
        counters_listener_sum(worker->child->counters_base, worker->child->counters_pages, listener->place);
    if (open >= listener->config->max_connections) {
        counters->connections_refused++;
        counters->connections_limit++;
        log_warning("%s: refused: listener %s has max_connections %u", peer_address_text(&peer, text),
            listener->config->key, (unsigned)listener->config->max_connections);
        close(fd);
        return;
    }
    set_options(fd, listener->config);
    if (connection_new(worker, listener, fd, &peer) == NULL) {
        counters->connections_refused++;
        log_error("%s: refused: out of memory", peer_address_text(&peer, text));
        return;
    }
    ++*listener->connections;
    listener->open++;
}

/* No descriptors: who waits longest is told so by a closed connection. False: not even that is possible, so
 * that the socket would be ready for ever: accept again at the next tick. */
static bool refuse_for_shortage(struct listening *listening, int error)
{
    struct worker *worker = listening->listener->worker;
    uint32_t refused;
    bool descriptors = error == EMFILE || error == ENFILE;
    bool done = descriptors && descriptor_reserve_refuse(&worker->reserve, listening->fd);
    if (done) {
        worker->counters->connections_accepted++;
        worker->counters->connections_refused++;
        worker->counters->connections_no_descriptor++;
    }
    if (descriptor_reserve_tell(&worker->reserve, worker->now_us, &refused))
        log_error(
            "listener %s: no connection can be accepted: %s (%u refused since this was last said); raise the "
            "limit of open files (ulimit -n)",
            listening->listener->config->key, strerror(error), refused);
    return done;
}

/* True: there may be more to accept. */
static bool accept_failed(struct listening *listening, int error)
{
    if (error != EMFILE && error != ENFILE && error != ENOBUFS && error != ENOMEM)
        return false; /* the client has gone meanwhile, or nobody is waiting */
    if (refuse_for_shortage(listening, error))
        return true;
    event_del(listening->event);
    listening->listener->worker->accept_paused = true;
    return false;
}

/* This worker's part of the listener's rate. */
static double accept_rate(const struct worker_listener *listener)
{
    return (double)listener->config->max_conn_rate / listener->worker->child->workers;
}

static bool has_accept_token(struct worker_listener *listener)
{
    token_bucket_refill(&listener->accepts, accept_rate(listener), listener->worker->now_us);
    return listener->accepts.tokens >= 1;
}

/* False: accepts nobody until there is a token again; clients wait in the backlog. */
static bool may_accept(struct worker_listener *listener)
{
    if (listener->config->max_conn_rate == 0 || has_accept_token(listener))
        return true;
    listener->rate_paused = true;
    listener->worker->counters->accept_pauses++;
    list_for_each(&listener->sockets, element, following)
    {
        event_del(list_entry(element, struct listening, siblings)->event);
    }
    return false;
}

static void on_acceptable(evutil_socket_t fd, short events, void *argument)
{
    (void)events;
    struct listening *listening = argument;
    struct worker *worker = listening->listener->worker;
    bool shared = listening->listener->config->type == CONFIG_LISTENER_UNIX;
    int portion = shared ? ACCEPT_PORTION_SHARED : ACCEPT_PORTION;
    worker_wake(worker);
    for (int i = 0; i < portion && may_accept(listening->listener); i++) {
        struct sockaddr_storage address;
        socklen_t size = sizeof address;
        int client = accept4(fd, (struct sockaddr *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client < 0 && !accept_failed(listening, errno))
            break;
        listening->listener->accepts.tokens--;
        if (client < 0)
            continue;
        accept_one(listening->listener, client, &address);
    }
    worker_spend(worker, 0);
}

void worker_listen_resume(struct worker *worker)
{
    for (size_t i = 0; worker->listeners[i] != NULL; i++) {
        struct worker_listener *listener = worker->listeners[i];
        if (!worker->accept_paused && !listener->rate_paused)
            continue;
        listener->rate_paused = listener->rate_paused && !has_accept_token(listener);
        if (listener->rate_paused)
            continue;
        list_for_each(&listener->sockets, element, following)
        {
            event_add(list_entry(element, struct listening, siblings)->event, NULL);
        }
    }
    worker->accept_paused = false;
}

/* Sockets
 * ----------------------------------------------------------------------------------------------------- */

static struct worker_listener *listener_at(const struct worker *worker, uint8_t place)
{
    for (size_t i = 0; worker->listeners[i] != NULL; i++)
        if (worker->listeners[i]->place == place)
            return worker->listeners[i];
    return NULL;
}

static bool is_watched(const struct worker_listener *listener, int fd)
{
    list_for_each(&((struct worker_listener *)(uintptr_t)listener)->sockets, element, following)
    {
        if (list_entry(element, struct listening, siblings)->fd == fd)
            return true;
    }
    return false;
}

static void watch(struct worker_listener *listener, int fd, unsigned slot)
{
    struct listening *listening = calloc(1, sizeof *listening);
    if (listening != NULL)
        listening->event =
            event_new(listener->worker->base, fd, EV_READ | EV_PERSIST, on_acceptable, listening);
    if (listening == NULL || listening->event == NULL) {
        log_error("listener %s: out of memory, not served by this worker", listener->config->key);
        free(listening);
        return;
    }
    listening->listener = listener;
    listening->fd = fd;
    listening->slot = slot;
    list_append(&listener->sockets, &listening->siblings);
    event_add(listening->event, NULL);
}

void worker_listen_accept_from(struct worker *worker, const struct child_slot *slot)
{
    for (unsigned i = 0; i < slot->socket_count; i++) {
        struct worker_listener *listener = listener_at(worker, slot->sockets[i].place);
        if (listener == NULL) /* of another generation than ours */
            continue;
        if (listener->config->type == CONFIG_LISTENER_UNIX && slot != &worker->child->own)
            continue; /* all slots have the same one */
        if (!is_watched(listener, slot->sockets[i].fd))
            watch(listener, slot->sockets[i].fd, slot->slot);
    }
}

static void forget(struct listening *listening)
{
    event_free(listening->event);
    list_remove(&listening->siblings);
    free(listening);
}

/* Lets go of the sockets of one slot, or of all. */
static void let_go(struct worker *worker, bool all, unsigned slot)
{
    for (size_t i = 0; worker->listeners != NULL && worker->listeners[i] != NULL; i++) {
        list_for_each(&worker->listeners[i]->sockets, element, following)
        {
            struct listening *listening = list_entry(element, struct listening, siblings);
            if (all || listening->slot == slot)
                forget(listening);
        }
    }
}

void worker_listen_leave(struct worker_listener *listener)
{
    list_for_each(&listener->sockets, element, following)
    {
        struct listening *listening = list_entry(element, struct listening, siblings);
        struct sockaddr_storage address;
        for (uint32_t i = 0; i < listener->config->backlog; i++) {
            socklen_t size = sizeof address;
            int client =
                accept4(listening->fd, (struct sockaddr *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (client < 0)
                break;
            accept_one(listener, client, &address);
        }
        forget(listening);
    }
}

void worker_listen_start(struct worker *worker)
{
    worker_listen_accept_from(worker, &worker->child->own);
}

void worker_listen_stop(struct worker *worker)
{
    let_go(worker, true, 0);
}

void worker_listen_adopt(struct worker *worker, const struct child_slot *adopted)
{
    worker->adopted[adopted->slot] = adopted;
    worker_listen_accept_from(worker, adopted);
}

void worker_listen_sockets(void *context, const struct child_slot *slot)
{
    struct worker *worker = context;
    bool served = slot == &worker->child->own || worker->adopted[slot->slot] != NULL;
    if (worker->ready && served && !worker->stopping)
        worker_listen_accept_from(worker, slot);
}

void worker_listen_unadopt(struct worker *worker, const struct child_slot *adopted)
{
    worker->adopted[adopted->slot] = NULL;
    let_go(worker, false, adopted->slot);
}

/* Who a client is by its certificate
 * --------------------------------------------------------------------------- */

static enum tls_identity identity_kind(enum config_peer_cert what)
{
    static const enum tls_identity kinds[] = {
        [CONFIG_PEER_CERT_NONE] = TLS_IDENTITY_NONE,
        [CONFIG_PEER_CERT_CN] = TLS_IDENTITY_CN,
        [CONFIG_PEER_CERT_DN] = TLS_IDENTITY_DN,
        [CONFIG_PEER_CERT_CRT] = TLS_IDENTITY_CRT,
    };
    return kinds[what];
}

/* One name; *ret_name stays NULL if it is not asked for. False: asked for, and the certificate cannot give
 * it. */
static bool name_of(const X509 *certificate, enum config_peer_cert what, char **ret_name)
{
    char text[TLS_IDENTITY_SIZE];
    if (what == CONFIG_PEER_CERT_NONE)
        return true;
    if (tls_peer_identity(certificate, identity_kind(what), text, sizeof text) != STATUS_OK)
        return false;
    *ret_name = strdup(text);
    return *ret_name != NULL;
}

bool worker_listener_identify(struct connection *connection)
{
    const struct config_tls *tls = &connection->listener->config->tls;
    if (tls->peer_cert_as_username == CONFIG_PEER_CERT_NONE &&
        tls->peer_cert_as_clientid == CONFIG_PEER_CERT_NONE)
        return true;
    X509 *certificate = transport_peer_certificate(&connection->transport);
    if (certificate == NULL)
        return true; /* without one it is an ordinary client, if the listener lets it in */
    struct connection_identity *identity = calloc(1, sizeof *identity);
    bool good = identity != NULL && name_of(certificate, tls->peer_cert_as_username, &identity->user_name) &&
                name_of(certificate, tls->peer_cert_as_clientid, &identity->client_id);
    X509_free(certificate);
    connection->identity = identity;
    if (!good)
        log_warning(
            "%s: refused on listener %s: its certificate has no usable name for peer_cert_as_username or "
            "peer_cert_as_clientid",
            connection_peer(connection), connection->listener->config->key);
    return good;
}
