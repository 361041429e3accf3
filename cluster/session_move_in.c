/*
 * The new owner's side of a move: whom it asks, and what comes of it in the end. Worker process.
 *
 * A callback of the engine may end any session, and with it its moves: whatever calls one touches nothing
 * afterwards that it has not found anew. That is so for all files of this side: _in, _ins, _chain, _own,
 * _import, _merge.
 */
#include "cluster/session_move_private.h"

#include "shared/clock.h"

#include <stdlib.h>

static void become_discard(struct session_move_in *in);
static void in_start(struct session_move_in *in);
static void send_request(struct session_move_in *in);
static void ask(struct session_moves *moves, const struct move_request *request);

struct session_move_in *session_move_in(struct session_moves *moves, void *session, struct bytes client_id,
    uint64_t stamp, unsigned previous, uint64_t deadline_us, bool late, struct session_move_in *current)
{
    bool nobody = previous >= BUS_PEERS_MAX;
    bool here = !nobody && (bus_live_peers(moves->bus) & move_bit(previous)) == 0;
    uint64_t hash = keyed_hash_of(&moves->hash, client_id);
    if (here && out_find_client(moves, client_id, hash, session) == NULL)
        return current;
    if (in_is_asking(current, previous))
        return current;
    struct session_move_in *in = in_new(moves, session, client_id);
    if (in == NULL)
        return current;
    in->stamp = in->before = stamp;
    in->previous = previous;
    in->deadline_us = deadline_us;
    in->late = late;
    if (current != NULL && current->state == IN_EXPECTING && current->next == NULL && current->out == NULL) {
        seen_move(&in->seen, &current->seen);
        in_free(current);
        current = NULL;
    }
    if (current == NULL) {
        in_start(in);
        return in;
    }
    in_append(current, in);
    return current;
}

void session_move_discard(
    struct session_moves *moves, struct bytes client_id, uint64_t stamp, unsigned previous)
{
    struct session_move_in *in = in_new(moves, NULL, client_id);
    if (in == NULL)
        return; /* it is reported one day, and asked for once more */
    in->stamp = in->before = stamp;
    in->previous = previous;
    in->late = in->discard = true;
    in_start(in);
}

void session_move_cancel(struct session_moves *moves, struct session_move_in **move)
{
    (void)moves;
    struct session_move_in *in = *move;
    *move = NULL;
    while (in != NULL) {
        struct session_move_in *next = in->next;
        become_discard(in);
        in = next;
    }
}

/*
 * Its session has ended. Whatever was asked for it must not turn up as that of a later one: until somebody
 * says that there is nothing, this goes where it is sent, and has it ended there.
 */
static void become_discard(struct session_move_in *in)
{
    in_give_up(in, true);
    if (in->out != NULL)
        in->out->in = NULL;
    in->out = NULL;
    if (in->state == IN_MERGING || in->previous >= BUS_PEERS_MAX) {
        in_free(in);
        return;
    }
    in->next = NULL;
    in->session = NULL;
    in->answer_owed = false;
    in->late = in->discard = true;
    parts_done(&in->parts);
    seen_done(&in->seen);
    if (in->state == IN_QUEUED)
        in_start(in);
    else if (in->state == IN_RECEIVED)
        in->state = IN_ASKED;
    else if (in->state == IN_OWN)
        in_wake(in);
}

void in_on_nothing(struct session_move_in *in)
{
    if (in->state == IN_ASKED)
        in_resolve(in, SESSION_MOVE_NOTHING);
    else if (in->state == IN_OWN)
        in_wake(in);
}

void in_on_redirect(struct session_move_in *in, unsigned peer, uint64_t before)
{
    if (in->state != IN_ASKED && in->state != IN_OWN)
        return;
    if (++in->redirects > MOVE_REDIRECTS) {
        in_resolve(in, SESSION_MOVE_NOTHING);
        return;
    }
    struct session_moves *moves = in->moves;
    in->sent_here = peer == bus_self(moves->bus) ? in->previous : BUS_PEERS_MAX;
    in->previous = peer;
    in->before = before != 0 ? before : in->stamp;
    if ((bus_live_peers(moves->bus) & move_bit(peer)) == 0) {
        in_look_here(in);
        return;
    }
    in->state = IN_ASKED;
    send_request(in);
}

