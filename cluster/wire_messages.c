/*
 * What is said in a session: who we are, where our copies of each other's windows end, frames, how far they
 * have come. The other side is a node of the cluster here; what it says is checked all the same.
 */
#include "cluster/wire_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* What is owed for so much of a window is not put off to the next tick. */
static uint64_t half(const struct wire_peer *peer)
{
    return wire_node_of(peer)->landing.size / 2;
}

static enum status say(
    struct wire_session *session, enum wire_message type, const uint8_t *head, const uint8_t *end)
{
    return wire_stream_put(session->stream, (uint8_t)type, bytes_of(head, (size_t)(end - head)), BYTES_NONE);
}

enum status wire_say_hello(struct wire_peer *peer, struct wire_session *session)
{
    const struct wire_settings *settings = &peer->wire->settings;
    uint8_t body[20 + 2 + 2 * 255], *to = body;
    struct bytes cluster = bytes_of_text(settings->cluster);
    struct bytes name = bytes_of_text(settings->nodes[settings->self].name);
    to = record_write_u16(to, (uint16_t)settings->own.version);
    to = record_write_u16(to, WIRE_VERSION_MIN);
    to = record_write_u64(to, settings->own.node);
    to = record_write_u64(to, settings->own.link);
    to = record_write_u8(to, (uint8_t)cluster.size);
    to = record_write_bytes(to, cluster);
    to = record_write_u8(to, (uint8_t)name.size);
    to = record_write_bytes(to, name);
    session->state = WIRE_GREETED;
    return wire_stream_put(session->stream, WIRE_HELLO, BYTES_NONE, bytes_of(body, (size_t)(to - body)));
}

/* Whose window our landing of this node is a copy of; stands beside the landing and survives with it. */
static uint64_t *landing_life(const struct wire_peer *peer)
{
    return &wire_node_of(peer)->landing.taken[0][0].id;
}

static enum status say_welcome(struct wire_peer *peer, struct wire_session *session)
{
    uint8_t body[24], *to = body;
    const struct bus_window *landing = &wire_node_of(peer)->landing;
    bool known = bus_window_load(landing_life(peer)) == session->who.node;
    to = record_write_u64(to, known ? session->who.node : 0);
    to = record_write_u64(to, known ? bus_window_load(landing->head) : 0);
    to = record_write_u64(to, landing->size);
    return say(session, WIRE_WELCOME, body, to);
}

/* Tells the other side, too. */
static enum status refuse(struct wire_session *session, char *text, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static enum status refuse(struct wire_session *session, char *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, WIRE_TEXT_SIZE, format, arguments);
    va_end(arguments);
    (void)!wire_stream_put(session->stream, WIRE_REFUSED, BYTES_NONE, bytes_of_text(text));
    return STATUS_REFUSED;
}

static void tell_down(struct wire_peer *peer, const char *why)
{
    struct wire *wire = peer->wire;
    peer->known_down = true;
    if (!peer->up)
        return;
    peer->up = false;
    wire->settings.down(wire->settings.context, peer->node, why);
}

static enum status on_hello(
    struct wire_peer *peer, struct wire_session *session, struct bytes body, char *text)
{
    const struct wire_settings *settings = &peer->wire->settings;
    struct record_reader reader = record_read(body);
    unsigned highest = record_read_u16(&reader), lowest = record_read_u16(&reader);
    struct wire_identity who = {.node = record_read_u64(&reader), .link = record_read_u64(&reader)};
    struct bytes cluster = record_read_bytes(&reader, record_read_u8(&reader));
    struct bytes name = record_read_bytes(&reader, record_read_u8(&reader));
    if (reader.failed || session->state != WIRE_GREETED)
        return refuse(session, text, "HELLO that is none");
    if (lowest > settings->own.version || highest < WIRE_VERSION_MIN)
        return refuse(session, text,
            "%s speaks versions %u to %u of the cluster bus, %s %u to %u: none in common, one of them must "
            "be upgraded",
            wire_node_of(peer)->name, lowest, highest, settings->nodes[settings->self].name, WIRE_VERSION_MIN,
            settings->own.version);
    if (!bytes_equal(cluster, bytes_of_text(settings->cluster)))
        return refuse(session, text, "%s belongs to the cluster %.*s, %s to %s", wire_node_of(peer)->name,
            (int)cluster.size, (const char *)cluster.data, settings->nodes[settings->self].name,
            settings->cluster);
    if (!bytes_equal(name, bytes_of_text(wire_node_of(peer)->name)))
        return refuse(session, text, "%s was expected and %.*s has come", wire_node_of(peer)->name,
            (int)name.size, (const char *)name.data);
    if (who.node == 0)
        return refuse(session, text, "a node without a number of its life");
    who.version = highest < settings->own.version ? highest : settings->own.version;
    session->who = who;
    session->state = WIRE_KNOWN;
    wire_session_become_current(peer, session);
    peer->heard_us = peer->wire->now_us;
    peer->figures.certificate_expires_s = wire_stream_peer_expires_s(session->stream);
    if (peer->up && peer->who.node != who.node)
        tell_down(peer, "it was started anew");
    return say_welcome(peer, session);
}

