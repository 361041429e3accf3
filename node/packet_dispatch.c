/*
 * From bytes to MQTT packets to their handlers: one table of packet types, with the states in which each may
 * come. Worker process. Hot path: decodes in place, one look at the header, no copy.
 */
#include "node/connection.h"
#include "node/connection_rate.h"
#include "node/enhanced_auth.h"
#include "node/worker_context.h"
#include "node/worker_listen.h"

#include "shared/log.h"
#include "shared/mqtt_decode.h"
#include "shared/mqtt_encode.h"
#include "shared/tls_failure.h"

/* False: the packet was not used up (a hold), or the connection has ended. */
typedef bool (*packet_handler)(struct connection *connection, uint8_t flags, struct bytes body);

static bool refuse(struct connection *connection, const struct mqtt_fault *fault)
{
    connection->worker->counters->protocol_errors++;
    if (connection->state == CONNECTION_AUTHENTICATING)
        connect_refuse(connection, fault->reason, fault->text);
    else
        connection_close(connection, fault->reason, fault->text);
    return false;
}

static bool on_connect(struct connection *connection, uint8_t flags, struct bytes body)
{
    (void)flags;
    connect_received(connection, body);
    return true;
}

static bool on_publish(struct connection *connection, uint8_t flags, struct bytes body)
{
    return publish_received(connection, flags, body);
}

static bool on_acknowledgement_of(struct connection *connection, uint8_t type, struct bytes body)
{
    struct mqtt_acknowledgement acknowledgement;
    struct mqtt_fault fault;
    if (mqtt_decode_acknowledgement(
            (enum mqtt_version)connection->version, type, body, &acknowledgement, &fault) != STATUS_OK)
        return refuse(connection, &fault);
    if (type == MQTT_PUBREL)
        return pubrel_received(connection, &acknowledgement);
    return session_on_acknowledgement(connection->session, type, &acknowledgement);
}

static bool on_puback(struct connection *connection, uint8_t flags, struct bytes body)
{
    (void)flags;
    return on_acknowledgement_of(connection, MQTT_PUBACK, body);
}

static bool on_pubrec(struct connection *connection, uint8_t flags, struct bytes body)
{
    (void)flags;
    return on_acknowledgement_of(connection, MQTT_PUBREC, body);
}

static bool on_pubrel(struct connection *connection, uint8_t flags, struct bytes body)
{
    (void)flags;
    return on_acknowledgement_of(connection, MQTT_PUBREL, body);
}

static bool on_pubcomp(struct connection *connection, uint8_t flags, struct bytes body)
{
    (void)flags;
    return on_acknowledgement_of(connection, MQTT_PUBCOMP, body);
}

static bool on_subscribe(struct connection *connection, uint8_t flags, struct bytes body)
{
    (void)flags;
    return subscribe_received(connection, body);
}

static bool on_unsubscribe(struct connection *connection, uint8_t flags, struct bytes body)
{
    (void)flags;
    return unsubscribe_received(connection, body);
}

static bool on_pingreq(struct connection *connection, uint8_t flags, struct bytes body)
{
    (void)flags;
    if (body.size != 0) {
        struct mqtt_fault fault = {MQTT_MALFORMED_PACKET, "PINGREQ with a body"};
        return refuse(connection, &fault);
    }
    uint8_t *to = connection_reserve(connection, 2);
    if (to == NULL) {
        connection_drop(connection);
        return false;
    }
    mqtt_encode_pingresp(to);
    connection->worker->counters->packets_sent++;
    return true;
}

static bool on_disconnect(struct connection *connection, uint8_t flags, struct bytes body)
{
    (void)flags;
    struct mqtt_disconnect disconnect;
    struct mqtt_fault fault;
    if (mqtt_decode_disconnect((enum mqtt_version)connection->version, body, &disconnect, &fault) !=
        STATUS_OK)
        return refuse(connection, &fault);
    struct session *session = connection->session;
    if (session == NULL) { /* CONNECTION_AUTHENTICATING */
        log_info("%s: disconnected before it was authenticated", connection_peer(connection));
        connection_goodbye(connection, false);
        return false;
    }
    if (disconnect.properties.present & PROPERTY_BIT(PROPERTY_SESSION_EXPIRY_INTERVAL)) {
        /* [MQTT-3.1.2-10, 3.14.2.2.2]: from 0 it cannot become more */
        uint32_t expiry_s = disconnect.properties.session_expiry_interval;
        if (session->expiry_s == 0 && expiry_s > 0) {
            fault =
                (struct mqtt_fault){MQTT_PROTOCOL_ERROR, "DISCONNECT raises a Session Expiry Interval of 0"};
            return refuse(connection, &fault);
        }
        session_set_expiry(session, expiry_s);
    }
    log_info("%s: client %.*s disconnected (0x%02x)", connection_peer(connection),
        (int)session->client_id_size, session->client_id, (unsigned)disconnect.reason);
    connection_goodbye(connection, disconnect.reason != MQTT_SUCCESS);
    return false;
}

