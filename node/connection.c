/*
 * The life of a client connection on the event loop: its states, events, time-outs, flush and end; what
 * happens in the states is in the connection_… files. Worker process. Never blocks; never frees a connection
 * inside a callback (closed ones wait for the end of the turn, since events may still name them).
 */
#include "node/connection.h"
#include "node/connection_private.h"
#include "node/connection_rate.h"
#include "node/enhanced_auth.h"
#include "node/worker_context.h"
#include "node/worker_listen.h"

#include "shared/log.h"
#include "shared/mqtt_encode.h"
#include "shared/mqtt_properties.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void on_socket_event(evutil_socket_t fd, short events, void *argument);
static void on_timeout(struct timer_wheel *wheel, struct timer *timer);

static const struct {
    const char *text;
    uint16_t next; /* bits: allowed states after this one */
} states[] = {
#define TO(state) (1u << (state))
    [CONNECTION_PROXY] = {"waiting for its PROXY header",
        TO(CONNECTION_HANDSHAKE) | TO(CONNECTION_WAITING) | TO(CONNECTION_DRAINING) | TO(CONNECTION_CLOSED)},
    [CONNECTION_HANDSHAKE] = {"handshake",
        TO(CONNECTION_WAITING) | TO(CONNECTION_DRAINING) | TO(CONNECTION_CLOSED)},
    [CONNECTION_WAITING] = {"waiting for CONNECT",
        TO(CONNECTION_AUTHORIZING) | TO(CONNECTION_DRAINING) | TO(CONNECTION_CLOSED)},
    [CONNECTION_AUTHORIZING] = {"finding out who it is", TO(CONNECTION_AUTHENTICATING) |
                                                             TO(CONNECTION_CLAIMING) |
                                                             TO(CONNECTION_DRAINING) | TO(CONNECTION_CLOSED)},
    [CONNECTION_AUTHENTICATING] = {"authenticating",
        TO(CONNECTION_CLAIMING) | TO(CONNECTION_DRAINING) | TO(CONNECTION_CLOSED)},
    [CONNECTION_CLAIMING] = {"claiming its session",
        TO(CONNECTION_ACTIVE) | TO(CONNECTION_DRAINING) | TO(CONNECTION_CLOSED)},
    [CONNECTION_ACTIVE] = {"active", TO(CONNECTION_DRAINING) | TO(CONNECTION_CLOSED)},
    [CONNECTION_DRAINING] = {"draining", TO(CONNECTION_CLOSED)},
    [CONNECTION_CLOSED] = {"closed", 0},
#undef TO
};

const char *connection_state_text(enum connection_state state)
{
    return states[state].text;
}

/* The time-out of a state, ms from now; 0: none, or set by somebody who knows more. */
static uint64_t state_timeout_ms(const struct connection *connection, enum connection_state state)
{
    const struct config_listener *listener = worker_listener_config(connection->listener);
    switch (state) {
    case CONNECTION_PROXY:
    case CONNECTION_HANDSHAKE:
        return config_listener_has_tls(listener) ? listener->tls.handshake_timeout_ms
                                                 : listener->connect_timeout_ms;
    case CONNECTION_WAITING:
    case CONNECTION_AUTHORIZING:
    case CONNECTION_AUTHENTICATING:
        return listener->connect_timeout_ms;
    case CONNECTION_DRAINING:
        return TRANSPORT_LINGER_MS;
    case CONNECTION_ACTIVE:
        return (uint64_t)(connection->keep_alive_s * 1000.0 *
                          connection->worker->config->mqtt.keepalive_multiplier);
    case CONNECTION_CLAIMING:
    case CONNECTION_CLOSED:
        break;
    }
    return 0;
}

void connection_enter(struct connection *connection, enum connection_state state)
{
    struct worker *worker = connection->worker;
    assert(states[connection->state].next & (1u << state));
    log_debug(
        "%s: %s -> %s", connection_peer(connection), states[connection->state].text, states[state].text);
    connection->state = (uint8_t)state;
    timer_wheel_cancel(&worker->wheel, &connection->timer);
    uint64_t timeout_ms = state_timeout_ms(connection, state);
    if (timeout_ms > 0)
        timer_wheel_add(&worker->wheel, &connection->timer, worker->now_us + timeout_ms * 1000);
    if (state == CONNECTION_CLOSED) {
        list_remove(&connection->lists);
        list_remove(&connection->dirty);
        list_append(&worker->closed, &connection->lists);
    }
}

