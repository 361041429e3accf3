/*
 * nanomsg as the carrier of the worker bus. Why PUSH and PULL, level-triggered RCVFD, SNDFD only while
 * something was refused and a finite RCVMAXSIZE: each of the others loses messages, spins or aborts. What it
 * loses or repeats nevertheless does no harm: the window is the truth. Whatever is accepted may vanish with
 * either process.
 */
#include "shared/bus_carrier_nanomsg.h"

#include "shared/bus_frame.h"

#include <nanomsg/nn.h>
#include <nanomsg/pipeline.h>
#include <stdio.h>
#include <stdlib.h>

#define PEERS_MAX 64
/* Messages per callback: the loop's other work comes in between. */
#define DRAIN_MAX 64
/* Kernel buffer per peer: some full frames, so that a busy receiver refuses nothing for a turn or two. */
#define BUFFER_BYTES (512 << 10)
/* The first try comes at once. No back-off (RECONNECT_IVL_MAX 0): nanomsg never takes it back. */
#define RECONNECT_MS 50

struct peer {
    struct carrier *carrier; /* borrowed, back */
    unsigned slot;
    int socket;             /* PUSH; -1: none */
    struct event *writable; /* owned; pending only while a send was refused */
};

struct carrier {
    struct bus_carrier base; /* first */
    struct bus_carrier_nanomsg_settings settings;
    int inbox;              /* PULL; -1: none */
    struct event *readable; /* owned */
    struct peer peers[PEERS_MAX];
};

static struct carrier *carrier_of(struct bus_carrier *carrier)
{
    return (struct carrier *)(void *)carrier;
}

static void on_readable(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    struct carrier *carrier = context;
    for (unsigned i = 0; i < DRAIN_MAX; i++) {
        void *message;
        int size = nn_recv(carrier->inbox, &message, NN_MSG, NN_DONTWAIT);
        if (size < 0)
            return;
        /* No frame is as short as a doorbell. */
        if (size == 1 && carrier->settings.rang != NULL)
            carrier->settings.rang(carrier->settings.context);
        else
            carrier->settings.receive(carrier->settings.context, bytes_of(message, (size_t)size));
        nn_freemsg(message);
    }
}

static void on_writable(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    struct peer *peer = context;
    struct carrier *carrier = peer->carrier;
    event_del(peer->writable);
    carrier->settings.ready(carrier->settings.context, peer->slot);
}

/* One that finds no room is not missed: what is there already is as good, and the reader looks by itself. */
static enum status ring(struct carrier *carrier)
{
    void *message = nn_allocmsg(1, 0);
    if (message == NULL)
        return STATUS_OK;
    *(uint8_t *)message = 1;
    if (nn_send(carrier->peers[carrier->settings.via].socket, &message, NN_MSG, NN_DONTWAIT) < 0)
        nn_freemsg(message);
    return STATUS_OK;
}

static enum status carrier_send(struct bus_carrier *base, unsigned slot, struct bytes frames)
{
    struct carrier *carrier = carrier_of(base);
    if (carrier->settings.via != 0 && slot >= carrier->settings.rung)
        return ring(carrier);
    if (slot >= PEERS_MAX || carrier->peers[slot].socket < 0)
        return STATUS_NOT_FOUND;
    struct peer *peer = &carrier->peers[slot];
    void *message = nn_allocmsg(frames.size, 0);
    if (message == NULL)
        return STATUS_NO_MEMORY;
    memcpy(message, frames.data, frames.size);
    if (nn_send(peer->socket, &message, NN_MSG, NN_DONTWAIT) >= 0)
        return STATUS_OK;
    bool again = nn_errno() == EAGAIN || nn_errno() == EINTR;
    nn_freemsg(message);
    if (!again)
        return STATUS_SYSTEM;
    event_add(peer->writable, NULL);
    return STATUS_AGAIN;
}

