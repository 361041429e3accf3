/*
 * Publications that are too large for one record. Out: an encoded copy per publication, put in pieces at the
 * end of each turn, one piece of each in turn, and never beyond a part of the window that leaves the small
 * ones their room. In: pieces are gathered, bounded, and dropped whole when one is missing.
 */
#include "cluster/acceptance_state.h"

#include <assert.h>
#include <stdlib.h>

/* Bytes of fragments per peer and turn: what a small publication finds in front of it, and how long a turn
 * takes. */
#define TURN_BYTES ((size_t)128 << 10)
/* How long a lane may be too busy for fragments. */
#define STARVED_US 100000
/* No MQTT packet is larger than 256 MiB; its body here has some bytes of its own. */
#define BODY_MAX (((size_t)256 << 20) + 512)

struct transfer {
    struct list link;
    uint64_t number;
    uint64_t peers;    /* to whom it does not wholly lie in the window yet */
    uint64_t durable;  /* as offered */
    uint64_t ask;      /* of its pending entry; 0: nobody waits */
    uint64_t sequence; /* of the publication, 0: of another origin, or on its way to picked members again */
    const void *taker;
    uint64_t gone; /* not 0: the taker is; transfers of one that is gone share a number */
    uint8_t qos;
    uint32_t size;
    uint8_t *body;              /* owned */
    uint32_t at[BUS_PEERS_MAX]; /* how much of it lies in the peer's window */
};

struct half {
    struct list link;
    uint64_t incarnation;
    uint64_t transfer;
    uint16_t slot; /* a node's lane brings what its workers send */
    uint32_t total;
    uint32_t have;
    uint8_t *body; /* owned */
};

static struct transfer *transfer_of(struct list *link)
{
    return list_entry(link, struct transfer, link);
}

bool acceptance_transfer_ahead(const struct acceptance *acceptance, const void *taker, uint64_t peers)
{
    if (taker == NULL)
        return false;
    list_for_each(&acceptance->transfers, link, following)
    {
        const struct transfer *it = transfer_of(link);
        if (it->taker == taker && it->gone == 0 && (it->peers & peers) != 0)
            return true;
    }
    return false;
}

uint64_t acceptance_oldest_partial(const struct acceptance *acceptance, unsigned peer)
{
    uint64_t oldest = UINT64_MAX;
    list_for_each(&acceptance->transfers, link, following)
    {
        const struct transfer *it = transfer_of(link);
        if ((it->peers & acceptance_bit(peer)) != 0 && it->sequence != 0 && it->sequence < oldest)
            oldest = it->sequence;
    }
    return oldest;
}

/* The receiver's bound is the same, and it gathers no more than is on its way: neither drops what the other
 * sends. */
bool acceptance_transfers_full(const struct acceptance *acceptance, uint64_t peers, size_t size)
{
    bus_for_each_peer(peers, peer)
    {
        const struct acceptance_lane *lane = &acceptance->lanes[peer];
        if (lane->transfers >= ACCEPTANCE_TRANSFERS_MAX ||
            (lane->transfers > 0 && lane->transfers_size + size > acceptance->settings.copies_max))
            return true;
    }
    return size > BODY_MAX;
}

static void enter_lanes(struct acceptance *acceptance, struct transfer *it)
{
    bus_for_each_peer(it->peers, peer)
    {
        struct acceptance_lane *lane = &acceptance->lanes[peer];
        lane->transfers++;
        lane->transfers_size += it->size;
    }
}

static void leave_lane(struct acceptance *acceptance, struct transfer *it, unsigned peer)
{
    struct acceptance_lane *lane = &acceptance->lanes[peer];
    it->peers &= ~acceptance_bit(peer);
    lane->transfers--;
    lane->transfers_size -= it->size;
}

