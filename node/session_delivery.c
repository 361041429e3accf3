/*
 * Publications out to a session's client: encode into the connection's output, keep what must be
 * acknowledged, queue what cannot go now, drop by the stated limits and count it. Worker process. Hot path:
 * QoS 0 to a connected client makes no object and no allocation.
 */
#include "node/connection.h"
#include "node/session.h"
#include "node/shared_delivery.h"
#include "node/topic_alias.h"
#include "node/worker_context.h"

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/mqtt_encode.h"

#include <assert.h>
#include <stdlib.h>

/* Payloads above this are written from the publication itself; below, a copy is cheaper than another iovec.
 */
#define OUTPUT_COPY_MAX 8192

/* What may wait for a turn's end, in units of max_output_buffer, while the socket took everything so far. */
#define UNTRIED_FACTOR 4

/* Encoding
 * ---------------------------------------------------------------------------------------------------- */

/* Seconds left of the Message Expiry Interval, at least 1 [MQTT-3.3.2-6]. False: it has passed. */
static bool expiry_left(const struct publication_meta *meta, uint32_t *ret_seconds)
{
    uint64_t now_ms = clock_real_us() / 1000;
    if (now_ms >= meta->expires_ms)
        return false;
    uint64_t left_s = (meta->expires_ms - now_ms + 999) / 1000;
    *ret_seconds = left_s > UINT32_MAX ? UINT32_MAX : (uint32_t)left_s; /* the clock was set back */
    return true;
}

static void fill_publish(const struct session *session, const struct publication_view *view, uint8_t qos,
    bool retain, struct mqtt_publish_out *ret)
{
    *ret = (struct mqtt_publish_out){.version = (enum mqtt_version)session->version,
        .qos = qos,
        .retain = retain,
        .topic = view->topic,
        .properties = view->properties,
        .payload = view->payload};
}

/* Puts an encoded PUBLISH into the output; a large payload goes by reference to `object`. False: no memory.
 */
static bool put_publish(struct connection *connection, const struct mqtt_publish_out *publish, size_t size,
    struct publication *object)
{
    if (publish->payload.size <= OUTPUT_COPY_MAX || object == NULL) {
        uint8_t *to = connection_reserve(connection, size);
        if (to == NULL)
            return false;
        mqtt_encode_publish(to, publish, NULL);
        return true;
    }
    size_t head_size = size - publish->payload.size;
    uint8_t *to = connection_reserve(connection, head_size);
    if (to == NULL)
        return false;
    mqtt_encode_publish_head(to, publish, NULL);
    if (connection_append_payload(connection, object) == STATUS_OK)
        return true;
    connection_unreserve(connection, head_size);
    return false;
}

/* The shared encoding of this version, QoS and RETAIN; made when the first receiver of its kind comes. */
static bool put_shared(struct session *session, struct encoded_publish *encoded,
    const struct mqtt_publish_out *publish, size_t size)
{
    struct worker *worker = session->worker;
    unsigned kind =
        (publish->version == MQTT_5_0 ? 6u : 0u) + publish->qos * 2u + (publish->retain ? 1u : 0u);
    if (encoded->variants[kind].size == 0) {
        size_t offset = 0;
        encoded->variants[kind].bytes = worker->encode_scratch + worker->encode_used;
        encoded->variants[kind].size =
            (uint32_t)mqtt_encode_publish(encoded->variants[kind].bytes, publish, &offset);
        encoded->variants[kind].packet_id_offset = (uint32_t)offset;
        worker->encode_used += encoded->variants[kind].size;
    }
    uint8_t *to = connection_reserve(session->connection, size);
    if (to == NULL)
        return false;
    memcpy(to, encoded->variants[kind].bytes, size);
    if (publish->qos > 0)
        put_u16_be(to + encoded->variants[kind].packet_id_offset, publish->packet_id);
    return true;
}

