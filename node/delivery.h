/*
 * What a session still owes its client: one struct delivery per publication that waits in its queue or is in
 * flight. Two rings of them: delivery_queue (a FIFO) and inflight_window (by packet identifier). Pure data
 * structures: no encoding, no socket. Worker process.
 */
#ifndef NODE_DELIVERY_H
#define NODE_DELIVERY_H

#include "shared/publication.h"

struct delivery_share;

enum delivery_state {
    DELIVERY_FREE = 0,  /* hole in the window: acknowledged already */
    DELIVERY_QUEUED,    /* waits; has no packet identifier yet */
    DELIVERY_PUBLISHED, /* PUBLISH sent (or to be sent again), waits for PUBACK or PUBREC */
    DELIVERY_RELEASED,  /* QoS 2: PUBREC came, PUBREL sent, waits for PUBCOMP; publication is NULL */
};

struct delivery {
    struct publication *publication; /* one reference; NULL in DELIVERY_RELEASED and DELIVERY_FREE */
    uint32_t *identifiers;           /* owned; [0] is the number that follow; NULL: none or one */
    struct delivery_share *share;    /* owned; NULL: it did not come by a shared group */
    uint32_t identifier;             /* the only Subscription Identifier, 0: none */
    uint16_t packet_id;              /* in flight only */
    uint8_t qos;                     /* to deliver with */
    uint8_t state;                   /* enum delivery_state */
    bool retain;                     /* RETAIN flag to deliver with */
    bool sent_before;                /* may have reached the client: DUP is set when it is sent again */
};

/* Frees what a delivery owns and marks it free. */
void delivery_clear(struct delivery *delivery);

struct delivery_queue {
    struct delivery *ring; /* NULL while never used or empty for long */
    uint32_t capacity;     /* power of two, or 0 */
    uint32_t head;         /* index of the oldest */
    uint32_t count;
    size_t bytes; /* publication_size() of all */
};

/* Appends; takes what the delivery owns. STATUS_NO_MEMORY: nothing taken. */
enum status delivery_queue_push(struct delivery_queue *queue, const struct delivery *delivery) CHECK_RESULT;
/* The oldest, or NULL. Valid until the next push or pop. */
struct delivery *delivery_queue_first(struct delivery_queue *queue);
/* The i-th from the oldest (0 … count-1). */
struct delivery *delivery_queue_at(struct delivery_queue *queue, uint32_t i);
/* Removes the oldest without freeing what it owns: the caller has copied it. */
void delivery_queue_pop(struct delivery_queue *queue);
/* Frees all. */
void delivery_queue_clear(struct delivery_queue *queue);

/*
 * Outgoing QoS 1 and 2 in the order of their first PUBLISH. Packet identifiers are given in turn, so that the
 * slot of an identifier is its distance from the oldest one: look-up and release are O(1), and retransmission
 * walks from the oldest [MQTT-4.4.0-1, MQTT-4.6.0-1].
 */
struct inflight_window {
    struct delivery *ring;
    uint32_t capacity; /* power of two, or 0 */
    uint32_t head;     /* index of the oldest slot */
    uint32_t span;     /* slots from the oldest to the newest, holes included */
    uint32_t count;    /* slots that are not holes */
    size_t bytes;      /* publication_size() of all publications in it */
    uint16_t first_id; /* packet identifier of the oldest slot */
    uint16_t next_id;  /* the next one to give; never 0 */
};

/* Widest span: one client that never acknowledges one packet stops its window, nothing else. */
#define INFLIGHT_SPAN_MAX 32768

void inflight_init(struct inflight_window *window);
bool inflight_has_room(const struct inflight_window *window, uint32_t limit, size_t bytes_limit);
/* Takes the delivery, gives it a packet identifier; *ret_slot is valid until the next call that changes the
 * window. */
enum status inflight_add(
    struct inflight_window *window, const struct delivery *delivery, struct delivery **ret_slot) CHECK_RESULT;
/* Puts one back with the packet identifier that it has (a session that moved in), in ascending order of
 * sending. */
enum status inflight_restore(struct inflight_window *window, const struct delivery *delivery) CHECK_RESULT;
/* The slot of a packet identifier in flight, or NULL. */
struct delivery *inflight_find(struct inflight_window *window, uint16_t packet_id);
/* The first in flight with that packet identifier or one given later; NULL: none. */
struct delivery *inflight_from(struct inflight_window *window, uint16_t packet_id);
/* The identifier after that one; 0 is never one. */
uint16_t inflight_id_after(uint16_t packet_id);
/* PUBREC came: the publication is not needed any more. */
void inflight_received(struct inflight_window *window, struct delivery *slot);
/* Frees the slot; leading holes are passed. */
void inflight_release(struct inflight_window *window, struct delivery *slot);
/* The i-th slot from the oldest (0 … span-1); may be a hole. */
struct delivery *inflight_at(struct inflight_window *window, uint32_t i);
void inflight_clear(struct inflight_window *window);

#endif
