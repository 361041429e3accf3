/*
 * Retained messages to new subscriptions: collected when their SUBACK is out, a page per turn, skipping what
 * came live meanwhile [MQTT-3.3.1-6, -9, -10, -11]. Worker process. Never more at once than the client's
 * output takes.
 */
#include "node/connection.h"
#include "node/worker_context.h"

#include "shared/log.h"

#include <stdlib.h>

#define PAGE_MESSAGES 64   /* per walk and turn */
#define PAGE_NODES    2048 /* visited per walk and turn */

struct retained_delivery {
    struct list lists; /* on worker->pumping */
    struct session *session;
    struct session_subscription *subscription;
    struct retained_walk *walk;
};

static void delivery_end(struct retained_delivery *delivery)
{
    list_remove(&delivery->lists);
    retained_walk_free(&delivery->walk);
    free(delivery);
}

void retained_delivery_start(struct session *session, struct session_subscription *subscription)
{
    struct worker *worker = session->worker;
    char filter[65536];
    size_t size = topic_filter_text(subscription->subscription.filter, filter, sizeof filter);
    struct retained_delivery *delivery = calloc(1, sizeof *delivery);
    if (delivery != NULL) {
        delivery->session = session;
        delivery->subscription = subscription;
        delivery->walk = retained_walk_new(worker->retained, bytes_of(filter, size));
        list_init(&delivery->lists);
    }
    if (delivery == NULL || delivery->walk == NULL) {
        log_error("out of memory: client %.*s gets no retained messages for a new subscription",
            (int)session->client_id_size, session->client_id);
        free(delivery);
        return;
    }
    list_append(&worker->pumping, &delivery->lists);
}

void retained_delivery_cancel(
    struct worker *worker, const struct session *session, const struct session_subscription *subscription)
{
    list_for_each(&worker->pumping, element, following)
    {
        struct retained_delivery *delivery = list_entry(element, struct retained_delivery, lists);
        if (delivery->session == session && (subscription == NULL || delivery->subscription == subscription))
            delivery_end(delivery);
    }
}

static void deliver(struct retained_delivery *delivery, const struct retained_found *found)
{
    const struct subscription *subscription = &delivery->subscription->subscription;
    if (found->applied > delivery->subscription->retained_applied)
        return; /* it came live, after the subscription was made */
    struct publication_view view = publication_view(found->message);
    if (subscription->no_local && view.meta.publisher == delivery->session->hash)
        return;
    struct publication *object = found->message;
    struct delivery_request request = {.view = &view,
        .object = &object,
        .qos = view.meta.qos < subscription->qos ? view.meta.qos : subscription->qos,
        .retain = true,
        .identifier = subscription->identifier};
    session_deliver_retained(delivery->session, &request);
}

/* One page. False: the walk is over. */
static bool delivery_turn(struct retained_delivery *delivery)
{
    struct session *session = delivery->session;
    if (session->connection == NULL)
        return false;
    /* A slow client's queue is for what comes live: the walk waits until there is room. */
    const struct config_mqtt *limits = &session->worker->config->mqtt;
    if (connection_waiting(session->connection) > limits->max_output_buffer / 2 ||
        session->queue.count > limits->max_queued_messages / 2)
        return true;
    struct retained_found found[PAGE_MESSAGES];
    bool more = false;
    uint32_t capacity =
        limits->max_queued_messages / 2 < PAGE_MESSAGES ? limits->max_queued_messages / 2 + 1 : PAGE_MESSAGES;
    uint32_t count = retained_walk_next(delivery->walk, found, capacity, PAGE_NODES, &more);
    for (uint32_t i = 0; i < count; i++)
        deliver(delivery, &found[i]);
    return more;
}

void retained_delivery_turn(struct worker *worker)
{
    if (list_empty(&worker->pumping))
        return;
    bus_drain(worker->bus); /* what a peer has acknowledged is visible here [DESIGN: retained] */
    list_for_each(&worker->pumping, element, following)
    {
        struct retained_delivery *delivery = list_entry(element, struct retained_delivery, lists);
        if (!delivery_turn(delivery))
            delivery_end(delivery);
    }
}
