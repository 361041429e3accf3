/* $SYS topics: read the counter pages, tell local sessions, keep the last values for those who come later. */
#include "node/worker_sys.h"
#include "node/worker_context.h"

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/sys_topics.h"

#include <stdlib.h>

#define PREFIX "$SYS"

struct worker_sys {
    struct sys_topics *topics;
    struct retained *retained; /* last values */
    uint64_t due_us;           /* monotonic */
};

struct retained *worker_retained_of(const struct worker *worker, struct bytes filter)
{
    bool sys = worker->sys != NULL && filter.size >= sizeof PREFIX - 1 &&
               memcmp(filter.data, PREFIX, sizeof PREFIX - 1) == 0;
    return sys ? worker->sys->retained : worker->retained;
}

enum status worker_sys_open(struct worker *worker)
{
    if (worker->config->mqtt.sys_interval_s == 0)
        return STATUS_OK;
    struct worker_sys *sys = calloc(1, sizeof *sys);
    if (sys == NULL)
        return STATUS_NO_MEMORY;
    worker->sys = sys;
    sys->topics = sys_topics_new(worker->config->node.name);
    sys->retained = retained_new(&worker->hash);
    return sys->topics == NULL || sys->retained == NULL ? STATUS_NO_MEMORY : STATUS_OK;
}

void worker_sys_done(struct worker *worker)
{
    if (worker->sys == NULL)
        return;
    sys_topics_free(&worker->sys->topics);
    retained_free(&worker->sys->retained);
    free(worker->sys);
    worker->sys = NULL;
}

static void on_told(void *context, const char *topic, const char *payload)
{
    struct worker *worker = context;
    struct publication_view view = {.meta = {.origin = bus_origin(worker->bus),
                                        .sequence = bus_next_sequence(worker->bus),
                                        .stamp = bus_stamp(worker->bus),
                                        .retain = true},
        .topic = bytes_of_text(topic),
        .payload = bytes_of_text(payload)};
    struct publication *object = publication_new(&view);
    if (object == NULL || retained_put(worker->sys->retained, object) != STATUS_OK)
        log_error("out of memory: %s is not kept for new subscriptions", topic);
    publication_unref(&object);
    publication_deliver_here(worker, &view);
}

void worker_sys_tick(struct worker *worker)
{
    struct worker_sys *sys = worker->sys;
    if (sys == NULL || worker->now_us < sys->due_us)
        return;
    uint64_t interval_us = (uint64_t)worker->config->mqtt.sys_interval_s * 1000000;
    sys->due_us = (worker->now_us / interval_us + 1) * interval_us;
    struct counters sum;
    counters_sum(worker->child->counters_base, worker->child->counters_pages, &sum);
    uint64_t now_ms = clock_monotonic_us() / 1000;
    struct sys_figures figures = {.sum = &sum,
        .retained = retained_count(worker->retained),
        .uptime_ms = now_ms > sum.node_started_ms ? now_ms - sum.node_started_ms : 0};
    sys_topics_update(sys->topics, &figures, on_told, worker);
}
