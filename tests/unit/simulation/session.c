/*
 * Sessions of the toy worker: registry, subscriptions, queue, packet identifiers, and the engine's side of
 * claims and moves. What node/ does with the modules must look like this.
 */
#include "tests/unit/simulation/worker.h"

#include "cluster/record.h"
#include "tests/unit/simulation/world.h"

#include <stdlib.h>

#define QUEUE_MAX    4000u
#define INFLIGHT_MAX 16u
#define AWAITING_MAX 64u
#define TOPICS       (ORACLE_TOPICS + 1)

#define QOS  3u
#define LATE 0x80u /* in the qos of a delivery: it came with a late part */

struct delivery {
    struct publication *publication;
    uint8_t qos;
};

struct inflight {
    struct publication *publication; /* NULL: released, PUBCOMP is awaited */
    uint16_t id;
    uint8_t qos;
    bool used;
    bool sent_before; /* to an earlier connection */
    uint64_t order;
};

struct toy_session {
    struct list link; /* worker->sessions or worker->leaving */
    struct worker *worker;
    char id[16];
    uint64_t stamp;
    struct connection *connection;
    bool durable;
    bool waiting; /* for what a move brings: the client is not served */
    bool clean;   /* began with Clean Start */
    /* The client has sent something after CONNACK, so it knows of this session. Until then «session present»
       would make it go on with the state of one that is gone. */
    bool confirmed;
    uint64_t life; /* see struct packet */
    struct subscription subscriptions[TOPICS];
    uint32_t subscribed; /* bits */
    uint32_t inherited;  /* of these: they came with the session */
    struct delivery *queue;
    size_t queue_first, queue_count, queue_capacity;
    struct inflight inflight[INFLIGHT_MAX];
    uint64_t inflight_order;
    uint16_t next_id;
    uint16_t awaiting[AWAITING_MAX]; /* QoS 2 from the client; 0: free */
    uint64_t ticket;                 /* a publication of its client that is not accepted yet; 0: none */
    struct packet pending;
    bool late_part; /* what is forwarded now belongs to a late part */
    struct session_move_in *move_in;
    struct session_move_out *move_out;
    struct routes_waiter connack; /* of a moved session */
};

struct suback {
    struct routes_waiter waiter;
    struct list link; /* worker->subacks */
    struct connection *connection;
    uint64_t number; /* the connection's, should another take its place */
    struct worker *worker;
    uint8_t topic;
};

static void unsubscribe_all(struct toy_session *session);
static void pump(struct toy_session *session);

/* Registry.
 * ------------------------------------------------------------------------------------------------------- */

struct toy_session *session_find(struct worker *worker, struct bytes client_id)
{
    list_for_each(&worker->sessions, element, following)
    {
        struct toy_session *session = list_entry(element, struct toy_session, link);
        if (bytes_equal(bytes_of_text(session->id), client_id))
            return session;
    }
    return NULL;
}

static void connack_settled(struct routes_waiter *waiter, uint64_t silent);

static struct toy_session *session_new(struct connection *connection)
{
    struct toy_session *session = calloc(1, sizeof *session);
    session->worker = connection->worker;
    memcpy(session->id, connection->id, sizeof session->id);
    session->stamp = connection->claim.stamp;
    session->next_id = 1;
    session->durable = connection->client_number % 2 != 0;
    session->clean = connection->clean;
    list_init(&session->connack.link);
    session->connack.settled = connack_settled;
    list_append(&session->worker->sessions, &session->link);
    return session;
}

static void session_free(struct toy_session *session)
{
    while (session->queue_count-- > 0)
        publication_unref(&session->queue[session->queue_first++].publication);
    free(session->queue);
    for (unsigned i = 0; i < INFLIGHT_MAX; i++) {
        if (session->inflight[i].publication != NULL)
            publication_unref(&session->inflight[i].publication);
    }
    routes_wait_cancel(&session->connack);
    list_remove(&session->link);
    free(session);
}

