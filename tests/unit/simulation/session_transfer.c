/* The toy engine's side of moves: a session in bytes. */
#include "tests/unit/simulation/toy_session.h"

#include "cluster/record.h"
#include "tests/unit/simulation/world.h"

#include <stdlib.h>

static void *take_out(
    void *context, struct bytes client_id, uint64_t stamp, bool discard, struct session_move_out *out)
{
    struct worker *worker = context;
    struct toy_session *session = session_find(worker, client_id);
    world_point(worker);
    world_trace(worker->world, "worker %u: %.*s asked for with %llx%s, here %llx", worker->slot,
        (int)client_id.size, (const char *)client_id.data, (unsigned long long)stamp,
        discard ? ", discard" : "", session != NULL ? (unsigned long long)session->stamp : 0);
    if (session == NULL || session->stamp > stamp)
        return NULL;
    if (discard) {
        session_end(session);
        return NULL;
    }
    if (session->connection != NULL)
        connection_close(session->connection, true);
    list_remove(&session->link);
    list_append(&worker->leaving, &session->link);
    session->move_out = out;
    worker->world->oracle.takeovers++;
    return session;
}

static bool picked(struct bytes note)
{
    (void)note;
    return false;
}

static enum status export_state(void *context, void *pointer, struct session_move_writer *writer)
{
    struct worker *worker = context;
    const struct toy_session *session = pointer;
    world_point(worker);
    session_move_write_u8(writer, session->confirmed);
    session_move_write_u8(writer, session->late_part);
    session_move_write_u64(writer, session->life);
    session_move_write_u32(writer, session->subscribed);
    session_move_write_u16(writer, session->next_id);
    session_move_write(writer, bytes_of(session->awaiting, sizeof session->awaiting));
    for (unsigned i = 0; i < INFLIGHT_MAX; i++) {
        const struct inflight *it = &session->inflight[i];
        if (!it->used)
            continue;
        size_t size = 0;
        struct publication_view view;
        if (it->publication != NULL) {
            view = publication_view(it->publication);
            size = acceptance_encoded_size(&view);
        }
        uint8_t *encoded = malloc(size + 1);
        if (size > 0)
            acceptance_encode(encoded, &view);
        session_move_write_u16(writer, it->id);
        session_move_write_u8(writer, it->qos);
        session_move_write_u64(writer, it->order);
        session_move_write_u32(writer, (uint32_t)size);
        session_move_write(writer, bytes_of(encoded, size));
        free(encoded);
    }
    return writer->failed ? STATUS_NO_MEMORY : STATUS_OK;
}

static struct publication *next(void *context, void *pointer, struct bytes *ret_note)
{
    static uint8_t qos;
    struct worker *worker = context;
    world_point(worker);
    struct publication *publication = session_dequeue(pointer, &qos);
    *ret_note = bytes_of(&qos, 1);
    return publication;
}

static uint32_t queue_length(void *context, void *pointer)
{
    (void)context;
    return (uint32_t)((struct toy_session *)pointer)->queue_count;
}

static void out_done(void *context, void *pointer)
{
    struct toy_session *session = pointer;
    (void)context;
    session->move_out = NULL;
    session_end(session);
}

static void taken_back(void *context, void *pointer)
{
    struct worker *worker = context;
    struct toy_session *session = pointer;
    struct bytes id = bytes_of_text(session->id);
    world_trace(worker->world, "worker %u takes back the session of %s", worker->slot, session->id);
    session->move_out = NULL;
    if (session_find(worker, id) != NULL) {
        session_end(session);
        return;
    }
    list_remove(&session->link);
    list_append(&worker->sessions, &session->link);
    claims_reclaim(worker->claims, id, session->stamp);
}

