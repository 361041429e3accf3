/* Topic aliases of a connection: an array by alias inward, a short list of topics outward. Worker process. */
#include "node/topic_alias.h"

#include <stdlib.h>

struct entry {
    uint8_t *topic; /* owned; NULL: not set */
    uint16_t size;
};

struct topic_aliases_in {
    size_t bytes; /* of all topics */
    uint16_t maximum;
    struct entry entries[];
};

struct topic_aliases_out {
    uint16_t maximum;
    uint16_t count;
    struct entry entries[];
};

static bool entry_set(struct entry *entry, struct bytes topic)
{
    uint8_t *copy = malloc(topic.size);
    if (copy == NULL)
        return false;
    memcpy(copy, topic.data, topic.size);
    free(entry->topic);
    entry->topic = copy;
    entry->size = (uint16_t)topic.size;
    return true;
}

struct topic_aliases_in *topic_aliases_in_new(uint16_t maximum)
{
    struct topic_aliases_in *aliases = calloc(1, sizeof *aliases + maximum * sizeof aliases->entries[0]);
    if (aliases != NULL)
        aliases->maximum = maximum;
    return aliases;
}

void topic_aliases_in_free(struct topic_aliases_in **aliases)
{
    if (*aliases == NULL)
        return;
    for (uint16_t i = 0; i < (*aliases)->maximum; i++)
        free((*aliases)->entries[i].topic);
    free(*aliases);
    *aliases = NULL;
}

enum status topic_aliases_in_resolve(struct topic_aliases_in *aliases, uint16_t alias, struct bytes *topic)
{
    if (alias == 0 || alias > aliases->maximum)
        return STATUS_LIMIT;
    struct entry *entry = &aliases->entries[alias - 1];
    if (topic->size > 0) {
        size_t bytes = aliases->bytes - entry->size + topic->size;
        if (bytes > TOPIC_ALIASES_IN_BYTES || !entry_set(entry, *topic))
            return STATUS_NO_MEMORY;
        aliases->bytes = bytes;
        return STATUS_OK;
    }
    if (entry->topic == NULL)
        return STATUS_NOT_FOUND;
    *topic = bytes_of(entry->topic, entry->size);
    return STATUS_OK;
}

struct topic_aliases_out *topic_aliases_out_new(uint16_t maximum)
{
    if (maximum > TOPIC_ALIASES_OUT_MAX)
        maximum = TOPIC_ALIASES_OUT_MAX;
    if (maximum == 0)
        return NULL;
    struct topic_aliases_out *aliases = calloc(1, sizeof *aliases + maximum * sizeof aliases->entries[0]);
    if (aliases != NULL)
        aliases->maximum = maximum;
    return aliases;
}

void topic_aliases_out_free(struct topic_aliases_out **aliases)
{
    if (*aliases == NULL)
        return;
    for (uint16_t i = 0; i < (*aliases)->count; i++)
        free((*aliases)->entries[i].topic);
    free(*aliases);
    *aliases = NULL;
}

uint16_t topic_aliases_out_find(const struct topic_aliases_out *aliases, struct bytes topic)
{
    for (uint16_t i = 0; i < aliases->count; i++) {
        const struct entry *entry = &aliases->entries[i];
        if (entry->size == topic.size && memcmp(entry->topic, topic.data, topic.size) == 0)
            return (uint16_t)(i + 1);
    }
    return 0;
}

uint16_t topic_aliases_out_next(const struct topic_aliases_out *aliases, struct bytes topic)
{
    /* A short topic costs less than the alias: 3 bytes of property and a length */
    bool worth = topic.size > 4 && topic.size <= TOPIC_ALIASES_OUT_SIZE;
    return worth && aliases->count < aliases->maximum ? (uint16_t)(aliases->count + 1) : 0;
}

void topic_aliases_out_note(struct topic_aliases_out *aliases, struct bytes topic)
{
    if (entry_set(&aliases->entries[aliases->count], topic))
        aliases->count++;
}
