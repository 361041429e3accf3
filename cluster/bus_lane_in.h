/*
 * The incoming side of one lane, for bus.c alone: what is next in the ring, copied before it is checked, and
 * the cursor with the mark of the frame that is being tried. The ring's content is hostile.
 */
#ifndef CLUSTER_BUS_LANE_IN_H
#define CLUSTER_BUS_LANE_IN_H

#include "shared/bus_frame.h"
#include "shared/bus_window.h"

/* A frame that was begun this often and never finished is set aside. */
#define BUS_TRIES_MAX 2

struct bus_lane_in {
    struct bus_window window;
    uint64_t cursor;       /* offset of the next frame to apply; the copy in the window follows it */
    uint64_t stale_cursor; /* where the cursor stood when the head was first seen ahead of it */
    uint64_t stale_us;     /* when that was; 0: head and cursor are equal as far as known */
    uint64_t seen;         /* the head when the ring was last read in place */
};

/* Takes up the cursor that the last incarnation left. False: it made no sense, or the head; cursor := head.
 */
bool bus_lane_in_start(struct bus_lane_in *lane);

/* Reads the sender's head; false: it is corrupt. */
static inline bool bus_lane_in_head(const struct bus_lane_in *lane, uint64_t *ret_head)
{
    uint64_t head = bus_window_load(lane->window.head);
    if (head - lane->cursor > lane->window.size || head % 8 != 0)
        return false;
    *ret_head = head;
    return true;
}

/*
 * Copies the frame at the cursor to `to` (BUS_FRAME_MAX bytes), checks the copy and returns its header.
 * `head` is from bus_lane_in_head. STATUS_NOT_FOUND: cursor = head. STATUS_PROTOCOL: corrupt.
 */
enum status bus_lane_in_copy(
    const struct bus_lane_in *lane, uint64_t head, uint8_t *to, struct bus_frame *ret_frame) CHECK_RESULT;

/* Marks the frame at the cursor as being tried. False: it was tried too often, pass it. */
bool bus_lane_in_try(struct bus_lane_in *lane);

/* The cursor moves on; the sender may overwrite what lies behind it. */
static inline void bus_lane_in_pass(struct bus_lane_in *lane, uint64_t cursor)
{
    lane->cursor = cursor;
    bus_window_store(lane->window.cursor, cursor);
}

/* Skips whatever there is: cursor := head. */
void bus_lane_in_skip(struct bus_lane_in *lane);

/* True if the head has been ahead of a cursor that did not move for `timeout_us`. Call it now and then. */
bool bus_lane_in_stale(struct bus_lane_in *lane, uint64_t now_us, uint64_t timeout_us);

#endif
