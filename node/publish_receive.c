/*
 * A PUBLISH from a client: checks, topic alias, QoS 2 state, routing, and the acknowledgement in the order
 * that the specification demands [MQTT-4.6.0-2, -3]. Worker process. Hot path: no allocation for what can be
 * routed and acknowledged at once.
 */
#include "node/connection.h"
#include "node/session_rewrite.h"
#include "node/topic_alias.h"
#include "node/worker_context.h"

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/mqtt_decode.h"
#include "shared/mqtt_encode.h"
#include "shared/mqtt_properties.h"
#include "shared/topic_name.h"

#include <stdlib.h>

/* More publications cannot be unacknowledged: there are no more packet identifiers. */
#define ACKNOWLEDGEMENTS_MAX 65535u

static bool fail(struct connection *connection, enum mqtt_reason reason, const char *text)
{
    connection->worker->counters->protocol_errors++;
    connection_close(connection, reason, text);
    return false;
}

/* Notes or looks up the alias; sets publish->topic [MQTT-3.3.2-7 … -12]. */
static bool resolve_alias(struct connection *connection, struct mqtt_publish *publish)
{
    if (connection->aliases_in == NULL)
        connection->aliases_in = topic_aliases_in_new((uint16_t)connection->config->mqtt.max_topic_alias);
    enum status status = connection->aliases_in == NULL ? STATUS_NO_MEMORY
                                                        : topic_aliases_in_resolve(connection->aliases_in,
                                                              publish->topic_alias, &publish->topic);
    if (status == STATUS_OK)
        return true;
    if (status == STATUS_LIMIT)
        return fail(connection, MQTT_TOPIC_ALIAS_INVALID, "topic alias above the maximum");
    if (status == STATUS_NOT_FOUND)
        return fail(connection, MQTT_PROTOCOL_ERROR, "topic alias that was never set");
    return fail(connection, MQTT_QUOTA_EXCEEDED, "no memory for the topics of its aliases");
}

/* Acknowledgements
 * -------------------------------------------------------------------------------------------- */

static void queue_free(struct connection *connection)
{
    if (connection->acknowledgements != NULL)
        free(connection->acknowledgements->ring);
    free(connection->acknowledgements);
    connection->acknowledgements = NULL;
}

static struct pending_acknowledgement *queue_at(struct acknowledgement_queue *queue, uint32_t i)
{
    return &queue->ring[(queue->head + i) & (queue->capacity - 1)];
}

static bool queue_push(struct acknowledgement_queue *queue, const struct pending_acknowledgement *pending)
{
    if (queue->count == queue->capacity) {
        uint32_t capacity = queue->capacity == 0 ? 16 : queue->capacity * 2;
        struct pending_acknowledgement *ring = calloc(capacity, sizeof *ring);
        if (ring == NULL)
            return false;
        for (uint32_t i = 0; i < queue->count; i++)
            ring[i] = *queue_at(queue, i);
        free(queue->ring);
        queue->ring = ring;
        queue->capacity = capacity;
        queue->head = 0;
    }
    *queue_at(queue, queue->count++) = *pending;
    return true;
}

/* Writes PUBACK or PUBREC. False: the connection is gone. */
static bool acknowledge(struct connection *connection, uint8_t type, uint16_t packet_id, uint8_t reason)
{
    uint8_t *to = connection_reserve(connection, 8);
    if (to == NULL) {
        connection_drop(connection);
        return false;
    }
    size_t size = mqtt_encode_acknowledgement(
        to, (enum mqtt_version)connection->version, type, packet_id, (enum mqtt_reason)reason);
    connection_unreserve(connection, 8 - size);
    struct counters *counters = connection->worker->counters;
    counters->packets_sent++;
    if (reason < 0x80)
        counters->publish_acknowledged++;
    else
        counters->publish_refused++;
    /* After PUBACK, or a PUBREC that refuses, the packet identifier and its place in our Receive Maximum are
     * free. */
    if (type == MQTT_PUBACK || reason >= 0x80)
        connection->unacknowledged--;
    if (type == MQTT_PUBREC && reason >= 0x80)
        awaiting_remove(&connection->session->awaiting, packet_id);
    return true;
}

