/*
 * After the import: what the old owner forwards goes first, what comes directly is held, origin by origin,
 * and each publication is delivered once. Worker process.
 */
#include "cluster/session_move_private.h"

#include "cluster/acceptance.h"

#include <stdlib.h>

static bool is_ours(const struct session_move_in *in, unsigned peer, const struct publication_meta *meta);
static enum session_move_verdict deliver_new(struct session_move_in *in, const struct publication_meta *meta);
static bool forwarded_twice(struct session_move_in *in, const struct publication_meta *meta);
static bool release_all(struct session_move_in *in);
static bool release_held(struct session_move_in *in, unsigned peer, bool all);

enum session_move_verdict in_verdict(
    struct session_move_in *in, unsigned peer, const struct publication_meta *meta, bool inherited)
{
    if (in->late || in->state != IN_MERGING)
        return in_had_already(in, meta) ? SESSION_MOVE_DROP : SESSION_MOVE_DELIVER;
    if (!inherited)
        return deliver_new(in, meta);
    bool over = in->end || (in->settled & move_bit(peer)) != 0;
    if (!over && !in_origin_ended(in, peer, meta->origin.incarnation))
        return SESSION_MOVE_HOLD;
    if (!is_ours(in, peer, meta))
        return SESSION_MOVE_DROP;
    (void)in_had_already(in, meta);
    return SESSION_MOVE_DELIVER;
}

/*
 * True if it is ours to deliver and not the old owner's. With a dead one it is what came neither to him while
 * he had the client nor to us by way of him.
 */
static bool is_ours(const struct session_move_in *in, unsigned peer, const struct publication_meta *meta)
{
    if (seen_has(&in->seen, meta))
        return false;
    const struct move_origin *origin = origin_find(&in->origins, peer, meta->origin.incarnation);
    bool limited = origin != NULL && origin->limit != 0;
    if (limited && (meta->sequence >= origin->limit || origin->complete || !in->orphan))
        return meta->sequence >= origin->limit;
    const struct move_limit *highest = &in->highest[peer];
    return highest->incarnation != meta->origin.incarnation || meta->sequence > highest->sequence;
}

/*
 * For a subscription that was made here. Remembered, since the old owner may pass it on all the same: the
 * client has given up a subscription and made it anew.
 */
static enum session_move_verdict deliver_new(struct session_move_in *in, const struct publication_meta *meta)
{
    if (seen_add(&in->seen, meta))
        return SESSION_MOVE_DROP;
    (void)in_had_already(in, meta);
    return SESSION_MOVE_DELIVER;
}

void session_move_hold(
    struct session_move_in *in, unsigned peer, struct publication *publication, struct bytes note)
{
    size_t size = sizeof(struct move_held) + note.size + publication_size(publication);
    struct move_held *held = NULL;
    if (in->held_size + size <= in->moves->held_max)
        held = malloc(sizeof *held + note.size);
    if (held == NULL) {
        struct publication_view view = publication_view(publication);
        in->moves->ops->held_dropped(in->moves->context, in->session, &view);
        return;
    }
    held->peer = peer;
    held->publication = publication_ref(publication);
    held->note_size = (uint32_t)note.size;
    if (note.size > 0)
        memcpy(held->note, note.data, note.size);
    in->held_size += size;
    list_append(&in->held, &held->link);
}

bool session_move_seen(struct session_move_in *in, const struct publication_meta *meta)
{
    return in_had_already(in, meta);
}

/*
 * The client gets this one now. True if it had it already: a late part. Otherwise it is remembered for the
 * late part that comes next, if there is one.
 */
bool in_had_already(struct session_move_in *in, const struct publication_meta *meta)
{
    if (in->late)
        return seen_add(&in->seen, meta);
    if (in->next != NULL)
        (void)seen_add(&in->next->seen, meta);
    return false;
}

enum status in_on_forward(struct session_move_in *in, struct record_reader *reader)
{
    if (in->state != IN_MERGING)
        return STATUS_PROTOCOL;
    enum status status = parts_add(&in->parts, reader, in->moves->state_max);
    if (status != STATUS_OK)
        return status == STATUS_AGAIN ? STATUS_OK : status;
    struct move_parts whole = in->parts; /* the session may end during the call */
    in->parts = (struct move_parts){0};
    struct record_reader parts = record_read(bytes_of(whole.data, whole.size));
    uint16_t note_size = record_read_u16(&parts);
    struct bytes note = record_read_bytes(&parts, note_size);
    struct publication_view view;
    status = parts.failed ? STATUS_PROTOCOL : acceptance_decode(parts.rest, &view);
    if (status == STATUS_OK) {
        in_note_highest(in, view.meta.origin.slot, view.meta.origin.incarnation, view.meta.sequence);
        if (in->out != NULL)
            out_wake(in->out);
        if (in->moves->ops->picked(note) ||
            (!forwarded_twice(in, &view.meta) && !in_had_already(in, &view.meta)))
            in->moves->ops->forwarded(in->moves->context, in->session, &view, note);
    }
    parts_done(&whole);
    return status;
}

