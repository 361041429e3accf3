/*
 * A hash table of pointers: open addressing, the whole 64-bit hash beside each pointer, so that a look-up
 * follows a pointer only when it is (all but certainly) the right one. Growing and shrinking move a few slots
 * with each change instead of all at once: no change takes long, however many entries there are. Pure.
 *
 * The hash must come from keyed_hash, or clients could choose collisions. Values are borrowed.
 */
#ifndef SHARED_HASH_TABLE_H
#define SHARED_HASH_TABLE_H

#include "shared/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hash_slot {
    uint64_t hash;
    void *value; /* NULL: empty, and a probe ends here */
};

/* Zeroed is empty. `old` is what the slots are being moved from, NULL most of the time. */
struct hash_table {
    struct hash_slot *slots; /* owned; NULL while the table is empty */
    size_t mask;             /* slots - 1 */
    struct hash_slot *old;   /* owned; takes no new entries */
    size_t old_mask;
    size_t moved; /* slots of `old` that are done */
    size_t count; /* entries in both */
};

/* Stands in `old` where an entry was, so that probes go on. Never a value. */
extern char hash_table_moved[1];

static inline __attribute__((always_inline)) void *hash_slots_find(const struct hash_slot *slots, size_t mask,
    uint64_t hash, bool (*same)(const void *value, const void *key), const void *key)
{
    for (size_t at = hash & mask; slots[at].value != NULL; at = (at + 1) & mask)
        if (slots[at].hash == hash && slots[at].value != hash_table_moved && same(slots[at].value, key))
            return slots[at].value;
    return NULL;
}

/* The value with this hash for which same(value, key) holds, else NULL. Hot: a static `same` is inlined. */
static inline __attribute__((always_inline)) void *hash_table_find(const struct hash_table *table,
    uint64_t hash, bool (*same)(const void *value, const void *key), const void *key)
{
    if (table->count == 0)
        return NULL;
    void *value = hash_slots_find(table->slots, table->mask, hash, same, key);
    if (__builtin_expect(value == NULL && table->old != NULL, 0))
        value = hash_slots_find(table->old, table->old_mask, hash, same, key);
    return value;
}

/* Tells the processor to fetch the slot where a look-up of `hash` will begin. */
static inline void hash_table_prefetch(const struct hash_table *table, uint64_t hash)
{
    if (table->count > 0)
        __builtin_prefetch(&table->slots[hash & table->mask]);
}

/* Adds a value that is not in the table. STATUS_NO_MEMORY: nothing has changed. */
enum status hash_table_insert(struct hash_table *table, uint64_t hash, void *value) CHECK_RESULT;

/* Removes a value that is in the table. */
void hash_table_remove(struct hash_table *table, uint64_t hash, const void *value);

/* Frees the slots, not the values; the table is empty afterwards. */
void hash_table_done(struct hash_table *table);

/* Bytes that the slots take. */
size_t hash_table_memory(const struct hash_table *table);

#endif
