/*
 * A session that is (or may be) on its way out of this very worker, when its client is back here: the new one
 * waits for what becomes of it, or takes it over on the spot. Worker process.
 */
#include "cluster/session_move_private.h"

#include <stdlib.h>

static void not_here(struct session_move_in *in);
static void take_over_wait(struct session_move_in *in, struct session_move_out *out);
static enum status copy_own(struct session_move_in *in, void *old);
static void inherit(struct session_move_in *in, struct session_move_out *out);

/* One that expects nothing particular is told to look here. */
bool in_will_take(struct session_moves *moves, struct bytes client_id, uint64_t hash)
{
    struct session_move_in *in = in_find_client(moves, client_id, hash);
    if (in != NULL && in->state == IN_EXPECTING)
        in_finish(in, NULL);
    return in != NULL;
}

/* It may be in this worker itself, on its way to somebody who is gone. */
void in_look_here(struct session_move_in *in)
{
    in->state = IN_OWN;
    in->previous = bus_self(in->moves->bus);
    in_wake(in);
}

/* Waits for what becomes of a session that was leaving this worker. */
void in_own_step(struct session_move_in *in)
{
    struct session_move_out *out = out_find_client(in->moves, in_client(in), in->client_hash, in->session);
    if (out == NULL) {
        not_here(in);
    } else if (in->discard && out->stamp >= in->stamp) {
        in_finish(in, NULL);
    } else if (in->discard && out->state == OUT_PARKED) {
        out_end(out);
        in_wake(in); /* there may be more than one */
    } else if (out->state == OUT_PARKED && out->in != NULL && out->in->state != IN_MERGING &&
               !out->in->late) {
        take_over_wait(in, out);
    } else if (out->state == OUT_PARKED) {
        in_take_own(in, out);
    } else if (!out_follow(out, in)) {
        enum session_move_outcome outcome = SESSION_MOVE_NOTHING;
        in_finish(in, &outcome);
    }
}

/* Perhaps a claim that was given up here tells where it was before. */
static void not_here(struct session_move_in *in)
{
    unsigned previous = BUS_PEERS_MAX;
    uint64_t before = 0;
    enum claim_trace trace = CLAIM_TRACE_NONE;
    if (in->moves->claims != NULL)
        trace = claims_trace(in->moves->claims, in_client(in), in->before, &previous, &before);
    if (trace == CLAIM_TRACE_WAITING) {
        in_wake(in);
        return;
    }
    if (previous < BUS_PEERS_MAX) {
        in_on_redirect(in, previous, before);
        return;
    }
    if (in->sent_here != BUS_PEERS_MAX && in->sent_here != bus_self(in->moves->bus)) {
        in_on_redirect(in, in->sent_here, in->before); /* perhaps he has what was before that himself */
        return;
    }
    enum session_move_outcome outcome = SESSION_MOVE_NOTHING;
    in_finish(in, &outcome);
}

/* The older session here has nothing but its own wait for a previous owner: this one waits in its place. */
static void take_over_wait(struct session_move_in *in, struct session_move_out *out)
{
    struct session_moves *moves = in->moves;
    struct session_move_in *old = out->in;
    struct session_move_in *rest = old->next;
    void *session = out->session;
    unsigned previous = old->previous;
    uint64_t before = old->before;
    moves->ops->in_done(moves->context, session, NULL);
    in_give_up(old, false);
    in_free(old);
    for (struct session_move_in *each = rest; each != NULL; each = each->next)
        each->session = in->session;
    struct session_move_in *last = in;
    while (last->next != NULL)
        last = last->next;
    last->next = rest;
    out->in = NULL;
    out_free(out);
    moves->ops->out_done(moves->context, session);
    in_on_redirect(in, previous, before);
}

void in_take_own(struct session_move_in *in, struct session_move_out *out)
{
    struct session_moves *moves = in->moves;
    void *old = out->session;
    uint64_t id = in->id;
    inherit(in, out);
    enum session_move_outcome outcome =
        copy_own(in, old) == STATUS_OK ? SESSION_MOVE_FOUND : SESSION_MOVE_NOTHING;
    in = in_find(moves, id);
    out_free(out);
    moves->ops->out_done(moves->context, old);
    if (in != NULL)
        in_finish(in, &outcome);
}

/* All in one turn, so that nothing comes between. */
static enum status copy_own(struct session_move_in *in, void *old)
{
    struct session_moves *moves = in->moves;
    const struct session_moves_ops *ops = moves->ops;
    struct session_move_writer writer = {0};
    enum status status = ops->export_state(moves->context, old, &writer);
    if (status == STATUS_OK)
        status = ops->import_state(moves->context, in->session, bytes_of(writer.data, writer.size), in->late);
    free(writer.data);
    struct publication *publication;
    struct bytes note;
    uint64_t id = in->id;
    while (status == STATUS_OK && in_find(moves, id) == in &&
           (publication = ops->next(moves->context, old, &note)) != NULL) {
        struct publication_view view = publication_view(publication);
        if (ops->picked(note) || !in_had_already(in, &view.meta))
            ops->forwarded(moves->context, in->session, &view, note);
        publication_unref(&publication);
    }
    return status;
}

/* What still comes to the old session comes to this one from now on. */
static void inherit(struct session_move_in *in, struct session_move_out *out)
{
    struct session_move_in *rest = out->in;
    if (rest == NULL)
        return;
    in->moves->ops->in_done(in->moves->context, out->session, NULL);
    rest->out = in->out;
    rest->answer_owed = false;
    if (rest->state != IN_MERGING)
        rest->late = true;
    struct session_move_in *last = rest;
    for (struct session_move_in *each = rest; each != NULL; each = each->next) {
        each->session = in->session;
        last = each;
    }
    last->next = in->next;
    in->next = rest;
    out->in = NULL;
}