/* In order: at once if nothing waits before it. */
static bool acknowledge_in_order(struct connection *connection, const struct pending_acknowledgement *pending)
{
    struct acknowledgement_queue *queue = connection->acknowledgements;
    if (pending->done && queue == NULL)
        return acknowledge(connection, pending->type, pending->packet_id, pending->reason);
    if (queue == NULL)
        queue = connection->acknowledgements = calloc(1, sizeof *queue);
    if (queue != NULL && queue->count >= ACKNOWLEDGEMENTS_MAX)
        return fail(connection, MQTT_RECEIVE_MAXIMUM_EXCEEDED,
            "more unacknowledged publications than there are packet identifiers");
    if (queue != NULL && queue_push(queue, pending))
        return true;
    connection_close(connection, MQTT_QUOTA_EXCEEDED, "out of memory");
    return false;
}

/* Version 3 has no way to refuse: what cannot be accepted is not acknowledged and the connection ends. */
static bool refuse_publish(struct connection *connection, const struct mqtt_publish *publish,
    enum mqtt_reason reason, const char *text)
{
    if (publish->qos == 0 || connection->version != MQTT_5_0) {
        connection->worker->counters->publish_refused++;
        connection_close(connection, reason, text);
        return false;
    }
    struct pending_acknowledgement pending = {.packet_id = publish->packet_id,
        .type = publish->qos == 1 ? MQTT_PUBACK : MQTT_PUBREC,
        .reason = (uint8_t)reason,
        .done = true};
    connection->unacknowledged++;
    return acknowledge_in_order(connection, &pending);
}

void publish_abandon(struct connection *connection)
{
    struct acknowledgement_queue *queue = connection->acknowledgements;
    /* What was refused will be sent again on the next connection, if that could not be told, and then it must
       not pass for a repetition of something that was accepted. */
    for (uint32_t i = 0; queue != NULL && i < queue->count; i++) {
        const struct pending_acknowledgement *pending = queue_at(queue, i);
        if (pending->type == MQTT_PUBREC && pending->reason >= 0x80)
            awaiting_remove(&connection->session->awaiting, pending->packet_id);
    }
    queue_free(connection);
    topic_aliases_in_free(&connection->aliases_in);
    topic_aliases_out_free(&connection->aliases_out);
}

/*
 * What a client may not publish [MQTT 4.7.2, 5.4.2]: told in version 5 where there is an acknowledgement to
 * tell it in; otherwise taken and thrown away, as the field does: closing would make version 3 clients come
 * back and try again.
 */
static bool deny_publish(struct connection *connection, const struct mqtt_publish *publish,
    enum mqtt_reason reason, const char *text)
{
    log_debug("%s: publication denied: %s", connection_peer(connection), text);
    if (publish->qos > 0 && connection->version == MQTT_5_0)
        return refuse_publish(connection, publish, reason, text);
    connection->worker->counters->publish_refused++;
    if (publish->qos == 0)
        return true;
    struct pending_acknowledgement pending = {
        .packet_id = publish->packet_id, .type = publish->qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, .done = true};
    connection->unacknowledged++;
    return acknowledge_in_order(connection, &pending);
}

void publish_complete(void *context, void *taker, uint64_t ticket, enum acceptance_result result)
{
    (void)context;
    struct connection *connection = taker;
    struct acknowledgement_queue *queue = connection->acknowledgements;
    if (queue == NULL)
        return; /* a retained one with QoS 0: nobody waits */
    for (uint32_t i = 0; i < queue->count; i++) {
        struct pending_acknowledgement *pending = queue_at(queue, i);
        if (pending->ticket != ticket || pending->done)
            continue;
        pending->done = true;
        if (result == ACCEPTANCE_REFUSED)
            pending->reason = MQTT_QUOTA_EXCEEDED;
        break;
    }
    while (queue->count > 0 && queue_at(queue, 0)->done) {
        struct pending_acknowledgement first = *queue_at(queue, 0);
        if (first.reason >= 0x80 && connection->version != MQTT_5_0) {
            connection_close(connection, MQTT_QUOTA_EXCEEDED, "a publication could not be accepted");
            return;
        }
        queue->head = (queue->head + 1) & (queue->capacity - 1);
        queue->count--;
        if (!acknowledge(connection, first.type, first.packet_id, first.reason))
            return;
    }
    if (queue->count == 0)
        queue_free(connection);
}