static void check_up(struct wire_peer *peer, struct wire_session *session)
{
    struct wire *wire = peer->wire;
    if (!session->welcomed || !session->resumed || session->told)
        return;
    session->told = true;
    peer->known_down = true;
    bool news = !peer->up || peer->who.link != session->who.link;
    peer->up = true;
    peer->who = session->who;
    if (news)
        wire->settings.up(wire->settings.context, peer->node, &session->who);
    wire->settings.resend(
        wire->settings.context, peer->node, bus_window_load(wire_node_of(peer)->window.cursor));
    peer->wanted = false;
    wire->settings.ready(wire->settings.context, peer->node);
}

/* Where its copy of our window ends: from there we go on. */
static enum status on_welcome(
    struct wire_peer *peer, struct wire_session *session, struct bytes body, char *text)
{
    const struct bus_window *window = &wire_node_of(peer)->window;
    uint64_t own = peer->wire->settings.own.node;
    struct record_reader reader = record_read(body);
    uint64_t life = record_read_u64(&reader), head = record_read_u64(&reader);
    uint64_t size = record_read_u64(&reader);
    if (!record_read_end(&reader) || session->state != WIRE_KNOWN || size == 0)
        return refuse(session, text, "WELCOME that is none");
    uint64_t cursor = bus_window_load(window->cursor), ours = bus_window_load(window->head);
    bool goes_on = life == own && head - cursor <= ours - cursor && head % 8 == 0;
    uint64_t from = goes_on ? head : cursor;
    bus_window_store(window->cursor, from);
    session->welcomed = true;
    session->landing = size;
    session->limit = from; /* until its first ACK */
    uint8_t answer[16], *to = answer;
    to = record_write_u64(to, own);
    to = record_write_u64(to, from);
    enum status status = say(session, WIRE_RESUME, answer, to);
    check_up(peer, session);
    return status;
}

static enum status on_resume(
    struct wire_peer *peer, struct wire_session *session, struct bytes body, char *text)
{
    struct wire *wire = peer->wire;
    const struct bus_window *landing = &wire_node_of(peer)->landing;
    struct record_reader reader = record_read(body);
    uint64_t life = record_read_u64(&reader), from = record_read_u64(&reader);
    if (!record_read_end(&reader) || session->state != WIRE_KNOWN || life != session->who.node ||
        from % 8 != 0 || session->resumed)
        return refuse(session, text, "RESUME that is none");
    if (bus_window_load(landing_life(peer)) != life || bus_window_load(landing->head) != from) {
        bus_window_store(landing_life(peer), 0); /* killed from here on: nothing is known of it */
        wire->settings.restart(wire->settings.context, peer->node, from);
        bus_window_store(landing->head, from);
        bus_window_store(landing_life(peer), life);
    }
    session->resumed = true;
    peer->acked = peer->applied = UINT64_MAX;
    enum status status = wire_say_ack(peer);
    check_up(peer, session);
    return status;
}

static enum status on_frames(
    struct wire_peer *peer, struct wire_session *session, struct bytes body, char *text)
{
    const struct bus_window *landing = &wire_node_of(peer)->landing;
    struct record_reader reader = record_read(body);
    uint64_t offset = record_read_u64(&reader);
    struct bytes frames = reader.rest;
    uint64_t head = bus_window_load(landing->head), cursor = bus_window_load(landing->cursor);
    if (reader.failed || !session->resumed || offset != head || frames.size % 8 != 0 ||
        head + frames.size - cursor > landing->size)
        return refuse(session, text, "frames that do not follow");
    if (frames.size == 0)
        return STATUS_OK;
    memcpy(bus_window_at(landing, offset), frames.data, frames.size);
    bus_window_store(landing->head, head + frames.size);
    peer->wire->settings.landed(peer->wire->settings.context, peer->node);
    return STATUS_OK;
}

