/*
 * The old owner's side of a move: gives a copy of the state, and keeps the session until the new owner says
 * that it has it. Worker process.
 */
#include "cluster/session_move_private.h"

#include <stdlib.h>

static void export_to(struct session_move_out *out, unsigned peer, uint64_t id);
static void lose_target(struct session_move_out *out);
static void forget_target(struct session_move_out *out);
static void origin_died(struct session_move_out *out, unsigned peer);

struct session_move_out *session_move_park(
    struct session_moves *moves, void *session, struct bytes client_id, uint64_t stamp, unsigned owner)
{
    (void)owner; /* whoever it is: the first newer one who asks gets it */
    struct session_move_out *out = out_new(moves, client_id, stamp);
    if (out == NULL)
        return NULL;
    out->session = session;
    out->own_stamp = stamp;
    out->in = in_find_session(moves, client_id, out->client_hash, session);
    if (out->in != NULL)
        out->in->out = out;
    return out;
}

/* False: the engine has none that is older than the stamp. */
bool out_take(struct session_moves *moves, const struct move_request *request)
{
    struct bytes client_id = request->client_id;
    struct session_move_out *out = out_new(moves, client_id, request->stamp - 1);
    if (out == NULL)
        return false;
    out->own_stamp = moves->claims != NULL ? claims_owned(moves->claims, client_id) : 0;
    out->session = moves->ops->take_out(moves->context, client_id, request->stamp, request->discard, out);
    if (out->session == NULL) {
        out_free(out);
        return false;
    }
    out->in = in_find_session(moves, client_id, out->client_hash, out->session);
    if (out->in != NULL)
        out->in->out = out;
    out_give(out, request->peer, request->id);
    return true;
}

/* If it only waits for its own previous owner, the new owner does better to ask that one. So does whoever was
   sent here meanwhile. */
void out_give(struct session_move_out *out, unsigned peer, uint64_t id)
{
    struct session_moves *moves = out->moves;
    uint64_t stamp = out->in != NULL ? out->in->stamp : 0;
    unsigned previous = out->in != NULL ? out->in->previous : BUS_PEERS_MAX;
    if (out->in == NULL || !in_hand_on(out->in, peer, id)) {
        export_to(out, peer, id);
        return;
    }
    void *session = out->session;
    if (moves->claims != NULL)
        claims_handed_on(moves->claims, out_client(out), stamp, previous);
    out_free(out);
    moves->ops->out_done(moves->context, session);
}

/* All who live now; without memory for one nobody waits for its mark, and it is not told. */
static void begin_origins(struct session_move_out *out)
{
    struct session_moves *moves = out->moves;
    unsigned self = bus_self(moves->bus);
    out->origins.count = 0;
    (void)origin_get(&out->origins, self, bus_origin(moves->bus).incarnation);
    for (uint64_t left = bus_live_peers(moves->bus); left != 0; left &= left - 1) {
        unsigned peer = (unsigned)__builtin_ctzll(left);
        (void)origin_get(&out->origins, peer, bus_peer_origin(moves->bus, peer).incarnation);
    }
}

/* Before the engine's part: what of each peer's publications came to the session here, should we die. */
static void write_heard(struct session_moves *moves, struct session_move_writer *writer)
{
    uint64_t peers = bus_live_peers(moves->bus);
    session_move_write_u8(writer, (uint8_t)__builtin_popcountll(peers));
    for (uint64_t left = peers; left != 0; left &= left - 1) {
        unsigned peer = (unsigned)__builtin_ctzll(left);
        session_move_write_u8(writer, (uint8_t)peer);
        session_move_write_u64(writer, moves->heard[peer].incarnation);
        session_move_write_u64(writer, moves->heard[peer].sequence);
    }
}

/* Only a copy: until the new owner says that it has it, the session is ours. */
static void export_to(struct session_move_out *out, unsigned peer, uint64_t id)
{
    struct session_moves *moves = out->moves;
    out->writer.size = 0;
    out->writer.failed = false;
    write_heard(moves, &out->writer);
    enum status status = moves->ops->export_state(moves->context, out->session, &out->writer);
    if (status == STATUS_OK && out->writer.size <= UINT32_MAX)
        status = hash_table_insert(&moves->outs_by_target, moves_mix(id, peer), out);
    if (status != STATUS_OK) {
        out_answer_nothing(moves, peer, id);
        out_keep_or_return(out);
        return;
    }
    out->peer = peer;
    out->id = id;
    out->state = OUT_SENDING;
    out->sent = 0;
    begin_origins(out);
    out_wake(out);
}

void out_on_imported(struct session_move_out *out)
{
    if (out->state != OUT_SENT && out->state != OUT_SENDING)
        return;
    struct session_moves *moves = out->moves;
    unsigned target = out->peer;
    out->state = OUT_FORWARDING;
    out->writer.size = 0;
    out->sent = 0;
    hash_table_remove(&moves->outs_by_client, out->client_hash, out);
    out_wake(out);
    struct list followers;
    list_init(&followers);
    list_splice(&followers, &out->followers);
    while (!list_empty(&followers)) {
        struct move_follower *it = list_entry(followers.next, struct move_follower, link);
        struct session_move_in *in = it->peer == bus_self(moves->bus) ? in_find(moves, it->id) : NULL;
        list_remove(&it->link);
        if (it->peer != bus_self(moves->bus))
            moves_send_redirect(moves, it->peer, it->id, target, 0);
        free(it);
        if (in != NULL)
            in_on_redirect(in, target, 0);
    }
}

