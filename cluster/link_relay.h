/*
 * What the link does between its workers and other nodes, on top of two buses: that of the workers, in which
 * it is the peer behind them, and that between links. Publications of a worker for a node go on as they are;
 * what comes from a node goes to the workers that want it, once each, as records of that node. The link
 * speaks for its workers to the nodes (their routes as one, acknowledged when all have them; completions once
 * all have answered), and for the nodes to its workers. No socket, no clock but shared/clock.h, does not log:
 * runs in a simulation.
 *
 * Peers have the same numbers on both buses: workers from 0, the link, the nodes from `first_node`.
 *
 *   FORWARD, between links: u16 slot of the worker, u64 its incarnation, then records as they stood in its
 * frame ANSWER, between links:  u8 slot of the worker it is for, u8 type, body of that type
 *
 * Killed anywhere, the next link loses and doubles nothing of what its workers or other links were told lies
 * in a window: what a frame became is published together with the note how far its lane was taken (bus_take),
 * and only then its lane's cursor moves.
 */
#ifndef CLUSTER_LINK_RELAY_H
#define CLUSTER_LINK_RELAY_H

#include "cluster/bus.h"
#include "cluster/routes.h"
#include "shared/bus_window.h"

#define RELAY_NODES_MAX 32

struct relay_settings {
    struct bus *workers;
    struct bus *links;
    struct topic_index *index; /* who wants what: workers and nodes */
    unsigned worker_count;
    unsigned first_node;
    unsigned node_count; /* this one included */
    unsigned self;       /* which of them it is */
    const uint16_t *node_ids;
    uint64_t life; /* of this node */
    /* [worker * node_count + node], mapped as receiver; of self: not used. Borrowed. */
    struct bus_window *lanes;
    struct counters *counters;
    const int
        *tables; /* [BUS_PEERS_MAX] descriptors of the workers' route tables, -1: none; borrowed; or NULL */
    void *context;
    /* All own workers' routes are known: nodes may be told. */
    void (*ready)(void *context);
};

struct relay;

enum status relay_new(const struct relay_settings *settings, struct relay **ret_relay) CHECK_RESULT;
void relay_free(struct relay **relay);

/* The workers that run are known to the bus (bus_peer_started): asks them for their routes. */
void relay_start(struct relay *relay);

/* A node can be reached, as this life and this incarnation of its link; it is lost. (wire.h) */
void relay_node_up(struct relay *relay, unsigned node, uint64_t life, uint64_t link);
void relay_node_down(struct relay *relay, unsigned node);

/*
 * In each loop turn: what workers have put for nodes, what has landed from nodes, as far as there is room.
 * bus_turn_end() of both buses comes after it.
 */
void relay_turn(struct relay *relay);

/*
 * For a carrier that wakes only who has said that it sleeps: says so to the workers whose lanes lead to
 * nodes, false if there is something new in one of them; and takes it back.
 */
bool relay_may_sleep(struct relay *relay);
void relay_woken(struct relay *relay);

/* The bus between links applied a frame (bus_settings.passing). */
void relay_passing_frame(struct relay *relay, unsigned peer, uint64_t offset);

struct relay_figures {
    uint64_t routes;              /* of the node, that the workers were told */
    uint64_t forwarded, received; /* frames */
    uint64_t lost;                /* publications for a worker that stood still */
    bool told;                    /* the workers know of the node */
};
void relay_figures(const struct relay *relay, unsigned node, struct relay_figures *ret_figures);

#endif
