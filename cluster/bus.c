/*
 * The bus of one process: its life, its peers, who is told what. Records out stand in bus_out.c, records in
 * in bus_in.c. Never reads a socket, never waits.
 */
#include "cluster/bus_state.h"

#include "shared/clock.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void bus_alarm(struct bus *bus, unsigned peer, const char *format, ...)
{
    if (bus->alarm == NULL)
        return;
    char text[4400]; /* a path and a sentence */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    bus->alarm(bus->context, peer, text);
}

static enum status map_lane(struct bus *bus, unsigned peer, const struct bus_lane_descriptors *lane)
{
    struct bus_peer *it = &bus->peers[peer];
    enum status status = bus_window_map_sender(lane->out_ring, lane->out_cursor, &it->out.window);
    bool readable = lane->in_ring >= 0;
    if (status == STATUS_OK && readable)
        status = bus_window_map_receiver(lane->in_ring, lane->in_cursor, &it->in.window);
    if (status != STATUS_OK)
        return status;
    bus->mapped |= bus_bit(peer);
    bus->readable |= readable ? bus_bit(peer) : 0;
    it->limit[BUS_ROOM_CONTROL] = it->out.window.size;
    it->limit[BUS_ROOM_PUBLICATION] = it->out.window.size - it->out.window.size / 8;
    bus_lane_out_start(&it->out);
    bus_window_store(it->out.window.behind, it->out.cursor_bad);
    if (it->out.cursor_bad) { /* until the peer has come to our head, and full state was exchanged */
        bus->lost_step |= bus_bit(peer);
        bus->waiting |= bus_bit(peer);
    }
    if (readable && !bus_lane_in_start(&it->in)) {
        bus->resync |= bus_bit(peer);
        bus->counters->bus_out_of_step++;
        bus_alarm(bus, peer, "the lane from it was corrupt at the start: full state will be exchanged");
    }
    return STATUS_OK;
}

static enum status map_lanes(struct bus *bus, const struct bus_lane_descriptors *lanes)
{
    for (unsigned peer = 0; peer < bus->count; peer++) {
        if (peer == bus->self || lanes[peer].out_ring < 0)
            continue;
        enum status status = map_lane(bus, peer, &lanes[peer]);
        if (status != STATUS_OK)
            return status;
    }
    bus_for_each_peer(bus->readable, peer)
    {
        uint64_t naps = bus_window_load(bus->peers[peer].in.window.naps);
        if (naps > bus->naps) /* an earlier incarnation may have died while it told them */
            bus->naps = naps;
    }
    bus->naps |= 1;
    bus_woken(bus);
    return STATUS_OK;
}

enum status bus_new(const struct bus_settings *settings, struct bus **ret_bus)
{
    assert(settings->peers <= BUS_PEERS_MAX && settings->self < settings->peers);
    struct bus *bus = calloc(1, sizeof *bus + settings->peers * sizeof bus->peers[0]);
    if (bus == NULL)
        return STATUS_NO_MEMORY;
    bus->self = settings->self;
    bus->count = settings->peers;
    bus->origin = settings->origin;
    bus->counters = settings->counters;
    bus->carrier = settings->carrier;
    bus->context = settings->context;
    bus->alarm = settings->alarm;
    bus->passing = settings->passing;
    unsigned workers = settings->workers != 0 ? settings->workers : settings->peers;
    bus->workers = workers >= 64 ? UINT64_MAX : bus_bit(workers) - 1;
    bus->links = settings->links;
    bus->node_ids = settings->node_ids;
    bus->scratch = malloc(BUS_FRAME_MAX);
    enum status status = bus->scratch == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK && settings->quarantine != NULL) {
        bus->quarantine = strdup(settings->quarantine);
        status = bus->quarantine == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    }
    if (status == STATUS_OK)
        status = map_lanes(bus, settings->lanes);
    if (status != STATUS_OK) {
        bus_free(&bus);
        return status;
    }
    *ret_bus = bus;
    return STATUS_OK;
}

void bus_free(struct bus **bus)
{
    struct bus *it = *bus;
    *bus = NULL;
    if (it == NULL)
        return;
    for (unsigned peer = 0; peer < it->count; peer++) {
        free(it->peers[peer].out.sources);
        bus_window_unmap(&it->peers[peer].out.window);
        bus_window_unmap(&it->peers[peer].in.window);
    }
    free(it->scratch);
    free(it->quarantine);
    free(it);
}

