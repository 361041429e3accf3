/*
 * Control messages over a seqpacket socket, with SCM_RIGHTS. Master and children.
 * Must never block in the event loop and never leak a descriptor that came with a bad message.
 */
#include "node/control_channel.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* The kernel bounds descriptors in flight per user; what it refuses is tried again after this. */
#define RETRY_US        10000
#define MESSAGES_A_TURN 64

union control_buffer {
    struct cmsghdr header; /* for its alignment */
    char bytes[CMSG_SPACE(sizeof(int) * CONTROL_DESCRIPTORS_MAX)];
};

struct queued_message {
    struct list link; /* in control_channel.queue */
    struct control_message message;
};

void control_close_descriptors(const struct control_message *message)
{
    for (unsigned i = 0; i < message->descriptor_count; i++)
        close(message->descriptors[i]);
}

enum status control_send(int fd, const struct control_message *message)
{
    uint8_t bytes[CONTROL_SIZE_MAX];
    union control_buffer buffer;
    struct iovec part = {.iov_base = bytes, .iov_len = control_encode(message, bytes)};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    if (message->descriptor_count > 0) {
        size_t size = sizeof(int) * message->descriptor_count;
        memset(&buffer, 0, sizeof buffer);
        header.msg_control = buffer.bytes;
        header.msg_controllen = CMSG_SPACE(size);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(rights), message->descriptors, size);
    }
    ssize_t sent;
    do
        sent = sendmsg(fd, &header, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return STATUS_OK;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ETOOMANYREFS)
        return STATUS_AGAIN;
    return errno == EPIPE || errno == ECONNRESET ? STATUS_CLOSED : STATUS_SYSTEM;
}

/* Collects the descriptors of all SCM_RIGHTS; those beyond the room are closed. */
static unsigned take_descriptors(struct msghdr *header, int *descriptors)
{
    unsigned count = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part != NULL; part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t here = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < here; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
            if (count < CONTROL_DESCRIPTORS_MAX)
                descriptors[count++] = fd;
            else
                close(fd);
        }
    }
    return count;
}

enum status control_receive(int fd, struct control_message *ret_message)
{
    uint8_t bytes[CONTROL_SIZE_MAX];
    union control_buffer buffer;
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
    struct msghdr header = {.msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = buffer.bytes,
        .msg_controllen = sizeof buffer.bytes};
    ssize_t size;
    do
        size = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    if (size < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return STATUS_AGAIN;
        return errno == ECONNRESET ? STATUS_CLOSED : STATUS_SYSTEM;
    }
    struct control_message carried = {0};
    carried.descriptor_count = take_descriptors(&header, carried.descriptors);
    if (size == 0 && carried.descriptor_count == 0)
        return STATUS_CLOSED;
    enum status status = STATUS_PROTOCOL;
    if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0)
        status = control_decode(
            bytes_of(bytes, (size_t)size), carried.descriptors, carried.descriptor_count, ret_message);
    if (status != STATUS_OK)
        control_close_descriptors(&carried);
    return status;
}

static void on_readable(evutil_socket_t fd, short what, void *argument)
{
    (void)what;
    struct control_channel *channel = argument;
    for (unsigned i = 0; i < MESSAGES_A_TURN && channel->fd == fd; i++) {
        struct control_message message;
        enum status status = control_receive(fd, &message);
        if (status == STATUS_AGAIN)
            return;
        if (status != STATUS_OK) {
            event_del(channel->read);
            channel->on_closed(channel->context, status);
            return;
        }
        channel->on_message(channel->context, &message);
    }
}

/* Looks at the first bytes only: descriptors stay with the message. */
static bool news_is_next(int fd)
{
    uint8_t head[2];
    ssize_t size;
    do
        size = recv(fd, head, sizeof head, MSG_PEEK | MSG_DONTWAIT);
    while (size < 0 && errno == EINTR);
    return size > 0 && control_is_news(bytes_of(head, (size_t)size));
}

void control_channel_hear(struct control_channel *channel)
{
    struct control_message message;
    while (
        channel->fd >= 0 && news_is_next(channel->fd) && control_receive(channel->fd, &message) == STATUS_OK)
        channel->on_message(channel->context, &message);
}

static void retry_later(struct control_channel *channel)
{
    const struct timeval delay = {.tv_usec = RETRY_US};
    event_add(channel->retry, &delay);
}

static void on_retry(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct control_channel *channel = argument;
    list_for_each(&channel->queue, link, next)
    {
        struct queued_message *queued = list_entry(link, struct queued_message, link);
        /* A closed socket tells itself by end of file: what is queued for it is dropped here. */
        if (control_send(channel->fd, &queued->message) == STATUS_AGAIN) {
            retry_later(channel);
            return;
        }
        list_remove(link);
        channel->queued--;
        free(queued);
    }
}

enum status control_channel_open(struct control_channel *channel, int fd, struct event_base *base)
{
    channel->fd = fd;
    list_init(&channel->queue);
    channel->queued = 0;
    channel->read = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, channel);
    channel->retry = event_new(base, -1, 0, on_retry, channel);
    if (channel->read == NULL || channel->retry == NULL || event_add(channel->read, NULL) != 0) {
        control_channel_close(channel);
        return STATUS_NO_MEMORY;
    }
    return STATUS_OK;
}

void control_channel_close(struct control_channel *channel)
{
    if (channel->queue.next == NULL)
        return;
    list_for_each(&channel->queue, link, next)
    {
        list_remove(link);
        free(list_entry(link, struct queued_message, link));
    }
    channel->queued = 0;
    if (channel->read != NULL)
        event_free(channel->read);
    if (channel->retry != NULL)
        event_free(channel->retry);
    channel->read = channel->retry = NULL;
    if (channel->fd >= 0)
        close(channel->fd);
    channel->fd = -1;
}

enum status control_channel_send(struct control_channel *channel, const struct control_message *message)
{
    if (channel->fd < 0)
        return STATUS_CLOSED;
    if (list_empty(&channel->queue)) {
        enum status status = control_send(channel->fd, message);
        if (status != STATUS_AGAIN)
            return status;
    }
    if (channel->queued >= CONTROL_QUEUE_MAX)
        return STATUS_LIMIT;
    struct queued_message *queued = malloc(sizeof *queued);
    if (queued == NULL)
        return STATUS_NO_MEMORY;
    queued->message = *message;
    list_append(&channel->queue, &queued->link);
    channel->queued++;
    retry_later(channel);
    return STATUS_OK;
}
