/*
 * Delayed publications: a heap by time over the entries of the slot's table, and of those that it has
 * adopted. An entry whose place in the heap found no memory stays in the table, for the next incarnation.
 * Worker process.
 *
 * An entry's content: u64 due (real ms), u64 publisher, u64 expires_ms, u8 qos, u8 retain, u16 topic size,
 * u32 properties size, the three parts.
 */
#include "cluster/delayed.h"

#include "cluster/record.h"
#include "shared/clock.h"

#include <stdlib.h>

#define FIXED_SIZE (3 * 8u + 1u + 1u + 2u + 4u)

struct waiting {
    uint64_t due_us; /* monotonic */
    uint64_t identity;
    struct block_table *table; /* borrowed */
    block_handle handle;
};

struct adopted {
    struct block_table *table; /* owned */
    unsigned slot;
};

struct delayed {
    struct bus *bus;
    struct block_table *table; /* borrowed */
    void *context;
    enum status (*publish)(void *context, struct publication_view *view);
    bool (*settled)(void *context);
    bool started;
    struct waiting *heap; /* owned; the earliest first */
    size_t count, capacity;
    struct waiting published[DELAYED_PER_TURN]; /* to be cleared */
    size_t published_count;
    struct adopted adopted[BUS_PEERS_MAX];
    size_t adopted_count;
    struct block_buffer buffer;
};

static void on_turn_ending(void *context);

/* The heap
 * ------------------------------------------------------------------------------------------------------- */

static bool is_earlier(const struct waiting *a, const struct waiting *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->identity < b->identity;
}