static void session_end(struct toy_session *session)
{
    struct worker *worker = session->worker;
    if (session->connection != NULL)
        connection_close(session->connection, true);
    session_move_cancel(worker->moves, &session->move_in);
    acceptance_forget(worker->acceptance, session);
    unsubscribe_all(session);
    session_free(session);
}

/* The worker is dead: only memory. */
void session_free_all(struct worker *worker)
{
    list_for_each(&worker->sessions, element, following)
        session_free(list_entry(element, struct toy_session, link));
    list_for_each(&worker->leaving, element, following)
        session_free(list_entry(element, struct toy_session, link));
    list_for_each(&worker->subacks, element, following)
    {
        routes_wait_cancel(&list_entry(element, struct suback, link)->waiter);
        free(list_entry(element, struct suback, link));
    }
}

void session_disconnected(struct toy_session *session)
{
    session->connection = NULL;
    acceptance_forget(session->worker->acceptance, session); /* the next connection does not wait for it */
    session->ticket = 0;
    routes_wait_cancel(&session->connack);
    for (unsigned i = 0; i < INFLIGHT_MAX; i++)
        session->inflight[i].sent_before |= session->inflight[i].used;
}

bool session_parts(const struct worker *worker, struct bytes client_id)
{
    const struct list *const lists[] = {&worker->sessions, &worker->leaving};
    for (unsigned i = 0; i < 2; i++) {
        list_for_each(lists[i], element, following)
        {
            if (bytes_equal(bytes_of_text(list_entry(element, struct toy_session, link)->id), client_id))
                return true;
        }
    }
    return false;
}

bool session_moves_client(const struct worker *worker, struct bytes client_id)
{
    const struct list *const lists[] = {&worker->sessions, &worker->leaving};
    for (unsigned i = 0; i < 2; i++) {
        list_for_each(lists[i], element, following)
        {
            const struct toy_session *session = list_entry(element, struct toy_session, link);
            if (bytes_equal(bytes_of_text(session->id), client_id) &&
                (session->move_in != NULL || session->move_out != NULL))
                return true;
        }
    }
    return false;
}

unsigned sessions_of(const struct worker *worker, struct bytes client_id)
{
    unsigned count = 0;
    list_for_each(&worker->sessions, element, following) count +=
        bytes_equal(bytes_of_text(list_entry(element, struct toy_session, link)->id), client_id);
    return count;
}

/* Subscriptions.
 * -------------------------------------------------------------------------------------------------- */

static void subscribe(struct toy_session *session, unsigned topic)
{
    struct worker *worker = session->worker;
    if ((session->subscribed & 1u << topic) != 0)
        return;
    struct topic_filter *filter;
    struct subscription *subscription = &session->subscriptions[topic];
    *subscription = (struct subscription){.subscriber = session, .qos = 2};
    if (topic_index_acquire(worker->index, bytes_of_text(topic_filter(topic)), &filter) != STATUS_OK ||
        topic_index_insert(worker->index, filter, NULL, subscription) != STATUS_OK ||
        routes_want(worker->routes, filter, NULL, session->durable ? 1 : 0) != STATUS_OK)
        abort();
    session->subscribed |= 1u << topic;
}

static void unsubscribe_all(struct toy_session *session)
{
    struct worker *worker = session->worker;
    for (unsigned topic = 0; topic < TOPICS; topic++) {
        if ((session->subscribed & 1u << topic) == 0)
            continue;
        struct topic_filter *filter = session->subscriptions[topic].filter;
        topic_index_remove(worker->index, &session->subscriptions[topic]);
        if (routes_want(worker->routes, filter, NULL, session->durable ? -1 : 0) != STATUS_OK)
            abort();
    }
    session->subscribed = 0;
}

uint64_t session_match(struct worker *worker, struct bytes topic, uint64_t *ret_durable)
{
    struct topic_match match = topic_index_match(worker->index, topic);
    uint64_t peers = 0;
    *ret_durable = 0;
    for (uint32_t i = 0; i < match.count; i++) {
        peers |= match.filters[i]->peers;
        *ret_durable |= match.filters[i]->durable_peers;
    }
    return peers;
}

