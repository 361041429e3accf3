/*
 * Whether a publication with RETAIN is kept. The worker whose client publishes decides, by its own copy of
 * all retained messages, and the others follow: with a stamp it is kept by all, without one by nobody. So the
 * limits may be passed by what several workers accept at the same moment, never by more. Worker process.
 */
#include "node/worker_context.h"

static struct retained_limits limits_of(const struct worker *worker)
{
    const struct config_retained *config = &worker->config->retained;
    return (struct retained_limits){.messages = config->max_messages,
        .bytes = config->max_bytes,
        .payload_size = config->max_payload_size};
}

/* Deletions are remembered, too: of topics that nobody has heard of no more than there may be messages. */
static bool deletes_nothing(const struct worker *worker, struct bytes topic)
{
    uint32_t most = worker->config->retained.max_messages;
    return most != 0 && retained_tombstones(worker->retained) >= most &&
           !retained_knows(worker->retained, topic);
}

enum retained_verdict retained_decide(const struct worker *worker, const struct publication_view *view)
{
    if (view->payload.size == 0)
        return deletes_nothing(worker, view->topic) ? RETAINED_NOTHING : RETAINED_KEEP;
    struct retained_limits limits = limits_of(worker);
    return retained_has_room(worker->retained, &limits, view) ? RETAINED_KEEP : RETAINED_FULL;
}

void retained_count_anew(struct worker *worker)
{
    worker->counters->retained = retained_count(worker->retained);
    worker->counters->retained_bytes = retained_bytes(worker->retained);
}
