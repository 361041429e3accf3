/*
 * A publication to shared groups: who is picked, and the delivery to local members. Nothing of this runs for
 * a publication that no group wants. Worker process.
 */
#include "node/shared_delivery.h"

#include "cluster/share_copies.h"
#include "cluster/share_record.h"
#include "node/shared_delivery_private.h"
#include "node/worker_context.h"

#include "shared/log.h"

#include <stdlib.h>

/* Larger ones travel in parts: room for a part will do. */
#define ROOM_MAX 16384u
/* So many members are looked at for one that can take it. */
#define CHOICES_MAX 64u

/* What a delivery keeps
 * -------------------------------------------------------------------------------------------- */

struct delivery_share *share_new(
    struct worker *worker, struct topic_group *group, unsigned hops, const struct share_source *source)
{
    struct delivery_share *share = malloc(sizeof *share);
    if (share == NULL) {
        if (source->number != 0)
            share_copies_settle(worker->copies, source->peer, source->incarnation, source->number);
        return NULL;
    }
    *share = (struct delivery_share){.worker = worker,
        .group = group,
        .incarnation = source->incarnation,
        .number = source->number,
        .peer = (uint8_t)source->peer,
        .hops = (uint8_t)hops};
    topic_index_hold_group(group);
    return share;
}

void delivery_share_settle(struct delivery_share *share)
{
    if (share->number != 0)
        share_copies_settle(share->worker->copies, share->peer, share->incarnation, share->number);
    share->number = 0;
}

void delivery_share_end(struct delivery_share **share)
{
    struct delivery_share *it = *share;
    *share = NULL;
    if (it == NULL)
        return;
    delivery_share_settle(it);
    topic_index_unhold_group(it->worker->index, it->group);
    free(it);
}

void delivery_share_sent(struct delivery *delivery)
{
    if (delivery->qos != 2)
        return;
    if (delivery->share->number != 0)
        delivery->share->worker->shared.settle_first = true;
    delivery_share_end(&delivery->share);
}

/* Picking
 * ------------------------------------------------------------------------------------------------------ */

