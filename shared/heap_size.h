/* What an allocation really takes, for modules that count their memory (glibc: 8 bytes and rounding up).
 * Pure. */
#ifndef SHARED_HEAP_SIZE_H
#define SHARED_HEAP_SIZE_H

#include <stddef.h>

static inline size_t heap_size(size_t requested)
{
    size_t size = (requested + 8 + 15) & ~(size_t)15;
    return size < 32 ? 32 : size;
}

#endif
