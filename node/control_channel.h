/*
 * A control socket with its event and a bounded queue of messages that did not fit: never blocks, keeps
 * order, passes descriptors. One in each child, one per child in the master.
 */
#ifndef NODE_CONTROL_CHANNEL_H
#define NODE_CONTROL_CHANNEL_H

#include "node/control_message.h"
#include "shared/list.h"

#include <event2/event.h>

/* A peer that leaves this many messages unread is broken: control_channel_send() answers STATUS_LIMIT. */
#define CONTROL_QUEUE_MAX 1024

struct control_channel {
    int fd;              /* owned; -1: closed */
    struct event *read;  /* owned */
    struct event *retry; /* owned; pending while the queue is not empty */
    struct list queue;   /* of queued messages, oldest first */
    unsigned queued;
    void *context;
    /* The receiver owns the descriptors in the message. May close the channel. */
    void (*on_message)(void *context, const struct control_message *message);
    /* End of file (STATUS_CLOSED), or what came was no message (STATUS_PROTOCOL), or STATUS_SYSTEM. Called
       once; reading has stopped. */
    void (*on_closed)(void *context, enum status why);
};

/* One message, blocking or not as the socket is. The caller owns the descriptors received. STATUS_AGAIN,
   STATUS_CLOSED, STATUS_PROTOCOL, STATUS_SYSTEM. */
enum status control_receive(int fd, struct control_message *ret_message) CHECK_RESULT;
enum status control_send(int fd, const struct control_message *message) CHECK_RESULT;
void control_close_descriptors(const struct control_message *message);

/* Takes the non-blocking `fd` (also on failure) and starts to read. `context` and callbacks are set before.
 */
enum status control_channel_open(
    struct control_channel *channel, int fd, struct event_base *base) CHECK_RESULT;
/*
 * Calls on_message at once for what has come, without waiting for the loop, up to the first message that is
 * not news (control_is_news): that one, and a closed socket, are left to the loop.
 */
void control_channel_hear(struct control_channel *channel);
/* Drops what is queued. May be called on a closed (or zeroed and never opened) channel. */
void control_channel_close(struct control_channel *channel);

/* Sends, or queues when the socket is full; queued descriptors are borrowed until sent, so they must stay
   open as long as the channel. STATUS_LIMIT: the queue is full. STATUS_CLOSED: nobody reads. */
enum status control_channel_send(
    struct control_channel *channel, const struct control_message *message) CHECK_RESULT;

#endif
