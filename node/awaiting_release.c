/* The set of QoS 2 packet identifiers between PUBLISH and PUBREL. Worker process. */
#include "node/awaiting_release.h"

#include <stdlib.h>
#include <string.h>

#define ARRAY_MAX    64u /* more are a bitmap */
#define BITMAP_WORDS (65536 / 64)

static uint32_t find(const struct awaiting_release *awaiting, uint16_t packet_id)
{
    uint32_t i = 0;
    while (i < awaiting->count && awaiting->packet_ids[i] != packet_id)
        i++;
    return i;
}

static uint64_t bit_of(uint16_t packet_id)
{
    return UINT64_C(1) << (packet_id % 64);
}

bool awaiting_has(const struct awaiting_release *awaiting, uint16_t packet_id)
{
    if (awaiting->bitmap != NULL)
        return (awaiting->bitmap[packet_id / 64] & bit_of(packet_id)) != 0;
    return find(awaiting, packet_id) < awaiting->count;
}

static bool become_bitmap(struct awaiting_release *awaiting)
{
    awaiting->bitmap = calloc(BITMAP_WORDS, sizeof *awaiting->bitmap);
    if (awaiting->bitmap == NULL)
        return false;
    for (uint32_t i = 0; i < awaiting->count; i++)
        awaiting->bitmap[awaiting->packet_ids[i] / 64] |= bit_of(awaiting->packet_ids[i]);
    free(awaiting->packet_ids);
    awaiting->packet_ids = NULL;
    awaiting->capacity = 0;
    return true;
}

static bool grow(struct awaiting_release *awaiting)
{
    if (awaiting->capacity == ARRAY_MAX)
        return become_bitmap(awaiting);
    uint32_t capacity = awaiting->capacity == 0 ? 16 : awaiting->capacity * 2;
    uint16_t *grown = realloc(awaiting->packet_ids, capacity * sizeof *grown);
    if (grown == NULL)
        return false;
    awaiting->packet_ids = grown;
    awaiting->capacity = capacity;
    return true;
}

enum status awaiting_add(struct awaiting_release *awaiting, uint16_t packet_id)
{
    if (awaiting->bitmap == NULL && awaiting->count == awaiting->capacity && !grow(awaiting))
        return STATUS_NO_MEMORY;
    if (awaiting->bitmap != NULL)
        awaiting->bitmap[packet_id / 64] |= bit_of(packet_id);
    else
        awaiting->packet_ids[awaiting->count] = packet_id;
    awaiting->count++;
    return STATUS_OK;
}

bool awaiting_remove(struct awaiting_release *awaiting, uint16_t packet_id)
{
    if (!awaiting_has(awaiting, packet_id))
        return false;
    if (awaiting->bitmap != NULL) {
        awaiting->bitmap[packet_id / 64] &= ~bit_of(packet_id);
        if (--awaiting->count == 0)
            awaiting_clear(awaiting);
        return true;
    }
    uint32_t i = find(awaiting, packet_id);
    awaiting->count--;
    memmove(awaiting->packet_ids + i, awaiting->packet_ids + i + 1, (awaiting->count - i) * sizeof(uint16_t));
    return true;
}

void awaiting_clear(struct awaiting_release *awaiting)
{
    free(awaiting->packet_ids);
    free(awaiting->bitmap);
    memset(awaiting, 0, sizeof *awaiting);
}

void awaiting_for_each(
    const struct awaiting_release *awaiting, void (*visit)(void *context, uint16_t packet_id), void *context)
{
    if (awaiting->bitmap == NULL) {
        for (uint32_t i = 0; i < awaiting->count; i++)
            visit(context, awaiting->packet_ids[i]);
        return;
    }
    for (uint32_t id = 1; id < 65536; id++) {
        if (awaiting_has(awaiting, (uint16_t)id))
            visit(context, (uint16_t)id);
    }
}
