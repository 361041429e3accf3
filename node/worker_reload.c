/*
 * The switch to another generation, a step a loop turn. Worker process. Must leave everything as it was until
 * the last step: what fails on the way is told to the master, and nothing has changed.
 */
#include "node/worker_reload.h"

#include "node/session_connect.h"
#include "node/session_rewrite.h"
#include "node/worker_context.h"
#include "node/worker_listen.h"

#include "shared/log.h"
#include "shared/tls_context.h"

#include <openssl/ssl.h>
#include <stdlib.h>

/* Buckets of sessions that get their new rights in one turn. */
#define SESSIONS_PORTION 500

struct worker_reload {
    struct worker *worker;
    const struct child_generation *next;     /* borrowed from the child module */
    struct event *event;                     /* owned; the next step */
    size_t listener;                         /* whose context is made next */
    SSL_CTX *contexts[CONFIG_LISTENERS_MAX]; /* owned; NULL: plain, or not made yet */
    struct worker_listeners_next *listeners; /* owned */
    struct access_files access;              /* owned: the next ones, after the switch the former ones */
    bool switched;                           /* what is left: the sessions' rights */
    uint32_t bucket;                         /* of the sessions, to go on with */
    struct topic_rewrite *rewrite;           /* owned: the same; NULL: no rules */
};

void worker_reload_cancel(struct worker *worker)
{
    struct worker_reload *reload = worker->reload;
    if (reload == NULL)
        return;
    for (size_t i = 0; i < CONFIG_LISTENERS_MAX; i++)
        SSL_CTX_free(reload->contexts[i]);
    worker_listen_drop_next(&reload->listeners);
    access_files_close(&reload->access);
    if (reload->event != NULL)
        event_free(reload->event);
    topic_rewrite_free(&reload->rewrite);
    free(reload);
    worker->reload = NULL;
}

static void refuse(struct worker *worker, const char *why)
{
    worker_reload_cancel(worker);
    child_generation_switched(worker->child, why);
}

static void next_step_in_next_turn(struct worker_reload *reload)
{
    const struct timeval at_once = {0, 0};
    event_add(reload->event, &at_once);
}

/* Its user was there and is not any more: who logged in as it must not stay. */
static bool has_lost_its_user(const struct worker_reload *reload, const struct session *session)
{
    const struct password_file *former = reload->access.passwords;
    const struct password_file *present = reload->worker->access.passwords;
    struct bytes user = bytes_of(session->user, session->user_size);
    return session->user != NULL && former != NULL && password_file_find(former, user) != NULL &&
           (present == NULL || password_file_find(present, user) == NULL);
}

static void give_rights(void *context, struct session *session)
{
    struct worker_reload *reload = context;
    struct acl *acl = reload->worker->access.acl;
    struct bytes user = bytes_of(session->user, session->user_size);
    struct acl_rights *rights = acl == NULL ? NULL : acl_rights_new(acl, user, session_client_id(session));
    bool good = acl == NULL || rights != NULL;
    bool lost = has_lost_its_user(reload, session);
    struct connection *connection = session->connection;
    if (good)
        session_set_rights(session, &rights);
    if (connection == NULL && session->connecting != NULL && (!good || lost))
        connect_refuse(session->connecting->connection, MQTT_SERVER_BUSY, "its rights changed meanwhile");
    if (connection == NULL)
        return; /* its client gets rights anew when it comes */
    if (!good)
        connection_close(connection, MQTT_SERVER_BUSY, "no memory for its rights");
    else if (lost)
        connection_close(connection, MQTT_ADMINISTRATIVE_ACTION, "its user is in auth.password_file no more");
}

/* Nothing here can fail. */
static void switch_over(struct worker_reload *reload)
{
    struct worker *worker = reload->worker;
    const struct config *config = reload->next->config;
    struct access_files former = worker->access;
    worker_listen_switch(worker, config, reload->contexts, &reload->listeners);
    config_free(&worker->config_held);
    worker->config = worker->config_held = config_share(config);
    worker->access = reload->access;
    reload->access = former;
    worker->access_turn++;
    struct topic_rewrite *former_rewrite = worker->rewrite;
    worker->rewrite = reload->rewrite;
    reload->rewrite = former_rewrite;
    session_moves_set_limits(worker->moves, config->mqtt.max_queued_bytes, worker_state_max(config));
    reload->switched = true;
}

/* A portion of the sessions gets its rights; the last one is the end of the whole. */
static void renew_rights(struct worker_reload *reload)
{
    struct worker *worker = reload->worker;
    bool any = worker->access.acl != NULL || reload->access.acl != NULL || reload->access.passwords != NULL;
    if (any)
        reload->bucket = session_for_some(worker, reload->bucket, SESSIONS_PORTION, give_rights, reload);
    if (any && reload->bucket != 0) {
        next_step_in_next_turn(reload);
        return;
    }
    worker_reload_cancel(worker);
    child_generation_switched(worker->child, NULL);
}

/* False: refused. */
static bool prepare_listener(struct worker_reload *reload)
{
    const struct config *config = reload->next->config;
    char error[TLS_ERROR_SIZE], text[TLS_ERROR_SIZE + 80];
    size_t index = reload->listener++;
    if (worker_listen_prepare(config, index, reload->next->secrets, reload->worker->child->tickets,
            reload->next->revoked, &reload->contexts[index], error) == STATUS_OK)
        return true;
    snprintf(text, sizeof text, "listener %s: %s", config->listeners[index].key, error);
    refuse(reload->worker, text);
    return false;
}

static void on_step(evutil_socket_t fd, short events, void *argument)
{
    (void)fd;
    (void)events;
    struct worker_reload *reload = argument;
    worker_wake(reload->worker);
    if (reload->switched) {
        renew_rights(reload);
        return;
    }
    if (reload->listener < reload->next->config->listener_count) {
        if (prepare_listener(reload))
            next_step_in_next_turn(reload);
        return;
    }
    if (worker_listen_make_next(
            reload->worker, reload->next->config, reload->next->places, &reload->listeners) != STATUS_OK) {
        refuse(reload->worker, "out of memory");
        return;
    }
    if (access_files_open(reload->next->access, &reload->access) != STATUS_OK) {
        refuse(reload->worker, "the access files cannot be read");
        return;
    }
    switch_over(reload);
    next_step_in_next_turn(reload);
}

void worker_reload_begin(void *context, const struct child_generation *next)
{
    struct worker *worker = context;
    worker_reload_cancel(worker);
    struct worker_reload *reload = calloc(1, sizeof *reload);
    worker->reload = reload;
    if (reload != NULL)
        reload->event = event_new(worker->base, -1, 0, on_step, reload);
    if (reload == NULL || reload->event == NULL ||
        session_rewrite_open(next->config, &reload->rewrite) != STATUS_OK) {
        refuse(worker, "out of memory");
        return;
    }
    reload->worker = worker;
    reload->next = next;
    next_step_in_next_turn(reload);
}
