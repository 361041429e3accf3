/*
 * The nodes of the cluster as the link sees them: who is reachable, who begins the next session and when, how
 * long somebody may be silent. Sessions are in wire_session.c, what is said in them in wire_messages.c.
 */
#include "cluster/wire_private.h"

#include "shared/bus_frame.h"

#include <stdio.h>
#include <stdlib.h>

#define PING_EVERY_US    400000
#define SILENT_MAX_US    2500000 /* then a node is lost: within 3 s, ticks and all */
#define BROKEN_MAX_US    1000000 /* the same once its inbox cannot be reached */
#define HANDSHAKE_MAX_US 1500000
#define FIRST_MAX_US     3000000 /* after our own start, when others may think that it is up */
#define OPENS_PER_SECOND 20      /* handshakes that come from one node's name */
#define OPENS_AT_ONCE    10
#define STRANGERS_LOG_US 60000000

static enum status carrier_send(struct bus_carrier *carrier, unsigned peer, struct bytes frames);
static void carrier_free(struct bus_carrier **carrier);

static const struct bus_carrier_ops ops = {.send = carrier_send, .free = carrier_free};

enum status wire_new(const struct wire_settings *settings, uint64_t now_us, struct wire **ret_wire)
{
    struct wire *wire = calloc(1, sizeof *wire + settings->count * sizeof wire->peers[0]);
    if (wire == NULL)
        return STATUS_NO_MEMORY;
    wire->carrier.ops = &ops;
    wire->settings = *settings;
    wire->now_us = wire->started_us = now_us;
    for (unsigned node = 0; node < settings->count; node++) {
        struct wire_peer *peer = &wire->peers[node];
        peer->wire = wire;
        peer->node = node;
        peer->client = strcmp(settings->nodes[settings->self].name, settings->nodes[node].name) < 0;
    }
    *ret_wire = wire;
    return STATUS_OK;
}

void wire_free(struct wire **wire)
{
    struct wire *it = *wire;
    *wire = NULL;
    if (it == NULL)
        return;
    for (unsigned node = 0; node < it->settings.count; node++) {
        struct wire_peer *peer = &it->peers[node];
        if (peer->current != NULL)
            wire_session_end(peer, peer->current);
        while (peer->pending_count > 0)
            wire_session_end(peer, peer->pending[0]);
    }
    free(it);
}

struct bus_carrier *wire_carrier(struct wire *wire)
{
    return &wire->carrier;
}

static void carrier_free(struct bus_carrier **carrier)
{
    *carrier = NULL; /* goes with the wire */
}

/* ---- frames out -----------------------------------------------------------------------------------------
 */

static enum status carrier_send(struct bus_carrier *carrier, unsigned number, struct bytes frames)
{
    struct wire *wire = (struct wire *)(void *)carrier;
    struct bus_frame first;
    if (number < wire->settings.first_peer || number - wire->settings.first_peer >= wire->settings.count ||
        bus_frame_parse(frames, &first) != STATUS_OK)
        return STATUS_OK; /* nobody will ever take it */
    struct wire_peer *peer = &wire->peers[number - wire->settings.first_peer];
    struct wire_session *session = peer->current;
    peer->wanted = true;
    if (session == NULL || !session->told || session->blocked || session->failed)
        return STATUS_AGAIN;
    if (session->limit - first.offset < frames.size || session->limit < first.offset)
        return STATUS_AGAIN; /* its landing is full */
    if (wire_say_frames(peer, first.offset, frames) != STATUS_OK) {
        session->failed = true; /* its messages may be under way up the stack */
        return STATUS_AGAIN;
    }
    wire_session_flush(peer, session);
    peer->wanted = session->blocked;
    return STATUS_OK;
}

void wire_writable(struct wire *wire, unsigned node, uint64_t now_us)
{
    struct wire_peer *peer = &wire->peers[node];
    wire_advance(wire, now_us);
    for (unsigned i = 0; i < peer->pending_count; i++) {
        if (peer->pending[i]->blocked)
            wire_session_flush(peer, peer->pending[i]);
    }
    if (peer->current != NULL && peer->current->blocked)
        wire_session_flush(peer, peer->current);
    if (peer->wanted && peer->current != NULL && !peer->current->blocked) {
        peer->wanted = false;
        wire->settings.ready(wire->settings.context, node);
    }
}

/* ---- messages in ----------------------------------------------------------------------------------------
 */

