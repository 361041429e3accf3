/*
 * The inside of struct bus, for bus.c (life, peers, watchers), bus_out.c (records out) and bus_in.c (records
 * in) alone. Bit masks are by peer.
 */
#ifndef CLUSTER_BUS_STATE_H
#define CLUSTER_BUS_STATE_H

#include "cluster/bus.h"
#include "cluster/bus_lane_in.h"
#include "cluster/bus_lane_out.h"

#define BUS_WATCHERS_MAX 32

struct bus_peer {
    struct bus_lane_out out;
    struct bus_lane_in in;
    uint64_t limit[2];                /* bytes of the outgoing window that may be used, by enum bus_room */
    struct publication_origin origin; /* the incarnation that the master announced last */
    uint64_t dropped_qos0;
    uint64_t lost_acknowledged;
};

struct bus_handler_entry {
    bus_handler handle;
    void *context;
};

struct bus {
    unsigned self;
    unsigned count; /* of peers */
    struct publication_origin origin;
    struct counters *counters;   /* borrowed */
    struct bus_carrier *carrier; /* borrowed; may be NULL */
    char *quarantine;            /* owned; may be NULL */
    void *context;
    void (*alarm)(void *context, unsigned peer, const char *text);

    uint64_t mapped;   /* there is a lane to this peer */
    uint64_t readable; /* there is one from it */
    uint64_t workers;  /* peers that are */
    bool links;
    const uint16_t *node_ids;
    void (*passing)(void *context, unsigned peer, uint64_t offset);
    uint64_t live;
    uint64_t unpublished; /* records were put since the last bus_publish */
    uint64_t unsent;      /* published frames have not been offered to the carrier */
    uint64_t refused;     /* the carrier said «again»: not offered until it is ready, or the next tick */
    uint64_t waiting;     /* found full: `room` is due once there is some */
    uint64_t
        lost_step;   /* a control record found no room: nothing is put until there is room for full state */
    uint64_t resync; /* our incoming lane was corrupt: `out_of_step` is due */
    bool full_stop;  /* bus_hold(): nothing more is applied now */
    bool applying;   /* a handler is running: no second level of receiving */
    bool applied;    /* records were applied since `turn_applied` */
    bool settling;   /* watchers are being told */

    uint64_t sequence;
    uint64_t stamp;
    uint64_t drained_us; /* when all rings were last read */
    uint64_t naps;       /* odd: the peers were told that this process sleeps */

    struct bus_handler_entry handlers[BUS_RECORD_TYPES];
    struct bus_watcher watchers[BUS_WATCHERS_MAX];
    unsigned watcher_count;
    uint8_t *scratch; /* owned: private copy of the frame that is read in place */
    struct bus_peer peers[];
};

static inline uint64_t bus_bit(unsigned peer)
{
    return (uint64_t)1 << peer;
}

/* Is this watcher told of this peer? */
bool bus_watcher_hears(const struct bus *bus, const struct bus_watcher *watcher, unsigned peer);

/* Tells the watchers what has become due: resync, turn_applied. Not while a handler runs. */
void bus_settle(struct bus *bus);

/* Applies what the peer has published. */
void bus_read_ring(struct bus *bus, unsigned peer);

/* Forgets what is owed to a peer that died or started again. */
void bus_out_reset(struct bus *bus, unsigned peer);
/* Offers the carrier once more what it refused. */
void bus_out_retry(struct bus *bus);
/* Lanes whose head has been ahead of the cursor for too long are read in place. */
void bus_in_tick(struct bus *bus, uint64_t now_us);

#endif
