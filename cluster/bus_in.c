/*
 * Records in: a frame is applied if its offset is the lane's cursor, dropped if it lies below; everything
 * else is read from the ring in place. Whatever a peer wrote: a frame is dropped, a lane is skipped, nothing
 * faults.
 */
#include "cluster/bus_state.h"

#include "shared/clock.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* How long a head may be ahead of a cursor before the carrier is no longer waited for. */
#define STALE_US 100000
/* A process that has not read its rings for so long was perhaps stopped [BUS rules 4]. */
#define DRAIN_US 500000

/* cursor := head, and both sides exchange their full state. */
static void give_up_ring(struct bus *bus, unsigned peer)
{
    bus->counters->bus_frames_bad++;
    bus->counters->bus_out_of_step++;
    bus_lane_in_skip(&bus->peers[peer].in);
    bus->resync |= bus_bit(peer);
    bus_alarm(bus, peer, "the lane from it is corrupt: what it held is lost, full state will be exchanged");
}

/* A frame that ended its receiver twice: kept for whoever looks into it, and never tried again. */
static void quarantine(struct bus *bus, unsigned peer, struct bytes frame, uint64_t offset)
{
    bus->counters->bus_frames_bad++;
    if (bus->quarantine == NULL) {
        bus_alarm(bus, peer, "a frame from it was begun twice and not finished: dropped");
        return;
    }
    char path[4096];
    snprintf(path, sizeof path, "%s/lane-%u-%u-%" PRIu64 ".frame", bus->quarantine, peer, bus->self, offset);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool kept = fd >= 0 && write(fd, frame.data, frame.size) == (ssize_t)frame.size;
    if (fd >= 0)
        close(fd);
    bus_alarm(bus, peer, "a frame from it was begun twice and not finished: %s %s",
        kept ? "set aside as" : "dropped, could not be written to", path);
}

/* A node behind the link, which vouches for it: a peer with a lane to it and none from it. */
static bool is_node(const struct bus *bus, unsigned peer)
{
    return peer < bus->count && (bus->mapped & ~bus->readable & bus_bit(peer)) != 0;
}

static void apply_record(struct bus *bus, const struct bus_record *record);

/* A record of a node, or of one of its workers, that the link passes on. */
static void apply_as(struct bus *bus, const struct bus_record *record)
{
    struct bytes body = record->body;
    unsigned peer = body.size < BUS_AS_HEAD_SIZE ? BUS_PEERS_MAX : body.data[0];
    if (!is_node(bus, peer) || body.data[1] == BUS_RECORD_AS || body.data[1] == BUS_RECORD_NODE ||
        (bus->workers & bus_bit(record->peer)) != 0) {
        bus->counters->bus_frames_bad++;
        return;
    }
    if ((bus->live & bus_bit(peer)) == 0)
        return; /* it was lost meanwhile */
    struct bus_record inner = {.peer = peer,
        .origin = {.slot = get_u16_le(body.data + 2),
            .node = get_u16_le(body.data + 4),
            .incarnation = get_u64_le(body.data + 6)},
        .offset = record->offset,
        .type = (enum bus_record_type)body.data[1],
        .asker = bus->peers[peer].origin.incarnation,
        .body = bytes_of(body.data + BUS_AS_HEAD_SIZE, body.size - BUS_AS_HEAD_SIZE)};
    apply_record(bus, &inner);
}

static void apply_node(struct bus *bus, const struct bus_record *record)
{
    struct bytes body = record->body;
    unsigned peer = body.size != BUS_NODE_SIZE ? BUS_PEERS_MAX : body.data[0];
    if (!is_node(bus, peer) || (bus->workers & bus_bit(record->peer)) != 0) {
        bus->counters->bus_frames_bad++;
        return;
    }
    struct publication_origin origin = {
        .slot = (uint16_t)peer, .node = get_u16_le(body.data + 2), .incarnation = get_u64_le(body.data + 4)};
    if (body.data[1] != 0)
        bus_node_started(bus, peer, origin);
    else
        bus_node_died(bus, peer);
}

