/*
 * Where a publication goes: one match gives the bus peers and the local subscriptions; several subscriptions
 * of one session become one delivery at the highest QoS with all their identifiers [MQTT-3.3.4-2, -3]. Worker
 * process. Hot path: no allocation while the target table is large enough.
 */
#include "node/connection.h"
#include "node/shared_delivery.h"
#include "node/worker_context.h"

#include "shared/log.h"

#include <assert.h>
#include <stdlib.h>

/* Retained first [MQTT-3.3.1-5]: a subscriber that comes now gets it from the table or live, never neither.
 */
static void retain(struct worker *worker, const struct publication_view *view, struct publication **object)
{
    if (*object == NULL)
        *object = publication_new(view);
    if (*object == NULL) {
        log_error("out of memory: a retained message of %zu bytes is not kept", view->payload.size);
        return;
    }
    enum status status = retained_put(worker->retained, *object);
    if (status != STATUS_OK && status != STATUS_EXISTS)
        log_error("a retained message could not be kept: %s", status_text(status));
    retained_count_anew(worker);
}

static bool subscription_wants(const struct subscription *subscription, const struct publication_view *view)
{
    const struct session *session = subscription->subscriber;
    if (subscription->no_local && view->meta.publisher == session->hash)
        return false; /* [MQTT-3.8.3-3] */
    if (__builtin_expect(!subscription->check_read, 1) || session_may_read(session, view->topic))
        return true;
    session->worker->counters->dropped_denied++;
    return false;
}

static uint8_t lower_qos(uint8_t a, uint8_t b)
{
    return a < b ? a : b;
}

/* One filter matches: each of its subscriptions is one delivery. */
static bool deliver_filter(const struct topic_filter *filter, struct delivery_request *request)
{
    const struct publication_view *view = request->view;
    bool durable = false;
    /* A delivery may end a connection but never a session, so that the array stands still. */
    for (uint32_t i = 0; i < filter->count; i++) {
        const struct subscription *subscription = filter->subscriptions[i];
        if (!subscription_wants(subscription, view))
            continue;
        struct session *session = subscription->subscriber;
        request->qos = lower_qos(view->meta.qos, subscription->qos);
        request->retain = view->meta.retain && subscription->retain_as_published; /* [MQTT-3.3.1-12, -13] */
        request->identifier = subscription->identifier;
        request->inherited = subscription->inherited;
        durable |= session_durable(session);
        session_deliver(session, request);
    }
    return durable;
}

static bool targets_grow(struct worker *worker)
{
    uint32_t capacity = worker->route_target_capacity == 0 ? 64 : worker->route_target_capacity * 2;
    struct route_target *targets = realloc(worker->route_targets, capacity * sizeof *targets);
    if (targets == NULL)
        return false;
    worker->route_targets = targets;
    worker->route_target_capacity = capacity;
    return true;
}

/* A Subscription Identifier of the target. Walking the session's subscriptions afterwards would let a client
 * with many of them slow down every publication. */
static void note_identifier(struct worker *worker, struct route_target *target, uint32_t identifier)
{
    if (worker->route_identifier_count == worker->route_identifier_capacity) {
        uint32_t capacity =
            worker->route_identifier_capacity == 0 ? 64 : worker->route_identifier_capacity * 2;
        struct route_identifier *grown = realloc(worker->route_identifiers, capacity * sizeof *grown);
        if (grown == NULL)
            return;
        worker->route_identifiers = grown;
        worker->route_identifier_capacity = capacity;
    }
    worker->route_identifiers[worker->route_identifier_count++] =
        (struct route_identifier){.identifier = identifier, .next = target->identifiers};
    target->identifiers = worker->route_identifier_count;
}

/* Adds a subscription to its session's target, or makes one. */
static void target_add(struct worker *worker, uint32_t *count, const struct subscription *subscription,
    const struct publication_view *view)
{
    struct session *session = subscription->subscriber;
    uint8_t qos = lower_qos(view->meta.qos, subscription->qos);
    if (session->match_number == worker->match_number) {
        struct route_target *target = &worker->route_targets[session->match_target];
        target->qos = qos > target->qos ? qos : target->qos;
        target->retain_as_published |= subscription->retain_as_published;
        target->inherited |= subscription->inherited;
        if (subscription->identifier != 0)
            note_identifier(worker, target, subscription->identifier);
        return;
    }
    if (*count == worker->route_target_capacity && !targets_grow(worker)) {
        worker->counters->dropped_queue_full++;
        return;
    }
    session->match_number = worker->match_number;
    session->match_target = *count;
    worker->route_targets[*count] = (struct route_target){.session = session,
        .qos = qos,
        .retain_as_published = subscription->retain_as_published,
        .inherited = subscription->inherited};
    if (subscription->identifier != 0)
        note_identifier(worker, &worker->route_targets[*count], subscription->identifier);
    ++*count;
}

/* Those that were noted, as many as a delivery takes. */
#define IDENTIFIERS_MAX 64
static uint32_t collect_identifiers(
    const struct worker *worker, const struct route_target *target, uint32_t *identifiers)
{
    uint32_t count = 0;
    for (uint32_t i = target->identifiers; i != 0 && count < IDENTIFIERS_MAX;) {
        const struct route_identifier *noted = &worker->route_identifiers[i - 1];
        identifiers[count++] = noted->identifier;
        i = noted->next;
    }
    return count;
}