void connection_watch(struct connection *connection)
{
    bool ended = connection->state == CONNECTION_CLOSED;
    bool reading = !ended && (connection->hold == 0 || connection->state == CONNECTION_DRAINING ||
                                 connection->state <= CONNECTION_HANDSHAKE);
    /* What waits for the end of the turn needs no event: most of it goes out in one write then. */
    bool writing = !ended && list_empty(&connection->dirty) &&
                   (connection->output.waiting > 0 || transport_wants_write(&connection->transport));
    bool listening = connection->state == CONNECTION_AUTHORIZING && !connection->half_closed;
    if (reading == connection->reading && writing == connection->writing &&
        listening == connection->listening)
        return;
    if (connection->reading || connection->writing || connection->listening)
        event_del(&connection->event);
    connection->reading = reading;
    connection->writing = writing;
    connection->listening = listening;
    if (!reading && !writing && !listening)
        return;
    short what = (short)((reading ? EV_READ : 0) | (writing ? EV_WRITE : 0) | (listening ? EV_CLOSED : 0) |
                         EV_PERSIST);
    event_assign(&connection->event, connection->worker->base, connection->transport.fd, what,
        on_socket_event, connection);
    event_add(&connection->event, NULL);
}

enum connection_state connection_state_of_transport(const struct connection *connection)
{
    return transport_has_handshake(&connection->transport) ? CONNECTION_HANDSHAKE : CONNECTION_WAITING;
}

struct connection *connection_new(
    struct worker *worker, struct worker_listener *listener, int fd, const struct peer_address *peer)
{
    bool limited = connection_rate_wanted(worker_listener_config(listener));
    struct connection *connection =
        calloc(1, sizeof *connection + (limited ? sizeof(struct connection_rate) : 0));
    if (connection == NULL) {
        close(fd);
        return NULL;
    }
    if (worker_listener_transport(listener, fd, &connection->transport) != STATUS_OK) {
        free(connection);
        return NULL;
    }
    connection->worker = worker;
    connection->listener = listener;
    connection->config = config_share(worker->config);
    list_init(&connection->lists);
    list_init(&connection->dirty);
    list_init(&connection->held);
    connection->address = *peer;
    timer_init(&connection->timer, on_timeout);
    if (limited)
        connection_rate_open(connection);
    bool proxy = worker_listener_config(listener)->proxy_protocol;
    connection->state = (uint8_t)(proxy ? CONNECTION_PROXY : connection_state_of_transport(connection));
    uint64_t timeout_ms = state_timeout_ms(connection, connection->state);
    timer_wheel_add(&worker->wheel, &connection->timer, worker->now_us + timeout_ms * 1000);
    list_append(&worker->connections, &connection->lists);
    worker->connection_count++;
    worker->counters->connections++;
    connection->hold = worker->held ? HOLD_ROUTES : 0;
    connection_watch(connection);
    return connection;
}

const char *connection_peer(const struct connection *connection)
{
    static char text[PEER_TEXT_SIZE]; /* one thread, one line at a time */
    return peer_address_text(&connection->address, text);
}

static bool has_name(const struct connection *connection)
{
    return connection->state == CONNECTION_ACTIVE && connection->session != NULL;
}

const char *connection_client(const struct connection *connection)
{
    return has_name(connection) ? connection->session->client_id : "-";
}

int connection_client_size(const struct connection *connection)
{
    return has_name(connection) ? (int)connection->session->client_id_size : 1;
}

void connection_identity_free(struct connection_identity **identity)
{
    if (*identity == NULL)
        return;
    free((*identity)->user_name);
    free((*identity)->client_id);
    free(*identity);
    *identity = NULL;
}

/* The end
 * ----------------------------------------------------------------------------------------------------- */

void connection_let_go(struct connection *connection, bool with_will)
{
    if (connection->state < CONNECTION_ACTIVE)
        connection->worker->counters->connections_refused++;
    connect_abandon(connection);
    enhanced_auth_end(connection);
    connection_rate_close(connection);
    subscribe_abandon(connection);
    acceptance_forget(connection->worker->acceptance, connection);
    publish_abandon(connection);
    struct session *session = connection->session;
    connection->session = NULL;
    if (session != NULL)
        session_disconnected(session, with_will);
    list_remove(&connection->held);
    connection_identity_free(&connection->identity);
    free(connection->input);
    connection->input = NULL;
    connection->input_size = connection->input_capacity = 0;
}

