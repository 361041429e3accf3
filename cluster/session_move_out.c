/*
 * The old owner's side of a move: gives a copy of the state, and once the new owner has that, forwards what
 * is queued and what still comes, until every origin has marked its lane. Worker process.
 */
#include "cluster/session_move_private.h"

#include "cluster/acceptance.h"

#include <stdlib.h>

static struct session_move_out *out_new(struct session_moves *moves, struct bytes client_id, uint64_t stamp);
static bool take_out(struct session_moves *moves, const struct move_request *request);
static void begin_origins(struct session_move_out *out);
static void write_heard(struct session_moves *moves, struct session_move_writer *writer);
static void export_to(struct session_move_out *out, unsigned peer, uint64_t id);
static void refuse(struct session_moves *moves, const struct move_request *request);
static void give(struct session_move_out *out, unsigned peer, uint64_t id);
static bool claim_is_open(struct session_moves *moves, const struct move_request *request);
static bool newer_asks(struct session_moves *moves, const struct move_request *request);
static bool send_where_it_was(struct session_moves *moves, const struct move_request *request);
static bool keep_early(struct session_moves *moves, const struct move_request *request);
static void answer_nothing(struct session_moves *moves, unsigned peer, uint64_t id);
static void drop_followers(struct session_move_out *out, unsigned peer, uint64_t id);
static void followers_discard(struct session_move_out *out, unsigned peer, uint64_t id);
static void follow(struct session_move_out *out, const struct move_request *request);
static void drop_earlies(struct session_moves *moves, uint64_t peers);
static void end(struct session_move_out *out);
static void lose_target(struct session_move_out *out);
static void keep_or_return(struct session_move_out *out);
static void forget_target(struct session_move_out *out);
static bool step(struct session_move_out *out);
static bool forward(struct session_move_out *out, size_t *budget);
static bool next_to_forward(struct session_move_out *out);
static bool all_told(const struct session_move_out *out);
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
    out->own_stamp = stamp;
    out->in = in_find_session(moves, client_id, out->client_hash, session);
    if (out->in != NULL)
        out->in->out = out;
    return out;
}

/* What the new owner says.
 * --------------------------------------------------------------------------------------- */

/* The newest session here goes first; what is older is asked for by whoever has the newest (SEE). */
void out_on_request(struct session_moves *moves, const struct move_request *request)
{
    if (claim_is_open(moves, request) && keep_early(moves, request))
        return;
    if (send_where_it_was(moves, request))
        return;
    if (take_out(moves, request))
        return;
    if (newer_asks(moves, request) && keep_early(moves, request))
        return;
    uint64_t hash = keyed_hash_of(&moves->hash, request->client_id);
    struct session_move_out *out = out_find_client(moves, request->client_id, hash, NULL);
    if (out == NULL) {
        refuse(moves, request);
    } else if (out->stamp >= request->stamp) {
        answer_nothing(moves, request->peer, request->id);
    } else if (out->state != OUT_PARKED) {
        follow(out, request);
    } else if (request->discard) {
        end(out);
        answer_nothing(moves, request->peer, request->id);
    } else {
        give(out, request->peer, request->id);
    }
}

/* It was not its turn yet. Who asked to have it ended waits on. */
void out_on_given_up_early(struct session_moves *moves, unsigned peer, uint64_t id, bool discard)
{
    list_for_each(&moves->earlies, element, following)
    {
        struct move_early *early = list_entry(element, struct move_early, link);
        if (early->peer != peer || early->id != id)
            continue;
        early->discard = discard;
        if (discard)
            continue;
        list_remove(&early->link);
        free(early);
    }
    list_for_each(&moves->outs, element, following)
    {
        struct session_move_out *out = list_entry(element, struct session_move_out, link);
        if (discard)
            followers_discard(out, peer, id);
        else
            drop_followers(out, peer, id);
    }
}

void out_discard(struct session_move_out *out)
{
    end(out);
}

static void followers_discard(struct session_move_out *out, unsigned peer, uint64_t id)
{
    list_for_each(&out->followers, element, following)
    {
        struct move_follower *it = list_entry(element, struct move_follower, link);
        it->discard |= it->peer == peer && it->id == id;
    }
}

/* Those of a peer: this one, or all (0). */
static void drop_followers(struct session_move_out *out, unsigned peer, uint64_t id)
{
    list_for_each(&out->followers, element, following)
    {
        struct move_follower *it = list_entry(element, struct move_follower, link);
        if (it->peer != peer || (id != 0 && it->id != id))
            continue;
        list_remove(&it->link);
        free(it);
    }
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
        end(out);
    else
        lose_target(out);
}