void bus_set_carrier(struct bus *bus, struct bus_carrier *carrier)
{
    bus->carrier = carrier;
}

unsigned bus_self(const struct bus *bus)
{
    return bus->self;
}

struct publication_origin bus_origin(const struct bus *bus)
{
    return bus->origin;
}

uint64_t bus_live_peers(const struct bus *bus)
{
    return bus->live & bus->workers;
}

uint64_t bus_live_all(const struct bus *bus)
{
    return bus->live;
}

uint64_t bus_live_targets(const struct bus *bus)
{
    return bus->live & (bus->workers | ~bus->readable);
}

struct publication_origin bus_peer_origin(const struct bus *bus, unsigned peer)
{
    return peer < bus->count ? bus->peers[peer].origin : (struct publication_origin){0};
}

uint64_t bus_next_sequence(struct bus *bus)
{
    return ++bus->sequence;
}

struct counters *bus_counters(struct bus *bus)
{
    return bus->counters;
}

/*
 * 48 bits of milliseconds, 10 bits of counter, 6 bits of slot: two workers that have not heard of each other
 * do not give the same. A counter that overflows borrows from the future.
 */
uint64_t bus_stamp(struct bus *bus)
{
    uint64_t least = (bus->stamp | (BUS_PEERS_MAX - 1)) + 1;
    uint64_t now = clock_real_us() / 1000 << 16;
    bus->stamp = (now > least ? now : least) | bus->self;
    return bus->stamp;
}

void bus_stamp_heard(struct bus *bus, uint64_t stamp)
{
    /* Nonsense from a broken peer must not bring the counter to its end. */
    if (stamp > bus->stamp && stamp < UINT64_MAX / 2)
        bus->stamp = stamp;
}

void bus_set_handler(struct bus *bus, enum bus_record_type type, bus_handler handler, void *context)
{
    assert(type < BUS_RECORD_TYPES);
    bus->handlers[type] = (struct bus_handler_entry){handler, context};
}

void bus_watch(struct bus *bus, const struct bus_watcher *watcher)
{
    assert(bus->watcher_count < BUS_WATCHERS_MAX);
    bus->watchers[bus->watcher_count++] = *watcher;
}

bool bus_watcher_hears(const struct bus *bus, const struct bus_watcher *watcher, unsigned peer)
{
    return watcher->far || bus->links || (bus->workers & bus_bit(peer)) != 0;
}

static void tell_out_of_step(struct bus *bus, unsigned peer)
{
    for (unsigned i = 0; i < bus->watcher_count; i++) {
        if (bus->watchers[i].out_of_step != NULL && bus_watcher_hears(bus, &bus->watchers[i], peer))
            bus->watchers[i].out_of_step(bus->watchers[i].context, peer);
    }
}

void bus_settle(struct bus *bus)
{
    if (bus->settling)
        return;
    bus->settling = true;
    uint64_t resync = bus->resync & bus->live;
    bus->resync &= ~resync;
    bus_for_each_peer(resync, peer) tell_out_of_step(bus, peer);
    if (bus->applied) {
        bus->applied = false;
        for (unsigned i = 0; i < bus->watcher_count; i++) {
            if (bus->watchers[i].turn_applied != NULL)
                bus->watchers[i].turn_applied(bus->watchers[i].context);
        }
    }
    bus->settling = false;
}

void bus_tick(struct bus *bus)
{
    if (bus->applying)
        return;
    uint64_t now_us = clock_monotonic_us();
    bus_in_tick(bus, now_us);
    bus_settle(bus);
    bus_out_retry(bus);
    bus_poll(bus);
    for (unsigned i = 0; i < bus->watcher_count; i++) {
        if (bus->watchers[i].tick != NULL)
            bus->watchers[i].tick(bus->watchers[i].context);
    }
}

static void tell_started(struct bus *bus, unsigned peer)
{
    for (unsigned i = 0; i < bus->watcher_count; i++) {
        if (bus->watchers[i].started != NULL && bus_watcher_hears(bus, &bus->watchers[i], peer))
            bus->watchers[i].started(bus->watchers[i].context, peer);
    }
}

