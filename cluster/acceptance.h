/*
 * When a publication counts as accepted, so that PUBACK or PUBREC may go out (BUS rules 3): its last fragment
 * lies in the windows of all peers that want it, and the peers with durable sessions have said that they hold
 * it. Full windows, stalls, fragments and completions live here, on top of bus.h; no sockets, no sessions.
 */
#ifndef CLUSTER_ACCEPTANCE_H
#define CLUSTER_ACCEPTANCE_H

#include "cluster/bus.h"

struct acceptance;

enum acceptance_result {
    ACCEPTANCE_DONE,    /* in all windows: deliver locally, acknowledge in this turn's flush */
    ACCEPTANCE_PENDING, /* taken (deliver locally); acknowledge when `complete` calls with this ticket */
    ACCEPTANCE_STALLED, /* nothing was taken: a needed window is full. Keep the packet, read no more of this
                           client, offer it again when `room` calls. Only for QoS 1 and 2 */
    ACCEPTANCE_REFUSED, /* nothing was taken; answer 0x97 (version 5) or close: a durable target cannot be
                           reached */
};

struct acceptance_settings {
    struct bus *bus;
    uint64_t stall_timeout_us; /* bus.stall_timeout */
    size_t copies_max;         /* bytes of half received publications per peer */
    void *context;
    /* A pending one is complete. `taker` and `ticket` are those of acceptance_offer. */
    void (*complete)(void *context, void *taker, uint64_t ticket, enum acceptance_result result);
    /* A window that held somebody up has room, or its peer was given up: offer again what is kept. */
    void (*room)(void *context);
    /* A publication came from a peer: match and deliver it to local sessions. Returns true if a durable
       session (one that outlives its connection) took it. The view lives for the call. */
    bool (*deliver)(void *context, unsigned peer, const struct publication_view *view);
};

enum status acceptance_new(const struct acceptance_settings *settings, struct acceptance **ret) CHECK_RESULT;
void acceptance_free(struct acceptance **acceptance);

/*
 * Offers a publication (meta.origin/sequence are set here for the first time: view->meta is written) to the
 * lanes of `peers`; `durable` is the subset whose completion is awaited (QoS 1 and 2). QoS 0 stalls
 * only if it is to be retained, since every worker keeps the same retained messages; otherwise full lanes
 * drop it, counted. `taker` (a connection) and `ticket` (its own number) come back in `complete`; `taker`
 * NULL: nobody waits. Hot path when everything fits: encode straight into each ring.
 */
enum acceptance_result acceptance_offer(struct acceptance *acceptance, struct publication_view *view,
    uint64_t peers, uint64_t durable, void *taker, uint64_t ticket);

/* The taker is gone: its pending ones go on, but `complete` is not called for it any more. */
void acceptance_forget(struct acceptance *acceptance, void *taker);

/* Peers whose lanes were given up: what is offered to them is lost until they have caught up. */
uint64_t acceptance_given_up(const struct acceptance *acceptance);

/* The lowest own sequence whose publication does not wholly lie in the peer's lane yet; UINT64_MAX: none. */
uint64_t acceptance_oldest_partial(const struct acceptance *acceptance, unsigned peer);

/* Encodes a publication as a record body elsewhere (session moves, retained state), all of its meta included.
 */
size_t acceptance_encoded_size(const struct publication_view *view);
void acceptance_encode(uint8_t *to, const struct publication_view *view);
enum status acceptance_decode(struct bytes body, struct publication_view *ret_view) CHECK_RESULT;

#endif
