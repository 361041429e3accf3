/*
 * The old owner's side of a move: gives a copy of the state, and once the new owner has that, forwards what
 * is queued and what still comes, until every origin has marked its lane. Worker process.
 */
#include "cluster/session_move_private.h"

#include "cluster/acceptance.h"

#include <stdlib.h>

static struct session_move_out *out_new(struct session_moves *moves, struct bytes client_id, uint64_t stamp);
static void take_out(struct session_moves *moves, unsigned peer, uint64_t id, uint64_t stamp, bool discard,
    struct bytes client_id);
static void export_to(struct session_move_out *out, unsigned peer, uint64_t id);
static void refuse(struct session_moves *moves, unsigned peer, uint64_t id, struct bytes client_id);
static void answer_nothing(struct session_moves *moves, unsigned peer, uint64_t id);
static void follow(struct session_move_out *out, unsigned peer, uint64_t id, uint64_t stamp);
static void end(struct session_move_out *out);
static void lose_target(struct session_move_out *out);
static void keep_or_return(struct session_move_out *out);
static void forget_target(struct session_move_out *out);
static bool step(struct session_move_out *out);
static bool forward(struct session_move_out *out, size_t *budget);
static bool next_to_forward(struct session_move_out *out);
static bool queued_after(const struct session_move_out *out, const struct publication_meta *meta);
static bool encode(
    struct session_move_writer *writer, const struct publication_view *view, struct bytes note);
static void end_origins(struct session_move_out *out);

struct session_move_out *session_move_park(
    struct session_moves *moves, void *session, struct bytes client_id, uint64_t stamp, unsigned owner)
{
    (void)owner; /* whoever it is: the first newer one who asks gets it */
    struct session_move_out *out = out_new(moves, client_id, stamp);
    if (out == NULL)
        return NULL;
    out->session = session;
    out->in = in_find_client(moves, client_id, out->client_hash);
    if (out->in != NULL)
        out->in->out = out;
    return out;
}

/* What the new owner says.
 * --------------------------------------------------------------------------------------- */

void out_on_request(struct session_moves *moves, unsigned peer, uint64_t id, uint64_t stamp, bool discard,
    struct bytes client_id)
{
    uint64_t hash = keyed_hash_of(&moves->hash, client_id);
    struct session_move_out *out = out_find_client(moves, client_id, hash);
    if (out == NULL)
        take_out(moves, peer, id, stamp, discard, client_id);
    else if (discard && out->stamp < stamp)
        end(out);
    else if (discard || out->stamp >= stamp)
        answer_nothing(moves, peer, id);
    else if (out->state == OUT_PARKED)
        export_to(out, peer, id);
    else
        follow(out, peer, id, stamp);
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
            moves_send_peer(moves, it->peer, MOVE_REDIRECT, it->id, target);
        free(it);
        if (in != NULL)
            in_on_redirect(in, target);
    }
}

void out_on_given_up(struct session_move_out *out, bool discard)
{
    if (out->state == OUT_FORWARDING || discard)
        end(out);
    else
        lose_target(out);
}

bool out_follow(struct session_move_out *out, struct session_move_in *in)
{
    list_for_each(&out->followers, element, following)
    {
        if (list_entry(element, struct move_follower, link)->id == in->id)
            return true;
    }
    follow(out, bus_self(out->moves->bus), in->id, in->stamp);
    return true;
}

/* Marks and peers.
 * ----------------------------------------------------------------------------------------------- */

void out_on_mark(struct session_move_out *out, unsigned peer, const struct move_limit *limit, bool complete)
{
    uint64_t bit = move_bit(peer);
    if ((out->marked & bit) == 0)
        out->limits[peer] = *limit;
    out->marked |= bit;
    if (complete)
        out->complete |= bit;
    out_wake(out);
}

bool out_is_after(const struct session_move_out *out, unsigned peer, const struct publication_meta *meta)
{
    if ((out->marked & move_bit(peer)) == 0)
        return false;
    const struct move_limit *limit = &out->limits[peer];
    return meta->origin.incarnation != limit->incarnation || meta->sequence >= limit->sequence;
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

void out_peer_died(struct session_moves *moves, unsigned peer)
{
    struct list outs;
    list_init(&outs);
    list_splice(&outs, &moves->outs);
    while (!list_empty(&outs)) {
        struct session_move_out *out = list_entry(outs.next, struct session_move_out, link);
        list_remove(&out->link);
        list_append(&moves->outs, &out->link);
        list_for_each(&out->followers, element, following)
        {
            struct move_follower *it = list_entry(element, struct move_follower, link);
            if (it->peer != peer)
                continue;
            list_remove(&it->link);
            free(it);
        }
        if (out->state == OUT_PARKED || out->peer != peer)
            origin_died(out, peer);
        else if (out->state == OUT_FORWARDING)
            end(out);
        else
            lose_target(out);
    }
}

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
            moved |= step(out);
        }
    }
}

