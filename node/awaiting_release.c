/* The set of QoS 2 packet identifiers between PUBLISH and PUBREL: a short unordered array. Worker process. */
#include "node/session.h"

#include <stdlib.h>

static uint32_t find(const struct awaiting_release *awaiting, uint16_t packet_id)
{
    uint32_t i = 0;
    while (i < awaiting->count && awaiting->packet_ids[i] != packet_id)
        i++;
    return i;
}

bool awaiting_has(const struct awaiting_release *awaiting, uint16_t packet_id)
{
    return find(awaiting, packet_id) < awaiting->count;
}

enum status awaiting_add(struct awaiting_release *awaiting, uint16_t packet_id)
{
    if (awaiting->count == awaiting->capacity) {
        uint32_t capacity = awaiting->capacity == 0 ? 16 : awaiting->capacity * 2;
        uint16_t *grown = realloc(awaiting->packet_ids, capacity * sizeof *grown);
        if (grown == NULL)
            return STATUS_NO_MEMORY;
        awaiting->packet_ids = grown;
        awaiting->capacity = capacity;
    }
    awaiting->packet_ids[awaiting->count++] = packet_id;
    return STATUS_OK;
}

bool awaiting_remove(struct awaiting_release *awaiting, uint16_t packet_id)
{
    uint32_t i = find(awaiting, packet_id);
    if (i == awaiting->count)
        return false;
    /* Releases come in the order of the publications: keep that order, so that the first look finds it. */
    awaiting->count--;
    memmove(awaiting->packet_ids + i, awaiting->packet_ids + i + 1, (awaiting->count - i) * sizeof(uint16_t));
    return true;
}

void awaiting_clear(struct awaiting_release *awaiting)
{
    free(awaiting->packet_ids);
    memset(awaiting, 0, sizeof *awaiting);
}
