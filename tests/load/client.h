/*
 * One MQTT client of the load checker: a connection (plain or TLS, non-blocking) and the session that
 * outlives it: what it has published and not seen acknowledged, and the QoS 2 packet identifiers that it
 * holds. It behaves as a careful client must; what arrived and what should have is the business of books.h.
 */
#ifndef TESTS_LOAD_CLIENT_H
#define TESTS_LOAD_CLIENT_H

#include "bench/stream.h"
#include "shared/bytes.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

/* Unacknowledged publications of one client at most: below the broker's Receive Maximum. */
#define CLIENT_WINDOW_MAX 64

struct client;

/* What the scenario hears. `context` is that of client_loop. */
struct client_events {
    /* CONNACK 0. The client may publish from now on; what is resent has been resent. */
    void (*connected)(struct client *client, bool session_present);
    void (*subscribed)(struct client *client);
    /* PUBACK or PUBREC came for a publication of this session; false: with an error. */
    void (*accepted)(struct client *client, uint32_t sequence, bool good);
    /* A window place is free. */
    void (*completed)(struct client *client);
    /* An application message: a QoS 2 packet that is repeated comes once. */
    void (*arrived)(struct client *client, struct bytes topic, struct bytes payload, uint8_t qos);
    /* The connection ended, not by client_close(). `reason`: that of a DISCONNECT or CONNACK, else -1. */
    void (*lost)(struct client *client, const char *why, int reason);
    /* The publication as it was sent before; the pointers hold until the next call. */
    void (*content)(struct client *client, uint32_t sequence, struct bytes *ret_topic,
        struct bytes *ret_payload, uint8_t *ret_qos);
};

struct client_loop {
    struct stream_loop streams;
    SSL_CTX *tls;
    const struct client_events *events;
};

enum client_state { CLIENT_CLOSED, CLIENT_CONNECTING, CLIENT_WAITING, CLIENT_READY };

struct client_outgoing { /* one place of the window, in the order of sending */
    uint32_t sequence;
    uint16_t packet_id;
    uint8_t qos;
    bool received; /* PUBREC came: PUBREL was sent */
};

struct client {
    struct client_loop *loop;
    uint32_t number;
    uint8_t version; /* 4 or 5 */
    bool persistent; /* the session outlives the connection */
    const char *will_topic;
    uint8_t will_payload[8];

    /* The connection */
    struct stream stream;
    int former_fd; /* still open, not read, until the new one has CONNACK */
    SSL *former_ssl;
    enum client_state state;
    int reason;          /* of what it is lost by: that of a DISCONNECT or CONNACK; -1: none */
    uint16_t port;       /* our own end's: tells the broker's end apart in /proc */
    uint32_t connection; /* counts them */
    uint64_t opened_us, connected_us, read_us, subscribe_us;
    uint64_t rival_us; /* when the last connection was opened that we gave up with its CONNECT unanswered */

    /* The session */
    uint16_t next_id;
    unsigned window_count;
    struct client_outgoing window[CLIENT_WINDOW_MAX];
    uint64_t held[65536 / 64]; /* packet identifiers of QoS 2 that wait for PUBREL */
};

/* False with errno when there is no memory or no descriptor. tls may be NULL. */
bool client_loop_open(struct client_loop *loop, SSL_CTX *tls, const struct client_events *events);
void client_loop_close(struct client_loop *loop);
/* Waits up to timeout_us for events, handles them, flushes. */
void client_loop_turn(struct client_loop *loop, uint64_t timeout_us);

/* Opens a connection to 127.0.0.1:port; one that is open stays open, unread, until the new one has CONNACK.
 * False with errno. */
bool client_open(struct client *client, uint16_t port, bool tls);
void client_subscribe(struct client *client, const char *const *filters, unsigned count);
/* There must be room in the window (client_window_free) and the client must be ready. */
void client_publish(struct client *client, uint32_t sequence);
static inline bool client_window_free(const struct client *client, unsigned window)
{
    return client->state == CLIENT_READY && client->window_count < window;
}
void client_disconnect(struct client *client);
/* Without a word. The session's state stays. */
void client_close(struct client *client);
/* The session is gone: nothing is resent, nothing held. */
void client_session_clear(struct client *client);
void client_free(struct client *client);

uint64_t load_now_us(void);

#endif
