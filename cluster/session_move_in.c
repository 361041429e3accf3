/*
 * The new owner's side of a move: asks, takes the state in, holds what comes directly until the old owner has
 * forwarded what was before it. Worker process.
 *
 * A callback of the engine may end any session, and with it its moves: whatever calls one touches nothing
 * afterwards that it has not found anew.
 */
#include "cluster/session_move_private.h"

#include "cluster/acceptance.h"
#include "shared/clock.h"

#include <stdlib.h>

/* A state that is large or comes by a busy lane gets as long as it makes progress within this. */
#define PROGRESS_US 1000000u

static void send_see(struct session_moves *moves, unsigned peer, uint64_t id, struct bytes body);
static void tell_see(
    struct session_moves *moves, unsigned peer, uint64_t id, unsigned about, const struct hash_table *seen);
static bool had_already(struct session_move_in *in, const struct publication_meta *meta);
static void append(struct session_move_in *chain, struct session_move_in *in);
static void become_discard(struct session_move_in *in);
static void ask_later(struct session_move_in *in, unsigned previous);
static enum status copy_own(struct session_move_in *in, void *old);
static void inherit(struct session_move_in *in, struct session_move_out *out);
static struct session_move_in *in_new(struct session_moves *moves, void *session, struct bytes client_id);
static void in_start(struct session_move_in *in);
static void in_wake(struct session_move_in *in);
static bool is_asking(const struct session_move_in *chain, unsigned previous);
static void send_request(struct session_move_in *in);
static void ask(struct session_moves *moves, const struct move_request *request);
static void give_up(struct session_move_in *in, bool discard);
static void look_here(struct session_move_in *in);
static void resolve(struct session_move_in *in, enum session_move_outcome outcome);
static void queue_parked(struct session_move_in *in);
static void finish(struct session_move_in *in, const enum session_move_outcome *outcome);
static void import(struct session_move_in *in);
static void imported(struct session_move_in *in);
static void step(struct session_move_in *in);
static void merging_step(struct session_move_in *in);
static void request_marks(struct session_move_in *in);
static bool settle(struct session_move_in *in, unsigned peer);
static bool release_all(struct session_move_in *in);
static bool release_held(struct session_move_in *in, unsigned peer, bool all);
static void held_free(struct session_move_in *in, struct move_held *held);
static void check_done(struct session_move_in *in);
static void own_step(struct session_move_in *in);
static void not_here(struct session_move_in *in);
static void take_over_wait(struct session_move_in *in, struct session_move_out *out);

/* The new owner's calls.
 * ----------------------------------------------------------------------------------------- */

struct session_move_in *session_move_in(struct session_moves *moves, void *session, struct bytes client_id,
    uint64_t stamp, unsigned previous, uint64_t deadline_us, bool late, struct session_move_in *current)
{
    bool nobody = previous >= BUS_PEERS_MAX;
    bool here = !nobody && (bus_live_peers(moves->bus) & move_bit(previous)) == 0;
    uint64_t hash = keyed_hash_of(&moves->hash, client_id);
    if (here && out_find_client(moves, client_id, hash, session) == NULL)
        return current;
    if (is_asking(current, previous))
        return current;
    struct session_move_in *in = in_new(moves, session, client_id);
    if (in == NULL)
        return current;
    in->stamp = in->before = stamp;
    in->previous = previous;
    in->deadline_us = deadline_us;
    in->late = late;
    if (current != NULL && current->state == IN_EXPECTING && current->next == NULL && current->out == NULL) {
        seen_move(&in->seen, &current->seen);
        in_free(current);
        current = NULL;
    }
    if (current == NULL) {
        in_start(in);
        return in;
    }
    append(current, in);
    return current;
}

static void append(struct session_move_in *chain, struct session_move_in *in)
{
    while (chain->next != NULL)
        chain = chain->next;
    chain->next = in;
    in->late = true;
}

/* One more owner of an older part is to be asked behind this one. */
static void ask_later(struct session_move_in *in, unsigned previous)
{
    if (is_asking(in, previous) || (in->discard && previous >= BUS_PEERS_MAX))
        return;
    struct session_move_in *later = in_new(in->moves, in->session, in_client(in));
    if (later == NULL)
        return; /* as if that part had been lost */
    later->stamp = later->before = in->stamp;
    later->previous = previous;
    later->discard = in->discard;
    append(in, later);
}