static void finish(struct connection *connection)
{
    if (connection->state == CONNECTION_CLOSED)
        return;
    connection_enter(connection, CONNECTION_CLOSED);
    connection_watch(connection);
}

void connection_drain(struct connection *connection)
{
    if (connection->state != CONNECTION_DRAINING)
        connection_enter(connection, CONNECTION_DRAINING);
    list_remove(
        &connection->dirty); /* the end of the turn writes nothing for it: we do, when it is writable */
    enum status status = STATUS_OK;
    if (connection->output.waiting > 0)
        status = output_write(connection);
    if (connection->output.waiting == 0 && (status == STATUS_OK || status == STATUS_AGAIN))
        status = transport_shutdown(&connection->transport);
    /* What the client still says is thrown away meanwhile: unread, it would wake us all the time. */
    if (status == STATUS_OK || status == STATUS_AGAIN) {
        enum status drained = transport_drain(&connection->transport);
        status = drained == STATUS_CLOSED ? STATUS_CLOSED : STATUS_AGAIN;
    }
    if (status == STATUS_AGAIN)
        connection_watch(connection);
    else
        finish(connection);
}

/* A node that stops may say where to go instead [MQTT 4.11]. */
static enum mqtt_reason server_reference(
    const struct connection *connection, enum mqtt_reason reason, struct mqtt_properties *properties)
{
    const char *reference = connection->worker->config->mqtt.server_reference;
    mqtt_properties_init(properties);
    if (reason != MQTT_SERVER_SHUTTING_DOWN || reference == NULL)
        return reason;
    properties->present = PROPERTY_BIT(PROPERTY_SERVER_REFERENCE);
    properties->server_reference = bytes_of_text(reference);
    return MQTT_USE_ANOTHER_SERVER;
}

static void put_disconnect(struct connection *connection, enum mqtt_reason reason)
{
    struct mqtt_properties properties;
    reason = server_reference(connection, reason, &properties);
    size_t room = 16 + mqtt_properties_size(&properties);
    uint8_t *to = room > connection->maximum_packet_size ? NULL : connection_reserve(connection, room);
    if (to == NULL)
        return;
    size_t size = mqtt_encode_disconnect(to, MQTT_DISCONNECT, reason, &properties);
    connection_unreserve(connection, room - size);
    connection->worker->counters->packets_sent++;
}

void connection_close(struct connection *connection, enum mqtt_reason reason, const char *text)
{
    if (connection->state >= CONNECTION_DRAINING)
        return;
    bool active = connection->state == CONNECTION_ACTIVE;
    log_info("%s (client %.*s): closed by us: %s (0x%02x %s)", connection_peer(connection),
        connection_client_size(connection), connection_client(connection), text, (unsigned)reason,
        mqtt_reason_text((uint8_t)reason));
    if (active && connection->version == MQTT_5_0)
        put_disconnect(connection, reason);
    connection_let_go(connection, true);
    worker_publish(connection->worker); /* what is acknowledged in this output must lie in the windows */
    connection_drain(connection);
}

void connection_goodbye(struct connection *connection, bool with_will)
{
    if (connection->state >= CONNECTION_DRAINING)
        return;
    connection_let_go(connection, with_will);
    worker_publish(connection->worker);
    connection_drain(connection);
}

void connection_drop(struct connection *connection)
{
    if (connection->state == CONNECTION_CLOSED)
        return;
    if (connection->state != CONNECTION_DRAINING)
        connection_let_go(connection, true);
    finish(connection);
}

static void connection_free(struct connection *connection)
{
    struct worker *worker = connection->worker;
    list_remove(&connection->lists);
    timer_wheel_cancel(&worker->wheel, &connection->timer);
    output_clear(worker, &connection->output);
    transport_done(&connection->transport);
    worker_listener_left(connection->listener);
    worker->connection_count--;
    worker->counters->connections--;
    config_free(&connection->config);
    free(connection);
}

void connection_free_closed(struct worker *worker)
{
    list_for_each(&worker->closed, element, following)
    {
        connection_free(list_entry(element, struct connection, lists));
    }
}

/* Events
 * ---------------------------------------------------------------------------------------------------- */

/* A client that waits for its password to be checked has closed its side. With nothing left to read of it, it
   has gone, and the check is spared. */
