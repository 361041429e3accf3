/*
 * Copies of what was published to members of shared groups at other workers, QoS 1 and 2 (BUS rules 8). The
 * worker that picked the member keeps one until the member's worker has settled it: its client has
 * acknowledged it, or it must not go to anybody else any more. When that worker dies, or its lane is given
 * up, the copies that are left come back to be handed on. Worker process; sits on bus.h and topic_index.h, no
 * sockets, no sessions.
 *
 * Settled is put into the lane before the client's socket is written, so that a QoS 2 publication that comes
 * back has reached nobody.
 */
#ifndef CLUSTER_SHARE_COPIES_H
#define CLUSTER_SHARE_COPIES_H

#include "cluster/bus.h"
#include "shared/topic_index.h"

struct share_copies;

struct share_copies_settings {
    struct bus *bus;
    struct topic_index *index;
    size_t bytes_max; /* of copies per peer: a peer that has as many is in share_copies_full() */
    void *context;
    /* The copy's worker has died, or cannot be reached (`alive`: then it may have it all the same). Lent. */
    void (*orphaned)(
        void *context, struct topic_group *group, unsigned hops, struct publication *publication, bool alive);
};

/* Registers its record handler and a watcher: after routes_new(), so that a dead peer has no members any more
   when its copies come back. STATUS_NO_MEMORY. */
enum status share_copies_new(
    const struct share_copies_settings *settings, struct share_copies **ret_copies) CHECK_RESULT;
/* Before the index and the bus. */
void share_copies_free(struct share_copies **copies);

/* The publisher's side. */
/* Peers that have as many copies as they may: others should be picked. */
uint64_t share_copies_full(const struct share_copies *copies);
/* The number of the next copy for this peer; one that is not used in the end is no harm. */
uint64_t share_copies_number(struct share_copies *copies, unsigned peer);
/* Keeps one under its number, with a reference of its own; numbers of a peer come in order. Without memory
   nothing is kept. */
void share_copies_keep(struct share_copies *copies, unsigned peer, uint64_t number, struct topic_group *group,
    unsigned hops, struct publication *publication);
/* The lane is given up: what is left for the peer comes back. */
void share_copies_give_up(struct share_copies *copies, unsigned peer);

/* The member's side: number `number` of the peer's incarnation is settled. Told at the end of the turn. */
void share_copies_settle(struct share_copies *copies, unsigned peer, uint64_t incarnation, uint64_t number);
/* The same at once: a client's socket is written before the turn ends. */
void share_copies_tell(struct share_copies *copies);

/* Copies kept for all peers, and their bytes. */
size_t share_copies_count(const struct share_copies *copies);
size_t share_copies_bytes(const struct share_copies *copies);

#endif
