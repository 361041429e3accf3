/* Leaves and directory of the retained table's order. Worker process; pure. */
#include "shared/retained_order.h"

#include "shared/heap_size.h"

#include <assert.h>
#include <stdlib.h>

static uint32_t row_of(const struct retained_order *order, const struct retained_key *key);
static enum status add_row(struct retained_order *order, uint32_t row);
static enum status split(struct retained_order *order, struct retained_place *place);
static void drop_row(struct retained_order *order, uint32_t row);
static void merge(struct retained_order *order, uint32_t row);

enum status retained_order_insert(struct retained_order *order, struct retained_entry *entry)
{
    struct retained_key key = retained_entry_key(entry);
    struct retained_place place = {0};
    enum status status = STATUS_OK;
    if (order->count == 0) {
        status = add_row(order, 0);
    } else {
        place.row = row_of(order, &key);
        place.at = retained_leaf_find(order->rows[place.row].leaf, &key);
        if (order->rows[place.row].leaf->count == RETAINED_LEAF_MAX)
            status = split(order, &place);
    }
    if (status != STATUS_OK)
        return status;
    struct retained_order_row *row = &order->rows[place.row];
    retained_leaf_insert(row->leaf, place.at, entry);
    row->first = row->leaf->entries[0];
    order->version++;
    return STATUS_OK;
}

void retained_order_remove(struct retained_order *order, struct retained_entry *entry)
{
    struct retained_key key = retained_entry_key(entry);
    uint32_t row = row_of(order, &key);
    struct retained_leaf *leaf = order->rows[row].leaf;
    uint32_t at = retained_leaf_find(leaf, &key);
    assert(at < leaf->count && leaf->entries[at] == entry);
    order->version++;
    if (leaf->count == 1) {
        drop_row(order, row);
        return;
    }
    retained_leaf_remove(leaf, at);
    order->rows[row].first = leaf->entries[0];
    if (leaf->count < RETAINED_LEAF_MAX / 4) {
        merge(order, row);
        if (row > 0)
            merge(order, row - 1);
    }
}

void retained_order_done(struct retained_order *order)
{
    for (uint32_t row = 0; row < order->count; row++)
        free(order->rows[row].leaf);
    free(order->rows);
    *order = (struct retained_order){0};
}

size_t retained_order_memory(const struct retained_order *order)
{
    return order->count * heap_size(sizeof(struct retained_leaf)) +
           order->capacity * sizeof(struct retained_order_row);
}

struct retained_place retained_order_seek(const struct retained_order *order, const struct retained_key *key)
{
    if (order->count == 0)
        return (struct retained_place){0};
    uint32_t row = row_of(order, key);
    const struct retained_leaf *leaf = order->rows[row].leaf;
    uint32_t at = retained_leaf_find(leaf, key);
    return at < leaf->count ? (struct retained_place){row, at} : (struct retained_place){row + 1, 0};
}

struct retained_entry *retained_order_at(const struct retained_order *order, struct retained_place place)
{
    return place.row < order->count ? order->rows[place.row].leaf->entries[place.at] : NULL;
}

struct retained_place retained_order_next(const struct retained_order *order, struct retained_place place)
{
    assert(place.row < order->count);
    if (place.at + 1 < order->rows[place.row].leaf->count)
        return (struct retained_place){place.row, place.at + 1};
    return (struct retained_place){place.row + 1, 0};
}

/* The last row whose first entry is not behind the key; row 0 for a key before all. */
static uint32_t row_of(const struct retained_order *order, const struct retained_key *key)
{
    uint32_t low = 0;
    uint32_t high = order->count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        __builtin_prefetch(order->rows[low + (middle - low) / 2].first);
        __builtin_prefetch(order->rows[middle + (high - middle) / 2].first);
        if (retained_entry_compare(order->rows[middle].first, key) <= 0)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Puts a new leaf before `row`; the caller fills it and sets its `first`. */
static enum status add_row(struct retained_order *order, uint32_t row)
{
    if (order->count == order->capacity) {
        uint32_t capacity = order->capacity == 0 ? 4 : order->capacity * 2;
        struct retained_order_row *rows = realloc(order->rows, capacity * sizeof *rows);
        if (rows == NULL)
            return STATUS_NO_MEMORY;
        order->rows = rows;
        order->capacity = capacity;
    }
    struct retained_leaf *leaf = retained_leaf_new();
    if (leaf == NULL)
        return STATUS_NO_MEMORY;
    memmove(order->rows + row + 1, order->rows + row, (order->count - row) * sizeof *order->rows);
    order->rows[row] = (struct retained_order_row){.leaf = leaf};
    order->count++;
    return STATUS_OK;
}

/*
 * Makes room in the full leaf at *place, which is corrected. Half of it goes to a new leaf, but only the last
 * entry when the new one comes behind all: topics that come in order fill their leaves.
 */
static enum status split(struct retained_order *order, struct retained_place *place)
{
    struct retained_leaf *leaf = order->rows[place->row].leaf;
    bool last = place->row + 1 == order->count && place->at == leaf->count;
    uint32_t kept = last ? leaf->count - 1 : leaf->count / 2;
    enum status status = add_row(order, place->row + 1);
    if (status != STATUS_OK)
        return status;
    struct retained_order_row *added = &order->rows[place->row + 1];
    retained_leaf_move(leaf, kept, added->leaf);
    added->first = added->leaf->entries[0];
    if (place->at > kept)
        *place = (struct retained_place){place->row + 1, place->at - kept};
    return STATUS_OK;
}

static void drop_row(struct retained_order *order, uint32_t row)
{
    free(order->rows[row].leaf);
    order->count--;
    memmove(order->rows + row, order->rows + row + 1, (order->count - row) * sizeof *order->rows);
}

/* Takes the next row's leaf into this one if the two leave some room. */
static void merge(struct retained_order *order, uint32_t row)
{
    if (row + 1 >= order->count)
        return;
    struct retained_leaf *leaf = order->rows[row].leaf;
    struct retained_leaf *next = order->rows[row + 1].leaf;
    if (leaf->count + next->count > RETAINED_LEAF_MAX / 4 * 3)
        return;
    retained_leaf_move(next, 0, leaf);
    drop_row(order, row + 1);
}
