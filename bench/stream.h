/*
 * A connection of the load tools that brings and takes whole MQTT packets: TCP, optional TLS, buffers, and
 * the epoll loop over many of them. Knows nothing of what the packets say. Never blocks; everything comes by
 * callbacks from stream_loop_turn(). One thread. Without memory for a buffer it aborts: a tool may.
 */
#ifndef BENCH_STREAM_H
#define BENCH_STREAM_H

#include "shared/bytes.h"
#include "shared/mqtt_decode.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* What stream_fail() says when nobody listens there. */
#define STREAM_REFUSED "connection refused"

enum stream_state {
    STREAM_CLOSED,     /* no connection, or one that has ended and waits for stream_close() */
    STREAM_CONNECTING, /* TCP */
    STREAM_HANDSHAKE,  /* TLS */
    STREAM_OPEN,
};

struct stream_buffer {
    uint8_t *data; /* owned */
    size_t size, capacity;
};

struct stream { /* embedded in its owner; fd must be -1 before the first use */
    struct stream_loop *loop;
    int fd;
    SSL *ssl; /* owned; NULL: plain */
    enum stream_state state;
    bool writing, dirty;
    bool pending; /* TLS holds bytes that epoll knows nothing of */
    struct stream *next_dirty;
    struct stream_buffer in, out;
    size_t out_sent;
};

struct stream_events {
    void (*opened)(struct stream *stream); /* TCP and TLS are up: packets may be put */
    void (*packet)(struct stream *stream, const struct mqtt_header *header, struct bytes body);
    /* Ended by the broker or by stream_fail(); nothing more comes. May call stream_close(). */
    void (*ended)(struct stream *stream, const char *why);
};

struct stream_loop {
    int epoll;
    struct stream *dirty;
    uint8_t *scratch; /* owned */
    const struct stream_events *events;
};

/* False with errno when there is no memory or no descriptor. */
bool stream_loop_open(struct stream_loop *loop, const struct stream_events *events);
void stream_loop_close(struct stream_loop *loop);
/* Waits up to timeout_us for events, handles them, flushes. */
void stream_loop_turn(struct stream_loop *loop, uint64_t timeout_us);

/* Starts to connect. Takes `ssl`, in its client's state but for the descriptor; NULL: plain. False with
 * errno: stream_close() it. */
bool stream_open(struct stream *stream, struct stream_loop *loop, const struct sockaddr *address,
    socklen_t size, SSL *ssl);
/* Room for a packet of `size` bytes, all of which the caller fills; it goes out at the end of the turn. */
uint8_t *stream_put(struct stream *stream, size_t size);
/* Gives back the end of what was put last. */
void stream_unput(struct stream *stream, size_t size);
/* The owner has found something wrong: calls `ended`, once. */
void stream_fail(struct stream *stream, const char *why);
/* Gives the connection away, open and unwatched, to whom stream_drop() it: *ret_fd -1 if there is none. */
void stream_part(struct stream *stream, int *ret_fd, SSL **ret_ssl);
void stream_drop(int *fd, SSL **ssl);
/* Without a word; the buffers stay for the next connection. */
void stream_close(struct stream *stream);
/* The buffers, too. */
void stream_free(struct stream *stream);

#endif