static void in_start(struct session_move_in *in)
{
    struct session_moves *moves = in->moves;
    if (!in->late && in->deadline_us < moves->next_us)
        moves->next_us = in->deadline_us;
    if (in->previous >= BUS_PEERS_MAX) {
        in->state = IN_EXPECTING;
        in->deadline_us = clock_monotonic_us() + MOVE_EXPECT_US;
        if (in->deadline_us < moves->next_us)
            moves->next_us = in->deadline_us;
        return;
    }
    if ((bus_live_peers(moves->bus) & move_bit(in->previous)) == 0) {
        in->state = IN_OWN;
        in_wake(in);
        return;
    }
    in->state = IN_ASKED;
    send_request(in);
}

static void send_request(struct session_move_in *in)
{
    ask(in->moves, &(struct move_request){.peer = in->previous,
                       .id = in->id,
                       .stamp = in->stamp,
                       .before = in->before,
                       .discard = in->discard,
                       .client_id = in_client(in)});
}

static void ask(struct session_moves *moves, const struct move_request *request)
{
    uint8_t *body = malloc(MOVE_HEAD_SIZE + 17 + request->client_id.size);
    if (body == NULL)
        return; /* as if the other were silent */
    uint8_t *to = moves_begin(moves, request->peer, body, MOVE_REQUEST, request->id);
    to = record_write_u64(to, request->stamp);
    to = record_write_u64(to, request->before);
    to = record_write_u8(to, request->discard);
    moves_send(moves, request->peer, body, record_write_bytes(to, request->client_id));
    free(body);
}

/* The old owner may keep what it has (or end it, if it is not wanted by anybody any more). */
void in_give_up(struct session_move_in *in, bool discard)
{
    struct session_moves *moves = in->moves;
    if (in->state == IN_QUEUED || in->state == IN_OWN || in->state == IN_EXPECTING)
        return;
    if ((bus_live_peers(moves->bus) & move_bit(in->previous)) != 0)
        moves_send_u8(moves, in->previous, MOVE_GIVEN_UP, in->id, discard);
}

void in_resolve(struct session_move_in *in, enum session_move_outcome outcome)
{
    struct session_moves *moves = in->moves;
    parts_done(&in->parts);
    if (outcome == SESSION_MOVE_SILENT) {
        /* What is parked here is older than what the silent one may have: it is a late part, too. */
        in->late = true;
        moves->ops->answered(moves->context, in->session, outcome);
    } else if (in->state != IN_OWN &&
               out_find_client(moves, in_client(in), in->client_hash, in->session) != NULL) {
        in_look_here(in);
    } else {
        in_finish(in, &outcome);
    }
}

/* What is still parked here comes behind, as a late part. */
void in_queue_parked(struct session_move_in *in)
{
    struct session_moves *moves = in->moves;
    struct session_move_out *out = out_find_client(moves, in_client(in), in->client_hash, in->session);
    if (in->out == NULL && out != NULL && out->state == OUT_PARKED)
        in_ask_later(in, bus_self(moves->bus));
}

/* Ends it; a client that still waits gets this outcome. */
void in_finish(struct session_move_in *in, const enum session_move_outcome *outcome)
{
    struct session_moves *moves = in->moves;
    void *session = in->session;
    if (in->next == NULL)
        in_queue_parked(in);
    struct session_move_in *next = in->next;
    struct session_move_out *out = in->out;
    bool waits = !in->late && outcome != NULL;
    if (next != NULL)
        seen_move(&next->seen, &in->seen);
    in_free(in);
    if (next != NULL) {
        next->out = out;
        if (next->state == IN_QUEUED)
            in_start(next);
    }
    if (out != NULL) {
        out->in = next;
        out_wake(out);
    }
    if (session == NULL)
        return;
    moves->ops->in_done(moves->context, session, next);
    if (waits)
        moves->ops->answered(moves->context, session, *outcome);
}

void in_previous_died(struct session_move_in *in)
{
    struct session_moves *moves = in->moves;
    uint64_t id = in->id;
    if (in->state == IN_ASKED) {
        in_resolve(in, SESSION_MOVE_LOST);
        return;
    }
    if (in->state == IN_RECEIVED)
        in_import(in);
    in = in_find(moves, id);
    if (in == NULL || in->state != IN_MERGING)
        return;
    in->orphan = true;
    for (unsigned origin = 0; origin < BUS_PEERS_MAX; origin++) {
        if ((in->wanted & move_bit(origin)) == 0 && !in_settle(in, origin))
            return;
    }
    in_check_done(in);
}
