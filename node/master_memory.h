/*
 * The memory that outlives workers, as sealed memfds made once by the master: counters, a lane per ordered
 * pair of slots, three tables per slot; and an eventfd per slot. Master only.
 */
#ifndef NODE_MASTER_MEMORY_H
#define NODE_MASTER_MEMORY_H

#include "node/child_descriptors.h"
#include "node/control_message.h"
#include "shared/counters.h"

/* All lanes of a node together take no more than this, as long as a lane keeps MASTER_LANE_MIN. */
#define MASTER_LANES_TOTAL ((size_t)512 << 20)
#define MASTER_LANE_MIN    ((size_t)256 << 10)

struct master_lane {
    int ring, ring_read_only, cursor, cursor_read_only; /* owned; -1: none */
};

struct master_route_table {
    int own, read_only; /* owned; -1: none */
};

/* Between this node and another of the cluster; owned; -1: none. */
struct master_node_window {
    int ring, cursor, landing, landing_cursor;
};

struct master_memory {
    unsigned workers;
    unsigned peers; /* workers, and in a cluster the link: who has lanes with each other */
    unsigned nodes; /* of the cluster, this one included; 0: a node alone */
    unsigned self;  /* which of them this is */
    unsigned pages; /* of counters */
    int counters;
    void *counters_base;                /* one page per worker, the master's, and in a cluster the link's */
    struct master_lane *lanes;          /* [from * peers + to] */
    struct master_lane *node_lanes;     /* [worker * nodes + node] */
    struct master_node_window *windows; /* [node] */
    int *will_tables;                   /* [slot] */
    int *delayed_tables;                /* [slot] */
    struct master_route_table *route_tables; /* [slot] */
    int *wakes;                              /* [slot], eventfds */
};

/* STATUS_SYSTEM: errno says why, `*ret_what` what was being made. */
enum status master_memory_open(
    const struct config *config, struct master_memory *ret_memory, const char **ret_what) CHECK_RESULT;
void master_memory_close(struct master_memory *memory);

/* The descriptors of the lanes between `slot` and `peer`, as `slot` needs them (CONTROL_LANE). */
void master_memory_lane(
    const struct master_memory *memory, unsigned slot, unsigned peer, struct control_message *message);

/* The lane of a worker to another node, for the worker or for the link (CONTROL_NODE_LANE). */
void master_memory_node_lane(const struct master_memory *memory, unsigned slot, unsigned node, bool link,
    struct control_message *message);
/* CONTROL_NODE_WINDOW. */
void master_memory_node_window(
    const struct master_memory *memory, unsigned node, struct control_message *message);

/* Bytes that `from` has put and `to` has not taken yet. */
uint64_t master_memory_waiting(const struct master_memory *memory, unsigned from, unsigned to);

/* The page of a slot, the link's included. */
struct counters *master_memory_counters_of(const struct master_memory *memory, unsigned slot);
/* The page of the master itself. */
struct counters *master_memory_own_counters(const struct master_memory *memory);

#endif
