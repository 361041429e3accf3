/* What shared_delivery.c (picking, local members) and shared_hand_on.c (members that leave) share; nobody
 * else includes it. */
#ifndef NODE_SHARED_DELIVERY_PRIVATE_H
#define NODE_SHARED_DELIVERY_PRIVATE_H

#include "node/shared_delivery.h"
#include "shared/share_pick.h"

/* Who keeps a copy. */
struct share_source {
    uint64_t incarnation;
    uint64_t number; /* 0: nobody */
    unsigned peer;   /* whose lane brought it, or own */
};

/* shared_delivery.c */
/* NULL: no memory, settled already. */
struct delivery_share *share_new(
    struct worker *worker, struct topic_group *group, unsigned hops, const struct share_source *source);
struct share_query share_query_for(struct worker *worker, const struct publication_view *view);
/* Which of the peers had better not be picked for it now. */
uint64_t share_unreachable(const struct worker *worker, const struct publication_view *view, uint64_t peers);
/* The number of the copy to keep for the slot; 0: none is to be kept. */
uint64_t share_number(struct worker *worker, const struct publication_view *view, unsigned slot);
/* Adds a pick to the record in the making. False: no memory. */
bool share_record_add(
    struct worker *worker, const struct topic_group *group, unsigned slot, unsigned hops, uint64_t number);
/* For publication_view.shares; NULL if no pick was added. */
const uint8_t *share_record_done(struct shared_deliveries *shared);
/* To one of the group's local members, of which there are some. */
void share_deliver(struct worker *worker, struct topic_group *group, unsigned hops,
    const struct share_source *source, const struct publication_view *view, struct publication **object);

/* shared_hand_on.c */
/*
 * To another member, wherever it is; `hops`: how often that was done before; `connected`: to one with a
 * client only. `source`: who keeps a copy until it is settled; its number is zeroed when that has to wait for
 * room in a lane. False: there is nobody, or it was done too often.
 */
bool share_hand_on(struct worker *worker, struct topic_group *group, unsigned hops,
    struct publication *publication, bool connected, struct share_source *source);

#endif
