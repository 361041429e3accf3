/*
 * Sessions between two links: begun by the node whose name comes first, numbered at random by it, known to
 * both by that number; one per pair is current, and is replaced only by one that has authenticated itself as
 * the same node. What is lost on the way breaks a session (TLS finds the hole), and the next one begins at
 * once.
 */
#include "cluster/wire_private.h"

#include "shared/tls_peer.h"

#include <stdio.h>
#include <stdlib.h>

#define RETRY_US        100000
#define RETRY_MAX_US    5000000
#define RESET_EVERY_US  100000
#define LOG_EVERY_US    60000000
#define RANDOM_SLACK_US 50000

struct wire_session *wire_session_new(struct wire_peer *peer, uint64_t number, bool client)
{
    struct wire_session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return NULL;
    if (wire_stream_new(peer->wire->settings.tls, client, &session->stream) != STATUS_OK) {
        free(session);
        return NULL;
    }
    session->number = number;
    session->begun_us = peer->wire->now_us;
    if (peer->pending_count == WIRE_PENDING_MAX)
        wire_session_end(peer, peer->pending[0]);
    peer->pending[peer->pending_count++] = session;
    return session;
}

static void take_off(struct wire_peer *peer, const struct wire_session *session)
{
    for (unsigned i = 0; i < peer->pending_count; i++) {
        if (peer->pending[i] != session)
            continue;
        for (unsigned k = i + 1; k < peer->pending_count; k++)
            peer->pending[k - 1] = peer->pending[k];
        peer->pending_count--;
        return;
    }
}

void wire_session_end(struct wire_peer *peer, struct wire_session *session)
{
    if (session == peer->current) {
        peer->current = NULL;
        peer->session_end_us = peer->wire->now_us;
    }
    take_off(peer, session);
    wire_stream_free(&session->stream);
    free(session);
}

struct wire_session *wire_session_find(struct wire_peer *peer, uint64_t number)
{
    if (peer->current != NULL && peer->current->number == number)
        return peer->current;
    for (unsigned i = 0; i < peer->pending_count; i++) {
        if (peer->pending[i]->number == number)
            return peer->pending[i];
    }
    return NULL;
}

void wire_session_become_current(struct wire_peer *peer, struct wire_session *session)
{
    if (session->current)
        return;
    if (peer->current != NULL)
        wire_session_end(peer, peer->current);
    take_off(peer, session);
    session->current = true;
    peer->current = session;
    peer->refusals = 0;
    peer->broken_us = 0;
    peer->acked = peer->applied = UINT64_MAX; /* nothing was told in this one */
    peer->figures.sessions++;
}

/* ---- sending --------------------------------------------------------------------------------------------
 */

static enum status send_message(
    struct wire_peer *peer, enum wire_kind kind, uint64_t number, struct bytes bytes)
{
    struct wire *wire = peer->wire;
    uint8_t *message = malloc(WIRE_HEAD_SIZE + bytes.size);
    if (message == NULL)
        return STATUS_AGAIN;
    message[0] = 'W';
    message[1] = WIRE_FORMAT;
    message[2] = (uint8_t)kind;
    message[3] = 0;
    put_u16_le(message + 4, wire->settings.nodes[wire->settings.self].id);
    put_u16_le(message + 6, wire_node_of(peer)->id);
    put_u64_le(message + 8, number);
    if (bytes.size > 0)
        memcpy(message + WIRE_HEAD_SIZE, bytes.data, bytes.size);
    enum status status = wire->settings.send(
        wire->settings.context, peer->node, bytes_of(message, WIRE_HEAD_SIZE + bytes.size));
    free(message);
    if (status == STATUS_OK)
        peer->figures.bytes_sent += WIRE_HEAD_SIZE + bytes.size;
    return status;
}

void wire_session_flush(struct wire_peer *peer, struct wire_session *session)
{
    struct bytes output = wire_stream_output(session->stream);
    session->blocked = false;
    if (output.size == 0)
        return;
    bool first = peer->client && !session->opened;
    enum status status = send_message(peer, first ? WIRE_KIND_OPEN : WIRE_KIND_DATA, session->number, output);
    session->opened |= status != STATUS_AGAIN;
    if (status == STATUS_AGAIN)
        session->blocked = true;
    else
        wire_stream_sent(session->stream); /* also if it is lost for good: the session breaks then */
}

