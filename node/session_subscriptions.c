/*
 * The subscriptions of a session and what they mean to the index and to the other workers. Worker process.
 */
#include "node/session.h"
#include "node/worker_context.h"

#include "shared/log.h"
#include "shared/topic_name.h"

#include <assert.h>
#include <stdlib.h>

/* So many are found by going through them; more get a table. */
#define FEW_SUBSCRIPTIONS 16u

/* What a session's subscriptions cost the index: their text and a node per level, which is not bounded by
 * their number alone. One has room for any filter, and each that is allowed adds what ordinary ones take. */
#define LEVEL_COST          128u
#define SUBSCRIPTION_COST   1024u
#define SUBSCRIPTION_COST_1 ((size_t)128 * 1024)

struct subscription_key {
    const struct topic_filter *filter;
    const struct topic_group *group;
};

static bool is_subscription(const void *value, const void *key)
{
    const struct session_subscription *it = value;
    const struct subscription_key *wanted = key;
    return it->subscription.filter == wanted->filter && it->subscription.group == wanted->group;
}

/* Of an address: nobody outside chooses that. */
static uint64_t key_hash(const struct topic_filter *filter)
{
    uint64_t mixed = (uint64_t)(uintptr_t)filter * UINT64_C(0x9e3779b97f4a7c15);
    return mixed ^ mixed >> 32;
}

struct session_subscription *session_subscription_find(
    struct session *session, struct topic_filter *filter, struct topic_group *group)
{
    struct subscription_key key = {filter, group};
    if (session->subscription_table != NULL)
        return hash_table_find(session->subscription_table, key_hash(filter), is_subscription, &key);
    list_for_each(&session->subscriptions, element, following)
    {
        struct session_subscription *it = list_entry(element, struct session_subscription, siblings);
        if (is_subscription(it, &key))
            return it;
    }
    return NULL;
}

/* A table of all that there are. NULL: no memory; the list does. */
static struct hash_table *table_new(const struct session *session)
{
    struct hash_table *table = calloc(1, sizeof *table);
    if (table == NULL)
        return NULL;
    list_for_each((struct list *)&session->subscriptions, element, following)
    {
        struct session_subscription *it = list_entry(element, struct session_subscription, siblings);
        if (hash_table_insert(table, key_hash(it->subscription.filter), it) == STATUS_OK)
            continue;
        hash_table_done(table);
        free(table);
        return NULL;
    }
    return table;
}

static void table_free(struct session *session)
{
    if (session->subscription_table == NULL)
        return;
    hash_table_done(session->subscription_table);
    free(session->subscription_table);
    session->subscription_table = NULL;
}

/* Into list and table. */
static void enlist(struct session *session, struct session_subscription *it, size_t cost)
{
    list_append(&session->subscriptions, &it->siblings);
    session->subscription_count++;
    session->subscription_cost += cost;
    if (session->subscription_table == NULL && session->subscription_count > FEW_SUBSCRIPTIONS)
        session->subscription_table = table_new(session);
    else if (session->subscription_table != NULL && hash_table_insert(session->subscription_table,
                                                        key_hash(it->subscription.filter), it) != STATUS_OK)
        table_free(session);
}

static size_t filter_cost(size_t size, unsigned levels)
{
    return size + levels * (size_t)LEVEL_COST;
}

static bool has_room(const struct session *session, size_t cost)
{
    uint32_t limit = session->worker->config->mqtt.max_subscriptions;
    return limit == 0 ||
           (session->subscription_count < limit &&
               session->subscription_cost + cost <= SUBSCRIPTION_COST_1 + (size_t)limit * SUBSCRIPTION_COST);
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
    it->subscription.check_read =
        session->rights != NULL && acl_readable(session->rights, filter->filter) != ACL_ALL;
}

void session_rights_changed(struct session *session)
{
    list_for_each(&session->subscriptions, element, following)
    {
        list_entry(element, struct session_subscription, siblings)->subscription.check_read =
            session->rights != NULL;
    }
}

enum status session_subscribe(struct session *session, const struct mqtt_subscribe_filter *filter,
    uint32_t identifier, struct session_subscription **ret_subscription, bool *ret_existed)
{
    struct worker *worker = session->worker;
    size_t cost = filter_cost(filter->filter.size, topic_levels(filter->filter));
    bool room = has_room(session, cost);
    struct topic_filter *entry = NULL;
    enum status status = STATUS_OK;
    if (room)
        status = topic_index_acquire(worker->index, filter->filter, &entry);
    else if ((entry = topic_index_find(worker->index, filter->filter)) == NULL)
        status = STATUS_LIMIT;
    if (status != STATUS_OK)
        return status;
    struct session_subscription *it = session_subscription_find(session, entry, NULL);
    *ret_existed = it != NULL;
    if (it == NULL && !room)
        return STATUS_LIMIT;
    if (it == NULL) {
        if ((it = calloc(1, sizeof *it)) == NULL)
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
        enlist(session, it, cost);
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
    subscribe_forget(it);
    retained_delivery_cancel(session, it);
    if (session->subscription_table != NULL)
        hash_table_remove(session->subscription_table, key_hash(filter), it);
    char text[65536];
    size_t size = topic_filter_text(filter, text, sizeof text);
    session->subscription_cost -= filter_cost(size, topic_levels(bytes_of(text, size)));
    /* The announcement keeps the entry alive while the index lets go of the subscription. */
    topic_index_remove(worker->index, &it->subscription);
    enum status status = announce(session, filter, -1);
    assert(status == STATUS_OK);
    (void)status;
    list_remove(&it->siblings);
    session->subscription_count--;
    worker->counters->subscriptions--;
    if (session->subscription_count == 0)
        table_free(session);
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
