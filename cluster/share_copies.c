/*
 * Per peer: the copies kept for it, in the order of their numbers, and the ranges of its own numbers that are
 * to be told as settled. Settled copies leave holes that are closed when the array would have to grow.
 */
#include "cluster/share_copies.h"

#include "cluster/record.h"

#include <assert.h>
#include <stdlib.h>

#define RANGE_SIZE 12u
#define RANGES_MAX 1024u /* in one record */

struct copy {
    uint64_t number;
    struct topic_group *group;       /* held; NULL: settled */
    struct publication *publication; /* one reference */
    uint32_t hops;
};

/* A circular array, since copies come, and mostly go, in order. */
struct copies_of_peer {
    struct copy *array; /* owned */
    size_t capacity;    /* power of two, or 0 */
    size_t first;
    size_t count;
    size_t open; /* not settled */
    size_t bytes;
    uint64_t numbers; /* given out */
};

struct range {
    uint64_t first;
    uint32_t count;
};

/* What is to be told to one peer. */
struct settled {
    uint64_t incarnation;
    struct range *array; /* owned */
    size_t count;
    size_t capacity;
};

struct share_copies {
    struct share_copies_settings settings;
    struct bus *bus;
    uint64_t full; /* peers */
    uint64_t owed; /* peers that have something settled */
    struct copies_of_peer peers[BUS_PEERS_MAX];
    struct settled settled[BUS_PEERS_MAX];
};

static uint64_t bit_of(unsigned peer)
{
    return UINT64_C(1) << peer;
}

/* Copies
 * ------------------------------------------------------------------------------------------------------ */

static struct copy *copy_at(const struct copies_of_peer *peer, size_t i)
{
    return &peer->array[(peer->first + i) & (peer->capacity - 1)];
}

static void compact(struct copies_of_peer *peer)
{
    size_t kept = 0;
    for (size_t i = 0; i < peer->count; i++) {
        struct copy it = *copy_at(peer, i);
        if (it.group != NULL)
            *copy_at(peer, kept++) = it;
    }
    peer->count = kept;
}

static bool grow(struct copies_of_peer *peer)
{
    size_t capacity = peer->capacity == 0 ? 64 : peer->capacity * 2;
    struct copy *array = malloc(capacity * sizeof *array);
    if (array == NULL)
        return false;
    for (size_t i = 0; i < peer->count; i++)
        array[i] = *copy_at(peer, i);
    free(peer->array);
    peer->array = array;
    peer->capacity = capacity;
    peer->first = 0;
    return true;
}

static void update_full(struct share_copies *copies, unsigned peer)
{
    size_t bytes = copies->peers[peer].bytes, most = copies->settings.bytes_max;
    if (bytes >= most)
        copies->full |= bit_of(peer);
    else if (bytes < most / 4 * 3)
        copies->full &= ~bit_of(peer);
}

static void copy_drop(struct share_copies *copies, struct copy *copy)
{
    topic_index_unhold_group(copies->settings.index, copy->group);
    publication_unref(&copy->publication);
    copy->group = NULL;
}

uint64_t share_copies_full(const struct share_copies *copies)
{
    return copies->full;
}

uint64_t share_copies_number(struct share_copies *copies, unsigned peer)
{
    return ++copies->peers[peer].numbers;
}

void share_copies_keep(struct share_copies *copies, unsigned peer_number, uint64_t number,
    struct topic_group *group, unsigned hops, struct publication *publication)
{
    struct copies_of_peer *peer = &copies->peers[peer_number];
    assert(peer->count == 0 || copy_at(peer, peer->count - 1)->number < number);
    if (peer->count == peer->capacity && peer->open < peer->count / 2)
        compact(peer);
    if (peer->count == peer->capacity && !grow(peer))
        return;
    topic_index_hold_group(group);
    *copy_at(peer, peer->count++) = (struct copy){
        .number = number, .group = group, .publication = publication_ref(publication), .hops = hops};
    peer->open++;
    peer->bytes += publication_size(publication);
    update_full(copies, peer_number);
}

