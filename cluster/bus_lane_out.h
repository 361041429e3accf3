/*
 * The outgoing side of one lane, for bus.c alone: records are encoded straight into the ring, frames closed,
 * the head published, runs of frames given out for the carrier. Knows no peers, no carrier, no policy.
 *
 *     cursor          sent            head          tail
 *   ----|---------------|---------------|------------|-----------
 *       the peer is     the carrier     published    put, invisible yet
 *       here            has been        (survives)
 *                       given this
 */
#ifndef CLUSTER_BUS_LANE_OUT_H
#define CLUSTER_BUS_LANE_OUT_H

#include "shared/bus_frame.h"
#include "shared/bus_window.h"

/*
 * A sender that passes on what it read from other lanes notes how far: together with the head, so that after
 * a crash its next incarnation knows exactly which frames of the source lie in this ring already (BUS rules
 * 2). The entry is written before the head is published; one whose head lies beyond the published one never
 * holds.
 */
struct bus_lane_source {
    uint64_t id;
    uint64_t offset;  /* taken up to here; counts once the head is published */
    uint64_t number;  /* of the entry that holds */
    unsigned current; /* which of the two that is */
};

struct bus_lane_out {
    struct bus_window window;
    uint64_t tail;                   /* where the next byte goes */
    uint64_t frame;                  /* where the open frame starts */
    uint64_t head;                   /* as published */
    uint64_t sent;                   /* handed to the carrier up to here */
    uint64_t cursor;                 /* the peer's, as last read */
    uint64_t nap;                    /* of the peer, for which it was woken */
    unsigned frames;                 /* closed since the last bus_lane_out_publish */
    bool open;                       /* a frame is open */
    bool cursor_bad;                 /* the peer's cursor made no sense when last read */
    struct bus_lane_source *sources; /* owned, [BUS_WINDOW_SOURCES]; NULL until one is used */
    uint64_t dirty;                  /* sources to be noted at the next publication */
};

/* What was taken from this source as of the published head; 0 if nothing was of the one with this id. */
uint64_t bus_lane_out_taken(const struct bus_lane_out *lane, unsigned source, uint64_t id);
/* All up to here of this source was put by now. STATUS_NO_MEMORY at the first use only. */
enum status bus_lane_out_take(
    struct bus_lane_out *lane, unsigned source, uint64_t id, uint64_t offset) CHECK_RESULT;
/* Writes the entries that are due, for a head that is about to be published. */
void bus_lane_out_note(struct bus_lane_out *lane, uint64_t head);

/* What a record may cost beside its body: its header, a new frame's header, the gap behind that. */
#define BUS_LANE_OVERHEAD (BUS_RECORD_HEADER_SIZE + BUS_FRAME_HEADER_SIZE + 8)

/* Takes up where the last incarnation of this process published, whatever it had begun behind that. */
void bus_lane_out_start(struct bus_lane_out *lane);

/* Reads the peer's cursor again. False, and the old one stays: it makes no sense. */
bool bus_lane_out_reload(struct bus_lane_out *lane);

/* Bytes of the window that the peer has not applied, as far as known. */
static inline uint64_t bus_lane_out_used(const struct bus_lane_out *lane)
{
    return lane->tail - lane->cursor;
}

/* True if a record of this size fits while no more than `limit` bytes of the window may be used. */
static inline bool bus_lane_out_fits(const struct bus_lane_out *lane, size_t size, uint64_t limit)
{
    return bus_lane_out_used(lane) + size + BUS_LANE_OVERHEAD <= limit;
}

/* Gives the open frame its header. */
void bus_lane_out_close(struct bus_lane_out *lane, struct publication_origin origin);

/* Room for one record's body that is known to fit. */
static inline uint8_t *bus_lane_out_put(
    struct bus_lane_out *lane, struct publication_origin origin, uint8_t type, size_t size)
{
    if (lane->open && lane->tail - lane->frame + BUS_RECORD_HEADER_SIZE + size > BUS_FRAME_MAX)
        bus_lane_out_close(lane, origin);
    if (!lane->open) {
        lane->open = true;
        lane->frame = lane->tail;
        lane->tail += BUS_FRAME_HEADER_SIZE;
    }
    uint8_t *at = bus_window_at(&lane->window, lane->tail);
    lane->tail += BUS_RECORD_HEADER_SIZE + size;
    return bus_record_begin(at, type, size);
}

/* Makes all closed frames visible to the peer; they survive this process from here on. */
static inline void bus_lane_out_publish(struct bus_lane_out *lane)
{
    if (lane->dirty != 0)
        bus_lane_out_note(lane, lane->tail);
    lane->head = lane->tail;
    lane->frames = 0;
    bus_window_store(lane->window.head, lane->head);
}

/* True once for each time that the peer sleeps: it must be woken to see what was published. */
bool bus_lane_out_wakes(struct bus_lane_out *lane);

/* The next run of whole published frames for the carrier, at most BUS_FRAME_MAX bytes; empty: nothing left.
 */
struct bytes bus_lane_out_run(struct bus_lane_out *lane);

#endif
