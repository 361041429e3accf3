/* The outgoing side of one lane. See the header for its picture; bus.c drives it. */
#include "cluster/bus_lane_out.h"

void bus_lane_out_start(struct bus_lane_out *lane)
{
    /* A head that is no multiple of 8 is damage: the peer will find its ring corrupt and skip to our head. */
    lane->head = (bus_window_load(lane->window.head) + 7) & ~(uint64_t)7;
    lane->tail = lane->sent = lane->frame = lane->head;
    lane->open = false;
    lane->cursor_bad = false;
    lane->cursor = lane->head;
    uint64_t cursor = bus_window_load(lane->window.cursor);
    if (lane->head - cursor <= lane->window.size)
        lane->cursor = cursor;
    else
        lane->cursor_bad = true;
}

bool bus_lane_out_reload(struct bus_lane_out *lane)
{
    uint64_t cursor = bus_window_load(lane->window.cursor);
    /* It never goes back and never passes what was published. */
    if (cursor - lane->cursor > lane->head - lane->cursor) {
        lane->cursor_bad = true;
        return false;
    }
    lane->cursor = cursor;
    lane->cursor_bad = false;
    return true;
}

void bus_lane_out_close(struct bus_lane_out *lane, struct publication_origin origin)
{
    uint8_t *at = bus_window_at(&lane->window, lane->frame);
    uint32_t length = (uint32_t)(lane->tail - lane->frame);
    bus_frame_finish(
        at, &(struct bus_frame){
                .type = BUS_FRAME_RECORDS, .length = length, .offset = lane->frame, .origin = origin});
    size_t stride = bus_frame_stride(length);
    memset(at + length, 0, stride - length);
    lane->tail = lane->frame + stride;
    lane->open = false;
    lane->frames++;
}

struct bytes bus_lane_out_run(struct bus_lane_out *lane)
{
    /* What the peer has applied may be overwritten already. */
    if (lane->cursor - lane->sent <= lane->head - lane->sent)
        lane->sent = lane->cursor;
    uint64_t left = lane->head - lane->sent;
    const uint8_t *start = bus_window_at(&lane->window, lane->sent);
    if (left <= BUS_FRAME_MAX)
        return bytes_of(start, (size_t)left);
    size_t run = 0;
    while (run < left) {
        struct bus_frame frame;
        enum status status = bus_frame_parse(bytes_of(start + run, (size_t)(left - run)), &frame);
        if (status != STATUS_OK || frame.offset != lane->sent + run)
            break; /* the peer's cursor pointed into a frame: it will read its ring in place */
        size_t stride = bus_frame_stride(frame.length);
        if (run + stride > BUS_FRAME_MAX)
            return bytes_of(start, run);
        run += stride;
    }
    lane->sent = lane->head;
    return BYTES_NONE;
}
