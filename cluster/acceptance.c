/*
 * Offers of publications to lanes. What fits goes straight into the rings; the rest of this file is about
 * lanes that are full: who waits for them, for how long, and what is lost afterwards. No sockets, no
 * sessions.
 */
#include "cluster/acceptance_state.h"

#include "shared/clock.h"

#include <stdlib.h>

static uint64_t cursor_of(const struct acceptance *acceptance, unsigned peer)
{
    struct bus_lane_figures figures;
    bus_figures(acceptance->bus, peer, &figures);
    return figures.cursor;
}

void acceptance_lane_full(struct acceptance *acceptance, unsigned peer)
{
    uint64_t bit = acceptance_bit(peer);
    bus_wait_room(acceptance->bus, bit);
    if ((acceptance->full & bit) != 0)
        return;
    acceptance->full |= bit;
    struct acceptance_lane *lane = &acceptance->lanes[peer];
    bool stands = lane->crowded_us != 0 && cursor_of(acceptance, peer) == lane->crowded_cursor;
    lane->full_since_us = stands ? lane->crowded_us : clock_monotonic_us();
}

void acceptance_lane_crowded(struct acceptance *acceptance, unsigned peer)
{
    struct acceptance_lane *lane = &acceptance->lanes[peer];
    uint64_t cursor = cursor_of(acceptance, peer);
    if (lane->crowded_us != 0 && cursor == lane->crowded_cursor)
        return;
    lane->crowded_us = clock_monotonic_us();
    lane->crowded_cursor = cursor;
}

void acceptance_call_room(struct acceptance *acceptance)
{
    if (!acceptance->stalled)
        return;
    acceptance->stalled = false;
    acceptance->settings.room(acceptance->settings.context);
}

/* The identity, once it is sure to be taken; one that comes with an identity keeps it. */
static void identify(struct acceptance *acceptance, struct publication_meta *meta)
{
    if (meta->sequence != 0)
        return;
    meta->origin = bus_origin(acceptance->bus);
    meta->sequence = bus_next_sequence(acceptance->bus);
}

static bool is_own(const struct acceptance *acceptance, const struct publication_meta *meta)
{
    return meta->sequence == 0 || meta->origin.incarnation == bus_origin(acceptance->bus).incarnation;
}

/* Into lanes that are known to have room. `size`: acceptance_record_size() of just this. */
static void put_whole(struct acceptance *acceptance, const struct publication_view *view, size_t size,
    uint64_t peers, uint64_t ask)
{
    bool own = is_own(acceptance, &view->meta);
    bus_for_each_peer(peers, peer)
    {
        uint8_t *to = bus_put(acceptance->bus, peer, BUS_RECORD_PUBLICATION, size, BUS_ROOM_PUBLICATION);
        if (to == NULL)
            continue; /* cannot be: bus_full() was asked */
        acceptance_record_write(to, view, ask, own);
        acceptance->counters->bus_publications_sent++;
    }
}

static void drop_qos0(struct acceptance *acceptance, uint64_t peers)
{
    bus_for_each_peer(peers, peer) bus_count_dropped_qos0(acceptance->bus, peer);
}

/* In parts, or behind a large one of the same taker. */
static void offer_qos0_large(
    struct acceptance *acceptance, const struct publication_view *view, uint64_t peers, const void *taker)
{
    if (acceptance_transfer_begin(acceptance, view, peers, 0, 0, taker) != STATUS_OK)
        drop_qos0(acceptance, peers);
}

/* Never waits: what finds no room is dropped. */
static void offer_qos0(
    struct acceptance *acceptance, struct publication_view *view, uint64_t peers, const void *taker)
{
    identify(acceptance, &view->meta);
    size_t size = acceptance_record_size(view, 0, is_own(acceptance, &view->meta));
    bool large = size > acceptance->whole_max;
    uint64_t full = peers & acceptance->full;
    full |=
        bus_full(acceptance->bus, peers & ~full, large ? acceptance->whole_max : size, BUS_ROOM_PUBLICATION);
    if (full != 0)
        drop_qos0(acceptance, full);
    peers &= ~full;
    if (peers == 0)
        return;
    if (large || (acceptance->transfer_count != 0 && acceptance_transfer_ahead(acceptance, taker, peers)))
        offer_qos0_large(acceptance, view, peers, taker);
    else
        put_whole(acceptance, view, size, peers, 0);
}

static enum acceptance_result stall(struct acceptance *acceptance, uint64_t full)
{
    bus_for_each_peer(full, peer) acceptance_lane_full(acceptance, peer);
    acceptance->stalled = true;
    acceptance->counters->bus_stalls++;
    return ACCEPTANCE_STALLED;
}

static void count_lost(struct acceptance *acceptance, uint64_t peers, uint8_t qos)
{
    bus_for_each_peer(peers, peer)
    {
        if (qos == 0)
            bus_count_dropped_qos0(acceptance->bus, peer);
        else
            bus_count_lost(acceptance->bus, peer);
    }
}

