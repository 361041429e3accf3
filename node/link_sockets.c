/*
 * Sockets of the link. Why PUSH and PULL, one inbox for all, level-triggered descriptors, a finite RCVMAXSIZE
 * and no back-off: as in shared/bus_carrier_nanomsg.c. What is lost or comes from strangers does no harm:
 * sessions are encrypted and find every hole.
 */
#include "node/link_sockets.h"

#include "cluster/wire.h"

#include <nanomsg/nn.h>
#include <nanomsg/pipeline.h>
#include <nanomsg/tcp.h>
#include <stdio.h>
#include <stdlib.h>

#define DRAIN_MAX    64
#define BUFFER_BYTES (512 << 10)
#define RECONNECT_MS 50

struct node_socket {
    struct link_sockets *sockets; /* borrowed, back */
    unsigned node;
    int socket; /* PUSH; -1: none */
    struct event *writable;
    uint64_t broken; /* connections that ended, as last seen */
};

struct link_sockets {
    struct link_sockets_settings settings;
    int inbox;
    struct event *readable;
    unsigned count;
    struct node_socket nodes[];
};

const char *link_sockets_error(void)
{
    return nn_strerror(nn_errno());
}

static void on_readable(evutil_socket_t fd, short events, void *context)
{
    struct link_sockets *sockets = context;
    (void)fd;
    (void)events;
    for (unsigned i = 0; i < DRAIN_MAX; i++) {
        void *message;
        int size = nn_recv(sockets->inbox, &message, NN_MSG, NN_DONTWAIT);
        if (size < 0)
            return;
        sockets->settings.receive(sockets->settings.context, bytes_of(message, (size_t)size));
        nn_freemsg(message);
    }
}

static void on_writable(evutil_socket_t fd, short events, void *context)
{
    struct node_socket *node = context;
    (void)fd;
    (void)events;
    event_del(node->writable);
    node->sockets->settings.writable(node->sockets->settings.context, node->node);
}

static bool set_int(int socket, int level, int option, int value)
{
    return nn_setsockopt(socket, level, option, &value, sizeof value) == 0;
}

static struct event *socket_event(
    struct link_sockets *sockets, int socket, int option, event_callback_fn callback, void *context)
{
    int fd;
    size_t size = sizeof fd;
    if (nn_getsockopt(socket, NN_SOL_SOCKET, option, &fd, &size) != 0)
        return NULL;
    return event_new(sockets->settings.base, fd, EV_READ | EV_PERSIST, callback, context);
}

/* nanomsg 1.1.5 aborts when it connects to an IPv4 address with NN_IPV4ONLY off (measured). */
static int open_socket(int protocol, const char *address)
{
    bool ipv6 = strchr(address, '[') != NULL;
    int socket = nn_socket(AF_SP, protocol);
    if (socket < 0)
        return -1;
    if ((!ipv6 || set_int(socket, NN_SOL_SOCKET, NN_IPV4ONLY, 0)) &&
        set_int(socket, NN_TCP, NN_TCP_NODELAY, 1) &&
        set_int(socket, NN_SOL_SOCKET, NN_RCVMAXSIZE, WIRE_MESSAGE_MAX))
        return socket;
    nn_close(socket);
    return -1;
}

static void address_of(const struct link_sockets *sockets, unsigned node, char *to, size_t size)
{
    snprintf(to, size, "tcp://%s", sockets->settings.cluster->nodes[node].bus.text);
}

static enum status open_inbox(struct link_sockets *sockets)
{
    char address[128];
    address_of(sockets, (unsigned)sockets->settings.cluster->self, address, sizeof address);
    sockets->inbox = open_socket(NN_PULL, address);
    if (sockets->inbox < 0 || !set_int(sockets->inbox, NN_SOL_SOCKET, NN_RCVBUF, BUFFER_BYTES) ||
        nn_bind(sockets->inbox, address) < 0)
        return STATUS_SYSTEM;
    sockets->readable = socket_event(sockets, sockets->inbox, NN_RCVFD, on_readable, sockets);
    if (sockets->readable == NULL || event_add(sockets->readable, NULL) != 0)
        return STATUS_NO_MEMORY;
    return STATUS_OK;
}

