/* The MQTT client of the load generator: the smallest honest one. It decodes and encodes with the node's
 * codec. */
#include "bench/client.h"

#include "shared/mqtt_decode.h"
#include "shared/mqtt_encode.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE 65536
#define EVENTS    512

bool client_loop_init(struct client_loop *loop)
{
    loop->dirty = NULL;
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    loop->scratch = malloc(READ_SIZE);
    return loop->epoll >= 0 && loop->scratch != NULL;
}

void client_loop_done(struct client_loop *loop)
{
    close(loop->epoll);
    free(loop->scratch);
}

static void fail(struct client *client, const char *why)
{
    if (client->state == CLIENT_FAILED)
        return;
    client->state = CLIENT_FAILED;
    client->loop->failed(client, why);
}

static uint8_t *put(struct client *client, size_t size)
{
    if (client->out_size + size > client->out_capacity) {
        client->out_capacity = (client->out_size + size) * 2 + 1024;
        client->out = realloc(client->out, client->out_capacity);
        if (client->out == NULL)
            abort();
    }
    if (!client->dirty) {
        client->dirty = true;
        client->next_dirty = client->loop->dirty;
        client->loop->dirty = client;
    }
    uint8_t *to = client->out + client->out_size;
    client->out_size += size;
    return to;
}

static void watch(struct client *client, bool writing)
{
    if (client->writing == writing)
        return;
    client->writing = writing;
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = client};
    epoll_ctl(client->loop->epoll, EPOLL_CTL_MOD, client->fd, &event);
}

bool client_open(struct client_loop *loop, struct client *client, const struct sockaddr *address,
    socklen_t size, SSL_CTX *context, const char *host)
{
    client->loop = loop;
    client->state = CLIENT_CONNECTING;
    client->out_size = client->out_sent = client->in_size = 0;
    client->dirty = false;
    client->writing = true;
    client->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        return false;
    int one = 1;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(client->fd, address, size) != 0 && errno != EINPROGRESS)
        return false;
    if (context != NULL) {
        client->ssl = SSL_new(context);
        if (client->ssl == NULL || SSL_set_fd(client->ssl, client->fd) != 1)
            return false;
        SSL_set_connect_state(client->ssl);
        SSL_set_tlsext_host_name(client->ssl, host);
        if (client->resume != NULL)
            SSL_set_session(client->ssl, client->resume);
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = client};
    return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, client->fd, &event) == 0;
}

static uint16_t next_id(struct client *client)
{
    if (++client->next_id == 0)
        client->next_id = 1;
    return client->next_id;
}

static void send_connect(struct client *client)
{
    struct mqtt_connect connect = {.version = (enum mqtt_version)client->version,
        .clean_start = true,
        .client_id = bytes_of_text(client->id)};
    uint8_t *to = put(client, mqtt_connect_size(&connect));
    mqtt_encode_connect(to, &connect);
    client->state = CLIENT_WAITING;
}

void client_subscribe(struct client *client, const char *filter, uint8_t qos)
{
    struct mqtt_subscribe_filter wanted = {.filter = bytes_of_text(filter), .qos = qos};
    size_t room = 16 + wanted.filter.size;
    uint8_t *to = put(client, room);
    size_t size =
        mqtt_encode_subscribe(to, (enum mqtt_version)client->version, next_id(client), &wanted, 1, NULL);
    client->out_size -= room - size;
    client->state = CLIENT_WAITING;
}

void client_publish(struct client *client, struct bytes topic, struct bytes payload, uint8_t qos)
{
    struct mqtt_publish_out publish = {.version = (enum mqtt_version)client->version,
        .qos = qos,
        .packet_id = qos > 0 ? next_id(client) : 0,
        .topic = topic,
        .payload = payload};
    mqtt_encode_publish(put(client, mqtt_publish_size(&publish)), &publish, NULL);
}

void client_disconnect(struct client *client)
{
    uint8_t *to = put(client, 2);
    to[0] = 0xe0;
    to[1] = 0;
}

void client_close(struct client *client)
{
    if (client->ssl != NULL) {
        SSL_SESSION *session = SSL_get1_session(client->ssl);
        if (session != NULL && SSL_SESSION_is_resumable(session)) {
            SSL_SESSION_free(client->resume);
            client->resume = session;
        } else {
            SSL_SESSION_free(session);
        }
        SSL_set_quiet_shutdown(client->ssl, 1);
        SSL_shutdown(client->ssl);
        SSL_free(client->ssl);
        client->ssl = NULL;
    }
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
    free(client->in);
    free(client->out);
    client->in = client->out = NULL;
    client->in_size = client->in_capacity = client->out_size = client->out_capacity = client->out_sent = 0;
}

static void acknowledge(struct client *client, uint8_t type, uint16_t id)
{
    mqtt_encode_acknowledgement(put(client, 4), (enum mqtt_version)client->version, type, id, MQTT_SUCCESS);
}

