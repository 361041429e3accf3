/* Prefixes of topics. Worker process; pure. */
#include "node/session_mount.h"

#include "shared/topic_name.h"

#include <stdlib.h>

enum status session_mount_new(const char *mountpoint, const struct topic_values *values,
    struct session_mount **ret_mount, enum topic_template_fault *ret_fault)
{
    uint8_t text[MOUNTED_TOPIC_MAX];
    size_t size;
    enum topic_template_fault fault =
        topic_template_expand(bytes_of_text(mountpoint), values, text, sizeof text, &size);
    if (fault == TOPIC_TEMPLATE_FINE && !topic_name_valid(bytes_of(text, size)))
        fault = TOPIC_TEMPLATE_USER; /* of a certificate, not UTF-8: a client identifier would be */
    if (fault != TOPIC_TEMPLATE_FINE) {
        *ret_fault = fault;
        return STATUS_INVALID;
    }
    struct session_mount *mount = malloc(sizeof *mount + size);
    if (mount == NULL)
        return STATUS_NO_MEMORY;
    mount->size = (uint16_t)size;
    memcpy(mount->text, text, size);
    *ret_mount = mount;
    return STATUS_OK;
}

struct bytes session_mount_bytes(const struct session_mount *mount)
{
    return mount == NULL ? BYTES_NONE : bytes_of(mount->text, mount->size);
}

bool session_mount_is(const struct session_mount *mount, struct bytes prefix)
{
    return bytes_equal(session_mount_bytes(mount), prefix);
}

static struct bytes join(const struct session_mount *mount, struct bytes head, struct bytes tail, uint8_t *to)
{
    if (head.size + mount->size + tail.size > MOUNTED_TOPIC_MAX)
        return BYTES_NONE;
    memcpy(to, head.data, head.size);
    memcpy(to + head.size, mount->text, mount->size);
    memcpy(to + head.size + mount->size, tail.data, tail.size);
    return bytes_of(to, head.size + mount->size + tail.size);
}

struct bytes session_mount_topic(
    const struct session_mount *mount, struct bytes topic, uint8_t to[MOUNTED_TOPIC_MAX])
{
    return join(mount, bytes_of(topic.data, 0), topic, to);
}

struct bytes session_mount_filter(
    const struct session_mount *mount, struct bytes filter, uint8_t to[MOUNTED_TOPIC_MAX])
{
    struct bytes group, rest = filter;
    (void)topic_filter_shared(filter, &group, &rest);
    return join(mount, bytes_of(filter.data, filter.size - rest.size), rest, to);
}

struct bytes session_mount_strip(const struct session_mount *mount, struct bytes topic)
{
    if (topic.size <= mount->size || memcmp(topic.data, mount->text, mount->size) != 0)
        return BYTES_NONE;
    return bytes_of(topic.data + mount->size, topic.size - mount->size);
}
