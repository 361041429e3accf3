/* Placeholders in the topics that operators write. Worker process; the checks in every process. Pure. */
#include "shared/topic_template.h"

#include "shared/topic_name.h"

#define SAMPLE_MAX 65536

/* What `letter` behind a '%' stands for; TOPIC_TEMPLATE_FINE: for nothing, the two are text. */
static enum topic_template_fault placeholder(
    uint8_t letter, const struct topic_values *values, struct bytes *ret_value)
{
    switch (letter) {
    case 'c':
        *ret_value = values->client_id;
        return TOPIC_TEMPLATE_CLIENT_ID;
    case 'u':
        *ret_value = values->user;
        return TOPIC_TEMPLATE_USER;
    case 'h':
        *ret_value = values->host;
        return TOPIC_TEMPLATE_HOST;
    default:
        return TOPIC_TEMPLATE_FINE;
    }
}

/* Part of one level, and no more. */
static bool stays_in_level(struct bytes value, bool leads)
{
    if (value.data == NULL || value.size == 0 || (leads && value.data[0] == '$'))
        return false;
    for (size_t i = 0; i < value.size; i++)
        if (value.data[i] == '/' || value.data[i] == '+' || value.data[i] == '#')
            return false;
    return true;
}

enum topic_template_fault topic_template_expand(
    struct bytes topic, const struct topic_values *values, uint8_t *to, size_t room, size_t *ret_size)
{
    size_t size = 0;
    for (size_t i = 0; i < topic.size; i++) {
        struct bytes piece = bytes_of(topic.data + i, 1);
        enum topic_template_fault kind = TOPIC_TEMPLATE_FINE;
        if (topic.data[i] == '%' && i + 1 < topic.size)
            kind = placeholder(topic.data[i + 1], values, &piece);
        if (kind != TOPIC_TEMPLATE_FINE && !stays_in_level(piece, size == 0))
            return kind;
        if (piece.size > room - size)
            return TOPIC_TEMPLATE_LENGTH;
        memcpy(to + size, piece.data, piece.size);
        size += piece.size;
        i += kind != TOPIC_TEMPLATE_FINE;
    }
    *ret_size = size;
    return TOPIC_TEMPLATE_FINE;
}

static struct bytes sample(struct bytes topic, uint8_t to[SAMPLE_MAX])
{
    struct bytes x = bytes_of_text("x");
    struct topic_values values = {x, x, x};
    size_t size;
    if (topic_template_expand(topic, &values, to, SAMPLE_MAX, &size) != TOPIC_TEMPLATE_FINE)
        return BYTES_NONE;
    return bytes_of(to, size);
}

bool topic_template_is_filter(struct bytes topic)
{
    uint8_t text[SAMPLE_MAX];
    return topic_filter_valid(sample(topic, text));
}

bool topic_template_is_prefix(struct bytes topic)
{
    uint8_t text[SAMPLE_MAX];
    struct bytes prefix = sample(topic, text);
    return topic_name_valid(prefix) && prefix.data[0] != '$' && prefix.data[prefix.size - 1] == '/';
}
