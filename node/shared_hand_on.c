/*
 * What members of shared groups leave behind goes to others, here or at peers: when a client or its session
 * goes, when it unsubscribes, and when a peer dies with what this worker had picked it for. Worker process.
 */
#include "cluster/share_copies.h"
#include "cluster/share_record.h"
#include "node/session.h"
#include "node/shared_delivery_private.h"
#include "node/worker_context.h"

#include "shared/log.h"

#include <assert.h>
#include <stdlib.h>

/* On its way to somebody whose lane is full. */
struct waiting_share {
    struct list link;
    struct topic_group *group;       /* held */
    struct publication *publication; /* one reference */
    struct share_source source;      /* settled once it lies there */
    unsigned hops;
};

/* To others
 * ------------------------------------------------------------------------------------------------------- */

static bool wait_for_room(struct worker *worker, struct topic_group *group, unsigned hops,
    struct publication *publication, struct share_source *source)
{
    struct waiting_share *waiting = malloc(sizeof *waiting);
    if (waiting == NULL)
        return false;
    topic_index_hold_group(group);
    *waiting = (struct waiting_share){
        .group = group, .publication = publication_ref(publication), .source = *source, .hops = hops};
    source->number = 0;
    list_append(&worker->shared.waiting, &waiting->link);
    return true;
}

static void waiting_free(struct worker *worker, struct waiting_share *waiting)
{
    list_remove(&waiting->link);
    if (waiting->source.number != 0)
        share_copies_settle(
            worker->copies, waiting->source.peer, waiting->source.incarnation, waiting->source.number);
    topic_index_unhold_group(worker->index, waiting->group);
    publication_unref(&waiting->publication);
    free(waiting);
}

/* Into the peer's lane, for that one pick alone. False: it has no room. */
static bool send_on(struct worker *worker, struct topic_group *group, unsigned slot, unsigned hops,
    struct publication *publication)
{
    struct publication_view view = publication_view(publication);
    uint64_t number = share_number(worker, &view, slot);
    worker->shared.record_size = 0;
    if (!share_record_add(worker, group, slot, hops, number))
        return false;
    view.shares = share_record_done(&worker->shared);
    view.meta.shares_only = true;
    if (acceptance_offer(worker->acceptance, &view, UINT64_C(1) << slot, 0, NULL, 0) == ACCEPTANCE_STALLED)
        return false;
    if (number != 0)
        share_copies_keep(worker->copies, slot, number, group, hops, publication);
    return true;
}

bool share_hand_on(struct worker *worker, struct topic_group *group, unsigned hops,
    struct publication *publication, bool connected, struct share_source *source)
{
    if (hops >= SHARE_HOPS_MAX)
        return false;
    struct publication_view view = publication_view(publication);
    struct share_query query = share_query_for(worker, &view);
    query.connected = connected;
    query.avoid = group->peers == 0 ? 0 : share_unreachable(worker, &view, group->peers);
    unsigned slot = share_pick_slot(group, &query);
    if (slot == SHARE_NOBODY)
        return false;
    if (slot == query.self) {
        struct share_source own = {.peer = query.self};
        struct publication *object = publication;
        share_deliver(worker, group, hops + 1, &own, &view, &object);
    } else if (!send_on(worker, group, slot, hops + 1, publication)) {
        return wait_for_room(worker, group, hops, publication, source);
    }
    share_picked(group, &query, slot);
    worker->counters->shared_redelivered++;
    return true;
}

void shared_retry(struct worker *worker)
{
    struct list again;
    list_init(&again);
    list_splice(&again, &worker->shared.waiting);
    while (!list_empty(&again)) {
        struct waiting_share *it = list_entry(again.next, struct waiting_share, link);
        if (!share_hand_on(worker, it->group, it->hops, it->publication, false, &it->source))
            worker->counters->shared_dropped++;
        waiting_free(worker, it);
    }
}

/* Peers that die
 * -------------------------------------------------------------------------------------------------- */

/* One of QoS 2 that comes back from a dead peer has reached nobody; from one that lives it may. */
static void on_orphaned(
    void *context, struct topic_group *group, unsigned hops, struct publication *publication, bool alive)
{
    struct worker *worker = context;
    struct share_source nobody = {.number = 0};
    if (alive && publication->meta.qos == 2)
        return;
    if (!share_hand_on(worker, group, hops, publication, alive, &nobody) && !alive)
        worker->counters->shared_dropped++;
}

void shared_tick(struct worker *worker)
{
    uint64_t given_up = acceptance_given_up(worker->acceptance);
    bus_for_each_peer(given_up & ~worker->shared.given_up, peer) share_copies_give_up(worker->copies, peer);
    worker->shared.given_up = given_up;
}

enum status shared_open(struct worker *worker)
{
    list_init(&worker->shared.waiting);
    worker->shared.random = bus_origin(worker->bus).incarnation;
    struct share_copies_settings settings = {.bus = worker->bus,
        .index = worker->index,
        .bytes_max = worker->config->bus.shared_copies,
        .context = worker,
        .orphaned = on_orphaned};
    return share_copies_new(&settings, &worker->copies);
}

