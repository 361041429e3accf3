/*
 * The client of the load checker: packets and the rules of QoS 1 and 2 on the client's side [MQTT 4.3, 4.4].
 * One thread.
 */
#include "tests/load/client.h"

#include "shared/list.h"
#include "shared/mqtt_decode.h"
#include "shared/mqtt_encode.h"
#include "shared/mqtt_properties.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

uint64_t load_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static struct client *client_of(struct stream *stream)
{
    return list_entry(stream, struct client, stream);
}

/* Closing
 * ----------------------------------------------------------------------------------------------------- */

static void note_rival(struct client *client)
{
    if (client->state == CLIENT_WAITING)
        client->rival_us = client->opened_us;
}

static void close_both(struct client *client)
{
    client->state = CLIENT_CLOSED;
    stream_close(&client->stream);
    stream_drop(&client->former_fd, &client->former_ssl);
}

void client_close(struct client *client)
{
    note_rival(client);
    close_both(client);
}

void client_free(struct client *client)
{
    client_close(client);
    stream_free(&client->stream);
    free(client);
}

static void lost(struct client *client, const char *why, int reason)
{
    client->reason = reason;
    stream_fail(&client->stream, why);
}

static void on_ended(struct stream *stream, const char *why)
{
    struct client *client = client_of(stream);
    close_both(client);
    client->loop->events->lost(client, why, client->reason);
}

void client_session_clear(struct client *client)
{
    client->window_count = 0;
    memset(client->held, 0, sizeof client->held);
}

/* Out
 * ---------------------------------------------------------------------------------------------------------
 */

static enum mqtt_version version_of(const struct client *client)
{
    return (enum mqtt_version)client->version;
}

static void put_acknowledgement(struct client *client, uint8_t type, uint16_t packet_id)
{
    uint8_t *to = stream_put(&client->stream, 4);
    (void)mqtt_encode_acknowledgement(to, version_of(client), type, packet_id, MQTT_SUCCESS);
}

static void on_opened(struct stream *stream)
{
    struct client *client = client_of(stream);
    char id[16];
    snprintf(id, sizeof id, "load%u", client->number);
    struct mqtt_connect connect = {
        .version = version_of(client), .clean_start = !client->persistent, .client_id = bytes_of_text(id)};
    mqtt_properties_init(&connect.properties);
    mqtt_properties_init(&connect.will_properties);
    if (client->persistent && client->version == MQTT_5_0) {
        connect.properties.present |= PROPERTY_BIT(PROPERTY_SESSION_EXPIRY_INTERVAL);
        connect.properties.session_expiry_interval = 600;
    }
    if (client->will_topic != NULL) {
        put_u32_be(client->will_payload, client->number);
        put_u32_be(client->will_payload + 4, client->connection);
        connect.has_will = true;
        connect.will_qos = 2;
        connect.will_topic = bytes_of_text(client->will_topic);
        connect.will_payload = bytes_of(client->will_payload, sizeof client->will_payload);
    }
    mqtt_encode_connect(stream_put(&client->stream, mqtt_connect_size(&connect)), &connect);
    client->state = CLIENT_WAITING;
}

static void put_publish(struct client *client, const struct client_outgoing *outgoing, bool dup)
{
    struct mqtt_publish_out publish = {
        .version = version_of(client), .dup = dup, .packet_id = outgoing->packet_id};
    client->loop->events->content(client, outgoing->sequence, &publish.topic, &publish.payload, &publish.qos);
    mqtt_encode_publish(stream_put(&client->stream, mqtt_publish_size(&publish)), &publish, NULL);
}

static bool identifier_used(const struct client *client, uint16_t packet_id)
{
    for (unsigned i = 0; i < client->window_count; i++)
        if (client->window[i].packet_id == packet_id)
            return true;
    return packet_id == 0;
}

static uint16_t new_identifier(struct client *client)
{
    do
        client->next_id++;
    while (identifier_used(client, client->next_id));
    return client->next_id;
}

void client_publish(struct client *client, uint32_t sequence)
{
    struct bytes topic, payload;
    struct client_outgoing *outgoing = &client->window[client->window_count];
    *outgoing = (struct client_outgoing){.sequence = sequence, .packet_id = new_identifier(client)};
    client->loop->events->content(client, sequence, &topic, &payload, &outgoing->qos);
    client->window_count++;
    put_publish(client, outgoing, false);
}

void client_subscribe(struct client *client, const char *const *filters, unsigned count)
{
    struct mqtt_subscribe_filter wanted[4];
    size_t room = 16;
    for (unsigned i = 0; i < count; i++) {
        wanted[i] = (struct mqtt_subscribe_filter){.filter = bytes_of_text(filters[i]), .qos = 2};
        room += 3 + wanted[i].filter.size;
    }
    uint8_t *to = stream_put(&client->stream, room);
    size_t size = mqtt_encode_subscribe(to, version_of(client), new_identifier(client), wanted, count, NULL);
    stream_unput(&client->stream, room - size);
    client->subscribe_us = load_now_us();
}

void client_disconnect(struct client *client)
{
    if (client->state == CLIENT_READY)
        (void)mqtt_encode_disconnect(stream_put(&client->stream, 2), MQTT_DISCONNECT, MQTT_SUCCESS, NULL);
}

/* In
 * ----------------------------------------------------------------------------------------------------------
 */

/* [MQTT-4.4.0-1]: in the order in which they were sent at first. */
static void resend(struct client *client)
{
    for (unsigned i = 0; i < client->window_count; i++) {
        if (client->window[i].received)
            put_acknowledgement(client, MQTT_PUBREL, client->window[i].packet_id);
        else
            put_publish(client, &client->window[i], true);
    }
}

