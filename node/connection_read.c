/*
 * Reading a client: from the socket into the worker's scratch, whole packets to packet_dispatch(), an
 * incomplete one into the connection's own buffer; and the reasons not to read. Worker process.
 */
#include "node/connection_private.h"
#include "node/connection_rate.h"
#include "node/worker_context.h"

#include "shared/log.h"

#include <stdlib.h>

/* Keeps the unprocessed rest for later. False: no memory, the connection is gone. */
static bool keep_input(struct connection *connection, const uint8_t *data, size_t size)
{
    if (size == 0) {
        free(connection->input);
        connection->input = NULL;
        connection->input_capacity = connection->input_size = 0;
        return true;
    }
    if (data != connection->input && size > connection->input_capacity) {
        uint8_t *input = malloc(size);
        if (input == NULL) {
            connection_close(connection, MQTT_SERVER_BUSY, "out of memory");
            return false;
        }
        memcpy(input, data, size);
        free(connection->input);
        connection->input = input;
        connection->input_capacity = (uint32_t)size;
    } else if (data != connection->input) { /* a large packet that grows stays where it is */
        memmove(connection->input, data, size);
    }
    connection->input_size = (uint32_t)size;
    return true;
}

/* Hands whole packets on; keeps the rest. */
static void process(struct connection *connection, const uint8_t *data, size_t size)
{
    connection->processing = true;
    size_t used = packet_dispatch(connection, data, size);
    connection->processing = false;
    if (connection->state >= CONNECTION_DRAINING)
        return;
    if (keep_input(connection, data + used, size - used))
        connection_watch(connection);
}

/* Where the next read goes: behind the carry in the scratch, or into the connection's own buffer when a large
   packet gathers there. */
static uint8_t *read_place(struct connection *connection)
{
    if (connection->input_size == 0)
        return connection->worker->scratch;
    if (connection->input_size <= WORKER_CARRY_MAX) {
        memcpy(connection->worker->scratch, connection->input, connection->input_size);
        return connection->worker->scratch + connection->input_size;
    }
    size_t needed = connection->input_size + TRANSPORT_READ_BEST;
    if (needed > connection->input_capacity) {
        size_t capacity = needed + needed / 2;
        uint8_t *input = realloc(connection->input, capacity);
        if (input == NULL)
            return NULL;
        connection->input = input;
        connection->input_capacity = (uint32_t)capacity;
    }
    return connection->input + connection->input_size;
}

void connection_read_failed(struct connection *connection, enum status status)
{
    if (status == STATUS_PROTOCOL || status == STATUS_SYSTEM) {
        struct tls_failure failure;
        transport_failure(&connection->transport, &failure);
        connection->worker->counters->protocol_errors += failure.cause == TLS_FAILURE_WEBSOCKET;
        char text[512];
        tls_failure_line(&failure, text, sizeof text);
        log_info("%s (client %.*s): connection lost: %s", connection_peer(connection),
            connection_client_size(connection), connection_client(connection), text);
    } else if (connection->state == CONNECTION_ACTIVE && connection->session != NULL)
        log_info("%s: client %.*s has gone without DISCONNECT", connection_peer(connection),
            (int)connection->session->client_id_size, connection->session->client_id);
    if (status == STATUS_PROTOCOL && connection->state < CONNECTION_DRAINING) {
        connection_let_go(connection, true);
        connection_drain(connection); /* the alert that says why goes out first */
        return;
    }
    connection_drop(connection);
}

void connection_read(struct connection *connection)
{
    struct worker *worker = connection->worker;
    uint8_t *to = read_place(connection);
    if (to == NULL) {
        connection_close(connection, MQTT_SERVER_BUSY, "out of memory");
        return;
    }
    size_t size = 0;
    enum status status = transport_read(&connection->transport, to, TRANSPORT_READ_BEST, &size);
    if (status == STATUS_AGAIN) {
        connection_watch(connection);
        return;
    }
    if (status != STATUS_OK) {
        connection_read_failed(connection, status);
        return;
    }
    worker->counters->bytes_received += size;
    connection->read_us = worker->now_us;
    worker_has_read(worker);
    if (connection->state >= CONNECTION_DRAINING)
        return; /* its client has connected elsewhere */
    uint8_t *from = to - connection->input_size;
    size_t all = connection->input_size + size;
    if (from != connection->input)
        connection->input_size = 0; /* the carry is in the scratch now; keep_input() fills the buffer anew */
    process(connection, from, all);
    connection_charge(connection, 0, size);
    worker_spend(worker, (uint32_t)size);
}

void connection_hold(struct connection *connection, enum connection_hold reason)
{
    connection->hold |= (uint8_t)reason;
    if (!connection->processing && connection->state != CONNECTION_CLOSED)
        connection_watch(connection);
}

void connection_release(struct connection *connection, enum connection_hold reason)
{
    if (!(connection->hold & reason))
        return;
    connection->hold &= (uint8_t)~reason;
    if (connection->processing || connection->hold != 0 || connection->state >= CONNECTION_DRAINING)
        return;
    connection->read_us = connection->worker->now_us; /* it could not be heard meanwhile */
    if (connection->input_size > 0)
        process(connection, connection->input, connection->input_size);
    else if (connection->state == CONNECTION_WAITING)
        connection_read(connection); /* CONNECT may have come with the end of the handshake */
    else
        connection_watch(connection);
}