/* Index of the first copy whose number is not below this one. */
static size_t lower_bound(const struct copies_of_peer *peer, uint64_t number)
{
    size_t low = 0, high = peer->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (copy_at(peer, middle)->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void release_range(struct share_copies *copies, unsigned peer_number, uint64_t first, uint32_t count)
{
    struct copies_of_peer *peer = &copies->peers[peer_number];
    for (size_t i = lower_bound(peer, first); i < peer->count; i++) {
        struct copy *it = copy_at(peer, i);
        if (it->number - first >= count)
            break;
        if (it->group == NULL)
            continue;
        peer->bytes -= publication_size(it->publication);
        peer->open--;
        copy_drop(copies, it);
    }
    while (peer->count > 0 && copy_at(peer, 0)->group == NULL) {
        peer->first = (peer->first + 1) & (peer->capacity - 1);
        peer->count--;
    }
    update_full(copies, peer_number);
}

/* Takes all copies of the peer away first: handing them on may make new ones. */
static void give_back(struct share_copies *copies, unsigned peer_number, bool alive)
{
    struct copies_of_peer *peer = &copies->peers[peer_number];
    struct copies_of_peer taken = *peer;
    *peer = (struct copies_of_peer){.numbers = taken.numbers};
    copies->full &= ~bit_of(peer_number);
    for (size_t i = 0; i < taken.count; i++) {
        struct copy *it = copy_at(&taken, i);
        if (it->group == NULL)
            continue;
        copies->settings.orphaned(copies->settings.context, it->group, it->hops, it->publication, alive);
        copy_drop(copies, it);
    }
    free(taken.array);
}

void share_copies_give_up(struct share_copies *copies, unsigned peer)
{
    give_back(copies, peer, true);
}

size_t share_copies_count(const struct share_copies *copies)
{
    size_t count = 0;
    for (unsigned i = 0; i < BUS_PEERS_MAX; i++)
        count += copies->peers[i].open;
    return count;
}

size_t share_copies_bytes(const struct share_copies *copies)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < BUS_PEERS_MAX; i++)
        bytes += copies->peers[i].bytes;
    return bytes;
}

/* Settled
 * ------------------------------------------------------------------------------------------------------ */

static void settled_clear(struct share_copies *copies, unsigned peer)
{
    free(copies->settled[peer].array);
    copies->settled[peer] = (struct settled){0};
    copies->owed &= ~bit_of(peer);
}

void share_copies_settle(struct share_copies *copies, unsigned peer, uint64_t incarnation, uint64_t number)
{
    struct settled *settled = &copies->settled[peer];
    if (bus_peer_origin(copies->bus, peer).incarnation != incarnation)
        return; /* its copies went with it */
    if (settled->incarnation != incarnation) {
        settled->incarnation = incarnation;
        settled->count = 0;
    }
    copies->owed |= bit_of(peer);
    struct range *last = settled->count > 0 ? &settled->array[settled->count - 1] : NULL;
    if (last != NULL && last->first + last->count == number && last->count < UINT32_MAX) {
        last->count++;
        return;
    }
    if (settled->count == settled->capacity) {
        size_t capacity = settled->capacity == 0 ? 16 : settled->capacity * 2;
        struct range *array = realloc(settled->array, capacity * sizeof *array);
        if (array == NULL)
            return; /* the copy stays until this process ends */
        settled->array = array;
        settled->capacity = capacity;
    }
    settled->array[settled->count++] = (struct range){number, 1};
}

static int by_first(const void *a, const void *b)
{
    const struct range *left = a, *right = b;
    return (left->first > right->first) - (left->first < right->first);
}

/* Members acknowledge in turn, so that single numbers make ranges once they are in order. */
static void merge(struct settled *settled)
{
    if (settled->count < 2)
        return;
    qsort(settled->array, settled->count, sizeof *settled->array, by_first);
    size_t kept = 0;
    for (size_t i = 1; i < settled->count; i++) {
        struct range *last = &settled->array[kept], next = settled->array[i];
        if (last->first + last->count == next.first && last->count + (uint64_t)next.count <= UINT32_MAX)
            last->count += next.count;
        else
            settled->array[++kept] = next;
    }
    settled->count = kept + 1;
}

