/* The incoming side of one lane: reading in place, cursor, frames that were tried. bus_in.c drives it. */
#include "cluster/bus_lane_in.h"

bool bus_lane_in_start(struct bus_lane_in *lane)
{
    uint64_t head;
    lane->stale_us = 0;
    lane->cursor = bus_window_load(lane->window.cursor);
    if (lane->cursor % 8 == 0 && bus_lane_in_head(lane, &head))
        return true;
    bus_lane_in_skip(lane);
    return false;
}

void bus_lane_in_skip(struct bus_lane_in *lane)
{
    /* The sender rounds a damaged head up in the same way when it starts. */
    bus_lane_in_pass(lane, (bus_window_load(lane->window.head) + 7) & ~(uint64_t)7);
}

enum status bus_lane_in_copy(
    const struct bus_lane_in *lane, uint64_t head, uint8_t *to, struct bus_frame *ret_frame)
{
    uint64_t left = head - lane->cursor;
    if (left == 0)
        return STATUS_NOT_FOUND;
    if (left < BUS_FRAME_HEADER_SIZE)
        return STATUS_PROTOCOL;
    const uint8_t *from = bus_window_at(&lane->window, lane->cursor);
    uint32_t length = get_u32_le(from + 4); /* a first guess, how much to copy: checked on the copy */
    if (length < BUS_FRAME_HEADER_SIZE || length > BUS_FRAME_MAX || length > left)
        return STATUS_PROTOCOL;
    memcpy(to, from, length);
    struct bus_frame frame;
    if (bus_frame_parse(bytes_of(to, length), &frame) != STATUS_OK || frame.length != length ||
        frame.offset != lane->cursor || bus_frame_stride(length) > left ||
        !bus_frame_intact(bytes_of(to, length)))
        return STATUS_PROTOCOL;
    *ret_frame = frame;
    return STATUS_OK;
}

bool bus_lane_in_try(struct bus_lane_in *lane)
{
    uint64_t mark = lane->cursor + 1;
    uint64_t tries = 0;
    if (bus_window_load(lane->window.trying) == mark)
        tries = bus_window_load(lane->window.tries);
    if (tries >= BUS_TRIES_MAX)
        return false;
    /* The count first: killed in between, an old mark with a new count only forgets one try. */
    bus_window_store(lane->window.tries, tries + 1);
    bus_window_store(lane->window.trying, mark);
    return true;
}

bool bus_lane_in_stale(struct bus_lane_in *lane, uint64_t now_us, uint64_t timeout_us)
{
    if (bus_window_load(lane->window.head) == lane->cursor) {
        lane->stale_us = 0;
        return false;
    }
    if (lane->stale_us == 0 || lane->stale_cursor != lane->cursor) {
        lane->stale_us = now_us;
        lane->stale_cursor = lane->cursor;
        return false;
    }
    return now_us - lane->stale_us >= timeout_us;
}