void session_move_discard(
    struct session_moves *moves, struct bytes client_id, uint64_t stamp, unsigned previous)
{
    struct session_move_in *in = in_new(moves, NULL, client_id);
    if (in == NULL)
        return; /* it is reported one day, and asked for once more */
    in->stamp = in->before = stamp;
    in->previous = previous;
    in->late = in->discard = true;
    in_start(in);
}

void session_move_cancel(struct session_moves *moves, struct session_move_in **move)
{
    (void)moves;
    struct session_move_in *in = *move;
    *move = NULL;
    while (in != NULL) {
        struct session_move_in *next = in->next;
        become_discard(in);
        in = next;
    }
}

/*
 * Its session has ended. Whatever was asked for it must not turn up as that of a later one: until somebody
 * says that there is nothing, this goes where it is sent, and has it ended there.
 */
static void become_discard(struct session_move_in *in)
{
    give_up(in, true);
    if (in->out != NULL)
        in->out->in = NULL;
    in->out = NULL;
    if (in->state == IN_MERGING || in->previous >= BUS_PEERS_MAX) {
        in_free(in);
        return;
    }
    in->next = NULL;
    in->session = NULL;
    in->answer_owed = false;
    in->late = in->discard = true;
    parts_done(&in->parts);
    seen_done(&in->seen);
    if (in->state == IN_QUEUED)
        in_start(in);
    else if (in->state == IN_RECEIVED)
        in->state = IN_ASKED;
    else if (in->state == IN_OWN)
        in_wake(in);
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
    return had_already(in, meta);
}

/* What the old owner says.
 * --------------------------------------------------------------------------------------- */

void in_on_nothing(struct session_move_in *in)
{
    if (in->state == IN_ASKED)
        resolve(in, SESSION_MOVE_NOTHING);
    else if (in->state == IN_OWN)
        in_wake(in);
}

void in_on_redirect(struct session_move_in *in, unsigned peer, uint64_t before)
{
    if (in->state != IN_ASKED && in->state != IN_OWN)
        return;
    if (++in->redirects > MOVE_REDIRECTS) {
        resolve(in, SESSION_MOVE_NOTHING);
        return;
    }
    struct session_moves *moves = in->moves;
    in->sent_here = peer == bus_self(moves->bus) ? in->previous : BUS_PEERS_MAX;
    in->previous = peer;
    in->before = before != 0 ? before : in->stamp;
    if ((bus_live_peers(moves->bus) & move_bit(peer)) == 0) {
        look_here(in);
        return;
    }
    in->state = IN_ASKED;
    send_request(in);
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
    ask_later(in, peer);
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

/*
 * The client gets this one now. True if it had it already: a late part. Otherwise it is remembered for the
 * late part that comes next, if there is one.
 */
static bool had_already(struct session_move_in *in, const struct publication_meta *meta)
{
    if (in->late)
        return seen_add(&in->seen, meta);
    if (in->next != NULL)
        (void)seen_add(&in->next->seen, meta);
    return false;
}

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
        give_up(in, false);
        resolve(in, SESSION_MOVE_NOTHING);
        return status;
    }
    in->state = IN_RECEIVED;
    import(in);
    return STATUS_OK;
}

static void note_highest(struct session_move_in *in, unsigned peer, uint64_t incarnation, uint64_t sequence)
{
    struct move_limit *highest = &in->highest[peer % BUS_PEERS_MAX];
    if (highest->incarnation < incarnation)
        *highest = (struct move_limit){incarnation, sequence};
    else if (highest->incarnation == incarnation && highest->sequence < sequence)
        highest->sequence = sequence;
}

static enum status read_heard(struct session_move_in *in, struct record_reader *reader)
{
    for (uint8_t left = record_read_u8(reader); left > 0 && !reader->failed; left--) {
        uint8_t peer = record_read_u8(reader);
        uint64_t incarnation = record_read_u64(reader);
        uint64_t sequence = record_read_u64(reader);
        if (!reader->failed)
            note_highest(in, peer, incarnation, sequence);
    }
    return reader->failed ? STATUS_PROTOCOL : STATUS_OK;
}

