/*
 * What a node tells about itself in topics below `$SYS`: names and texts as Mosquitto has them
 * (`$SYS/broker/…`) and as EMQX has them (`$SYS/brokers/NODE/…`), out of the counter pages. Pure: figures in,
 * topics and payloads out.
 */
#ifndef SHARED_SYS_TOPICS_H
#define SHARED_SYS_TOPICS_H

#include "shared/counters.h"

struct sys_topics;

struct sys_figures {
    const struct counters *sum; /* over all pages */
    uint64_t retained;          /* messages; every worker has them all, so this is no sum */
    uint64_t uptime_ms;         /* of the node */
};

/* One topic whose value has changed. */
typedef void sys_topic_told(void *context, const char *topic, const char *payload);

/* NULL: no memory. */
struct sys_topics *sys_topics_new(const char *node_name);
void sys_topics_free(struct sys_topics **topics);

/*
 * Takes in the present figures and tells each topic that has changed, the first time all. Loads are moving
 * averages per minute over 1, 5 and 15 minutes, as Mosquitto reckons them; the first time they begin with the
 * average since the node's start, so that a worker that comes late tells about the same as the others.
 */
void sys_topics_update(
    struct sys_topics *topics, const struct sys_figures *figures, sys_topic_told *told, void *context);

#endif
