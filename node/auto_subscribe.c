/*
 * The subscriptions that the configuration gives every client: made when its session is here, before CONNACK,
 * which then waits for the other workers as SUBACK does. In the words of a client: access rights, limits and
 * the listener's mountpoint hold for them. Worker process.
 */
#include "node/session_connect.h"
#include "node/worker_context.h"

#include "shared/log.h"
#include "shared/peer_address.h"
#include "shared/topic_template.h"

static const struct config_subscription *subscription_at(const struct worker *worker, size_t i)
{
    return (const struct config_subscription *)worker->config->auto_subscribe.topics.items + i;
}

/* The i-th filter as it is for this client. */
static enum topic_template_fault filter_of(struct session *session, const struct connection *connection,
    size_t i, uint8_t to[MOUNTED_TOPIC_MAX], struct bytes *ret_filter)
{
    char host[PEER_TEXT_SIZE];
    struct topic_values values = {.client_id = session_client_id(session),
        .user = bytes_of(session->user, session->user_size),
        .host = bytes_of_text(peer_address_host(&connection->address, host))};
    size_t size = 0;
    enum topic_template_fault fault = topic_template_expand(
        bytes_of_text(subscription_at(session->worker, i)->topic), &values, to, MOUNTED_TOPIC_MAX, &size);
    *ret_filter = bytes_of(to, size);
    return fault;
}

static void leave_out(struct session *session, size_t i, const char *why)
{
    session->worker->counters->auto_subscribe_refused++;
    log_info("client %.*s: auto_subscribe.topics[%zu] (%s) left out: %s", (int)session->client_id_size,
        session->client_id, i, subscription_at(session->worker, i)->topic, why);
}

/* True: retained messages are due. */
static bool subscribe(struct session *session, const struct connection *connection, size_t i)
{
    static const char *const faults[] = {[TOPIC_TEMPLATE_CLIENT_ID] = "its identifier has +, # or / in it",
        [TOPIC_TEMPLATE_USER] = "it has no user name, or one with +, # or / in it",
        [TOPIC_TEMPLATE_HOST] = "it has no address",
        [TOPIC_TEMPLATE_LENGTH] = "too long with its names"};
    const struct config_subscription *it = subscription_at(session->worker, i);
    struct mqtt_subscribe_filter wanted = {.qos = (uint8_t)it->qos,
        .no_local = it->no_local,
        .retain_as_published = it->retain_as_published,
        .retain_handling = (uint8_t)it->retain_handling};
    uint8_t text[MOUNTED_TOPIC_MAX];
    enum topic_template_fault fault = filter_of(session, connection, i, text, &wanted.filter);
    if (fault != TOPIC_TEMPLATE_FINE) {
        leave_out(session, i, faults[fault]);
        return false;
    }
    struct session_subscription *retained;
    uint8_t reason = subscribe_filter(session, &wanted, 0, &retained);
    if (reason >= 0x80)
        leave_out(session, i, mqtt_reason_text(reason));
    return retained != NULL;
}

void auto_subscribe(struct connecting *connecting)
{
    struct session *session = connecting->session;
    for (size_t i = 0; i < session->worker->config->auto_subscribe.topics.count; i++)
        if (subscribe(session, connecting->connection, i))
            connecting->auto_retained |= UINT64_C(1) << i;
}

void auto_subscribe_retained(struct connection *connection, uint64_t due)
{
    struct session *session = connection->session;
    for (size_t i = 0; i < session->worker->config->auto_subscribe.topics.count; i++) {
        uint8_t text[MOUNTED_TOPIC_MAX], mounted[MOUNTED_TOPIC_MAX];
        struct bytes filter;
        if ((due >> i & 1) == 0 || filter_of(session, connection, i, text, &filter) != TOPIC_TEMPLATE_FINE)
            continue;
        if (session->mount != NULL)
            filter = session_mount_filter(session->mount, filter, mounted);
        struct session_subscription *subscription = session_subscription_named(session, filter);
        if (subscription != NULL)
            retained_delivery_start(session, subscription);
    }
}
