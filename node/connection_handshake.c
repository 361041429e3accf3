/*
 * What comes before MQTT: the PROXY header, then TLS, WebSocket or both; their failures and time-outs in
 * words for the operator. Worker process.
 */
#include "node/connection_private.h"
#include "node/worker_context.h"
#include "node/worker_listen.h"
#include "node/worker_proxy.h"

#include "shared/log.h"

void connection_announced(struct connection *connection)
{
    enum status status = worker_proxy_receive(connection);
    if (status == STATUS_OK) {
        connection_enter(connection, connection_state_of_transport(connection));
        connection_watch(connection);
    } else if (status != STATUS_AGAIN) {
        connection_drop(connection);
    }
}

static void handshake_failed(struct connection *connection, const struct tls_failure *failure)
{
    struct counters *counters = connection->worker->counters;
    const struct config_listener *listener = worker_listener_config(connection->listener);
    bool tls = config_listener_has_tls(listener) && failure->cause != TLS_FAILURE_UPGRADE;
    char text[512];
    tls_failure_line(failure, text, sizeof text);
    log_warning("%s: %s handshake on listener %s failed: %s", connection_peer(connection),
        tls ? "TLS" : "WebSocket", listener->key, text);
    if (tls)
        counters->handshakes_failed++;
    else
        counters->upgrades_refused++;
    connection_let_go(connection, false);
    connection_drain(connection);
}

static void count_handshake(const struct connection *connection)
{
    struct counters *counters = connection->worker->counters;
    const struct config_listener *listener = worker_listener_config(connection->listener);
    counters->handshakes += config_listener_has_tls(listener);
    counters->handshakes_resumed += transport_resumed(&connection->transport);
    counters->upgrades += config_listener_has_websocket(listener);
}

void connection_shake_hands(struct connection *connection)
{
    struct tls_failure failure;
    enum status status = transport_handshake(&connection->transport, &failure);
    if (status == STATUS_AGAIN) {
        connection_watch(connection);
        return;
    }
    if (status != STATUS_OK) {
        handshake_failed(connection, &failure);
        return;
    }
    count_handshake(connection);
    if (!worker_listener_identify(connection)) {
        connection->worker->counters->handshakes_failed++;
        connection_let_go(connection, false);
        connection_drain(connection);
        return;
    }
    transport_settle(&connection->transport);
    connection_enter(connection, CONNECTION_WAITING);
    if (connection->hold == 0)
        connection_read(connection);
    else
        connection_watch(connection);
}

void connection_handshake_timed_out(struct connection *connection)
{
    struct counters *counters = connection->worker->counters;
    const struct config_listener *listener = worker_listener_config(connection->listener);
    bool tls = config_listener_has_tls(listener), websocket = config_listener_has_websocket(listener);
    bool proxy = connection->state == CONNECTION_PROXY;
    log_info("%s: no %s within %s of listener %s", connection_peer(connection),
        proxy              ? "PROXY header"
        : tls && websocket ? "TLS handshake and WebSocket request"
        : tls              ? "TLS handshake"
                           : "WebSocket request",
        tls ? "handshake_timeout" : "connect_timeout", listener->key);
    counters->connections_timeout++;
    counters->proxy_refused += proxy;
    counters->handshakes_failed += !proxy && tls;
    counters->upgrades_refused += !proxy && !tls;
    connection_drop(connection);
}
