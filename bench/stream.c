/*
 * The bytes of the load tools' connections. What is read is decoded where it was read, unless a packet is
 * incomplete: then it gathers in the stream's own buffer.
 */
#include "bench/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define READ_SIZE 65536
#define EVENTS    512

/* Opening and closing
 * ------------------------------------------------------------------------------------------ */

static void watch(struct stream *stream, bool writing)
{
    if (stream->writing == writing)
        return;
    stream->writing = writing;
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = stream};
    epoll_ctl(stream->loop->epoll, EPOLL_CTL_MOD, stream->fd, &event);
}

bool stream_open(
    struct stream *stream, struct stream_loop *loop, const struct sockaddr *address, socklen_t size, SSL *ssl)
{
    stream->loop = loop;
    stream->ssl = ssl;
    stream->state = STREAM_CONNECTING;
    stream->in.size = stream->out.size = stream->out_sent = 0;
    stream->writing = true;
    stream->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (stream->fd < 0)
        return false;
    int one = 1;
    setsockopt(stream->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(stream->fd, address, size) != 0 && errno != EINPROGRESS)
        return false;
    if (ssl != NULL) {
        if (SSL_set_fd(ssl, stream->fd) != 1)
            return false;
        SSL_set_connect_state(ssl);
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = stream};
    return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, stream->fd, &event) == 0;
}

void stream_fail(struct stream *stream, const char *why)
{
    if (stream->state == STREAM_CLOSED)
        return;
    stream->state = STREAM_CLOSED;
    stream->loop->events->ended(stream, why);
}

void stream_part(struct stream *stream, int *ret_fd, SSL **ret_ssl)
{
    if (stream->fd >= 0)
        epoll_ctl(stream->loop->epoll, EPOLL_CTL_DEL, stream->fd, NULL);
    *ret_fd = stream->fd;
    *ret_ssl = stream->ssl;
    stream->fd = -1;
    stream->ssl = NULL;
    stream->state = STREAM_CLOSED;
}