static void suback_settled(struct routes_waiter *waiter, uint64_t silent)
{
    struct suback *suback = list_entry(waiter, struct suback, waiter);
    if (silent != 0)
        world_trace(suback->worker->world, "worker %u: routes not acknowledged by %llx", suback->worker->slot,
            (unsigned long long)silent);
    list_for_each(&suback->worker->connections, element, following)
    {
        struct connection *connection = list_entry(element, struct connection, link);
        if (connection->number == suback->number && !connection->closing)
            connection_put(connection, &(struct packet){.type = SUBACK, .topic = suback->topic});
    }
    list_remove(&suback->link);
    free(suback);
}

static void on_subscribe(struct connection *connection, const struct packet *packet)
{
    subscribe(connection->session, packet->topic);
    struct suback *suback = calloc(1, sizeof *suback);
    suback->worker = connection->worker;
    suback->number = connection->number;
    suback->topic = packet->topic;
    suback->waiter.settled = suback_settled;
    list_init(&suback->waiter.link);
    list_append(&connection->worker->subacks, &suback->link);
    if (routes_wait(connection->worker->routes, &suback->waiter))
        suback_settled(&suback->waiter, 0);
}

/* Deliveries.
 * ----------------------------------------------------------------------------------------------------- */

static void enqueue(struct toy_session *session, struct publication *publication, uint8_t qos)
{
    if (session->queue_count >= QUEUE_MAX) {
        session->worker->counters.dropped_queue_full++;
        return;
    }
    if (session->queue_first + session->queue_count == session->queue_capacity) {
        if (session->queue_first > 0)
            memmove(session->queue, session->queue + session->queue_first,
                session->queue_count * sizeof *session->queue);
        session->queue_first = 0;
        if (session->queue_count * 2 >= session->queue_capacity) {
            session->queue_capacity = session->queue_capacity * 2 + 16;
            session->queue = realloc(session->queue, session->queue_capacity * sizeof *session->queue);
        }
    }
    session->queue[session->queue_first + session->queue_count++] =
        (struct delivery){publication_ref(publication), qos};
}

static struct publication *dequeue(struct toy_session *session, uint8_t *ret_qos)
{
    if (session->queue_count == 0)
        return NULL;
    struct delivery *first = &session->queue[session->queue_first++];
    session->queue_count--;
    *ret_qos = first->qos;
    return first->publication;
}

static void send_publish(struct toy_session *session, const struct publication *publication, uint8_t qos,
    uint16_t id, bool duplicate)
{
    struct publication_view view = publication_view(publication);
    connection_put(session->connection, &(struct packet){.type = PUBLISH,
                                            .id = id,
                                            .qos = qos & QOS,
                                            .late = (qos & LATE) != 0,
                                            .flag = duplicate,
                                            .number = get_u32_le(view.payload.data)});
}

static struct inflight *inflight_new(struct toy_session *session, uint16_t id)
{
    for (unsigned i = 0; i < INFLIGHT_MAX; i++) {
        struct inflight *it = &session->inflight[i];
        if (it->used)
            continue;
        *it = (struct inflight){.used = true, .id = id, .order = ++session->inflight_order};
        return it;
    }
    return NULL;
}

static struct inflight *inflight_find(struct toy_session *session, uint16_t id)
{
    for (unsigned i = 0; i < INFLIGHT_MAX; i++) {
        if (session->inflight[i].used && session->inflight[i].id == id)
            return &session->inflight[i];
    }
    return NULL;
}

static bool served(const struct toy_session *session)
{
    return session->connection != NULL && !session->waiting && list_empty(&session->connack.link) &&
           session->move_out == NULL;
}

static void pump(struct toy_session *session)
{
    while (served(session) && session->queue_count > 0) {
        uint8_t qos = session->queue[session->queue_first].qos;
        struct inflight *slot = NULL;
        if ((qos & QOS) > 0) {
            while (inflight_find(session, session->next_id) != NULL || session->next_id == 0)
                session->next_id++;
            slot = inflight_new(session, session->next_id);
            if (slot == NULL)
                return;
            session->next_id++;
        }
        struct publication *publication = dequeue(session, &qos);
        send_publish(session, publication, qos, slot != NULL ? slot->id : 0, false);
        if (slot == NULL) {
            publication_unref(&publication);
            continue;
        }
        slot->publication = publication;
        slot->qos = qos;
    }
}