bool out_follow(struct session_move_out *out, struct session_move_in *in)
{
    list_for_each(&out->followers, element, following)
    {
        struct move_follower *it = list_entry(element, struct move_follower, link);
        if (it->id != in->id)
            continue;
        it->discard = in->discard;
        return true;
    }
    follow(out,
        &(struct move_request){
            .peer = bus_self(out->moves->bus), .id = in->id, .stamp = in->stamp, .discard = in->discard});
    return true;
}

/* Marks and peers.
 * ----------------------------------------------------------------------------------------------- */

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

/* It has been read to its end: what came is all. */
static void origin_died(struct session_move_out *out, unsigned peer)
{
    const struct move_limit *heard = &out->moves->heard[peer];
    struct move_limit limit = {bus_peer_origin(out->moves->bus, peer).incarnation, 0};
    if (heard->incarnation == limit.incarnation)
        limit.sequence = heard->sequence + 1;
    out_on_mark(out, peer, &limit, true);
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
    drop_earlies(moves, move_bit(peer));
    struct list outs;
    list_init(&outs);
    list_splice(&outs, &moves->outs);
    while (!list_empty(&outs)) {
        struct session_move_out *out = list_entry(outs.next, struct session_move_out, link);
        list_remove(&out->link);
        list_append(&moves->outs, &out->link);
        drop_followers(out, peer, 0);
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

struct parked_key {
    struct bytes client_id;
    const void *but;
    struct session_move_out *newest;
};

static bool is_of_client(const void *value, const void *key)
{
    const struct session_move_out *out = value;
    const struct parked_key *wanted = key;
    return out->session != wanted->but && bytes_equal(out_client(out), wanted->client_id);
}

/* Never the one: all are looked at. */
static bool note_parked(const void *value, const void *key)
{
    struct session_move_out *out = (struct session_move_out *)(uintptr_t)value;
    struct parked_key *wanted = (struct parked_key *)(uintptr_t)key;
    if (out->state == OUT_PARKED && out->session != NULL && out->session != wanted->but &&
        bytes_equal(out_client(out), wanted->client_id) &&
        (wanted->newest == NULL || wanted->newest->stamp < out->stamp))
        wanted->newest = out;
    return false;
}

/* One that nobody has imported yet: best the newest that nobody has been promised. */
struct session_move_out *out_find_client(
    struct session_moves *moves, struct bytes client_id, uint64_t hash, const void *but)
{
    struct parked_key parked = {.client_id = client_id, .but = but};
    (void)hash_table_find(&moves->outs_by_client, hash, note_parked, &parked);
    if (parked.newest != NULL)
        return parked.newest;
    return hash_table_find(&moves->outs_by_client, hash, is_of_client, &parked);
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
    origins_done(&out->origins);
    moves->count--;
    /* One more session of the client may be parked here. */
    struct session_move_out *other = out_find_client(moves, out_client(out), out->client_hash, NULL);
    if (other != NULL)
        out_wake(other);
    free(out);
}

/* What it does.
 * -------------------------------------------------------------------------------------------------- */

/* False: the engine has none that is older than the stamp. */
static bool take_out(struct session_moves *moves, const struct move_request *request)
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
    give(out, request->peer, request->id);
    return true;
}

/* If it only waits for its own previous owner, the new owner does better to ask that one. So does whoever was
   sent here meanwhile. */
static void give(struct session_move_out *out, unsigned peer, uint64_t id)
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
    begin_origins(out);
    out_wake(out);
}

/* A claim of ours that is not answered yet may say that somebody else has something newer than is here. */
static bool claim_is_open(struct session_moves *moves, const struct move_request *request)
{
    unsigned previous;
    uint64_t stamp;
    return moves->claims != NULL && claims_trace(moves->claims, request->client_id, request->before,
                                        &previous, &stamp) == CLAIM_TRACE_WAITING;
}

/* A newer session here that asks around itself gets what is here before anybody older does. */
static bool newer_asks(struct session_moves *moves, const struct move_request *request)
{
    struct bytes client_id = request->client_id;
    struct session_move_in *in = in_find_client(moves, client_id, keyed_hash_of(&moves->hash, client_id));
    return in != NULL && in->state != IN_MERGING && in->state != IN_EXPECTING && in->stamp > request->stamp;
}

