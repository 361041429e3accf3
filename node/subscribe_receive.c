/*
 * SUBSCRIBE and UNSUBSCRIBE from a client. SUBACK goes out when every live worker has the routes: from then
 * on whatever is published anywhere on the node arrives [MQTT 3.8, 3.9, 3.10]. Worker process.
 */
#include "node/connection.h"
#include "node/session.h"
#include "node/session_rewrite.h"
#include "node/worker_context.h"

#include "shared/log.h"
#include "shared/mqtt_decode.h"
#include "shared/mqtt_encode.h"
#include "shared/mqtt_properties.h"
#include "shared/topic_name.h"

#include <stdlib.h>

/* So many filters may wait for their SUBACKs before the connection is not read any more. A packet may bring
 * more of them than that, but then it is the last. */
#define SUBACK_FILTERS_MAX 1024u

/* One filter of a SUBSCRIBE. */
struct suback_result {
    struct session_subscription *subscription; /* whose retained messages are due; NULL: none */
    struct suback_result *next;                /* others of the same subscription */
    struct suback_result **link;               /* what points to this one */
    uint8_t reason;
};

/* One SUBSCRIBE whose SUBACK is due when the routes are settled. */
struct pending_suback {
    struct pending_suback *next;  /* on connection->subacks */
    struct pending_suback **link; /* what points to this one */
    struct connection *connection;
    struct routes_waiter routes;
    uint16_t packet_id;
    uint32_t count;
    struct suback_result results[];
};

static void result_link(struct suback_result *result, struct session_subscription *subscription)
{
    result->subscription = subscription;
    result->next = subscription->suback_due;
    result->link = &subscription->suback_due;
    if (result->next != NULL)
        result->next->link = &result->next;
    subscription->suback_due = result;
}

/* Returns the subscription that it was for, or NULL. */
static struct session_subscription *result_unlink(struct suback_result *result)
{
    struct session_subscription *subscription = result->subscription;
    if (subscription == NULL)
        return NULL;
    *result->link = result->next;
    if (result->next != NULL)
        result->next->link = result->link;
    result->subscription = NULL;
    return subscription;
}

void subscribe_forget(struct session_subscription *subscription)
{
    while (subscription->suback_due != NULL)
        (void)result_unlink(subscription->suback_due);
}

static void pending_enlist(struct connection *connection, struct pending_suback *pending)
{
    pending->next = connection->subacks;
    pending->link = &connection->subacks;
    if (pending->next != NULL)
        pending->next->link = &pending->next;
    connection->subacks = pending;
    connection->suback_filters += pending->count;
}

static void pending_free(struct pending_suback *pending)
{
    for (uint32_t i = 0; i < pending->count; i++)
        (void)result_unlink(&pending->results[i]);
    pending->connection->suback_filters -= pending->count;
    *pending->link = pending->next;
    if (pending->next != NULL)
        pending->next->link = pending->link;
    free(pending);
}

static bool fail(struct connection *connection, enum mqtt_reason reason, const char *text)
{
    connection->worker->counters->protocol_errors++;
    connection_close(connection, reason, text);
    return false;
}

static bool has_wildcard(struct bytes filter)
{
    return memchr(filter.data, '+', filter.size) != NULL || memchr(filter.data, '#', filter.size) != NULL;
}

/* A filter as it is on the node. False: not on this listener. */
static bool mount(
    const struct session *session, struct bytes inner, struct bytes *filter, uint8_t to[MOUNTED_TOPIC_MAX])
{
    if (inner.data[0] == '$') /* $SYS lies under no mountpoint */
        return false;
    *filter = session_mount_filter(session->mount, *filter, to);
    return filter->size > 0;
}