/* Checks
 * ------------------------------------------------------------------------------------------------------ */

static bool check_limits(struct connection *connection, const struct mqtt_publish *publish)
{
    const struct config_mqtt *limits = &connection->config->mqtt;
    if (publish->qos > limits->max_qos)
        return fail(connection, MQTT_QOS_NOT_SUPPORTED, "QoS above mqtt.max_qos"); /* [MQTT-3.2.2-12] */
    if (publish->retain && !limits->retain_available)
        return fail(connection, MQTT_RETAIN_NOT_SUPPORTED, "RETAIN although mqtt.retain_available is false");
    if (publish->qos == 0)
        return true;
    uint32_t maximum = connection->version == MQTT_5_0 ? limits->receive_maximum : limits->max_awaiting_rel;
    uint32_t open =
        connection->version == MQTT_5_0 ? connection->unacknowledged : connection->session->awaiting.count;
    if (open >= maximum &&
        !(publish->qos == 2 && awaiting_has(&connection->session->awaiting, publish->packet_id)))
        return connection->version != MQTT_5_0 && publish->qos == 1
                   ? true
                   : fail(connection, MQTT_RECEIVE_MAXIMUM_EXCEEDED,
                         "more unacknowledged QoS 1 and 2 than allowed");
    return true;
}

static bool topic_too_large(const struct worker *worker, struct bytes topic)
{
    const struct config_mqtt *limits = &worker->config->mqtt;
    if (topic.size <= limits->max_topic_length &&
        (topic.size <= limits->max_topic_levels || topic_levels(topic) <= limits->max_topic_levels))
        return false;
    worker->counters->topics_refused++;
    return true;
}

/* False: nothing valid came out. */
static bool rewrite(const struct connection *connection, struct mqtt_publish *publish)
{
    const struct session *session = connection->session;
    return session_rewrite_name(connection->worker, session_client_id(session),
        bytes_of(session->user, session->user_size), &publish->topic);
}

/* From here on the topic is what it is on the node. False: it is too long. */
static bool mount(const struct connection *connection, struct mqtt_publish *publish)
{
    const struct session *session = connection->session;
    if (__builtin_expect(session->mount != NULL, 0))
        publish->topic = session_mount_topic(session->mount, publish->topic, session->worker->publish_topic);
    return publish->topic.size > 0;
}

/* What receivers get of the properties; `scratch` holds them when something must be left out. */
static struct bytes forward_properties(const struct mqtt_publish *publish, uint8_t *scratch)
{
    if (publish->properties_forward_as_they_are)
        return publish->properties;
    return bytes_of(scratch, mqtt_properties_forward(scratch, publish->properties));
}

/* Routing
 * ----------------------------------------------------------------------------------------------------- */

/* Reads what the peers have for us. A client that was held may go on by that, and use the worker's buffer for
 * the topic of its own PUBLISH: this one's topic is put there again. False: no memory, nothing was read. */
static bool drain_beside(struct worker *worker, struct bytes *topic)
{
    uint8_t *kept = malloc(topic->size);
    if (kept == NULL)
        return false;
    memcpy(kept, topic->data, topic->size);
    bus_drain(worker->bus);
    memcpy(worker->publish_topic, kept, topic->size);
    *topic = bytes_of(worker->publish_topic, topic->size);
    free(kept);
    return true;
}

/* Sets *ret_refuse if it must not be kept and retained.when_full says that it goes to nobody then. At a
 * limit, what other workers have deleted by now comes first. False: the client has connected elsewhere
 * meanwhile. */
static bool judge_retained(struct connection *connection, struct publication_view *view, bool *ret_refuse)
{
    struct worker *worker = connection->worker;
    *ret_refuse = false;
    if (retained_decide(worker, view) == RETAINED_KEEP)
        return true;
    if (!drain_beside(worker, &view->topic))
        return fail(connection, MQTT_QUOTA_EXCEEDED, "out of memory");
    if (connection->state != CONNECTION_ACTIVE)
        return false;
    *ret_refuse = worker->config->retained.when_full == CONFIG_RETAINED_REFUSE &&
                  retained_decide(worker, view) == RETAINED_FULL;
    worker->counters->retained_refused += *ret_refuse;
    return true;
}

