/*
 * What has landed from other nodes: to the workers that want it, once each. A frame that was given to some of
 * them when an earlier link died goes to the others alone. A worker that stands still has its long lane; then
 * what it would get is lost, to it alone, and counted.
 */
#include "cluster/link_relay_private.h"

#include "cluster/share_record.h"
#include "shared/clock.h"

#include <stdlib.h>

/* Beside the record itself, its heads. */
#define ROOM_SLACK 128u
/* A worker whose lane is full and that has taken nothing for so long holds up the others no longer. */
#define STANDS_STILL_US 1000000u

bool relay_has_room(struct relay *relay)
{
    struct bus *bus = relay->settings.workers;
    uint64_t now_us = clock_monotonic_us();
    uint64_t full = bus_full(bus, relay_workers(relay), BUS_FRAME_MAX + ROOM_SLACK, BUS_ROOM_PUBLICATION);
    for (unsigned slot = 0; slot < relay->settings.worker_count; slot++) {
        struct relay_worker *worker = &relay->workers[slot];
        uint64_t bit = UINT64_C(1) << slot;
        uint64_t used = (full & bit) != 0 ? bus_used(bus, slot) : 0;
        if ((full & bit) == 0 || worker->full_us == 0 || worker->full_cursor != used) {
            worker->full_us = (full & bit) != 0 ? now_us : 0;
            worker->full_cursor = used;
            relay->given_up &= ~bit;
        } else if (now_us - worker->full_us >= STANDS_STILL_US) {
            relay->given_up |= bit;
        }
    }
    return (full & ~relay->given_up) == 0;
}

void relay_passing_frame(struct relay *relay, unsigned peer, uint64_t offset)
{
    struct bus *bus = relay->settings.workers;
    unsigned node = peer - relay->settings.first_node;
    bus_for_each_peer(relay_workers(relay), slot)
    {
        if (bus_take(bus, slot, node, relay->nodes[node].life, offset) != STATUS_OK)
            relay->settings.counters->bus_frames_bad++; /* no memory: a crash now might double */
    }
    bus_publish(bus);
    relay->nodes[node].figures.received++;
    bus_hold(relay->settings.links, !relay_has_room(relay));
}

/* ---- to whom --------------------------------------------------------------------------------------------
 */

/* One of our workers with members of the group, by the number of its members; 64: there is none. */
static unsigned pick_worker(const struct relay *relay, const struct topic_group *group, uint64_t value)
{
    uint64_t live = relay_workers(relay), peers = group->peers & live;
    uint64_t connected = peers & ~group->away_peers;
    if (connected != 0)
        peers = connected;
    uint64_t sum = 0;
    bus_for_each_peer(peers, slot) sum += group->peer_members[slot];
    if (sum == 0)
        return 64;
    uint64_t at = value % sum;
    bus_for_each_peer(peers, slot)
    {
        if (at < group->peer_members[slot])
            return slot;
        at -= group->peer_members[slot];
    }
    return 64;
}

/*
 * Picks that fell on this node become picks of one of its workers, in place; returns those workers. Which
 * member it is the worker decides, as for any pick.
 */
static uint64_t settle_picks(struct relay *relay, const struct publication_view *view, uint64_t *durable)
{
    struct share_reader reader;
    struct share_pick pick;
    uint64_t targets = 0;
    if (view->shares == NULL || share_record_read(publication_shares(view), &reader) != STATUS_OK)
        return 0;
    while (share_record_next(&reader, &pick)) {
        uint8_t *at = (uint8_t *)(uintptr_t)pick.filter.data - SHARE_PICK_SIZE;
        if (pick.incarnation != relay->settings.life)
            continue;
        at[0] = UINT8_MAX; /* nobody's, unless there is a member */
        put_u64_le(at + 10, 0);
        struct topic_filter *filter = topic_index_find(relay->settings.index, pick.filter);
        struct topic_group *group = filter != NULL ? topic_index_find_group(filter, pick.group) : NULL;
        unsigned slot = group != NULL ? pick_worker(relay, group, group->cursor++) : 64;
        if (slot == 64)
            continue;
        at[0] = (uint8_t)slot;
        put_u64_le(at + 2, bus_peer_origin(relay->settings.workers, slot).incarnation);
        targets |= UINT64_C(1) << slot;
        *durable |= group->durable_peers & UINT64_C(1) << slot;
    }
    return targets;
}