static void sift_up(struct delayed *delayed, size_t at)
{
    struct waiting moved = delayed->heap[at];
    while (at > 0 && is_earlier(&moved, &delayed->heap[(at - 1) / 2])) {
        delayed->heap[at] = delayed->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    delayed->heap[at] = moved;
}

static void sift_down(struct delayed *delayed, size_t at)
{
    struct waiting moved = delayed->heap[at];
    for (size_t child = 2 * at + 1; child < delayed->count; child = 2 * at + 1) {
        if (child + 1 < delayed->count && is_earlier(&delayed->heap[child + 1], &delayed->heap[child]))
            child++;
        if (!is_earlier(&delayed->heap[child], &moved))
            break;
        delayed->heap[at] = delayed->heap[child];
        at = child;
    }
    delayed->heap[at] = moved;
}

static bool heap_grow(struct delayed *delayed)
{
    if (delayed->count < delayed->capacity)
        return true;
    size_t capacity = delayed->capacity == 0 ? 16 : delayed->capacity * 2;
    struct waiting *heap = realloc(delayed->heap, capacity * sizeof *heap);
    if (heap == NULL)
        return false;
    delayed->heap = heap;
    delayed->capacity = capacity;
    return true;
}

static void heap_add(struct delayed *delayed, const struct waiting *waiting)
{
    delayed->heap[delayed->count++] = *waiting;
    sift_up(delayed, delayed->count - 1);
}

static struct waiting heap_take(struct delayed *delayed)
{
    struct waiting first = delayed->heap[0];
    delayed->heap[0] = delayed->heap[--delayed->count];
    if (delayed->count > 0)
        sift_down(delayed, 0);
    return first;
}

/* Without those of a table. */
static void heap_drop(struct delayed *delayed, const struct block_table *table)
{
    size_t kept = 0;
    for (size_t i = 0; i < delayed->count; i++)
        if (delayed->heap[i].table != table)
            delayed->heap[kept++] = delayed->heap[i];
    delayed->count = kept;
    for (size_t i = kept / 2; i > 0; i--)
        sift_down(delayed, i - 1);
}

/* Entries
 * -------------------------------------------------------------------------------------------------------- */

static bool encode(const struct publication_view *view, uint64_t due_ms, struct bytes *ret_content)
{
    size_t size = FIXED_SIZE + view->topic.size + view->properties.size + view->payload.size;
    uint8_t *content = malloc(size);
    if (content == NULL)
        return false;
    uint8_t *at = record_write_u64(content, due_ms);
    at = record_write_u64(at, view->meta.publisher);
    at = record_write_u64(at, view->meta.expires_ms);
    at = record_write_u8(at, view->meta.qos);
    at = record_write_u8(at, view->meta.retain);
    at = record_write_u16(at, (uint16_t)view->topic.size);
    at = record_write_u32(at, (uint32_t)view->properties.size);
    at = record_write_bytes(at, view->topic);
    at = record_write_bytes(at, view->properties);
    record_write_bytes(at, view->payload);
    *ret_content = bytes_of(content, size);
    return true;
}

static bool decode(const struct block_entry *entry, struct publication_view *ret_view, uint64_t *ret_due_ms)
{
    struct record_reader reader = record_read(entry->content);
    struct publication_view view = {.meta = {.will = entry->identity}};
    uint64_t due_ms = record_read_u64(&reader);
    view.meta.publisher = record_read_u64(&reader);
    view.meta.expires_ms = record_read_u64(&reader);
    view.meta.qos = record_read_u8(&reader);
    view.meta.retain = record_read_u8(&reader) != 0;
    uint16_t topic_size = record_read_u16(&reader);
    uint32_t properties_size = record_read_u32(&reader);
    view.topic = record_read_bytes(&reader, topic_size);
    view.properties = record_read_bytes(&reader, properties_size);
    view.payload = reader.rest;
    if (reader.failed || view.meta.qos > 2 || view.topic.size == 0)
        return false;
    *ret_view = view;
    *ret_due_ms = due_ms;
    return true;
}

/* What a former incarnation left. */
static void take_all(struct delayed *delayed, struct block_table *table)
{
    uint64_t now_us = clock_monotonic_us(), real_ms = clock_real_us() / 1000;
    for (block_handle at = block_table_next(table, 0); at != 0; at = block_table_next(table, at)) {
        struct block_entry entry;
        struct publication_view view;
        uint64_t due_ms;
        if (block_table_get(table, at, &delayed->buffer, &entry) != STATUS_OK)
            continue;
        if (!decode(&entry, &view, &due_ms) || !heap_grow(delayed))
            continue;
        uint64_t left_ms = due_ms > real_ms ? due_ms - real_ms : 0;
        heap_add(delayed,
            &(struct waiting){
                .due_us = now_us + left_ms * 1000, .identity = entry.identity, .table = table, .handle = at});
    }
}

/* Life
 * -----------------------------------------------------------------------------------------------------------
 */

enum status delayed_new(const struct delayed_settings *settings, struct delayed **ret_delayed)
{
    struct delayed *delayed = calloc(1, sizeof *delayed);
    if (delayed == NULL)
        return STATUS_NO_MEMORY;
    delayed->bus = settings->bus;
    delayed->table = settings->table;
    delayed->context = settings->context;
    delayed->publish = settings->publish;
    delayed->settled = settings->settled;
    bus_watch(delayed->bus, &(struct bus_watcher){.context = delayed, .turn_ending = on_turn_ending});
    *ret_delayed = delayed;
    return STATUS_OK;
}

void delayed_free(struct delayed **delayed)
{
    struct delayed *it = *delayed;
    *delayed = NULL;
    if (it == NULL)
        return;
    for (size_t i = 0; i < it->adopted_count; i++)
        block_table_close(&it->adopted[i].table);
    free(it->heap);
    free(it->buffer.data);
    free(it);
}

void delayed_start(struct delayed *delayed)
{
    if (!delayed->started)
        take_all(delayed, delayed->table);
    delayed->started = true;
}

void delayed_adopt(struct delayed *delayed, struct block_table *table, unsigned slot)
{
    if (delayed->adopted_count == BUS_PEERS_MAX) {
        block_table_close(&table);
        return;
    }
    delayed->adopted[delayed->adopted_count++] = (struct adopted){table, slot};
    take_all(delayed, table);
}

static void forget_published(struct delayed *delayed, const struct block_table *table)
{
    size_t kept = 0;
    for (size_t i = 0; i < delayed->published_count; i++)
        if (delayed->published[i].table != table)
            delayed->published[kept++] = delayed->published[i];
    delayed->published_count = kept;
}

void delayed_release_adopted(struct delayed *delayed, unsigned slot)
{
    for (size_t i = 0; i < delayed->adopted_count; i++) {
        struct adopted *adopted = &delayed->adopted[i];
        if (adopted->slot != slot)
            continue;
        heap_drop(delayed, adopted->table);
        forget_published(delayed, adopted->table);
        block_table_close(&adopted->table);
        *adopted = delayed->adopted[--delayed->adopted_count];
        return;
    }
}

enum status delayed_put(struct delayed *delayed, const struct publication_view *view, uint32_t delay_s)
{
    struct bytes content;
    struct waiting waiting = {.due_us = clock_monotonic_us() + (uint64_t)delay_s * 1000000,
        .identity = bus_stamp(delayed->bus),
        .table = delayed->table};
    if (!heap_grow(delayed) || !encode(view, clock_real_us() / 1000 + (uint64_t)delay_s * 1000, &content))
        return STATUS_NO_MEMORY;
    enum status status = block_table_put(delayed->table, waiting.identity, 0, content, &waiting.handle);
    free((void *)(uintptr_t)content.data);
    if (status == STATUS_OK)
        heap_add(delayed, &waiting);
    return status;
}

uint32_t delayed_count(const struct delayed *delayed)
{
    return block_table_count(delayed->table);
}

/* Publishing
 * ----------------------------------------------------------------------------------------------------- */

/* STATUS_AGAIN: no room, again later. Otherwise it was published, or is not there any more. */
static enum status publish_one(struct delayed *delayed, const struct waiting *waiting)
{
    struct block_entry entry;
    struct publication_view view;
    uint64_t due_ms;
    enum status status = block_table_get(waiting->table, waiting->handle, &delayed->buffer, &entry);
    if (status == STATUS_NO_MEMORY)
        return STATUS_AGAIN;
    if (status != STATUS_OK || entry.identity != waiting->identity || !decode(&entry, &view, &due_ms))
        return STATUS_NOT_FOUND;
    return delayed->publish(delayed->context, &view);
}

/* Published in an earlier turn: the heads of the windows were published since. False: not all of it is out.
 */
static bool clear_published(struct delayed *delayed)
{
    if (delayed->published_count > 0 && !delayed->settled(delayed->context))
        return false;
    for (size_t i = 0; i < delayed->published_count; i++) {
        const struct waiting *it = &delayed->published[i];
        block_table_remove(it->table, it->handle, it->identity);
    }
    delayed->published_count = 0;
    return true;
}

static void on_turn_ending(void *context)
{
    struct delayed *delayed = context;
    if ((delayed->count == 0 && delayed->published_count == 0) || !delayed->started ||
        !clear_published(delayed))
        return;
    uint64_t now_us = clock_monotonic_us();
    while (delayed->count > 0 && delayed->heap[0].due_us <= now_us &&
           delayed->published_count < DELAYED_PER_TURN) {
        enum status status = publish_one(delayed, &delayed->heap[0]);
        if (status == STATUS_AGAIN)
            return;
        struct waiting first = heap_take(delayed);
        if (status == STATUS_OK)
            delayed->published[delayed->published_count++] = first;
    }
}
