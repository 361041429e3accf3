/* The heap shape of a publication: one block, reference counted, immutable. Worker process. */
#include "shared/publication.h"

#include <assert.h>
#include <stdlib.h>

static uint8_t *put_bytes(uint8_t *to, struct bytes from)
{
    if (from.size > 0)
        memcpy(to, from.data, from.size);
    return to + from.size;
}

struct publication *publication_new(const struct publication_view *view)
{
    size_t size = view->topic.size + view->properties.size + view->payload.size;
    struct publication *publication = malloc(sizeof *publication + size);
    if (publication == NULL)
        return NULL;
    publication->meta = view->meta;
    publication->references = 1;
    publication->topic_size = (uint32_t)view->topic.size;
    publication->properties_size = (uint32_t)view->properties.size;
    publication->payload_size = (uint32_t)view->payload.size;
    uint8_t *to = put_bytes(publication->data, view->topic);
    to = put_bytes(to, view->properties);
    put_bytes(to, view->payload);
    return publication;
}

void publication_unref(struct publication **publication)
{
    struct publication *it = *publication;
    *publication = NULL;
    if (it == NULL)
        return;
    assert(it->references > 0);
    if (--it->references == 0)
        free(it);
}