/*
 * Of a chain of moves the marks may come in any order: an older owner may still pass on what is ours already.
 * If the limit is not known yet, the identity is remembered until what is held is released.
 */
static bool forwarded_twice(struct session_move_in *in, const struct publication_meta *meta)
{
    if (in->late)
        return false; /* had_already() sees to it */
    const struct move_origin *origin = origin_find(&in->origins, meta->origin.slot, meta->origin.incarnation);
    if (origin != NULL && origin->limit != 0)
        return meta->sequence >= origin->limit || seen_has(&in->seen, meta);
    return seen_add(&in->seen, meta);
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
        note_highest(in, view.meta.origin.slot, view.meta.origin.incarnation, view.meta.sequence);
        if (in->out != NULL)
            out_wake(in->out);
        if (!forwarded_twice(in, &view.meta) && !had_already(in, &view.meta))
            in->moves->ops->forwarded(in->moves->context, in->session, &view, note);
    }
    parts_done(&whole);
    return status;
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
    (void)had_already(in, meta);
    return SESSION_MOVE_DELIVER;
}

enum session_move_verdict in_verdict(
    struct session_move_in *in, unsigned peer, const struct publication_meta *meta, bool inherited)
{
    if (in->late || in->state != IN_MERGING)
        return had_already(in, meta) ? SESSION_MOVE_DROP : SESSION_MOVE_DELIVER;
    if (!inherited)
        return deliver_new(in, meta);
    bool over = in->end || (in->settled & move_bit(peer)) != 0;
    if (!over && !in_origin_ended(in, peer, meta->origin.incarnation))
        return SESSION_MOVE_HOLD;
    if (!is_ours(in, peer, meta))
        return SESSION_MOVE_DROP;
    (void)had_already(in, meta);
    return SESSION_MOVE_DELIVER;
}

void in_on_end(struct session_move_in *in)
{
    if (in->state != IN_MERGING)
        return;
    in->end = true;
    if (release_all(in))
        check_done(in);
}

void in_on_passed(struct session_move_in *in, unsigned peer, const struct move_limit *limit)
{
    if (in->state != IN_MERGING || (in->wanted & move_bit(peer)) == 0)
        return;
    in->wanted &= ~move_bit(peer);
    struct move_origin *origin = origin_get(&in->origins, peer, limit->incarnation);
    if (origin != NULL && !origin->complete)
        origin->limit = limit->sequence;
    if (!in->orphan || settle(in, peer))
        check_done(in);
}

/* It has our routes before it reads a client, or we ask it for a mark behind them, as all others. */
static void marking_peer_started(struct session_move_in *in, unsigned peer)
{
    if (in->state != IN_MERGING || in->orphan || in->end)
        return;
    in->owed |= move_bit(peer);
    in->wanted |= move_bit(peer);
    in_wake(in);
}

/* Peers and time.
 * ------------------------------------------------------------------------------------------------ */

static void previous_died(struct session_move_in *in)
{
    struct session_moves *moves = in->moves;
    uint64_t id = in->id;
    if (in->state == IN_ASKED) {
        resolve(in, SESSION_MOVE_LOST);
        return;
    }
    if (in->state == IN_RECEIVED)
        import(in);
    in = in_find(moves, id);
    if (in == NULL || in->state != IN_MERGING)
        return;
    in->orphan = true;
    for (unsigned origin = 0; origin < BUS_PEERS_MAX; origin++) {
        if ((in->wanted & move_bit(origin)) == 0 && !settle(in, origin))
            return;
    }
    check_done(in);
}

/* A marking peer: it has been read to its end, so it has passed. If the old owner is gone, too, nobody says
 * more. */
static void marking_peer_died(struct session_move_in *in, unsigned peer)
{
    if (in->state != IN_MERGING || (in->wanted & move_bit(peer)) == 0)
        return;
    in->owed &= ~move_bit(peer);
    in->wanted &= ~move_bit(peer);
    if (!in->orphan || settle(in, peer))
        check_done(in);
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
        marking_peer_started(list_entry(element, struct session_move_in, link), peer);
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
        marking_peer_died(in, peer);
        in = in_find(moves, ids[i]);
        if (in != NULL && previous)
            previous_died(in);
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
            resolve(in, SESSION_MOVE_SILENT);
        } else if (in->deadline_us <= now_us)
            finish(in, NULL);
        else if (in->deadline_us < moves->next_us)
            moves->next_us = in->deadline_us;
    }
    free(ids);
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

