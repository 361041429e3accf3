/*
 * The switch to another generation, a step a loop turn. Worker process. Must leave everything as it was until
 * the last step: what fails on the way is told to the master, and nothing has changed.
 */
#include "node/worker_reload.h"

#include "node/worker_context.h"
#include "node/worker_listen.h"

#include "shared/log.h"
#include "shared/tls_context.h"

#include <openssl/ssl.h>
#include <stdlib.h>

struct worker_reload {
    struct worker *worker;
    const struct child_generation *next;     /* borrowed from the child module */
    struct event *event;                     /* owned; the next step */
    size_t listener;                         /* whose context is made next */
    SSL_CTX *contexts[CONFIG_LISTENERS_MAX]; /* owned; NULL: plain, or not made yet */
};

void worker_reload_cancel(struct worker *worker)
{
    struct worker_reload *reload = worker->reload;
    if (reload == NULL)
        return;
    for (size_t i = 0; i < CONFIG_LISTENERS_MAX; i++)
        SSL_CTX_free(reload->contexts[i]);
    if (reload->event != NULL)
        event_free(reload->event);
    free(reload);
    worker->reload = NULL;
}

static void refuse(struct worker *worker, const char *why)
{
    worker_reload_cancel(worker);
    child_generation_switched(worker->child, why);
}

/* Nothing here can fail. */
static void switch_over(struct worker_reload *reload)
{
    struct worker *worker = reload->worker;
    const struct config *config = reload->next->config;
    worker_listen_switch(worker, config, reload->contexts);
    worker->config = config;
    worker_reload_cancel(worker);
    child_generation_switched(worker->child, NULL);
}

static void next_step_in_next_turn(struct worker_reload *reload)
{
    const struct timeval at_once = {0, 0};
    event_add(reload->event, &at_once);
}

static void on_step(evutil_socket_t fd, short events, void *argument)
{
    (void)fd;
    (void)events;
    struct worker_reload *reload = argument;
    const struct config *config = reload->next->config;
    worker_wake(reload->worker);
    if (reload->listener == config->listener_count) {
        switch_over(reload);
        return;
    }
    char error[TLS_ERROR_SIZE], text[TLS_ERROR_SIZE + 80];
    size_t index = reload->listener++;
    if (worker_listen_prepare(config, index, reload->next->secrets, &reload->contexts[index], error) !=
        STATUS_OK) {
        snprintf(text, sizeof text, "listener %s: %s", config->listeners[index].key, error);
        refuse(reload->worker, text);
        return;
    }
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
    if (reload == NULL || reload->event == NULL) {
        refuse(worker, "out of memory");
        return;
    }
    reload->worker = worker;
    reload->next = next;
    next_step_in_next_turn(reload);
}
