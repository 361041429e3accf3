/*
 * What all connections have in common, and the plain one. Workers. The plain one keeps nothing: it
 * takes just what the kernel takes, so that it never has bytes left over.
 */
#include "shared/transport.h"

#include "shared/transport_tls.h"
#include "shared/transport_websocket.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Read and thrown away by one transport_drain() at most: 16 times its buffer. */
#define DRAIN_BUFFER 16384
#define DRAIN_READS  16

static enum status plain_handshake(struct transport *transport, struct tls_failure *ret_failure)
{
    (void)transport;
    (void)ret_failure;
    return STATUS_OK;
}

static enum status plain_read(struct transport *transport, uint8_t *to, size_t size, size_t *ret_size)
{
    ssize_t got;
    do
        got = recv(transport->fd, to, size, 0);
    while (got < 0 && errno == EINTR);
    if (got > 0) {
        *ret_size = (size_t)got;
        return STATUS_OK;
    }
    if (got == 0)
        return STATUS_CLOSED;
    return transport_socket_status(transport);
}

static enum status plain_writev(
    struct transport *transport, const struct iovec *pieces, int count, size_t *ret_taken)
{
    struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = (size_t)count};
    ssize_t sent;
    do
        sent = sendmsg(transport->fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        enum status status = transport_socket_status(transport);
        if (status != STATUS_AGAIN)
            return status;
        sent = 0;
    }
    *ret_taken = (size_t)sent;
    return STATUS_OK;
}

static enum status plain_nothing(struct transport *transport)
{
    (void)transport;
    return STATUS_OK;
}

void transport_socket_failure(const struct transport *transport, struct tls_failure *ret_failure)
{
    tls_failure_set(ret_failure, TLS_FAILURE_SYSTEM, "%s", strerror(transport->error));
}

static void plain_failure(const struct transport *transport, struct tls_failure *ret_failure)
{
    if (transport->error != 0)
        transport_socket_failure(transport, ret_failure);
    else
        tls_failure_set(ret_failure, TLS_FAILURE_NONE, "%s", "");
}

static const struct transport_ops plain_ops = {
    .handshake = plain_handshake,
    .read = plain_read,
    .writev = plain_writev,
    .flush = plain_nothing,
    .say_goodbye = plain_nothing,
    .failure = plain_failure,
};

void transport_init_plain(struct transport *transport, int fd)
{
    *transport = (struct transport){.ops = &plain_ops, .fd = fd};
}

enum status transport_socket_status(struct transport *transport)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return STATUS_AGAIN;
    transport->error = (uint16_t)errno;
    return STATUS_SYSTEM;
}

void transport_done(struct transport *transport)
{
    if (transport->websocket != NULL)
        transport_websocket_done(transport);
    transport_tls_done(transport);
    if (transport->fd >= 0)
        close(transport->fd);
    *transport = (struct transport){.fd = -1};
}

enum status transport_handshake(struct transport *transport, struct tls_failure *ret_failure)
{
    return transport->ops->handshake(transport, ret_failure);
}

enum status transport_read(struct transport *transport, uint8_t *to, size_t size, size_t *ret_size)
{
    assert(size >= TRANSPORT_READ_MIN);
    return transport->ops->read(transport, to, size, ret_size);
}

enum status transport_write(struct transport *transport, const uint8_t *from, size_t size, size_t *ret_taken)
{
    struct iovec piece = {(void *)from, size};
    return transport->ops->writev(transport, &piece, 1, ret_taken);
}

enum status transport_writev(
    struct transport *transport, const struct iovec *pieces, int count, size_t *ret_taken)
{
    return transport->ops->writev(transport, pieces, count, ret_taken);
}

enum status transport_flush(struct transport *transport)
{
    return transport->ops->flush(transport);
}

enum status transport_shutdown(struct transport *transport)
{
    enum status status = transport->ops->say_goodbye(transport);
    if (status != STATUS_OK)
        return status;
    if (shutdown(transport->fd, SHUT_WR) != 0)
        return transport_socket_status(transport);
    return STATUS_OK;
}

enum status transport_drain(struct transport *transport)
{
    uint8_t nowhere[DRAIN_BUFFER];
    for (int i = 0; i < DRAIN_READS; i++) {
        ssize_t got = recv(transport->fd, nowhere, sizeof nowhere, 0);
        if (got > 0 || (got < 0 && errno == EINTR))
            continue;
        return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? STATUS_AGAIN : STATUS_CLOSED;
    }
    return STATUS_AGAIN;
}

void transport_failure(const struct transport *transport, struct tls_failure *ret_failure)
{
    transport->ops->failure(transport, ret_failure);
}

bool transport_has_handshake(const struct transport *transport)
{
    return transport->ops != &plain_ops;
}