static void apply_record(struct bus *bus, const struct bus_record *record)
{
    if (__builtin_expect(record->type >= BUS_RECORD_AS && record->type < BUS_RECORD_TYPES, 0)) {
        if (record->type == BUS_RECORD_AS)
            apply_as(bus, record);
        else
            apply_node(bus, record);
        return;
    }
    const struct bus_handler_entry *entry = &bus->handlers[(unsigned)record->type % BUS_RECORD_TYPES];
    if (record->type >= BUS_RECORD_TYPES || entry->handle == NULL ||
        entry->handle(entry->context, record) != STATUS_OK)
        bus->counters->bus_frames_bad++;
}

static void apply_records(struct bus *bus, unsigned peer, const struct bus_frame *frame, struct bytes rest)
{
    struct bus_record record = {
        .peer = peer, .origin = frame->origin, .offset = frame->offset, .asker = frame->origin.incarnation};
    for (;;) {
        uint8_t type;
        enum status status = bus_record_next(&rest, &type, &record.body);
        if (status == STATUS_PROTOCOL)
            bus->counters->bus_frames_bad++;
        if (status != STATUS_OK)
            return;
        record.type = (enum bus_record_type)type;
        apply_record(bus, &record);
    }
}

/* Applies the frame at the lane's cursor; `bytes` is private and checked. */
static void apply_frame(struct bus *bus, unsigned peer, const struct bus_frame *frame, const uint8_t *bytes)
{
    struct bus_lane_in *lane = &bus->peers[peer].in;
    if (frame->origin.incarnation != bus->peers[peer].origin.incarnation) {
        /* Its writer died before we began: a live one's lane was read to its end when it died. So this was
           for our predecessor, and what it says is known here by other ways, or was lost with him. */
        bus_lane_in_pass(lane, frame->offset + bus_frame_stride(frame->length));
    } else if (bus_lane_in_try(lane)) {
        bus->applying = true;
        apply_records(
            bus, peer, frame, bytes_of(bytes + BUS_FRAME_HEADER_SIZE, frame->length - BUS_FRAME_HEADER_SIZE));
        bus->applying = false;
        bus->applied = true;
        bus->counters->bus_frames_received++;
    } else {
        quarantine(bus, peer, bytes_of(bytes, frame->length), frame->offset);
    }
    uint64_t end = frame->offset + bus_frame_stride(frame->length);
    if (bus->passing != NULL)
        bus->passing(bus->context, peer, end);
    bus_lane_in_pass(lane, end);
}

/*
 * A frame may be there before the master has told us that its writer lives: it waits in the ring until then,
 * since `started` clears what an earlier incarnation had said. (Incarnations grow.)
 */
static bool held(const struct bus *bus, unsigned peer, const struct bus_frame *frame)
{
    return (bus->live & bus_bit(peer)) == 0 ||
           frame->origin.incarnation > bus->peers[peer].origin.incarnation;
}

/* The frame is one of this peer. */
static bool is_from(const struct bus *bus, const struct bus_frame *frame, unsigned peer)
{
    return bus->links ? frame->origin.node == bus->node_ids[peer] : frame->origin.slot == peer;
}

void bus_read_ring(struct bus *bus, unsigned peer)
{
    struct bus_lane_in *lane = &bus->peers[peer].in;
    uint64_t head;
    if ((bus->readable & bus_bit(peer)) == 0)
        return;
    lane->seen = bus_window_load(lane->window.head);
    if (!bus_lane_in_head(lane, &head)) {
        give_up_ring(bus, peer);
        return;
    }
    for (;;) {
        struct bus_frame frame;
        enum status status = bus_lane_in_copy(lane, head, bus->scratch, &frame);
        if (status == STATUS_NOT_FOUND)
            return;
        if (status != STATUS_OK || !is_from(bus, &frame, peer)) {
            give_up_ring(bus, peer);
            return;
        }
        if (held(bus, peer, &frame) || bus->full_stop)
            return;
        apply_frame(bus, peer, &frame, bus->scratch);
    }
}