static bool on_auth(struct connection *connection, uint8_t flags, struct bytes body)
{
    (void)flags;
    struct mqtt_disconnect auth;
    struct mqtt_fault fault = {MQTT_PROTOCOL_ERROR, "AUTH before version 5"};
    if (connection->version != MQTT_5_0 || mqtt_decode_auth(body, &auth, &fault) != STATUS_OK)
        return refuse(connection, &fault);
    return enhanced_auth_received(connection, &auth);
}

static const packet_handler handlers[16] = {
    [MQTT_PUBLISH] = on_publish,
    [MQTT_PUBACK] = on_puback,
    [MQTT_PUBREC] = on_pubrec,
    [MQTT_PUBREL] = on_pubrel,
    [MQTT_PUBCOMP] = on_pubcomp,
    [MQTT_SUBSCRIBE] = on_subscribe,
    [MQTT_UNSUBSCRIBE] = on_unsubscribe,
    [MQTT_PINGREQ] = on_pingreq,
    [MQTT_DISCONNECT] = on_disconnect,
    [MQTT_AUTH] = on_auth,
};

/* The handler that is right for the packet now, or NULL with the fault. */
static packet_handler choose(const struct connection *connection, uint8_t type, struct mqtt_fault *ret_fault)
{
    if (connection->state == CONNECTION_WAITING) {
        if (type == MQTT_CONNECT)
            return on_connect;
        *ret_fault =
            (struct mqtt_fault){MQTT_PROTOCOL_ERROR, "the first packet is not CONNECT"}; /* [MQTT-3.1.0-1] */
        return NULL;
    }
    if (connection->state == CONNECTION_AUTHENTICATING && type != MQTT_AUTH && type != MQTT_DISCONNECT) {
        *ret_fault = (struct mqtt_fault){MQTT_PROTOCOL_ERROR,
            "a packet other than AUTH or DISCONNECT before CONNACK"}; /* [MQTT-3.1.2-30] */
        return NULL;
    }
    if (handlers[type] == NULL)
        *ret_fault = (struct mqtt_fault){MQTT_PROTOCOL_ERROR,
            type == MQTT_CONNECT ? "a second CONNECT"
                                 : "a packet that only servers send"}; /* [MQTT-3.1.0-2] */
    return handlers[type];
}

/* TLS on a plain port: told to the client in its own language and to the operator in one line. */
static bool is_tls_on_plain_port(struct connection *connection, const uint8_t *data, size_t size)
{
    if (connection->state != CONNECTION_WAITING || worker_listener_tls(connection->listener) != NULL ||
        !tls_is_client_hello(bytes_of(data, size)))
        return false;
    connection->worker->counters->protocol_errors++;
    log_warning("%s: %s (listener %s)", connection_peer(connection), tls_on_plain_port_text,
        worker_listener_config(connection->listener)->key);
    uint8_t *to = connection_reserve(connection, tls_plain_port_alert.size);
    if (to != NULL)
        memcpy(to, tls_plain_port_alert.data, tls_plain_port_alert.size);
    connection_goodbye(connection, false);
    return true;
}

size_t packet_dispatch(struct connection *connection, const uint8_t *data, size_t size)
{
    struct worker *worker = connection->worker;
    size_t used = 0;
    while (connection->hold == 0 && connection->state < CONNECTION_DRAINING && used < size) {
        struct mqtt_header header;
        struct mqtt_fault fault;
        if (is_tls_on_plain_port(connection, data + used, size - used))
            break;
        enum status status = mqtt_decode_header_of((enum mqtt_version)connection->version, data + used,
            size - used, (uint32_t)worker->config->mqtt.max_packet_size, &header, &fault);
        if (status == STATUS_AGAIN)
            break;
        packet_handler handler = status == STATUS_OK ? choose(connection, header.type, &fault) : NULL;
        if (handler == NULL) {
            refuse(connection, &fault);
            break;
        }
        size_t whole = (size_t)header.header_size + header.remaining_size;
        if (size - used < whole)
            break;
        if (!handler(
                connection, header.flags, bytes_of(data + used + header.header_size, header.remaining_size)))
            break;
        worker->counters->packets_received++;
        used += whole;
        if (header.type == MQTT_PUBLISH)
            connection_charge(connection, 1, 0);
    }
    return used;
}
