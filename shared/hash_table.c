/*
 * Linear probing. New slots have backward-shift deletion (no tombstones, so probes stay short); the old slots
 * of a move only lose entries, and a mark is left for each. Any process; pure.
 *
 * Large arrays come from mmap: zeroed pages appear as they are touched, where calloc would clear them at
 * once.
 */
#include "shared/hash_table.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
    SLOTS_MIN = 16,
    /* Old slots looked at per change. 1/16 of the old size in changes ends a move, far before the new slots
       can be full; about 100 ns a change. */
    SLOTS_PER_STEP = 16,
    MMAP_FROM = 128 * 1024, /* bytes */
};

char hash_table_moved[1];

static void step_move(struct hash_table *table, size_t slots);
static enum status make_room(struct hash_table *table);
static bool start_move(struct hash_table *table, size_t slots);
static void put(struct hash_table *table, uint64_t hash, void *value);
static struct hash_slot *find_slot(struct hash_slot *slots, size_t mask, uint64_t hash, const void *value);
static void close_hole(struct hash_slot *slots, size_t mask, size_t hole);
static void shrink(struct hash_table *table);
static struct hash_slot *slots_new(size_t slots);
static void slots_free(struct hash_slot **slots, size_t mask);

enum status hash_table_insert(struct hash_table *table, uint64_t hash, void *value)
{
    assert(value != NULL && value != hash_table_moved);
    step_move(table, SLOTS_PER_STEP);
    enum status status = make_room(table);
    if (status != STATUS_OK)
        return status;
    put(table, hash, value);
    table->count++;
    return STATUS_OK;
}

void hash_table_remove(struct hash_table *table, uint64_t hash, const void *value)
{
    assert(table->count > 0);
    struct hash_slot *slot = find_slot(table->slots, table->mask, hash, value);
    if (slot != NULL) {
        close_hole(table->slots, table->mask, (size_t)(slot - table->slots));
    } else {
        assert(table->old != NULL);
        slot = find_slot(table->old, table->old_mask, hash, value);
        assert(slot != NULL);
        slot->value = hash_table_moved;
    }
    table->count--;
    shrink(table);
}

void hash_table_done(struct hash_table *table)
{
    slots_free(&table->slots, table->mask);
    slots_free(&table->old, table->old_mask);
    *table = (struct hash_table){0};
}

size_t hash_table_memory(const struct hash_table *table)
{
    size_t slots = table->slots == NULL ? 0 : table->mask + 1;
    size_t old_slots = table->old == NULL ? 0 : table->old_mask + 1;
    return (slots + old_slots) * sizeof(struct hash_slot);
}

/* Moves what stands in the next `slots` old slots; drops the old ones after the last. */
static void step_move(struct hash_table *table, size_t slots)
{
    if (table->old == NULL)
        return;
    size_t left = table->old_mask + 1 - table->moved;
    size_t end = table->moved + (slots < left ? slots : left);
    for (; table->moved < end; table->moved++) {
        struct hash_slot *slot = &table->old[table->moved];
        if (slot->value == NULL || slot->value == hash_table_moved)
            continue;
        put(table, slot->hash, slot->value);
        slot->value = hash_table_moved;
    }
    if (table->moved == table->old_mask + 1)
        slots_free(&table->old, table->old_mask);
}

/* Room for one more entry: at most 3/4 are taken, or 15/16 while the system has no memory for more. */
static enum status make_room(struct hash_table *table)
{
    if (table->slots == NULL)
        return start_move(table, SLOTS_MIN) ? STATUS_OK : STATUS_NO_MEMORY;
    size_t slots = table->mask + 1;
    if (table->count + 1 <= slots / 4 * 3)
        return STATUS_OK;
    step_move(table, SIZE_MAX);
    if (start_move(table, slots * 2))
        return STATUS_OK;
    return table->count + 1 <= slots / 16 * 15 ? STATUS_OK : STATUS_NO_MEMORY;
}

/* From now on entries go to `slots` fresh ones. False without memory. */
static bool start_move(struct hash_table *table, size_t slots)
{
    assert(table->old == NULL);
    struct hash_slot *fresh = slots_new(slots);
    if (fresh == NULL)
        return false;
    table->old = table->slots;
    table->old_mask = table->mask;
    table->moved = 0;
    table->slots = fresh;
    table->mask = slots - 1;
    return true;
}

static void put(struct hash_table *table, uint64_t hash, void *value)
{
    size_t at = hash & table->mask;
    while (table->slots[at].value != NULL)
        at = (at + 1) & table->mask;
    table->slots[at] = (struct hash_slot){hash, value};
}

static struct hash_slot *find_slot(struct hash_slot *slots, size_t mask, uint64_t hash, const void *value)
{
    for (size_t at = hash & mask; slots[at].value != NULL; at = (at + 1) & mask)
        if (slots[at].value == value)
            return &slots[at];
    return NULL;
}

/* Empties slot `hole` and moves back what follows it, where a probe would otherwise end too early. */
static void close_hole(struct hash_slot *slots, size_t mask, size_t hole)
{
    for (size_t next = (hole + 1) & mask; slots[next].value != NULL; next = (next + 1) & mask) {
        size_t home = slots[next].hash & mask;
        if (((next - home) & mask) < ((next - hole) & mask))
            continue;
        slots[hole] = slots[next];
        hole = next;
    }
    slots[hole].value = NULL;
}

/* Gives memory back once 7/8 of the slots are empty; no memory for fewer slots: they stay. */
static void shrink(struct hash_table *table)
{
    if (table->count == 0) {
        hash_table_done(table);
        return;
    }
    step_move(table, SLOTS_PER_STEP);
    size_t slots = table->mask + 1;
    if (table->old == NULL && slots > SLOTS_MIN && table->count < slots / 8)
        (void)start_move(table, slots / 2);
}

static struct hash_slot *slots_new(size_t slots)
{
    size_t size = slots * sizeof(struct hash_slot);
    if (size < MMAP_FROM)
        return calloc(slots, sizeof(struct hash_slot));
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static void slots_free(struct hash_slot **slots, size_t mask)
{
    size_t size = (mask + 1) * sizeof(struct hash_slot);
    if (*slots != NULL && size >= MMAP_FROM)
        munmap(*slots, size);
    else
        free(*slots);
    *slots = NULL;
}
