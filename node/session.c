/*
 * The life of a session: made for a client identifier, bound to a connection or waiting for one, ended by
 * expiry, clean start or a move to another worker. Worker process.
 */
#include "node/session.h"
#include "node/connection.h"
#include "node/shared_delivery.h"
#include "node/worker_context.h"

#include "shared/log.h"

#include <assert.h>
#include <stdlib.h>

static void on_expiry(struct timer_wheel *wheel, struct timer *timer)
{
    (void)wheel;
    struct session *session = list_entry(timer, struct session, timer);
    session->worker->counters->sessions_expired++;
    log_debug("client %.*s: session expired", (int)session->client_id_size, session->client_id);
    session_end(&session);
}

struct session *session_new(struct worker *worker, struct bytes client_id, uint8_t version, uint64_t stamp)
{
    struct session *session = calloc(1, sizeof *session + client_id.size);
    if (session == NULL)
        return NULL;
    session->worker = worker;
    session->hash = keyed_hash_of(&worker->hash, client_id);
    session->version = version;
    session->stamp = stamp;
    session->client_id_size = (uint16_t)client_id.size;
    memcpy(session->client_id, client_id.data, client_id.size);
    list_init(&session->subscriptions);
    list_init(&session->aside);
    inflight_init(&session->inflight);
    timer_init(&session->timer, on_expiry);
    session_register(session);
    return session;
}

void session_register(struct session *session)
{
    assert(!session->registered);
    session->registered = true;
    session_table_insert(&session->worker->sessions, session);
    session->worker->counters->sessions++;
}

void session_leave(struct session *session)
{
    session_unregister(session);
    timer_wheel_cancel(&session->worker->wheel, &session->timer);
    list_append(&session->worker->leaving, &session->aside);
}

void session_unregister(struct session *session)
{
    assert(session->registered);
    session->registered = false;
    session_table_remove(&session->worker->sessions, session);
    session->worker->counters->sessions--;
}

static void session_free(struct session *session)
{
    acl_rights_free(&session->rights);
    free(session->user);
    free(session->mount);
    free(session);
}

void session_discard(struct session **session_pointer)
{
    struct session *session = *session_pointer;
    *session_pointer = NULL;
    struct worker *worker = session->worker;
    assert(session->connection == NULL);
    retained_delivery_cancel_all(session);
    session_unsubscribe_all(session);
    shared_hand_on_rest(session);
    session_will_clear(session);
    timer_wheel_cancel(&worker->wheel, &session->timer);
    delivery_queue_clear(&session->queue);
    inflight_clear(&session->inflight);
    awaiting_clear(&session->awaiting);
    if (session->move_in != NULL)
        session_move_cancel(worker->moves, &session->move_in);
    if (session->registered)
        session_unregister(session);
    list_remove(&session->aside);
    session_free(session);
}

void session_abandon(void *context, struct session *session)
{
    (void)context;
    list_remove(&session->aside);
    retained_delivery_cancel_all(session);
    list_for_each(&session->subscriptions, element, following)
    {
        struct session_subscription *it = list_entry(element, struct session_subscription, siblings);
        topic_index_remove(session->worker->index, &it->subscription);
        free(it);
    }
    if (session->subscription_table != NULL)
        hash_table_done(session->subscription_table);
    free(session->subscription_table);
    delivery_queue_clear(&session->queue);
    inflight_clear(&session->inflight);
    awaiting_clear(&session->awaiting);
    session_free(session);
}

void session_end(struct session **session)
{
    struct worker *worker = (*session)->worker;
    session_will_now(*session);
    claims_release(worker->claims, session_client_id(*session), (*session)->stamp);
    session_discard(session);
}

enum status session_set_user(struct session *session, struct bytes user, struct acl_rights **rights)
{
    char *copy = NULL;
    bool same = (user.data == NULL) == (session->user == NULL) &&
                bytes_equal(user, bytes_of(session->user, session->user_size));
    if (!same && user.data != NULL) {
        copy = malloc(user.size + 1);
        if (copy == NULL)
            return STATUS_NO_MEMORY;
        memcpy(copy, user.data, user.size);
        copy[user.size] = '\0';
    }
    bool was_checked = session->rights != NULL;
    acl_rights_free(&session->rights);
    session->rights = *rights;
    *rights = NULL;
    if (same && was_checked == (session->rights != NULL))
        return STATUS_OK;
    session_rights_changed(session);
    if (same)
        return STATUS_OK;
    free(session->user);
    session->user = copy;
    session->user_size = (uint16_t)user.size;
    return STATUS_OK;
}

void session_set_rights(struct session *session, struct acl_rights **rights)
{
    acl_rights_free(&session->rights);
    session->rights = *rights;
    *rights = NULL;
    session_rights_changed(session);
}

void session_set_mount(struct session *session, struct session_mount **mount)
{
    free(session->mount);
    session->mount = *mount;
    *mount = NULL;
}

void session_set_expiry(struct session *session, uint32_t expiry_s)
{
    uint32_t maximum = session->worker->config->mqtt.session_expiry_max_s;
    bool was_durable = session_durable(session);
    session->expiry_s = expiry_s > maximum ? maximum : expiry_s;
    if (was_durable != session_durable(session))
        session_durability_changed(session);
}

void session_connected(struct session *session, struct connection *connection)
{
    assert(session->connection == NULL);
    timer_wheel_cancel(&session->worker->wheel, &session->timer);
    session->connection = connection;
    session->worker->counters->clients++;
    session->worker->counters->connects_accepted++;
    session->version = connection->version;
    connection->session = session;
    connection->unacknowledged = session->awaiting.count;
    uint32_t limit = session->worker->config->mqtt.max_inflight;
    session->window_limit = connection->receive_maximum < limit ? connection->receive_maximum : limit;
    session->queueing = false;
    shared_set_connected(session, true);
    session_resend(session);
    session_pump(session);
}

void session_disconnected(struct session *session, bool with_will)
{
    if (session->connection != NULL)
        session->worker->counters->clients--;
    session->connection = NULL;
    shared_set_connected(session, false);
    if (!with_will)
        session_will_clear(session);
    if (session->expiry_s == 0) {
        session_end(&session);
        return;
    }
    shared_hand_on_away(session);
    session_will_due(session);
    if (session->expiry_s != UINT32_MAX)
        timer_wheel_add(&session->worker->wheel, &session->timer,
            session->worker->now_us + (uint64_t)session->expiry_s * 1000000);
}
