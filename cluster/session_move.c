/*
 * Moving sessions: life of the module, what comes by the bus, what its peers do. The two sides are in
 * session_move_in.c and session_move_out.c. Worker process; never logs, never blocks.
 */
#include "cluster/session_move_private.h"

#include "shared/clock.h"

#include <stdlib.h>

static enum status on_move(void *context, const struct bus_record *record);
static enum status on_mark(void *context, const struct bus_record *record);
static void on_started(void *context, unsigned peer);
static void on_died(void *context, unsigned peer);
static void on_room(void *context, unsigned peer);
static void on_turn_ending(void *context);
static void on_tick(void *context);

void session_moves_set_limits(struct session_moves *moves, size_t held_max, size_t state_max)
{
    moves->held_max = held_max != 0 ? held_max : 1048576;
    moves->state_max = state_max != 0 ? state_max : 67108864;
}

enum status session_moves_new(const struct session_moves_settings *settings, struct session_moves **ret_moves)
{
    struct session_moves *moves = calloc(1, sizeof *moves);
    if (moves == NULL)
        return STATUS_NO_MEMORY;
    enum status status = keyed_hash_init(&moves->hash);
    if (status != STATUS_OK) {
        free(moves);
        return status;
    }
    moves->bus = settings->bus;
    moves->routes = settings->routes;
    moves->claims = settings->claims;
    moves->ops = settings->ops;
    moves->context = settings->context;
    session_moves_set_limits(moves, settings->held_max, settings->state_max);
    moves->oldest_partial = settings->oldest_partial;
    moves->next_us = UINT64_MAX;
    outbox_init(&moves->outbox, moves->bus);
    list_init(&moves->ins);
    list_init(&moves->outs);
    list_init(&moves->work_in);
    list_init(&moves->work_out);
    list_init(&moves->marks);
    list_init(&moves->earlies);
    bus_set_handler(moves->bus, BUS_RECORD_MOVE, on_move, moves);
    bus_set_handler(moves->bus, BUS_RECORD_MOVE_MARK, on_mark, moves);
    bus_watch(moves->bus, &(struct bus_watcher){.context = moves,
                              .started = on_started,
                              .died = on_died,
                              .room = on_room,
                              .turn_ending = on_turn_ending,
                              .tick = on_tick});
    *ret_moves = moves;
    return STATUS_OK;
}

void session_moves_free(struct session_moves **moves)
{
    struct session_moves *it = *moves;
    *moves = NULL;
    if (it == NULL)
        return;
    list_for_each(&it->ins, element, following) in_free(list_entry(element, struct session_move_in, link));
    list_for_each(&it->outs, element, following) out_free(list_entry(element, struct session_move_out, link));
    mark_done(it);
    out_module_done(it);
    hash_table_done(&it->ins_by_id);
    hash_table_done(&it->ins_by_client);
    hash_table_done(&it->outs_by_target);
    hash_table_done(&it->outs_by_client);
    outbox_done(&it->outbox);
    free(it);
}

enum session_move_verdict session_move_verdict(struct session_move_in *in, struct session_move_out *out,
    unsigned peer, const struct publication_meta *meta, bool inherited)
{
    if (out != NULL) {
        /* While it is not sure that the new owner takes the session, everything is kept. */
        if (out->state == OUT_FORWARDING && out_is_after(out, peer, meta))
            return SESSION_MOVE_DROP;
        out_wake(out);
    }
    return in == NULL ? SESSION_MOVE_DELIVER : in_verdict(in, peer, meta, inherited);
}

void session_move_wake(struct session_move_out *out)
{
    out_wake(out);
}

void session_moves_heard(struct session_moves *moves, unsigned peer, const struct publication_meta *meta)
{
    struct move_limit *heard = &moves->heard[peer];
    if (heard->incarnation != meta->origin.incarnation || heard->sequence < meta->sequence)
        *heard = (struct move_limit){meta->origin.incarnation, meta->sequence};
}

uint64_t session_moves_next_us(const struct session_moves *moves)
{
    return moves->next_us;
}

size_t session_moves_count(const struct session_moves *moves)
{
    return moves->count;
}

uint8_t *moves_begin(
    struct session_moves *moves, unsigned peer, uint8_t *to, enum move_kind kind, uint64_t id)
{
    to = record_write_u8(to, (uint8_t)kind);
    to = record_write_u64(to, bus_peer_origin(moves->bus, peer).incarnation);
    return record_write_u64(to, id);
}

void moves_send(struct session_moves *moves, unsigned peer, const uint8_t *body, const uint8_t *end)
{
    enum bus_record_type type = body[0] >= MOVE_MARK_REQUEST ? BUS_RECORD_MOVE_MARK : BUS_RECORD_MOVE;
    outbox_put(&moves->outbox, peer, type, bytes_of(body, (size_t)(end - body)), BUS_ROOM_CONTROL);
}

