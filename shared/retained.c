/*
 * The retained table: one entry per topic, in a hash table (puts, exact walks), in topic order (walks) and in
 * a bag (the sweep). Worker process; pure: times come from the caller.
 */
#include "shared/heap_size.h"
#include "shared/retained_private.h"

#include <assert.h>
#include <stdlib.h>

static bool is_newer(const struct publication_meta *a, const struct publication_meta *b);
static void entry_set(struct retained *retained, struct retained_entry *entry, struct publication *message);
static struct retained_entry *entry_new(struct retained *retained, struct bytes topic);
static enum status entry_link(struct retained *retained, struct retained_entry *entry, uint64_t hash);
static void entry_unlink(struct retained *retained, struct retained_entry *entry);
static void entry_free(struct retained *retained, struct retained_entry *entry);
static void sweep_entry(struct retained *retained, struct retained_entry *entry, uint64_t now_real_ms,
    const struct retained_ages *ages);
static void bury(struct retained *retained, struct retained_entry *entry, uint64_t now_real_ms);
static struct bytes entry_topic(const struct retained_entry *entry);
static size_t entry_size(size_t topic_size);
static size_t content_size(const struct publication *message);
static bool is_entry(const void *value, const void *key);

struct retained *retained_new(const struct keyed_hash *hash)
{
    struct retained *retained = calloc(1, sizeof *retained);
    if (retained != NULL)
        retained->hash = *hash;
    return retained;
}

void retained_free(struct retained **retained)
{
    struct retained *it = *retained;
    *retained = NULL;
    if (it == NULL)
        return;
    assert(it->walks == 0);
    for (uint32_t i = 0; i < it->entries.count; i++)
        entry_free(it, pointer_bag_at(&it->entries, i));
    hash_table_done(&it->by_topic);
    retained_order_done(&it->order);
    pointer_bag_done(&it->entries);
    free(it);
}

enum status retained_put(struct retained *retained, struct publication *message)
{
    struct bytes topic = publication_view(message).topic;
    assert(topic.size >= 1 && topic.size <= UINT16_MAX);
    uint64_t hash = keyed_hash_of(&retained->hash, topic);
    struct retained_entry *entry = hash_table_find(&retained->by_topic, hash, is_entry, &topic);
    if (entry != NULL) {
        if (!is_newer(&message->meta, &entry->message->meta))
            return STATUS_EXISTS;
    } else {
        entry = entry_new(retained, topic);
        if (entry == NULL)
            return STATUS_NO_MEMORY;
        enum status status = entry_link(retained, entry, hash);
        if (status != STATUS_OK) {
            entry_free(retained, entry);
            return status;
        }
    }
    entry_set(retained, entry, publication_ref(message));
    retained->applied++;
    if (retained_is_tombstone(entry))
        entry->first_visit = 0;
    else
        entry->applied = retained->applied;
    return STATUS_OK;
}

uint64_t retained_applied(const struct retained *retained)
{
    return retained->applied;
}

/* From the last position to the first, then around: an entry that stays is met in every round
 * (pointer_bag.h). */
void retained_expire(
    struct retained *retained, uint64_t now_real_ms, const struct retained_ages *ages, uint32_t budget)
{
    uint32_t visits = budget < retained->entries.count ? budget : retained->entries.count;
    for (; visits > 0 && retained->entries.count > 0; visits--) {
        if (retained->sweep == 0 || retained->sweep > retained->entries.count)
            retained->sweep = retained->entries.count;
        retained->sweep--;
        struct retained_entry *entry = pointer_bag_at(&retained->entries, retained->sweep);
        sweep_entry(retained, entry, now_real_ms, ages);
    }
}

size_t retained_count(const struct retained *retained)
{
    return retained->entries.count - retained->tombstones;
}

size_t retained_tombstones(const struct retained *retained)
{
    return retained->tombstones;
}

size_t retained_bytes(const struct retained *retained)
{
    return retained->bytes;
}

size_t retained_memory(const struct retained *retained)
{
    return heap_size(sizeof *retained) + retained->memory + hash_table_memory(&retained->by_topic) +
           retained_order_memory(&retained->order) + pointer_bag_memory(&retained->entries);
}

uint64_t retained_expires_ms(const struct publication_meta *meta, uint64_t message_ms)
{
    if (meta->expires_ms != 0 || message_ms == 0)
        return meta->expires_ms;
    return (meta->stamp >> RETAINED_STAMP_BITS) + message_ms;
}

bool retained_knows(const struct retained *retained, struct bytes topic)
{
    return retained_find_entry(retained, topic) != NULL;
}

bool retained_has_room(const struct retained *retained, const struct retained_limits *limits,
    const struct publication_view *view)
{
    if (view->payload.size == 0)
        return true;
    if (limits->payload_size != 0 && view->payload.size > limits->payload_size)
        return false;
    size_t count = retained_count(retained) + 1;
    size_t bytes = retained->bytes + view->topic.size + view->properties.size + view->payload.size;
    if ((limits->messages == 0 || count <= limits->messages) &&
        (limits->bytes == 0 || bytes <= limits->bytes))
        return true;
    const struct retained_entry *present = retained_find_entry(retained, view->topic);
    if (present == NULL || retained_is_tombstone(present))
        return false;
    /* One that is no larger than what it replaces makes nothing worse. */
    size_t freed = content_size(present->message);
    return limits->bytes == 0 || bytes - freed <= limits->bytes || bytes - freed <= retained->bytes;
}

