/* What a toy session gets: queue, packet identifiers, what is sent again; and where publications match. */
#include "tests/unit/simulation/toy_session.h"

#include "tests/unit/simulation/world.h"

#include <stdlib.h>

void session_enqueue(struct toy_session *session, struct publication *publication, uint8_t qos)
{
    if (session->queue_count >= QUEUE_MAX) {
        session->worker->counters.dropped_queue_full++;
        return;
    }
    if (session->queue_first + session->queue_count == session->queue_capacity) {
        if (session->queue_first > 0)
            memmove(session->queue, session->queue + session->queue_first,
                session->queue_count * sizeof *session->queue);
        session->queue_first = 0;
        if (session->queue_count * 2 >= session->queue_capacity) {
            session->queue_capacity = session->queue_capacity * 2 + 16;
            session->queue = realloc(session->queue, session->queue_capacity * sizeof *session->queue);
        }
    }
    session->queue[session->queue_first + session->queue_count++] =
        (struct delivery){publication_ref(publication), qos};
}

struct publication *session_dequeue(struct toy_session *session, uint8_t *ret_qos)
{
    if (session->queue_count == 0)
        return NULL;
    struct delivery *first = &session->queue[session->queue_first++];
    session->queue_count--;
    *ret_qos = first->qos;
    return first->publication;
}

static void send_publish(struct toy_session *session, const struct publication *publication, uint8_t qos,
    uint16_t id, bool duplicate)
{
    struct publication_view view = publication_view(publication);
    connection_put(session->connection, &(struct packet){.type = PUBLISH,
                                            .id = id,
                                            .qos = qos & QOS,
                                            .late = (qos & LATE) != 0,
                                            .flag = duplicate,
                                            .number = get_u32_le(view.payload.data)});
}

struct inflight *inflight_new(struct toy_session *session, uint16_t id)
{
    for (unsigned i = 0; i < INFLIGHT_MAX; i++) {
        struct inflight *it = &session->inflight[i];
        if (it->used)
            continue;
        *it = (struct inflight){.used = true, .id = id, .order = ++session->inflight_order};
        return it;
    }
    return NULL;
}

struct inflight *inflight_find(struct toy_session *session, uint16_t id)
{
    for (unsigned i = 0; i < INFLIGHT_MAX; i++) {
        if (session->inflight[i].used && session->inflight[i].id == id)
            return &session->inflight[i];
    }
    return NULL;
}

bool session_served(const struct toy_session *session)
{
    return session->connection != NULL && !session->waiting && list_empty(&session->connack.link) &&
           session->move_out == NULL;
}

void session_pump(struct toy_session *session)
{
    while (session_served(session) && session->queue_count > 0) {
        uint8_t qos = session->queue[session->queue_first].qos;
        struct inflight *slot = NULL;
        if ((qos & QOS) > 0) {
            while (inflight_find(session, session->next_id) != NULL || session->next_id == 0)
                session->next_id++;
            slot = inflight_new(session, session->next_id);
            if (slot == NULL)
                return;
            session->next_id++;
        }
        struct publication *publication = session_dequeue(session, &qos);
        send_publish(session, publication, qos, slot != NULL ? slot->id : 0, false);
        if (slot == NULL) {
            publication_unref(&publication);
            continue;
        }
        slot->publication = publication;
        slot->qos = qos;
    }
}

/* In the order in which they were sent first. */
void session_resend(struct toy_session *session)
{
    uint64_t last = 0;
    for (;;) {
        struct inflight *next = NULL;
        for (unsigned i = 0; i < INFLIGHT_MAX; i++) {
            struct inflight *it = &session->inflight[i];
            if (it->used && it->order > last && (next == NULL || it->order < next->order))
                next = it;
        }
        if (next == NULL)
            return;
        last = next->order;
        if (next->publication == NULL)
            connection_put(session->connection, &(struct packet){.type = PUBREL, .id = next->id});
        else
            send_publish(session, next->publication, next->qos, next->id, true);
    }
}

static bool deliver_to(
    const struct subscription *subscription, unsigned peer, const struct publication_view *view)
{
    struct toy_session *session = subscription->subscriber;
    bool inherited = (session->inherited & 1u << (subscription - session->subscriptions)) != 0;
    enum session_move_verdict verdict = SESSION_MOVE_DELIVER;
    if (session->move_in != NULL || session->move_out != NULL)
        verdict = session_move_verdict(session->move_in, session->move_out, peer, &view->meta, inherited);
    world_trace(session->worker->world, "worker %u: publication %u from %u for %s, verdict %d",
        session->worker->slot, get_u32_le(view->payload.data), peer, session->id, (int)verdict);
    if (verdict == SESSION_MOVE_DROP)
        return true;
    if (view->meta.qos == 0 && session->connection == NULL)
        return false;
    struct publication *publication = publication_new(view);
    uint8_t note[1] = {view->meta.qos};
    if (verdict == SESSION_MOVE_HOLD) {
        session_move_hold(session->move_in, peer, publication, bytes_of(note, 1));
    } else {
        session_enqueue(session, publication, view->meta.qos);
        session_pump(session);
    }
    publication_unref(&publication);
    return true;
}

bool session_deliver(struct worker *worker, unsigned peer, const struct publication_view *view)
{
    struct topic_match match = topic_index_match(worker->index, view->topic);
    bool durable = false;
    for (uint32_t i = 0; i < match.count; i++) {
        for (uint32_t at = 0; at < match.filters[i]->count; at++) {
            const struct subscription *subscription = match.filters[i]->subscriptions[at];
            durable |= deliver_to(subscription, peer, view) &&
                       ((const struct toy_session *)subscription->subscriber)->durable;
        }
    }
    return durable;
}
