/*
 * Which filters this worker wants from its peers, and which they want from it (BUS rules 4). Announces own
 * filters to all live peers, sets the peers' bits in the topic index, tells when all peers have acknowledged,
 * and exchanges full state with a peer that is new or out of step. What is announced also stands in the
 * slot's route table, where it is read if the slot does not answer. Worker process; sits on bus.h and
 * topic_index.h; no sockets, no clock but shared/clock.h, does not log.
 *
 * 0→1 is announced at once, 1→0 after a filter has lingered (a re-subscribe meanwhile costs nothing).
 */
#ifndef CLUSTER_ROUTES_H
#define CLUSTER_ROUTES_H

#include "cluster/bus.h"
#include "cluster/route_table.h"
#include "shared/list.h"
#include "shared/topic_index.h"

#define ROUTES_LINGER_US 10000000u /* reconnect storms come back within seconds */
#define ROUTES_SILENT_US                                                                                     \
    1000000u /* what one SUBACK waits for a peer that does not answer: no less, no more */

/* Longest filter and group name together that fit one record; longer: STATUS_LIMIT (SUBACK 0x97). */
#define ROUTES_NAMES_MAX (BUS_RECORD_MAX - 64)

struct routes;

/*
 * What a link is told beside what a worker needs (link_relay.h): it speaks for all its workers to other
 * nodes, and for the nodes to its workers.
 */
struct routes_relay {
    void *context;
    /* A peer's entry was applied: it wants the filter (or has members of the group below it), or does not. */
    void (*applied)(void *context, unsigned peer, struct topic_filter *filter, struct topic_group *group,
        uint8_t flags, uint32_t members);
    /* The peer has announced up to `heard`: up to where may that be acknowledged? */
    uint64_t (*acknowledges)(void *context, unsigned peer, uint64_t heard);
    /* All of the peer's routes are here, or do not come for now. May be NULL, as the next. */
    void (*taken)(void *context, unsigned peer);
    /* The peer's routes are gone from the index. */
    void (*forgotten)(void *context, unsigned peer);
};

struct routes_settings {
    struct bus *bus;
    uint64_t tell;      /* peers that own filters are announced to; 0: all */
    uint64_t aggregate; /* not own subscriptions are announced but what these peers want; 0: own ones */
    const struct routes_relay *relay; /* borrowed; NULL: a worker */
    struct topic_index *index;
    struct counters *counters; /* own page: gauge `routes` */
    struct route_table *table; /* own; borrowed; NULL: none */
    const int
        *tables; /* [BUS_PEERS_MAX] descriptors of the peers' route tables, -1: none; borrowed; or NULL */
    uint64_t linger_us; /* 0: ROUTES_LINGER_US */
    uint64_t silent_us; /* 0: ROUTES_SILENT_US */
    void *context;
    /*
     * Clients may be read (ready) or must not be for now (a peer is out of step with us: its full state is on
     * its way). `unknown`: peers that told no routes within the time and whose tables say nothing; a log
     * line. May be NULL.
     */
    void (*ready)(void *context, bool ready, uint64_t unknown);
    /*
     * A peer has asked for our full state and has our routes by now: send it more of whatever else belongs to
     * it (retained messages), each record with bus_put(…, BUS_ROOM_PUBLICATION) after bus_full() said that
     * there is room. Returns true when all of it is sent (then STATE_END follows), false to be called again
     * when there is room or in the next turn. `first`: a new request, begin at the beginning. May be NULL.
     */
    bool (*state_more)(void *context, unsigned peer, bool first);
};

/* Registers its record handlers and a watcher with the bus. STATUS_NO_MEMORY. */
enum status routes_new(const struct routes_settings *settings, struct routes **ret_routes) CHECK_RESULT;
/* Before bus_free and topic_index_free; handlers and watcher must not run any more. */
void routes_free(struct routes **routes);

/*
 * The bus knows all live peers (bus_peer_started was called for each): asks them for their full state. Until
 * routes_ready() no client is read. Not called: nothing is asked, not ready.
 */
void routes_start(struct routes *routes);
/*
 * All live peers' routes are here: from themselves, those of a silent peer (1 s) from its route table.
 * Changes are reported by `ready`.
 */
bool routes_ready(const struct routes *routes);
/* We stood still, and these peers have kept announcements back meanwhile (bus_behind): not ready until their
 * full state is here. */
void routes_fell_behind(struct routes *routes, uint64_t peers);

/*
 * The local state of `filter` (or of `group` below it) has changed: call after every topic_index_insert() or
 * _remove() of an ordinary subscription or of a group member, and when a session becomes durable or stops to
 * be. `durable_change`: +1 when a durable session's subscription was inserted, -1 when one was removed, 0
 * otherwise. The module reads filter->count or group->count and announces what is new. While it holds an
 * announcement the entry stays alive by owner_data, so remember filter and group before topic_index_remove()
 * and call this after. STATUS_LIMIT: names too long for a record (nothing is announced; take the subscription
 * out again). STATUS_NO_MEMORY: as above. Removing never fails. Hot enough for reconnect storms: no look-up,
 * and no record unless the answer to «wanted?» or «durable?» or the member count changes. A group announces
 * how many members with a connected client it has, or if there are none, how many it has at all and that they
 * are away: call also when that changes. Counts other than 0→1 are announced once, at the end of the turn; a
 * group without members does not linger, it would attract publications.
 */
enum status routes_want(struct routes *routes, struct topic_filter *filter, struct topic_group *group,
    int durable_change) CHECK_RESULT;

/* Live peers whose full state has been asked for and is not here. */
uint64_t routes_unheard(const struct routes *routes);
/* Live peers whose routes are not known, not even from their tables (which are too small, or there was no
 * memory): what is published meanwhile does not reach them. */
uint64_t routes_unknown(const struct routes *routes);

/* Embedded in whoever waits (a SUBACK, a CONNACK of a moved session). */
struct routes_waiter {
    struct list link; /* list_init() it before the first use */
    /* All live peers have what was announced before routes_wait(), or `silent` ones did not say so within
       exactly silent_us (a log line). The waiter is off the list: it may be freed or wait again. */
    void (*settled)(struct routes_waiter *waiter, uint64_t silent);
    uint64_t sequence; /* private */
    uint64_t deadline_us;
};
/*
 * True: nothing is outstanding, `settled` is not called. False: it will be, from a bus handler or tick.
 * A filter that was announced before (a second subscriber) may still be outstanding: wait after each
 * SUBSCRIBE.
 */
bool routes_wait(struct routes *routes, struct routes_waiter *waiter);
/* Its owner is gone. Harmless if it does not wait. */
void routes_wait_cancel(struct routes_waiter *waiter);

/* True if the peer has been sent all that was announced here: neither out of step nor taking full state. */
bool routes_in_step(const struct routes *routes, unsigned peer);

/* More may be acknowledged to the peer now. For a relay, as the next. */
void routes_acknowledge(struct routes *routes, unsigned peer);
/* Evaluates all own announcements anew: a peer of `aggregate` is gone. */
void routes_want_anew(struct routes *routes);

/* Monotonic time at which bus_tick() has something to do for routes (UINT64_MAX: nothing), for exact
 * time-outs. */
uint64_t routes_next_us(const struct routes *routes);

uint64_t routes_of(const struct routes *routes, unsigned peer); /* that the peer wants, as far as known */
size_t routes_announced(const struct routes *routes); /* own filters and groups, lingering ones too */

#endif