static uint64_t next_random(struct shared_deliveries *shared)
{
    /* splitmix64: even is all it must be */
    uint64_t z = shared->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

struct share_query share_query_for(struct worker *worker, const struct publication_view *view)
{
    struct share_query query = {
        .strategy = worker->config->mqtt.shared_strategy, .self = bus_self(worker->bus)};
    if (query.strategy == SHARE_RANDOM)
        query.value = next_random(&worker->shared);
    else if (query.strategy == SHARE_HASH_CLIENTID)
        query.value = view->meta.publisher;
    else if (query.strategy == SHARE_HASH_TOPIC)
        query.value = keyed_hash_of(&worker->hash, view->topic);
    return query;
}

/* Peers of whom no copy is to be kept: one more would be too many, or they do not get what is sent. */
static uint64_t without_copy(const struct worker *worker)
{
    return share_copies_full(worker->copies) | acceptance_given_up(worker->acceptance);
}

uint64_t share_unreachable(const struct worker *worker, const struct publication_view *view, uint64_t peers)
{
    peers &= bus_live_targets(worker->bus);
    size_t size = view->topic.size + view->properties.size + view->payload.size + 256;
    uint64_t full = bus_full(worker->bus, peers, size < ROOM_MAX ? size : ROOM_MAX, BUS_ROOM_PUBLICATION);
    return full | (view->meta.qos > 0 ? without_copy(worker) : acceptance_given_up(worker->acceptance));
}

static bool record_grow(struct shared_deliveries *shared, size_t more)
{
    size_t capacity = shared->record_capacity == 0 ? 1024 : shared->record_capacity;
    while (capacity < shared->record_size + more)
        capacity *= 2;
    if (capacity == shared->record_capacity)
        return true;
    uint8_t *record = realloc(shared->record, capacity);
    if (record == NULL)
        return false;
    shared->record = record;
    shared->record_capacity = capacity;
    return true;
}

bool share_record_add(
    struct worker *worker, const struct topic_group *group, unsigned slot, unsigned hops, uint64_t number)
{
    struct shared_deliveries *shared = &worker->shared;
    struct share_pick pick = {.incarnation = bus_peer_origin(worker->bus, slot).incarnation,
        .number = number,
        .filter = topic_filter_bytes(group->filter),
        .group = bytes_of_text(group->name),
        .slot = (uint8_t)slot,
        .hops = (uint8_t)hops};
    if (!record_grow(shared, SHARE_HEAD_SIZE + SHARE_PICK_SIZE + pick.filter.size + pick.group.size))
        return false;
    uint8_t *to = shared->record + shared->record_size;
    if (shared->record_size == 0)
        to = share_record_begin(to, bus_origin(worker->bus).incarnation);
    shared->record_size = (size_t)(share_record_write(to, &pick) - shared->record);
    return true;
}

const uint8_t *share_record_done(struct shared_deliveries *shared)
{
    if (shared->record_size == 0)
        return NULL;
    share_record_end(shared->record, shared->record_size);
    return shared->record;
}

uint64_t share_number(struct worker *worker, const struct publication_view *view, unsigned slot)
{
    bool copied =
        view->meta.qos > 0 && slot < worker->child->workers && (without_copy(worker) >> slot & 1) == 0;
    return copied ? share_copies_number(worker->copies, slot) : 0;
}

static struct share_target *target_add(struct shared_deliveries *shared)
{
    if (shared->target_count == shared->target_capacity) {
        uint32_t capacity = shared->target_capacity == 0 ? 16 : shared->target_capacity * 2;
        struct share_target *targets = realloc(shared->targets, capacity * sizeof *targets);
        if (targets == NULL)
            return NULL;
        shared->targets = targets;
        shared->target_capacity = capacity;
    }
    return &shared->targets[shared->target_count];
}

/* False: nobody, or no memory. */
static bool pick_of_group(struct worker *worker, struct topic_group *group, const struct share_query *query,
    const struct publication_view *view, uint64_t *peers, uint64_t *durable)
{
    struct shared_deliveries *shared = &worker->shared;
    unsigned slot = share_pick_slot(group, query);
    if (slot == SHARE_NOBODY)
        return false;
    struct share_target *target = target_add(shared);
    if (target == NULL)
        return false;
    *target = (struct share_target){.group = group, .slot = slot};
    if (slot != query->self) {
        target->number = share_number(worker, view, slot);
        if (!share_record_add(worker, group, slot, 0, target->number))
            return false;
        uint64_t bit = UINT64_C(1) << slot;
        *peers |= bit;
        *durable |= group->durable_peers & bit;
    }
    shared->target_count++;
    return true;
}

uint32_t shared_pick(struct worker *worker, const struct topic_match *match, struct publication_view *view,
    uint64_t *peers, uint64_t *durable)
{
    struct shared_deliveries *shared = &worker->shared;
    struct share_query query = share_query_for(worker, view);
    shared->target_count = 0;
    shared->record_size = 0;
    uint64_t away = 0;
    for (uint32_t i = 0; i < match->count; i++) {
        for (const struct topic_group *group = match->filters[i]->groups; group != NULL; group = group->next)
            away |= group->peers;
    }
    query.avoid = away == 0 ? 0 : share_unreachable(worker, view, away);
    for (uint32_t i = 0; i < match->count; i++) {
        for (struct topic_group *group = match->filters[i]->groups; group != NULL; group = group->next) {
            bool somebody = group->count > 0 || group->peers != 0;
            if (somebody && !pick_of_group(worker, group, &query, view, peers, durable))
                worker->counters->shared_dropped++;
        }
    }
    view->shares = share_record_done(shared);
    return shared->target_count;
}

/* Local members
 * ------------------------------------------------------------------------------------------------ */

static bool queue_full(const struct session *session)
{
    const struct config_mqtt *limits = &session->worker->config->mqtt;
    return session->queue.count >= limits->max_queued_messages ||
           session->queue.bytes >= limits->max_queued_bytes;
}

static bool may_read(const struct subscription *member, const struct publication_view *view)
{
    return !member->check_read || session_may_read(member->subscriber, view->topic);
}

/* What it has not acknowledged: those who never do pile it up. */
static uint32_t backlog(const struct session *session)
{
    return session->inflight.count + session->queue.count;
}

/* For what another has left behind: who has least to do is likeliest to acknowledge it, before it is left
   behind once more and the limit of SHARE_HOPS_MAX comes near. From `first` on. */
static struct subscription *least_busy(
    struct topic_group *group, struct subscription *first, const struct publication_view *view)
{
    struct subscription *best = may_read(first, view) ? first : NULL;
    uint32_t count = group->connected > 0 ? group->connected : group->count;
    for (uint32_t i = 1; i < count && i < CHOICES_MAX; i++) {
        struct subscription *next = group->members[(first->position + i) % count];
        if (may_read(next, view) && (best == NULL || backlog(next->subscriber) < backlog(best->subscriber)))
            best = next;
    }
    return best;
}

/* The strategy's, unless that one may not read the topic, or its queue is full and the strategy leaves a
   choice: then the next that is better. NULL: nobody may read it. */
static struct subscription *choose_member(struct topic_group *group, const struct share_query *query,
    const struct publication_view *view, unsigned hops)
{
    struct subscription *first = share_pick_member(group, query);
    bool free_choice = query->strategy == SHARE_ROUND_ROBIN || query->strategy == SHARE_LOCAL;
    if (hops > 0 && free_choice)
        return least_busy(group, first, view);
    if (may_read(first, view) && !(free_choice && queue_full(first->subscriber)))
        return first;
    uint32_t count = group->connected > 0 ? group->connected : group->count;
    for (uint32_t i = 1; i < count && i < CHOICES_MAX; i++) {
        struct subscription *next = group->members[(first->position + i) % count];
        if (may_read(next, view) && !(free_choice && queue_full(next->subscriber)))
            return next;
    }
    return may_read(first, view) ? first : NULL;
}

void share_deliver(struct worker *worker, struct topic_group *group, unsigned hops,
    const struct share_source *source, const struct publication_view *view, struct publication **object)
{
    struct share_query query = share_query_for(worker, view);
    const struct subscription *member = choose_member(group, &query, view, hops);
    if (member == NULL) {
        worker->counters->dropped_denied++;
        if (source->number != 0)
            share_copies_settle(worker->copies, source->peer, source->incarnation, source->number);
        return;
    }
    struct session *session = member->subscriber;
    struct delivery_share *share = NULL;
    if (view->meta.qos > 0)
        share = share_new(worker, group, hops, source);
    if (share != NULL && session->connection == NULL)
        delivery_share_settle(share); /* kept by its session, like all that it waits for */
    struct delivery_request request = {.view = view,
        .object = object,
        .peer = source->peer,
        .qos = view->meta.qos < member->qos ? view->meta.qos : member->qos,
        .retain = view->meta.retain && member->retain_as_published,
        .identifier = member->identifier,
        .shared = true,
        .share = &share};
    session->has_shares = true;
    session_deliver(session, &request);
    delivery_share_end(&share); /* unless the session keeps it */
}

void shared_routed(struct worker *worker, const struct publication_view *view, struct publication **object)
{
    struct shared_deliveries *shared = &worker->shared;
    struct share_query query = {
        .strategy = worker->config->mqtt.shared_strategy, .self = bus_self(worker->bus)};
    struct share_source own = {.peer = query.self};
    for (uint32_t i = 0; i < shared->target_count; i++) {
        const struct share_target *target = &shared->targets[i];
        share_picked(target->group, &query, target->slot);
        if (target->slot == query.self) {
            share_deliver(worker, target->group, 0, &own, view, object);
        } else if (target->number != 0) {
            if (*object == NULL)
                *object = publication_new(view);
            if (*object != NULL)
                share_copies_keep(worker->copies, target->slot, target->number, target->group, 0, *object);
        }
    }
}

/* From peers
 * ------------------------------------------------------------------------------------------------------ */

/* Members with a client first, own ones before others, since it is here now. */
static bool take_pick(struct worker *worker, struct topic_group *group, const struct share_pick *pick,
    struct share_source *source, const struct publication_view *view, struct publication **object)
{
    if (group == NULL)
        return false;
    if (group->connected == 0) {
        if (*object == NULL)
            *object = publication_new(view);
        bool connected = group->count > 0;
        if (*object != NULL && share_hand_on(worker, group, pick->hops, *object, connected, source))
            return true;
        if (group->count == 0)
            return false;
    }
    share_deliver(worker, group, pick->hops, source, view, object);
    return true;
}

static void received_pick(struct worker *worker, const struct share_pick *pick, struct share_source *source,
    const struct publication_view *view, struct publication **object)
{
    const struct topic_filter *filter = topic_index_find(worker->index, pick->filter);
    struct topic_group *group = filter == NULL ? NULL : topic_index_find_group(filter, pick->group);
    bool delivery_settles = group != NULL && group->connected > 0;
    if (group != NULL)
        topic_index_hold_group(group);
    if (!take_pick(worker, group, pick, source, view, object))
        worker->counters->shared_dropped++;
    if (source->number != 0 && !delivery_settles)
        share_copies_settle(worker->copies, source->peer, source->incarnation, source->number);
    if (group != NULL)
        topic_index_unhold_group(worker->index, group);
}

void shared_received(struct worker *worker, unsigned peer, const struct publication_view *view, bool fresh,
    struct publication **object)
{
    struct share_reader reader;
    if (share_record_read(publication_shares(view), &reader) != STATUS_OK)
        return;
    struct publication_view plain = *view;
    plain.shares = NULL;
    plain.meta.shares_only = false;
    bool sender_lives = bus_peer_origin(worker->bus, peer).incarnation == reader.incarnation;
    struct share_pick pick;
    while (share_record_next(&reader, &pick)) {
        if (pick.slot != bus_self(worker->bus))
            continue;
        /* For our predecessor: who picked hands on its copy. */
        if (pick.incarnation != bus_origin(worker->bus).incarnation && pick.number != 0 && sender_lives)
            continue;
        struct share_source source = {.peer = peer, .incarnation = reader.incarnation};
        source.number = sender_lives ? pick.number : 0;
        if (fresh)
            received_pick(worker, &pick, &source, &plain, object);
        else if (source.number != 0)
            share_copies_settle(worker->copies, peer, source.incarnation, source.number);
    }
}