static void import_inflight(struct toy_session *session, struct record_reader *reader, bool late)
{
    uint16_t id = record_read_u16(reader);
    uint8_t qos = record_read_u8(reader);
    uint64_t order = record_read_u64(reader);
    uint32_t size = record_read_u32(reader);
    struct bytes encoded = record_read_bytes(reader, size);
    if (reader->failed || (late && size == 0))
        return;
    struct publication *publication = NULL;
    if (size > 0) {
        struct publication_view view;
        if (acceptance_decode(encoded, &view) != STATUS_OK)
            abort();
        if (session_move_seen(session->move_in, &view.meta))
            return;
        publication = publication_new(&view);
    }
    if (late) {
        session_enqueue(session, publication, qos | LATE);
        publication_unref(&publication);
        return;
    }
    struct inflight *slot = inflight_new(session, id);
    slot->publication = publication;
    slot->qos = qos;
    slot->order = order;
    slot->sent_before = true;
    if (session->inflight_order < order)
        session->inflight_order = order;
}

static enum status import_state(void *context, void *pointer, struct bytes state, bool late)
{
    struct worker *worker = context;
    struct toy_session *session = pointer;
    world_point(worker);
    world_trace(
        worker->world, "worker %u has the state of %s%s", worker->slot, session->id, late ? ", late" : "");
    struct record_reader reader = record_read(state);
    bool confirmed = record_read_u8(&reader) != 0;
    bool late_part = record_read_u8(&reader) != 0;
    uint64_t life = record_read_u64(&reader);
    uint32_t subscribed = record_read_u32(&reader);
    uint16_t next_id = record_read_u16(&reader);
    struct bytes awaiting = record_read_bytes(&reader, sizeof session->awaiting);
    if (!late) {
        session->confirmed = confirmed;
        session->life = life;
        session->next_id = next_id;
        memcpy(session->awaiting, awaiting.data, awaiting.size);
        for (unsigned topic = 0; topic < TOPICS; topic++) {
            if ((subscribed & 1u << topic) != 0)
                session_subscribe(session, topic);
        }
        session->inherited = session->subscribed;
    }
    while (reader.rest.size > 0 && !reader.failed)
        import_inflight(session, &reader, late);
    worker->world->oracle.moved++;
    session->late_part |= late || late_part;
    if (late)
        session_pump(session);
    return reader.failed ? STATUS_PROTOCOL : STATUS_OK;
}

static void answered(void *context, void *pointer, enum session_move_outcome outcome)
{
    struct worker *worker = context;
    struct toy_session *session = pointer;
    world_trace(worker->world, "worker %u: move of %s, outcome %d", worker->slot, session->id, (int)outcome);
    if (outcome != SESSION_MOVE_FOUND) {
        session_connack(session, false);
        return;
    }
    session->waiting = false;
    session_connack_when_routed(session);
}

static void forwarded(void *context, void *pointer, const struct publication_view *view, struct bytes note)
{
    struct worker *worker = context;
    world_point(worker);
    world_trace(worker->world, "worker %u: publication %u forwarded to %s", worker->slot,
        get_u32_le(view->payload.data), ((struct toy_session *)pointer)->id);
    struct publication *publication = publication_new(view);
    bool late = ((struct toy_session *)pointer)->late_part;
    session_enqueue(pointer, publication, (uint8_t)(note.data[0] | (late ? LATE : 0)));
    publication_unref(&publication);
    session_pump(pointer);
}

static void release(void *context, void *pointer, struct publication *publication, struct bytes note)
{
    (void)context;
    session_enqueue(pointer, publication, note.data[0]);
    session_pump(pointer);
}

static void held_dropped(void *context, void *pointer, const struct publication_view *view)
{
    struct worker *worker = context;
    (void)pointer, (void)view;
    worker->counters.dropped_queue_full++;
}

static void in_done(void *context, void *pointer, struct session_move_in *next_move)
{
    (void)context;
    ((struct toy_session *)pointer)->move_in = next_move;
}

const struct session_moves_ops toy_session_ops = {.take_out = take_out,
    .picked = picked,
    .export_state = export_state,
    .next = next,
    .queue_length = queue_length,
    .out_done = out_done,
    .taken_back = taken_back,
    .import_state = import_state,
    .answered = answered,
    .forwarded = forwarded,
    .release = release,
    .held_dropped = held_dropped,
    .in_done = in_done};