/* Known to the client: the alias alone; new and worth it: topic and alias. False: the topic as ever. */
static bool use_alias(const struct connection *connection, struct mqtt_publish_out *publish)
{
    publish->topic_alias = topic_aliases_out_find(connection->aliases_out, publish->topic);
    if (publish->topic_alias != 0)
        publish->topic = BYTES_NONE;
    else
        publish->topic_alias = topic_aliases_out_next(connection->aliases_out, publish->topic);
    return publish->topic_alias != 0;
}

/* Writes one PUBLISH. False: it cannot be sent (not allowed any more, expired, too large, no memory) and was
 * counted as dropped. */
static bool send_publish(
    struct session *session, const struct delivery_request *request, uint16_t packet_id, bool dup)
{
    struct connection *connection = session->connection;
    struct counters *counters = session->worker->counters;
    struct mqtt_publish_out publish;
    if (request->kept && !session_may_read(session, request->view->topic)) {
        counters->dropped_denied++;
        return false;
    }
    fill_publish(session, request->view, request->qos, request->retain, &publish);
    publish.packet_id = packet_id;
    publish.dup = dup;
    bool plain = !dup;
    if (__builtin_expect(session->mount != NULL, 0)) {
        publish.topic = session_sees(session, publish.topic);
        plain = false; /* others know the topic by other names */
        if (publish.topic.size == 0) {
            counters->dropped_denied++;
            return false;
        }
    }
    if (session->version == MQTT_5_0 && (request->identifier != 0 || request->identifier_count > 0)) {
        publish.subscription_identifiers =
            request->identifier != 0 ? &request->identifier : request->identifiers;
        publish.subscription_identifier_count = request->identifier != 0 ? 1 : request->identifier_count;
        plain = false;
    }
    if (request->view->meta.expires_ms != 0) {
        /* What the client may have got already is completed, expired or not [MQTT-4.3.3-7]: 0 s left then. */
        if (!expiry_left(&request->view->meta, &publish.message_expiry_s) && !dup) {
            counters->dropped_expired++;
            return false;
        }
        publish.has_message_expiry = true;
    }
    if (connection->aliases_out != NULL)
        plain &= !use_alias(connection, &publish);
    size_t size = mqtt_publish_size(&publish);
    if (size > connection->maximum_packet_size && publish.topic_alias != 0 && publish.topic.size > 0) {
        publish.topic_alias = 0; /* fits without the alias, perhaps */
        size = mqtt_publish_size(&publish);
    }
    if (size > connection->maximum_packet_size) { /* [MQTT-3.1.2-24, -25] */
        counters->dropped_too_large++;
        return false;
    }
    bool put =
        plain && request->encoded != NULL && size <= ENCODED_MAX
            ? put_shared(session, request->encoded, &publish, size)
            : put_publish(connection, &publish, size, request->object == NULL ? NULL : *request->object);
    if (!put) {
        counters->dropped_qos0_output++;
        return false;
    }
    if (publish.topic_alias != 0 && publish.topic.size > 0)
        topic_aliases_out_note(connection->aliases_out, publish.topic);
    counters->publish_sent++;
    counters->packets_sent++;
    return true;
}

/* Objects and queue
 * ------------------------------------------------------------------------------------------- */

static struct publication *object_of(const struct delivery_request *request)
{
    if (*request->object == NULL)
        *request->object = publication_new(request->view);
    return *request->object;
}

bool session_copy_identifiers(const struct delivery_request *request, uint32_t **ret_identifiers)
{
    *ret_identifiers = NULL;
    if (request->identifier_count <= 1)
        return true;
    uint32_t *identifiers = malloc((request->identifier_count + 1) * sizeof *identifiers);
    if (identifiers == NULL)
        return false;
    identifiers[0] = request->identifier_count;
    memcpy(identifiers + 1, request->identifiers, request->identifier_count * sizeof *identifiers);
    *ret_identifiers = identifiers;
    return true;
}

