/*
 * The packet identifiers of QoS 2 publications received and not yet released by their publisher: between
 * PUBLISH and PUBREL [MQTT-4.3.3]. A few stand in a short array in the order of their coming, where the first
 * look finds the one that is released next; more make it a bitmap of all identifiers. Pure data structure.
 * Worker process.
 */
#ifndef NODE_AWAITING_RELEASE_H
#define NODE_AWAITING_RELEASE_H

#include "shared/status.h"

#include <stdbool.h>
#include <stdint.h>

struct awaiting_release {
    uint16_t *packet_ids; /* array; NULL while it is a bitmap */
    uint64_t *bitmap;     /* 65,536 bits; NULL while it is an array */
    uint32_t count;
    uint32_t capacity; /* of the array */
};

bool awaiting_has(const struct awaiting_release *awaiting, uint16_t packet_id);
/* One that is not there. STATUS_NO_MEMORY: nothing has changed. */
enum status awaiting_add(struct awaiting_release *awaiting, uint16_t packet_id) CHECK_RESULT;
/* False: it was not there. */
bool awaiting_remove(struct awaiting_release *awaiting, uint16_t packet_id);
void awaiting_clear(struct awaiting_release *awaiting);
/* All of them: `visit` is called with each, and must not change the set. */
void awaiting_for_each(
    const struct awaiting_release *awaiting, void (*visit)(void *context, uint16_t packet_id), void *context);

#endif
