/*
 * The entries of the topic index: found, made, matched, visited and freed. Worker process; pure.
 * What hangs below an entry (subscriptions, groups, peers) is in topic_index_subscriptions.c, the tree of
 * wildcard filters in topic_tree.c.
 */
#include "shared/heap_size.h"
#include "shared/topic_index_private.h"
#include "shared/topic_level.h"

#include <assert.h>
#include <stdlib.h>

static enum status reserve_matches(struct topic_index *index);
static struct topic_entry *entry_new(struct topic_index *index, struct bytes text);
static void entry_free(struct topic_index *index, struct topic_entry *entry);
static enum status entry_link(struct topic_index *index, struct topic_entry *entry);
static enum status entry_place(struct topic_index *index, struct topic_entry *entry);
static void entry_unlink(struct topic_index *index, struct topic_entry *entry);
static struct bytes entry_text(const struct topic_entry *entry);
static struct topic_filter *find_exact(const struct topic_index *index, struct bytes text, uint64_t hash);
static bool is_entry(const void *value, const void *key);

struct topic_index *topic_index_new(const struct keyed_hash *hash)
{
    struct topic_index *index = calloc(1, sizeof *index);
    if (index == NULL)
        return NULL;
    index->hash = *hash;
    if (topic_tree_init(&index->tree, &index->hash) != STATUS_OK || reserve_matches(index) != STATUS_OK)
        topic_index_free(&index);
    return index;
}

void topic_index_free(struct topic_index **index)
{
    struct topic_index *it = *index;
    *index = NULL;
    if (it == NULL)
        return;
    while (it->entries.count > 0) {
        struct topic_entry *entry = pointer_bag_at(&it->entries, it->entries.count - 1);
        topic_index_free_arrays(it, &entry->filter);
        entry_unlink(it, entry);
        entry_free(it, entry);
    }
    topic_tree_done(&it->tree);
    hash_table_done(&it->exact);
    pointer_bag_done(&it->entries);
    free(it->matches);
    free(it);
}

enum status topic_index_acquire(
    struct topic_index *index, struct bytes filter, struct topic_filter **ret_filter)
{
    assert(filter.size >= 1 && filter.size <= UINT16_MAX);
    struct topic_filter *found = topic_index_find(index, filter);
    if (found != NULL) {
        *ret_filter = found;
        return STATUS_OK;
    }
    struct topic_entry *entry = entry_new(index, filter);
    if (entry == NULL)
        return STATUS_NO_MEMORY;
    enum status status = entry_link(index, entry);
    if (status != STATUS_OK) {
        entry_free(index, entry);
        return status;
    }
    *ret_filter = &entry->filter;
    return STATUS_OK;
}

struct topic_filter *topic_index_find(const struct topic_index *index, struct bytes filter)
{
    if (topic_has_wildcard(filter))
        return topic_tree_find(&index->tree, filter);
    return find_exact(index, filter, keyed_hash_of(&index->hash, filter));
}

void topic_index_release(struct topic_index *index, struct topic_filter *filter)
{
    if (filter->groups != NULL)
        topic_index_release_groups(index, filter);
    assert((filter->durable_peers & ~filter->peers) == 0);
    if (filter->count > 0 || filter->groups != NULL || filter->peers != 0 || filter->owner_data != NULL)
        return;
    struct topic_entry *entry = topic_entry_of(filter);
    topic_index_free_arrays(index, filter);
    entry_unlink(index, entry);
    entry_free(index, entry);
}

struct topic_match topic_index_match(struct topic_index *index, struct bytes topic)
{
    assert(topic.size >= 1);
    bool exact = index->exact.count > 0;
    uint64_t hash = 0;
    if (exact) {
        hash = keyed_hash_of(&index->hash, topic);
        hash_table_prefetch(&index->exact, hash);
    }
    struct topic_match match = {.filters = index->matches};
    if (index->tree.filters > 0)
        match.count = topic_tree_match(&index->tree, topic, match.filters);
    struct topic_filter *found = exact ? find_exact(index, topic, hash) : NULL;
    if (found != NULL)
        match.filters[match.count++] = found;
    assert(match.count <= index->matches_capacity);
    return match;
}

size_t topic_filter_text(const struct topic_filter *filter, char *to, size_t size)
{
    const struct topic_entry *entry = (const struct topic_entry *)(const void *)filter;
    if (size > 0) {
        size_t copied = entry->text_size < size ? entry->text_size : size - 1;
        memcpy(to, entry->text, copied);
        to[copied] = '\0';
    }
    return entry->text_size;
}

struct bytes topic_filter_bytes(const struct topic_filter *filter)
{
    return entry_text((const struct topic_entry *)(const void *)filter);
}

void topic_index_visit(
    struct topic_index *index, void (*visit)(void *context, struct topic_filter *filter), void *context)
{
    uint32_t rest = topic_index_visit_page(index, TOPIC_INDEX_CURSOR_START, UINT32_MAX, visit, context);
    assert(rest == 0);
}