void out_wake(struct session_move_out *out)
{
    if (list_empty(&out->work))
        list_append(&out->moves->work_out, &out->work);
}

/* Finding, making, freeing.
 * -------------------------------------------------------------------------------------- */

struct out_key {
    unsigned peer;
    uint64_t id;
};

static bool has_target(const void *value, const void *key)
{
    const struct session_move_out *out = value;
    const struct out_key *wanted = key;
    return out->id == wanted->id && out->peer == wanted->peer;
}

struct session_move_out *out_find(struct session_moves *moves, unsigned peer, uint64_t id)
{
    struct out_key key = {peer, id};
    return hash_table_find(&moves->outs_by_target, moves_mix(id, peer), has_target, &key);
}

static bool is_of_client(const void *value, const void *key)
{
    return bytes_equal(out_client(value), *(const struct bytes *)key);
}

/* One that nobody has imported yet. */
struct session_move_out *out_find_client(struct session_moves *moves, struct bytes client_id, uint64_t hash)
{
    return hash_table_find(&moves->outs_by_client, hash, is_of_client, &client_id);
}

static struct session_move_out *out_new(struct session_moves *moves, struct bytes client_id, uint64_t stamp)
{
    struct session_move_out *out = calloc(1, sizeof *out + client_id.size);
    if (out == NULL)
        return NULL;
    out->moves = moves;
    out->state = OUT_PARKED;
    out->stamp = stamp;
    list_init(&out->work);
    list_init(&out->followers);
    out->client_id_size = (uint16_t)client_id.size;
    memcpy(out->client_id, client_id.data, client_id.size);
    out->client_hash = keyed_hash_of(&moves->hash, client_id);
    if (hash_table_insert(&moves->outs_by_client, out->client_hash, out) != STATUS_OK) {
        free(out);
        return NULL;
    }
    list_append(&moves->outs, &out->link);
    moves->count++;
    return out;
}

void out_free(struct session_move_out *out)
{
    struct session_moves *moves = out->moves;
    list_remove(&out->link);
    list_remove(&out->work);
    if (out->state != OUT_FORWARDING)
        hash_table_remove(&moves->outs_by_client, out->client_hash, out);
    if (out->state != OUT_PARKED)
        hash_table_remove(&moves->outs_by_target, moves_mix(out->id, out->peer), out);
    list_for_each(&out->followers, element, following) free(list_entry(element, struct move_follower, link));
    free(out->writer.data);
    moves->count--;
    free(out);
}

/* What it does.
 * -------------------------------------------------------------------------------------------------- */

static void take_out(struct session_moves *moves, unsigned peer, uint64_t id, uint64_t stamp, bool discard,
    struct bytes client_id)
{
    struct session_move_out *out = out_new(moves, client_id, stamp - 1);
    if (out == NULL) {
        answer_nothing(moves, peer, id);
        return;
    }
    moves->discarding = discard;
    out->session = moves->ops->take_out(moves->context, client_id, stamp, discard, out);
    moves->discarding = false;
    if (out->session == NULL) {
        out_free(out);
        if (!discard)
            refuse(moves, peer, id, client_id);
        return;
    }
    struct session_move_in *in = in_find_client(moves, client_id, out->client_hash);
    if (in != NULL && in->session == out->session) {
        bool merging = in->state == IN_MERGING;
        if (in_hand_on(in, peer, id)) {
            void *session = out->session;
            out_free(out);
            moves->ops->out_done(moves->context, session);
            return;
        }
        if (merging) {
            out->in = in;
            in->out = out;
        }
    }
    export_to(out, peer, id);
}

/* Only a copy: until the new owner says that it has it, the session is ours. */
static void export_to(struct session_move_out *out, unsigned peer, uint64_t id)
{
    struct session_moves *moves = out->moves;
    out->writer.size = 0;
    out->writer.failed = false;
    enum status status = moves->ops->export_state(moves->context, out->session, false, &out->writer);
    if (status == STATUS_OK && out->writer.size <= UINT32_MAX)
        status = hash_table_insert(&moves->outs_by_target, moves_mix(id, peer), out);
    if (status != STATUS_OK) {
        answer_nothing(moves, peer, id);
        keep_or_return(out);
        return;
    }
    out->peer = peer;
    out->id = id;
    out->state = OUT_SENDING;
    out->sent = 0;
    out->marked = out->complete = out->told = ~moves_everybody(moves);
    memset(out->due, 0, sizeof out->due);
    out_wake(out);
}

