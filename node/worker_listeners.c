/*
 * The listeners of a worker as a set: made at the start, exchanged by a reload. A listener is known by the
 * place of its sockets: whatever else of it changes, its object stays, as connections point to it. One that
 * is gone from the configuration is retired until its last connection has ended. Worker process.
 */
#include "node/worker_listen_private.h"

#include "node/tls_material.h"
#include "shared/log.h"

#include <openssl/ssl.h>
#include <stdlib.h>

/* One listener
 * ------------------------------------------------------------------------------------------------- */

static void set_websocket(struct worker_listener *listener, const struct config *whole)
{
    const struct config_listener *config = listener->config;
    listener->websocket =
        (struct websocket_settings){.rules = {.path = config->path,
                                        .origins = (const char *const *)config->origins.items,
                                        .origin_count = config->origins.count},
            .max_message_size =
                config->max_frame_size > 0 ? config->max_frame_size : whole->mqtt.max_packet_size};
}

/* What a WebSocket listener serves. */
static enum status open_websocket(struct worker_listener *listener)
{
    struct worker *worker = listener->worker;
    set_websocket(listener, worker->config);
    return worker->websocket_frames != NULL ? STATUS_OK : websocket_frames_new(&worker->websocket_frames);
}

static enum status open_tls(struct worker_listener *listener, size_t index)
{
    char error[TLS_ERROR_SIZE];
    struct worker *worker = listener->worker;
    enum status status = tls_material_context(worker->child->secrets, worker->config, index,
        worker->child->tickets, worker->child->revoked, &listener->context, error);
    if (status != STATUS_OK)
        log_error("listener %s: %s", listener->config->key, error);
    return status;
}

enum status worker_listen_prepare(const struct config *config, size_t index, struct bytes secrets,
    struct tls_tickets *tickets, struct tls_revoked *revoked, SSL_CTX **ret_context, char *error)
{
    const struct config_listener *listener = &config->listeners[index];
    SSL_CTX *context = NULL;
    if (!config_listener_has_tls(listener)) {
        *ret_context = NULL;
        return STATUS_OK;
    }
    enum status status = tls_material_context(secrets, config, index, tickets, revoked, &context, error);
    if (status == STATUS_OK)
        status = tls_context_prove(context, listener->tls.versions, error);
    if (status != STATUS_OK) {
        SSL_CTX_free(context);
        return status;
    }
    *ret_context = context;
    return STATUS_OK;
}

static struct worker_listener *listener_new(struct worker *worker, uint8_t place)
{
    struct worker_listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL)
        return NULL;
    listener->worker = worker;
    listener->place = place;
    listener->connections = &counters_listeners(worker->child->counters_base, worker->child->slot)[place];
    list_init(&listener->sockets);
    list_init(&listener->retired);
    return listener;
}

void worker_listener_free(struct worker_listener **listener_pointer)
{
    struct worker_listener *listener = *listener_pointer;
    *listener_pointer = NULL;
    if (listener == NULL)
        return;
    list_remove(&listener->retired);
    SSL_CTX_free(listener->context);
    config_free(&listener->config_held);
    free(listener);
}

/* The set
 * ------------------------------------------------------------------------------------------------------ */

