/*
 * Completions: which takers wait for which durable peers, and what this process owes to peers that asked. An
 * ask is a number of the asking incarnation, dense, so that a turn's answers are few ranges.
 */
#include "cluster/acceptance_state.h"

#include <assert.h>
#include <stdlib.h>

static struct acceptance_pending *pending_at(const struct acceptance_pendings *pendings, size_t index)
{
    return &pendings->array[(pendings->first + index) & (pendings->capacity - 1)];
}

/* Ended entries behind one that still waits keep their places: closes the gaps. */
static void pendings_compact(struct acceptance_pendings *pendings)
{
    size_t kept = 0;
    for (size_t i = 0; i < pendings->count; i++) {
        struct acceptance_pending *it = pending_at(pendings, i);
        if (!it->done)
            *pending_at(pendings, kept++) = *it;
    }
    pendings->count = kept;
}

static bool pendings_grow(struct acceptance_pendings *pendings)
{
    size_t capacity = pendings->capacity == 0 ? 64 : pendings->capacity * 2;
    struct acceptance_pending *array = malloc(capacity * sizeof *array);
    if (array == NULL)
        return false;
    for (size_t i = 0; i < pendings->count; i++)
        array[i] = *pending_at(pendings, i);
    free(pendings->array);
    pendings->array = array;
    pendings->capacity = capacity;
    pendings->first = 0;
    return true;
}

struct acceptance_pending *acceptance_pending_add(struct acceptance *acceptance)
{
    struct acceptance_pendings *pendings = &acceptance->pendings;
    if (pendings->open >= ACCEPTANCE_PENDING_MAX)
        return NULL;
    if (pendings->count == pendings->capacity && pendings->open < pendings->count / 2)
        pendings_compact(pendings);
    if (pendings->count == pendings->capacity && !pendings_grow(pendings))
        return NULL;
    struct acceptance_pending *it = pending_at(pendings, pendings->count++);
    *it = (struct acceptance_pending){.ask = ++acceptance->asks, .begun_us = acceptance->now_us};
    pendings->open++;
    return it;
}

void acceptance_pending_drop(struct acceptance *acceptance, struct acceptance_pending *pending)
{
    if (pending == NULL)
        return;
    acceptance->pendings.count--;
    acceptance->pendings.open--;
}

