/*
 * A peer's part in the moves of others (and of its own): having applied the new owner's routes it marks its
 * lanes, so that both owners know what is whose. Worker process.
 *
 * The limit is taken in the moment in which the mark goes into the lane: nothing with a later sequence is
 * before it. What is after it with an earlier one are the last fragments of large publications; `complete`
 * follows them.
 */
#include "cluster/session_move_private.h"

#include <stdlib.h>

#define MARK_SIZE (MOVE_HEAD_SIZE + 10u)

static bool mark_step(struct session_moves *moves, struct move_mark *mark);
static bool put_mark(struct session_moves *moves, struct move_mark *mark);
static bool complete(struct session_moves *moves, struct move_mark *mark);
static void send_passed(struct session_moves *moves, struct move_mark *mark);
static bool flushed(const struct session_moves *moves, unsigned peer, uint64_t limit);

void mark_request(struct session_moves *moves, unsigned new_owner, uint64_t id, unsigned old_owner,
    uint64_t old_incarnation)
{
    struct move_mark *mark = calloc(1, sizeof *mark);
    if (mark == NULL)
        return; /* the move waits for us as for one that stands still, without a loss */
    mark->new_owner = new_owner;
    mark->old_owner = old_owner;
    mark->old_incarnation = old_incarnation;
    mark->id = id;
    list_append(&moves->marks, &mark->link);
    if (mark_step(moves, mark)) {
        list_remove(&mark->link);
        free(mark);
    }
}

void mark_work(struct session_moves *moves)
{
    list_for_each(&moves->marks, element, following)
    {
        struct move_mark *mark = list_entry(element, struct move_mark, link);
        if (!mark_step(moves, mark))
            continue;
        list_remove(&mark->link);
        free(mark);
    }
}

/* The old owner's death does not end it: the new owner still has to know what came before. */
void mark_peer_died(struct session_moves *moves, unsigned peer)
{
    list_for_each(&moves->marks, element, following)
    {
        struct move_mark *mark = list_entry(element, struct move_mark, link);
        if (mark->new_owner != peer)
            continue;
        list_remove(&mark->link);
        free(mark);
    }
}

void mark_done(struct session_moves *moves)
{
    list_for_each(&moves->marks, element, following) free(list_entry(element, struct move_mark, link));
    list_init(&moves->marks);
}

/* True when both owners have been told all. */
static bool mark_step(struct session_moves *moves, struct move_mark *mark)
{
    if (mark->limit == 0 && !put_mark(moves, mark))
        return false;
    if (!mark->completed && !complete(moves, mark))
        return false;
    if (!flushed(moves, mark->new_owner, mark->limit))
        return false;
    send_passed(moves, mark);
    return true;
}

/* Incarnations grow: one that we have not been told of yet is not gone. */
static bool old_owner_is_gone(const struct session_moves *moves, const struct move_mark *mark)
{
    uint64_t known = bus_peer_origin(moves->bus, mark->old_owner).incarnation;
    bool lives = (bus_live_peers(moves->bus) & move_bit(mark->old_owner)) != 0;
    return known > mark->old_incarnation || (known == mark->old_incarnation && !lives);
}

static bool old_owner_is_unknown(const struct session_moves *moves, const struct move_mark *mark)
{
    return bus_peer_origin(moves->bus, mark->old_owner).incarnation < mark->old_incarnation;
}

static bool put_mark(struct session_moves *moves, struct move_mark *mark)
{
    unsigned peer = mark->old_owner;
    if (peer == bus_self(moves->bus)) {
        struct move_limit limit = {bus_origin(moves->bus).incarnation, bus_next_sequence(moves->bus)};
        mark->limit = limit.sequence;
        mark->completed = true; /* our own clients' publications are delivered at once */
        struct session_move_out *out = out_find(moves, mark->new_owner, mark->id);
        if (out != NULL)
            out_on_mark(out, peer, &limit, true);
        return true;
    }
    if (old_owner_is_gone(moves, mark)) {
        mark->limit = bus_next_sequence(moves->bus);
        mark->completed = true;
        return true;
    }
    if (old_owner_is_unknown(moves, mark))
        return false; /* the master will tell us */
    if (bus_full(moves->bus, move_bit(peer), MARK_SIZE + OUTBOX_SLACK, BUS_ROOM_CONTROL) != 0)
        return false;
    uint8_t *to = bus_put(moves->bus, peer, BUS_RECORD_MOVE_MARK, MARK_SIZE, BUS_ROOM_CONTROL);
    if (to == NULL)
        return false;
    mark->limit = bus_next_sequence(moves->bus);
    mark->completed = flushed(moves, peer, mark->limit);
    to = moves_begin(moves, peer, to, MOVE_MARK, mark->id);
    to = record_write_u8(to, (uint8_t)mark->new_owner);
    to = record_write_u64(to, mark->limit);
    record_write_u8(to, mark->completed);
    return true;
}

static bool complete(struct session_moves *moves, struct move_mark *mark)
{
    if (!old_owner_is_gone(moves, mark)) {
        if (!flushed(moves, mark->old_owner, mark->limit))
            return false;
        uint8_t body[MARK_SIZE];
        uint8_t *to = moves_begin(moves, mark->old_owner, body, MOVE_MARK, mark->id);
        to = record_write_u8(to, (uint8_t)mark->new_owner);
        to = record_write_u64(to, mark->limit);
        moves_send(moves, mark->old_owner, body, record_write_u8(to, true));
    }
    mark->completed = true;
    return true;
}

static void send_passed(struct session_moves *moves, struct move_mark *mark)
{
    unsigned self = bus_self(moves->bus);
    if (mark->new_owner == self) {
        struct session_move_in *in = in_find(moves, mark->id);
        struct move_limit limit = {bus_origin(moves->bus).incarnation, mark->limit};
        if (in != NULL)
            in_on_passed(in, self, &limit);
        return;
    }
    uint8_t body[MOVE_HEAD_SIZE + 8];
    uint8_t *to = moves_begin(moves, mark->new_owner, body, MOVE_PASSED, mark->id);
    moves_send(moves, mark->new_owner, body, record_write_u64(to, mark->limit));
}

/* Nothing that was published before lies in the lane half. */
static bool flushed(const struct session_moves *moves, unsigned peer, uint64_t limit)
{
    if (peer == bus_self(moves->bus) || moves->oldest_partial == NULL)
        return true;
    return moves->oldest_partial(moves->context, peer) > limit;
}
