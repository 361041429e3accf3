/*
 * An unordered bag of pointers in which each item knows its position: adding and removing take constant time,
 * without ever copying the whole. Pure.
 *
 * Removing moves the last item into the hole. So whoever walks from the last position down to 0, in as many
 * steps as wanted and with changes in between, meets every item that was there all the time: only items from
 * the part already walked, or new ones, ever move.
 */
#ifndef SHARED_POINTER_BAG_H
#define SHARED_POINTER_BAG_H

#include "shared/status.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

enum { POINTER_BAG_PAGE = 512 };

/* Zeroed is empty. */
struct pointer_bag {
    void ***pages; /* owned, each of POINTER_BAG_PAGE items */
    uint32_t count;
    uint32_t page_count;
    uint32_t page_capacity;
};

/* Adds an item at the end; the caller keeps *ret_position with it. */
enum status pointer_bag_add(struct pointer_bag *bag, void *item, uint32_t *ret_position) CHECK_RESULT;

/* Removes what stands at `position`; returns the item that stands there now (tell it), NULL: none. */
void *pointer_bag_remove(struct pointer_bag *bag, uint32_t position);

static inline void *pointer_bag_at(const struct pointer_bag *bag, uint32_t position)
{
    assert(position < bag->count);
    return bag->pages[position / POINTER_BAG_PAGE][position % POINTER_BAG_PAGE];
}

/* Frees the bag, not the items; it is empty afterwards. */
void pointer_bag_done(struct pointer_bag *bag);

size_t pointer_bag_memory(const struct pointer_bag *bag);

#endif
