/* The sessions that leave: made, found, freed, woken. Worker process. */
#include "cluster/session_move_private.h"

#include <stdlib.h>

struct session_move_out *out_new(struct session_moves *moves, struct bytes client_id, uint64_t stamp)
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

void out_wake(struct session_move_out *out)
{
    if (list_empty(&out->work))
        list_append(&out->moves->work_out, &out->work);
}

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