enum status worker_listen_open(struct worker *worker)
{
    const struct config *config = worker->config;
    list_init(&worker->retired_listeners);
    worker->listeners = calloc(config->listener_count + 1, sizeof(struct worker_listener *));
    if (worker->listeners == NULL)
        return STATUS_NO_MEMORY;
    descriptor_reserve_init(&worker->reserve);
    for (unsigned i = 0; i < config->listener_count; i++) {
        struct worker_listener *listener = listener_new(worker, worker->child->places[i]);
        if (listener == NULL)
            return STATUS_NO_MEMORY;
        worker->listeners[i] = listener;
        listener->config = &config->listeners[i];
        enum status status = STATUS_OK;
        if (config_listener_has_tls(listener->config))
            status = open_tls(listener, i);
        if (status == STATUS_OK && config_listener_has_websocket(listener->config))
            status = open_websocket(listener);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

void worker_listen_done(struct worker *worker)
{
    if (worker->listeners == NULL)
        return;
    worker_listen_stop(worker);
    descriptor_reserve_done(&worker->reserve);
    for (size_t i = 0; worker->listeners[i] != NULL; i++)
        worker_listener_free(&worker->listeners[i]);
    free(worker->listeners);
    worker->listeners = NULL;
    while (!list_empty(&worker->retired_listeners)) {
        struct worker_listener *listener =
            list_entry(worker->retired_listeners.next, struct worker_listener, retired);
        worker_listener_free(&listener);
    }
    websocket_frames_free(&worker->websocket_frames);
}

/* Exchanging it
 * ------------------------------------------------------------------------------------------------ */

struct worker_listeners_next {
    size_t count;
    struct worker_listener **listeners; /* owned, NULL behind the last; of them those that are fresh */
    bool fresh[CONFIG_LISTENERS_MAX];
};

/* The one that goes on under the next configuration: the same sockets, spoken to in the same way. */
static struct worker_listener *find_same(
    const struct worker *worker, uint8_t place, enum config_listener_type type)
{
    for (size_t i = 0; worker->listeners[i] != NULL; i++)
        if (worker->listeners[i]->place == place && worker->listeners[i]->config->type == type)
            return worker->listeners[i];
    return NULL;
}

void worker_listen_drop_next(struct worker_listeners_next **next_pointer)
{
    struct worker_listeners_next *next = *next_pointer;
    *next_pointer = NULL;
    for (size_t i = 0; next != NULL && i < next->count; i++)
        if (next->fresh[i])
            worker_listener_free(&next->listeners[i]);
    if (next != NULL)
        free(next->listeners);
    free(next);
}

enum status worker_listen_make_next(struct worker *worker, const struct config *config, const uint8_t *places,
    struct worker_listeners_next **ret_next)
{
    struct worker_listeners_next *next = calloc(1, sizeof *next);
    if (next != NULL)
        next->listeners = calloc(config->listener_count + 1, sizeof(struct worker_listener *));
    enum status status = next == NULL || next->listeners == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        next->listeners[i] = find_same(worker, places[i], listener->type);
        next->fresh[i] = next->listeners[i] == NULL;
        if (next->fresh[i])
            next->listeners[i] = listener_new(worker, places[i]);
        if (next->listeners[i] == NULL)
            status = STATUS_NO_MEMORY;
        else
            next->count++;
        if (status == STATUS_OK && config_listener_has_websocket(listener) &&
            worker->websocket_frames == NULL)
            status = websocket_frames_new(&worker->websocket_frames);
    }
    if (status != STATUS_OK)
        worker_listen_drop_next(&next);
    else
        *ret_next = next;
    return status;
}

/* Its connections go on; nobody new comes. Still with the configuration that it was in. */
static void retire(struct worker_listener *listener)
{
    struct worker *worker = listener->worker;
    if (listener->open == 0) {
        worker_listener_free(&listener);
        return;
    }
    listener->config_held = config_share(worker->config);
    list_append(&worker->retired_listeners, &listener->retired);
}

static bool stays(const struct worker_listeners_next *next, const struct worker_listener *listener)
{
    for (size_t i = 0; i < next->count; i++)
        if (next->listeners[i] == listener)
            return true;
    return false;
}

void worker_listen_switch(struct worker *worker, const struct config *config, SSL_CTX **contexts,
    struct worker_listeners_next **next_pointer)
{
    struct worker_listeners_next *next = *next_pointer;
    struct worker_listener **former = worker->listeners;
    for (size_t i = 0; former[i] != NULL; i++)
        if (!stays(next, former[i]))
            worker_listen_leave(former[i]);
    for (size_t i = 0; former[i] != NULL; i++)
        if (!stays(next, former[i]))
            retire(former[i]);
    for (size_t i = 0; i < next->count; i++) {
        struct worker_listener *listener = next->listeners[i];
        listener->config = &config->listeners[i];
        SSL_CTX_free(listener->context); /* connections hold references of their own */
        listener->context = contexts[i];
        contexts[i] = NULL;
        if (config_listener_has_websocket(listener->config))
            set_websocket(listener, config);
    }
    worker->listeners = next->listeners;
    free(former);
    free(next);
    *next_pointer = NULL;
    for (unsigned slot = 0; !worker->stopping && slot < CHILD_SLOTS_MAX; slot++)
        if (worker->adopted[slot] != NULL)
            worker_listen_accept_from(worker, worker->adopted[slot]);
    if (!worker->stopping)
        worker_listen_accept_from(worker, &worker->child->own);
}
