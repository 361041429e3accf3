/*
 * The subscriptions of a session and what they mean to the index and to the other workers. Worker process.
 */
#include "node/session.h"
#include "node/shared_delivery.h"
#include "node/worker_context.h"
#include "node/worker_sys.h"

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
static enum status announce(
    struct session *session, struct topic_filter *filter, struct topic_group *group, int change)
{
    return routes_want(session->worker->routes, filter, group, session_durable(session) ? change : 0);
}

size_t session_subscription_text(const struct subscription *subscription, char *to, size_t size)
{
    struct bytes filter = topic_filter_bytes(subscription->filter);
    if (subscription->group == NULL)
        return (size_t)snprintf(to, size, "%.*s", (int)filter.size, (const char *)filter.data);
    return (size_t)snprintf(
        to, size, "$share/%s/%.*s", subscription->group->name, (int)filter.size, (const char *)filter.data);
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
    struct bytes seen = session_sees(session, topic_filter_bytes(it->subscription.filter));
    it->subscription.check_read =
        session->rights != NULL && (seen.size == 0 || acl_readable(session->rights, seen) != ACL_ALL);
}

void session_rights_changed(struct session *session)
{
    list_for_each(&session->subscriptions, element, following)
    {
        list_entry(element, struct session_subscription, siblings)->subscription.check_read =
            session->rights != NULL;
    }
}

struct session_subscription *session_subscription_named(struct session *session, struct bytes text)
{
    struct bytes name, filter = text;
    bool shared = topic_filter_shared(text, &name, &filter);
    struct topic_filter *entry = topic_index_find(session->worker->index, filter);
    struct topic_group *group = entry == NULL || !shared ? NULL : topic_index_find_group(entry, name);
    if (entry == NULL || (shared && group == NULL))
        return NULL;
    return session_subscription_find(session, entry, group);
}

/* The entry of a filter and, for `$share/GROUP/FILTER`, of its group; both may be new. */
static enum status acquire(struct worker *worker, struct bytes text, struct topic_filter **ret_filter,
    struct topic_group **ret_group)
{
    struct bytes name, filter = text;
    bool shared = topic_filter_shared(text, &name, &filter);
    enum status status = topic_index_acquire(worker->index, filter, ret_filter);
    *ret_group = NULL;
    if (status != STATUS_OK || !shared)
        return status;
    status = topic_index_group(worker->index, *ret_filter, name, ret_group);
    if (status != STATUS_OK)
        topic_index_release(worker->index, *ret_filter);
    return status;
}

/* A new subscription. On failure entry and group are released. */
static enum status add(struct session *session, struct topic_filter *entry, struct topic_group *group,
    struct session_subscription **ret_subscription)
{
    struct worker *worker = session->worker;
    struct session_subscription *it = calloc(1, sizeof *it);
    enum status status = STATUS_NO_MEMORY;
    if (it != NULL)
        status = topic_index_insert(worker->index, entry, group, &it->subscription);
    if (status != STATUS_OK) {
        free(it);
        topic_index_release(worker->index, entry);
        return status;
    }
    it->subscription.subscriber = session;
    if (group != NULL)
        topic_index_set_connected(&it->subscription, session->connection != NULL);
    status = announce(session, entry, group, 1);
    if (status != STATUS_OK) {
        topic_index_remove(worker->index, &it->subscription);
        free(it);
        return status;
    }
    session->shared_count += group != NULL;
    worker->counters->subscriptions++;
    worker->counters->shared_subscriptions += group != NULL;
    *ret_subscription = it;
    return STATUS_OK;
}

enum status session_subscribe(struct session *session, const struct mqtt_subscribe_filter *filter,
    uint32_t identifier, struct session_subscription **ret_subscription, bool *ret_existed)
{
    struct worker *worker = session->worker;
    struct session_subscription *it = session_subscription_named(session, filter->filter);
    *ret_existed = it != NULL;
    if (it == NULL) {
        size_t cost = filter_cost(filter->filter.size, topic_levels(filter->filter));
        struct topic_filter *entry;
        struct topic_group *group;
        enum status status = STATUS_LIMIT;
        if (has_room(session, cost))
            status = acquire(worker, filter->filter, &entry, &group);
        if (status == STATUS_OK)
            status = add(session, entry, group, &it);
        if (status != STATUS_OK)
            return status;
        enlist(session, it, cost);
    }
    set_options(session, it, filter, identifier);
    it->retained_applied = retained_applied(worker_retained_of(worker, filter->filter));
    *ret_subscription = it;
    return STATUS_OK;
}

static void drop(struct session *session, struct session_subscription *it)
{
    struct worker *worker = session->worker;
    struct topic_filter *filter = it->subscription.filter;
    struct topic_group *group = it->subscription.group;
    subscribe_forget(it);
    retained_delivery_cancel(session, it);
    if (session->subscription_table != NULL)
        hash_table_remove(session->subscription_table, key_hash(filter), it);
    char text[65536];
    size_t size = session_subscription_text(&it->subscription, text, sizeof text);
    session->subscription_cost -= filter_cost(size, topic_levels(bytes_of(text, size)));
    /* The announcement keeps the entry alive while the index lets go of the subscription. */
    topic_index_remove(worker->index, &it->subscription);
    enum status status = announce(session, filter, group, -1);
    assert(status == STATUS_OK);
    (void)status;
    list_remove(&it->siblings);
    session->subscription_count--;
    session->shared_count -= group != NULL;
    worker->counters->subscriptions--;
    worker->counters->shared_subscriptions -= group != NULL;
    if (session->subscription_count == 0)
        table_free(session);
    free(it);
}

bool session_unsubscribe(struct session *session, struct bytes filter)
{
    struct session_subscription *it = session_subscription_named(session, filter);
    if (it == NULL)
        return false;
    const struct topic_group *group = it->subscription.group;
    drop(session, it);
    if (group != NULL) /* its announcement keeps it until the turn ends */
        shared_hand_on_queued(session, group);
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
        const struct subscription *it =
            &list_entry(element, struct session_subscription, siblings)->subscription;
        enum status status = routes_want(session->worker->routes, it->filter, it->group, durable);
        if (status != STATUS_OK)
            log_error("client %.*s: a route could not be announced as durable: %s",
                (int)session->client_id_size, session->client_id, status_text(status));
    }
}
