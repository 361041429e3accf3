/*
 * The inside of struct acceptance, for acceptance.c (offers, full lanes), acceptance_fragments.c (large
 * publications out and in) and acceptance_completions.c (what is asked and answered) alone. Masks are by
 * peer.
 */
#ifndef CLUSTER_ACCEPTANCE_STATE_H
#define CLUSTER_ACCEPTANCE_STATE_H

#include "cluster/acceptance.h"
#include "cluster/acceptance_record.h"
#include "shared/list.h"

/* Publications that wait for completions or for the rest of a large one; more are STALLED. */
#define ACCEPTANCE_PENDING_MAX 65536u
/* Large publications on their way to one peer at a time; more are STALLED (QoS 0: dropped). */
#define ACCEPTANCE_TRANSFERS_MAX 64u
/* Ranges that one peer may be owed; what a broken peer asks beyond that is not answered. */
#define ACCEPTANCE_RANGES_MAX 65536u

/* One publication whose taker waits. Kept in order of `ask`. */
struct acceptance_pending {
    uint64_t ask;
    uint64_t ticket;
    void *taker;       /* borrowed name of whoever waits; NULL: nobody (any more) */
    uint64_t waiting;  /* durable peers that have not answered */
    uint64_t begun_us; /* monotonic, as of the last tick; a large one: when its last fragment was put */
    bool large;
    bool partial; /* its fragments do not lie in all windows yet */
    bool refused; /* a durable peer was given up */
    bool done;    /* told; only its place is left */
};

/* A circular array, since they come and mostly end in order. */
struct acceptance_pendings {
    struct acceptance_pending *array; /* owned */
    size_t capacity;                  /* power of two, or 0 */
    size_t first;
    size_t count;
    size_t open; /* not done */
};

/* What is owed to one peer at the end of the turn. */
struct acceptance_ranges {
    uint64_t incarnation;           /* who asked */
    struct acceptance_range *array; /* owned */
    size_t count;
    size_t capacity;
    bool forgotten; /* a FORGOTTEN is owed too */
};

struct acceptance_lane {
    uint64_t full_since_us; /* when it first held somebody up; 0: it does not */
    uint64_t last_transfer; /* whose turn it was */
    uint64_t fragment_us;   /* when the last fragment was put, as of the last tick */
    uint64_t crowded_us;    /* a fragment had to wait then, 0: none did; the peer had come so far: */
    uint64_t crowded_cursor;
    unsigned transfers; /* on their way to this peer, and their bytes */
    size_t transfers_size;
    struct acceptance_ranges ranges;
    struct list halves; /* of incoming large publications, the one longest without progress first */
    size_t halves_size;
};

struct acceptance {
    struct acceptance_settings settings;
    struct bus *bus;
    struct counters *counters;
    size_t whole_max;  /* bytes of a publication body that travels in one record */
    uint64_t asks;     /* numbers given out */
    uint64_t now_us;   /* as of the last tick */
    uint64_t given_up; /* lanes */
    uint64_t full;     /* lanes with full_since_us */
    /* Durable peers that did not answer for the stall time-out: not asked until they have answered the rest.
     */
    uint64_t silent;
    bool stalled;       /* somebody was told STALLED since `room` was last called */
    bool pendings_full; /* since there are too many pending ones */
    uint64_t owed;      /* peers with ranges or `forgotten` */

    struct acceptance_pendings pendings;

    struct list transfers; /* in the order of their numbers */
    uint64_t transfer_numbers;
    unsigned transfer_count;
    uint64_t takers_gone;

    struct acceptance_lane lanes[BUS_PEERS_MAX];
};

static inline uint64_t acceptance_bit(unsigned peer)
{
    return (uint64_t)1 << peer;
}

/* acceptance.c ------------------------------------------------------------------------------------ */
/* The lane cannot take what somebody waits with: the clock of its stall runs. */
void acceptance_lane_full(struct acceptance *acceptance, unsigned peer);
/* A fragment has to wait, though the lane is not full: if its peer takes nothing from here on and the lane
   becomes full, the stall began now. */
void acceptance_lane_crowded(struct acceptance *acceptance, unsigned peer);
/* Offers again what was STALLED, if anything was. */
void acceptance_call_room(struct acceptance *acceptance);
/* A whole publication has come: delivers it. */
enum status acceptance_take(
    struct acceptance *acceptance, const struct bus_record *record, struct bytes body);

/* acceptance_completions.c ---------------------------------------------------------------------------- */
/* The new entry, or NULL: too many, or no memory. The pointer holds until the next call. */
struct acceptance_pending *acceptance_pending_add(struct acceptance *acceptance);
/* Takes back the one that was added last; NULL is allowed. */
void acceptance_pending_drop(struct acceptance *acceptance, struct acceptance_pending *pending);
/* NULL: ended. */
struct acceptance_pending *acceptance_pending_find(struct acceptance *acceptance, uint64_t ask);
/* Tells the taker if nothing is awaited any more. The entry may be gone afterwards. */
void acceptance_pending_check(struct acceptance *acceptance, struct acceptance_pending *pending);
/* Nothing is awaited from this peer any more. */
void acceptance_pendings_release(struct acceptance *acceptance, unsigned peer);
/* What has waited for the stall time-out is done: it lies in the windows, and their peers stand still. */
void acceptance_pendings_expire(struct acceptance *acceptance);
void acceptance_pendings_forget(struct acceptance *acceptance, const void *taker);
void acceptance_pendings_free(struct acceptance *acceptance);

/* The receiver's side: this ask was heard; it is answered at the end of the turn. */
void acceptance_ask_heard(struct acceptance *acceptance, unsigned peer, uint64_t incarnation, uint64_t ask);
void acceptance_answer(struct acceptance *acceptance);
void acceptance_ranges_clear(struct acceptance *acceptance, unsigned peer);
enum status on_acceptance_completion(void *context, const struct bus_record *record);

/* acceptance_fragments.c -------------------------------------------------------------------------------- */
/* True if this taker has a large one on its way to any of these peers: what it sends next must not overtake
 * it. */
bool acceptance_transfer_ahead(const struct acceptance *acceptance, const void *taker, uint64_t peers);
/* True if some of the peers can take no more large ones now, or nobody ever this size. */
bool acceptance_transfers_full(const struct acceptance *acceptance, uint64_t peers, size_t size);
/* Takes a copy. `ask`: of its pending entry, 0: nobody waits. STATUS_LIMIT: too much on its way already. */
enum status acceptance_transfer_begin(struct acceptance *acceptance, const struct publication_view *view,
    uint64_t peers, uint64_t durable, uint64_t ask, const void *taker) CHECK_RESULT;
/* Puts as many fragments as the budget of a turn and the windows allow. */
void acceptance_transfers_pump(struct acceptance *acceptance);
/* No more of it to this peer. `died`: not a loss. */
void acceptance_transfers_release(struct acceptance *acceptance, unsigned peer, bool died);
void acceptance_transfers_forget(struct acceptance *acceptance, const void *taker);
void acceptance_transfers_free(struct acceptance *acceptance);

void acceptance_halves_clear(struct acceptance *acceptance, unsigned peer);
enum status on_acceptance_fragment(void *context, const struct bus_record *record);

#endif
