/*
 * A listener's mountpoint, expanded for one client: the prefix that its topics have on the node and that the
 * client never sees. Publications, wills and subscriptions get it, deliveries lose it. Access rights and
 * limits are about the topics that the client names. Worker process.
 */
#ifndef NODE_SESSION_MOUNT_H
#define NODE_SESSION_MOUNT_H

#include "shared/bytes.h"
#include "shared/status.h"
#include "shared/topic_template.h"

#define MOUNTED_TOPIC_MAX 65535u

struct session_mount {
    uint16_t size;
    uint8_t text[]; /* whole levels: "a/b/" */
};

/* STATUS_INVALID: *ret_fault says which value cannot be part of it. */
enum status session_mount_new(const char *mountpoint, const struct topic_values *values,
    struct session_mount **ret_mount, enum topic_template_fault *ret_fault) CHECK_RESULT;
/* NULL is no prefix. */
bool session_mount_is(const struct session_mount *mount, struct bytes prefix);
struct bytes session_mount_bytes(const struct session_mount *mount);

/* The topic with the prefix, in `to`; of `$share/GROUP/FILTER` the filter gets it. BYTES_NONE: too long. */
struct bytes session_mount_topic(
    const struct session_mount *mount, struct bytes topic, uint8_t to[MOUNTED_TOPIC_MAX]);
struct bytes session_mount_filter(
    const struct session_mount *mount, struct bytes filter, uint8_t to[MOUNTED_TOPIC_MAX]);
/* The topic, or filter without `$share`, without the prefix. BYTES_NONE: it does not have it. */
struct bytes session_mount_strip(const struct session_mount *mount, struct bytes topic);

#endif