/* Workers that want it; `durable`: those that hold it for a session that outlives its connection. */
static uint64_t targets_of(struct relay *relay, const struct publication_view *view, uint64_t *ret_durable)
{
    uint64_t targets = 0, durable = 0, live = relay_workers(relay);
    if (!view->meta.shares_only) {
        struct topic_match match = topic_index_match(relay->settings.index, view->topic);
        for (uint32_t i = 0; i < match.count; i++) {
            targets |= match.filters[i]->peers;
            durable |= match.filters[i]->durable_peers;
        }
        if (view->meta.retain)
            targets |= live;
    }
    targets |= settle_picks(relay, view, &durable);
    *ret_durable = durable & targets & live;
    return targets & live;
}

/* ---- putting --------------------------------------------------------------------------------------------
 */

static void count_lost(struct relay *relay, unsigned slot, unsigned node, unsigned qos)
{
    relay->nodes[node].figures.lost++;
    if (qos == 0)
        bus_count_dropped_qos0(relay->settings.workers, slot);
    else
        bus_count_lost(relay->settings.workers, slot);
}

static void put(struct relay *relay, const struct bus_record *record, struct publication_origin origin,
    enum bus_record_type type, struct bytes body, uint64_t targets, unsigned qos)
{
    struct bus *bus = relay->settings.workers;
    unsigned node = record->peer - relay->settings.first_node;
    uint64_t bits = targets & relay->given_up;
    uint64_t full = bits != 0 ? bus_full(bus, bits, body.size + ROOM_SLACK, BUS_ROOM_PUBLICATION) : 0;
    bus_for_each_peer(targets, slot)
    {
        if (record->offset < bus_taken(bus, slot, node, relay->nodes[node].life))
            continue; /* an earlier link has put it there */
        uint8_t *to = NULL;
        if ((full >> slot & 1) == 0)
            to = bus_put_as(bus, slot, record->peer, origin, type, body.size, BUS_ROOM_PUBLICATION);
        if (to == NULL)
            count_lost(relay, slot, node, qos);
        else
            record_write_bytes(to, body);
    }
}

/* The ask stands first of what may follow the fixed part (acceptance_record.h). */
#define ASK_AT 20u

/* A publication body in relay->body; `view` points into it. */
static uint64_t prepare(struct relay *relay, const struct bus_record *record,
    struct publication_origin origin, const struct publication_view *view, uint64_t ask)
{
    uint64_t durable;
    uint64_t targets = targets_of(relay, view, &durable);
    if (ask != 0)
        put_u64_le(relay->body + ASK_AT, relay_ask(relay, record->peer - relay->settings.first_node,
                                             origin.slot, origin.incarnation, ask, durable));
    return targets;
}

static void on_publication(
    struct relay *relay, const struct bus_record *record, struct publication_origin origin, struct bytes body)
{
    struct publication_view view;
    uint64_t ask;
    record_write_bytes(relay->body, body);
    body.data = relay->body;
    if (acceptance_record_read(body, &origin, &view, &ask) != STATUS_OK) {
        relay->settings.counters->bus_frames_bad++;
        return;
    }
    uint64_t targets = prepare(relay, record, origin, &view, ask);
    put(relay, record, origin, BUS_RECORD_PUBLICATION, body, targets, view.meta.qos);
}

/* ---- in parts -------------------------------------------------------------------------------------------
 */

static void transfer_free(struct relay *relay, struct relay_transfer *it)
{
    list_remove(&it->link);
    relay->transfer_count--;
    free(it);
}

void relay_transfers_drop(struct relay *relay, unsigned node)
{
    list_for_each(&relay->transfers, link, following)
    {
        struct relay_transfer *it = list_entry(link, struct relay_transfer, link);
        if (it->node == node)
            transfer_free(relay, it);
    }
}

