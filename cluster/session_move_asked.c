/*
 * Somebody asks for a session: it is given, or he is sent to where it went, or waits until that is known.
 * Worker process.
 */
#include "cluster/session_move_private.h"

#include <stdlib.h>

static bool claim_is_open(struct session_moves *moves, const struct move_request *request);
static bool newer_asks(struct session_moves *moves, const struct move_request *request);
static bool send_where_it_was(struct session_moves *moves, const struct move_request *request);
static void tell_newer(struct session_moves *moves, const struct move_request *request);
static void refuse(struct session_moves *moves, const struct move_request *request);
static bool keep_early(struct session_moves *moves, const struct move_request *request);
static void follow(struct session_move_out *out, const struct move_request *request);
static void followers_discard(struct session_move_out *out, unsigned peer, uint64_t id);

/* The newest session here goes first; what is older is asked for by whoever has the newest (SEE). */
void out_on_request(struct session_moves *moves, const struct move_request *request)
{
    if (claim_is_open(moves, request) && keep_early(moves, request))
        return;
    if (send_where_it_was(moves, request))
        return;
    if (out_take(moves, request))
        return;
    if (newer_asks(moves, request) && keep_early(moves, request))
        return;
    uint64_t hash = keyed_hash_of(&moves->hash, request->client_id);
    struct session_move_out *out = out_find_client(moves, request->client_id, hash, NULL);
    if (out == NULL) {
        refuse(moves, request);
    } else if (out->stamp >= request->stamp) {
        out_answer_nothing(moves, request->peer, request->id);
    } else if (out->state != OUT_PARKED) {
        follow(out, request);
    } else if (request->discard) {
        out_end(out);
        out_answer_nothing(moves, request->peer, request->id);
    } else {
        out_give(out, request->peer, request->id);
    }
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

/* Of two registrars that served at the same time, each has granted a claim: ours is the newer. */
static void tell_newer(struct session_moves *moves, const struct move_request *request)
{
    uint64_t owned = claims_owned(moves->claims, request->client_id);
    if (owned > request->stamp)
        claims_tell_newer(moves->claims, request->peer, request->client_id, owned);
}

/* Nothing here (any more), but whoever took it last, or had it before a claim that was given up, may know. */
static void refuse(struct session_moves *moves, const struct move_request *request)
{
    unsigned previous = BUS_PEERS_MAX;
    uint64_t before = 0;
    if (moves->claims != NULL && !request->discard)
        tell_newer(moves, request);
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
        out_answer_nothing(moves, request->peer, request->id);
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

void out_drop_earlies(struct session_moves *moves, uint64_t peers)
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
    out_drop_earlies(moves, UINT64_MAX);
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
            out_drop_followers(out, peer, id);
    }
}

void out_answer_nothing(struct session_moves *moves, unsigned peer, uint64_t id)
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
        out_answer_nothing(out->moves, request->peer, request->id);
        return;
    }
    *it = (struct move_follower){
        .peer = request->peer, .id = request->id, .stamp = request->stamp, .discard = request->discard};
    list_append(&out->followers, &it->link);
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

static void followers_discard(struct session_move_out *out, unsigned peer, uint64_t id)
{
    list_for_each(&out->followers, element, following)
    {
        struct move_follower *it = list_entry(element, struct move_follower, link);
        it->discard |= it->peer == peer && it->id == id;
    }
}

/* Those of a peer: this one, or all (0). */
void out_drop_followers(struct session_move_out *out, unsigned peer, uint64_t id)
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
