/*
 * Delayed publications of this worker's clients, `$delayed/SECONDS/TOPIC`: into the slot's table, and out of
 * it when their time has come (cluster/delayed.h). Worker process.
 */
#include "node/worker_context.h"

#include "shared/clock.h"
#include "shared/delayed_topic.h"
#include "shared/log.h"

enum mqtt_reason delayed_take_topic(const struct worker *worker, struct bytes *topic, uint32_t *ret_delay_s)
{
    if (!worker->config->delayed.enable || !delayed_topic_is(*topic))
        return MQTT_NOT_AUTHORIZED; /* all that begin with '$' belong to the broker */
    return delayed_topic_parse(*topic, ret_delay_s, topic) ? MQTT_SUCCESS : MQTT_TOPIC_NAME_INVALID;
}

/* Of all workers. */
static bool node_is_full(const struct worker *worker)
{
    uint32_t most = worker->config->delayed.max_messages;
    uint64_t sum = 0;
    for (unsigned page = 0; most != 0 && page < worker->child->counters_pages; page++)
        sum += counters_page(worker->child->counters_base, page)->delayed;
    return most != 0 && sum >= most;
}

enum status delayed_accept(struct worker *worker, const struct publication_view *view, uint32_t delay_s)
{
    enum status status = node_is_full(worker) ? STATUS_LIMIT : delayed_put(worker->delayed, view, delay_s);
    if (status != STATUS_OK)
        worker->counters->delayed_refused++;
    worker->counters->delayed = delayed_count(worker->delayed);
    return status;
}

/* Its time has come. Like a will it may be published twice by two processes; not by one that has seen it. */
static enum status publish(void *context, struct publication_view *view)
{
    struct worker *worker = context;
    if (view->meta.expires_ms != 0 && view->meta.expires_ms <= clock_real_us() / 1000) {
        worker->counters->dropped_expired++;
        return STATUS_OK;
    }
    if (wills_known(worker->wills, &view->meta))
        return STATUS_OK;
    bool matched;
    if (publication_route(worker, view, NULL, 0, &matched) == ACCEPTANCE_STALLED)
        return STATUS_AGAIN;
    (void)wills_seen(worker->wills, &view->meta);
    worker->delayed_sequence = view->meta.sequence;
    worker->counters->delayed_published++;
    worker->counters->publish_unmatched += !matched;
    return STATUS_OK;
}

static bool settled(void *context)
{
    const struct worker *worker = context;
    return worker_settled(worker, worker->delayed_sequence);
}

enum status delayed_open(struct worker *worker)
{
    enum status status =
        block_table_open(worker->child->own.delayed_table, DELAYED_TABLE_MAGIC, &worker->delayed_table);
    if (status != STATUS_OK)
        return status;
    struct delayed_settings settings = {.bus = worker->bus,
        .table = worker->delayed_table,
        .context = worker,
        .publish = publish,
        .settled = settled};
    status = delayed_new(&settings, &worker->delayed);
    if (status == STATUS_OK)
        worker->counters->delayed = delayed_count(worker->delayed);
    return status;
}

void delayed_begin(struct worker *worker)
{
    if (delayed_count(worker->delayed) > 0)
        log_notice("%u delayed publications of the worker before wait for their time",
            (unsigned)delayed_count(worker->delayed));
    delayed_start(worker->delayed);
}

void delayed_adopt_slot(struct worker *worker, const struct child_slot *adopted)
{
    struct block_table *table;
    enum status status = block_table_open(adopted->delayed_table, DELAYED_TABLE_MAGIC, &table);
    if (status == STATUS_OK)
        delayed_adopt(worker->delayed, table, adopted->slot);
    else
        log_error(
            "the delayed publications of worker %u cannot be read: %s", adopted->slot, status_text(status));
}

void delayed_done(struct worker *worker)
{
    delayed_free(&worker->delayed);
    block_table_close(&worker->delayed_table);
}

void delayed_tell_loss(const struct worker *worker)
{
    if (delayed_count(worker->delayed) > 0)
        log_warning("%u delayed publications are lost: nothing keeps them across the node's end",
            (unsigned)delayed_count(worker->delayed));
}
