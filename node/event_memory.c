/*
 * Blocks of up to SMALL_MAX bytes from one reserved range of addresses, by size classes with free lists;
 * larger ones from malloc. Which is which is told by the address. One thread.
 */
#include "node/event_memory.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CLASS_SIZE 16u
#define SMALL_MAX  64u /* struct evmap_io and the like */
#define CLASSES    (SMALL_MAX / CLASS_SIZE)
/* Addresses, not memory: pages count when they are touched. Enough for a million descriptors. */
#define RANGE_SIZE ((size_t)64 << 20)

static struct {
    uint8_t *range;
    size_t used;
    void *free[CLASSES]; /* first word: the next one */
} memory;

static bool is_small(const void *block)
{
    return (const uint8_t *)block >= memory.range && (const uint8_t *)block < memory.range + RANGE_SIZE;
}

static void *small_alloc(unsigned class)
{
    void *block = memory.free[class];
    if (block != NULL) {
        memcpy(&memory.free[class], block, sizeof(void *));
        return block;
    }
    /* The class stands in front of the block, where free finds it. */
    size_t size = CLASS_SIZE + (class + 1) * (size_t)CLASS_SIZE;
    if (memory.used + size > RANGE_SIZE)
        return NULL;
    uint8_t *fresh = memory.range + memory.used;
    memory.used += size;
    fresh[0] = (uint8_t) class;
    return fresh + CLASS_SIZE;
}

static unsigned class_of(const void *block)
{
    return *((const uint8_t *)block - CLASS_SIZE);
}

static void *event_alloc(size_t size)
{
    void *block = size == 0 || size > SMALL_MAX ? NULL : small_alloc((unsigned)((size - 1) / CLASS_SIZE));
    return block != NULL ? block : malloc(size);
}

static void event_dealloc(void *block)
{
    if (block == NULL)
        return;
    if (!is_small(block)) {
        free(block);
        return;
    }
    unsigned class = class_of(block);
    memcpy(block, &memory.free[class], sizeof(void *));
    memory.free[class] = block;
}

static void *event_resize(void *block, size_t size)
{
    if (block == NULL || !is_small(block))
        return realloc(block, size);
    size_t old = (class_of(block) + 1) * (size_t)CLASS_SIZE;
    if (size <= old)
        return block;
    void *grown = event_alloc(size);
    if (grown == NULL)
        return NULL;
    memcpy(grown, block, old);
    event_dealloc(block);
    return grown;
}

void event_memory_use(void)
{
    memory.range =
        mmap(NULL, RANGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory.range == MAP_FAILED) {
        memory.range = NULL;
        return;
    }
    event_set_mem_functions(event_alloc, event_resize, event_dealloc);
}