/* One record. False: no room now; what is left is told in a later turn. */
static bool tell_some(struct share_copies *copies, unsigned peer)
{
    struct settled *settled = &copies->settled[peer];
    size_t count = settled->count < RANGES_MAX ? settled->count : RANGES_MAX;
    size_t size = sizeof(uint64_t) + count * RANGE_SIZE;
    /* Not through bus_put alone: this may wait, and puts nobody out of step. */
    if (bus_full(copies->bus, bit_of(peer), size, BUS_ROOM_CONTROL) != 0)
        return false;
    uint8_t *to = bus_put(copies->bus, peer, BUS_RECORD_SHARE_SETTLED, size, BUS_ROOM_CONTROL);
    if (to == NULL)
        return false;
    to = record_write_u64(to, settled->incarnation);
    for (size_t i = settled->count - count; i < settled->count; i++) {
        to = record_write_u64(to, settled->array[i].first);
        to = record_write_u32(to, settled->array[i].count);
    }
    settled->count -= count;
    return true;
}

static void tell_peer(struct share_copies *copies, unsigned peer)
{
    struct settled *settled = &copies->settled[peer];
    merge(settled);
    while (settled->count > 0) {
        if (!tell_some(copies, peer))
            return;
    }
    copies->owed &= ~bit_of(peer);
}

void share_copies_tell(struct share_copies *copies)
{
    bus_for_each_peer(copies->owed, peer) tell_peer(copies, peer);
}

static enum status on_settled(void *context, const struct bus_record *record)
{
    struct share_copies *copies = context;
    struct record_reader reader = record_read(record->body);
    uint64_t incarnation = record_read_u64(&reader);
    if (reader.failed || reader.rest.size % RANGE_SIZE != 0)
        return STATUS_PROTOCOL;
    /* Of our predecessor's copies; or from the peer's, whose own copies have come back. */
    if (incarnation != bus_origin(copies->bus).incarnation ||
        record->origin.incarnation != bus_peer_origin(copies->bus, record->peer).incarnation)
        return STATUS_OK;
    while (reader.rest.size > 0) {
        uint64_t first = record_read_u64(&reader);
        uint32_t count = record_read_u32(&reader);
        release_range(copies, record->peer, first, count);
    }
    return STATUS_OK;
}

/* The bus
 * ------------------------------------------------------------------------------------------------------ */

static void on_started(void *context, unsigned peer)
{
    settled_clear(context, peer);
}

static void on_died(void *context, unsigned peer)
{
    settled_clear(context, peer);
    give_back(context, peer, false);
}

/* What it was sent, or what it settled, may be lost. */
static void on_out_of_step(void *context, unsigned peer)
{
    give_back(context, peer, true);
}

static void on_turn_ending(void *context)
{
    share_copies_tell(context);
}

enum status share_copies_new(const struct share_copies_settings *settings, struct share_copies **ret_copies)
{
    struct share_copies *copies = calloc(1, sizeof *copies);
    if (copies == NULL)
        return STATUS_NO_MEMORY;
    copies->settings = *settings;
    copies->bus = settings->bus;
    bus_set_handler(settings->bus, BUS_RECORD_SHARE_SETTLED, on_settled, copies);
    bus_watch(settings->bus, &(struct bus_watcher){.context = copies,
                                 .started = on_started,
                                 .died = on_died,
                                 .out_of_step = on_out_of_step,
                                 .turn_ending = on_turn_ending});
    *ret_copies = copies;
    return STATUS_OK;
}

static void drop_all(struct share_copies *copies, struct copies_of_peer *peer)
{
    for (size_t i = 0; i < peer->count; i++) {
        if (copy_at(peer, i)->group != NULL)
            copy_drop(copies, copy_at(peer, i));
    }
    free(peer->array);
}

void share_copies_free(struct share_copies **copies)
{
    struct share_copies *it = *copies;
    *copies = NULL;
    if (it == NULL)
        return;
    for (unsigned peer = 0; peer < BUS_PEERS_MAX; peer++) {
        drop_all(it, &it->peers[peer]);
        settled_clear(it, peer);
    }
    free(it);
}