uint8_t subscribe_filter(struct session *session, const struct mqtt_subscribe_filter *wanted,
    uint32_t identifier, struct session_subscription **ret_retained)
{
    const struct config_mqtt *limits = &session->worker->config->mqtt;
    struct bytes group, filter = wanted->filter;
    *ret_retained = NULL;
    bool shared = topic_filter_shared(wanted->filter, &group, &filter);
    if (shared && !limits->shared_subscription)
        return MQTT_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED; /* as CONNACK says */
    if (!limits->wildcard_subscription && has_wildcard(filter))
        return MQTT_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED;
    if (filter.size > limits->max_topic_length || topic_levels(filter) > limits->max_topic_levels) {
        session->worker->counters->topics_refused++;
        return MQTT_TOPIC_FILTER_INVALID;
    }
    if (session->rights != NULL && acl_readable(session->rights, filter) == ACL_NONE) {
        session->worker->counters->subscribe_denied++;
        log_debug("client %.*s: may not read any topic of a filter that it subscribes to",
            (int)session->client_id_size, session->client_id);
        return MQTT_NOT_AUTHORIZED;
    }
    struct mqtt_subscribe_filter mounted = *wanted;
    uint8_t text[MOUNTED_TOPIC_MAX];
    if (session->mount != NULL && !mount(session, filter, &mounted.filter, text))
        return filter.data[0] == '$' ? MQTT_NOT_AUTHORIZED : MQTT_TOPIC_FILTER_INVALID;
    struct session_subscription *subscription;
    bool existed = false;
    enum status status = session_subscribe(session, &mounted, identifier, &subscription, &existed);
    if (status != STATUS_OK)
        return status == STATUS_LIMIT ? MQTT_QUOTA_EXCEEDED : MQTT_IMPLEMENTATION_SPECIFIC_ERROR;
    /* [MQTT-3.3.1-9, -10, -11] */
    if (!shared && (wanted->retain_handling == 0 || (wanted->retain_handling == 1 && !existed)))
        *ret_retained = subscription;
    return subscription->subscription.qos;
}

/* What SUBACK says of one filter. */
static uint8_t subscribe_one(struct session *session, const struct mqtt_subscribe_filter *wanted,
    uint32_t identifier, struct suback_result *result)
{
    struct session_subscription *retained;
    struct mqtt_subscribe_filter rewritten = *wanted;
    if (session->worker->rewrite != NULL && !session_rewrite_filter(session, &rewritten.filter))
        return MQTT_TOPIC_FILTER_INVALID;
    uint8_t reason = subscribe_filter(session, &rewritten, identifier, &retained);
    if (retained != NULL)
        result_link(result, retained);
    return reason;
}

static void send_suback(struct pending_suback *pending)
{
    struct connection *connection = pending->connection;
    size_t room = 16 + pending->count;
    uint8_t *to = connection_reserve(connection, room);
    uint8_t *reasons = malloc(pending->count);
    if (to == NULL || reasons == NULL) {
        free(reasons);
        connection_drop(connection);
        return;
    }
    for (uint32_t i = 0; i < pending->count; i++)
        reasons[i] = pending->results[i].reason;
    size_t size = mqtt_encode_suback(to, (enum mqtt_version)connection->version, MQTT_SUBACK,
        pending->packet_id, reasons, pending->count, NULL);
    connection_unreserve(connection, room - size);
    connection->worker->counters->packets_sent++;
    free(reasons);
    for (uint32_t i = 0; i < pending->count; i++) {
        struct session_subscription *subscription = result_unlink(&pending->results[i]);
        if (subscription != NULL)
            retained_delivery_start(connection->session, subscription);
    }
    pending_free(pending);
    if (connection->suback_filters <= SUBACK_FILTERS_MAX)
        connection_release(connection, HOLD_SUBACKS);
}

static void on_routes_settled(struct routes_waiter *waiter, uint64_t silent)
{
    struct pending_suback *pending = list_entry(waiter, struct pending_suback, routes);
    if (silent != 0)
        log_warning("%s: SUBACK went out without an answer from workers 0x%llx within 1 s",
            connection_peer(pending->connection), (unsigned long long)silent);
    send_suback(pending);
}

/*
 * What was acknowledged anywhere before the client sent this lies in our rings by now: it belongs to the time
 * before, retained messages to the table, others to nobody.
 */
static bool drain_first(struct connection *connection)
{
    bus_drain(connection->worker->bus);
    return connection->state == CONNECTION_ACTIVE;
}

/* A SUBACK or UNSUBACK that is larger than the client takes cannot be sent [MQTT-3.1.2-24]; nor can it be
   left out, so that what it answers is not even begun. False: closed. */
static bool answer_fits(struct connection *connection, uint32_t count)
{
    size_t body = 3 + (size_t)count; /* packet identifier, no properties, reason codes */
    if (1 + mqtt_varint_size((uint32_t)body) + body <= connection->maximum_packet_size)
        return true;
    return fail(connection, MQTT_PACKET_TOO_LARGE, "its answer is larger than its Maximum Packet Size");
}

