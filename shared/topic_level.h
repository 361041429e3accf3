/* Takes topic names and filters apart, level by level [MQTT-4.7.1]. Pure. */
#ifndef SHARED_TOPIC_LEVEL_H
#define SHARED_TOPIC_LEVEL_H

#include "shared/bytes.h"

/*
 * Takes the first level off *rest, which must have one; rest->data is NULL after the last. "a/" has the
 * levels "a" and "".
 */
static inline struct bytes topic_level_take(struct bytes *rest)
{
    const uint8_t *slash = memchr(rest->data, '/', rest->size);
    if (slash == NULL) {
        struct bytes level = *rest;
        *rest = BYTES_NONE;
        return level;
    }
    struct bytes level = bytes_of(rest->data, (size_t)(slash - rest->data));
    *rest = bytes_of(slash + 1, rest->size - level.size - 1);
    return level;
}

static inline bool topic_level_is(struct bytes level, char wildcard)
{
    return level.size == 1 && level.data[0] == (uint8_t)wildcard;
}

/* True if a valid filter has a level '+' or '#'. */
static inline bool topic_has_wildcard(struct bytes filter)
{
    return memchr(filter.data, '+', filter.size) != NULL || memchr(filter.data, '#', filter.size) != NULL;
}

#endif