static enum status on_ack(struct wire_peer *peer, struct wire_session *session, struct bytes body, char *text)
{
    const struct bus_window *window = &wire_node_of(peer)->window;
    struct record_reader reader = record_read(body);
    uint64_t landed = record_read_u64(&reader), applied = record_read_u64(&reader);
    uint64_t cursor = bus_window_load(window->cursor), head = bus_window_load(window->head);
    if (!record_read_end(&reader) || !session->welcomed || landed - cursor > head - cursor ||
        landed - applied > session->landing)
        return refuse(session, text, "an ACK of what was not sent");
    bus_window_store(window->cursor, landed);
    session->limit = applied + session->landing;
    if (peer->wanted) {
        peer->wanted = false;
        peer->wire->settings.ready(peer->wire->settings.context, peer->node);
    }
    return STATUS_OK;
}

static enum status on_ping(struct wire_session *session, struct bytes body, char *text)
{
    if (body.size != 8)
        return refuse(session, text, "PING that is none");
    return wire_stream_put(session->stream, WIRE_PONG, body, BYTES_NONE);
}

static enum status on_pong(struct wire_peer *peer, struct bytes body)
{
    uint64_t number = body.size == 8 ? get_u64_le(body.data) : 0;
    if (number != 0 && peer->ping_number - number < 8)
        peer->figures.round_trip_us = peer->wire->now_us - peer->pings_sent_us[number % 8];
    return STATUS_OK;
}

static enum status on_refused(const struct wire_peer *peer, struct bytes body, char *text)
{
    char said[WIRE_TEXT_SIZE / 2];
    size_t size = body.size < sizeof said - 1 ? body.size : sizeof said - 1;
    if (size > 0)
        memcpy(said, body.data, size);
    said[size] = '\0';
    snprintf(text, WIRE_TEXT_SIZE, "%s refuses us: %s", wire_node_of(peer)->name, said);
    return STATUS_REFUSED;
}

enum status wire_hear(
    struct wire_peer *peer, struct wire_session *session, uint8_t type, struct bytes body, char *text)
{
    if (session->state == WIRE_KNOWN)
        peer->heard_us = peer->wire->now_us;
    if (session->state != WIRE_KNOWN && type != WIRE_HELLO && type != WIRE_REFUSED)
        return refuse(session, text, "a session begins with HELLO");
    switch (type) {
    case WIRE_HELLO:
        return on_hello(peer, session, body, text);
    case WIRE_REFUSED:
        return on_refused(peer, body, text);
    case WIRE_WELCOME:
        return on_welcome(peer, session, body, text);
    case WIRE_RESUME:
        return on_resume(peer, session, body, text);
    case WIRE_FRAMES:
        return on_frames(peer, session, body, text);
    case WIRE_ACK:
        return on_ack(peer, session, body, text);
    case WIRE_PING:
        return on_ping(session, body, text);
    case WIRE_PONG:
        return on_pong(peer, body);
    default:
        return refuse(session, text, "a message of type %u, which this version does not know", type);
    }
}

bool wire_owes_ack(const struct wire_peer *peer)
{
    const struct bus_window *landing = &wire_node_of(peer)->landing;
    return peer->current != NULL && peer->current->resumed &&
           (bus_window_load(landing->head) - peer->acked >= half(peer) ||
               bus_window_load(landing->cursor) - peer->applied >= half(peer));
}

enum status wire_say_ack(struct wire_peer *peer)
{
    const struct bus_window *landing = &wire_node_of(peer)->landing;
    uint64_t landed = bus_window_load(landing->head), applied = bus_window_load(landing->cursor);
    uint8_t body[16], *to = body;
    if (!peer->current->resumed || (landed == peer->acked && applied == peer->applied))
        return STATUS_OK;
    peer->acked = landed;
    peer->applied = applied;
    to = record_write_u64(to, landed);
    to = record_write_u64(to, applied);
    return say(peer->current, WIRE_ACK, body, to);
}

enum status wire_say_ping(struct wire_peer *peer)
{
    uint8_t body[8];
    peer->ping_us = peer->wire->now_us;
    peer->pings_sent_us[++peer->ping_number % 8] = peer->ping_us;
    put_u64_le(body, peer->ping_number);
    return say(peer->current, WIRE_PING, body, body + 8);
}

enum status wire_say_frames(struct wire_peer *peer, uint64_t offset, struct bytes frames)
{
    uint8_t head[8];
    enum status status = wire_say_ack(peer); /* rides along */
    if (status != STATUS_OK)
        return status;
    put_u64_le(head, offset);
    return wire_stream_put(peer->current->stream, WIRE_FRAMES, bytes_of(head, 8), frames);
}
