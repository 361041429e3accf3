/*
 * Records out: room, put, publish, carrier. The order that everything rests on: heads are published before
 * the carrier hears of a frame, and before any client is answered.
 */
#include "cluster/bus_state.h"

#include <assert.h>

/* Looks again at what is used. Corruption on the peer's side: it is out of step until its cursor is sane
 * again. */
static void reload(struct bus *bus, unsigned peer)
{
    struct bus_lane_out *lane = &bus->peers[peer].out;
    bool was_bad = lane->cursor_bad;
    if (bus_lane_out_reload(lane) || was_bad)
        return;
    bus_alarm(bus, peer, "the cursor of the lane to it is corrupt: full state will be exchanged");
    bus->lost_step |= bus_bit(peer);
    bus_window_store(lane->window.behind, 1);
    bus->waiting |= bus_bit(peer);
    bus->counters->bus_out_of_step++;
}

/* True if the record fits, after a second look at the cursor if need be. */
static inline bool fits(struct bus *bus, unsigned peer, size_t size, enum bus_room room)
{
    struct bus_peer *it = &bus->peers[peer];
    if (bus_lane_out_fits(&it->out, size, it->limit[room]))
        return true;
    reload(bus, peer);
    return bus_lane_out_fits(&it->out, size, it->limit[room]);
}

uint64_t bus_full(struct bus *bus, uint64_t peers, size_t size, enum bus_room room)
{
    uint64_t full = peers & bus->lost_step;
    bus_for_each_peer(peers & bus->live & ~bus->lost_step, peer)
    {
        if (!fits(bus, peer, size, room))
            full |= bus_bit(peer);
    }
    bus->waiting |= full;
    return full;
}

uint64_t bus_used(struct bus *bus, unsigned peer)
{
    reload(bus, peer);
    return bus_lane_out_used(&bus->peers[peer].out);
}

uint64_t bus_window_of(const struct bus *bus, unsigned peer)
{
    return peer < bus->count ? bus->peers[peer].out.window.size : 0;
}

void bus_wait_room(struct bus *bus, uint64_t peers)
{
    bus->waiting |= peers & bus->live;
}

/* Nothing more is kept for a peer that could not be told something it must know (BUS rules 1, room). */
static void lose_step(struct bus *bus, unsigned peer)
{
    bus->lost_step |= bus_bit(peer);
    bus_window_store(bus->peers[peer].out.window.behind, 1);
    bus->counters->bus_out_of_step++;
    bus_alarm(bus, peer, "no room for control records in the lane to it: it is out of step until there is");
}

uint8_t *bus_put(struct bus *bus, unsigned peer, enum bus_record_type type, size_t size, enum bus_room room)
{
    assert(size <= BUS_RECORD_PACKED_MAX);
    uint64_t bit = bus_bit(peer);
    if (peer >= bus->count || ((bus->live & ~bus->lost_step) & bit) == 0)
        return NULL;
    if (!fits(bus, peer, size, room)) {
        bus->waiting |= bit;
        if (room == BUS_ROOM_CONTROL && (bus->lost_step & bit) == 0)
            lose_step(bus, peer);
        return NULL;
    }
    bus->unpublished |= bit;
    return bus_lane_out_put(&bus->peers[peer].out, bus->origin, (uint8_t)type, size);
}

uint8_t *bus_put_as(struct bus *bus, unsigned peer, unsigned as, struct publication_origin origin,
    enum bus_record_type type, size_t size, enum bus_room room)
{
    uint8_t *to = bus_put(bus, peer, BUS_RECORD_AS, BUS_AS_HEAD_SIZE + size, room);
    if (to == NULL)
        return NULL;
    to[0] = (uint8_t)as;
    to[1] = (uint8_t)type;
    put_u16_le(to + 2, origin.slot);
    put_u16_le(to + 4, origin.node);
    put_u64_le(to + 6, origin.incarnation);
    return to + BUS_AS_HEAD_SIZE;
}

enum status bus_take(struct bus *bus, unsigned peer, unsigned source, uint64_t id, uint64_t offset)
{
    enum status status = bus_lane_out_take(&bus->peers[peer].out, source, id, offset);
    if (status == STATUS_OK)
        bus->unpublished |= bus_bit(peer);
    return status;
}

uint64_t bus_taken(const struct bus *bus, unsigned peer, unsigned source, uint64_t id)
{
    return bus_lane_out_taken(&bus->peers[peer].out, source, id);
}

void bus_resend(struct bus *bus, unsigned peer, uint64_t offset)
{
    struct bus_lane_out *lane = &bus->peers[peer].out;
    uint64_t bit = bus_bit(peer);
    if ((bus->mapped & bit) == 0 || lane->head - offset > lane->window.size)
        return;
    lane->sent = offset;
    bus->refused &= ~bit;
    bus->unsent |= bit;
}

