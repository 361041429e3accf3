/* The MQTT client of the load generator: the smallest honest one. It decodes and encodes with the node's
 * codec. */
#include "bench/client.h"

#include "shared/list.h"
#include "shared/mqtt_decode.h"
#include "shared/mqtt_encode.h"

#include <stddef.h>

static struct client *client_of(struct stream *stream)
{
    return list_entry(stream, struct client, stream);
}

static uint16_t next_id(struct client *client)
{
    if (++client->next_id == 0)
        client->next_id = 1;
    return client->next_id;
}

static void on_opened(struct stream *stream)
{
    struct client *client = client_of(stream);
    struct mqtt_connect connect = {.version = (enum mqtt_version)client->version,
        .clean_start = true,
        .client_id = bytes_of_text(client->id)};
    uint8_t *to = stream_put(&client->stream, mqtt_connect_size(&connect));
    mqtt_encode_connect(to, &connect);
    client->state = CLIENT_WAITING;
}

void client_subscribe(struct client *client, const char *filter, uint8_t qos)
{
    struct mqtt_subscribe_filter wanted = {.filter = bytes_of_text(filter), .qos = qos};
    size_t room = 16 + wanted.filter.size;
    uint8_t *to = stream_put(&client->stream, room);
    size_t size =
        mqtt_encode_subscribe(to, (enum mqtt_version)client->version, next_id(client), &wanted, 1, NULL);
    stream_unput(&client->stream, room - size);
    client->state = CLIENT_WAITING;
}

void client_publish(struct client *client, struct bytes topic, struct bytes payload, uint8_t qos)
{
    struct mqtt_publish_out publish = {.version = (enum mqtt_version)client->version,
        .qos = qos,
        .packet_id = qos > 0 ? next_id(client) : 0,
        .topic = topic,
        .payload = payload};
    mqtt_encode_publish(stream_put(&client->stream, mqtt_publish_size(&publish)), &publish, NULL);
}

void client_disconnect(struct client *client)
{
    uint8_t *to = stream_put(&client->stream, 2);
    to[0] = 0xe0;
    to[1] = 0;
}

void client_close(struct client *client)
{
    struct stream *stream = &client->stream;
    if (stream->loop == NULL)
        return; /* it was never opened */
    if (stream->ssl != NULL) {
        SSL_SESSION *session = SSL_get1_session(stream->ssl);
        if (session != NULL && SSL_SESSION_is_resumable(session)) {
            SSL_SESSION_free(client->resume);
            client->resume = session;
        } else {
            SSL_SESSION_free(session);
        }
    }
    stream_free(stream);
}

static void acknowledge(struct client *client, uint8_t type, uint16_t id)
{
    mqtt_encode_acknowledgement(
        stream_put(&client->stream, 4), (enum mqtt_version)client->version, type, id, MQTT_SUCCESS);
}

static void on_publish(struct client *client, uint8_t flags, struct bytes body)
{
    struct mqtt_publish publish;
    struct mqtt_fault fault;
    if (mqtt_decode_publish((enum mqtt_version)client->version, flags, body, &publish, &fault) != STATUS_OK) {
        stream_fail(&client->stream, fault.text);
        return;
    }
    if (publish.qos > 0)
        acknowledge(client, publish.qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, publish.packet_id);
    client->loop->publish(client, publish.topic, publish.payload, publish.qos);
}

static void on_packet(struct stream *stream, const struct mqtt_header *header, struct bytes body)
{
    struct client *client = client_of(stream);
    switch (header->type) {
    case MQTT_CONNACK:
        if (body.size < 2 || body.data[1] != 0) {
            stream_fail(&client->stream, "CONNACK refuses");
            return;
        }
        client->state = CLIENT_READY;
        client->loop->ready(client);
        return;
    case MQTT_SUBACK:
        if (body.size < 3 || body.data[body.size - 1] >= 0x80) {
            stream_fail(&client->stream, "SUBACK refuses");
            return;
        }
        client->state = CLIENT_READY;
        client->loop->ready(client);
        return;
    case MQTT_PUBLISH:
        on_publish(client, header->flags, body);
        return;
    case MQTT_PUBREC:
        acknowledge(client, MQTT_PUBREL, get_u16_be(body.data));
        return;
    case MQTT_PUBREL:
        acknowledge(client, MQTT_PUBCOMP, get_u16_be(body.data));
        return;
    case MQTT_PUBACK:
    case MQTT_PUBCOMP:
        client->loop->acknowledged(client);
        return;
    case MQTT_DISCONNECT:
        stream_fail(&client->stream, "DISCONNECT from the broker");
        return;
    default:
        return;
    }
}

static void on_ended(struct stream *stream, const char *why)
{
    struct client *client = client_of(stream);
    client->state = CLIENT_FAILED;
    client->loop->failed(client, why);
}

/* The loop
 * ---------------------------------------------------------------------------------------------------- */

static const struct stream_events events = {.opened = on_opened, .packet = on_packet, .ended = on_ended};

bool client_loop_init(struct client_loop *loop)
{
    return stream_loop_open(&loop->streams, &events);
}

void client_loop_done(struct client_loop *loop)
{
    stream_loop_close(&loop->streams);
}

void client_loop_turn(struct client_loop *loop, uint64_t timeout_us)
{
    stream_loop_turn(&loop->streams, timeout_us);
}

bool client_open(struct client_loop *loop, struct client *client, const struct sockaddr *address,
    socklen_t size, SSL_CTX *context, const char *host)
{
    SSL *ssl = NULL;
    if (context != NULL) {
        ssl = SSL_new(context);
        if (ssl == NULL)
            return false;
        SSL_set_tlsext_host_name(ssl, host);
        if (client->resume != NULL)
            SSL_set_session(ssl, client->resume);
    }
    client->loop = loop;
    client->state = CLIENT_CONNECTING;
    return stream_open(&client->stream, &loop->streams, address, size, ssl);
}