/* What must be kept of a request, with a reference of its own. */
static bool keep(const struct delivery_request *request, struct delivery *ret)
{
    struct publication *object = object_of(request);
    if (object == NULL)
        return false;
    uint32_t *identifiers;
    if (!session_copy_identifiers(request, &identifiers))
        return false;
    *ret = (struct delivery){.publication = publication_ref(object),
        .identifiers = identifiers,
        .identifier = request->identifier_count > 1 ? 0 : request->identifier,
        .qos = request->qos,
        .retain = request->retain};
    if (request->share != NULL) {
        ret->share = *request->share;
        *request->share = NULL;
    }
    return true;
}

static bool queue_full(const struct session *session)
{
    const struct config_mqtt *limits = &session->worker->config->mqtt;
    return session->queue.count >= limits->max_queued_messages ||
           session->queue.bytes >= limits->max_queued_bytes;
}

/* By mqtt.queue_full. False: there is none for the one that comes. */
static bool make_room(struct session *session)
{
    if (session->worker->config->mqtt.queue_full == CONFIG_QUEUE_DROP_NEWEST)
        return !queue_full(session);
    while (queue_full(session)) {
        struct delivery *first = delivery_queue_first(&session->queue);
        if (first == NULL)
            return false;
        struct delivery oldest = *first;
        delivery_queue_pop(&session->queue);
        delivery_clear(&oldest);
        session->dropped++;
        session->worker->counters->dropped_queue_full++;
    }
    return true;
}

void session_enqueue(struct session *session, const struct delivery_request *request)
{
    struct counters *counters = session->worker->counters;
    struct delivery delivery;
    if (!make_room(session) || !keep(request, &delivery)) {
        session->dropped++;
        counters->dropped_queue_full++;
        return;
    }
    if (delivery_queue_push(&session->queue, &delivery) != STATUS_OK) {
        delivery_clear(&delivery);
        session->dropped++;
        counters->dropped_queue_full++;
    }
}

static bool output_has_room(const struct session *session)
{
    return connection_waiting(session->connection) < session->worker->config->mqtt.max_output_buffer;
}

/* As output_has_room(), for what a turn brings: all that waits may be of this turn, and the socket, which
   took everything so far, is asked at its end only. */
static bool output_takes(const struct session *session, size_t size)
{
    struct worker *worker = session->worker;
    size_t most = worker->config->mqtt.max_output_buffer * UNTRIED_FACTOR;
    if (output_has_room(session))
        return true;
    if (session->connection->blocked || connection_waiting(session->connection) >= most ||
        worker->untried_bytes + size > WORKER_UNTRIED_BYTES)
        return false;
    worker->untried_bytes += size;
    return true;
}

static bool window_has_room(const struct session *session)
{
    return inflight_has_room(
        &session->inflight, session->inflight_limit, session->worker->config->mqtt.max_queued_bytes);
}

static inline void note_sent(struct delivery *slot)
{
    slot->sent_before = true;
    if (slot->share != NULL)
        delivery_share_sent(slot);
}

/* QoS 1 and 2: into the window, then out. False: no memory for it. */
static bool send_in_window(struct session *session, const struct delivery_request *request)
{
    struct delivery delivery;
    struct delivery *slot = NULL;
    if (!keep(request, &delivery))
        return false;
    if (inflight_add(&session->inflight, &delivery, &slot) != STATUS_OK) {
        delivery_clear(&delivery);
        return false;
    }
    if (send_publish(session, request, slot->packet_id, false))
        note_sent(slot);
    else
        inflight_release(&session->inflight, slot); /* as if it had been delivered [MQTT-3.1.2-25] */
    return true;
}

/* A session on its way in or out: what the rules of the move say. True: dealt with. */
static bool deliver_moving(struct session *session, const struct delivery_request *request)
{
    switch (session_move_verdict(
        session->move_in, session->move_out, request->peer, &request->view->meta, request->inherited)) {
    case SESSION_MOVE_DELIVER:
        return false;
    case SESSION_MOVE_DROP:
        return true;
    case SESSION_MOVE_HOLD:
        break;
    }
    uint8_t note[DELIVERY_NOTE_MAX];
    struct publication *object = object_of(request);
    if (object == NULL)
        session->worker->counters->dropped_queue_full++;
    else
        session_move_hold(
            session->move_in, request->peer, object, bytes_of(note, session_note_encode(request, note)));
    return true;
}

