/* Hostile topics and names against rewrite rules: what comes out is a topic, whatever went in. */
#include "shared/topic_name.h"
#include "shared/topic_rewrite.h"

#include <assert.h>
#include <stddef.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct topic_rewrite *rewrite_of(void)
{
    static const struct topic_rewrite_rule rules[] = {
        {3, "#", "^(.*)/([^/]*)$", "$2/$1"},
        {3, "+/+/#", "^(.+)/(.+)/(.+)?$", "%c/$3/$1/%u"},
        {3, "a/#", "^a/(a+)+b?$", "b/$1"},
        {3, "b/+", "^b/(?:(x)|(y))(.*)", "$1$2$3"},
    };
    static struct topic_rewrite *rewrite;
    if (rewrite == NULL)
        assert(topic_rewrite_new(rules, sizeof rules / sizeof *rules, &rewrite) == STATUS_OK);
    return rewrite;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t split = size == 0 ? 0 : data[0] % size;
    struct bytes name = bytes_of(data, split), text = bytes_of(data + split, size - split), topic = text;
    struct topic_values values = {.client_id = name, .user = name};
    if (topic_name_valid(text) &&
        topic_rewrite_name(rewrite_of(), &values, &topic) == TOPIC_REWRITE_CHANGED) {
        assert(topic_name_valid(topic));
        assert(topic.data[0] != '$' || text.data[0] == '$');
    }
    topic = text;
    if (topic_filter_valid(text) &&
        topic_rewrite_filter(rewrite_of(), &values, &topic) == TOPIC_REWRITE_CHANGED)
        assert(topic_filter_valid(topic));
    return 0;
}
