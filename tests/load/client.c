/*
 * The client of the load checker: sockets, TLS, packets and the rules of QoS 1 and 2 on the client's side
 * [MQTT 4.3, 4.4]. One thread, one epoll.
 */
#include "tests/load/client.h"

#include "shared/mqtt_decode.h"
#include "shared/mqtt_encode.h"
#include "shared/mqtt_properties.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_SIZE 65536
#define EVENTS    256

uint64_t load_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

bool client_loop_open(struct client_loop *loop, SSL_CTX *tls, const struct client_events *events)
{
    *loop = (struct client_loop){.tls = tls, .events = events};
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    loop->scratch = malloc(READ_SIZE);
    return loop->epoll >= 0 && loop->scratch != NULL;
}

void client_loop_close(struct client_loop *loop)
{
    close(loop->epoll);
    free(loop->scratch);
}

/* Closing
 * ----------------------------------------------------------------------------------------------------- */

static void close_end(int *fd, SSL **ssl)
{
    SSL_free(*ssl);
    *ssl = NULL;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void note_rival(struct client *client)
{
    if (client->state == CLIENT_WAITING)
        client->rival_us = client->opened_us;
}

static void close_both(struct client *client)
{
    client->state = CLIENT_CLOSED;
    close_end(&client->fd, &client->ssl);
    close_end(&client->former_fd, &client->former_ssl);
    client->in.size = client->out.size = client->out_sent = 0;
}

void client_close(struct client *client)
{
    note_rival(client);
    close_both(client);
}

void client_free(struct client *client)
{
    client_close(client);
    free(client->in.data);
    free(client->out.data);
    free(client);
}

static void lost(struct client *client, const char *why, int reason)
{
    if (client->state == CLIENT_CLOSED)
        return;
    close_both(client);
    client->loop->events->lost(client, why, reason);
}

void client_session_clear(struct client *client)
{
    client->window_count = 0;
    memset(client->held, 0, sizeof client->held);
}

/* Out
 * ---------------------------------------------------------------------------------------------------------
 */

static void grow(struct client_buffer *buffer, size_t size)
{
    if (buffer->size + size <= buffer->capacity)
        return;
    buffer->capacity = (buffer->size + size) * 2 + 256;
    buffer->data = realloc(buffer->data, buffer->capacity);
    if (buffer->data == NULL)
        abort();
}

static uint8_t *put(struct client *client, size_t size)
{
    grow(&client->out, size);
    if (!client->is_dirty) {
        client->is_dirty = true;
        client->next_dirty = client->loop->dirty;
        client->loop->dirty = client;
    }
    uint8_t *to = client->out.data + client->out.size;
    client->out.size += size;
    return to;
}

static enum mqtt_version version_of(const struct client *client)
{
    return (enum mqtt_version)client->version;
}

static void put_acknowledgement(struct client *client, uint8_t type, uint16_t packet_id)
{
    uint8_t *to = put(client, 4);
    (void)mqtt_encode_acknowledgement(to, version_of(client), type, packet_id, MQTT_SUCCESS);
}

static void put_connect(struct client *client)
{
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
    mqtt_encode_connect(put(client, mqtt_connect_size(&connect)), &connect);
    client->state = CLIENT_WAITING;
}

static void put_publish(struct client *client, const struct client_outgoing *outgoing, bool dup)
{
    struct mqtt_publish_out publish = {
        .version = version_of(client), .dup = dup, .packet_id = outgoing->packet_id};
    client->loop->events->content(client, outgoing->sequence, &publish.topic, &publish.payload, &publish.qos);
    mqtt_encode_publish(put(client, mqtt_publish_size(&publish)), &publish, NULL);
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
    uint8_t *to = put(client, room);
    size_t size = mqtt_encode_subscribe(to, version_of(client), new_identifier(client), wanted, count, NULL);
    client->out.size -= room - size;
    client->subscribe_us = load_now_us();
}

void client_disconnect(struct client *client)
{
    if (client->state == CLIENT_READY)
        (void)mqtt_encode_disconnect(put(client, 2), MQTT_DISCONNECT, MQTT_SUCCESS, NULL);
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
    close_end(&client->former_fd, &client->former_ssl);
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

static void on_packet(struct client *client, const struct mqtt_header *header, struct bytes body)
{
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

static size_t on_bytes(struct client *client, const uint8_t *data, size_t size)
{
    size_t used = 0;
    while (used < size && client->state != CLIENT_CLOSED) {
        struct mqtt_header header;
        struct mqtt_fault fault;
        enum status status = mqtt_decode_header(data + used, size - used, UINT32_MAX, &header, &fault);
        if (status == STATUS_AGAIN)
            break;
        if (status != STATUS_OK) {
            lost(client, fault.text, -1);
            break;
        }
        size_t whole = (size_t)header.header_size + header.remaining_size;
        if (size - used < whole)
            break;
        on_packet(client, &header, bytes_of(data + used + header.header_size, header.remaining_size));
        used += whole;
    }
    return used;
}

/* Bytes read; 0: nothing now; -1: the end. */
static ssize_t receive(struct client *client, uint8_t *to, size_t size)
{
    if (client->ssl == NULL) {
        ssize_t n = read(client->fd, to, size);
        return n > 0 ? n : (n < 0 && errno == EAGAIN ? 0 : -1);
    }
    size_t got = 0;
    while (got < size) {
        int n = SSL_read(client->ssl, to + got, (int)(size - got));
        if (n <= 0) {
            int error = SSL_get_error(client->ssl, n);
            bool ended = error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE;
            ERR_clear_error();
            return got > 0 ? (ssize_t)got : (ended ? -1 : 0);
        }
        got += (size_t)n;
    }
    return (ssize_t)got;
}

static void on_readable(struct client *client)
{
    ssize_t n = receive(client, client->loop->scratch, READ_SIZE);
    if (n < 0)
        lost(client, "connection closed by the broker", -1);
    if (n <= 0)
        return;
    client->pending = client->ssl != NULL && SSL_has_pending(client->ssl);
    client->read_us = load_now_us();
    grow(&client->in, (size_t)n);
    memcpy(client->in.data + client->in.size, client->loop->scratch, (size_t)n);
    client->in.size += (size_t)n;
    size_t used = on_bytes(client, client->in.data, client->in.size);
    if (client->state == CLIENT_CLOSED)
        return;
    client->in.size -= used;
    memmove(client->in.data, client->in.data + used, client->in.size);
}

/* Events
 * ------------------------------------------------------------------------------------------------------ */

static void watch(struct client *client, bool writing)
{
    if (client->writing == writing)
        return;
    client->writing = writing;
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = client};
    epoll_ctl(client->loop->epoll, EPOLL_CTL_MOD, client->fd, &event);
}

bool client_open(struct client *client, uint16_t port, bool tls)
{
    if (client->former_fd >= 0)
        close_end(&client->former_fd, &client->former_ssl);
    if (client->fd >= 0) {
        epoll_ctl(client->loop->epoll, EPOLL_CTL_DEL, client->fd, NULL);
        client->former_fd = client->fd;
        client->former_ssl = client->ssl;
        client->ssl = NULL;
    }
    note_rival(client);
    client->in.size = client->out.size = client->out_sent = 0;
    client->state = CLIENT_CONNECTING;
    client->writing = true;
    client->connection++;
    client->opened_us = client->read_us = load_now_us();
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        return false;
    int one = 1;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(client->fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
        return false;
    socklen_t size = sizeof to;
    if (getsockname(client->fd, (struct sockaddr *)&to, &size) == 0)
        client->port = ntohs(to.sin_port);
    if (tls) {
        client->ssl = SSL_new(client->loop->tls);
        if (client->ssl == NULL || SSL_set_fd(client->ssl, client->fd) != 1)
            return false;
        SSL_set_connect_state(client->ssl);
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = client};
    return epoll_ctl(client->loop->epoll, EPOLL_CTL_ADD, client->fd, &event) == 0;
}

static void on_handshake(struct client *client)
{
    int n = SSL_do_handshake(client->ssl);
    if (n == 1) {
        put_connect(client);
        return;
    }
    int error = SSL_get_error(client->ssl, n);
    ERR_clear_error();
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        watch(client, error == SSL_ERROR_WANT_WRITE);
    else
        lost(client, "TLS handshake failed", -1);
}

static void on_open(struct client *client)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error == ECONNREFUSED) {
        lost(client, "connection refused", -1);
    } else if (error != 0) {
        lost(client, "connection broke", -1);
    } else if (client->ssl == NULL) {
        put_connect(client);
    } else {
        client->state = CLIENT_HANDSHAKE;
        on_handshake(client);
    }
}

static void flush(struct client *client)
{
    if (client->state != CLIENT_WAITING && client->state != CLIENT_READY)
        return;
    while (client->out_sent < client->out.size) {
        const uint8_t *from = client->out.data + client->out_sent;
        size_t left = client->out.size - client->out_sent;
        ssize_t n = client->ssl == NULL ? send(client->fd, from, left, MSG_NOSIGNAL)
                                        : SSL_write(client->ssl, from, (int)left);
        if (n <= 0)
            break; /* a broken one is found by reading, behind what it still brought */
        client->out_sent += (size_t)n;
    }
    ERR_clear_error();
    bool left = client->out_sent < client->out.size;
    if (!left)
        client->out.size = client->out_sent = 0;
    watch(client, left);
}

static void on_event(struct client *client, uint32_t events)
{
    if (client->state == CLIENT_CONNECTING) {
        on_open(client);
        return;
    }
    if (client->state == CLIENT_HANDSHAKE) {
        on_handshake(client);
        return;
    }
    if (events & EPOLLOUT)
        flush(client);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0)
        return;
    do {
        client->pending = false;
        on_readable(client);
    } while (client->pending && client->state == CLIENT_READY);
}

void client_loop_turn(struct client_loop *loop, uint64_t timeout_us)
{
    struct epoll_event events[EVENTS];
    if (loop->dirty != NULL)
        timeout_us = 0;
    struct timespec timeout = {(time_t)(timeout_us / 1000000), (long)(timeout_us % 1000000) * 1000};
    int count = epoll_pwait2(loop->epoll, events, EVENTS, &timeout, NULL);
    for (int i = 0; i < count; i++) {
        struct client *client = events[i].data.ptr;
        if (client->state != CLIENT_CLOSED)
            on_event(client, events[i].events);
    }
    while (loop->dirty != NULL) {
        struct client *client = loop->dirty;
        loop->dirty = client->next_dirty;
        client->is_dirty = false;
        flush(client);
    }
}