static enum status open_node(struct link_sockets *sockets, struct node_socket *node)
{
    char address[128];
    address_of(sockets, node->node, address, sizeof address);
    node->socket = open_socket(NN_PUSH, address);
    if (node->socket < 0 || !set_int(node->socket, NN_SOL_SOCKET, NN_SNDBUF, BUFFER_BYTES) ||
        !set_int(node->socket, NN_SOL_SOCKET, NN_RECONNECT_IVL, RECONNECT_MS) ||
        !set_int(node->socket, NN_SOL_SOCKET, NN_RECONNECT_IVL_MAX, 0) ||
        nn_connect(node->socket, address) < 0)
        return STATUS_SYSTEM;
    node->writable = socket_event(sockets, node->socket, NN_SNDFD, on_writable, node);
    return node->writable != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

enum status link_sockets_open(const struct link_sockets_settings *settings, struct link_sockets **ret_sockets)
{
    unsigned count = (unsigned)settings->cluster->count;
    struct link_sockets *sockets = calloc(1, sizeof *sockets + count * sizeof sockets->nodes[0]);
    if (sockets == NULL)
        return STATUS_NO_MEMORY;
    sockets->settings = *settings;
    sockets->inbox = -1;
    sockets->count = count;
    for (unsigned node = 0; node < count; node++)
        sockets->nodes[node] = (struct node_socket){.sockets = sockets, .node = node, .socket = -1};
    enum status status = open_inbox(sockets);
    for (unsigned node = 0; node < count && status == STATUS_OK; node++) {
        if (node != settings->cluster->self)
            status = open_node(sockets, &sockets->nodes[node]);
    }
    if (status != STATUS_OK) {
        int error = nn_errno();
        link_sockets_close(&sockets);
        errno = error;
        return status;
    }
    *ret_sockets = sockets;
    return STATUS_OK;
}

void link_sockets_close(struct link_sockets **sockets)
{
    struct link_sockets *it = *sockets;
    *sockets = NULL;
    if (it == NULL)
        return;
    if (it->readable != NULL)
        event_free(it->readable);
    if (it->inbox >= 0)
        nn_close(it->inbox);
    for (unsigned node = 0; node < it->count; node++) {
        if (it->nodes[node].writable != NULL)
            event_free(it->nodes[node].writable);
        if (it->nodes[node].socket >= 0)
            nn_close(it->nodes[node].socket);
    }
    free(it);
}

enum status link_sockets_send(struct link_sockets *sockets, unsigned number, struct bytes bytes)
{
    struct node_socket *node = &sockets->nodes[number];
    void *message = nn_allocmsg(bytes.size, 0);
    if (message == NULL)
        return STATUS_NO_MEMORY;
    memcpy(message, bytes.data, bytes.size);
    if (nn_send(node->socket, &message, NN_MSG, NN_DONTWAIT) >= 0)
        return STATUS_OK;
    bool again = nn_errno() == EAGAIN || nn_errno() == EINTR;
    nn_freemsg(message);
    if (!again)
        return STATUS_SYSTEM;
    event_add(node->writable, NULL);
    return STATUS_AGAIN;
}

void link_sockets_tick(struct link_sockets *sockets)
{
    for (unsigned number = 0; number < sockets->count; number++) {
        struct node_socket *node = &sockets->nodes[number];
        if (node->socket < 0)
            continue;
        uint64_t broken = nn_get_statistic(node->socket, NN_STAT_BROKEN_CONNECTIONS);
        if (broken == node->broken || broken == (uint64_t)-1)
            continue;
        node->broken = broken;
        sockets->settings.broken(sockets->settings.context, number);
    }
}