void shared_done(struct worker *worker)
{
    while (worker->copies != NULL && !list_empty(&worker->shared.waiting))
        waiting_free(worker, list_entry(worker->shared.waiting.next, struct waiting_share, link));
    share_copies_free(&worker->copies);
    free(worker->shared.targets);
    free(worker->shared.record);
}

/* Members that go
 * -------------------------------------------------------------------------------------------------- */

void shared_set_connected(struct session *session, bool connected)
{
    if (session->shared_count == 0)
        return;
    list_for_each(&session->subscriptions, element, following)
    {
        struct subscription *it = &list_entry(element, struct session_subscription, siblings)->subscription;
        if (it->group == NULL)
            continue;
        topic_index_set_connected(it, connected);
        enum status status = routes_want(session->worker->routes, it->filter, it->group, 0);
        if (status != STATUS_OK)
            log_error("client %.*s: its part in a shared group could not be announced: %s",
                (int)session->client_id_size, session->client_id, status_text(status));
    }
}

/* May anybody else get it? */
static bool may_go(const struct delivery *delivery)
{
    return delivery->share != NULL && delivery->publication != NULL &&
           (delivery->qos < 2 || !delivery->sent_before);
}

/* `only`: of this group; NULL: of all. */
static bool try_hand_on(
    struct session *session, struct delivery *delivery, const struct topic_group *only, bool connected)
{
    struct delivery_share *share = delivery->share;
    if (!may_go(delivery) || (only != NULL && share->group != only))
        return false;
    struct share_source source = {share->incarnation, share->number, share->peer};
    bool gone =
        share_hand_on(session->worker, share->group, share->hops, delivery->publication, connected, &source);
    share->number = source.number;
    return gone;
}

static void hand_on_inflight(struct session *session, bool connected)
{
    struct inflight_window *window = &session->inflight;
    for (uint32_t i = 0; i < window->span; i++) {
        struct delivery *slot = inflight_at(window, i);
        if (!try_hand_on(session, slot, NULL, connected))
            continue;
        /* A hole at the front moves the window: look at this place again. */
        uint32_t span = window->span;
        inflight_release(window, slot);
        i -= span - window->span;
    }
}

/* Once through the queue: what stays keeps its order. */
static void hand_on_queue(struct session *session, const struct topic_group *only, bool connected)
{
    struct delivery_queue *queue = &session->queue;
    for (uint32_t left = queue->count; left > 0; left--) {
        struct delivery delivery = *delivery_queue_first(queue);
        delivery_queue_pop(queue);
        if (!try_hand_on(session, &delivery, only, connected) &&
            delivery_queue_push(queue, &delivery) == STATUS_OK)
            continue;
        delivery_clear(&delivery);
    }
}

/* Calls it for everything that the session still has of shared groups. */
static void for_each_share(struct session *session, void (*call)(struct delivery *delivery))
{
    for (uint32_t i = 0; i < session->inflight.span; i++) {
        struct delivery *slot = inflight_at(&session->inflight, i);
        if (slot->share != NULL)
            call(slot);
    }
    for (uint32_t i = 0; i < session->queue.count; i++) {
        struct delivery *it = delivery_queue_at(&session->queue, i);
        if (it->share != NULL)
            call(it);
    }
}

static void settle(struct delivery *delivery)
{
    delivery_share_settle(delivery->share);
}

static void count_lost(struct delivery *delivery)
{
    delivery->share->worker->counters->shared_dropped++;
    delivery_share_end(&delivery->share);
}

static void forget(struct delivery *delivery)
{
    delivery_share_end(&delivery->share);
}

void shared_hand_on_away(struct session *session)
{
    if (!session->has_shares)
        return;
    hand_on_inflight(session, true);
    hand_on_queue(session, NULL, true);
    for_each_share(session, settle);
}

void shared_hand_on_rest(struct session *session)
{
    if (!session->has_shares)
        return;
    hand_on_inflight(session, false);
    hand_on_queue(session, NULL, false);
    for_each_share(session, count_lost);
}

void shared_hand_on_queued(struct session *session, const struct topic_group *group)
{
    if (session->has_shares)
        hand_on_queue(session, group, false);
}

void shared_forget(struct session *session)
{
    if (session->has_shares)
        for_each_share(session, forget);
}

struct delivery_share *shared_restore(struct session *session, uint64_t group_hash, unsigned hops)
{
    list_for_each(&session->subscriptions, element, following)
    {
        const struct subscription *it =
            &list_entry(element, struct session_subscription, siblings)->subscription;
        if (it->group == NULL || it->group->hash != group_hash)
            continue;
        session->has_shares = true;
        struct share_source own = {.peer = bus_self(session->worker->bus)};
        return share_new(session->worker, it->group, hops, &own);
    }
    return NULL;
}