static struct relay_transfer *transfer_find(
    struct relay *relay, unsigned node, struct publication_origin origin, uint64_t number)
{
    list_for_each(&relay->transfers, link, following)
    {
        struct relay_transfer *it = list_entry(link, struct relay_transfer, link);
        if (it->node == node && it->slot == origin.slot && it->incarnation == origin.incarnation &&
            it->number == number)
            return it;
    }
    return NULL;
}

static void transfer_note(
    struct relay *relay, unsigned node, struct publication_origin origin, uint64_t number, uint64_t targets)
{
    if (relay->transfer_count == RELAY_TRANSFERS_MAX) /* the oldest was given up by its sender */
        transfer_free(relay, list_entry(relay->transfers.next, struct relay_transfer, link));
    struct relay_transfer *it = malloc(sizeof *it);
    if (it == NULL)
        return; /* all workers get the rest: those without its beginning pass it over */
    *it = (struct relay_transfer){.incarnation = origin.incarnation,
        .number = number,
        .targets = targets,
        .node = (uint8_t)node,
        .slot = (uint8_t)origin.slot};
    list_append(&relay->transfers, &it->link);
    relay->transfer_count++;
}

/*
 * The first part says who wants it, unless the topic is longer than a part. What is not known (that, or an
 * earlier link had seen the first part) goes to all: a worker without the beginning passes the rest over, one
 * that gets it for nothing finds no subscription.
 */
static void on_fragment(
    struct relay *relay, const struct bus_record *record, struct publication_origin origin, struct bytes body)
{
    unsigned node = record->peer - relay->settings.first_node;
    struct acceptance_fragment fragment;
    struct publication_view view;
    uint64_t ask, targets = relay_workers(relay);
    if (acceptance_fragment_read(body, &fragment) != STATUS_OK) {
        relay->settings.counters->bus_frames_bad++;
        return;
    }
    if (fragment.at == 0) {
        static uint8_t part[BUS_FRAME_MAX];
        record_write_bytes(relay->body, fragment.bytes);
        fragment.bytes.data = relay->body;
        if (acceptance_record_read(fragment.bytes, &origin, &view, &ask) == STATUS_OK) {
            targets = prepare(relay, record, origin, &view, ask);
            transfer_note(relay, node, origin, fragment.transfer, targets);
        }
        acceptance_fragment_write(part, &fragment);
        body.data = part;
    }
    struct relay_transfer *transfer = transfer_find(relay, node, origin, fragment.transfer);
    if (transfer != NULL)
        targets = transfer->targets & relay_workers(relay);
    put(relay, record, origin, BUS_RECORD_FRAGMENT, body, targets, 1);
    if (transfer != NULL && fragment.at + fragment.bytes.size == fragment.total)
        transfer_free(relay, transfer);
}

enum status relay_on_forward(void *context, const struct bus_record *record)
{
    struct relay *relay = context;
    struct record_reader reader = record_read(record->body);
    struct publication_origin origin = {.node = record->origin.node};
    origin.slot = record_read_u16(&reader);
    origin.incarnation = record_read_u64(&reader);
    if (reader.failed || origin.slot >= 64)
        return STATUS_PROTOCOL;
    for (;;) {
        uint8_t type;
        struct bytes body;
        enum status status = bus_record_next(&reader.rest, &type, &body);
        if (status == STATUS_NOT_FOUND)
            return STATUS_OK;
        if (status != STATUS_OK)
            return status;
        if (type == BUS_RECORD_PUBLICATION)
            on_publication(relay, record, origin, body);
        else if (type == BUS_RECORD_FRAGMENT)
            on_fragment(relay, record, origin, body);
        else if (type == BUS_RECORD_RETAINED) /* every worker keeps them */
            put(relay, record, origin, BUS_RECORD_RETAINED, body, relay_workers(relay), 1);
        else
            relay->settings.counters->bus_frames_bad++;
    }
}
