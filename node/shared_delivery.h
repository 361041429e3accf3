/*
 * Shared subscriptions in a worker [MQTT 4.8.2, BUS rules 8]: picks the members that get a publication,
 * delivers to those of this worker, and hands on what a member leaves behind. Worker process.
 */
#ifndef NODE_SHARED_DELIVERY_H
#define NODE_SHARED_DELIVERY_H

#include "shared/list.h"
#include "shared/publication.h"
#include "shared/status.h"
#include "shared/topic_index.h"

struct delivery;
struct session;
struct worker;

/* Kept at a delivery that came by a shared group: what must be known to hand it on. */
struct delivery_share {
    struct worker *worker;
    struct topic_group *group; /* held */
    uint64_t incarnation;      /* of the peer that keeps a copy until this one is settled */
    uint64_t number;           /* of that copy; 0: there is none */
    uint8_t peer;
    uint8_t hops;
};

/* The delivery is over, whatever became of it: settles it. Nulls the pointer; NULL is allowed. */
void delivery_share_end(struct delivery_share **share);
/* The session itself keeps it from now on, and it may still be handed on. */
void delivery_share_settle(struct delivery_share *share);
/* Its first PUBLISH is in the output: one of QoS 2 goes to nobody else from here on [MQTT-4.8.2-5]. */
void delivery_share_sent(struct delivery *delivery);

/* A group that matches what is being routed, and the slot that was picked. */
struct share_target {
    struct topic_group *group;
    uint64_t number; /* of the copy to keep; 0: none */
    unsigned slot;
};

/* In the worker's context. */
struct shared_deliveries {
    struct share_target *targets; /* scratch of one publication */
    uint32_t target_count, target_capacity;
    uint8_t *record; /* scratch: its picks for the bus */
    size_t record_size, record_capacity;
    uint64_t random;
    uint64_t given_up;   /* peers whose copies were handed on since their lanes were given up */
    struct list waiting; /* handed on, but no lane has room yet */
    bool settle_first;   /* before a client's socket is written, peers must be told */
};

enum status shared_open(struct worker *worker) CHECK_RESULT;
void shared_done(struct worker *worker);

/*
 * Picks a member of each group that matches: adds their slots to *peers, *durable and view->shares. Returns
 * how many groups have somebody. Once the publication is taken, shared_routed() makes it so; without it
 * nothing has happened.
 */
uint32_t shared_pick(struct worker *worker, const struct topic_match *match, struct publication_view *view,
    uint64_t *peers, uint64_t *durable);
/* `object`: the heap shape, made when it is needed. */
void shared_routed(struct worker *worker, const struct publication_view *view, struct publication **object);
/* The picks of a publication that a peer has sent: those of this slot are delivered, or handed on. Not
   `fresh`: they are only settled, since it came before. */
void shared_received(struct worker *worker, unsigned peer, const struct publication_view *view, bool fresh,
    struct publication **object);

/* The session's client has come or gone: others are preferred to members without. */
void shared_set_connected(struct session *session, bool connected);
/* The client is gone, the session stays: what it has not got goes to members with a client, if there are any
   [MQTT 4.8.2]. */
void shared_hand_on_away(struct session *session);
/* The session ends and is no member any more: what it has not got goes to others, or is lost and counted. */
void shared_hand_on_rest(struct session *session);
/* It has left the group: what still waits for it goes to others; what was sent is its own [MQTT-3.10.4-3]. */
void shared_hand_on_queued(struct session *session, const struct topic_group *group);
/* All it has is with another worker now. */
void shared_forget(struct session *session);
/* What came with a session: a share of the group with this hash, or NULL. */
struct delivery_share *shared_restore(struct session *session, uint64_t group_hash, unsigned hops);

/* There may be room in the lanes. */
void shared_retry(struct worker *worker);
/* Every tick: copies for peers that were given up. */
void shared_tick(struct worker *worker);

#endif