static void on_connack(struct client *client, struct bytes body)
{
    struct mqtt_connack connack;
    struct mqtt_fault fault;
    if (mqtt_decode_connack(version_of(client), body, &connack, &fault) != STATUS_OK) {
        lost(client, fault.text, -1);
        return;
    }
    if (connack.reason != 0) {
        lost(client, "CONNACK refuses", connack.reason);
        return;
    }
    stream_drop(&client->former_fd, &client->former_ssl);
    client->state = CLIENT_READY;
    client->connected_us = load_now_us();
    if (!connack.session_present)
        client_session_clear(client);
    resend(client);
    client->loop->events->connected(client, connack.session_present);
}

static void on_publish(struct client *client, uint8_t flags, struct bytes body)
{
    struct mqtt_publish publish;
    struct mqtt_fault fault;
    if (mqtt_decode_publish_to_client(version_of(client), flags, body, &publish, &fault) != STATUS_OK) {
        lost(client, fault.text, -1);
        return;
    }
    if (publish.qos == 1)
        put_acknowledgement(client, MQTT_PUBACK, publish.packet_id);
    if (publish.qos == 2) {
        uint64_t bit = UINT64_C(1) << (publish.packet_id % 64);
        bool repeated = (client->held[publish.packet_id / 64] & bit) != 0;
        client->held[publish.packet_id / 64] |= bit;
        put_acknowledgement(client, MQTT_PUBREC, publish.packet_id);
        if (repeated)
            return;
    }
    client->loop->events->arrived(client, publish.topic, publish.payload, publish.qos);
}

static void on_acknowledged(struct client *client, uint8_t type, struct bytes body)
{
    struct mqtt_acknowledgement acknowledgement;
    struct mqtt_fault fault;
    if (mqtt_decode_acknowledgement(version_of(client), type, body, &acknowledgement, &fault) != STATUS_OK) {
        lost(client, fault.text, -1);
        return;
    }
    bool good = acknowledgement.reason < 0x80;
    unsigned at = 0;
    while (at < client->window_count && client->window[at].packet_id != acknowledgement.packet_id)
        at++;
    if (at == client->window_count) {
        /* Of an earlier connection's PUBREL that was resent: the broker may have known it already. */
        if (type == MQTT_PUBREC)
            put_acknowledgement(client, MQTT_PUBREL, acknowledgement.packet_id);
        return;
    }
    struct client_outgoing *outgoing = &client->window[at];
    if (type != MQTT_PUBCOMP && !outgoing->received)
        client->loop->events->accepted(client, outgoing->sequence, good);
    if (type == MQTT_PUBREC && good) {
        outgoing->received = true;
        put_acknowledgement(client, MQTT_PUBREL, acknowledgement.packet_id);
        return;
    }
    client->window_count--;
    memmove(outgoing, outgoing + 1, (client->window_count - at) * sizeof *outgoing);
    client->loop->events->completed(client);
}

static void on_release(struct client *client, struct bytes body)
{
    if (body.size < 2)
        return;
    uint16_t packet_id = get_u16_be(body.data);
    client->held[packet_id / 64] &= ~(UINT64_C(1) << (packet_id % 64));
    put_acknowledgement(client, MQTT_PUBCOMP, packet_id);
}

static void on_packet(struct stream *stream, const struct mqtt_header *header, struct bytes body)
{
    struct client *client = client_of(stream);
    client->read_us = load_now_us();
    switch (header->type) {
    case MQTT_CONNACK:
        on_connack(client, body);
        return;
    case MQTT_SUBACK:
        if (body.size < 3 || body.data[body.size - 1] >= 0x80)
            lost(client, "SUBACK refuses", body.size < 1 ? -1 : body.data[body.size - 1]);
        else
            client->loop->events->subscribed(client);
        return;
    case MQTT_PUBLISH:
        on_publish(client, header->flags, body);
        return;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBCOMP:
        on_acknowledged(client, header->type, body);
        return;
    case MQTT_PUBREL:
        on_release(client, body);
        return;
    case MQTT_DISCONNECT:
        lost(client, "DISCONNECT from the broker", body.size > 0 ? body.data[0] : 0);
        return;
    default:
        return;
    }
}

/* Connections and their loop
 * --------------------------------------------------------------------------------- */

bool client_open(struct client *client, uint16_t port, bool tls)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    SSL *ssl = tls ? SSL_new(client->loop->tls) : NULL;
    if (tls && ssl == NULL)
        return false;
    if (client->stream.fd >= 0) {
        stream_drop(&client->former_fd, &client->former_ssl);
        stream_part(&client->stream, &client->former_fd, &client->former_ssl);
    }
    note_rival(client);
    client->state = CLIENT_CONNECTING;
    client->reason = -1;
    client->connection++;
    client->opened_us = client->read_us = load_now_us();
    if (!stream_open(&client->stream, &client->loop->streams, (struct sockaddr *)&to, sizeof to, ssl))
        return false;
    socklen_t size = sizeof to;
    if (getsockname(client->stream.fd, (struct sockaddr *)&to, &size) == 0)
        client->port = ntohs(to.sin_port);
    return true;
}

static const struct stream_events stream_events = {
    .opened = on_opened, .packet = on_packet, .ended = on_ended};

bool client_loop_open(struct client_loop *loop, SSL_CTX *tls, const struct client_events *events)
{
    *loop = (struct client_loop){.tls = tls, .events = events};
    return stream_loop_open(&loop->streams, &stream_events);
}

void client_loop_close(struct client_loop *loop)
{
    stream_loop_close(&loop->streams);
}

void client_loop_turn(struct client_loop *loop, uint64_t timeout_us)
{
    stream_loop_turn(&loop->streams, timeout_us);
}