void stream_drop(int *fd, SSL **ssl)
{
    if (*ssl != NULL) {
        SSL_set_quiet_shutdown(*ssl, 1);
        SSL_shutdown(*ssl); /* its session may be resumed */
        SSL_free(*ssl);
    }
    *ssl = NULL;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void stream_close(struct stream *stream)
{
    stream->state = STREAM_CLOSED;
    stream_drop(&stream->fd, &stream->ssl);
    stream->in.size = stream->out.size = stream->out_sent = 0;
}

void stream_free(struct stream *stream)
{
    stream_close(stream);
    free(stream->in.data);
    free(stream->out.data);
    stream->in = stream->out = (struct stream_buffer){0};
}

/* Out
 * ---------------------------------------------------------------------------------------------------------
 */

static void grow(struct stream_buffer *buffer, size_t size)
{
    if (buffer->size + size <= buffer->capacity)
        return;
    buffer->capacity = (buffer->size + size) * 2 + 256;
    buffer->data = realloc(buffer->data, buffer->capacity);
    if (buffer->data == NULL)
        abort();
}

uint8_t *stream_put(struct stream *stream, size_t size)
{
    grow(&stream->out, size);
    if (!stream->dirty) {
        stream->dirty = true;
        stream->next_dirty = stream->loop->dirty;
        stream->loop->dirty = stream;
    }
    uint8_t *to = stream->out.data + stream->out.size;
    stream->out.size += size;
    return to;
}

void stream_unput(struct stream *stream, size_t size)
{
    stream->out.size -= size;
}

static void flush(struct stream *stream)
{
    if (stream->state != STREAM_OPEN)
        return;
    while (stream->out_sent < stream->out.size) {
        const uint8_t *from = stream->out.data + stream->out_sent;
        size_t left = stream->out.size - stream->out_sent;
        ssize_t n = stream->ssl == NULL ? send(stream->fd, from, left, MSG_NOSIGNAL)
                                        : SSL_write(stream->ssl, from, (int)left);
        if (n <= 0)
            break; /* a broken one is found by reading, behind what it still brought */
        stream->out_sent += (size_t)n;
    }
    ERR_clear_error();
    bool left = stream->out_sent < stream->out.size;
    if (!left)
        stream->out.size = stream->out_sent = 0;
    watch(stream, left);
}

/* In
 * ----------------------------------------------------------------------------------------------------------
 */

static size_t on_bytes(struct stream *stream, const uint8_t *data, size_t size)
{
    size_t used = 0;
    while (used < size && stream->state == STREAM_OPEN) {
        struct mqtt_header header;
        struct mqtt_fault fault;
        enum status status = mqtt_decode_header(data + used, size - used, UINT32_MAX, &header, &fault);
        if (status == STATUS_AGAIN)
            break;
        if (status != STATUS_OK) {
            stream_fail(stream, fault.text);
            break;
        }
        size_t whole = (size_t)header.header_size + header.remaining_size;
        if (size - used < whole)
            break;
        stream->loop->events->packet(
            stream, &header, bytes_of(data + used + header.header_size, header.remaining_size));
        used += whole;
    }
    return used;
}

/* Bytes read; 0: nothing now; -1: the end. */
static ssize_t receive(const struct stream *stream, uint8_t *to, size_t size)
{
    if (stream->ssl == NULL) {
        ssize_t n = read(stream->fd, to, size);
        return n > 0 ? n : (n < 0 && errno == EAGAIN ? 0 : -1);
    }
    size_t got = 0;
    while (got < size) {
        int n = SSL_read(stream->ssl, to + got, (int)(size - got));
        if (n <= 0) {
            int error = SSL_get_error(stream->ssl, n);
            bool ended = error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE;
            ERR_clear_error();
            return got > 0 ? (ssize_t)got : (ended ? -1 : 0);
        }
        got += (size_t)n;
    }
    return (ssize_t)got;
}

static void keep(struct stream *stream, const uint8_t *data, size_t size)
{
    grow(&stream->in, size);
    memcpy(stream->in.data + stream->in.size, data, size);
    stream->in.size += size;
}

static void on_readable(struct stream *stream)
{
    uint8_t *scratch = stream->loop->scratch;
    ssize_t n = receive(stream, scratch, READ_SIZE);
    if (n < 0)
        stream_fail(stream, "connection closed by the broker");
    if (n <= 0)
        return;
    stream->pending = stream->ssl != NULL && SSL_has_pending(stream->ssl);
    if (stream->in.size == 0) {
        size_t used = on_bytes(stream, scratch, (size_t)n);
        if (stream->state == STREAM_OPEN && used < (size_t)n)
            keep(stream, scratch + used, (size_t)n - used);
        return;
    }
    keep(stream, scratch, (size_t)n);
    size_t used = on_bytes(stream, stream->in.data, stream->in.size);
    if (stream->state != STREAM_OPEN)
        return;
    stream->in.size -= used;
    memmove(stream->in.data, stream->in.data + used, stream->in.size);
}

/* Events
 * ------------------------------------------------------------------------------------------------------ */

static void enter_open(struct stream *stream)
{
    stream->state = STREAM_OPEN;
    stream->loop->events->opened(stream);
}

static void on_handshake(struct stream *stream)
{
    int n = SSL_do_handshake(stream->ssl);
    if (n == 1) {
        enter_open(stream);
        return;
    }
    int error = SSL_get_error(stream->ssl, n);
    const char *reason = ERR_reason_error_string(ERR_get_error());
    ERR_clear_error();
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        watch(stream, error == SSL_ERROR_WANT_WRITE);
    else
        stream_fail(stream, reason == NULL ? "TLS handshake failed" : reason);
}

static void on_connected(struct stream *stream)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
        stream_fail(stream, error == ECONNREFUSED ? STREAM_REFUSED : strerror(error));
    } else if (stream->ssl == NULL) {
        enter_open(stream);
    } else {
        stream->state = STREAM_HANDSHAKE;
        on_handshake(stream);
    }
}

static void on_event(struct stream *stream, uint32_t events)
{
    if (stream->state == STREAM_CONNECTING) {
        on_connected(stream);
        return;
    }
    if (stream->state == STREAM_HANDSHAKE) {
        on_handshake(stream);
        return;
    }
    if (events & EPOLLOUT)
        flush(stream);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0)
        return;
    do {
        stream->pending = false;
        on_readable(stream);
    } while (stream->pending && stream->state == STREAM_OPEN);
}

/* The loop
 * ---------------------------------------------------------------------------------------------------- */

bool stream_loop_open(struct stream_loop *loop, const struct stream_events *events)
{
    *loop = (struct stream_loop){.epoll = epoll_create1(EPOLL_CLOEXEC), .events = events};
    loop->scratch = malloc(READ_SIZE);
    return loop->epoll >= 0 && loop->scratch != NULL;
}

void stream_loop_close(struct stream_loop *loop)
{
    if (loop->epoll >= 0)
        close(loop->epoll);
    free(loop->scratch);
    *loop = (struct stream_loop){.epoll = -1};
}

void stream_loop_turn(struct stream_loop *loop, uint64_t timeout_us)
{
    struct epoll_event events[EVENTS];
    if (loop->dirty != NULL)
        timeout_us = 0;
    struct timespec timeout = {(time_t)(timeout_us / 1000000), (long)(timeout_us % 1000000) * 1000};
    int count = epoll_pwait2(loop->epoll, events, EVENTS, &timeout, NULL);
    for (int i = 0; i < count; i++) {
        struct stream *stream = events[i].data.ptr;
        if (stream->state != STREAM_CLOSED)
            on_event(stream, events[i].events);
    }
    while (loop->dirty != NULL) {
        struct stream *stream = loop->dirty;
        loop->dirty = stream->next_dirty;
        stream->dirty = false;
        flush(stream);
    }
}
