/*
 * A session in bytes, and the engine's side of a move between workers (cluster/session_move.h): how it
 * leaves, how it comes in, and what becomes of it at the end. Worker process. What comes from the bus is
 * checked like anything from outside: a malformed state is refused as a whole.
 */
#include "node/connection.h"
#include "node/session.h"
#include "node/shared_delivery.h"
#include "node/worker_context.h"

#include "shared/log.h"
#include "shared/topic_name.h"

#include <stdlib.h>

#define STATE_VERSION   2
#define NOTE_SHARE_SIZE 9

/* Notes on deliveries
 * ------------------------------------------------------------------------------------------ */

static size_t note_put(uint8_t *to, uint8_t qos, bool retain, const uint32_t *identifiers, uint32_t count)
{
    if (count > 64)
        count = 64;
    to[0] = qos;
    to[1] = retain;
    to[2] = (uint8_t)count;
    for (uint32_t i = 0; i < count; i++)
        put_u32_le(to + 3 + 4 * i, identifiers[i]);
    return 3 + 4 * (size_t)count;
}

size_t session_note_encode(const struct delivery_request *request, uint8_t to[DELIVERY_NOTE_MAX])
{
    if (request->identifier != 0)
        return note_put(to, request->qos, request->retain, &request->identifier, 1);
    return note_put(to, request->qos, request->retain, request->identifiers, request->identifier_count);
}

/* The shared group that it came by, if any: its hash, and how often it was handed on. */
static size_t note_put_share(uint8_t *to, const struct delivery_share *share)
{
    if (share == NULL)
        return 0;
    to[0] = share->hops;
    put_u64_le(to + 1, share->group->hash);
    return NOTE_SHARE_SIZE;
}

size_t session_note_of(const struct delivery *delivery, uint8_t to[DELIVERY_NOTE_MAX])
{
    size_t size;
    if (delivery->identifiers != NULL)
        size = note_put(
            to, delivery->qos, delivery->retain, delivery->identifiers + 1, delivery->identifiers[0]);
    else
        size =
            note_put(to, delivery->qos, delivery->retain, &delivery->identifier, delivery->identifier != 0);
    return size + note_put_share(to + size, delivery->share);
}

static bool note_is_shared(struct bytes note)
{
    return note.size >= 3 && note.size == 3 + 4 * (size_t)note.data[2] + NOTE_SHARE_SIZE;
}

enum status session_note_decode(struct session *session, struct bytes note, struct delivery_request *request,
    uint32_t *identifiers, struct delivery_share **ret_share)
{
    if (note.size < 3 || note.data[0] > 2 || note.data[2] > 64)
        return STATUS_PROTOCOL;
    size_t plain = 3 + 4 * (size_t)note.data[2];
    bool shared = note_is_shared(note);
    if (note.size != plain && !shared)
        return STATUS_PROTOCOL;
    *ret_share = NULL;
    if (shared)
        *ret_share = shared_restore(session, get_u64_le(note.data + plain + 1), note.data[plain]);
    request->share = ret_share;
    request->qos = note.data[0];
    request->retain = note.data[1] != 0;
    request->identifier_count = note.data[2];
    for (uint32_t i = 0; i < request->identifier_count; i++)
        identifiers[i] = get_u32_le(note.data + 3 + 4 * i);
    request->identifiers = identifiers;
    request->identifier = request->identifier_count == 1 ? identifiers[0] : 0;
    if (request->identifier_count == 1)
        request->identifier_count = 0;
    return STATUS_OK;
}

/* Out
 * ----------------------------------------------------------------------------------------------------------
 */

static void write_subscription(struct session_move_writer *writer, const struct subscription *subscription)
{
    char text[65536];
    size_t size = session_subscription_text(subscription, text, sizeof text);
    session_move_write_u16(writer, (uint16_t)size);
    session_move_write(writer, bytes_of(text, size));
    session_move_write_u8(writer, subscription->qos);
    session_move_write_u8(writer, (uint8_t)(subscription->no_local | subscription->retain_as_published << 1 |
                                            subscription->retain_handling << 2));
    session_move_write_u32(writer, subscription->identifier);
}

