/*
 * The inside of struct routes, for routes.c (own announcements, acknowledgements, waiters), routes_apply.c
 * (what peers announce) and routes_state.c (full state) alone.
 */
#ifndef CLUSTER_ROUTES_PRIVATE_H
#define CLUSTER_ROUTES_PRIVATE_H

#include "cluster/record.h"
#include "cluster/routes.h"
#include "shared/hash_table.h"

/*
 * ROUTE:         u8 kind, u64 number, entries
 *   CHANGE: number is the announcement's sequence, one entry. PAGE: number is the exchange, as many as fit.
 * entry:         u8 flags, u32 members, u16 filter size, u16 group size, filter, group
 * ROUTE_ACK:     u64 incarnation whose announcements these are, u64 sequence
 * STATE_REQUEST: u8 flags, u64 exchange, u64 monotonic time of asking
 * STATE_END:     u64 exchange, u64 sequence up to which the state counts
 */
enum route_kind { ROUTE_CHANGE = 1, ROUTE_PAGE = 2 };
enum route_flag { ROUTE_WANTED = 1, ROUTE_DURABLE = 2, ROUTE_GROUP = 4, ROUTE_AWAY = 8 };
enum state_flag {
    STATE_NOT_READING = 1, /* the sender reads no client before it has this state */
    STATE_ASK_ME = 2,      /* not a request: the sender could not tell everything, ask it */
};

#define ROUTE_HEAD_SIZE  9u
#define ROUTE_ENTRY_SIZE 9u

/* One own announcement: owner_data of its filter, or of its group. */
struct route {
    struct list link;  /* routes->announced */
    struct list aside; /* routes->lingering (filters) or routes->changed (groups) */
    struct topic_filter *filter;
    struct topic_group *group; /* NULL: ordinary */
    uint64_t linger_until_us;
    uint32_t durable;    /* durable sessions that want the filter */
    uint32_t members;    /* of the group, as announced */
    uint8_t group_flags; /* of the group, as announced */
    bool durable_told;
};

enum route_taking {
    TAKING_NOTHING,
    TAKING_ASKED, /* the peer has been asked for its state */
    TAKING_LATE,  /* it did not answer in time: its table was read; it still may */
};

struct routes_peer {
    uint64_t acknowledged; /* what we told it last that we have */
    uint64_t acked;        /* it has our announcements up to here */
    uint64_t heard;        /* we have its announcements up to here */
    uint64_t routes;       /* bits set for it in the index */
    /* Its state on the way to us. */
    enum route_taking taking;
    bool blocking;     /* we read no client meanwhile */
    uint64_t exchange; /* number of our request; the answer carries it */
    uint64_t deadline_us;
    bool confirming;             /* `confirmed` is in use */
    struct hash_table confirmed; /* filters and groups that pages and changes named since we asked */
};

/* Full state on its way to a peer. */
struct giving {
    struct list link;
    unsigned peer;
    uint64_t exchange;
    struct list *next; /* the next of routes->announced; NULL: not begun */
    bool routes_sent;
    bool more_begun;
};

struct routes {
    struct bus *bus;
    uint64_t tell;
    uint64_t aggregate;
    const struct routes_relay *relay;
    struct topic_index *index;
    struct counters *counters;
    struct route_table *table;
    const int *tables;
    uint64_t linger_us;
    uint64_t silent_us;
    void *context;
    void (*ready_changed)(void *context, bool ready, uint64_t unknown);
    bool (*state_more)(void *context, unsigned peer, bool first);

    struct list announced; /* in the order of announcing */
    size_t announced_count;
    struct list lingering; /* in the order of their ends */
    struct list changed;   /* groups whose member count is to be told */
    struct list waiters;   /* in the order of sequence and of deadline */
    struct list givings;
    uint64_t sequence; /* of the last announcement */
    uint64_t exchange; /* last number used */
    uint64_t ack_due;  /* peers that are owed an acknowledgement */
    uint64_t in_step;
    uint64_t unknown; /* peers whose routes nobody told, for the log line */
    bool started;
    bool ready;
    struct routes_peer peers[BUS_PEERS_MAX];
    char text[65537];             /* scratch for a filter's text */
    uint8_t page[BUS_RECORD_MAX]; /* scratch for entries */
};

#define routes_bit(peer) (UINT64_C(1) << (peer))
#define routes_for_each(mask, peer)                                                                          \
    for (uint64_t left_ = (mask); left_ != 0; left_ &= left_ - 1)                                            \
        for (unsigned peer = (unsigned)__builtin_ctzll(left_), once_ = 1; once_; once_ = 0)

/* Live peers that own filters are announced to. */
static inline uint64_t routes_told(const struct routes *routes)
{
    return bus_live_all(routes->bus) & routes->tell;
}

/* routes.c */
size_t routes_entry_size(const struct route *route);
uint8_t *routes_write_entry(struct routes *routes, uint8_t *to, const struct route *route);
uint8_t *routes_write_names(
    struct routes *routes, uint8_t *to, const struct topic_filter *filter, const struct topic_group *group);
void routes_settle_waiters(struct routes *routes);

/* routes_apply.c */
/* What a silent peer has announced, from its table; false: there is nothing to be read. */
bool routes_read_table(struct routes *routes, unsigned peer);
enum status routes_on_route(void *context, const struct bus_record *record);
/* Drops what the peer had announced. */
void routes_forget_peer(struct routes *routes, unsigned peer);
void routes_end_confirming(struct routes_peer *peer);
/* Takes away what the peer's full state did not name. */
void routes_sweep_unconfirmed(struct routes *routes, unsigned peer);

/* routes_state.c */
enum status routes_on_state_request(void *context, const struct bus_record *record);
enum status routes_on_state_end(void *context, const struct bus_record *record);
void routes_ask_state(struct routes *routes, unsigned peer, bool blocking);
void routes_state_started(struct routes *routes, unsigned peer);
void routes_state_died(struct routes *routes, unsigned peer);
void routes_state_out_of_step(struct routes *routes, unsigned peer);
void routes_state_tick(struct routes *routes, uint64_t now_us);
/* Sends what there is room for. */
void routes_give(struct routes *routes);
/* A route is about to be freed. */
void routes_state_unlink(struct routes *routes, struct route *route);
void routes_state_done(struct routes *routes);
/* The peer's announcements count: their acknowledgement promises that it reaches us. */
bool routes_may_acknowledge(const struct routes *routes, unsigned peer);

#endif
