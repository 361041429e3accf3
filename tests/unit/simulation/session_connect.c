/* How a client of the toy worker comes to its session: claims, the will, CONNACK. */
#include "tests/unit/simulation/toy_session.h"

#include "tests/unit/simulation/world.h"

/* The client knows nothing of what was in flight: it is sent once more, as new. */
static void begin_anew(struct toy_session *session)
{
    static uint64_t lives;
    session->life = ++lives;
    memset(session->awaiting, 0, sizeof session->awaiting);
    for (unsigned i = 0; i < INFLIGHT_MAX; i++) {
        struct inflight *it = &session->inflight[i];
        if (it->publication != NULL) {
            session_enqueue(session, it->publication, it->qos | LATE);
            publication_unref(&it->publication);
        }
        it->used = false;
    }
}

void session_connack(struct toy_session *session, bool present)
{
    session->waiting = false;
    if (session->connection == NULL)
        return;
    present = present && session->confirmed;
    if (!present)
        begin_anew(session);
    connection_put(
        session->connection, &(struct packet){.type = CONNACK, .flag = present, .life = session->life});
    if (present)
        session_resend(session);
    session_pump(session);
}

void session_connack_settled(struct routes_waiter *waiter, uint64_t silent)
{
    (void)silent;
    session_connack(list_entry(waiter, struct toy_session, connack), true);
}

/* From CONNACK on no publication needs the previous owner: so all peers must have the routes of a session
 * that moved. */
void session_connack_when_routed(struct toy_session *session)
{
    if (session->connection == NULL)
        return;
    if (!list_empty(&session->connack.link))
        oracle_fail(&session->worker->world->oracle, "session %s was answered twice", session->id);
    if (session->move_in == NULL || routes_wait(session->worker->routes, &session->connack))
        session_connack(session, true);
}

static void put_will(struct connection *connection)
{
    if (connection->will_number == 0)
        return;
    uint8_t payload[4];
    put_u32_le(payload, connection->will_number);
    struct will will = {.connection = connection->claim.stamp,
        .publisher = keyed_hash_of(&connection->worker->world->hash, bytes_of_text(connection->id)),
        .delay_s = connection->will_delay_s,
        .expiry_s = WILL_NO_EXPIRY,
        .qos = 2,
        .client_id = bytes_of_text(connection->id),
        .topic = bytes_of_text(topic_name(ORACLE_TOPICS)),
        .payload = bytes_of(payload, sizeof payload)};
    connection->will_connection = will.connection;
    if (wills_put(connection->worker->wills, &will, &connection->will) != STATUS_OK)
        connection->will = 0;
}

static void attach(struct toy_session *session, struct connection *connection)
{
    if (session->connection != NULL)
        connection_close(session->connection, true);
    routes_wait_cancel(&session->connack);
    session->connection = connection;
    session->stamp = connection->claim.stamp;
    connection->session = session;
}

/* Its content belongs to another's claim; the client is back here before that one asked for it. */
static void park(struct toy_session *session, unsigned owner)
{
    struct worker *worker = session->worker;
    if (session->connection != NULL)
        connection_close(session->connection, true);
    list_remove(&session->link);
    list_append(&worker->leaving, &session->link);
    session->move_out =
        session_move_park(worker->moves, session, bytes_of_text(session->id), session->stamp, owner);
}

void session_granted(struct connection *connection)
{
    struct worker *worker = connection->worker;
    const struct claim *claim = &connection->claim;
    struct bytes id = bytes_of_text(connection->id);
    struct toy_session *session = session_find(worker, id);
    bool elsewhere =
        claim->outcome == CLAIM_GRANTED && claim->previous < BUS_PEERS_MAX && claim->previous != worker->slot;
    world_point(worker);
    world_trace(worker->world, "worker %u: claim of %s: outcome %d, stamp %llx, previous %u%s", worker->slot,
        connection->id, (int)claim->outcome, (unsigned long long)claim->stamp, claim->previous,
        session != NULL ? ", session here" : "");
    if (claim->outcome == CLAIM_SUPERSEDED) {
        if (connection->client != NULL)
            oracle_fail(&worker->world->oracle, "the newest connection of %s is refused", connection->id);
        connection_close(connection, false);
        return;
    }
    if (claim->outcome == CLAIM_UNANSWERED)
        worker->world->oracle.unanswered_us[connection->client_number] = worker->world->now_us;
    put_will(connection);
    if (session != NULL && (connection->clean || elsewhere)) {
        if (connection->clean)
            session_end(session);
        else
            park(session, claim->previous);
        session = NULL;
    }
    if (connection->clean && elsewhere)
        session_move_discard(worker->moves, id, claim->stamp, claim->previous);
    bool found = session != NULL;
    if (!found)
        session = session_new(connection);
    attach(session, connection);
    if (found) {
        if (!session->waiting)
            session_connack_when_routed(session);
        return;
    }
    if (!connection->clean)
        session->move_in = session_move_in(worker->moves, session, id, claim->stamp,
            elsewhere ? claim->previous : worker->slot, claim->begun_us + CLAIMS_TIMEOUT_US, false, NULL);
    session->waiting = session->move_in != NULL;
    if (session->move_in == NULL && claim->outcome == CLAIM_UNANSWERED)
        session->move_in =
            session_move_in(worker->moves, session, id, claim->stamp, BUS_PEERS_MAX, 0, true, NULL);
    if (!session->waiting)
        session_connack(session, false);
}

void sessions_owned(void *context, struct claims_report *report)
{
    struct worker *worker = context;
    list_for_each(&worker->sessions, element, following)
    {
        struct toy_session *session = list_entry(element, struct toy_session, link);
        claims_report_add(report, bytes_of_text(session->id), session->stamp);
    }
}

uint64_t session_owned(void *context, struct bytes client_id)
{
    struct toy_session *session = session_find(context, client_id);
    return session != NULL ? session->stamp : 0;
}

void session_superseded(void *context, struct bytes client_id, uint64_t stamp, unsigned owner)
{
    struct worker *worker = context;
    struct toy_session *session = session_find(worker, client_id);
    world_trace(worker->world, "worker %u: %.*s is superseded by %llx of worker %u, here %llx", worker->slot,
        (int)client_id.size, (const char *)client_id.data, (unsigned long long)stamp, owner,
        session != NULL ? (unsigned long long)session->stamp : 0);
    if (session != NULL && session->stamp < stamp && session->connection != NULL)
        connection_close(session->connection, true);
}

bool session_late(void *context, struct bytes client_id, uint64_t stamp, unsigned previous)
{
    struct worker *worker = context;
    struct toy_session *session = session_find(worker, client_id);
    world_trace(worker->world, "worker %u: late answer for %.*s: stamp %llx, previous %u, here %llx",
        worker->slot, (int)client_id.size, (const char *)client_id.data, (unsigned long long)stamp, previous,
        session != NULL ? (unsigned long long)session->stamp : 0);
    if (session == NULL)
        return false;
    if (session->stamp < stamp)
        session->stamp = stamp;
    stamp = session->stamp;
    if (previous >= BUS_PEERS_MAX || previous == worker->slot)
        return true;
    if (session->clean)
        session_move_discard(worker->moves, client_id, stamp, previous);
    else
        session->move_in =
            session_move_in(worker->moves, session, client_id, stamp, previous, 0, true, session->move_in);
    worker->world->oracle.late_parts++;
    return true;
}