/* In the order in which they were sent first. */
static void resend(struct toy_session *session)
{
    uint64_t last = 0;
    for (;;) {
        struct inflight *next = NULL;
        for (unsigned i = 0; i < INFLIGHT_MAX; i++) {
            struct inflight *it = &session->inflight[i];
            if (it->used && it->order > last && (next == NULL || it->order < next->order))
                next = it;
        }
        if (next == NULL)
            return;
        last = next->order;
        if (next->publication == NULL)
            connection_put(session->connection, &(struct packet){.type = PUBREL, .id = next->id});
        else
            send_publish(session, next->publication, next->qos, next->id, true);
    }
}

static bool deliver_to(
    const struct subscription *subscription, unsigned peer, const struct publication_view *view)
{
    struct toy_session *session = subscription->subscriber;
    bool inherited = (session->inherited & 1u << (subscription - session->subscriptions)) != 0;
    enum session_move_verdict verdict = SESSION_MOVE_DELIVER;
    if (session->move_in != NULL || session->move_out != NULL)
        verdict = session_move_verdict(session->move_in, session->move_out, peer, &view->meta, inherited);
    world_trace(session->worker->world, "worker %u: publication %u from %u for %s, verdict %d",
        session->worker->slot, get_u32_le(view->payload.data), peer, session->id, (int)verdict);
    if (verdict == SESSION_MOVE_DROP)
        return true;
    if (view->meta.qos == 0 && session->connection == NULL)
        return false;
    struct publication *publication = publication_new(view);
    uint8_t note[1] = {view->meta.qos};
    if (verdict == SESSION_MOVE_HOLD) {
        session_move_hold(session->move_in, peer, publication, bytes_of(note, 1));
    } else {
        enqueue(session, publication, view->meta.qos);
        pump(session);
    }
    publication_unref(&publication);
    return true;
}

bool session_deliver(struct worker *worker, unsigned peer, const struct publication_view *view)
{
    struct topic_match match = topic_index_match(worker->index, view->topic);
    bool durable = false;
    for (uint32_t i = 0; i < match.count; i++) {
        for (uint32_t at = 0; at < match.filters[i]->count; at++) {
            const struct subscription *subscription = match.filters[i]->subscriptions[at];
            durable |= deliver_to(subscription, peer, view) &&
                       ((const struct toy_session *)subscription->subscriber)->durable;
        }
    }
    return durable;
}

/* What clients send.
 * ---------------------------------------------------------------------------------------------- */

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
    pump(session);
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
    if (session == NULL || !served(session) || session->ticket != 0)
        return false;
    session->confirmed = true;
    switch (packet->type) {
    case SUBSCRIBE:
        on_subscribe(connection, packet);
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

/* Claims.
 * ---------------------------------------------------------------------------------------------------------
 */

/* The client knows nothing of what was in flight: it is sent once more, as new. */
static void begin_anew(struct toy_session *session)
{
    static uint64_t lives;
    session->life = ++lives;
    memset(session->awaiting, 0, sizeof session->awaiting);
    for (unsigned i = 0; i < INFLIGHT_MAX; i++) {
        struct inflight *it = &session->inflight[i];
        if (it->publication != NULL) {
            enqueue(session, it->publication, it->qos | LATE);
            publication_unref(&it->publication);
        }
        it->used = false;
    }
}

static void connack(struct toy_session *session, bool present)
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
        resend(session);
    pump(session);
}

static void connack_settled(struct routes_waiter *waiter, uint64_t silent)
{
    (void)silent;
    connack(list_entry(waiter, struct toy_session, connack), true);
}

/* From CONNACK on no publication needs the previous owner: so all peers must have the routes of a session
 * that moved. */