/* Several filters match: merged by session first. */
static bool deliver_merged(
    struct worker *worker, const struct topic_match *match, struct delivery_request *request)
{
    uint32_t count = 0;
    bool durable = false;
    worker->match_number++;
    worker->route_identifier_count = 0;
    for (uint32_t i = 0; i < match->count; i++) {
        const struct topic_filter *filter = match->filters[i];
        for (uint32_t k = 0; k < filter->count; k++) {
            if (subscription_wants(filter->subscriptions[k], request->view))
                target_add(worker, &count, filter->subscriptions[k], request->view);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct route_target *target = &worker->route_targets[i];
        uint32_t identifiers[IDENTIFIERS_MAX];
        request->qos = target->qos;
        request->retain = request->view->meta.retain && target->retain_as_published;
        request->inherited = target->inherited;
        request->identifier_count = collect_identifiers(worker, target, identifiers);
        request->identifier = request->identifier_count == 1 ? identifiers[0] : 0;
        request->identifiers = identifiers;
        durable |= session_durable(target->session);
        session_deliver(target->session, request);
    }
    request->identifiers = NULL;
    request->identifier_count = 0;
    return durable;
}

static bool deliver_local(struct worker *worker, const struct topic_match *match, unsigned peer,
    const struct publication_view *view, struct publication **object)
{
    struct encoded_publish encoded;
    struct delivery_request request = {.view = view, .object = object, .peer = peer};
    uint32_t receivers = 0;
    uint32_t filters = 0;
    const struct topic_filter *only = NULL;
    for (uint32_t i = 0; i < match->count; i++) {
        receivers += match->filters[i]->count;
        if (match->filters[i]->count > 0) {
            only = match->filters[i];
            filters++;
        }
    }
    if (receivers == 0)
        return false;
    if (receivers > 1) {
        memset(&encoded, 0, sizeof encoded);
        request.encoded = &encoded;
        worker->encode_used = 0;
    }
    return filters == 1 ? deliver_filter(only, &request) : deliver_merged(worker, match, &request);
}

enum acceptance_result publication_route(
    struct worker *worker, struct publication_view *view, void *taker, uint64_t ticket, bool *ret_matched)
{
    struct topic_match match = topic_index_match(worker->index, view->topic);
    uint64_t peers = 0, durable = 0;
    bool local = false, groups = false;
    for (uint32_t i = 0; i < match.count; i++) {
        peers |= match.filters[i]->peers;
        durable |= match.filters[i]->durable_peers;
        local |= match.filters[i]->count > 0;
        groups |= match.filters[i]->groups != NULL;
    }
    *ret_matched = peers != 0 || local;
    if (groups)
        *ret_matched |= shared_pick(worker, &match, view, &peers, &durable) > 0;
    enum acceptance_result result = ACCEPTANCE_DONE;
    enum retained_verdict retained = RETAINED_NOTHING;
    if (view->meta.retain)
        retained = retained_decide(worker, view);
    if (retained == RETAINED_KEEP) { /* by every worker */
        peers |= bus_live_targets(worker->bus);
        view->meta.stamp = bus_stamp(worker->bus);
    }
    if (peers != 0) {
        result = acceptance_offer(worker->acceptance, view, peers, durable, taker, ticket);
        if (result == ACCEPTANCE_STALLED || result == ACCEPTANCE_REFUSED)
            return result;
    } else {
        view->meta.origin = bus_origin(worker->bus);
        view->meta.sequence = bus_next_sequence(worker->bus);
    }
    struct publication *object = NULL;
    if (retained == RETAINED_KEEP)
        retain(worker, view, &object);
    else if (retained == RETAINED_FULL)
        worker->counters->retained_refused++;
    if (local)
        deliver_local(worker, &match, bus_self(worker->bus), view, &object);
    if (groups)
        shared_routed(worker, view, &object);
    publication_unref(&object);
    return result;
}

/* False: it is a double. */
static bool deliver_ordinary(struct worker *worker, unsigned peer, const struct publication_view *view,
    struct publication **object, bool *ret_durable)
{
    if (peer < worker->child->workers)
        session_moves_heard(worker->moves, peer, &view->meta);
    if (view->meta.will != 0 && wills_seen(worker->wills, &view->meta))
        return false;
    if (view->meta.retain && view->meta.stamp != 0) { /* without a stamp it is not to be kept */
        bus_stamp_heard(worker->bus, view->meta.stamp);
        retain(worker, view, object);
    }
    struct topic_match match = topic_index_match(worker->index, view->topic);
    *ret_durable = match.count > 0 && deliver_local(worker, &match, peer, view, object);
    return true;
}

bool publication_deliver(void *context, unsigned peer, const struct publication_view *view)
{
    struct worker *worker = context;
    struct publication *object = NULL;
    bool durable = false;
    bool fresh = view->meta.shares_only || deliver_ordinary(worker, peer, view, &object, &durable);
    if (view->shares != NULL)
        shared_received(worker, peer, view, fresh, &object);
    publication_unref(&object);
    return durable;
}

void publication_deliver_here(struct worker *worker, const struct publication_view *view)
{
    struct topic_match match = topic_index_match(worker->index, view->topic);
    struct publication *object = NULL;
    if (match.count > 0)
        deliver_local(worker, &match, bus_self(worker->bus), view, &object);
    publication_unref(&object);
}
