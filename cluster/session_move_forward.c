/*
 * The old owner forwards: first the state, then what is queued and what still comes, until every origin has
 * marked its lane. Worker process.
 */
#include "cluster/session_move_private.h"

#include "cluster/acceptance.h"

#include <stdlib.h>

static bool step_out(struct session_move_out *out);
static bool forward(struct session_move_out *out, size_t *budget);
static bool next_to_forward(struct session_move_out *out);
static bool encode(
    struct session_move_writer *writer, const struct publication_view *view, struct bytes note);
static bool all_told(const struct session_move_out *out);
static void end_origins(struct session_move_out *out);

/* Round after round, a part for each, until nothing moves. */
void out_work(struct session_moves *moves)
{
    bool moved = true;
    while (moved && !list_empty(&moves->work_out)) {
        moved = false;
        struct list work;
        list_init(&work);
        list_splice(&work, &moves->work_out);
        while (!list_empty(&work)) {
            struct session_move_out *out = list_entry(work.next, struct session_move_out, work);
            list_remove(&out->work);
            moved |= step_out(out);
        }
    }
}

/* True if something went out. */
static bool step_out(struct session_move_out *out)
{
    struct session_moves *moves = out->moves;
    size_t budget = MOVE_TURN_MAX;
    if (out->state == OUT_PARKED) {
        out_keep_or_return(out);
        return false;
    }
    if (out->state == OUT_SENDING) {
        struct bytes state = bytes_of(out->writer.data, out->writer.size);
        if (parts_put(moves, out->peer, MOVE_STATE, out->id, state, &out->sent, &budget))
            out->state = OUT_SENT;
        else
            out_wake(out);
        return budget < MOVE_TURN_MAX;
    }
    if (out->state != OUT_FORWARDING)
        return false;
    if (!forward(out, &budget)) {
        out_wake(out);
        return budget < MOVE_TURN_MAX;
    }
    end_origins(out);
    if (all_told(out) && out->in == NULL && moves->ops->queue_length(moves->context, out->session) == 0) {
        moves_send_plain(moves, out->peer, MOVE_END, out->id);
        out_end(out);
    }
    return budget < MOVE_TURN_MAX;
}

/* True when the queue is empty. */
static bool forward(struct session_move_out *out, size_t *budget)
{
    for (;;) {
        if (out->writer.size == 0 && !next_to_forward(out))
            return true;
        struct bytes whole = bytes_of(out->writer.data, out->writer.size);
        if (!parts_put(out->moves, out->peer, MOVE_FORWARD, out->id, whole, &out->sent, budget))
            return false;
        out->writer.size = 0;
        out->sent = 0;
        end_origins(out);
    }
}

/* The next that is ours to forward, encoded; false: the queue is empty. */
static bool next_to_forward(struct session_move_out *out)
{
    struct session_moves *moves = out->moves;
    struct bytes note;
    struct publication *publication;
    while ((publication = moves->ops->next(moves->context, out->session, &note)) != NULL) {
        out->popped++;
        struct publication_view view = publication_view(publication);
        /* It may have come before it was sure that the new owner takes the session, but after the mark. */
        bool ours = moves->ops->picked(note) || !out_is_after(out, view.meta.origin.slot, &view.meta);
        bool encoded = ours && encode(&out->writer, &view, note);
        if (ours && !encoded)
            moves->ops->held_dropped(moves->context, out->session, &view);
        publication_unref(&publication);
        if (encoded)
            return true;
    }
    return false;
}

static bool encode(struct session_move_writer *writer, const struct publication_view *view, struct bytes note)
{
    size_t size = acceptance_encoded_size(view);
    uint8_t *encoded = malloc(size);
    if (encoded == NULL)
        return false;
    acceptance_encode(encoded, view);
    writer->size = 0;
    writer->failed = false;
    session_move_write_u16(writer, (uint16_t)note.size);
    session_move_write(writer, note);
    session_move_write(writer, bytes_of(encoded, size));
    free(encoded);
    if (writer->failed)
        writer->size = 0;
    return !writer->failed;
}

static bool all_told(const struct session_move_out *out)
{
    for (unsigned i = 0; i < out->origins.count; i++) {
        if (!out->origins.items[i].told)
            return false;
    }
    return true;
}

/* Tells of each origin once all of it was forwarded, in the midst of the queue too. */
static void end_origins(struct session_move_out *out)
{
    struct session_moves *moves = out->moves;
    uint32_t queued = moves->ops->queue_length(moves->context, out->session);
    for (unsigned i = 0; i < out->origins.count; i++) {
        struct move_origin *origin = &out->origins.items[i];
        /* What we still wait for from an older owner is forwarded, too. */
        if (!origin->complete || origin->told ||
            (out->in != NULL && !in_origin_ended(out->in, origin->peer, origin->incarnation)))
            continue;
        if (origin->due == 0)
            origin->due = out->popped + queued + 1;
        if (out->popped + 1 < origin->due && queued > 0)
            continue;
        origin->told = true;
        uint8_t body[MOVE_HEAD_SIZE + 17];
        uint8_t *to = moves_begin(moves, out->peer, body, MOVE_ORIGIN_END, out->id);
        to = record_write_u8(to, (uint8_t)origin->peer);
        to = record_write_u64(to, origin->incarnation);
        moves_send(moves, out->peer, body, record_write_u64(to, origin->limit));
    }
}