static void connack_when_routed(struct toy_session *session)
{
    if (session->connection == NULL)
        return;
    if (!list_empty(&session->connack.link))
        oracle_fail(&session->worker->world->oracle, "session %s was answered twice", session->id);
    if (session->move_in == NULL || routes_wait(session->worker->routes, &session->connack))
        connack(session, true);
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
            connack_when_routed(session);
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
        connack(session, false);
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

/* Moves.
 * ----------------------------------------------------------------------------------------------------------
 */

static void *take_out(
    void *context, struct bytes client_id, uint64_t stamp, bool discard, struct session_move_out *out)
{
    struct worker *worker = context;
    struct toy_session *session = session_find(worker, client_id);
    world_point(worker);
    world_trace(worker->world, "worker %u: %.*s asked for with %llx%s, here %llx", worker->slot,
        (int)client_id.size, (const char *)client_id.data, (unsigned long long)stamp,
        discard ? ", discard" : "", session != NULL ? (unsigned long long)session->stamp : 0);
    if (session == NULL || session->stamp > stamp)
        return NULL;
    if (discard) {
        session_end(session);
        return NULL;
    }
    if (session->connection != NULL)
        connection_close(session->connection, true);
    list_remove(&session->link);
    list_append(&worker->leaving, &session->link);
    session->move_out = out;
    worker->world->oracle.takeovers++;
    return session;
}

static enum status export_state(void *context, void *pointer, struct session_move_writer *writer)
{
    struct worker *worker = context;
    const struct toy_session *session = pointer;
    world_point(worker);
    session_move_write_u8(writer, session->confirmed);
    session_move_write_u8(writer, session->late_part);
    session_move_write_u64(writer, session->life);
    session_move_write_u32(writer, session->subscribed);
    session_move_write_u16(writer, session->next_id);
    session_move_write(writer, bytes_of(session->awaiting, sizeof session->awaiting));
    for (unsigned i = 0; i < INFLIGHT_MAX; i++) {
        const struct inflight *it = &session->inflight[i];
        if (!it->used)
            continue;
        size_t size = 0;
        struct publication_view view;
        if (it->publication != NULL) {
            view = publication_view(it->publication);
            size = acceptance_encoded_size(&view);
        }
        uint8_t *encoded = malloc(size + 1);
        if (size > 0)
            acceptance_encode(encoded, &view);
        session_move_write_u16(writer, it->id);
        session_move_write_u8(writer, it->qos);
        session_move_write_u64(writer, it->order);
        session_move_write_u32(writer, (uint32_t)size);
        session_move_write(writer, bytes_of(encoded, size));
        free(encoded);
    }
    return writer->failed ? STATUS_NO_MEMORY : STATUS_OK;
}

static struct publication *next(void *context, void *pointer, struct bytes *ret_note)
{
    static uint8_t qos;
    struct worker *worker = context;
    world_point(worker);
    struct publication *publication = dequeue(pointer, &qos);
    *ret_note = bytes_of(&qos, 1);
    return publication;
}

static uint32_t queue_length(void *context, void *pointer)
{
    (void)context;
    return (uint32_t)((struct toy_session *)pointer)->queue_count;
}

static void out_done(void *context, void *pointer)
{
    struct toy_session *session = pointer;
    (void)context;
    session->move_out = NULL;
    session_end(session);
}

static void taken_back(void *context, void *pointer)
{
    struct worker *worker = context;
    struct toy_session *session = pointer;
    struct bytes id = bytes_of_text(session->id);
    world_trace(worker->world, "worker %u takes back the session of %s", worker->slot, session->id);
    session->move_out = NULL;
    if (session_find(worker, id) != NULL) {
        session_end(session);
        return;
    }
    list_remove(&session->link);
    list_append(&worker->sessions, &session->link);
    claims_reclaim(worker->claims, id, session->stamp);
}

static void import_inflight(struct toy_session *session, struct record_reader *reader, bool late)
{
    uint16_t id = record_read_u16(reader);
    uint8_t qos = record_read_u8(reader);
    uint64_t order = record_read_u64(reader);
    uint32_t size = record_read_u32(reader);
    struct bytes encoded = record_read_bytes(reader, size);
    if (reader->failed || (late && size == 0))
        return;
    struct publication *publication = NULL;
    if (size > 0) {
        struct publication_view view;
        if (acceptance_decode(encoded, &view) != STATUS_OK)
            abort();
        if (session_move_seen(session->move_in, &view.meta))
            return;
        publication = publication_new(&view);
    }
    if (late) {
        enqueue(session, publication, qos | LATE);
        publication_unref(&publication);
        return;
    }
    struct inflight *slot = inflight_new(session, id);
    slot->publication = publication;
    slot->qos = qos;
    slot->order = order;
    slot->sent_before = true;
    if (session->inflight_order < order)
        session->inflight_order = order;
}

static enum status import_state(void *context, void *pointer, struct bytes state, bool late)
{
    struct worker *worker = context;
    struct toy_session *session = pointer;
    world_point(worker);
    world_trace(
        worker->world, "worker %u has the state of %s%s", worker->slot, session->id, late ? ", late" : "");
    struct record_reader reader = record_read(state);
    bool confirmed = record_read_u8(&reader) != 0;
    bool late_part = record_read_u8(&reader) != 0;
    uint64_t life = record_read_u64(&reader);
    uint32_t subscribed = record_read_u32(&reader);
    uint16_t next_id = record_read_u16(&reader);
    struct bytes awaiting = record_read_bytes(&reader, sizeof session->awaiting);
    if (!late) {
        session->confirmed = confirmed;
        session->life = life;
        session->next_id = next_id;
        memcpy(session->awaiting, awaiting.data, awaiting.size);
        for (unsigned topic = 0; topic < TOPICS; topic++) {
            if ((subscribed & 1u << topic) != 0)
                subscribe(session, topic);
        }
        session->inherited = session->subscribed;
    }
    while (reader.rest.size > 0 && !reader.failed)
        import_inflight(session, &reader, late);
    worker->world->oracle.moved++;
    session->late_part |= late || late_part;
    if (late)
        pump(session);
    return reader.failed ? STATUS_PROTOCOL : STATUS_OK;
}

static void answered(void *context, void *pointer, enum session_move_outcome outcome)
{
    struct worker *worker = context;
    struct toy_session *session = pointer;
    world_trace(worker->world, "worker %u: move of %s, outcome %d", worker->slot, session->id, (int)outcome);
    if (outcome != SESSION_MOVE_FOUND) {
        connack(session, false);
        return;
    }
    session->waiting = false;
    connack_when_routed(session);
}

static void forwarded(void *context, void *pointer, const struct publication_view *view, struct bytes note)
{
    struct worker *worker = context;
    world_point(worker);
    world_trace(worker->world, "worker %u: publication %u forwarded to %s", worker->slot,
        get_u32_le(view->payload.data), ((struct toy_session *)pointer)->id);
    struct publication *publication = publication_new(view);
    bool late = ((struct toy_session *)pointer)->late_part;
    enqueue(pointer, publication, (uint8_t)(note.data[0] | (late ? LATE : 0)));
    publication_unref(&publication);
    pump(pointer);
}

static void release(void *context, void *pointer, struct publication *publication, struct bytes note)
{
    (void)context;
    enqueue(pointer, publication, note.data[0]);
    pump(pointer);
}

static void held_dropped(void *context, void *pointer, const struct publication_view *view)
{
    struct worker *worker = context;
    (void)pointer, (void)view;
    worker->counters.dropped_queue_full++;
}

static void in_done(void *context, void *pointer, struct session_move_in *next_move)
{
    (void)context;
    ((struct toy_session *)pointer)->move_in = next_move;
}

static bool picked(struct bytes note)
{
    (void)note;
    return false;
}

const struct session_moves_ops toy_session_ops = {.take_out = take_out,
    .picked = picked,
    .export_state = export_state,
    .next = next,
    .queue_length = queue_length,
    .out_done = out_done,
    .taken_back = taken_back,
    .import_state = import_state,
    .answered = answered,
    .forwarded = forwarded,
    .release = release,
    .held_dropped = held_dropped,
    .in_done = in_done};
