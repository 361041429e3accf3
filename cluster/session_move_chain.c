/*
 * Several owners of parts of one session: moves queue behind each other, and who gives a session away names
 * those whom it still waits for. Worker process.
 */
#include "cluster/session_move_private.h"

#include <stdlib.h>

static void send_see(struct session_moves *moves, unsigned peer, uint64_t id, struct bytes body);

void in_append(struct session_move_in *chain, struct session_move_in *in)
{
    while (chain->next != NULL)
        chain = chain->next;
    chain->next = in;
    in->late = true;
}

bool in_is_asking(const struct session_move_in *chain, unsigned previous)
{
    for (; chain != NULL; chain = chain->next) {
        if (chain->state != IN_MERGING && chain->previous == previous)
            return true;
    }
    return false;
}

/* One more owner of an older part is to be asked behind this one. */
void in_ask_later(struct session_move_in *in, unsigned previous)
{
    if (in_is_asking(in, previous) || (in->discard && previous >= BUS_PEERS_MAX))
        return;
    struct session_move_in *later = in_new(in->moves, in->session, in_client(in));
    if (later == NULL)
        return; /* as if that part had been lost */
    later->stamp = later->before = in->stamp;
    later->previous = previous;
    later->discard = in->discard;
    in_append(in, later);
}

/* The old owner waited for a late part itself. It is the next to be asked, by whoever has the session in the
 * end. */
enum status in_on_see(struct session_move_in *in, struct record_reader *reader)
{
    struct session_moves *moves = in->moves;
    struct session_move_out *out = in->out;
    struct bytes body = reader->rest;
    unsigned peer = record_read_u8(reader);
    if (reader->failed || peer > BUS_PEERS_MAX)
        return STATUS_PROTOCOL;
    if (out != NULL && out->state != OUT_PARKED) {
        send_see(moves, out->peer, out->id, body);
        return STATUS_OK;
    }
    in_ask_later(in, peer);
    struct session_move_in *notes = in->late ? in : in->next;
    return notes != NULL ? seen_read(&notes->seen, reader) : STATUS_OK;
}

static void send_see(struct session_moves *moves, unsigned peer, uint64_t id, struct bytes body)
{
    uint8_t *record = malloc(MOVE_HEAD_SIZE + body.size);
    if (record == NULL)
        return; /* as if the older part had been lost */
    uint8_t *to = moves_begin(moves, peer, record, MOVE_SEE, id);
    moves_send(moves, peer, record, record_write_bytes(to, body));
    free(record);
}

/* With all that the client is known to have had, in as many records as it takes. */
static void tell_see(
    struct session_moves *moves, unsigned peer, uint64_t id, unsigned about, const struct hash_table *seen)
{
    static uint8_t body[1 + 1000 * MOVE_IDENTITY];
    size_t at = 0;
    do {
        body[0] = (uint8_t)about;
        size_t size = seen_write(seen, &at, body + 1, sizeof body - 1);
        send_see(moves, peer, id, bytes_of(body, 1 + size));
    } while (at != 0);
}

bool in_hand_on(struct session_move_in *in, unsigned peer, uint64_t id)
{
    struct session_moves *moves = in->moves;
    void *session = in->session;
    bool only_waits = in->state != IN_MERGING && !in->late;
    struct session_move_in *at = in->state == IN_MERGING ? in->next : in;
    if (at == in) {
        if (in->out != NULL)
            in->out->in = NULL;
        moves->ops->in_done(moves->context, session, NULL);
    } else {
        in->next = NULL;
    }
    for (bool first = only_waits; at != NULL; first = false) {
        struct session_move_in *next = at->next;
        unsigned previous = at->previous;
        in_give_up(at, false);
        if (first)
            moves_send_redirect(moves, peer, id, previous, at->before);
        else
            tell_see(moves, peer, id, previous, &at->seen);
        in_free(at);
        at = next;
    }
    return only_waits;
}