static inline void deliver(struct session *session, const struct delivery_request *request)
{
    bool connected = session->connection != NULL && !session->queueing;
    if (request->qos == 0) {
        if (connected && output_takes(session, request->view->payload.size)) {
            if (request->view->payload.size > OUTPUT_COPY_MAX)
                (void)object_of(request); /* without it the payload is copied */
            (void)send_publish(session, request, 0, false);
        } else if (connected) {
            session->worker->counters->dropped_qos0_output++;
        } else if (session->queueing || session->move_out != NULL ||
                   session->worker->config->mqtt.queue_qos0) {
            /* On its way in or out, it is connected as the client sees it. */
            session_enqueue(session, request);
        }
        return;
    }
    if (connected && session->queue.count == 0 && window_has_room(session) &&
        output_takes(session, request->view->payload.size) && send_in_window(session, request))
        return;
    session_enqueue(session, request);
}

/* Picked as this session: what a move knows of publications that go to all does not concern it. */
static void deliver_shared(struct session *session, const struct delivery_request *request)
{
    if (session->move_out == NULL) {
        deliver(session, request);
        return;
    }
    session_enqueue(session, request);
    session_move_wake(session->move_out);
}

void session_deliver(struct session *session, const struct delivery_request *request)
{
    if (session->move_in != NULL || session->move_out != NULL) {
        if (request->shared) {
            deliver_shared(session, request);
            return;
        }
        if (deliver_moving(session, request))
            return;
    }
    deliver(session, request);
}

void session_deliver_retained(struct session *session, const struct delivery_request *request)
{
    deliver(session, request);
}

/* From the queue and the window
 * ------------------------------------------------------------------------------- */

/* A request that stands for a kept delivery; borrows from it. */
static void request_of(const struct delivery *delivery, struct publication_view *view,
    struct publication **object, struct delivery_request *ret)
{
    *view = publication_view(delivery->publication);
    *object = delivery->publication;
    *ret = (struct delivery_request){.view = view,
        .object = object,
        .qos = delivery->qos,
        .retain = delivery->retain,
        .kept = true,
        .identifier = delivery->identifier,
        .identifiers = delivery->identifiers == NULL ? NULL : delivery->identifiers + 1,
        .identifier_count = delivery->identifiers == NULL ? 0 : delivery->identifiers[0]};
}

static void resend_publish(struct session *session, struct delivery *slot)
{
    struct publication_view view;
    struct publication *object;
    struct delivery_request request;
    request_of(slot, &view, &object, &request);
    if (send_publish(session, &request, slot->packet_id, slot->sent_before))
        note_sent(slot);
    else
        inflight_release(&session->inflight, slot); /* expired, or too large for the client as it is now */
}

/* The client's Receive Maximum holds for what is sent again, too [MQTT-3.3.4-9]. False: not all could go. */
static bool resend_some(struct session *session)
{
    struct inflight_window *window = &session->inflight;
    while (session->resend_left > 0) {
        if (window->count - session->resend_left >= session->window_limit || !output_has_room(session))
            return false;
        struct delivery *slot = inflight_from(window, session->resend_id);
        assert(slot != NULL);
        session->resend_id = inflight_id_after(slot->packet_id);
        if (slot->state != DELIVERY_PUBLISHED)
            continue;
        session->resend_left--;
        resend_publish(session, slot);
    }
    session->inflight_limit = session->window_limit;
    return true;
}

