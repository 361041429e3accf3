/*
 * Retained messages to new subscriptions: collected when their SUBACK is out, a page per session and turn,
 * skipping what came live meanwhile [MQTT-3.3.1-6, -9, -10, -11]. Worker process. Never more at once than the
 * client's output takes: one that does not read costs nothing but its place on a list.
 */
#include "node/connection.h"
#include "node/worker_context.h"
#include "node/worker_sys.h"

#include "shared/clock.h"
#include "shared/log.h"

#include <stdlib.h>

#define PAGE_MESSAGES 64   /* per session and turn */
#define PAGE_NODES    2048 /* visited per walk and turn */
#define PAGE_WALKS    16   /* per session and turn: most filters have few messages */

/* One subscription whose retained messages are due; on session->retained_due, the first is being walked. */
struct retained_delivery {
    struct list lists;
    struct session_subscription *subscription;
    struct retained_walk *walk; /* NULL: not begun */
};

static void delivery_end(struct retained_delivery *delivery)
{
    list_remove(&delivery->lists);
    if (delivery->subscription->retained_due == delivery)
        delivery->subscription->retained_due = NULL;
    if (delivery->walk != NULL)
        retained_walk_free(&delivery->walk);
    free(delivery);
}

static void no_memory(const struct session *session)
{
    log_error("out of memory: client %.*s gets no retained messages for a new subscription",
        (int)session->client_id_size, session->client_id);
}

static bool open_list(struct session *session)
{
    if (session->retained_due != NULL)
        return true;
    session->retained_due = malloc(sizeof *session->retained_due);
    if (session->retained_due == NULL)
        return false;
    list_init(session->retained_due);
    return true;
}

/* True if nothing is due, and then there is no list. */
static bool close_list(struct session *session)
{
    if (session->retained_due != NULL && !list_empty(session->retained_due))
        return false;
    free(session->retained_due);
    session->retained_due = NULL;
    return true;
}

void retained_delivery_start(struct session *session, struct session_subscription *subscription)
{
    if (subscription->retained_due != NULL)
        return; /* one that has not begun yet does for both */
    struct retained_delivery *delivery = calloc(1, sizeof *delivery);
    if (delivery == NULL || !open_list(session)) {
        no_memory(session);
        free(delivery);
        return;
    }
    delivery->subscription = subscription;
    subscription->retained_due = delivery;
    list_append(session->retained_due, &delivery->lists);
    if (list_empty(&session->aside))
        list_append(&session->worker->pumping, &session->aside);
}

void retained_delivery_cancel(struct session *session, struct session_subscription *subscription)
{
    if (close_list(session))
        return;
    struct retained_delivery *first =
        list_entry(session->retained_due->next, struct retained_delivery, lists);
    if (subscription->retained_due != NULL && subscription->retained_due != first)
        delivery_end(subscription->retained_due);
    if (first->subscription == subscription)
        delivery_end(first);
}

void retained_delivery_cancel_all(struct session *session)
{
    while (!close_list(session))
        delivery_end(list_entry(session->retained_due->next, struct retained_delivery, lists));
    list_remove(&session->aside);
}

/* By retained.expiry; an interval of its own is looked at when it is sent. */
static bool outlived(const struct worker *worker, const struct publication_view *view)
{
    uint64_t lifetime_ms = (uint64_t)worker->config->retained.expiry_s * 1000;
    return lifetime_ms != 0 && view->meta.expires_ms == 0 && view->topic.data[0] != '$' &&
           retained_expires_ms(&view->meta, lifetime_ms) <= clock_real_us() / 1000;
}

static void deliver(
    struct session *session, const struct session_subscription *to, const struct retained_found *found)
{
    const struct subscription *subscription = &to->subscription;
    if (found->applied > to->retained_applied)
        return; /* it came live, after the subscription was made */
    struct publication_view view = publication_view(found->message);
    if (outlived(session->worker, &view))
        return; /* the sweep has not met it yet */
    if (subscription->no_local && view.meta.publisher == session->hash)
        return;
    if (subscription->check_read && !session_may_read(session, view.topic))
        return;
    struct publication *object = found->message;
    struct delivery_request request = {.view = &view,
        .object = &object,
        .qos = view.meta.qos < subscription->qos ? view.meta.qos : subscription->qos,
        .retain = true,
        .identifier = subscription->identifier};
    session_deliver_retained(session, &request);
}

static bool walk_begin(struct session *session, struct retained_delivery *delivery)
{
    char filter[65536];
    size_t size = topic_filter_text(delivery->subscription->subscription.filter, filter, sizeof filter);
    struct retained *retained = worker_retained_of(session->worker, bytes_of(filter, size));
    delivery->walk = retained_walk_new(retained, bytes_of(filter, size));
    /* From now on a new SUBSCRIBE needs a walk of its own. */
    delivery->subscription->retained_due = NULL;
    return delivery->walk != NULL;
}

/* Room for so many messages in output and queue: a slow client's queue is for what comes live. */
static uint32_t room_of(const struct session *session)
{
    const struct config_mqtt *limits = &session->worker->config->mqtt;
    uint32_t queue = limits->max_queued_messages / 2 + 1;
    if (session->connection == NULL ||
        connection_waiting(session->connection) > limits->max_output_buffer / 2 ||
        session->queue.count >= queue || session->queue.bytes > limits->max_queued_bytes / 2)
        return 0;
    queue -= session->queue.count;
    return queue < PAGE_MESSAGES ? queue : PAGE_MESSAGES;
}

/* A page of one walk. Returns the messages that it took; *ret_more: it goes on. */
static uint32_t page(
    struct session *session, struct retained_delivery *delivery, uint32_t room, bool *ret_more)
{
    *ret_more = false;
    if (delivery->walk == NULL && !walk_begin(session, delivery)) {
        no_memory(session);
        return 0;
    }
    struct retained_found found[PAGE_MESSAGES];
    uint32_t count = retained_walk_next(delivery->walk, found, room, PAGE_NODES, ret_more);
    for (uint32_t i = 0; i < count; i++)
        deliver(session, delivery->subscription, &found[i]);
    return count;
}

/* True if it got on. */
static bool session_turn(struct session *session)
{
    uint32_t taken = 0, walks = 0;
    uint32_t room = room_of(session);
    bool more = room == 0;
    while (!more && taken < room && walks < PAGE_WALKS && !close_list(session)) {
        struct retained_delivery *delivery =
            list_entry(session->retained_due->next, struct retained_delivery, lists);
        taken += page(session, delivery, room - taken, &more);
        walks++;
        if (!more)
            delivery_end(delivery);
    }
    return walks > 0;
}

bool retained_delivery_turn(struct worker *worker)
{
    if (list_empty(&worker->pumping))
        return false;
    bus_drain(worker->bus); /* what a peer has acknowledged is visible here [DESIGN: retained] */
    bool got_on = false;
    struct list sessions;
    list_init(&sessions);
    list_splice(&sessions, &worker->pumping);
    while (!list_empty(&sessions)) {
        struct session *session = list_entry(sessions.next, struct session, aside);
        list_remove(&session->aside);
        got_on |= session_turn(session);
        if (!close_list(session))
            list_append(&worker->pumping, &session->aside);
    }
    return got_on;
}