/*
 * Of a chain of moves the marks may come in any order: an older owner may still pass on what is ours already.
 * If the limit is not known yet, the identity is remembered until what is held is released.
 */
static bool forwarded_twice(struct session_move_in *in, const struct publication_meta *meta)
{
    if (in->late)
        return false; /* in_had_already() sees to it */
    const struct move_origin *origin = origin_find(&in->origins, meta->origin.slot, meta->origin.incarnation);
    if (origin != NULL && origin->limit != 0)
        return meta->sequence >= origin->limit || seen_has(&in->seen, meta);
    return seen_add(&in->seen, meta);
}

void in_note_highest(struct session_move_in *in, unsigned peer, uint64_t incarnation, uint64_t sequence)
{
    struct move_limit *highest = &in->highest[peer % BUS_PEERS_MAX];
    if (highest->incarnation < incarnation)
        *highest = (struct move_limit){incarnation, sequence};
    else if (highest->incarnation == incarnation && highest->sequence < sequence)
        highest->sequence = sequence;
}

void in_on_origin_end(struct session_move_in *in, unsigned peer, const struct move_limit *limit)
{
    if (in->state != IN_MERGING)
        return;
    struct move_origin *origin = origin_get(&in->origins, peer, limit->incarnation);
    if (origin == NULL || origin->complete)
        return; /* without memory what is held waits for END */
    origin->limit = limit->sequence;
    origin->complete = true;
    (void)release_held(in, peer, false);
}

bool in_origin_ended(const struct session_move_in *in, unsigned peer, uint64_t incarnation)
{
    const struct move_origin *origin = origin_find(&in->origins, peer, incarnation);
    return origin != NULL && origin->complete;
}

void in_on_end(struct session_move_in *in)
{
    if (in->state != IN_MERGING)
        return;
    in->end = true;
    if (release_all(in))
        in_check_done(in);
}

void in_on_passed(struct session_move_in *in, unsigned peer, const struct move_limit *limit)
{
    if (in->state != IN_MERGING || (in->wanted & move_bit(peer)) == 0)
        return;
    in->wanted &= ~move_bit(peer);
    struct move_origin *origin = origin_get(&in->origins, peer, limit->incarnation);
    if (origin != NULL && !origin->complete)
        origin->limit = limit->sequence;
    if (!in->orphan || in_settle(in, peer))
        in_check_done(in);
}

/* It has our routes before it reads a client, or we ask it for a mark behind them, as all others. */
void in_marking_peer_started(struct session_move_in *in, unsigned peer)
{
    if (in->state != IN_MERGING || in->orphan || in->end)
        return;
    in->owed |= move_bit(peer);
    in->wanted |= move_bit(peer);
    in_wake(in);
}

/* A marking peer: it has been read to its end, so it has passed. If the old owner is gone, too, nobody says
 * more. */
void in_marking_peer_died(struct session_move_in *in, unsigned peer)
{
    if (in->state != IN_MERGING || (in->wanted & move_bit(peer)) == 0)
        return;
    in->owed &= ~move_bit(peer);
    in->wanted &= ~move_bit(peer);
    if (!in->orphan || in_settle(in, peer))
        in_check_done(in);
}

/* Nobody will forward more of this peer. False: the session has ended in a callback. */
bool in_settle(struct session_move_in *in, unsigned peer)
{
    in->settled |= move_bit(peer);
    return release_held(in, peer, false);
}

static bool release_all(struct session_move_in *in)
{
    return release_held(in, 0, true);
}

/* What was held of a peer (or of all) and is ours goes to the session; what the old owner has forwarded is
 * dropped. */
static bool release_held(struct session_move_in *in, unsigned peer, bool all)
{
    struct session_moves *moves = in->moves;
    uint64_t id = in->id;
    if (in->out != NULL)
        out_wake(in->out);
    list_for_each(&in->held, element, following)
    {
        struct move_held *held = list_entry(element, struct move_held, link);
        const struct publication_meta *meta = &held->publication->meta;
        bool over = all || (in->settled & move_bit(held->peer)) != 0 ||
                    in_origin_ended(in, held->peer, meta->origin.incarnation);
        if (!over || (!all && held->peer != peer))
            continue;
        bool ours = is_ours(in, held->peer, meta);
        if (ours)
            (void)in_had_already(in, meta);
        if (ours)
            moves->ops->release(
                moves->context, in->session, held->publication, bytes_of(held->note, held->note_size));
        if (in_find(moves, id) != in)
            return false;
        in_held_free(in, held);
    }
    return true;
}

void in_held_free(struct session_move_in *in, struct move_held *held)
{
    in->held_size -= sizeof *held + held->note_size + publication_size(held->publication);
    list_remove(&held->link);
    publication_unref(&held->publication);
    free(held);
}

/* Everything is here, and nothing that was the old owner's is still under way to us directly. */
void in_check_done(struct session_move_in *in)
{
    if (in->state != IN_MERGING || !(in->end || in->orphan) || in->wanted != 0 || in->answer_owed)
        return;
    if (release_all(in))
        in_finish(in, NULL);
}