/* Index of the first entry whose ask is not below this one. */
static size_t lower_bound(const struct acceptance_pendings *pendings, uint64_t ask)
{
    size_t low = 0, high = pendings->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (pending_at(pendings, middle)->ask < ask)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct acceptance_pending *acceptance_pending_find(struct acceptance *acceptance, uint64_t ask)
{
    size_t index = lower_bound(&acceptance->pendings, ask);
    if (index == acceptance->pendings.count)
        return NULL;
    struct acceptance_pending *it = pending_at(&acceptance->pendings, index);
    return it->ask == ask && !it->done ? it : NULL;
}

void acceptance_pending_check(struct acceptance *acceptance, struct acceptance_pending *pending)
{
    if (pending->done || pending->waiting != 0 || pending->partial)
        return;
    struct acceptance_pendings *pendings = &acceptance->pendings;
    struct acceptance_pending it = *pending;
    pending->done = true;
    pendings->open--;
    while (pendings->count > 0 && pending_at(pendings, 0)->done) {
        pendings->first = (pendings->first + 1) & (pendings->capacity - 1);
        pendings->count--;
    }
    if (it.taker != NULL)
        acceptance->settings.complete(acceptance->settings.context, it.taker, it.ticket,
            it.refused ? ACCEPTANCE_REFUSED : ACCEPTANCE_DONE);
}

/* The entry with the smallest ask from *ask on that is not done; *ask moves behind it. Callbacks may come in
   between: nothing but the number is kept. */
static struct acceptance_pending *pending_next(struct acceptance *acceptance, uint64_t *ask)
{
    struct acceptance_pendings *pendings = &acceptance->pendings;
    for (size_t i = lower_bound(pendings, *ask); i < pendings->count; i++) {
        struct acceptance_pending *it = pending_at(pendings, i);
        if (!it->done) {
            *ask = it->ask + 1;
            return it;
        }
    }
    return NULL;
}

void acceptance_pendings_release(struct acceptance *acceptance, unsigned peer)
{
    struct acceptance_pending *it;
    uint64_t ask = 0;
    while ((it = pending_next(acceptance, &ask)) != NULL) {
        it->waiting &= ~acceptance_bit(peer);
        acceptance_pending_check(acceptance, it);
    }
}

void acceptance_pendings_expire(struct acceptance *acceptance)
{
    struct acceptance_pending *it;
    uint64_t ask = 0;
    while ((it = pending_next(acceptance, &ask)) != NULL) {
        bool fresh = acceptance->now_us - it->begun_us < acceptance->settings.stall_timeout_us;
        if (fresh && !it->large)
            return; /* and so are all that follow, but for large ones */
        if (fresh || it->partial)
            continue;
        acceptance->silent |= it->waiting;
        it->waiting = 0;
        acceptance_pending_check(acceptance, it);
    }
}

void acceptance_pendings_forget(struct acceptance *acceptance, const void *taker)
{
    struct acceptance_pendings *pendings = &acceptance->pendings;
    for (size_t i = 0; i < pendings->count; i++) {
        struct acceptance_pending *it = pending_at(pendings, i);
        if (it->taker == taker)
            it->taker = NULL;
    }
}

void acceptance_pendings_free(struct acceptance *acceptance)
{
    free(acceptance->pendings.array);
}

void acceptance_ask_heard(struct acceptance *acceptance, unsigned peer, uint64_t incarnation, uint64_t ask)
{
    struct acceptance_ranges *ranges = &acceptance->lanes[peer].ranges;
    if (ranges->incarnation != incarnation) {
        ranges->incarnation = incarnation;
        ranges->count = 0;
    }
    acceptance->owed |= acceptance_bit(peer);
    struct acceptance_range *last = ranges->count > 0 ? &ranges->array[ranges->count - 1] : NULL;
    if (last != NULL && last->first + last->count == ask && last->count < UINT32_MAX) {
        last->count++;
        return;
    }
    if (ranges->count == ranges->capacity) {
        size_t capacity = ranges->capacity == 0 ? 16 : ranges->capacity * 2;
        struct acceptance_range *array = NULL;
        if (capacity <= ACCEPTANCE_RANGES_MAX)
            array = realloc(ranges->array, capacity * sizeof *array);
        if (array == NULL)
            return; /* the asker's stall time-out ends its wait */
        ranges->array = array;
        ranges->capacity = capacity;
    }
    assert(ranges->array != NULL);
    ranges->array[ranges->count++] = (struct acceptance_range){ask, 1};
}

void acceptance_ranges_clear(struct acceptance *acceptance, unsigned peer)
{
    struct acceptance_ranges *ranges = &acceptance->lanes[peer].ranges;
    free(ranges->array);
    *ranges = (struct acceptance_ranges){0};
    acceptance->owed &= ~acceptance_bit(peer);
}

/* One record; false: no room now, what is left is kept for a later turn. */
static bool answer_some(
    struct acceptance *acceptance, unsigned peer, enum acceptance_completion_kind kind, size_t count)
{
    struct acceptance_ranges *ranges = &acceptance->lanes[peer].ranges;
    uint64_t incarnation = kind == ACCEPTANCE_FORGOTTEN ? bus_peer_origin(acceptance->bus, peer).incarnation
                                                        : ranges->incarnation;
    size_t size = ACCEPTANCE_COMPLETION_HEADER_SIZE + count * ACCEPTANCE_RANGE_SIZE;
    /* Not through bus_put alone: a completion that has to wait puts nobody out of step. */
    if (bus_full(acceptance->bus, acceptance_bit(peer), size, BUS_ROOM_CONTROL) != 0)
        return false;
    uint8_t *to = bus_put(acceptance->bus, peer, BUS_RECORD_COMPLETION, size, BUS_ROOM_CONTROL);
    if (to == NULL)
        return false;
    acceptance_completion_write(to, kind, incarnation);
    to += ACCEPTANCE_COMPLETION_HEADER_SIZE;
    for (size_t i = 0; i < count; i++)
        acceptance_range_write(to + i * ACCEPTANCE_RANGE_SIZE, ranges->array[ranges->count - count + i]);
    ranges->count -= count;
    return true;
}

static void answer_peer(struct acceptance *acceptance, unsigned peer)
{
    enum { AT_ONCE = 256 };
    struct acceptance_ranges *ranges = &acceptance->lanes[peer].ranges;
    if (ranges->forgotten && !answer_some(acceptance, peer, ACCEPTANCE_FORGOTTEN, 0))
        return;
    ranges->forgotten = false;
    while (ranges->count > 0) {
        size_t count = ranges->count < AT_ONCE ? ranges->count : AT_ONCE;
        if (!answer_some(acceptance, peer, ACCEPTANCE_TAKEN, count))
            return;
    }
    acceptance->owed &= ~acceptance_bit(peer);
}

void acceptance_answer(struct acceptance *acceptance)
{
    bus_for_each_peer(acceptance->owed, peer) answer_peer(acceptance, peer);
}

/* The peer has answered these asks. */
static void completed(struct acceptance *acceptance, unsigned peer, struct acceptance_range range)
{
    struct acceptance_pending *it;
    uint64_t ask = range.first;
    while ((it = pending_next(acceptance, &ask)) != NULL && it->ask - range.first < range.count) {
        it->waiting &= ~acceptance_bit(peer);
        acceptance_pending_check(acceptance, it);
    }
}

enum status on_acceptance_completion(void *context, const struct bus_record *record)
{
    struct acceptance *acceptance = context;
    enum acceptance_completion_kind kind;
    uint64_t incarnation;
    struct bytes ranges;
    enum status status = acceptance_completion_read(record->body, &kind, &incarnation, &ranges);
    if (status != STATUS_OK)
        return status;
    if (incarnation != bus_origin(acceptance->bus).incarnation)
        return STATUS_OK; /* an earlier one of this slot had asked */
    acceptance->silent &= ~acceptance_bit(record->peer);
    if (kind == ACCEPTANCE_FORGOTTEN)
        acceptance_pendings_release(acceptance, record->peer);
    for (size_t at = 0; at < ranges.size; at += ACCEPTANCE_RANGE_SIZE)
        completed(acceptance, record->peer, acceptance_range_read(ranges.data + at));
    return STATUS_OK;
}