/* QoS 1 and 2 that was accepted; `pending` has ticket, reason and whether that is all. */
static bool taken(struct connection *connection, const struct mqtt_publish *publish,
    struct pending_acknowledgement *pending)
{
    if (publish->qos == 2 && awaiting_add(&connection->session->awaiting, publish->packet_id) != STATUS_OK)
        return fail(connection, MQTT_QUOTA_EXCEEDED, "out of memory");
    connection->unacknowledged++;
    pending->packet_id = publish->packet_id;
    pending->type = publish->qos == 1 ? MQTT_PUBACK : MQTT_PUBREC;
    return acknowledge_in_order(connection, pending);
}

/* For later: acknowledged when it lies in the slot's table, which outlives this process. */
static bool delay(struct connection *connection, const struct mqtt_publish *publish,
    const struct publication_view *view, uint32_t delay_s)
{
    struct worker *worker = connection->worker;
    enum status status = delayed_accept(worker, view, delay_s);
    worker->counters->publish_received++;
    if (status != STATUS_OK)
        log_debug(
            "%s: a delayed publication is refused: %s", connection_peer(connection), status_text(status));
    if (publish->qos == 0)
        return true;
    if (status != STATUS_OK)
        return refuse_publish(
            connection, publish, MQTT_QUOTA_EXCEEDED, "no room for more delayed publications");
    struct pending_acknowledgement pending = {.done = true};
    return taken(connection, publish, &pending);
}

/* Routes it and acknowledges as far as it may. False: a hold or the end. */
static bool route(struct connection *connection, const struct mqtt_publish *publish, struct bytes properties,
    uint32_t delay_s)
{
    struct worker *worker = connection->worker;
    struct session *session = connection->session;
    struct publication_view view; /* member by member: zeroing it as a whole takes longer than all the rest */
    view.meta =
        (struct publication_meta){.publisher = session->hash, .qos = publish->qos, .retain = publish->retain};
    view.topic = publish->topic;
    view.properties = properties;
    view.payload = publish->payload;
    view.shares = NULL;
    if (publish->has_message_expiry)
        view.meta.expires_ms = clock_real_us() / 1000 + (uint64_t)publish->message_expiry_s * 1000;
    if (delay_s > 0)
        return delay(connection, publish, &view, delay_s);
    bool refuse = false;
    if (publish->retain && !judge_retained(connection, &view, &refuse))
        return false;
    if (refuse)
        return deny_publish(connection, publish, MQTT_QUOTA_EXCEEDED, "the limits on retained messages");
    uint64_t ticket = ++connection->next_ticket;
    bool matched = false;
    enum acceptance_result result = publication_route(worker, &view, connection, ticket, &matched);
    if (result == ACCEPTANCE_STALLED) {
        if (list_empty(&connection->held))
            list_append(&worker->stalled, &connection->held);
        connection_hold(connection, HOLD_STALL);
        return false;
    }
    worker->counters->publish_received++;
    if (!matched)
        worker->counters->publish_unmatched++;
    if (publish->qos == 0)
        return true;
    if (result == ACCEPTANCE_REFUSED)
        return refuse_publish(connection, publish, MQTT_QUOTA_EXCEEDED,
            "a durable session's worker takes no more publications now");
    struct pending_acknowledgement pending = {.ticket = ticket,
        .reason = !matched && connection->version == MQTT_5_0 ? MQTT_NO_MATCHING_SUBSCRIBERS : MQTT_SUCCESS,
        .done = result == ACCEPTANCE_DONE};
    return taken(connection, publish, &pending);
}

