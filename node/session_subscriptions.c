/*
 * The subscriptions of a session and what they mean to the index and to the other workers. Worker process.
 */
#include "node/session.h"
#include "node/worker_context.h"

#include "shared/log.h"

#include <assert.h>
#include <stdlib.h>

struct session_subscription *session_subscription_find(
    struct session *session, struct topic_filter *filter, struct topic_group *group)
{
    /* Look where fewer are: at the filter's subscriptions or at the session's. */
    if (group == NULL && filter->count < session->subscription_count) {
        for (uint32_t i = 0; i < filter->count; i++) {
            if (filter->subscriptions[i]->subscriber == session)
                return list_entry(filter->subscriptions[i], struct session_subscription, subscription);
        }
        return NULL;
    }
    list_for_each(&session->subscriptions, element, following)
    {
        struct session_subscription *it = list_entry(element, struct session_subscription, siblings);
        if (it->subscription.filter == filter && it->subscription.group == group)
            return it;
    }
    return NULL;
}

/* Tells the routes after the index has changed; `change` is +1 or -1 subscriptions. */
static enum status announce(struct session *session, struct topic_filter *filter, int change)
{
    return routes_want(session->worker->routes, filter, NULL, session_durable(session) ? change : 0);
}

static void set_options(struct session *session, struct session_subscription *it,
    const struct mqtt_subscribe_filter *filter, uint32_t identifier)
{
    it->subscription.identifier = identifier;
    uint8_t maximum = (uint8_t)session->worker->config->mqtt.max_qos;
    it->subscription.qos = filter->qos < maximum ? filter->qos : maximum;
    it->subscription.no_local = filter->no_local;
    it->subscription.retain_as_published = filter->retain_as_published;
    it->subscription.retain_handling = filter->retain_handling;
}

enum status session_subscribe(struct session *session, const struct mqtt_subscribe_filter *filter,
    uint32_t identifier, struct session_subscription **ret_subscription, bool *ret_existed)
{
    struct worker *worker = session->worker;
    struct topic_filter *entry;
    enum status status = topic_index_acquire(worker->index, filter->filter, &entry);
    if (status != STATUS_OK)
        return status;
    struct session_subscription *it = session_subscription_find(session, entry, NULL);
    *ret_existed = it != NULL;
    if (it == NULL) {
        uint32_t limit = worker->config->mqtt.max_subscriptions;
        if (limit > 0 && session->subscription_count >= limit)
            status = STATUS_LIMIT;
        else if ((it = calloc(1, sizeof *it)) == NULL)
            status = STATUS_NO_MEMORY;
        else
            status = topic_index_insert(worker->index, entry, NULL, &it->subscription);
        if (status != STATUS_OK) {
            free(it);
            topic_index_release(worker->index, entry);
            return status;
        }
        it->subscription.subscriber = session;
        status = announce(session, entry, 1);
        if (status != STATUS_OK) {
            topic_index_remove(worker->index, &it->subscription);
            free(it);
            return status;
        }
        list_append(&session->subscriptions, &it->siblings);
        session->subscription_count++;
        worker->counters->subscriptions++;
    }
    set_options(session, it, filter, identifier);
    it->retained_applied = retained_applied(worker->retained);
    *ret_subscription = it;
    return STATUS_OK;
}

static void drop(struct session *session, struct session_subscription *it)
{
    struct worker *worker = session->worker;
    struct topic_filter *filter = it->subscription.filter;
    retained_delivery_cancel(worker, session, it);
    /* The announcement keeps the entry alive while the index lets go of the subscription. */
    topic_index_remove(worker->index, &it->subscription);
    enum status status = announce(session, filter, -1);
    assert(status == STATUS_OK);
    (void)status;
    list_remove(&it->siblings);
    session->subscription_count--;
    worker->counters->subscriptions--;
    free(it);
}

bool session_unsubscribe(struct session *session, struct bytes filter)
{
    struct topic_filter *entry = topic_index_find(session->worker->index, filter);
    struct session_subscription *it = entry == NULL ? NULL : session_subscription_find(session, entry, NULL);
    if (it == NULL)
        return false;
    drop(session, it);
    return true;
}

void session_unsubscribe_all(struct session *session)
{
    list_for_each(&session->subscriptions, element, following)
    {
        drop(session, list_entry(element, struct session_subscription, siblings));
    }
}

void session_durability_changed(struct session *session)
{
    int durable = session_durable(session) ? 1 : -1;
    list_for_each(&session->subscriptions, element, following)
    {
        struct topic_filter *filter =
            list_entry(element, struct session_subscription, siblings)->subscription.filter;
        enum status status = routes_want(session->worker->routes, filter, NULL, durable);
        if (status != STATUS_OK)
            log_error("client %.*s: a route could not be announced as durable: %s",
                (int)session->client_id_size, session->client_id, status_text(status));
    }
}
