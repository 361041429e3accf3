/* Pages of pointers and a directory of the pages. One empty page is kept, against thrashing at an edge. Pure.
 */
#include "shared/pointer_bag.h"

#include <stdlib.h>

static enum status add_page(struct pointer_bag *bag);

enum status pointer_bag_add(struct pointer_bag *bag, void *item, uint32_t *ret_position)
{
    if (bag->count == UINT32_MAX)
        return STATUS_LIMIT;
    if (bag->count == (uint64_t)bag->page_count * POINTER_BAG_PAGE) {
        enum status status = add_page(bag);
        if (status != STATUS_OK)
            return status;
    }
    uint32_t position = bag->count++;
    bag->pages[position / POINTER_BAG_PAGE][position % POINTER_BAG_PAGE] = item;
    *ret_position = position;
    return STATUS_OK;
}

void *pointer_bag_remove(struct pointer_bag *bag, uint32_t position)
{
    void *last = pointer_bag_at(bag, bag->count - 1);
    bag->pages[position / POINTER_BAG_PAGE][position % POINTER_BAG_PAGE] = last;
    bag->count--;
    uint32_t needed = bag->count / POINTER_BAG_PAGE + 2;
    while (bag->page_count > needed)
        free(bag->pages[--bag->page_count]);
    return position < bag->count ? last : NULL;
}

void pointer_bag_done(struct pointer_bag *bag)
{
    while (bag->page_count > 0)
        free(bag->pages[--bag->page_count]);
    free(bag->pages);
    *bag = (struct pointer_bag){0};
}

size_t pointer_bag_memory(const struct pointer_bag *bag)
{
    return (size_t)bag->page_count * POINTER_BAG_PAGE * sizeof(void *) + bag->page_capacity * sizeof(void **);
}

static enum status add_page(struct pointer_bag *bag)
{
    if (bag->page_count == bag->page_capacity) {
        uint32_t capacity = bag->page_capacity == 0 ? 4 : bag->page_capacity * 2;
        void ***pages = realloc(bag->pages, capacity * sizeof *pages);
        if (pages == NULL)
            return STATUS_NO_MEMORY;
        bag->pages = pages;
        bag->page_capacity = capacity;
    }
    void **page = malloc(POINTER_BAG_PAGE * sizeof *page);
    if (page == NULL)
        return STATUS_NO_MEMORY;
    bag->pages[bag->page_count++] = page;
    return STATUS_OK;
}