static bool properties_allowed(struct connection *connection, const struct mqtt_properties *properties)
{
    if (properties->user_properties <= connection->worker->config->mqtt.max_user_properties)
        return true;
    connection->worker->counters->properties_refused++;
    connection_close(connection, MQTT_QUOTA_EXCEEDED, "more user properties than mqtt.max_user_properties");
    return false;
}

bool subscribe_received(struct connection *connection, struct bytes body)
{
    if (!drain_first(connection))
        return false; /* its client has connected elsewhere */
    struct mqtt_subscribe subscribe;
    struct mqtt_fault fault;
    if (mqtt_decode_subscribe((enum mqtt_version)connection->version, body, &subscribe, &fault) != STATUS_OK)
        return fail(connection, fault.reason, fault.text);
    if (!properties_allowed(connection, &subscribe.properties) || !answer_fits(connection, subscribe.count))
        return false;
    struct pending_suback *pending =
        calloc(1, sizeof *pending + subscribe.count * sizeof pending->results[0]);
    if (pending == NULL)
        return fail(connection, MQTT_QUOTA_EXCEEDED, "out of memory");
    pending->connection = connection;
    pending->packet_id = subscribe.packet_id;
    list_init(&pending->routes.link);
    pending->routes.settled = on_routes_settled;
    struct mqtt_subscribe_filter wanted;
    struct bytes filters = subscribe.filters;
    while (mqtt_subscribe_next(&filters, (enum mqtt_version)connection->version, &wanted)) {
        uint32_t i = pending->count++;
        pending->results[i].reason = subscribe_one(
            connection->session, &wanted, subscribe.properties.subscription_identifier, &pending->results[i]);
    }
    pending_enlist(connection, pending);
    if (routes_wait(connection->worker->routes, &pending->routes))
        send_suback(pending);
    else if (connection->suback_filters > SUBACK_FILTERS_MAX)
        connection_hold(connection, HOLD_SUBACKS);
    return connection->state == CONNECTION_ACTIVE;
}

/* What UNSUBACK says of one filter. */
static uint8_t unsubscribe_one(struct session *session, struct bytes filter)
{
    if (session->worker->rewrite != NULL && !session_rewrite_filter(session, &filter))
        return MQTT_TOPIC_FILTER_INVALID;
    uint8_t text[MOUNTED_TOPIC_MAX];
    if (session->mount != NULL)
        filter = session_mount_filter(session->mount, filter, text);
    return session_unsubscribe(session, filter) ? MQTT_SUCCESS : MQTT_NO_SUBSCRIPTION_EXISTED;
}

bool unsubscribe_received(struct connection *connection, struct bytes body)
{
    if (!drain_first(connection))
        return false; /* its client has connected elsewhere */
    struct mqtt_unsubscribe unsubscribe;
    struct mqtt_fault fault;
    if (mqtt_decode_unsubscribe((enum mqtt_version)connection->version, body, &unsubscribe, &fault) !=
        STATUS_OK)
        return fail(connection, fault.reason, fault.text);
    if (!properties_allowed(connection, &unsubscribe.properties) ||
        !answer_fits(connection, unsubscribe.count))
        return false;
    uint8_t *reasons = malloc(unsubscribe.count);
    size_t room = 16 + unsubscribe.count;
    if (reasons == NULL)
        return fail(connection, MQTT_QUOTA_EXCEEDED, "out of memory");
    struct bytes filters = unsubscribe.filters, filter;
    uint32_t count = 0;
    while (mqtt_unsubscribe_next(&filters, &filter))
        reasons[count++] = unsubscribe_one(connection->session, filter);
    uint8_t *to = connection_reserve(connection, room);
    if (to == NULL) {
        free(reasons);
        connection_drop(connection);
        return false;
    }
    size_t size = mqtt_encode_suback(to, (enum mqtt_version)connection->version, MQTT_UNSUBACK,
        unsubscribe.packet_id, reasons, count, NULL);
    connection_unreserve(connection, room - size);
    connection->worker->counters->packets_sent++;
    free(reasons);
    return true;
}

void subscribe_abandon(struct connection *connection)
{
    while (connection->subacks != NULL) {
        routes_wait_cancel(&connection->subacks->routes);
        pending_free(connection->subacks);
    }
    if (connection->session != NULL)
        retained_delivery_cancel_all(connection->session);
}
