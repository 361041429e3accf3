/* The outgoing side of one lane. See the header for its picture; bus.c drives it. */
#include "cluster/bus_lane_out.h"

#include <assert.h>
#include <stdlib.h>

/*
 * Notes for a head that never was: the last incarnation died between them and it. Now, before the head moves
 * on and they seem to hold.
 */
static void drop_unborn_notes(struct bus_lane_out *lane)
{
    for (unsigned i = 0; i < BUS_WINDOW_SOURCES; i++) {
        for (unsigned k = 0; k < 2; k++) {
            struct bus_window_taken *entry = &lane->window.taken[i][k];
            if (entry->number != 0 && (int64_t)(lane->head - entry->head) < 0)
                entry->number = 0;
        }
    }
}

void bus_lane_out_start(struct bus_lane_out *lane)
{
    /* A head that is no multiple of 8 is damage: the peer will find its ring corrupt and skip to our head. */
    lane->head = (bus_window_load(lane->window.head) + 7) & ~(uint64_t)7;
    lane->tail = lane->sent = lane->frame = lane->head;
    lane->open = false;
    lane->cursor_bad = false;
    lane->cursor = lane->head;
    drop_unborn_notes(lane);
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

bool bus_lane_out_wakes(struct bus_lane_out *lane)
{
    /* The head was stored before, and the peer looks at it after it has said that it sleeps. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint64_t nap = bus_window_load(lane->window.naps);
    if (nap % 2 == 0 || nap == lane->nap)
        return false;
    lane->nap = nap;
    return true;
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

/* The entry that holds for this head, or NULL. */
static struct bus_window_taken *entry_of(const struct bus_lane_out *lane, unsigned source)
{
    struct bus_window_taken *pair = lane->window.taken[source], *best = NULL;
    for (unsigned i = 0; i < 2; i++) {
        bool holds = pair[i].number != 0 && (int64_t)(lane->head - pair[i].head) >= 0;
        if (holds && (best == NULL || pair[i].number > best->number))
            best = &pair[i];
    }
    return best;
}

/* Reads what the last incarnation noted, and clears what it wrote for a head that never was. */
static enum status load_sources(struct bus_lane_out *lane)
{
    lane->sources = calloc(BUS_WINDOW_SOURCES, sizeof *lane->sources);
    if (lane->sources == NULL)
        return STATUS_NO_MEMORY;
    for (unsigned i = 0; i < BUS_WINDOW_SOURCES; i++) {
        const struct bus_window_taken *entry = entry_of(lane, i);
        struct bus_window_taken *pair = lane->window.taken[i];
        if (entry != NULL)
            lane->sources[i] = (struct bus_lane_source){.id = entry->id,
                .offset = entry->offset,
                .number = entry->number,
                .current = entry == &pair[1]};
        pair[entry == &pair[1] ? 0 : 1].number = 0;
        if (entry == NULL)
            pair[0].number = 0;
    }
    return STATUS_OK;
}

uint64_t bus_lane_out_taken(const struct bus_lane_out *lane, unsigned source, uint64_t id)
{
    if (lane->sources != NULL)
        return lane->sources[source].id == id ? lane->sources[source].offset : 0;
    const struct bus_window_taken *entry = entry_of(lane, source);
    return entry != NULL && entry->id == id ? entry->offset : 0;
}

enum status bus_lane_out_take(struct bus_lane_out *lane, unsigned source, uint64_t id, uint64_t offset)
{
    assert(source < BUS_WINDOW_SOURCES);
    if (lane->sources == NULL && load_sources(lane) != STATUS_OK)
        return STATUS_NO_MEMORY;
    lane->sources[source].id = id;
    lane->sources[source].offset = offset;
    lane->dirty |= UINT64_C(1) << source;
    return STATUS_OK;
}

void bus_lane_out_note(struct bus_lane_out *lane, uint64_t head)
{
    for (uint64_t left = lane->dirty; left != 0; left &= left - 1) {
        unsigned index = (unsigned)__builtin_ctzll(left);
        struct bus_lane_source *source = &lane->sources[index];
        source->current ^= 1;
        source->number++;
        struct bus_window_taken *entry = &lane->window.taken[index][source->current];
        bus_window_store(&entry->number, 0); /* killed in the middle: it says nothing */
        entry->id = source->id;
        entry->head = head;
        entry->offset = source->offset;
        bus_window_store(&entry->number, source->number);
    }
    lane->dirty = 0;
}