void session_pump(struct session *session)
{
    if (session->connection == NULL || session->queueing ||
        (session->resend_left > 0 && !resend_some(session)))
        return;
    struct delivery *first;
    while ((first = delivery_queue_first(&session->queue)) != NULL && output_has_room(session)) {
        struct publication_view view;
        struct publication *object;
        struct delivery_request request;
        if (first->qos > 0 && !window_has_room(session))
            return;
        struct delivery delivery = *first;
        delivery_queue_pop(&session->queue);
        struct delivery *slot = NULL;
        if (delivery.qos > 0 && inflight_add(&session->inflight, &delivery, &slot) != STATUS_OK) {
            session->worker->counters->dropped_queue_full++;
            delivery_clear(&delivery);
            continue;
        }
        request_of(&delivery, &view, &object, &request);
        bool sent = send_publish(session, &request, slot == NULL ? 0 : slot->packet_id, false);
        if (slot == NULL)
            delivery_clear(&delivery);
        else if (sent)
            note_sent(slot);
        else
            inflight_release(&session->inflight, slot);
    }
}

static void send_pubrel(struct session *session, uint16_t packet_id, enum mqtt_reason reason)
{
    uint8_t *to = connection_reserve(session->connection, 8);
    if (to == NULL)
        return; /* the client or a reconnect will ask again */
    size_t size =
        mqtt_encode_acknowledgement(to, (enum mqtt_version)session->version, MQTT_PUBREL, packet_id, reason);
    connection_unreserve(session->connection, 8 - size);
    session->worker->counters->packets_sent++;
}

void session_resend(struct session *session)
{
    session->resend_left = 0;
    session->resend_id = session->inflight.first_id;
    for (uint32_t i = 0; i < session->inflight.span; i++) {
        struct delivery *slot = inflight_at(&session->inflight, i);
        if (slot->state == DELIVERY_RELEASED)
            send_pubrel(session, slot->packet_id, MQTT_SUCCESS);
        if (slot->state == DELIVERY_PUBLISHED)
            session->resend_left++;
    }
    session->inflight_limit = session->resend_left > 0 ? 0 : session->window_limit;
}

/* Acknowledged before it was sent again: the client had it from its last connection. */
static void note_early(struct session *session, const struct delivery *slot)
{
    const struct delivery *next = inflight_from(&session->inflight, session->resend_id);
    uint16_t ahead = (uint16_t)(slot->packet_id - next->packet_id);
    if (slot->state == DELIVERY_PUBLISHED && ahead < INFLIGHT_SPAN_MAX)
        session->resend_left--;
    if (session->resend_left == 0)
        session->inflight_limit = session->window_limit;
}

/* The client's acknowledgements
 * ------------------------------------------------------------------------------- */

static bool misplaced(struct session *session, const char *text)
{
    session->worker->counters->protocol_errors++;
    connection_close(session->connection, MQTT_PROTOCOL_ERROR, text);
    return false;
}

static void on_pubrec(
    struct session *session, struct delivery *slot, const struct mqtt_acknowledgement *received)
{
    if (slot == NULL) {
        send_pubrel(session, received->packet_id, MQTT_PACKET_IDENTIFIER_NOT_FOUND);
    } else if ((unsigned)received->reason >= 0x80) {
        inflight_release(&session->inflight, slot); /* [MQTT-4.3.3-4] */
    } else {
        inflight_received(&session->inflight, slot);
        send_pubrel(session, slot->packet_id, MQTT_SUCCESS);
    }
}

bool session_on_acknowledgement(
    struct session *session, uint8_t type, const struct mqtt_acknowledgement *received)
{
    struct delivery *slot = inflight_find(&session->inflight, received->packet_id);
    if (type == MQTT_PUBREC) {
        if (slot != NULL && slot->qos != 2)
            return misplaced(session, "PUBREC for a QoS 1 publication");
        if (slot != NULL && session->resend_left > 0)
            note_early(session, slot);
        on_pubrec(session, slot, received);
    } else if (slot != NULL) { /* an unknown one is late or doubled: nothing to do */
        if (slot->qos != (type == MQTT_PUBACK ? 1 : 2))
            return misplaced(session, "acknowledgement of the wrong kind for its QoS");
        if (type == MQTT_PUBACK && session->resend_left > 0)
            note_early(session, slot);
        if (type == MQTT_PUBACK || slot->state == DELIVERY_RELEASED)
            inflight_release(&session->inflight, slot);
    }
    if (session_has_more(session))
        session_pump(session);
    return true;
}