enum status acceptance_transfer_begin(struct acceptance *acceptance, const struct publication_view *view,
    uint64_t peers, uint64_t durable, uint64_t ask, const void *taker)
{
    bool same_origin = view->meta.origin.incarnation == bus_origin(acceptance->bus).incarnation;
    uint64_t wanted = durable != 0 ? ask : 0;
    size_t size = acceptance_record_size(view, wanted, same_origin);
    if (acceptance_transfers_full(acceptance, peers, size))
        return STATUS_LIMIT;
    struct transfer *it = calloc(1, sizeof *it);
    if (it != NULL)
        it->body = malloc(size);
    if (it == NULL || it->body == NULL) {
        free(it);
        return STATUS_LIMIT;
    }
    acceptance_record_write(it->body, view, wanted, same_origin);
    it->number = ++acceptance->transfer_numbers;
    it->peers = peers;
    it->durable = durable;
    it->ask = ask;
    it->sequence = same_origin && !view->meta.shares_only ? view->meta.sequence : 0;
    it->taker = taker;
    it->qos = view->meta.qos;
    it->size = (uint32_t)size;
    list_append(&acceptance->transfers, &it->link);
    acceptance->transfer_count++;
    enter_lanes(acceptance, it);
    return STATUS_OK;
}

static void transfer_free(struct acceptance *acceptance, struct transfer *it)
{
    list_remove(&it->link);
    acceptance->transfer_count--;
    free(it->body);
    free(it);
}

/* The first one behind this number that lies in all windows; NULL: none. */
static struct transfer *transfer_ended(struct acceptance *acceptance, uint64_t number)
{
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): those that were freed are off the list */
    list_for_each(&acceptance->transfers, link, following)
    {
        struct transfer *it = transfer_of(link);
        if (it->number > number && it->peers == 0)
            return it;
    }
    return NULL;
}

/* Ends those that lie in all windows. The callbacks may begin new ones: only numbers are kept meanwhile. */
static void transfers_reap(struct acceptance *acceptance)
{
    struct transfer *it;
    uint64_t number = 0;
    while ((it = transfer_ended(acceptance, number)) != NULL) {
        number = it->number;
        uint64_t ask = it->ask;
        transfer_free(acceptance, it);
        struct acceptance_pending *pending = ask != 0 ? acceptance_pending_find(acceptance, ask) : NULL;
        if (pending == NULL)
            continue;
        pending->partial = false;
        pending->begun_us = acceptance->now_us;
        acceptance_pending_check(acceptance, pending);
    }
    if (number != 0)
        acceptance_call_room(acceptance);
}

/* One taker's publications go to a peer one after the other. */
static bool overtakes(const struct acceptance *acceptance, const struct transfer *transfer, uint64_t bit)
{
    if (transfer->taker == NULL)
        return false;
    list_for_each(&acceptance->transfers, link, following)
    {
        const struct transfer *it = transfer_of(link);
        if (it == transfer)
            return false;
        if (it->taker == transfer->taker && it->gone == transfer->gone && (it->peers & bit) != 0)
            return true;
    }
    return false;
}

/* Whose turn it is at this lane: the next number after the last one, or the lowest. NULL: none is left. */
static struct transfer *transfer_next(struct acceptance *acceptance, unsigned peer)
{
    struct transfer *lowest = NULL;
    uint64_t bit = acceptance_bit(peer);
    list_for_each(&acceptance->transfers, link, following)
    {
        struct transfer *it = transfer_of(link);
        if ((it->peers & bit) == 0 || overtakes(acceptance, it, bit))
            continue;
        if (it->number > acceptance->lanes[peer].last_transfer)
            return it;
        if (lowest == NULL)
            lowest = it;
    }
    return lowest;
}

static size_t fragment_max(const struct acceptance *acceptance, unsigned peer)
{
    size_t part = (size_t)bus_window_of(acceptance->bus, peer) / 16;
    return part < BUS_RECORD_MAX / 2 ? part : BUS_RECORD_MAX / 2;
}

