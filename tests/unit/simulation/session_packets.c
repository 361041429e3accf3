/* What the clients of the toy worker send. */
#include "tests/unit/simulation/toy_session.h"

#include "tests/unit/simulation/world.h"

#include <stdlib.h>

static uint16_t *find_awaiting(struct toy_session *session, uint16_t id)
{
    for (unsigned i = 0; i < AWAITING_MAX; i++) {
        if (session->awaiting[i] == id)
            return &session->awaiting[i];
    }
    return NULL;
}

static void acknowledge(struct toy_session *session, const struct packet *packet)
{
    if (session->connection != NULL && packet->qos > 0)
        connection_put(session->connection,
            &(struct packet){.type = packet->qos == 1 ? PUBACK : PUBREC, .id = packet->id});
}

void session_accepted(struct toy_session *session, uint64_t ticket, enum acceptance_result result)
{
    if (session->ticket != ticket)
        return;
    session->ticket = 0;
    if (result != ACCEPTANCE_REFUSED)
        acknowledge(session, &session->pending);
    else if (session->connection != NULL)
        connection_close(session->connection, true);
}

/* False: not taken, a window is full. */
static bool on_publish(struct connection *connection, const struct packet *packet)
{
    static uint64_t tickets;
    struct worker *worker = connection->worker;
    struct toy_session *session = connection->session;
    if (packet->qos == 2 && find_awaiting(session, packet->id) != NULL) {
        acknowledge(session, packet);
        return true;
    }
    uint8_t *payload = calloc(1, packet->size);
    put_u32_le(payload, packet->number);
    struct publication_view view = {.meta = {.qos = packet->qos},
        .topic = bytes_of_text(topic_name(packet->topic)),
        .payload = bytes_of(payload, packet->size)};
    uint64_t durable;
    uint64_t peers = session_match(worker, view.topic, &durable);
    enum acceptance_result result =
        acceptance_offer(worker->acceptance, &view, peers, peers & durable, session, ++tickets);
    if (result == ACCEPTANCE_DONE || result == ACCEPTANCE_PENDING) {
        session_deliver(worker, worker->slot, &view);
        if (packet->qos == 2)
            *find_awaiting(session, 0) = packet->id;
    }
    free(payload);
    if (result == ACCEPTANCE_DONE)
        acknowledge(session, packet);
    if (result == ACCEPTANCE_PENDING) {
        session->ticket = tickets;
        session->pending = *packet;
    }
    if (result == ACCEPTANCE_REFUSED)
        connection_close(connection, true);
    return result != ACCEPTANCE_STALLED;
}

static void on_acknowledgement(struct toy_session *session, const struct packet *packet)
{
    struct inflight *slot = inflight_find(session, packet->id);
    if (packet->type == PUBREC) {
        if (slot != NULL && slot->publication != NULL)
            publication_unref(&slot->publication);
        connection_put(session->connection, &(struct packet){.type = PUBREL, .id = packet->id});
        return;
    }
    if (slot == NULL)
        return;
    if (slot->publication != NULL)
        publication_unref(&slot->publication);
    slot->used = false;
    session_pump(session);
}

static void on_claim_answered(struct claim *claim)
{
    struct connection *connection = list_entry(claim, struct connection, claim);
    connection->claiming = false;
    session_granted(connection);
}

static void on_connect(struct connection *connection, const struct packet *packet)
{
    connection->begun = true;
    connection->clean = packet->flag;
    connection->will_number = packet->number;
    connection->will_delay_s = packet->delay_s;
    connection->claim.client_id = bytes_of_text(connection->id);
    connection->claim.answered = on_claim_answered;
    connection->claiming = true;
    if (claims_claim(connection->worker->claims, &connection->claim))
        on_claim_answered(&connection->claim);
}

bool session_packet(struct connection *connection, const struct packet *packet)
{
    struct toy_session *session = connection->session;
    if (!connection->begun) {
        on_connect(connection, packet);
        return true;
    }
    if (session == NULL || !session_served(session) || session->ticket != 0)
        return false;
    session->confirmed = true;
    switch (packet->type) {
    case SUBSCRIBE:
        session_on_subscribe(connection, packet);
        return true;
    case PUBLISH:
        return on_publish(connection, packet);
    case PUBREL: {
        uint16_t *awaiting = find_awaiting(session, packet->id);
        if (awaiting != NULL)
            *awaiting = 0;
        connection_put(connection, &(struct packet){.type = PUBCOMP, .id = packet->id});
        return true;
    }
    default:
        on_acknowledgement(session, packet);
        return true;
    }
}