static struct wire_peer *peer_with(struct wire *wire, uint16_t id)
{
    for (unsigned node = 0; node < wire->settings.count; node++) {
        if (node != wire->settings.self && wire->settings.nodes[node].id == id)
            return &wire->peers[node];
    }
    return NULL;
}

static void stranger(struct wire *wire, const char *text)
{
    wire->strangers++;
    if (wire->stranger_logged_us != 0 && wire->now_us - wire->stranger_logged_us < STRANGERS_LOG_US)
        return;
    wire->stranger_logged_us = wire->now_us;
    wire->settings.log(wire->settings.context, LOG_LEVEL_WARNING, wire->settings.self, text);
}

/* Its time is its bucket: handshakes cost more than anything else that a stranger can ask for. */
static bool may_open(struct wire_peer *peer)
{
    uint64_t step_us = 1000000 / OPENS_PER_SECOND, now_us = peer->wire->now_us;
    uint64_t floor_us = now_us > OPENS_AT_ONCE * step_us ? now_us - OPENS_AT_ONCE * step_us : 0;
    if (peer->opens_us < floor_us)
        peer->opens_us = floor_us;
    if (peer->opens_us + step_us > now_us)
        return false;
    peer->opens_us += step_us;
    return true;
}

static void on_open(struct wire_peer *peer, uint64_t number, struct bytes bytes)
{
    if (peer->client || !may_open(peer)) {
        peer->wire->strangers++;
        return;
    }
    struct wire_session *session = wire_session_find(peer, number);
    if (session == NULL)
        session = wire_session_new(peer, number, false);
    if (session == NULL)
        return;
    if (peer->wire->settings.tls == NULL && session->state == WIRE_SHAKING &&
        wire_say_hello(peer, session) != STATUS_OK)
        return;
    wire_session_input(peer, session, bytes);
}

static void on_data(struct wire_peer *peer, uint64_t number, struct bytes bytes)
{
    struct wire_session *session = wire_session_find(peer, number);
    if (session != NULL)
        wire_session_input(peer, session, bytes);
    else if (!peer->client)
        wire_send_reset(peer, number); /* it does not know that its session is gone */
}

static void on_reset(struct wire_peer *peer, uint64_t number)
{
    struct wire_session *session = peer->client ? wire_session_find(peer, number) : NULL;
    if (session == NULL)
        return;
    bool proven = session->current;
    wire_session_end(peer, session);
    if (proven)
        peer->next_try_us = peer->wire->now_us;
}

void wire_receive(struct wire *wire, struct bytes message, uint64_t now_us)
{
    wire_advance(wire, now_us);
    if (message.size < WIRE_HEAD_SIZE || message.data[0] != 'W' || message.data[3] != 0) {
        stranger(wire, "somebody sends to our inbox what is no message of the cluster bus");
        return;
    }
    if (message.data[1] != WIRE_FORMAT) {
        stranger(
            wire, "somebody speaks a version of the cluster bus that this one does not understand at all");
        return;
    }
    struct wire_peer *peer = peer_with(wire, get_u16_le(message.data + 4));
    if (peer == NULL) {
        stranger(wire, "a node that is not in the cluster file wants to connect");
        return;
    }
    if (get_u16_le(message.data + 6) != wire->settings.nodes[wire->settings.self].id) {
        stranger(wire, "somebody takes us for another node: check the addresses in the cluster file");
        return;
    }
    peer->figures.bytes_received += message.size;
    uint64_t number = get_u64_le(message.data + 8);
    struct bytes rest = bytes_of(message.data + WIRE_HEAD_SIZE, message.size - WIRE_HEAD_SIZE);
    if (message.data[2] == WIRE_KIND_OPEN)
        on_open(peer, number, rest);
    else if (message.data[2] == WIRE_KIND_DATA)
        on_data(peer, number, rest);
    else if (message.data[2] == WIRE_KIND_RESET)
        on_reset(peer, number);
    else
        wire->strangers++;
}

void wire_advance(struct wire *wire, uint64_t now_us)
{
    /* We stood still ourselves: nobody is to blame for that time. */
    bool stood_still = now_us - wire->now_us > SILENT_MAX_US / 2;
    wire->now_us = now_us;
    for (unsigned node = 0; stood_still && node < wire->settings.count; node++) {
        struct wire_peer *peer = &wire->peers[node];
        peer->heard_us = now_us;
        if (peer->broken_us != 0)
            peer->broken_us = now_us;
    }
}

