/* Rewrite rules applied, counted and told. Worker process. */
#include "node/session_rewrite.h"

#include "node/session.h"
#include "node/worker_context.h"

#include "shared/log.h"
#include "shared/topic_name.h"

#include <stdlib.h>

enum status session_rewrite_open(const struct config *config, struct topic_rewrite **ret_rewrite)
{
    const struct config_rewrite_rule *items = config->rewrite.rules.items;
    size_t count = config->rewrite.rules.count;
    *ret_rewrite = NULL;
    if (count == 0)
        return STATUS_OK;
    struct topic_rewrite_rule *rules = calloc(count, sizeof *rules);
    if (rules == NULL)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < count; i++)
        rules[i] = (struct topic_rewrite_rule){.actions = items[i].actions,
            .source = items[i].source_topic,
            .re = items[i].re,
            .dest = items[i].dest_topic};
    enum status status = topic_rewrite_new(rules, count, ret_rewrite);
    free(rules);
    return status;
}

/* What comes out obeys the limits, too. */
static bool settle(
    struct worker *worker, enum topic_rewrite_result result, struct bytes client_id, struct bytes topic)
{
    const struct config_mqtt *limits = &worker->config->mqtt;
    bool fine = result != TOPIC_REWRITE_FAILED && topic.size <= limits->max_topic_length &&
                topic_levels(topic) <= limits->max_topic_levels;
    worker->counters->topics_rewritten += fine && result == TOPIC_REWRITE_CHANGED;
    if (fine)
        return true;
    worker->counters->rewrites_failed++;
    log_debug("client %.*s: rewrite.rules make no valid topic of %.*s", (int)client_id.size,
        (const char *)client_id.data, (int)topic.size, (const char *)topic.data);
    return false;
}

bool session_rewrite_name(
    struct worker *worker, struct bytes client_id, struct bytes user, struct bytes *topic)
{
    struct topic_values values = {.client_id = client_id, .user = user};
    enum topic_rewrite_result result = topic_rewrite_name(worker->rewrite, &values, topic);
    return result == TOPIC_REWRITE_SAME || settle(worker, result, client_id, *topic);
}

bool session_rewrite_filter(struct session *session, struct bytes *filter)
{
    struct worker *worker = session->worker;
    struct topic_values values = {
        .client_id = session_client_id(session), .user = bytes_of(session->user, session->user_size)};
    struct bytes group, inner = *filter;
    (void)topic_filter_shared(*filter, &group, &inner);
    if (inner.size > worker->config->mqtt.max_topic_length)
        return true; /* refused for that */
    enum topic_rewrite_result result = topic_rewrite_filter(worker->rewrite, &values, filter);
    inner = *filter;
    (void)topic_filter_shared(*filter, &group, &inner);
    return result == TOPIC_REWRITE_SAME || settle(worker, result, values.client_id, inner);
}