static void carrier_free(struct bus_carrier **base)
{
    if (*base == NULL)
        return;
    struct carrier *carrier = carrier_of(*base);
    *base = NULL;
    if (carrier->readable != NULL)
        event_free(carrier->readable);
    if (carrier->inbox >= 0)
        nn_close(carrier->inbox);
    for (unsigned slot = 0; slot < PEERS_MAX; slot++) {
        struct peer *peer = &carrier->peers[slot];
        if (peer->writable != NULL)
            event_free(peer->writable);
        if (peer->socket >= 0)
            nn_close(peer->socket);
    }
    free(carrier);
}

static const struct bus_carrier_ops ops = {.send = carrier_send, .free = carrier_free};

static bool set_int(int socket, int option, int value)
{
    return nn_setsockopt(socket, NN_SOL_SOCKET, option, &value, sizeof value) == 0;
}

static void inbox_address(char *to, size_t size, unsigned slot)
{
    snprintf(to, size, "ipc://w%u.inbox", slot);
}

/* A level-triggered event on one of nanomsg's two descriptors; both signal by being readable. */
static struct event *socket_event(
    struct carrier *carrier, int socket, int option, event_callback_fn callback, void *context)
{
    int fd;
    size_t size = sizeof fd;
    if (nn_getsockopt(socket, NN_SOL_SOCKET, option, &fd, &size) != 0)
        return NULL;
    return event_new(carrier->settings.base, fd, EV_READ | EV_PERSIST, callback, context);
}

static enum status open_inbox(struct carrier *carrier)
{
    char address[64];
    inbox_address(address, sizeof address, carrier->settings.self);
    carrier->inbox = nn_socket(AF_SP, NN_PULL);
    if (carrier->inbox < 0 || !set_int(carrier->inbox, NN_RCVMAXSIZE, BUS_FRAME_MAX) ||
        !set_int(carrier->inbox, NN_RCVBUF, BUFFER_BYTES) || nn_bind(carrier->inbox, address) < 0)
        return STATUS_SYSTEM;
    carrier->readable = socket_event(carrier, carrier->inbox, NN_RCVFD, on_readable, carrier);
    if (carrier->readable == NULL || event_add(carrier->readable, NULL) != 0)
        return STATUS_NO_MEMORY;
    return STATUS_OK;
}

static enum status open_peer(struct carrier *carrier, struct peer *peer)
{
    char address[64];
    inbox_address(address, sizeof address, peer->slot);
    peer->socket = nn_socket(AF_SP, NN_PUSH);
    if (peer->socket < 0 || !set_int(peer->socket, NN_SNDBUF, BUFFER_BYTES) ||
        !set_int(peer->socket, NN_RECONNECT_IVL, RECONNECT_MS) ||
        !set_int(peer->socket, NN_RECONNECT_IVL_MAX, 0) || nn_connect(peer->socket, address) < 0)
        return STATUS_SYSTEM;
    peer->writable = socket_event(carrier, peer->socket, NN_SNDFD, on_writable, peer);
    return peer->writable != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

static enum status open_all(struct carrier *carrier)
{
    enum status status = open_inbox(carrier);
    for (unsigned slot = 0; slot < PEERS_MAX && status == STATUS_OK; slot++) {
        if (slot != carrier->settings.self && (carrier->settings.peers >> slot & 1) != 0)
            status = open_peer(carrier, &carrier->peers[slot]);
    }
    return status;
}

enum status bus_carrier_nanomsg_new(
    const struct bus_carrier_nanomsg_settings *settings, struct bus_carrier **ret_carrier)
{
    struct carrier *carrier = calloc(1, sizeof *carrier);
    if (carrier == NULL)
        return STATUS_NO_MEMORY;
    carrier->base.ops = &ops;
    carrier->settings = *settings;
    carrier->inbox = -1;
    for (unsigned slot = 0; slot < PEERS_MAX; slot++)
        carrier->peers[slot] = (struct peer){.carrier = carrier, .slot = slot, .socket = -1};
    enum status status = open_all(carrier);
    struct bus_carrier *base = &carrier->base;
    if (status != STATUS_OK) {
        int error = nn_errno();
        carrier_free(&base);
        errno = error;
        return status;
    }
    *ret_carrier = base;
    return STATUS_OK;
}

const char *bus_carrier_nanomsg_error(void)
{
    return nn_strerror(nn_errno());
}