static void on_client_closed(struct connection *connection)
{
    uint8_t byte;
    ssize_t left = recv(connection->transport.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (left > 0 || connection->input_size > 0) {
        connection->half_closed = true;
        connection_watch(connection);
    } else {
        connection_drop(connection);
    }
}

static void on_socket_event(evutil_socket_t fd, short events, void *argument)
{
    (void)fd;
    struct connection *connection = argument;
    worker_wake(connection->worker);
    switch ((enum connection_state)connection->state) {
    case CONNECTION_PROXY:
        connection_announced(connection);
        return;
    case CONNECTION_HANDSHAKE:
        connection_shake_hands(connection);
        worker_spend(connection->worker, 0);
        return;
    case CONNECTION_DRAINING:
        connection_drain(connection);
        return;
    case CONNECTION_CLOSED:
        return;
    case CONNECTION_AUTHORIZING:
        if (events & EV_CLOSED)
            on_client_closed(connection);
        break;
    case CONNECTION_CLAIMING:
        connection_watch(connection); /* its end is not listened for any more */
        break;
    case CONNECTION_WAITING:
    case CONNECTION_AUTHENTICATING:
    case CONNECTION_ACTIVE:
        break;
    }
    if (events & EV_WRITE) {
        worker_publish(connection->worker); /* of this turn's output a part may go out with it */
        connection_flush(connection);
    }
    if ((events & EV_READ) && connection->hold == 0 && connection->state < CONNECTION_DRAINING)
        connection_read(connection);
}

/* Writing
 * ----------------------------------------------------------------------------------------------------- */

void connection_flush(struct connection *connection)
{
    list_remove(&connection->dirty);
    if (connection->state == CONNECTION_DRAINING || connection->state == CONNECTION_CLOSED)
        return;
    enum status status = STATUS_OK;
    if (connection->output.waiting > 0)
        status = output_write(connection);
    else if (transport_wants_write(&connection->transport))
        status = transport_flush(&connection->transport);
    if (status != STATUS_OK && status != STATUS_AGAIN) {
        connection_read_failed(connection, status);
        return;
    }
    connection->blocked = connection->output.waiting > 0;
    connection_watch(connection);
    size_t limit = connection->worker->config->mqtt.max_output_buffer;
    if (connection->output.waiting > limit)
        connection_hold(connection, HOLD_OUTPUT);
    else
        connection_release(connection, HOLD_OUTPUT);
    if (connection->session != NULL && session_has_more(connection->session))
        session_pump(connection->session);
}

/* Time-outs
 * --------------------------------------------------------------------------------------------------- */

/* The timer is not moved for every packet: it looks, when it fires, whether something came meanwhile. */
static void on_keep_alive(struct connection *connection)
{
    struct worker *worker = connection->worker;
    uint64_t allowed_us = state_timeout_ms(connection, CONNECTION_ACTIVE) * 1000;
    if (connection->hold != 0) /* who is not read cannot be heard [MQTT-3.1.2-22] */
        connection->read_us = worker->now_us;
    if (worker->now_us < worker->resumed_us + WORKER_RESUME_GRACE_US)
        connection->read_us = worker->resumed_us + WORKER_RESUME_GRACE_US - allowed_us;
    if (worker->now_us < connection->read_us + allowed_us) {
        timer_wheel_add(&worker->wheel, &connection->timer, connection->read_us + allowed_us);
        return;
    }
    worker->counters->keepalive_timeouts++;
    connection_close(
        connection, MQTT_KEEP_ALIVE_TIMEOUT, "nothing came for one and a half times its keep alive");
}

static void on_timeout(struct timer_wheel *wheel, struct timer *timer)
{
    (void)wheel;
    struct connection *connection = list_entry(timer, struct connection, timer);
    switch ((enum connection_state)connection->state) {
    case CONNECTION_PROXY:
    case CONNECTION_HANDSHAKE:
        connection_handshake_timed_out(connection);
        return;
    case CONNECTION_WAITING:
        connection->worker->counters->connections_timeout++;
        connection_close(
            connection, MQTT_PROTOCOL_ERROR, "no CONNECT within connect_timeout of its listener");
        return;
    case CONNECTION_AUTHORIZING:
    case CONNECTION_AUTHENTICATING:
        connection->worker->counters->connections_timeout++;
        connect_timed_out(connection);
        return;
    case CONNECTION_ACTIVE:
        on_keep_alive(connection);
        return;
    case CONNECTION_DRAINING:
        connection_drop(connection);
        return;
    case CONNECTION_CLAIMING:
    case CONNECTION_CLOSED:
        return;
    }
}