static void on_publish(struct client *client, uint8_t flags, struct bytes body)
{
    struct mqtt_publish publish;
    struct mqtt_fault fault;
    if (mqtt_decode_publish((enum mqtt_version)client->version, flags, body, &publish, &fault) != STATUS_OK) {
        fail(client, fault.text);
        return;
    }
    if (publish.qos > 0)
        acknowledge(client, publish.qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, publish.packet_id);
    client->loop->publish(client, publish.topic, publish.payload, publish.qos);
}

static void on_packet(struct client *client, const struct mqtt_header *header, struct bytes body)
{
    switch (header->type) {
    case MQTT_CONNACK:
        if (body.size < 2 || body.data[1] != 0) {
            fail(client, "CONNACK refuses");
            return;
        }
        client->state = CLIENT_READY;
        client->loop->ready(client);
        return;
    case MQTT_SUBACK:
        if (body.size < 3 || body.data[body.size - 1] >= 0x80) {
            fail(client, "SUBACK refuses");
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
        fail(client, "DISCONNECT from the broker");
        return;
    default:
        return;
    }
}

static size_t on_bytes(struct client *client, const uint8_t *data, size_t size)
{
    size_t used = 0;
    while (used < size && client->state != CLIENT_FAILED) {
        struct mqtt_header header;
        struct mqtt_fault fault;
        enum status status = mqtt_decode_header(data + used, size - used, UINT32_MAX, &header, &fault);
        if (status == STATUS_AGAIN)
            break;
        if (status != STATUS_OK) {
            fail(client, fault.text);
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

/* Bytes read, 0: nothing now, -1: the end. */
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

static bool keep(struct client *client, const uint8_t *data, size_t size)
{
    if (client->in_size + size > client->in_capacity) {
        client->in_capacity = (client->in_size + size) * 2;
        client->in = realloc(client->in, client->in_capacity);
        if (client->in == NULL)
            return false;
    }
    memcpy(client->in + client->in_size, data, size);
    client->in_size += size;
    return true;
}

static void on_readable(struct client *client)
{
    uint8_t *scratch = client->loop->scratch;
    ssize_t n = receive(client, scratch, READ_SIZE);
    if (n < 0)
        fail(client, "connection closed by the broker");
    if (n <= 0)
        return;
    if (client->in_size == 0) {
        size_t used = on_bytes(client, scratch, (size_t)n);
        if (client->state != CLIENT_FAILED && used < (size_t)n &&
            !keep(client, scratch + used, (size_t)n - used))
            fail(client, "out of memory");
        return;
    }
    if (!keep(client, scratch, (size_t)n)) {
        fail(client, "out of memory");
        return;
    }
    size_t used = on_bytes(client, client->in, client->in_size);
    if (client->state == CLIENT_FAILED)
        return;
    client->in_size -= used;
    memmove(client->in, client->in + used, client->in_size);
}

static void on_handshake(struct client *client)
{
    int n = SSL_do_handshake(client->ssl);
    if (n == 1) {
        send_connect(client);
        return;
    }
    int error = SSL_get_error(client->ssl, n);
    if (error == SSL_ERROR_WANT_READ) {
        watch(client, false);
        return;
    }
    if (error == SSL_ERROR_WANT_WRITE) {
        watch(client, true);
        return;
    }
    const char *reason = ERR_reason_error_string(ERR_get_error());
    ERR_clear_error();
    fail(client, reason == NULL ? "TLS handshake failed" : reason);
}

static void on_connected(struct client *client)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
        fail(client, strerror(error));
        return;
    }
    if (client->ssl == NULL) {
        send_connect(client);
        return;
    }
    client->state = CLIENT_HANDSHAKE;
    on_handshake(client);
}

static void flush(struct client *client)
{
    while (client->out_sent < client->out_size) {
        const uint8_t *from = client->out + client->out_sent;
        size_t left = client->out_size - client->out_sent;
        ssize_t n =
            client->ssl == NULL ? write(client->fd, from, left) : SSL_write(client->ssl, from, (int)left);
        if (n <= 0)
            break;
        client->out_sent += (size_t)n;
    }
    ERR_clear_error();
    bool left = client->out_sent < client->out_size;
    if (!left)
        client->out_size = client->out_sent = 0;
    watch(client, left);
}

static void on_event(struct client *client, uint32_t events)
{
    if (client->state == CLIENT_CONNECTING && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        on_connected(client);
        return;
    }
    if (client->state == CLIENT_HANDSHAKE) {
        on_handshake(client);
        return;
    }
    if (events & EPOLLOUT)
        flush(client);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        on_readable(client);
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
        if (client->state != CLIENT_FAILED && client->fd >= 0)
            on_event(client, events[i].events);
    }
    while (loop->dirty != NULL) {
        struct client *client = loop->dirty;
        loop->dirty = client->next_dirty;
        client->dirty = false;
        if (client->fd >= 0 && client->state != CLIENT_FAILED)
            flush(client);
    }
}
