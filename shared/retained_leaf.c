/* Leaves of the retained table's order, and how topics compare. Worker process; pure. */
#include "shared/retained_leaf.h"

#include <assert.h>
#include <stdlib.h>

enum { FRAGMENT_SIZE = 8 };

static int compare(struct bytes text, const struct retained_key *key);
static struct retained_key key_beginning(const struct retained_key *key, size_t size);
static uint64_t fragment_of(const struct retained_key *key, size_t skip);
static void narrow_skip(struct retained_leaf *leaf, uint32_t skip);
static void renew_fragments(struct retained_leaf *leaf, uint32_t skip);
static uint32_t common_beginning(const struct retained_leaf *leaf);

int retained_entry_compare(const struct retained_entry *entry, const struct retained_key *key)
{
    return compare(bytes_of(entry->topic, entry->topic_size), key);
}

struct retained_key retained_entry_key(const struct retained_entry *entry)
{
    return (struct retained_key){.head = bytes_of(entry->topic, entry->topic_size)};
}

struct retained_leaf *retained_leaf_new(void)
{
    struct retained_leaf *leaf = malloc(sizeof *leaf);
    if (leaf != NULL)
        leaf->count = leaf->skip = 0;
    return leaf;
}

uint32_t retained_leaf_find(const struct retained_leaf *leaf, const struct retained_key *key)
{
    struct retained_key beginning = key_beginning(key, leaf->skip);
    int outside = leaf->skip == 0 ? 0 : compare(bytes_of(leaf->entries[0]->topic, leaf->skip), &beginning);
    if (outside != 0)
        return outside > 0 ? 0 : leaf->count;
    uint64_t fragment = fragment_of(key, leaf->skip);
    uint32_t low = 0;
    uint32_t high = leaf->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        bool below = leaf->fragments[middle] < fragment;
        if (leaf->fragments[middle] == fragment)
            below = retained_entry_compare(leaf->entries[middle], key) < 0;
        if (below)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void retained_leaf_insert(struct retained_leaf *leaf, uint32_t at, struct retained_entry *entry)
{
    assert(at <= leaf->count && leaf->count < RETAINED_LEAF_MAX);
    memmove(leaf->entries + at + 1, leaf->entries + at, (leaf->count - at) * sizeof(struct retained_entry *));
    memmove(leaf->fragments + at + 1, leaf->fragments + at, (leaf->count - at) * sizeof leaf->fragments[0]);
    leaf->entries[at] = entry;
    leaf->count++;
    if (leaf->count == 1)
        leaf->skip = entry->topic_size;
    struct retained_key key = retained_entry_key(entry);
    leaf->fragments[at] = fragment_of(&key, leaf->skip);
    if (at == 0 || at + 1 == leaf->count)
        narrow_skip(leaf, common_beginning(leaf));
}

void retained_leaf_remove(struct retained_leaf *leaf, uint32_t at)
{
    assert(at < leaf->count);
    leaf->count--;
    memmove(leaf->entries + at, leaf->entries + at + 1, (leaf->count - at) * sizeof(struct retained_entry *));
    memmove(leaf->fragments + at, leaf->fragments + at + 1, (leaf->count - at) * sizeof leaf->fragments[0]);
}

void retained_leaf_move(struct retained_leaf *leaf, uint32_t at, struct retained_leaf *to)
{
    uint32_t moved = leaf->count - at;
    assert(at <= leaf->count && to->count + moved <= RETAINED_LEAF_MAX);
    memcpy(to->entries + to->count, leaf->entries + at, moved * sizeof(struct retained_entry *));
    to->count += moved;
    leaf->count = at;
    renew_fragments(to, common_beginning(to));
    if (leaf->count > 0)
        renew_fragments(leaf, common_beginning(leaf));
}

static int compare(struct bytes text, const struct retained_key *key)
{
    size_t head = text.size < key->head.size ? text.size : key->head.size;
    int order = head > 0 ? memcmp(text.data, key->head.data, head) : 0;
    if (order != 0)
        return order;
    if (head < key->head.size)
        return -1;
    size_t rest = text.size - head;
    size_t tail = rest < key->tail.size ? rest : key->tail.size;
    order = tail > 0 ? memcmp(text.data + head, key->tail.data, tail) : 0;
    if (order != 0)
        return order;
    return rest < key->tail.size ? -1 : rest > key->tail.size;
}

/* The key's first `size` bytes, or the whole. */
static struct retained_key key_beginning(const struct retained_key *key, size_t size)
{
    struct retained_key beginning = *key;
    if (beginning.head.size > size)
        beginning.head.size = size;
    if (beginning.tail.size > size - beginning.head.size)
        beginning.tail.size = size - beginning.head.size;
    return beginning;
}

/* The 8 bytes behind the first `skip`, the first one most significant; zeros where the key ends. */
static uint64_t fragment_of(const struct retained_key *key, size_t skip)
{
    uint8_t text[FRAGMENT_SIZE] = {0};
    size_t size = 0;
    for (struct bytes part = key->head;; part = key->tail) {
        size_t passed = skip < part.size ? skip : part.size;
        size_t taken = part.size - passed < FRAGMENT_SIZE - size ? part.size - passed : FRAGMENT_SIZE - size;
        if (taken > 0)
            memcpy(text + size, part.data + passed, taken);
        size += taken;
        skip -= passed;
        if (part.data == key->tail.data)
            break;
    }
    uint64_t fragment;
    memcpy(&fragment, text, sizeof fragment);
    return be64toh(fragment);
}

static void narrow_skip(struct retained_leaf *leaf, uint32_t skip)
{
    if (skip < leaf->skip)
        renew_fragments(leaf, skip);
}

static void renew_fragments(struct retained_leaf *leaf, uint32_t skip)
{
    leaf->skip = skip;
    for (uint32_t i = 0; i < leaf->count; i++) {
        struct retained_key key = retained_entry_key(leaf->entries[i]);
        leaf->fragments[i] = fragment_of(&key, skip);
    }
}

/* What the first and the last topic begin with, and so all between. */
static uint32_t common_beginning(const struct retained_leaf *leaf)
{
    const struct retained_entry *first = leaf->entries[0];
    const struct retained_entry *last = leaf->entries[leaf->count - 1];
    uint32_t common = 0;
    while (common < first->topic_size && common < last->topic_size &&
           first->topic[common] == last->topic[common])
        common++;
    return common;
}