/* Handing on.
 * ---------------------------------------------------------------------------------------------------- */

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
        give_up(at, false);
        if (first)
            moves_send_redirect(moves, peer, id, previous, at->before);
        else
            tell_see(moves, peer, id, previous, &at->seen);
        in_free(at);
        at = next;
    }
    return only_waits;
}

void in_take_own(struct session_move_in *in, struct session_move_out *out)
{
    struct session_moves *moves = in->moves;
    void *old = out->session;
    uint64_t id = in->id;
    inherit(in, out);
    enum session_move_outcome outcome =
        copy_own(in, old) == STATUS_OK ? SESSION_MOVE_FOUND : SESSION_MOVE_NOTHING;
    in = in_find(moves, id);
    out_free(out);
    moves->ops->out_done(moves->context, old);
    if (in != NULL)
        finish(in, &outcome);
}

/* All in one turn, so that nothing comes between. */
static enum status copy_own(struct session_move_in *in, void *old)
{
    struct session_moves *moves = in->moves;
    const struct session_moves_ops *ops = moves->ops;
    struct session_move_writer writer = {0};
    enum status status = ops->export_state(moves->context, old, false, &writer);
    if (status == STATUS_OK)
        status = ops->import_state(moves->context, in->session, bytes_of(writer.data, writer.size), in->late);
    free(writer.data);
    struct publication *publication;
    struct bytes note;
    uint64_t id = in->id;
    while (status == STATUS_OK && in_find(moves, id) == in &&
           (publication = ops->next(moves->context, old, &note)) != NULL) {
        struct publication_view view = publication_view(publication);
        if (!had_already(in, &view.meta))
            ops->forwarded(moves->context, in->session, &view, note);
        publication_unref(&publication);
    }
    return status;
}

/* What still comes to the old session comes to this one from now on. */
static void inherit(struct session_move_in *in, struct session_move_out *out)
{
    struct session_move_in *rest = out->in;
    if (rest == NULL)
        return;
    in->moves->ops->in_done(in->moves->context, out->session, NULL);
    rest->out = in->out;
    rest->answer_owed = false;
    if (rest->state != IN_MERGING)
        rest->late = true;
    struct session_move_in *last = rest;
    for (struct session_move_in *each = rest; each != NULL; each = each->next) {
        each->session = in->session;
        last = each;
    }
    last->next = in->next;
    in->next = rest;
    out->in = NULL;
}

/* Finding, making, freeing.
 * -------------------------------------------------------------------------------------- */

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

static struct session_move_in *in_new(struct session_moves *moves, void *session, struct bytes client_id)
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
    list_for_each(&in->held, element, following) held_free(in, list_entry(element, struct move_held, link));
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

static void in_wake(struct session_move_in *in)
{
    if (list_empty(&in->work))
        list_append(&in->moves->work_in, &in->work);
}

static bool is_asking(const struct session_move_in *chain, unsigned previous)
{
    for (; chain != NULL; chain = chain->next) {
        if (chain->state != IN_MERGING && chain->previous == previous)
            return true;
    }
    return false;
}

/* What it does.
 * -------------------------------------------------------------------------------------------------- */

/* One that expects nothing particular is told to look here. */
bool in_will_take(struct session_moves *moves, struct bytes client_id, uint64_t hash)
{
    struct session_move_in *in = in_find_client(moves, client_id, hash);
    if (in != NULL && in->state == IN_EXPECTING)
        finish(in, NULL);
    return in != NULL;
}

static void in_start(struct session_move_in *in)
{
    struct session_moves *moves = in->moves;
    if (!in->late && in->deadline_us < moves->next_us)
        moves->next_us = in->deadline_us;
    if (in->previous >= BUS_PEERS_MAX) {
        in->state = IN_EXPECTING;
        in->deadline_us = clock_monotonic_us() + MOVE_EXPECT_US;
        if (in->deadline_us < moves->next_us)
            moves->next_us = in->deadline_us;
        return;
    }
    if ((bus_live_peers(moves->bus) & move_bit(in->previous)) == 0) {
        in->state = IN_OWN;
        in_wake(in);
        return;
    }
    in->state = IN_ASKED;
    send_request(in);
}