static void write_inflight(struct session_move_writer *writer, const struct delivery *slot)
{
    uint8_t note[DELIVERY_NOTE_MAX];
    size_t note_size = session_note_of(slot, note);
    session_move_write_u16(writer, slot->packet_id);
    session_move_write_u8(writer, slot->state);
    session_move_write_u8(writer, slot->sent_before);
    session_move_write_u16(writer, (uint16_t)note_size);
    session_move_write(writer, bytes_of(note, note_size));
    if (slot->state != DELIVERY_PUBLISHED)
        return;
    struct publication_view view = publication_view(slot->publication);
    size_t size = acceptance_encoded_size(&view);
    session_move_write_u32(writer, (uint32_t)size);
    uint8_t *encoded = malloc(size);
    if (encoded == NULL) {
        writer->failed = true;
        return;
    }
    acceptance_encode(encoded, &view);
    session_move_write(writer, bytes_of(encoded, size));
    free(encoded);
}

static void write_packet_id(void *context, uint16_t packet_id)
{
    session_move_write_u16(context, packet_id);
}

static enum status export_state(void *context, void *session_pointer, struct session_move_writer *writer)
{
    (void)context;
    struct session *session = session_pointer;
    session_move_write_u8(writer, STATE_VERSION);
    session_move_write_u32(writer, session->expiry_s);
    struct bytes mount = session_mount_bytes(session->mount);
    session_move_write_u16(writer, (uint16_t)mount.size);
    session_move_write(writer, mount);
    session_move_write_u32(writer, session->subscription_count);
    list_for_each(&session->subscriptions, element, following)
    {
        write_subscription(writer, &list_entry(element, struct session_subscription, siblings)->subscription);
    }
    session_move_write_u32(writer, session->awaiting.count);
    awaiting_for_each(&session->awaiting, write_packet_id, writer);
    session_move_write_u16(writer, session->inflight.next_id);
    session_move_write_u32(writer, session->inflight.count);
    for (uint32_t i = 0; i < session->inflight.span; i++) {
        const struct delivery *slot = inflight_at(&session->inflight, i);
        if (slot->state != DELIVERY_FREE)
            write_inflight(writer, slot);
    }
    return writer->failed ? STATUS_NO_MEMORY : STATUS_OK;
}

static void *take_out(
    void *context, struct bytes client_id, uint64_t stamp, bool discard, struct session_move_out *out)
{
    struct worker *worker = context;
    struct session *session = session_find(worker, client_id);
    if (session == NULL || session->stamp > stamp)
        return NULL;
    connect_take_away(session, "its client connected again at another worker");
    session = session_find(worker, client_id); /* without expiry it has ended with its connection */
    if (session == NULL)
        return NULL;
    if (discard) {
        session_will_now(session); /* the session ends [MQTT-3.1.2-8] */
        session_discard(&session);
        return NULL;
    }
    session_will_clear(session); /* delayed, and the client is back [MQTT-3.1.3-9] */
    session_leave(session);
    session->move_out = out;
    return session;
}

static struct publication *next_queued(void *context, void *session_pointer, struct bytes *ret_note)
{
    (void)context;
    static uint8_t note[DELIVERY_NOTE_MAX]; /* borrowed by the caller until the next call */
    struct session *session = session_pointer;
    struct delivery *first = delivery_queue_first(&session->queue);
    if (first == NULL)
        return NULL;
    *ret_note = bytes_of(note, session_note_of(first, note));
    struct publication *publication = first->publication;
    free(first->identifiers);
    delivery_share_end(&first->share);
    delivery_queue_pop(&session->queue);
    return publication;
}

static uint32_t queue_length(void *context, void *session_pointer)
{
    (void)context;
    return ((struct session *)session_pointer)->queue.count;
}

static void out_done(void *context, void *session_pointer)
{
    (void)context;
    struct session *session = session_pointer;
    session->move_out = NULL;
    shared_forget(session);
    session_discard(&session);
}

static void taken_back(void *context, void *session_pointer)
{
    struct worker *worker = context;
    struct session *session = session_pointer;
    session->move_out = NULL;
    list_remove(&session->aside);
    if (session_find(worker, session_client_id(session)) != NULL) {
        session_discard(&session);
        return;
    }
    session_register(session);
    claims_reclaim(worker->claims, session_client_id(session), session->stamp);
    if (!session->arriving)
        session_disconnected(session, false);
}