/* The newest stamp under which there is a session here that nobody has taken over yet; 0: none. */
static uint64_t newest_here(const struct session_moves *moves, struct bytes client_id)
{
    uint64_t newest = claims_owned(moves->claims, client_id);
    list_for_each(&moves->outs, element, following)
    {
        const struct session_move_out *out = list_entry(element, struct session_move_out, link);
        if (out->state != OUT_FORWARDING && out->own_stamp > newest &&
            bytes_equal(out_client(out), client_id))
            newest = out->own_stamp;
    }
    return newest;
}

/*
 * A claim of ours that was given up or handed on is newer than the session that is here: at that time
 * somebody else had the client. He has the newer part, and asks for the one that is here himself.
 */
static bool send_where_it_was(struct session_moves *moves, const struct move_request *request)
{
    unsigned previous;
    uint64_t stamp;
    if (moves->claims == NULL ||
        claims_trace(moves->claims, request->client_id, request->before, &previous, &stamp) !=
            CLAIM_TRACE_GIVEN_UP ||
        previous >= BUS_PEERS_MAX || previous == bus_self(moves->bus) ||
        stamp <= newest_here(moves, request->client_id))
        return false;
    moves_send_redirect(moves, request->peer, request->id, previous, stamp);
    return true;
}

/* Nothing here (any more), but whoever took it last, or had it before a claim that was given up, may know. */
static void refuse(struct session_moves *moves, const struct move_request *request)
{
    unsigned previous = BUS_PEERS_MAX;
    uint64_t before = 0;
    if (moves->claims != NULL)
        (void)claims_trace(moves->claims, request->client_id, request->before, &previous, &before);
    list_for_each(&moves->outs, element, following)
    {
        struct session_move_out *out = list_entry(element, struct session_move_out, link);
        if (out->state != OUT_FORWARDING || out->peer == request->peer ||
            !bytes_equal(out_client(out), request->client_id))
            continue;
        previous = out->peer;
        before = 0;
    }
    if (previous < BUS_PEERS_MAX)
        moves_send_redirect(moves, request->peer, request->id, previous, before);
    else
        answer_nothing(moves, request->peer, request->id);
}

static bool keep_early(struct session_moves *moves, const struct move_request *request)
{
    struct bytes client_id = request->client_id;
    struct move_early *early = malloc(sizeof *early + client_id.size);
    if (early == NULL)
        return false;
    early->peer = request->peer;
    early->id = request->id;
    early->stamp = request->stamp;
    early->before = request->before;
    early->discard = request->discard;
    early->client_id_size = (uint16_t)client_id.size;
    memcpy(early->client_id, client_id.data, client_id.size);
    list_append(&moves->earlies, &early->link);
    return true;
}

/* Each is asked once more; one that is still early waits on. */
void out_earlies(struct session_moves *moves)
{
    struct list earlies;
    list_init(&earlies);
    list_splice(&earlies, &moves->earlies);
    while (!list_empty(&earlies)) {
        struct move_early *early = list_entry(earlies.next, struct move_early, link);
        struct move_request request = {.peer = early->peer,
            .id = early->id,
            .stamp = early->stamp,
            .before = early->before,
            .discard = early->discard,
            .client_id = bytes_of(early->client_id, early->client_id_size)};
        list_remove(&early->link);
        if (claim_is_open(moves, &request) || newer_asks(moves, &request)) {
            list_append(&moves->earlies, &early->link);
            continue;
        }
        out_on_request(moves, &request);
        free(early);
    }
}

static void drop_earlies(struct session_moves *moves, uint64_t peers)
{
    list_for_each(&moves->earlies, element, following)
    {
        struct move_early *early = list_entry(element, struct move_early, link);
        if ((peers & move_bit(early->peer)) == 0)
            continue;
        list_remove(&early->link);
        free(early);
    }
}

void out_module_done(struct session_moves *moves)
{
    drop_earlies(moves, UINT64_MAX);
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

static void follow(struct session_move_out *out, const struct move_request *request)
{
    struct move_follower *it = malloc(sizeof *it);
    if (it == NULL) {
        answer_nothing(out->moves, request->peer, request->id);
        return;
    }
    *it = (struct move_follower){
        .peer = request->peer, .id = request->id, .stamp = request->stamp, .discard = request->discard};
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
    if (chosen.discard) {
        end(out);
        answer_nothing(moves, chosen.peer, chosen.id);
        return;
    }
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
    if (all_told(out) && out->in == NULL && moves->ops->queue_length(moves->context, out->session) == 0) {
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
        /* It may have come before it was sure that the new owner takes the session, but after the mark. */
        bool ours = !out_is_after(out, view.meta.origin.slot, &view.meta);
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
