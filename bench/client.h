/*
 * One MQTT client of the load generator, on a stream. Never blocks; everything comes by callbacks from
 * client_loop_turn(). One thread.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include "bench/stream.h"
#include "shared/bytes.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

struct client;

struct client_loop {
    struct stream_loop streams;
    void *context;
    void (*ready)(struct client *client); /* CONNACK 0, or SUBACK after client_subscribe() */
    void (*failed)(struct client *client, const char *why);
    void (*publish)(struct client *client, struct bytes topic, struct bytes payload, uint8_t qos);
    void (*acknowledged)(struct client *client); /* PUBACK or PUBCOMP of one of ours */
};

enum client_state { CLIENT_CONNECTING, CLIENT_WAITING, CLIENT_READY, CLIENT_FAILED };

struct client {
    struct client_loop *loop;
    void *owner;
    uint32_t number; /* the owner's */
    struct stream stream;
    enum client_state state;
    uint8_t version; /* 4 or 5 */
    uint16_t next_id;
    SSL_SESSION *resume; /* owned: from an earlier connection */
    char id[48];
};

/* STATUS-like: false with errno when epoll cannot be had. */
bool client_loop_init(struct client_loop *loop);
void client_loop_done(struct client_loop *loop);
/* Waits up to timeout_us for events, handles them, flushes. */
void client_loop_turn(struct client_loop *loop, uint64_t timeout_us);

/* Starts to connect; CONNECT follows by itself (clean session, keep alive off). */
bool client_open(struct client_loop *loop, struct client *client, const struct sockaddr *address,
    socklen_t size, SSL_CTX *context, const char *host);
void client_subscribe(struct client *client, const char *filter, uint8_t qos);
/* Queues a PUBLISH; it goes out at the end of the turn. */
void client_publish(struct client *client, struct bytes topic, struct bytes payload, uint8_t qos);
void client_disconnect(struct client *client);
void client_close(struct client *client);

#endif
