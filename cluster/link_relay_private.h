/*
 * The inside of struct relay, for link_relay.c (life, lanes out), link_relay_in.c (what nodes send),
 * link_relay_asks.c (completions) and link_relay_routes.c (routes both ways) alone.
 */
#ifndef CLUSTER_LINK_RELAY_PRIVATE_H
#define CLUSTER_LINK_RELAY_PRIVATE_H

#include "cluster/acceptance_record.h"
#include "cluster/bus_lane_in.h"
#include "cluster/link_relay.h"
#include "cluster/record.h"

#define RELAY_FORWARD_HEAD 10u
#define RELAY_ANSWER_HEAD  2u

/* A publication whose completion a worker of a node waits for. */
struct relay_ask {
    uint64_t waiting; /* own workers that have not answered */
    uint64_t ask;     /* its number there */
    uint64_t incarnation;
    uint8_t node;
    uint8_t slot;
    bool done;
};

/* Numbers for own workers: consecutive, so that the array is a queue. */
struct relay_asks {
    struct relay_ask *array; /* owned */
    size_t capacity, first, count;
    uint64_t base; /* number of the first */
};

/* Completions to be told to one worker of a node. */
struct relay_answers {
    uint64_t incarnation;
    struct acceptance_range *array; /* owned */
    size_t count, capacity;
};

/* A large publication of a node's worker, on its way in parts. */
struct relay_transfer {
    struct list link;
    uint64_t incarnation, number;
    uint64_t targets;
    uint8_t node;
    uint8_t slot;
};

#define RELAY_TRANSFERS_MAX 256u

enum relay_node_state {
    RELAY_NODE_DOWN,
    RELAY_NODE_WAITING, /* reachable; own workers' routes are not known yet */
    RELAY_NODE_TAKING,  /* its routes are on their way */
    RELAY_NODE_TOLD,    /* the workers know of it */
};

struct relay_node {
    enum relay_node_state state;
    uint64_t life;
    uint64_t link;
    uint64_t number; /* of the last route announcement to the workers */
    /* What it announced may be acknowledged up to `mark_heard` once all workers have `mark_number`. */
    uint64_t mark_heard, mark_number, may_acknowledge;
    struct relay_answers answers[64]; /* [slot] of its workers */
    struct relay_figures figures;
};

struct relay_lane {
    struct bus_lane_in in;
    uint64_t seen; /* the head when the lane was last looked at */
    bool checked;  /* what an earlier link had taken was looked up */
    bool moved;    /* the cursor in memory is ahead of that in the window */
};

/* A node's routes on their way to an own worker, in pages. */
struct relay_giving {
    bool active;
    uint64_t exchange;
    uint32_t cursor; /* of topic_index_visit_page(); 0: all pages are out, the end is not */
    bool begun;
};

struct relay_worker {
    struct relay_giving givings[RELAY_NODES_MAX];
    uint64_t acked[RELAY_NODES_MAX]; /* route announcements of the node that it has */
    struct routes_waiter waiter;     /* what it announced is on its way to the nodes */
    struct relay *relay;
    unsigned slot;
    bool waits;
    uint64_t target;          /* what is acknowledged then */
    uint64_t may_acknowledge; /* up to here all nodes have what it announced */
    uint64_t full_us;         /* since when its lane has no room; 0 */
    uint64_t full_cursor;
};

struct relay {
    struct relay_settings settings;
    struct routes *inner; /* owned: what own workers want */
    struct routes *outer; /* owned: to and from other nodes */
    struct routes_relay inner_hooks, outer_hooks;
    bool ready;
    uint64_t given_up; /* workers that stand still: what finds no room is lost */
    struct relay_asks asks;
    struct list transfers;
    unsigned transfer_count;
    uint64_t naps;            /* odd: the workers were told that we sleep */
    struct relay_lane *lanes; /* owned */
    struct relay_node nodes[RELAY_NODES_MAX];
    struct relay_worker workers[64];
    uint8_t frame[BUS_FRAME_MAX];
    uint8_t run[BUS_FRAME_MAX];
    uint8_t body[BUS_FRAME_MAX];
};

static inline unsigned relay_peer(const struct relay *relay, unsigned node)
{
    return relay->settings.first_node + node;
}

static inline uint64_t relay_workers(const struct relay *relay)
{
    return bus_live_peers(relay->settings.workers);
}

/* link_relay_in.c */
enum status relay_on_forward(void *context, const struct bus_record *record);
void relay_transfers_drop(struct relay *relay, unsigned node);
/* True if what lands next finds room; workers that stand still do not count after a while. */
bool relay_has_room(struct relay *relay);

/* link_relay_asks.c */
/* A number for own workers; 0: too many are open. */
uint64_t relay_ask(
    struct relay *relay, unsigned node, unsigned slot, uint64_t incarnation, uint64_t ask, uint64_t waiting);
/* COMPLETION of an own worker for a node. */
void relay_completed(struct relay *relay, unsigned slot, unsigned node, struct bytes body);
void relay_asks_release(struct relay *relay, unsigned slot);
void relay_asks_forget(struct relay *relay, unsigned node);
void relay_answers_send(struct relay *relay);
enum status relay_on_answer(void *context, const struct bus_record *record);
/* The node's link is another: whatever own workers had asked it will not be answered. */
void relay_tell_forgotten(struct relay *relay, unsigned node);
void relay_asks_free(struct relay *relay);

/* link_relay_routes.c */
enum status relay_routes_open(struct relay *relay) CHECK_RESULT;
void relay_routes_close(struct relay *relay);
/* ROUTE_ACK and STATE_REQUEST of an own worker in its lane to a node. */
void relay_route_acked(struct relay *relay, unsigned slot, unsigned node, struct bytes body);
void relay_state_asked(struct relay *relay, unsigned slot, unsigned node, struct bytes body);
void relay_routes_tick(struct relay *relay);
void relay_tell_node(struct relay *relay, unsigned slot, unsigned node, bool up);
void relay_check_told(struct relay *relay, unsigned node);

#endif