/* Nothing here (any more): whoever took it last may know. */
static void refuse(struct session_moves *moves, unsigned peer, uint64_t id, struct bytes client_id)
{
    list_for_each(&moves->outs, element, following)
    {
        struct session_move_out *out = list_entry(element, struct session_move_out, link);
        if (out->state != OUT_FORWARDING || out->peer == peer || !bytes_equal(out_client(out), client_id))
            continue;
        moves_send_peer(moves, peer, MOVE_REDIRECT, id, out->peer);
        return;
    }
    answer_nothing(moves, peer, id);
}

static void answer_nothing(struct session_moves *moves, unsigned peer, uint64_t id)
{
    if (peer != bus_self(moves->bus)) {
        moves_send_plain(moves, peer, MOVE_NOTHING, id);
        return;
    }
    struct session_move_in *in = in_find(moves, id);
    if (in != NULL)
        in_on_nothing(in);
}

static void follow(struct session_move_out *out, unsigned peer, uint64_t id, uint64_t stamp)
{
    struct move_follower *it = malloc(sizeof *it);
    if (it == NULL) {
        answer_nothing(out->moves, peer, id);
        return;
    }
    *it = (struct move_follower){.peer = peer, .id = id, .stamp = stamp};
    list_append(&out->followers, &it->link);
}

/* The session is at the new owner, or has ended: nothing is left here. */
static void end(struct session_move_out *out)
{
    struct session_moves *moves = out->moves;
    void *session = out->session;
    if (out->in != NULL)
        out->in->out = NULL;
    if (out->state == OUT_SENDING || out->state == OUT_SENT)
        answer_nothing(moves, out->peer, out->id);
    list_for_each(&out->followers, element, following)
    {
        struct move_follower *it = list_entry(element, struct move_follower, link);
        answer_nothing(
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
        answer_nothing(moves, loser->peer, loser->id);
        free(loser);
    }
    if (newest == NULL) {
        keep_or_return(out);
        return;
    }
    struct move_follower chosen = *newest;
    list_remove(&newest->link);
    free(newest);
    struct session_move_in *in = chosen.peer == bus_self(moves->bus) ? in_find(moves, chosen.id) : NULL;
    if (in != NULL)
        in_take_own(in, out);
    else if (chosen.peer == bus_self(moves->bus))
        keep_or_return(out);
    else
        export_to(out, chosen.peer, chosen.id);
}

/* Waits for a newer session of this worker that looks for it; without one it is an ordinary session again. */
static void keep_or_return(struct session_move_out *out)
{
    struct session_moves *moves = out->moves;
    void *session = out->session;
    if (in_find_client(moves, out_client(out), out->client_hash) != NULL)
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

/* True if something went out. */
static bool step(struct session_move_out *out)
{
    struct session_moves *moves = out->moves;
    size_t budget = MOVE_TURN_MAX;
    if (out->state == OUT_PARKED) {
        keep_or_return(out);
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
    if (out->told == UINT64_MAX && out->in == NULL &&
        moves->ops->queue_length(moves->context, out->session) == 0) {
        moves_send_plain(moves, out->peer, MOVE_END, out->id);
        end(out);
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
        bool ours = !queued_after(out, &view.meta);
        bool encoded = ours && encode(&out->writer, &view, note);
        if (ours && !encoded)
            moves->ops->held_dropped(moves->context, out->session, &view);
        publication_unref(&publication);
        if (encoded)
            return true;
    }
    return false;
}

/* Came before it was sure that the new owner takes the session, but after the mark: it has that directly. */
static bool queued_after(const struct session_move_out *out, const struct publication_meta *meta)
{
    unsigned origin = meta->origin.slot % BUS_PEERS_MAX;
    const struct move_limit *limit = &out->limits[origin];
    return (out->marked & move_bit(origin)) != 0 && meta->origin.incarnation == limit->incarnation &&
           limit->sequence != 0 && meta->sequence >= limit->sequence;
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

/* Tells of each origin once all of it was forwarded, in the midst of the queue too. */
static void end_origins(struct session_move_out *out)
{
    struct session_moves *moves = out->moves;
    uint32_t queued = moves->ops->queue_length(moves->context, out->session);
    for (uint64_t left = out->complete & ~out->told; left != 0; left &= left - 1) {
        unsigned origin = (unsigned)__builtin_ctzll(left);
        /* What we still wait for from an older owner is forwarded, too. */
        if (out->in != NULL && (out->in->ended & move_bit(origin)) == 0)
            continue;
        if (out->due[origin] == 0)
            out->due[origin] = out->popped + queued + 1;
        if (out->popped + 1 < out->due[origin] && queued > 0)
            continue;
        out->told |= move_bit(origin);
        uint8_t body[MOVE_HEAD_SIZE + 17];
        uint8_t *to = moves_begin(moves, out->peer, body, MOVE_ORIGIN_END, out->id);
        to = record_write_u8(to, (uint8_t)origin);
        to = record_write_u64(to, out->limits[origin].incarnation);
        moves_send(moves, out->peer, body, record_write_u64(to, out->limits[origin].sequence));
    }
}