void moves_send_plain(struct session_moves *moves, unsigned peer, enum move_kind kind, uint64_t id)
{
    uint8_t body[MOVE_HEAD_SIZE];
    moves_send(moves, peer, body, moves_begin(moves, peer, body, kind, id));
}

void moves_send_u8(
    struct session_moves *moves, unsigned peer, enum move_kind kind, uint64_t id, uint8_t value)
{
    uint8_t body[MOVE_HEAD_SIZE + 1];
    uint8_t *to = moves_begin(moves, peer, body, kind, id);
    moves_send(moves, peer, body, record_write_u8(to, value));
}

void moves_send_redirect(
    struct session_moves *moves, unsigned peer, uint64_t id, unsigned to_ask, uint64_t before)
{
    uint8_t body[MOVE_HEAD_SIZE + 9];
    uint8_t *to = moves_begin(moves, peer, body, MOVE_REDIRECT, id);
    to = record_write_u8(to, (uint8_t)to_ask);
    moves_send(moves, peer, body, record_write_u64(to, before));
}

/* What comes by the bus.
 * ---------------------------------------------------------------------------------------- */

/* The record's kind and move; false: it is malformed, or between the dead (`*ret_status` says). */
static bool read_head(struct session_moves *moves, const struct bus_record *record,
    struct record_reader *reader, uint8_t *ret_kind, uint64_t *ret_id, enum status *ret_status)
{
    *ret_kind = record_read_u8(reader);
    uint64_t incarnation = record_read_u64(reader);
    *ret_id = record_read_u64(reader);
    *ret_status = reader->failed ? STATUS_PROTOCOL : STATUS_OK;
    return !reader->failed && incarnation == bus_origin(moves->bus).incarnation &&
           record->origin.incarnation == bus_peer_origin(moves->bus, record->peer).incarnation;
}

static enum status on_request(
    struct session_moves *moves, unsigned peer, uint64_t id, struct record_reader *reader)
{
    struct move_request request = {.peer = peer, .id = id, .stamp = record_read_u64(reader)};
    request.before = record_read_u64(reader);
    request.discard = record_read_u8(reader) != 0;
    request.client_id = reader->rest;
    if (reader->failed || request.client_id.size == 0 || request.client_id.size > UINT16_MAX)
        return STATUS_PROTOCOL;
    bus_stamp_heard(moves->bus, request.stamp);
    out_on_request(moves, &request);
    return STATUS_OK;
}

static enum status on_given_up(
    struct session_moves *moves, unsigned peer, uint64_t id, struct record_reader *reader)
{
    bool discard = record_read_u8(reader) != 0;
    if (!record_read_end(reader))
        return STATUS_PROTOCOL;
    struct session_move_out *out = out_find(moves, peer, id);
    if (out != NULL)
        out_on_given_up(out, discard);
    else
        out_on_given_up_early(moves, peer, id, discard);
    return STATUS_OK;
}

static enum status on_origin_end(struct session_move_in *in, struct record_reader *reader)
{
    unsigned origin = record_read_u8(reader);
    struct move_limit limit = {.incarnation = record_read_u64(reader)};
    limit.sequence = record_read_u64(reader);
    if (!record_read_end(reader) || origin >= BUS_PEERS_MAX)
        return STATUS_PROTOCOL;
    in_on_origin_end(in, origin, &limit);
    return STATUS_OK;
}

static enum status on_redirect(struct session_move_in *in, struct record_reader *reader)
{
    unsigned peer = record_read_u8(reader);
    uint64_t before = record_read_u64(reader);
    if (!record_read_end(reader) || peer >= BUS_PEERS_MAX)
        return STATUS_PROTOCOL;
    in_on_redirect(in, peer, before);
    return STATUS_OK;
}

/* From the old owner to one of our moves in. */
static enum status on_move_in(struct session_move_in *in, uint8_t kind, struct record_reader *reader)
{
    switch (kind) {
    case MOVE_NOTHING:
        in_on_nothing(in);
        return STATUS_OK;
    case MOVE_REDIRECT:
        return on_redirect(in, reader);
    case MOVE_SEE:
        return in_on_see(in, reader);
    case MOVE_STATE:
        return in_on_state(in, reader);
    case MOVE_FORWARD:
        return in_on_forward(in, reader);
    case MOVE_ORIGIN_END:
        return on_origin_end(in, reader);
    case MOVE_END:
        in_on_end(in);
        return STATUS_OK;
    default:
        return STATUS_PROTOCOL;
    }
}