/* In
 * -----------------------------------------------------------------------------------------------------------
 */

struct reader {
    struct bytes rest;
    bool failed;
};

static struct bytes read_bytes(struct reader *reader, size_t size)
{
    if (reader->failed || reader->rest.size < size) {
        reader->failed = true;
        return BYTES_NONE;
    }
    struct bytes taken = bytes_of(reader->rest.data, size);
    reader->rest.data += size;
    reader->rest.size -= size;
    return taken;
}

static uint8_t read_u8(struct reader *reader)
{
    struct bytes bytes = read_bytes(reader, 1);
    return bytes.size == 0 ? 0 : bytes.data[0];
}

static uint16_t read_u16(struct reader *reader)
{
    struct bytes bytes = read_bytes(reader, 2);
    return bytes.size == 0 ? 0 : get_u16_le(bytes.data);
}

static uint32_t read_u32(struct reader *reader)
{
    struct bytes bytes = read_bytes(reader, 4);
    return bytes.size == 0 ? 0 : get_u32_le(bytes.data);
}

/* late: the client was told that there is no session, so it gets what was queued for it but no old
 * subscriptions. */
static void import_subscription(struct session *session, struct reader *reader, bool late)
{
    uint16_t size = read_u16(reader);
    struct mqtt_subscribe_filter filter = {.filter = read_bytes(reader, size)};
    filter.qos = read_u8(reader);
    uint8_t flags = read_u8(reader);
    uint32_t identifier = read_u32(reader);
    filter.no_local = flags & 1;
    filter.retain_as_published = flags & 2;
    filter.retain_handling = flags >> 2;
    if (reader->failed || filter.qos > 2 || !topic_filter_valid(filter.filter)) {
        reader->failed = true;
        return;
    }
    if (late)
        return;
    struct session_subscription *subscription;
    bool existed;
    enum status status = session_subscribe(session, &filter, identifier, &subscription, &existed);
    if (status != STATUS_OK)
        log_error("client %.*s: a subscription was lost while its session moved: %s",
            (int)session->client_id_size, session->client_id, status_text(status));
    else
        subscription->subscription.inherited = true;
}

/* Its publication, unless that was received. Takes from *request->share what is kept. */
static void import_publication(struct session *session, struct reader *reader, struct delivery *delivery,
    struct delivery_request *request)
{
    struct publication_view view;
    uint32_t size = read_u32(reader);
    struct bytes encoded = read_bytes(reader, size);
    if (reader->failed || delivery->state != DELIVERY_PUBLISHED ||
        acceptance_decode(encoded, &view) != STATUS_OK ||
        !session_copy_identifiers(request, &delivery->identifiers)) {
        reader->failed = true;
        return;
    }
    delivery->publication = publication_new(&view);
    delivery->share = *request->share;
    *request->share = NULL;
    if (delivery->publication == NULL || inflight_restore(&session->inflight, delivery) != STATUS_OK) {
        delivery_clear(delivery);
        reader->failed = true;
    }
}

/* The client is served already: what was in flight is queued again under a new packet identifier; what only
   waits for PUBCOMP is over. */
static void import_late(
    struct session *session, struct reader *reader, uint8_t state, struct delivery_request *request)
{
    if (state == DELIVERY_RELEASED)
        return;
    struct publication *object = NULL;
    struct publication_view view;
    uint32_t size = read_u32(reader);
    struct bytes encoded = read_bytes(reader, size);
    if (reader->failed || state != DELIVERY_PUBLISHED || acceptance_decode(encoded, &view) != STATUS_OK) {
        reader->failed = true;
        return;
    }
    request->view = &view;
    request->object = &object;
    if (*request->share != NULL || session->move_in == NULL ||
        !session_move_seen(session->move_in, &view.meta))
        session_enqueue(session, request);
    request->view = NULL; /* both end here */
    request->object = NULL;
    publication_unref(&object);
}

