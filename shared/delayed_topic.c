/* Topics of delayed publications. Worker process. Pure. */
#include "shared/delayed_topic.h"

#define PREFIX "$delayed/"

bool delayed_topic_is(struct bytes topic)
{
    return topic.size >= sizeof PREFIX - 1 && memcmp(topic.data, PREFIX, sizeof PREFIX - 1) == 0;
}

bool delayed_topic_parse(struct bytes topic, uint32_t *ret_seconds, struct bytes *ret_topic)
{
    size_t at = sizeof PREFIX - 1;
    uint64_t seconds = 0;
    if (!delayed_topic_is(topic))
        return false;
    for (; at < topic.size && topic.data[at] >= '0' && topic.data[at] <= '9'; at++) {
        seconds = seconds * 10 + (topic.data[at] - '0');
        if (seconds > DELAYED_SECONDS_MAX)
            return false;
    }
    bool digits = at > sizeof PREFIX - 1;
    if (!digits || topic.size < at + 2 || topic.data[at] != '/' || topic.data[at + 1] == '$')
        return false;
    *ret_seconds = (uint32_t)seconds;
    *ret_topic = bytes_of(topic.data + at + 1, topic.size - at - 1);
    return true;
}