/* The next fragment of this one; false: the lane takes none. */
static bool put_fragment(struct acceptance *acceptance, struct transfer *it, unsigned peer, size_t most)
{
    size_t left = it->size - it->at[peer];
    size_t bytes = left < most ? left : most;
    uint8_t *to = bus_put(acceptance->bus, peer, BUS_RECORD_FRAGMENT, ACCEPTANCE_FRAGMENT_HEADER_SIZE + bytes,
        BUS_ROOM_PUBLICATION);
    if (to == NULL)
        return false;
    acceptance_fragment_write(to, &(struct acceptance_fragment){.transfer = it->number,
                                      .total = it->size,
                                      .at = it->at[peer],
                                      .bytes = bytes_of(it->body + it->at[peer], bytes)});
    it->at[peer] += (uint32_t)bytes;
    acceptance->lanes[peer].last_transfer = it->number;
    if (it->at[peer] == it->size) {
        leave_lane(acceptance, it, peer);
        acceptance->counters->bus_publications_sent++;
    }
    return true;
}

/*
 * Five eighths of the window at most: small publications have theirs to seven. A lane so busy that this never
 * leaves room for a fragment takes it like a small one after a while.
 */
static bool has_room(struct acceptance *acceptance, unsigned peer, size_t most)
{
    struct acceptance_lane *lane = &acceptance->lanes[peer];
    if (bus_used(acceptance->bus, peer) + most <= bus_window_of(acceptance->bus, peer) / 8 * 5)
        return true;
    acceptance_lane_crowded(acceptance, peer);
    if (acceptance->now_us - lane->fragment_us < STARVED_US)
        return false;
    if (bus_full(acceptance->bus, acceptance_bit(peer), ACCEPTANCE_FRAGMENT_HEADER_SIZE + most,
            BUS_ROOM_PUBLICATION) == 0)
        return true;
    acceptance_lane_full(acceptance, peer);
    return false;
}

static void pump_peer(struct acceptance *acceptance, unsigned peer)
{
    struct acceptance_lane *lane = &acceptance->lanes[peer];
    size_t most = fragment_max(acceptance, peer), budget = TURN_BYTES;
    struct transfer *it;
    while ((it = transfer_next(acceptance, peer)) != NULL) {
        if ((acceptance->full & acceptance_bit(peer)) != 0 || budget < most ||
            !has_room(acceptance, peer, most) || !put_fragment(acceptance, it, peer, most)) {
            bus_wait_room(acceptance->bus, acceptance_bit(peer));
            return;
        }
        lane->fragment_us = acceptance->now_us;
        budget -= most;
    }
}

void acceptance_transfers_pump(struct acceptance *acceptance)
{
    if (acceptance->transfer_count == 0)
        return;
    uint64_t peers = 0;
    list_for_each(&acceptance->transfers, link, following) peers |= transfer_of(link)->peers;
    bus_for_each_peer(peers, peer) pump_peer(acceptance, peer);
    transfers_reap(acceptance);
}

/* A peer that stands still loses this one. */
static void count_lost(struct acceptance *acceptance, const struct transfer *it, unsigned peer)
{
    struct acceptance_pending *pending = it->ask != 0 ? acceptance_pending_find(acceptance, it->ask) : NULL;
    if (it->qos == 0)
        bus_count_dropped_qos0(acceptance->bus, peer);
    else if (pending != NULL && (it->durable & acceptance_bit(peer)) != 0)
        pending->refused = true;
    else
        bus_count_lost(acceptance->bus, peer);
    if (pending != NULL)
        pending->waiting &= ~acceptance_bit(peer);
}

void acceptance_transfers_release(struct acceptance *acceptance, unsigned peer, bool died)
{
    uint64_t bit = acceptance_bit(peer);
    list_for_each(&acceptance->transfers, link, following)
    {
        struct transfer *it = transfer_of(link);
        if ((it->peers & bit) == 0)
            continue;
        leave_lane(acceptance, it, peer);
        if (!died)
            count_lost(acceptance, it, peer);
    }
    transfers_reap(acceptance);
}

void acceptance_transfers_forget(struct acceptance *acceptance, const void *taker)
{
    uint64_t gone = ++acceptance->takers_gone;
    list_for_each(&acceptance->transfers, link, following)
    {
        struct transfer *it = transfer_of(link);
        if (it->taker == taker && it->gone == 0)
            it->gone = gone;
    }
}