void out_on_given_up(struct session_move_out *out, bool discard)
{
    if (out->state == OUT_FORWARDING || discard)
        out_end(out);
    else
        lose_target(out);
}

/* The session is at the new owner, or has ended: nothing is left here. */
void out_end(struct session_move_out *out)
{
    struct session_moves *moves = out->moves;
    void *session = out->session;
    if (out->in != NULL)
        out->in->out = NULL;
    if (out->state == OUT_SENDING || out->state == OUT_SENT)
        out_answer_nothing(moves, out->peer, out->id);
    list_for_each(&out->followers, element, following)
    {
        struct move_follower *it = list_entry(element, struct move_follower, link);
        out_answer_nothing(
            moves, it->peer, it->id); /* one of our own looks again in this turn, and finds nothing */
    }
    out_free(out);
    moves->ops->out_done(moves->context, session);
}

/* The newest of those who asked meanwhile gets it, the others nothing; if nobody did, it stays here. */
static void lose_target(struct session_move_out *out)
{
    struct session_moves *moves = out->moves;
    forget_target(out);
    struct move_follower *newest = NULL;
    list_for_each(&out->followers, element, following)
    {
        struct move_follower *it = list_entry(element, struct move_follower, link);
        struct move_follower *loser = newest == NULL ? NULL : it;
        if (newest == NULL || it->stamp > newest->stamp) {
            loser = newest;
            newest = it;
        }
        if (loser == NULL)
            continue;
        list_remove(&loser->link);
        out_answer_nothing(moves, loser->peer, loser->id);
        free(loser);
    }
    if (newest == NULL) {
        out_keep_or_return(out);
        return;
    }
    struct move_follower chosen = *newest;
    list_remove(&newest->link);
    free(newest);
    if (chosen.discard) {
        out_end(out);
        out_answer_nothing(moves, chosen.peer, chosen.id);
        return;
    }
    struct session_move_in *in = chosen.peer == bus_self(moves->bus) ? in_find(moves, chosen.id) : NULL;
    if (in != NULL)
        in_take_own(in, out);
    else if (chosen.peer == bus_self(moves->bus))
        out_keep_or_return(out);
    else
        export_to(out, chosen.peer, chosen.id);
}

/* Waits for a newer session of this worker that looks for it; without one it is an ordinary session again. */
void out_keep_or_return(struct session_move_out *out)
{
    struct session_moves *moves = out->moves;
    void *session = out->session;
    if (in_will_take(moves, out_client(out), out->client_hash))
        return;
    if (out->in != NULL)
        out->in->out = NULL;
    out_free(out);
    moves->ops->taken_back(moves->context, session);
}

static void forget_target(struct session_move_out *out)
{
    if (out->state != OUT_PARKED)
        hash_table_remove(&out->moves->outs_by_target, moves_mix(out->id, out->peer), out);
    out->state = OUT_PARKED;
    out->writer.size = 0;
    out->sent = 0;
}

void out_on_mark(struct session_move_out *out, unsigned peer, const struct move_limit *limit, bool complete)
{
    struct move_origin *origin = origin_get(&out->origins, peer, limit->incarnation);
    if (origin == NULL)
        return; /* no memory: as if it stood still */
    if (!origin->marked)
        origin->limit = limit->sequence;
    origin->marked = true;
    origin->complete |= complete;
    out_wake(out);
}

bool out_is_after(const struct session_move_out *out, unsigned peer, const struct publication_meta *meta)
{
    const struct move_origin *origin = origin_find(&out->origins, peer, meta->origin.incarnation);
    return origin != NULL && origin->marked && origin->limit != 0 && meta->sequence >= origin->limit;
}

/* What it publishes before it has the new owner's routes comes here alone. */
void out_peer_started(struct session_moves *moves, unsigned peer)
{
    list_for_each(&moves->outs, element, following)
    {
        struct session_move_out *out = list_entry(element, struct session_move_out, link);
        if (out->state != OUT_PARKED)
            (void)origin_get(&out->origins, peer, bus_peer_origin(moves->bus, peer).incarnation);
    }
}

void out_peer_died(struct session_moves *moves, unsigned peer)
{
    out_drop_earlies(moves, move_bit(peer));
    struct list outs;
    list_init(&outs);
    list_splice(&outs, &moves->outs);
    while (!list_empty(&outs)) {
        struct session_move_out *out = list_entry(outs.next, struct session_move_out, link);
        list_remove(&out->link);
        list_append(&moves->outs, &out->link);
        out_drop_followers(out, peer, 0);
        if (out->state == OUT_PARKED || out->peer != peer)
            origin_died(out, peer);
        else if (out->state == OUT_FORWARDING)
            out_end(out);
        else
            lose_target(out);
    }
}

/* It has been read to its end: what came is all. */
static void origin_died(struct session_move_out *out, unsigned peer)
{
    const struct move_limit *heard = &out->moves->heard[peer];
    struct move_limit limit = {bus_peer_origin(out->moves->bus, peer).incarnation, 0};
    if (heard->incarnation == limit.incarnation)
        limit.sequence = heard->sequence + 1;
    out_on_mark(out, peer, &limit, true);
}
