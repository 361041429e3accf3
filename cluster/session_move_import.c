/*
 * The old owner's state is here: it is taken in, IMPORTED and the requests for marks go out, and then the
 * client is answered. Worker process.
 */
#include "cluster/session_move_private.h"

#include "shared/clock.h"

/* A state that is large or comes by a busy lane gets as long as it makes progress within this. */
#define PROGRESS_US 1000000u

static enum status read_heard(struct session_move_in *in, struct record_reader *reader);
static void imported(struct session_move_in *in);
static void request_marks(struct session_move_in *in);

enum status in_on_state(struct session_move_in *in, struct record_reader *reader)
{
    if (in->state != IN_ASKED || in->discard)
        return STATUS_OK;
    enum status status = parts_add(&in->parts, reader, in->moves->state_max);
    uint64_t deadline_us = clock_monotonic_us() + PROGRESS_US;
    if (deadline_us > in->deadline_us)
        in->deadline_us = deadline_us;
    if (status == STATUS_AGAIN)
        return STATUS_OK;
    if (status != STATUS_OK) {
        in_give_up(in, false);
        in_resolve(in, SESSION_MOVE_NOTHING);
        return status;
    }
    in->state = IN_RECEIVED;
    in_import(in);
    return STATUS_OK;
}

/* Waits for room first, so that IMPORTED goes with the very turn of the import. */
void in_import(struct session_move_in *in)
{
    struct session_moves *moves = in->moves;
    bool lives = (bus_live_peers(moves->bus) & move_bit(in->previous)) != 0;
    if (lives && bus_full(moves->bus, move_bit(in->previous), moves_part_max(moves, in->previous),
                     BUS_ROOM_CONTROL) != 0) {
        in_wake(in);
        return;
    }
    struct record_reader reader = record_read(bytes_of(in->parts.data, in->parts.size));
    enum status status = read_heard(in, &reader);
    if (status == STATUS_OK)
        status = moves->ops->import_state(moves->context, in->session, reader.rest, in->late);
    parts_done(&in->parts);
    if (status != STATUS_OK) {
        in_give_up(in, false);
        in->state = IN_ASKED;
        in_resolve(in, SESSION_MOVE_NOTHING);
        return;
    }
    imported(in);
}

static enum status read_heard(struct session_move_in *in, struct record_reader *reader)
{
    for (uint8_t left = record_read_u8(reader); left > 0 && !reader->failed; left--) {
        uint8_t peer = record_read_u8(reader);
        uint64_t incarnation = record_read_u64(reader);
        uint64_t sequence = record_read_u64(reader);
        if (!reader->failed)
            in_note_highest(in, peer, incarnation, sequence);
    }
    return reader->failed ? STATUS_PROTOCOL : STATUS_OK;
}

static void imported(struct session_move_in *in)
{
    struct session_moves *moves = in->moves;
    uint64_t id = in->id;
    in->state = IN_MERGING;
    in_queue_parked(in);
    in->owed = bus_live_peers(moves->bus);
    in->wanted = moves_everybody(moves);
    in->previous_incarnation = bus_peer_origin(moves->bus, in->previous).incarnation;
    moves_send_plain(moves, in->previous, MOVE_IMPORTED, in->id);
    in->answer_owed = !in->late;
    in_wake(in);
    mark_request(moves, bus_self(moves->bus), id, in->previous, in->previous_incarnation);
}

/* IMPORTED lies in the lane before the client hears of it: if we die then, the old owner does not go on. */
void in_merging_step(struct session_move_in *in)
{
    struct session_moves *moves = in->moves;
    request_marks(in);
    if (!in->answer_owed)
        return;
    if (!outbox_empty(&moves->outbox, in->previous)) {
        in_wake(in);
        return;
    }
    uint64_t id = in->id;
    in->answer_owed = false;
    moves->ops->answered(moves->context, in->session, SESSION_MOVE_FOUND);
    in = in_find(moves, id);
    if (in != NULL)
        in_check_done(in);
}

/* Behind our routes in the lane: so a peer that is not in step is asked when it has them. */
static void request_marks(struct session_move_in *in)
{
    struct session_moves *moves = in->moves;
    for (uint64_t left = in->owed; left != 0; left &= left - 1) {
        unsigned peer = (unsigned)__builtin_ctzll(left);
        if (!routes_in_step(moves->routes, peer))
            continue;
        in->owed &= ~move_bit(peer);
        uint8_t body[MOVE_HEAD_SIZE + 9];
        uint8_t *to = moves_begin(moves, peer, body, MOVE_MARK_REQUEST, in->id);
        to = record_write_u8(to, (uint8_t)in->previous);
        moves_send(moves, peer, body, record_write_u64(to, in->previous_incarnation));
    }
    if (in->owed != 0)
        in_wake(in);
}