void acceptance_transfers_free(struct acceptance *acceptance)
{
    list_for_each(&acceptance->transfers, link, following) transfer_free(acceptance, transfer_of(link));
}

static void half_free(struct acceptance_lane *lane, struct half *half)
{
    list_remove(&half->link);
    lane->halves_size -= half->total;
    free(half->body);
    free(half);
}

void acceptance_halves_clear(struct acceptance *acceptance, unsigned peer)
{
    struct acceptance_lane *lane = &acceptance->lanes[peer];
    list_for_each(&lane->halves, link, following) half_free(lane, list_entry(link, struct half, link));
}

static struct half *half_find(
    struct acceptance_lane *lane, const struct bus_record *record, uint64_t transfer)
{
    list_for_each(&lane->halves, link, following)
    {
        struct half *it = list_entry(link, struct half, link);
        if (it->incarnation == record->origin.incarnation && it->transfer == transfer &&
            it->slot == record->origin.slot)
            return it;
    }
    return NULL;
}

/* Room for one more: those that have not moved for longest were given up by their sender. */
static struct half *half_new(struct acceptance *acceptance, const struct bus_record *record,
    const struct acceptance_fragment *fragment)
{
    struct acceptance_lane *lane = &acceptance->lanes[record->peer];
    if (fragment->total > BODY_MAX)
        return NULL;
    while (lane->halves_size > 0 && lane->halves_size + fragment->total > acceptance->settings.copies_max)
        half_free(lane, list_entry(lane->halves.next, struct half, link));
    struct half *half = malloc(sizeof *half);
    uint8_t *body = malloc(fragment->total);
    if (half == NULL || body == NULL) {
        free(half);
        free(body);
        return NULL;
    }
    *half = (struct half){.incarnation = record->origin.incarnation,
        .transfer = fragment->transfer,
        .slot = record->origin.slot,
        .total = fragment->total,
        .body = body};
    list_append(&lane->halves, &half->link);
    lane->halves_size += half->total;
    return half;
}

/* The first frame of a new incarnation ends what the old one had begun. */
static void drop_older(struct acceptance_lane *lane, const struct publication_origin *origin)
{
    list_for_each(&lane->halves, link, following)
    {
        struct half *it = list_entry(link, struct half, link);
        if (it->slot == origin->slot && it->incarnation != origin->incarnation)
            half_free(lane, it);
    }
}

static enum status finish(struct acceptance *acceptance, const struct bus_record *record, struct half *half)
{
    struct acceptance_lane *lane = &acceptance->lanes[record->peer];
    uint8_t *body = half->body;
    uint32_t total = half->total;
    half->body = NULL;
    half_free(lane, half);
    enum status status = acceptance_take(acceptance, record, bytes_of(body, total));
    free(body);
    return status;
}

enum status on_acceptance_fragment(void *context, const struct bus_record *record)
{
    struct acceptance *acceptance = context;
    struct acceptance_lane *lane = &acceptance->lanes[record->peer];
    struct acceptance_fragment fragment;
    enum status status = acceptance_fragment_read(record->body, &fragment);
    if (status != STATUS_OK)
        return status;
    drop_older(lane, &record->origin);
    struct half *half = half_find(lane, record, fragment.transfer);
    if (half == NULL && fragment.at != 0)
        return STATUS_OK; /* its beginning went to our last incarnation, or was dropped */
    if (half == NULL)
        half = half_new(acceptance, record, &fragment);
    if (half == NULL)
        return STATUS_LIMIT;
    if (fragment.total != half->total || fragment.at != half->have) {
        half_free(lane, half);
        return STATUS_PROTOCOL;
    }
    memcpy(half->body + half->have, fragment.bytes.data, fragment.bytes.size);
    half->have += (uint32_t)fragment.bytes.size;
    if (half->have == half->total)
        return finish(acceptance, record, half);
    list_remove(&half->link);
    list_append(&lane->halves, &half->link);
    return STATUS_OK;
}
