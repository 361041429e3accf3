/*
 * Small control records that must not be lost while both ends live, and must not put a peer out of step
 * either: what finds no room in the lane waits here, in order, until there is. For claims and session moves;
 * routes do not need it, they can always be told anew. Worker process.
 */
#ifndef CLUSTER_OUTBOX_H
#define CLUSTER_OUTBOX_H

#include "cluster/bus.h"
#include "shared/list.h"

/* Bytes that wait for one peer at most: the claims of ten seconds, or the reports of half a million sessions.
 */
#define OUTBOX_MAX 67108864u
/* What it leaves free behind itself, for those control records that would put the peer out of step. */
#define OUTBOX_SLACK 1024u

struct outbox {
    struct bus *bus;                    /* borrowed */
    struct list waiting[BUS_PEERS_MAX]; /* struct outbox_record */
    size_t size[BUS_PEERS_MAX];         /* bytes */
    uint64_t lost;                      /* peers for whom something was dropped; the owner clears it */
};

void outbox_init(struct outbox *outbox, struct bus *bus);
void outbox_done(struct outbox *outbox);

/* Copies the body into the lane, or keeps a copy until there is room. Dropped if the peer is not live;
   dropped and noted in `lost` beyond OUTBOX_MAX or without memory. Bulk takes BUS_ROOM_PUBLICATION. */
void outbox_put(
    struct outbox *outbox, unsigned peer, enum bus_record_type type, struct bytes body, enum bus_room room);
/* The lane may have room again: from the bus's `room` and before a turn ends. */
void outbox_pump(struct outbox *outbox, unsigned peer);
void outbox_pump_all(struct outbox *outbox);
/* The peer died or is new: nothing of this concerns it. */
void outbox_drop(struct outbox *outbox, unsigned peer);
bool outbox_empty(const struct outbox *outbox, unsigned peer);

#endif