void wire_send_reset(struct wire_peer *peer, uint64_t number)
{
    if (peer->wire->now_us - peer->resets_us < RESET_EVERY_US && peer->resets_us != 0)
        return;
    peer->resets_us = peer->wire->now_us;
    (void)send_message(peer, WIRE_KIND_RESET, number, BYTES_NONE); /* only a hint */
}

/* ---- beginning and end -----------------------------------------------------------------------------------
 */

void wire_session_open(struct wire_peer *peer)
{
    char text[WIRE_TEXT_SIZE];
    struct wire *wire = peer->wire;
    while (peer->pending_count > 0) /* as the client there is one attempt at a time */
        wire_session_end(peer, peer->pending[0]);
    peer->next_try_us = wire->now_us + RETRY_US;
    struct wire_session *session =
        wire_session_new(peer, wire->settings.random(wire->settings.context), true);
    if (session == NULL)
        return;
    enum status status = wire_stream_start(session->stream, text);
    if (status == STATUS_OK && wire_stream_ready(session->stream)) /* nothing to shake in a simulation */
        status = wire_say_hello(peer, session);
    if (status != STATUS_OK) {
        wire_session_end(peer, session);
        return;
    }
    wire_session_flush(peer, session);
}

void wire_session_refuse(struct wire_peer *peer, struct wire_session *session, const char *text)
{
    struct wire *wire = peer->wire;
    bool proven = session->current; /* a session that worked: it broke */
    if (!proven) {
        if (peer->refusals < 10)
            peer->refusals++;
        uint64_t wait_us = (uint64_t)RETRY_US << peer->refusals;
        peer->next_try_us = wire->now_us + (wait_us < RETRY_MAX_US ? wait_us : RETRY_MAX_US);
    }
    bool again =
        strcmp(peer->figures.last_refusal, text) == 0 && wire->now_us - peer->logged_us < LOG_EVERY_US;
    if (!again || proven) {
        snprintf(peer->figures.last_refusal, sizeof peer->figures.last_refusal, "%s", text);
        peer->logged_us = wire->now_us;
        wire->settings.log(
            wire->settings.context, proven ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, peer->node, text);
    }
    wire_session_flush(peer, session); /* the alert, if there is one */
    uint64_t number = session->number;
    wire_session_end(peer, session);
    if (!peer->client)
        wire_send_reset(peer, number);
}

/* The handshake is over: who is it? */
static enum status begin_to_talk(struct wire_peer *peer, struct wire_session *session, char *text)
{
    char names[TLS_NODE_NAMES_SIZE];
    if (!wire_stream_is(session->stream, wire_node_of(peer)->name, names)) {
        snprintf(text, WIRE_TEXT_SIZE, "its certificate names %s, not %s: it is refused", names,
            wire_node_of(peer)->name);
        char reason[WIRE_TEXT_SIZE];
        snprintf(reason, sizeof reason, "your certificate names %s, not %s", names, wire_node_of(peer)->name);
        (void)!wire_stream_put(session->stream, WIRE_REFUSED, BYTES_NONE, bytes_of_text(reason));
        return STATUS_REFUSED;
    }
    return wire_say_hello(peer, session);
}

/* All messages that are whole. */
static enum status hear_all(struct wire_peer *peer, struct wire_session *session, char *text)
{
    for (;;) {
        uint8_t type;
        struct bytes body;
        enum status status = wire_stream_next(session->stream, &type, &body, text);
        if (status == STATUS_NOT_FOUND)
            return STATUS_OK;
        if (status == STATUS_OK)
            status = wire_hear(peer, session, type, body, text);
        if (status != STATUS_OK)
            return status;
    }
}

void wire_session_input(struct wire_peer *peer, struct wire_session *session, struct bytes bytes)
{
    char text[WIRE_TEXT_SIZE] = "the session is of no use any more";
    enum status status = wire_stream_input(session->stream, bytes, text);
    if (status == STATUS_OK && session->state == WIRE_SHAKING && wire_stream_ready(session->stream))
        status = begin_to_talk(peer, session, text);
    if (status == STATUS_OK && wire_stream_ready(session->stream))
        status = hear_all(peer, session, text);
    if (status != STATUS_OK) {
        wire_session_refuse(peer, session, text);
        return;
    }
    wire_session_flush(peer, session);
}