static enum status on_move(void *context, const struct bus_record *record)
{
    struct session_moves *moves = context;
    struct record_reader reader = record_read(record->body);
    uint8_t kind;
    uint64_t id;
    enum status status;
    if (!read_head(moves, record, &reader, &kind, &id, &status))
        return status;
    if (kind == MOVE_REQUEST)
        return on_request(moves, record->peer, id, &reader);
    if (kind == MOVE_GIVEN_UP)
        return on_given_up(moves, record->peer, id, &reader);
    if (kind == MOVE_IMPORTED) {
        struct session_move_out *out = out_find(moves, record->peer, id);
        if (out != NULL)
            out_on_imported(out);
        else /* ended meanwhile by who is newer than both: there is nothing to forward */
            moves_send_plain(moves, record->peer, MOVE_END, id);
        return STATUS_OK;
    }
    struct session_move_in *in = in_find(moves, id);
    if (in == NULL || in->previous != record->peer)
        return STATUS_OK; /* cancelled meanwhile; the old owner was told */
    return on_move_in(in, kind, &reader);
}

static enum status on_passed(
    struct session_moves *moves, const struct bus_record *record, uint64_t id, struct record_reader *reader)
{
    struct move_limit limit = {record->origin.incarnation, record_read_u64(reader)};
    if (!record_read_end(reader))
        return STATUS_PROTOCOL;
    struct session_move_in *in = in_find(moves, id);
    if (in != NULL)
        in_on_passed(in, record->peer, &limit);
    return STATUS_OK;
}

static enum status on_marked(
    struct session_moves *moves, const struct bus_record *record, uint64_t id, struct record_reader *reader)
{
    unsigned new_owner = record_read_u8(reader);
    struct move_limit limit = {record->origin.incarnation, record_read_u64(reader)};
    bool complete = record_read_u8(reader) != 0;
    if (!record_read_end(reader) || new_owner >= BUS_PEERS_MAX)
        return STATUS_PROTOCOL;
    struct session_move_out *out = out_find(moves, new_owner, id);
    if (out != NULL)
        out_on_mark(out, record->peer, &limit, complete);
    return STATUS_OK;
}

static enum status on_mark_request(
    struct session_moves *moves, const struct bus_record *record, uint64_t id, struct record_reader *reader)
{
    unsigned old_owner = record_read_u8(reader);
    uint64_t incarnation = record_read_u64(reader);
    if (!record_read_end(reader) || old_owner >= BUS_PEERS_MAX)
        return STATUS_PROTOCOL;
    mark_request(moves, record->peer, id, old_owner, incarnation);
    return STATUS_OK;
}

static enum status on_mark(void *context, const struct bus_record *record)
{
    struct session_moves *moves = context;
    struct record_reader reader = record_read(record->body);
    uint8_t kind;
    uint64_t id;
    enum status status;
    if (!read_head(moves, record, &reader, &kind, &id, &status))
        return status;
    switch (kind) {
    case MOVE_MARK_REQUEST:
        return on_mark_request(moves, record, id, &reader);
    case MOVE_MARK:
        return on_marked(moves, record, id, &reader);
    case MOVE_PASSED:
        return on_passed(moves, record, id, &reader);
    default:
        return STATUS_PROTOCOL;
    }
}

static void on_started(void *context, unsigned peer)
{
    struct session_moves *moves = context;
    outbox_drop(&moves->outbox, peer);
    out_peer_started(moves, peer);
    in_peer_started(moves, peer);
}

/* What leaves first: what a dead new owner did not take may be just what one of our own moves waits for. */
static void on_died(void *context, unsigned peer)
{
    struct session_moves *moves = context;
    outbox_drop(&moves->outbox, peer);
    mark_peer_died(moves, peer);
    out_peer_died(moves, peer);
    in_peer_died(moves, peer);
}

static void work(struct session_moves *moves)
{
    outbox_pump_all(&moves->outbox);
    if (!list_empty(&moves->earlies))
        out_earlies(moves);
    if (!list_empty(&moves->marks))
        mark_work(moves);
    if (!list_empty(&moves->work_in))
        in_work(moves);
    if (!list_empty(&moves->work_out))
        out_work(moves);
}

static void on_room(void *context, unsigned peer)
{
    (void)peer;
    work(context);
}

static void on_turn_ending(void *context)
{
    work(context);
}

static void on_tick(void *context)
{
    struct session_moves *moves = context;
    uint64_t now_us = clock_monotonic_us();
    /* We may have stood still: what was answered meanwhile counts before time-outs do. */
    bus_drain_if_stale(moves->bus, now_us);
    in_tick(moves, now_us);
}