static void bury(struct bus *bus, unsigned peer)
{
    bus_out_reset(bus, peer);
    bus->live &= ~bus_bit(peer);
    bus->resync &= ~bus_bit(peer);
    for (unsigned i = 0; i < bus->watcher_count; i++) {
        if (bus->watchers[i].died != NULL && bus_watcher_hears(bus, &bus->watchers[i], peer))
            bus->watchers[i].died(bus->watchers[i].context, peer);
    }
}

void bus_peer_started(struct bus *bus, unsigned peer, struct publication_origin origin)
{
    assert(peer < bus->count && !bus->applying);
    if ((bus->mapped & bus_bit(peer)) == 0)
        return;
    if ((bus->live & bus_bit(peer)) != 0)
        bus_peer_died(bus, peer);
    bus->peers[peer].origin = origin;
    bus->live |= bus_bit(peer);
    tell_started(bus, peer);
    bus_read_ring(bus, peer); /* what was held until now */
    bus_settle(bus);
}

void bus_peer_died(struct bus *bus, unsigned peer)
{
    assert(peer < bus->count && !bus->applying);
    if ((bus->live & bus_bit(peer)) == 0)
        return;
    bus_read_ring(bus, peer);
    bury(bus, peer);
    bus_settle(bus);
}

void bus_peer_renewed(struct bus *bus, unsigned peer, struct publication_origin origin)
{
    assert(peer < bus->count && !bus->applying);
    if ((bus->live & bus_bit(peer)) == 0) {
        bus_peer_started(bus, peer, origin);
        return;
    }
    bus_read_ring(bus, peer);
    bus->peers[peer].origin = origin;
    bus_read_ring(bus, peer);
    bus->resync |= bus_bit(peer);
    bus_settle(bus);
}

void bus_lane_restart(struct bus *bus, unsigned peer, uint64_t offset)
{
    assert(!bus->applying);
    if ((bus->readable & bus_bit(peer)) == 0)
        return;
    bus_read_ring(bus, peer);
    bus_lane_in_pass(&bus->peers[peer].in, offset);
}

void bus_node_started(struct bus *bus, unsigned peer, struct publication_origin origin)
{
    assert(peer < bus->count);
    uint64_t bit = bus_bit(peer);
    if ((bus->mapped & bit) == 0)
        return;
    if ((bus->live & bit) != 0 && bus->peers[peer].origin.incarnation == origin.incarnation) {
        bus->resync |= bit; /* the link is another: it and we may have missed something */
        return;
    }
    bus_node_died(bus, peer);
    bus->peers[peer].origin = origin;
    bus->live |= bit;
    tell_started(bus, peer);
}

void bus_node_died(struct bus *bus, unsigned peer)
{
    assert(peer < bus->count);
    if ((bus->live & bus_bit(peer)) != 0)
        bury(bus, peer);
}

void bus_node_write(uint8_t *to, unsigned peer, bool up, struct publication_origin origin)
{
    to[0] = (uint8_t)peer;
    to[1] = up;
    put_u16_le(to + 2, origin.node);
    put_u64_le(to + 4, origin.incarnation);
}

void bus_hold(struct bus *bus, bool hold)
{
    bus->full_stop = hold;
}

void bus_count_dropped_qos0(struct bus *bus, unsigned peer)
{
    bus->peers[peer].dropped_qos0++;
    bus->counters->bus_dropped_qos0++;
}

void bus_count_lost(struct bus *bus, unsigned peer)
{
    bus->peers[peer].lost_acknowledged++;
    bus->counters->bus_dropped_acknowledged++;
}

void bus_figures(const struct bus *bus, unsigned peer, struct bus_lane_figures *ret_figures)
{
    *ret_figures = (struct bus_lane_figures){0};
    if (peer >= bus->count || (bus->mapped & bus_bit(peer)) == 0)
        return;
    const struct bus_peer *it = &bus->peers[peer];
    *ret_figures = (struct bus_lane_figures){
        .head = it->out.head,
        .cursor = bus_window_load(it->out.window.cursor),
        .window = it->out.window.size,
        .dropped_qos0 = it->dropped_qos0,
        .lost_acknowledged = it->lost_acknowledged,
        .out_of_step = (bus->lost_step & bus_bit(peer)) != 0,
    };
}