struct retained_entry *retained_find_entry(const struct retained *retained, struct bytes topic)
{
    return hash_table_find(&retained->by_topic, keyed_hash_of(&retained->hash, topic), is_entry, &topic);
}

/* The order that all workers and nodes agree on. */
static bool is_newer(const struct publication_meta *a, const struct publication_meta *b)
{
    if (a->stamp != b->stamp)
        return a->stamp > b->stamp;
    if (a->origin.node != b->origin.node)
        return a->origin.node > b->origin.node;
    if (a->origin.slot != b->origin.slot)
        return a->origin.slot > b->origin.slot;
    if (a->origin.incarnation != b->origin.incarnation)
        return a->origin.incarnation > b->origin.incarnation;
    return a->sequence > b->sequence;
}

/* Gives the entry its message (takes the reference; NULL: none any more). Only place where messages change.
 */
static void entry_set(struct retained *retained, struct retained_entry *entry, struct publication *message)
{
    if (entry->message != NULL) {
        retained->tombstones -= retained_is_tombstone(entry);
        retained->memory -= heap_size(publication_size(entry->message));
        retained->bytes -= content_size(entry->message);
        publication_unref(&entry->message);
    }
    entry->message = message;
    if (message == NULL)
        return;
    retained->tombstones += retained_is_tombstone(entry);
    retained->memory += heap_size(publication_size(message));
    retained->bytes += content_size(message);
}

static struct retained_entry *entry_new(struct retained *retained, struct bytes topic)
{
    struct retained_entry *entry = calloc(1, entry_size(topic.size));
    if (entry == NULL)
        return NULL;
    entry->topic_size = (uint16_t)topic.size;
    memcpy(entry->topic, topic.data, topic.size);
    retained->memory += heap_size(entry_size(topic.size));
    return entry;
}

/* Into all three structures, or none. */
static enum status entry_link(struct retained *retained, struct retained_entry *entry, uint64_t hash)
{
    enum status status = pointer_bag_add(&retained->entries, entry, &entry->position);
    if (status != STATUS_OK)
        return status;
    status = hash_table_insert(&retained->by_topic, hash, entry);
    if (status != STATUS_OK)
        goto not_hashed;
    status = retained_order_insert(&retained->order, entry);
    if (status != STATUS_OK)
        goto not_ordered;
    return STATUS_OK;

not_ordered:
    hash_table_remove(&retained->by_topic, hash, entry);
not_hashed:
    (void)pointer_bag_remove(&retained->entries, entry->position); /* it was the last */
    return status;
}

static void entry_unlink(struct retained *retained, struct retained_entry *entry)
{
    hash_table_remove(&retained->by_topic, keyed_hash_of(&retained->hash, entry_topic(entry)), entry);
    retained_order_remove(&retained->order, entry);
    struct retained_entry *moved = pointer_bag_remove(&retained->entries, entry->position);
    if (moved != NULL)
        moved->position = entry->position;
}

static void entry_free(struct retained *retained, struct retained_entry *entry)
{
    entry_set(retained, entry, NULL);
    retained->memory -= heap_size(entry_size(entry->topic_size));
    free(entry);
}

static void sweep_entry(struct retained *retained, struct retained_entry *entry, uint64_t now_real_ms,
    const struct retained_ages *ages)
{
    if (!retained_is_tombstone(entry)) {
        uint64_t expires_ms = retained_expires_ms(&entry->message->meta, ages->message_ms);
        if (expires_ms != 0 && expires_ms <= now_real_ms)
            bury(retained, entry, now_real_ms);
    } else if (entry->first_visit == 0) {
        entry->first_visit = now_real_ms;
    } else if (now_real_ms >= entry->first_visit && now_real_ms - entry->first_visit >= ages->tombstone_ms) {
        entry_unlink(retained, entry);
        entry_free(retained, entry);
    }
}

/* Replaces an expired message by a tombstone of the same stamp; without memory for it, at a later visit. */
static void bury(struct retained *retained, struct retained_entry *entry, uint64_t now_real_ms)
{
    struct publication_view view = {.meta = entry->message->meta, .topic = entry_topic(entry)};
    struct publication *tombstone = publication_new(&view);
    if (tombstone == NULL)
        return;
    entry_set(retained, entry, tombstone);
    entry->first_visit = now_real_ms;
}

static struct bytes entry_topic(const struct retained_entry *entry)
{
    return bytes_of(entry->topic, entry->topic_size);
}

static size_t entry_size(size_t topic_size)
{
    size_t size = offsetof(struct retained_entry, topic) + topic_size;
    return size < sizeof(struct retained_entry) ? sizeof(struct retained_entry) : size;
}

/* A tombstone's topic is the table's business. */
static size_t content_size(const struct publication *message)
{
    if (message->payload_size == 0)
        return 0;
    return (size_t)message->topic_size + message->properties_size + message->payload_size;
}

static inline bool is_entry(const void *value, const void *key)
{
    const struct retained_entry *entry = value;
    const struct bytes *topic = key;
    return entry->topic_size == topic->size && memcmp(entry->topic, topic->data, topic->size) == 0;
}
