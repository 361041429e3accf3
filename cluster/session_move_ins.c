/*
 * The moves that come here: made, found, freed, and woken by time, by their peers' deaths and by room in
 * lanes. Worker process.
 */
#include "cluster/session_move_private.h"

#include <stdlib.h>

static void step(struct session_move_in *in);

struct session_move_in *in_new(struct session_moves *moves, void *session, struct bytes client_id)
{
    struct session_move_in *in = calloc(1, sizeof *in + client_id.size);
    if (in == NULL)
        return NULL;
    in->moves = moves;
    in->session = session;
    in->state = IN_QUEUED;
    in->sent_here = BUS_PEERS_MAX;
    in->id = bus_stamp(moves->bus);
    list_init(&in->work);
    list_init(&in->held);
    in->client_id_size = (uint16_t)client_id.size;
    memcpy(in->client_id, client_id.data, client_id.size);
    in->client_hash = keyed_hash_of(&moves->hash, client_id);
    if (hash_table_insert(&moves->ins_by_id, moves_mix(in->id, 0), in) != STATUS_OK) {
        free(in);
        return NULL;
    }
    if (hash_table_insert(&moves->ins_by_client, in->client_hash, in) != STATUS_OK) {
        hash_table_remove(&moves->ins_by_id, moves_mix(in->id, 0), in);
        free(in);
        return NULL;
    }
    list_append(&moves->ins, &in->link);
    moves->count++;
    return in;
}

void in_free(struct session_move_in *in)
{
    struct session_moves *moves = in->moves;
    list_remove(&in->link);
    list_remove(&in->work);
    hash_table_remove(&moves->ins_by_id, moves_mix(in->id, 0), in);
    hash_table_remove(&moves->ins_by_client, in->client_hash, in);
    list_for_each(&in->held, element, following)
        in_held_free(in, list_entry(element, struct move_held, link));
    seen_done(&in->seen);
    parts_done(&in->parts);
    origins_done(&in->origins);
    moves->count--;
    /* A parked session whose successor is gone is looked after by out_work. */
    struct session_move_out *out = out_find_client(moves, in_client(in), in->client_hash, NULL);
    if (out != NULL)
        out_wake(out);
    free(in);
}

void in_wake(struct session_move_in *in)
{
    if (list_empty(&in->work))
        list_append(&in->moves->work_in, &in->work);
}

static bool has_id(const void *value, const void *key)
{
    return ((const struct session_move_in *)value)->id == *(const uint64_t *)key;
}

struct session_move_in *in_find(struct session_moves *moves, uint64_t id)
{
    return hash_table_find(&moves->ins_by_id, moves_mix(id, 0), has_id, &id);
}

/* The first move of a session that is not leaving. */
static bool is_for_client(const void *value, const void *key)
{
    const struct session_move_in *in = value;
    return in->out == NULL && in->state != IN_QUEUED && !in->discard &&
           bytes_equal(in_client(in), *(const struct bytes *)key);
}

struct session_move_in *in_find_client(struct session_moves *moves, struct bytes client_id, uint64_t hash)
{
    return hash_table_find(&moves->ins_by_client, hash, is_for_client, &client_id);
}

struct session_key {
    struct bytes client_id;
    const void *session;
};

static bool is_of_session(const void *value, const void *key)
{
    const struct session_key *wanted = key;
    const struct session_move_in *in = value;
    return in->session == wanted->session && is_for_client(in, &wanted->client_id);
}

struct session_move_in *in_find_session(
    struct session_moves *moves, struct bytes client_id, uint64_t hash, const void *session)
{
    struct session_key key = {client_id, session};
    return hash_table_find(&moves->ins_by_client, hash, is_of_session, &key);
}

void in_work(struct session_moves *moves)
{
    struct list work;
    list_init(&work);
    list_splice(&work, &moves->work_in);
    while (!list_empty(&work)) {
        struct session_move_in *in = list_entry(work.next, struct session_move_in, work);
        list_remove(&in->work);
        step(in);
    }
}

static void step(struct session_move_in *in)
{
    if (in->state == IN_OWN)
        in_own_step(in);
    else if (in->state == IN_RECEIVED)
        in_import(in);
    else if (in->state == IN_MERGING)
        in_merging_step(in);
}

/* By number, since a callback may end others. */
static size_t collect(struct session_moves *moves, uint64_t **ret_ids)
{
    size_t count = 0;
    uint64_t *ids = malloc((moves->ins_by_id.count + 1) * sizeof *ids);
    *ret_ids = ids;
    if (ids == NULL)
        return 0;
    list_for_each(&moves->ins, element, following) ids[count++] =
        list_entry(element, struct session_move_in, link)->id;
    return count;
}

void in_peer_started(struct session_moves *moves, unsigned peer)
{
    list_for_each(&moves->ins, element, following)
        in_marking_peer_started(list_entry(element, struct session_move_in, link), peer);
}

void in_peer_died(struct session_moves *moves, unsigned peer)
{
    uint64_t *ids;
    size_t count = collect(moves, &ids);
    for (size_t i = 0; i < count; i++) {
        struct session_move_in *in = in_find(moves, ids[i]);
        if (in == NULL || in->state == IN_QUEUED)
            continue;
        bool previous = in->previous == peer;
        in_marking_peer_died(in, peer);
        in = in_find(moves, ids[i]);
        if (in != NULL && previous)
            in_previous_died(in);
    }
    free(ids);
}

void in_tick(struct session_moves *moves, uint64_t now_us)
{
    if (now_us < moves->next_us)
        return;
    uint64_t *ids;
    size_t count = collect(moves, &ids);
    moves->next_us = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        struct session_move_in *in = in_find(moves, ids[i]);
        bool waits = in != NULL && !in->late && (in->state == IN_ASKED || in->state == IN_OWN);
        if (!waits && (in == NULL || in->state != IN_EXPECTING))
            continue;
        if (in->deadline_us <= now_us && waits) {
            moves->next_us = 0; /* it may have begun to wait for something else: once more at the next tick */
            in_resolve(in, SESSION_MOVE_SILENT);
        } else if (in->deadline_us <= now_us)
            in_finish(in, NULL);
        else if (in->deadline_us < moves->next_us)
            moves->next_us = in->deadline_us;
    }
    free(ids);
}