static void send_request(struct session_move_in *in)
{
    ask(in->moves, &(struct move_request){.peer = in->previous,
                       .id = in->id,
                       .stamp = in->stamp,
                       .before = in->before,
                       .discard = in->discard,
                       .client_id = in_client(in)});
}

static void ask(struct session_moves *moves, const struct move_request *request)
{
    uint8_t *body = malloc(MOVE_HEAD_SIZE + 17 + request->client_id.size);
    if (body == NULL)
        return; /* as if the other were silent */
    uint8_t *to = moves_begin(moves, request->peer, body, MOVE_REQUEST, request->id);
    to = record_write_u64(to, request->stamp);
    to = record_write_u64(to, request->before);
    to = record_write_u8(to, request->discard);
    moves_send(moves, request->peer, body, record_write_bytes(to, request->client_id));
    free(body);
}

/* The old owner may keep what it has (or end it, if it is not wanted by anybody any more). */
static void give_up(struct session_move_in *in, bool discard)
{
    struct session_moves *moves = in->moves;
    if (in->state == IN_QUEUED || in->state == IN_OWN || in->state == IN_EXPECTING)
        return;
    if ((bus_live_peers(moves->bus) & move_bit(in->previous)) != 0)
        moves_send_u8(moves, in->previous, MOVE_GIVEN_UP, in->id, discard);
}

/* It may be in this worker itself, on its way to somebody who is gone. */
static void look_here(struct session_move_in *in)
{
    in->state = IN_OWN;
    in->previous = bus_self(in->moves->bus);
    in_wake(in);
}

static void resolve(struct session_move_in *in, enum session_move_outcome outcome)
{
    struct session_moves *moves = in->moves;
    parts_done(&in->parts);
    if (outcome == SESSION_MOVE_SILENT) {
        /* What is parked here is older than what the silent one may have: it is a late part, too. */
        in->late = true;
        moves->ops->answered(moves->context, in->session, outcome);
    } else if (in->state != IN_OWN &&
               out_find_client(moves, in_client(in), in->client_hash, in->session) != NULL) {
        look_here(in);
    } else {
        finish(in, &outcome);
    }
}

/* What is still parked here comes behind, as a late part. */
static void queue_parked(struct session_move_in *in)
{
    struct session_moves *moves = in->moves;
    struct session_move_out *out = out_find_client(moves, in_client(in), in->client_hash, in->session);
    if (in->out == NULL && out != NULL && out->state == OUT_PARKED)
        ask_later(in, bus_self(moves->bus));
}

/* Ends it; a client that still waits gets this outcome. */
static void finish(struct session_move_in *in, const enum session_move_outcome *outcome)
{
    struct session_moves *moves = in->moves;
    void *session = in->session;
    if (in->next == NULL)
        queue_parked(in);
    struct session_move_in *next = in->next;
    struct session_move_out *out = in->out;
    bool waits = !in->late && outcome != NULL;
    if (next != NULL)
        seen_move(&next->seen, &in->seen);
    in_free(in);
    if (next != NULL) {
        next->out = out;
        if (next->state == IN_QUEUED)
            in_start(next);
    }
    if (out != NULL) {
        out->in = next;
        out_wake(out);
    }
    if (session == NULL)
        return;
    moves->ops->in_done(moves->context, session, next);
    if (waits)
        moves->ops->answered(moves->context, session, *outcome);
}

/* Waits for room first, so that IMPORTED goes with the very turn of the import. */
static void import(struct session_move_in *in)
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
        give_up(in, false);
        in->state = IN_ASKED;
        resolve(in, SESSION_MOVE_NOTHING);
        return;
    }
    imported(in);
}

static void imported(struct session_move_in *in)
{
    struct session_moves *moves = in->moves;
    uint64_t id = in->id;
    in->state = IN_MERGING;
    queue_parked(in);
    in->owed = bus_live_peers(moves->bus);
    in->wanted = moves_everybody(moves);
    in->previous_incarnation = bus_peer_origin(moves->bus, in->previous).incarnation;
    moves_send_plain(moves, in->previous, MOVE_IMPORTED, in->id);
    in->answer_owed = !in->late;
    in_wake(in);
    mark_request(moves, bus_self(moves->bus), id, in->previous, in->previous_incarnation);
}