/* ---- time -----------------------------------------------------------------------------------------------
 */

void wire_broken(struct wire *wire, unsigned node, uint64_t now_us)
{
    struct wire_peer *peer = &wire->peers[node];
    wire_advance(wire, now_us);
    if (peer->broken_us == 0)
        peer->broken_us = now_us;
    if (peer->client && peer->current != NULL) { /* what was under way is lost: the stream has a hole */
        wire_session_end(peer, peer->current);
        peer->next_try_us = now_us;
    }
}

static void lose(struct wire_peer *peer, const char *why)
{
    struct wire *wire = peer->wire;
    if (peer->current != NULL)
        wire_session_end(peer, peer->current);
    peer->up = false;
    peer->known_down = true;
    wire->settings.down(wire->settings.context, peer->node, why);
}

static void check_silence(struct wire_peer *peer)
{
    struct wire *wire = peer->wire;
    uint64_t now_us = wire->now_us;
    if (peer->broken_us != 0 && peer->heard_us > peer->broken_us)
        peer->broken_us = 0;
    if (peer->up && now_us - peer->heard_us >= SILENT_MAX_US)
        lose(peer, "it has said nothing for 2.5 s");
    else if (peer->up && peer->broken_us != 0 && now_us - peer->broken_us >= BROKEN_MAX_US)
        lose(peer, "its connection broke and it has not come back");
    else if (!peer->known_down && now_us - wire->started_us >= FIRST_MAX_US)
        lose(peer, "it cannot be reached");
}

static void end_old_handshakes(struct wire_peer *peer)
{
    while (peer->pending_count > 0 && peer->wire->now_us - peer->pending[0]->begun_us >= HANDSHAKE_MAX_US)
        wire_session_end(peer, peer->pending[0]);
    struct wire_session *session = peer->current; /* it stopped in the middle of its greeting */
    if (session != NULL && !session->told && peer->wire->now_us - session->begun_us >= HANDSHAKE_MAX_US)
        wire_session_end(peer, session);
}

static void tick_session(struct wire_peer *peer)
{
    struct wire_session *session = peer->current;
    enum status status = STATUS_OK;
    if (session->blocked)
        return;
    if (peer->wire->now_us - peer->ping_us >= PING_EVERY_US)
        status = wire_say_ping(peer);
    if (status == STATUS_OK)
        status = wire_say_ack(peer);
    if (status != STATUS_OK)
        wire_session_end(peer, session);
    else
        wire_session_flush(peer, session);
}

void wire_tick(struct wire *wire, uint64_t now_us)
{
    wire_advance(wire, now_us);
    for (unsigned node = 0; node < wire->settings.count; node++) {
        struct wire_peer *peer = &wire->peers[node];
        if (node == wire->settings.self)
            continue;
        end_old_handshakes(peer);
        check_silence(peer);
        if (peer->current != NULL && peer->current->failed)
            wire_session_end(peer, peer->current);
        if (peer->current != NULL)
            tick_session(peer);
        else if (peer->client && peer->pending_count == 0 && now_us >= peer->next_try_us)
            wire_session_open(peer);
    }
}

void wire_turn_end(struct wire *wire, uint64_t now_us)
{
    wire_advance(wire, now_us);
    for (unsigned node = 0; node < wire->settings.count; node++) {
        struct wire_peer *peer = &wire->peers[node];
        if (node == wire->settings.self || !wire_owes_ack(peer) || peer->current->blocked)
            continue;
        if (wire_say_ack(peer) != STATUS_OK)
            wire_session_end(peer, peer->current);
        else
            wire_session_flush(peer, peer->current);
    }
}

void wire_figures(const struct wire *wire, unsigned node, struct wire_figures *ret_figures)
{
    const struct wire_peer *peer = &wire->peers[node];
    *ret_figures = peer->figures;
    ret_figures->up = peer->up;
    ret_figures->session = peer->current != NULL && peer->current->told;
    ret_figures->who = peer->who;
    if (node != wire->settings.self) {
        const struct bus_window *window = &wire->settings.nodes[node].window;
        ret_figures->backlog = bus_window_load(window->head) - bus_window_load(window->cursor);
    }
}

uint64_t wire_strangers(const struct wire *wire)
{
    return wire->strangers;
}