/* One frame of a message; `bytes` starts with it. */
static void receive_frame(struct bus *bus, const struct bus_frame *frame, const uint8_t *bytes)
{
    unsigned peer = frame->origin.slot;
    if (peer >= bus->count || (bus->readable & bus_bit(peer)) == 0) {
        bus->counters->bus_frames_bad++;
        return;
    }
    struct bus_lane_in *lane = &bus->peers[peer].in;
    uint64_t head;
    bool sane = bus_lane_in_head(lane, &head);
    if (held(bus, peer, frame) || (sane && frame->offset < lane->cursor))
        return;
    if (!sane || frame->offset > lane->cursor || frame->offset + bus_frame_stride(frame->length) > head ||
        !bus_frame_intact(bytes_of(bytes, frame->length))) {
        bus->counters->bus_gaps++;
        bus_read_ring(bus, peer);
        return;
    }
    apply_frame(bus, peer, frame, bytes);
}

void bus_receive(struct bus *bus, struct bytes message)
{
    if (bus->applying)
        return;
    while (message.size > 0) {
        struct bus_frame frame;
        if (bus_frame_parse(message, &frame) != STATUS_OK) {
            bus->counters->bus_frames_bad++;
            break;
        }
        receive_frame(bus, &frame, message.data);
        size_t stride = bus_frame_stride(frame.length);
        if (stride > message.size)
            stride = message.size;
        message.data += stride;
        message.size -= stride;
    }
    bus_settle(bus);
}

uint64_t bus_behind(const struct bus *bus)
{
    uint64_t behind = 0;
    bus_for_each_peer(bus->live & bus->readable, peer)
    {
        if (bus_window_load(bus->peers[peer].in.window.behind) != 0)
            behind |= bus_bit(peer);
    }
    return behind;
}

void bus_drain(struct bus *bus)
{
    if (bus->applying)
        return;
    bus->drained_us = clock_monotonic_us();
    bus_for_each_peer(bus->readable, peer) bus_read_ring(bus, peer);
    bus_settle(bus);
}

static void tell_naps(struct bus *bus)
{
    bus->naps++;
    bus_for_each_peer(bus->readable, peer) bus_window_store(bus->peers[peer].in.window.naps, bus->naps);
}

/* A frame that is held (see there) waits for the master's word: it does not keep us awake. */
static bool anything_new(const struct bus *bus)
{
    bus_for_each_peer(bus->readable, peer)
    {
        const struct bus_lane_in *lane = &bus->peers[peer].in;
        if (bus_window_load(lane->window.head) != lane->seen)
            return true;
    }
    return false;
}

bool bus_may_sleep(struct bus *bus)
{
    if (anything_new(bus))
        return false;
    tell_naps(bus);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!anything_new(bus))
        return true;
    tell_naps(bus);
    return false;
}

void bus_woken(struct bus *bus)
{
    if (bus->naps % 2 != 0)
        tell_naps(bus);
}

void bus_drain_if_stale(struct bus *bus, uint64_t now_us)
{
    if (now_us - bus->drained_us >= DRAIN_US)
        bus_drain(bus);
}

void bus_in_tick(struct bus *bus, uint64_t now_us)
{
    bus_for_each_peer(bus->readable, peer)
    {
        struct bus_lane_in *lane = &bus->peers[peer].in;
        /* Heals our own page, should anything have scribbled over it: the sender waits for it. */
        if (bus_window_load(lane->window.cursor) != lane->cursor)
            bus_lane_in_pass(lane, lane->cursor);
        if (!bus_lane_in_stale(lane, now_us, STALE_US))
            continue;
        uint64_t before = lane->cursor;
        bus_read_ring(bus, peer);
        bus->counters->bus_gaps += lane->cursor != before;
    }
}