static void step(struct session_move_in *in)
{
    if (in->state == IN_OWN)
        own_step(in);
    else if (in->state == IN_RECEIVED)
        import(in);
    else if (in->state == IN_MERGING)
        merging_step(in);
}

/* IMPORTED lies in the lane before the client hears of it: if we die then, the old owner does not go on. */
static void merging_step(struct session_move_in *in)
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
        check_done(in);
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

/* Nobody will forward more of this peer. False: the session has ended in a callback. */
static bool settle(struct session_move_in *in, unsigned peer)
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
            (void)had_already(in, meta);
        if (ours)
            moves->ops->release(
                moves->context, in->session, held->publication, bytes_of(held->note, held->note_size));
        if (in_find(moves, id) != in)
            return false;
        held_free(in, held);
    }
    return true;
}

static void held_free(struct session_move_in *in, struct move_held *held)
{
    in->held_size -= sizeof *held + held->note_size + publication_size(held->publication);
    list_remove(&held->link);
    publication_unref(&held->publication);
    free(held);
}

/* Everything is here, and nothing that was the old owner's is still under way to us directly. */
static void check_done(struct session_move_in *in)
{
    if (in->state != IN_MERGING || !(in->end || in->orphan) || in->wanted != 0 || in->answer_owed)
        return;
    if (release_all(in))
        finish(in, NULL);
}

/* Perhaps a claim that was given up here tells where it was before. */
static void not_here(struct session_move_in *in)
{
    unsigned previous = BUS_PEERS_MAX;
    uint64_t before = 0;
    enum claim_trace trace = CLAIM_TRACE_NONE;
    if (in->moves->claims != NULL)
        trace = claims_trace(in->moves->claims, in_client(in), in->before, &previous, &before);
    if (trace == CLAIM_TRACE_WAITING) {
        in_wake(in);
        return;
    }
    if (previous < BUS_PEERS_MAX) {
        in_on_redirect(in, previous, before);
        return;
    }
    if (in->sent_here != BUS_PEERS_MAX && in->sent_here != bus_self(in->moves->bus)) {
        in_on_redirect(in, in->sent_here, in->before); /* perhaps he has what was before that himself */
        return;
    }
    enum session_move_outcome outcome = SESSION_MOVE_NOTHING;
    finish(in, &outcome);
}

/* The older session here has nothing but its own wait for a previous owner: this one waits in its place. */
static void take_over_wait(struct session_move_in *in, struct session_move_out *out)
{
    struct session_moves *moves = in->moves;
    struct session_move_in *old = out->in;
    struct session_move_in *rest = old->next;
    void *session = out->session;
    unsigned previous = old->previous;
    uint64_t before = old->before;
    moves->ops->in_done(moves->context, session, NULL);
    give_up(old, false);
    in_free(old);
    for (struct session_move_in *each = rest; each != NULL; each = each->next)
        each->session = in->session;
    struct session_move_in *last = in;
    while (last->next != NULL)
        last = last->next;
    last->next = rest;
    out->in = NULL;
    out_free(out);
    moves->ops->out_done(moves->context, session);
    in_on_redirect(in, previous, before);
}

/* Waits for what becomes of a session that was leaving this worker. */
static void own_step(struct session_move_in *in)
{
    struct session_move_out *out = out_find_client(in->moves, in_client(in), in->client_hash, in->session);
    if (out == NULL) {
        not_here(in);
    } else if (in->discard && out->stamp >= in->stamp) {
        finish(in, NULL);
    } else if (in->discard && out->state == OUT_PARKED) {
        out_discard(out);
        in_wake(in); /* there may be more than one */
    } else if (out->state == OUT_PARKED && out->in != NULL && out->in->state != IN_MERGING &&
               !out->in->late) {
        take_over_wait(in, out);
    } else if (out->state == OUT_PARKED) {
        in_take_own(in, out);
    } else if (!out_follow(out, in)) {
        enum session_move_outcome outcome = SESSION_MOVE_NOTHING;
        finish(in, &outcome);
    }
}