static void import_inflight(struct session *session, struct reader *reader, bool late)
{
    struct delivery delivery = {.packet_id = read_u16(reader)};
    delivery.state = read_u8(reader);
    delivery.sent_before = read_u8(reader) != 0;
    uint16_t note_size = read_u16(reader);
    struct bytes note = read_bytes(reader, note_size);
    struct delivery_request request = {0};
    struct delivery_share *share = NULL;
    uint32_t identifiers[64];
    if (reader->failed || session_note_decode(session, note, &request, identifiers, &share) != STATUS_OK) {
        reader->failed = true;
        return;
    }
    delivery.qos = request.qos;
    delivery.retain = request.retain;
    delivery.identifier = request.identifier;
    if (late)
        import_late(session, reader, delivery.state, &request);
    else if (delivery.state != DELIVERY_RELEASED)
        import_publication(session, reader, &delivery, &request);
    else if (inflight_restore(&session->inflight, &delivery) != STATUS_OK)
        reader->failed = true;
    delivery_share_end(&share);
}

static enum status import_state(void *context, void *session_pointer, struct bytes state, bool late)
{
    struct worker *worker = context;
    struct session *session = session_pointer;
    struct reader reader = {.rest = state};
    if (read_u8(&reader) != STATE_VERSION)
        return STATUS_PROTOCOL;
    uint32_t expiry_s = read_u32(&reader);
    if (!late)
        session_set_expiry(session, expiry_s);
    uint16_t mount_size = read_u16(&reader);
    session->foreign = !session_mount_is(session->mount, read_bytes(&reader, mount_size));
    if (session->foreign && !reader.failed) { /* as if nobody had had it [README: mountpoint] */
        worker->counters->sessions_moved_in++;
        return STATUS_OK;
    }
    uint32_t count = read_u32(&reader);
    for (uint32_t i = 0; i < count && !reader.failed; i++)
        import_subscription(session, &reader, late);
    count = read_u32(&reader);
    for (uint32_t i = 0; i < count && !reader.failed; i++) {
        uint16_t packet_id = read_u16(&reader);
        if (!reader.failed && !awaiting_has(&session->awaiting, packet_id) &&
            awaiting_add(&session->awaiting, packet_id) != STATUS_OK)
            reader.failed = true;
    }
    uint16_t next_id = read_u16(&reader);
    count = read_u32(&reader);
    for (uint32_t i = 0; i < count && !reader.failed; i++)
        import_inflight(session, &reader, late);
    if (reader.failed)
        return STATUS_PROTOCOL;
    if (!late && session->inflight.span == 0 && next_id != 0)
        session->inflight.next_id = next_id;
    worker->counters->sessions_moved_in++;
    return STATUS_OK;
}

static void answered(void *context, void *session, enum session_move_outcome outcome)
{
    (void)context;
    connect_moved(session, outcome);
}

/* Behind what is there, and on to the client if it is served already. */
static void enqueue(struct session *session, const struct publication_view *view, struct publication **object,
    struct bytes note)
{
    uint32_t identifiers[64];
    struct delivery_request request = {.view = view, .object = object};
    struct delivery_share *share;
    if (session_note_decode(session, note, &request, identifiers, &share) != STATUS_OK)
        return;
    session_enqueue(session, &request);
    delivery_share_end(&share); /* unless it is kept */
    session_pump(session);
}

static void forwarded(void *context, void *session, const struct publication_view *view, struct bytes note)
{
    (void)context;
    struct publication *object = NULL;
    if (((struct session *)session)->foreign)
        return;
    enqueue(session, view, &object, note);
    publication_unref(&object);
}

static void release_held(void *context, void *session, struct publication *publication, struct bytes note)
{
    (void)context;
    struct publication_view view = publication_view(publication);
    struct publication *object = publication; /* enqueue takes a reference of its own */
    enqueue(session, &view, &object, note);
}

static void held_dropped(void *context, void *session_pointer, const struct publication_view *view)
{
    (void)view;
    struct worker *worker = context;
    ((struct session *)session_pointer)->dropped++;
    worker->counters->dropped_queue_full++;
}

static void in_done(void *context, void *session, struct session_move_in *next)
{
    (void)context;
    ((struct session *)session)->move_in = next;
}

const struct session_moves_ops session_transfer_ops = {
    .take_out = take_out,
    .export_state = export_state,
    .next = next_queued,
    .queue_length = queue_length,
    .picked = note_is_shared,
    .out_done = out_done,
    .taken_back = taken_back,
    .import_state = import_state,
    .answered = answered,
    .forwarded = forwarded,
    .release = release_held,
    .held_dropped = held_dropped,
    .in_done = in_done,
};