bool publish_received(struct connection *connection, uint8_t flags, struct bytes body)
{
    struct mqtt_publish publish;
    struct mqtt_fault fault;
    if (mqtt_decode_publish((enum mqtt_version)connection->version, flags, body, &publish, &fault) !=
        STATUS_OK)
        return fail(connection, fault.reason, fault.text);
    if (!check_limits(connection, &publish))
        return false;
    if (publish.topic_alias > 0 && !resolve_alias(connection, &publish))
        return false;
    if (topic_too_large(connection->worker, publish.topic))
        return fail(connection, MQTT_TOPIC_NAME_INVALID,
            "topic longer than mqtt.max_topic_length or with more levels than mqtt.max_topic_levels");
    if (publish.user_properties > connection->worker->config->mqtt.max_user_properties) {
        connection->worker->counters->properties_refused++;
        return deny_publish(
            connection, &publish, MQTT_QUOTA_EXCEEDED, "more user properties than mqtt.max_user_properties");
    }
    if (publish.payload_is_utf8 && connection->worker->config->mqtt.validate_payload_format &&
        !utf8_valid(publish.payload))
        return refuse_publish(
            connection, &publish, MQTT_PAYLOAD_FORMAT_INVALID, "payload is called UTF-8 and is not");
    uint32_t delay_s = 0;
    enum mqtt_reason reason = MQTT_SUCCESS;
    if (publish.topic.data[0] == '$')
        reason = delayed_take_topic(connection->worker, &publish.topic, &delay_s);
    if (reason != MQTT_SUCCESS)
        return deny_publish(connection, &publish, reason,
            reason == MQTT_TOPIC_NAME_INVALID ? "$delayed without up to 42949670 seconds, or without a topic"
                                              : "topics that begin with $ belong to the broker");
    if (publish.qos == 2 && awaiting_has(&connection->session->awaiting, publish.packet_id)) {
        /* Sent again: it was routed the first time [MQTT-4.3.3-10]. A PUBREC that still waits will come. */
        struct pending_acknowledgement again = {
            .packet_id = publish.packet_id, .type = MQTT_PUBREC, .done = true};
        return acknowledge_in_order(connection, &again);
    }
    if (connection->worker->rewrite != NULL && !rewrite(connection, &publish))
        return deny_publish(
            connection, &publish, MQTT_TOPIC_NAME_INVALID, "rewrite.rules make no valid topic of it");
    const struct acl_rights *rights = connection->session->rights;
    if (rights != NULL && !acl_allows(rights, ACL_WRITE, publish.topic)) {
        connection->worker->counters->publish_denied++;
        return deny_publish(connection, &publish, MQTT_NOT_AUTHORIZED, "acl_file does not allow it");
    }
    if (!mount(connection, &publish))
        return fail(connection, MQTT_TOPIC_NAME_INVALID, "topic too long behind the listener's mountpoint");
    if (publish.properties_forward_as_they_are || publish.properties.size <= 1024) {
        uint8_t scratch[1024];
        return route(connection, &publish, forward_properties(&publish, scratch), delay_s);
    }
    uint8_t *scratch = malloc(publish.properties.size);
    if (scratch == NULL)
        return fail(connection, MQTT_QUOTA_EXCEEDED, "out of memory");
    bool more = route(connection, &publish, forward_properties(&publish, scratch), delay_s);
    free(scratch);
    return more;
}

bool pubrel_received(struct connection *connection, const struct mqtt_acknowledgement *release)
{
    bool known = awaiting_remove(&connection->session->awaiting, release->packet_id);
    if (known && connection->unacknowledged > 0)
        connection->unacknowledged--;
    uint8_t *to = connection_reserve(connection, 8);
    if (to == NULL) {
        connection_drop(connection);
        return false;
    }
    size_t size = mqtt_encode_acknowledgement(to, (enum mqtt_version)connection->version, MQTT_PUBCOMP,
        release->packet_id, known ? MQTT_SUCCESS : MQTT_PACKET_IDENTIFIER_NOT_FOUND);
    connection_unreserve(connection, 8 - size);
    connection->worker->counters->packets_sent++;
    return true;
}

void publish_retry_stalled(struct worker *worker)
{
    struct list again;
    list_init(&again);
    list_splice(&again, &worker->stalled);
    /* Not list_for_each: what one of them brings may end another. */
    while (!list_empty(&again)) {
        struct connection *connection = list_entry(again.next, struct connection, held);
        list_remove(&connection->held);
        connection_release(connection, HOLD_STALL);
    }
}