/* All targets can take it: in parts, or asking for completions. Somebody waits, if there is a taker. */
static enum acceptance_result take_pending(struct acceptance *acceptance, struct publication_view *view,
    uint64_t peers, uint64_t durable, bool large, void *taker, uint64_t ticket)
{
    struct acceptance_pending *pending = NULL;
    if (taker != NULL) {
        pending = acceptance_pending_add(acceptance);
        if (pending == NULL) {
            acceptance->pendings_full = true;
            return stall(acceptance, 0);
        }
        pending->taker = taker;
        pending->ticket = ticket;
        pending->waiting = durable;
        pending->large = pending->partial = large;
    }
    uint64_t ask = pending != NULL ? pending->ask : 0;
    identify(acceptance, &view->meta);
    if (!large) {
        bool own = is_own(acceptance, &view->meta);
        put_whole(acceptance, view, acceptance_record_size(view, ask, own), durable, ask);
        put_whole(acceptance, view, acceptance_record_size(view, 0, own), peers & ~durable, 0);
    } else if (acceptance_transfer_begin(acceptance, view, peers, durable, ask, taker) != STATUS_OK) {
        acceptance_pending_drop(acceptance, pending); /* no memory */
        return stall(acceptance, 0);
    }
    return pending != NULL ? ACCEPTANCE_PENDING : ACCEPTANCE_DONE;
}

/* QoS 1 and 2: all targets or none, but for those that were given up. */
static enum acceptance_result offer_acknowledged(struct acceptance *acceptance, struct publication_view *view,
    uint64_t peers, uint64_t durable, void *taker, uint64_t ticket)
{
    durable = taker != NULL ? durable & peers & ~acceptance->silent : 0;
    size_t size = acceptance_record_size(view, durable, is_own(acceptance, &view->meta));
    bool large = size > acceptance->whole_max;
    uint64_t full =
        bus_full(acceptance->bus, peers, large ? acceptance->whole_max : size, BUS_ROOM_PUBLICATION);
    uint64_t lost = full & acceptance->given_up;
    full = (full | (peers & acceptance->full)) & ~acceptance->given_up;
    if (full != 0)
        return stall(acceptance, full);
    if (acceptance->transfer_count != 0 && acceptance_transfer_ahead(acceptance, taker, peers))
        return stall(acceptance, 0);
    if ((lost & durable) != 0)
        return ACCEPTANCE_REFUSED;
    peers &= ~lost;
    durable &= ~lost;
    large = large && peers != 0;
    if (large && acceptance_transfers_full(acceptance, peers, size))
        return stall(acceptance, 0);
    enum acceptance_result result = ACCEPTANCE_DONE;
    if (large || durable != 0) {
        result = take_pending(acceptance, view, peers, durable, large, taker, ticket);
        if (result == ACCEPTANCE_STALLED)
            return result;
    } else {
        identify(acceptance, &view->meta);
        put_whole(acceptance, view, size, peers, 0);
    }
    count_lost(acceptance, lost, view->meta.qos);
    return result;
}

enum acceptance_result acceptance_offer(struct acceptance *acceptance, struct publication_view *view,
    uint64_t peers, uint64_t durable, void *taker, uint64_t ticket)
{
    peers &= bus_live_targets(acceptance->bus);
    if (peers == 0) {
        identify(acceptance, &view->meta);
        return ACCEPTANCE_DONE;
    }
    if (view->meta.qos != 0 || view->meta.retain)
        return offer_acknowledged(acceptance, view, peers, view->meta.qos != 0 ? durable : 0, taker, ticket);
    offer_qos0(acceptance, view, peers, taker);
    return ACCEPTANCE_DONE;
}

void acceptance_forget(struct acceptance *acceptance, void *taker)
{
    acceptance_pendings_forget(acceptance, taker);
    acceptance_transfers_forget(acceptance, taker);
}

uint64_t acceptance_given_up(const struct acceptance *acceptance)
{
    return acceptance->given_up;
}

enum status acceptance_take(struct acceptance *acceptance, const struct bus_record *record, struct bytes body)
{
    struct publication_view view;
    uint64_t ask;
    enum status status = acceptance_record_read(body, &record->origin, &view, &ask);
    if (status != STATUS_OK)
        return status;
    acceptance->counters->bus_publications_received++;
    /* Answered also if no durable session took it: the one that was meant may have ended meanwhile. */
    (void)acceptance->settings.deliver(acceptance->settings.context, record->peer, &view);
    if (ask != 0)
        acceptance_ask_heard(acceptance, record->peer, record->asker, ask);
    return STATUS_OK;
}

static enum status on_publication(void *context, const struct bus_record *record)
{
    return acceptance_take(context, record, record->body);
}

static void on_room(void *context, unsigned peer)
{
    struct acceptance *acceptance = context;
    acceptance->full &= ~acceptance_bit(peer);
    acceptance_call_room(acceptance);
}