bool bus_unpublished(const struct bus *bus)
{
    return bus->unpublished != 0;
}

void bus_publish(struct bus *bus)
{
    bus_for_each_peer(bus->unpublished, peer)
    {
        struct bus_lane_out *lane = &bus->peers[peer].out;
        if (lane->open)
            bus_lane_out_close(lane, bus->origin);
        bus->counters->bus_frames_sent += lane->frames;
        bus->counters->bus_bytes_sent += lane->tail - lane->head;
        bus_lane_out_publish(lane);
    }
    bus->unsent |= bus->unpublished;
    bus->unpublished = 0;
}

/* Offers what was published. Whatever the carrier does with it: the ring is the truth. */
static void offer_carrier(struct bus *bus, unsigned peer)
{
    struct bus_lane_out *lane = &bus->peers[peer].out;
    bus->unsent &= ~bus_bit(peer);
    if (bus->carrier != NULL && bus->carrier->ops->wake != NULL) {
        lane->sent = lane->head;
        if (bus_lane_out_wakes(lane))
            bus->carrier->ops->wake(bus->carrier, peer);
        return;
    }
    for (;;) {
        struct bytes run = bus_lane_out_run(lane);
        if (run.size == 0)
            return;
        enum status status = STATUS_OK;
        if (bus->carrier != NULL)
            status = bus->carrier->ops->send(bus->carrier, peer, run);
        if (status == STATUS_AGAIN) {
            bus->refused |= bus_bit(peer);
            return;
        }
        lane->sent += run.size;
    }
}

void bus_turn_end(struct bus *bus)
{
    for (unsigned i = 0; i < bus->watcher_count; i++) {
        if (bus->watchers[i].turn_ending != NULL)
            bus->watchers[i].turn_ending(bus->watchers[i].context);
    }
    bus_publish(bus);
    bus_for_each_peer(bus->unsent & ~bus->refused, peer) offer_carrier(bus, peer);
}

void bus_carrier_ready(struct bus *bus, unsigned peer)
{
    uint64_t bit = bus_bit(peer);
    if (peer >= bus->count || (bus->refused & bit) == 0)
        return;
    bus->refused &= ~bit;
    offer_carrier(bus, peer);
}

void bus_out_retry(struct bus *bus)
{
    bus_for_each_peer(bus->refused, peer) bus_carrier_ready(bus, peer);
}

void bus_out_reset(struct bus *bus, unsigned peer)
{
    uint64_t keep = ~bus_bit(peer);
    struct bus_lane_out *lane = &bus->peers[peer].out;
    if (lane->open)
        bus_lane_out_close(lane, bus->origin);
    bus_lane_out_publish(lane);
    lane->sent = lane->head; /* its next incarnation reads the ring in place */
    bus->unpublished &= keep;
    bus->unsent &= keep;
    bus->refused &= keep;
    bus->waiting &= keep;
    bus->lost_step &= keep;
    bus_window_store(lane->window.behind, 0);
}

bool bus_wants_poll(const struct bus *bus)
{
    return (bus->waiting & bus->live) != 0;
}

/* Room for full state, and not for the next record only: half the window. */
static bool has_room_again(struct bus *bus, unsigned peer)
{
    struct bus_lane_out *lane = &bus->peers[peer].out;
    reload(bus, peer);
    return !lane->cursor_bad && bus_lane_out_used(lane) <= lane->window.size / 2;
}

/* Full state first, then whatever was kept back. */
static void tell_room(struct bus *bus, unsigned peer)
{
    uint64_t bit = bus_bit(peer);
    bool lost_step = (bus->lost_step & bit) != 0;
    bus->waiting &= ~bit;
    bus->lost_step &= ~bit;
    for (unsigned i = 0; lost_step && i < bus->watcher_count; i++) {
        if (bus->watchers[i].out_of_step != NULL && bus_watcher_hears(bus, &bus->watchers[i], peer))
            bus->watchers[i].out_of_step(bus->watchers[i].context, peer);
    }
    if (lost_step) { /* it reads the mark or, behind it in the lane, the request to ask for full state */
        bus_publish(bus);
        bus_window_store(bus->peers[peer].out.window.behind, 0);
    }
    for (unsigned i = 0; i < bus->watcher_count; i++) {
        if (bus->watchers[i].room != NULL && bus_watcher_hears(bus, &bus->watchers[i], peer))
            bus->watchers[i].room(bus->watchers[i].context, peer);
    }
}

void bus_poll(struct bus *bus)
{
    if (bus->applying || bus->settling)
        return;
    bus->settling = true;
    bus_for_each_peer(bus->waiting & bus->live, peer)
    {
        if ((bus->live & bus_bit(peer)) != 0 && has_room_again(bus, peer))
            tell_room(bus, peer);
    }
    bus->settling = false;
}
