/*
 * Sessions of the toy worker: registry and subscriptions. What its clients send is in session_packets.c, what
 * they get in session_delivery.c, how they connect in session_connect.c, how they move in session_transfer.c.
 * What node/ does with the modules must look like this.
 */
#include "tests/unit/simulation/toy_session.h"

#include "tests/unit/simulation/world.h"

#include <stdlib.h>

static void unsubscribe_all(struct toy_session *session);

struct suback {
    struct routes_waiter waiter;
    struct list link; /* worker->subacks */
    struct connection *connection;
    uint64_t number; /* the connection's, should another take its place */
    struct worker *worker;
    uint8_t topic;
};

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

struct toy_session *session_new(struct connection *connection)
{
    struct toy_session *session = calloc(1, sizeof *session);
    session->worker = connection->worker;
    memcpy(session->id, connection->id, sizeof session->id);
    session->stamp = connection->claim.stamp;
    session->next_id = 1;
    session->durable = connection->client_number % 2 != 0;
    session->clean = connection->clean;
    list_init(&session->connack.link);
    session->connack.settled = session_connack_settled;
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

void session_end(struct toy_session *session)
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

void session_subscribe(struct toy_session *session, unsigned topic)
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

void session_on_subscribe(struct connection *connection, const struct packet *packet)
{
    session_subscribe(connection->session, packet->topic);
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