static void on_started(void *context, unsigned peer)
{
    acceptance_halves_clear(context, peer);
    acceptance_ranges_clear(context, peer);
}

static void on_died(void *context, unsigned peer)
{
    struct acceptance *acceptance = context;
    acceptance->full &= ~acceptance_bit(peer);
    acceptance->given_up &= ~acceptance_bit(peer);
    acceptance->silent &= ~acceptance_bit(peer);
    acceptance_halves_clear(acceptance, peer);
    acceptance_ranges_clear(acceptance, peer);
    acceptance_pendings_release(acceptance, peer);
    acceptance_transfers_release(acceptance, peer, true);
    acceptance_call_room(acceptance);
}

/* Asks or answers may be lost: nobody waits for them any more, here and there. */
static void on_out_of_step(void *context, unsigned peer)
{
    struct acceptance *acceptance = context;
    acceptance->lanes[peer].ranges.forgotten = true;
    acceptance->owed |= acceptance_bit(peer);
    acceptance->silent &= ~acceptance_bit(peer);
    acceptance_pendings_release(acceptance, peer);
}

static void on_turn_ending(void *context)
{
    struct acceptance *acceptance = context;
    acceptance_transfers_pump(acceptance);
    acceptance_answer(acceptance);
}

/* Once per episode: until it has caught up nobody is held up by this lane again. */
static void give_up(struct acceptance *acceptance, unsigned peer)
{
    acceptance->given_up |= acceptance_bit(peer);
    bus_alarm(acceptance->bus, peer,
        "it has taken nothing for the stall time-out: publications to it are lost or refused, and counted, "
        "until it "
        "has caught up");
    acceptance_transfers_release(acceptance, peer, false);
    acceptance_call_room(acceptance);
}

static void on_tick(void *context)
{
    struct acceptance *acceptance = context;
    acceptance->now_us = clock_monotonic_us();
    bus_for_each_peer(acceptance->given_up, peer)
    {
        if (bus_used(acceptance->bus, peer) <= bus_window_of(acceptance->bus, peer) / 8)
            acceptance->given_up &= ~acceptance_bit(peer);
    }
    bus_for_each_peer(acceptance->full & ~acceptance->given_up, peer)
    {
        uint64_t since_us = acceptance->lanes[peer].full_since_us;
        if (acceptance->now_us - since_us >= acceptance->settings.stall_timeout_us)
            give_up(acceptance, peer);
    }
    acceptance_pendings_expire(acceptance);
    if (acceptance->pendings_full && acceptance->pendings.open < ACCEPTANCE_PENDING_MAX / 2) {
        acceptance->pendings_full = false;
        acceptance_call_room(acceptance);
    }
}

/* What travels in one record to any peer: an eighth of the smallest window, or what a frame takes. */
static size_t whole_max(const struct bus *bus)
{
    size_t most = BUS_RECORD_MAX;
    for (unsigned peer = 0; peer < BUS_PEERS_MAX; peer++) {
        size_t window = (size_t)bus_window_of(bus, peer);
        if (window != 0 && window / 8 < most)
            most = window / 8;
    }
    return most;
}

enum status acceptance_new(const struct acceptance_settings *settings, struct acceptance **ret)
{
    struct acceptance *acceptance = calloc(1, sizeof *acceptance);
    if (acceptance == NULL)
        return STATUS_NO_MEMORY;
    acceptance->settings = *settings;
    acceptance->bus = settings->bus;
    acceptance->counters = bus_counters(settings->bus);
    acceptance->whole_max = whole_max(settings->bus);
    acceptance->now_us = clock_monotonic_us();
    list_init(&acceptance->transfers);
    for (unsigned peer = 0; peer < BUS_PEERS_MAX; peer++)
        list_init(&acceptance->lanes[peer].halves);
    bus_set_handler(settings->bus, BUS_RECORD_PUBLICATION, on_publication, acceptance);
    bus_set_handler(settings->bus, BUS_RECORD_FRAGMENT, on_acceptance_fragment, acceptance);
    bus_set_handler(settings->bus, BUS_RECORD_COMPLETION, on_acceptance_completion, acceptance);
    bus_watch(settings->bus, &(struct bus_watcher){.context = acceptance,
                                 .far = true,
                                 .started = on_started,
                                 .died = on_died,
                                 .room = on_room,
                                 .out_of_step = on_out_of_step,
                                 .tick = on_tick,
                                 .turn_ending = on_turn_ending});
    *ret = acceptance;
    return STATUS_OK;
}

void acceptance_free(struct acceptance **acceptance)
{
    struct acceptance *it = *acceptance;
    *acceptance = NULL;
    if (it == NULL)
        return;
    for (unsigned peer = 0; peer < BUS_PEERS_MAX; peer++) {
        acceptance_halves_clear(it, peer);
        acceptance_ranges_clear(it, peer);
    }
    acceptance_pendings_free(it);
    acceptance_transfers_free(it);
    free(it);
}
