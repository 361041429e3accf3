/*
 * The books of the load checker: every publication and its fate, every arrival, every will. At the end they
 * say what the promises make of it: what was acknowledged arrived at each subscriber that stayed, QoS 2 once,
 * in order; each lost connection's will once and no other.
 *
 * A subscriber's *life* is the time in which its session was never lost, from its SUBACK on. Promises hold
 * for what was sent within a life; what came in an earlier one is forgotten.
 */
#ifndef TESTS_LOAD_BOOKS_H
#define TESTS_LOAD_BOOKS_H

#include "shared/bytes.h"

#include <stdbool.h>
#include <stdint.h>

#define BOOKS_WATCHERS_MAX 8 /* subscribers that get everything */

enum violation_kind {
    VIOLATION_MISSING, /* acknowledged, not arrived */
    VIOLATION_DOUBLE,  /* QoS 2 arrived again */
    VIOLATION_ORDER,   /* arrived behind a later one of its connection, topic and QoS */
    VIOLATION_CONTENT, /* damaged, unknown, or with the wrong QoS */
    VIOLATION_STRAY,   /* came to somebody who did not subscribe to it */
    VIOLATION_WILL,    /* a lost connection's will did not come */
    VIOLATION_WILL_TWICE,
    VIOLATION_WILL_WRONG, /* a will of a connection that lives or said goodbye */
    VIOLATION_REFUSED,    /* the broker closed a connection with a reason, or refused something */
    VIOLATION_SESSION,    /* a persistent session was not there any more */
    VIOLATION_KINDS,
};
const char *violation_text(enum violation_kind kind);

struct violation {
    enum violation_kind kind;
    uint32_t subscriber, publisher, sequence;
    int detail;
    uint64_t at_us;       /* when it was sent, or seen */
    uint64_t accepted_us; /* or 0 */
    uint32_t size;        /* of the payload, or 0 */
    uint32_t destination;
};

struct books;

/* `clients` is the greatest number of clients; numbers below `watchers` get everything and all wills. */
struct books *books_new(uint32_t clients, uint32_t watchers, size_t large_size);
void books_free(struct books *books);

/* Publications: returns the sequence. */
uint32_t books_publish(struct books *books, uint32_t publisher, uint32_t connection, uint32_t destination,
    uint8_t qos, size_t payload_size, uint64_t now_us);
/* The publication's topic and payload; they hold until the next call. */
void books_content(struct books *books, uint32_t publisher, uint32_t sequence, struct bytes *ret_topic,
    struct bytes *ret_payload, uint8_t *ret_qos);
/* Returns the time since it was sent; 0 if that was by an earlier connection. */
uint64_t books_accepted(struct books *books, uint32_t publisher, uint32_t connection, uint32_t sequence,
    bool good, uint64_t now_us);

/* A new life of a subscriber begins: SUBACK. */
void books_life(struct books *books, uint32_t subscriber, uint64_t now_us);
void books_life_ended(struct books *books, uint32_t subscriber);
void books_arrived(struct books *books, uint32_t subscriber, struct bytes topic, struct bytes payload,
    uint8_t qos, uint64_t now_us);

/* A connection whose CONNECT had a will ended: `due` it must come (it was up at `alive_us`); else it may. */
void books_will(struct books *books, uint32_t client, uint32_t connection, bool due, uint64_t alive_us);

void books_violation(struct books *books, const struct violation *violation);

struct books_figures {
    uint64_t published, accepted, refused, unknown;
    uint64_t arrived;           /* at all subscribers, repeated QoS 1 included */
    uint64_t repeated;          /* QoS 1 that came again */
    uint64_t expected, missing; /* pairs of acknowledged publication and subscriber */
    uint64_t wills_due, wills_arrived;
    uint64_t subscribers_whole; /* in their first life still */
};
/* What is missing at one subscriber: how many, and when the first and the last of them were sent. */
uint64_t books_missing_at(
    const struct books *books, uint32_t subscriber, uint64_t *ret_first_us, uint64_t *ret_last_us);
/* Pairs that are still missing. Walks everything. */
uint64_t books_missing(const struct books *books);
/* Adds the violations that only the end can tell; to be called once. */
void books_close(struct books *books, struct books_figures *ret_figures);
uint64_t books_violations(const struct books *books, enum violation_kind kind);
/* The first ones, at most `room` of them; returns how many. */
uint32_t books_first(const struct books *books, struct violation *to, uint32_t room);

#endif