/* The cursor is the number of entries not yet visited; why that is safe: see pointer_bag.h. */
uint32_t topic_index_visit_page(struct topic_index *index, uint32_t cursor, uint32_t budget,
    void (*visit)(void *context, struct topic_filter *filter), void *context)
{
    if (cursor > index->entries.count)
        cursor = index->entries.count;
    for (; cursor > 0 && budget > 0; cursor--, budget--)
        visit(context, &((struct topic_entry *)pointer_bag_at(&index->entries, cursor - 1))->filter);
    return cursor;
}

void topic_index_drop_peer(struct topic_index *index, unsigned peer)
{
    uint32_t rest = topic_index_drop_peer_page(index, peer, TOPIC_INDEX_CURSOR_START, UINT32_MAX);
    assert(rest == 0);
}

uint32_t topic_index_drop_peer_page(
    struct topic_index *index, unsigned peer, uint32_t cursor, uint32_t budget)
{
    if (cursor > index->entries.count)
        cursor = index->entries.count;
    for (; cursor > 0 && budget > 0; cursor--, budget--) {
        struct topic_entry *entry = pointer_bag_at(&index->entries, cursor - 1);
        topic_index_forget_peer(index, &entry->filter, peer);
        topic_index_release(index, &entry->filter);
    }
    return cursor;
}

size_t topic_index_entries(const struct topic_index *index)
{
    return index->entries.count;
}

size_t topic_index_memory(const struct topic_index *index)
{
    return heap_size(sizeof *index) + index->memory + hash_table_memory(&index->exact) +
           topic_tree_memory(&index->tree) + pointer_bag_memory(&index->entries);
}

/*
 * Room for all wildcard filters, one more, and an exact one: a match cannot fail. It costs address space; a
 * page that no match ever reached is never touched.
 */
static enum status reserve_matches(struct topic_index *index)
{
    uint32_t needed = index->tree.filters + 2;
    if (needed <= index->matches_capacity)
        return STATUS_OK;
    uint32_t capacity = needed < 16 ? 16 : needed * 2;
    struct topic_filter **matches = malloc(capacity * sizeof(struct topic_filter *));
    if (matches == NULL)
        return STATUS_NO_MEMORY;
    free(index->matches);
    index->memory += (capacity - index->matches_capacity) * sizeof(struct topic_filter *);
    index->matches = matches;
    index->matches_capacity = capacity;
    return STATUS_OK;
}

static struct topic_entry *entry_new(struct topic_index *index, struct bytes text)
{
    size_t size = offsetof(struct topic_entry, text) + text.size;
    struct topic_entry *entry = calloc(1, size < sizeof *entry ? sizeof *entry : size);
    if (entry == NULL)
        return NULL;
    entry->filter.subscriptions = &entry->inline_element;
    entry->filter.capacity = 1;
    entry->text_size = (uint16_t)text.size;
    memcpy(entry->text, text.data, text.size);
    index->memory += heap_size(size);
    return entry;
}

static void entry_free(struct topic_index *index, struct topic_entry *entry)
{
    index->memory -= heap_size(offsetof(struct topic_entry, text) + entry->text_size);
    free(entry);
}

/* Makes a new entry findable. When that fails nothing has changed. */
static enum status entry_link(struct topic_index *index, struct topic_entry *entry)
{
    enum status status = pointer_bag_add(&index->entries, entry, &entry->position);
    if (status != STATUS_OK)
        return status;
    status = entry_place(index, entry);
    if (status != STATUS_OK)
        (void)pointer_bag_remove(&index->entries, entry->position); /* it was the last */
    return status;
}

static enum status entry_place(struct topic_index *index, struct topic_entry *entry)
{
    struct bytes text = entry_text(entry);
    if (!topic_has_wildcard(text))
        return hash_table_insert(&index->exact, keyed_hash_of(&index->hash, text), entry);
    enum status status = reserve_matches(index);
    if (status != STATUS_OK)
        return status;
    return topic_tree_add(&index->tree, text, &entry->filter);
}

static void entry_unlink(struct topic_index *index, struct topic_entry *entry)
{
    if (entry->filter.node != NULL)
        topic_tree_remove(&index->tree, &entry->filter);
    else
        hash_table_remove(&index->exact, keyed_hash_of(&index->hash, entry_text(entry)), entry);
    struct topic_entry *moved = pointer_bag_remove(&index->entries, entry->position);
    if (moved != NULL)
        moved->position = entry->position;
}

static struct bytes entry_text(const struct topic_entry *entry)
{
    return bytes_of(entry->text, entry->text_size);
}

static inline struct topic_filter *find_exact(
    const struct topic_index *index, struct bytes text, uint64_t hash)
{
    return hash_table_find(&index->exact, hash, is_entry, &text);
}

static inline bool is_entry(const void *value, const void *key)
{
    const struct topic_entry *entry = value;
    const struct bytes *text = key;
    return entry->text_size == text->size && memcmp(entry->text, text->data, text->size) == 0;
}
