/*
 * The worker process: its start as a checklist, its loop turn, its goodbye. Everything that happens in
 * between is in the modules that it wires together here.
 *
 * A turn: events (bus, then whoever is ready, within a budget) → retained pages → bus_turn_end → flush →
 * free.
 */
#include "node/worker.h"
#include "node/connection.h"
#include "node/password_check.h"
#include "node/session_rewrite.h"
#include "node/worker_bus.h"
#include "node/worker_carrier.h"
#include "node/worker_context.h"
#include "node/worker_listen.h"
#include "node/worker_reload.h"
#include "node/worker_sys.h"

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/scram.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define STOOD_STILL_US 500000
#define TICK_US        50000 /* bus_tick, timer wheel, housekeeping */
#define POLL_US        1000  /* the same while somebody waits for less than a tick */

/* After so many connections have gone, free memory is given back to the system, once none has come or gone
   for so long. */
#define TRIM_CONNECTIONS 500
#define TRIM_QUIET_US    1000000

#define RETAINED_EXPIRE_BUDGET 2000 /* entries looked at per tick */

/* The loop turn
 * ------------------------------------------------------------------------------------------------ */

/*
 * Before anything that clients have sent meanwhile: what the peers had for us, and whether that is all [BUS
 * rules 4]. The master first: what a process says that we have not been told of is not read.
 */
static void catch_up(struct worker *worker)
{
    worker->resumed_us = worker->now_us;
    child_hear(worker->child);
    uint64_t behind = bus_behind(worker->bus);
    bus_drain(worker->bus);
    if (behind != 0)
        routes_fell_behind(worker->routes, behind);
}

void worker_wake(struct worker *worker)
{
    if (worker->awake)
        return;
    uint64_t now_us = clock_monotonic_us();
    bool stood_still = now_us - worker->now_us > STOOD_STILL_US;
    worker->now_us = worker->turn_start_us = now_us;
    worker->turn_bytes = 0;
    worker->untried_bytes = 0;
    worker->awake = true;
    if (stood_still)
        catch_up(worker);
    worker_carrier_woken(worker);
}

void worker_has_read(struct worker *worker)
{
    uint64_t now_us = clock_monotonic_us();
    if (now_us - worker->now_us > STOOD_STILL_US) {
        worker->now_us = now_us;
        catch_up(worker);
    }
    bus_drain_if_stale(worker->bus, worker->now_us);
}

void worker_spend(struct worker *worker, uint32_t bytes)
{
    worker->turn_bytes += bytes;
    if (worker->turn_bytes >= WORKER_TURN_BYTES ||
        clock_monotonic_us() - worker->turn_start_us >= WORKER_TURN_US)
        event_base_loopbreak(worker->base);
}

void worker_publish(struct worker *worker)
{
    if (worker->shared.settle_first)
        share_copies_tell(worker->copies);
    worker->shared.settle_first = false;
    bus_publish(worker->bus);
}

static void flush(struct worker *worker)
{
    while (!list_empty(&worker->dirty)) {
        connection_flush(list_entry(worker->dirty.next, struct connection, dirty));
        if (worker->shared.settle_first) /* by a queue that went on */
            worker_publish(worker);
    }
}

/* Arms a short timer while a full lane or a time-out needs a look sooner than the next tick. */
static void arm_poll(struct worker *worker)
{
    if (worker->poll_armed || !bus_wants_poll(worker->bus))
        return;
    struct timeval soon = {0, POLL_US};
    worker->poll_armed = true;
    event_add(worker->poll_event, &soon);
}

/* Calls it for all connections that there are now, whichever end meanwhile. */
static void for_all_connections(struct worker *worker, void (*visit)(struct connection *connection))
{
    struct list all;
    list_init(&all);
    list_splice(&all, &worker->connections);
    while (!list_empty(&all)) {
        struct list *element = all.next;
        list_remove(element);
        list_append(&worker->connections, element);
        visit(list_entry(element, struct connection, lists));
    }
}

static void resume_one(struct connection *connection)
{
    connection_release(connection, HOLD_ROUTES);
}

static void on_turn(void *context)
{
    struct worker *worker = context;
    worker_wake(worker);
    if (!worker->started) { /* the first turn: the child module has told of all peers that run */
        worker->started = true;
        bus_drain(worker->bus);
        claims_start(worker->claims);
        routes_start(worker->routes);
    }
    if (worker->resume && !worker->held) {
        worker->resume = false;
        for_all_connections(worker, resume_one);
    }
    if (worker->stalled_have_room) {
        worker->stalled_have_room = false;
        publish_retry_stalled(worker);
        shared_retry(worker);
    }
    bool more_retained = retained_delivery_turn(worker);
    more_retained |= retained_state_turn(worker);
    bus_turn_end(worker->bus);
    worker->shared.settle_first = false;
    flush(worker);
    bus_turn_end(worker->bus); /* what a flush let through: a queue that went on */
    connection_free_closed(worker);
    arm_poll(worker);
    worker->counters->loop_turns++;
    worker->counters->log_dropped = log_dropped();
    if (more_retained) /* what waits for a slow client is looked at when something happens */
        event_active(worker->again_event, EV_TIMEOUT, 0);
    if (worker->stopping && list_empty(&worker->connections))
        child_end(worker->child);
    worker->awake = false;
}

/* glibc keeps what was freed. After a crowd of clients has left and it has been quiet, give it back. */
static void trim(struct worker *worker)
{
    if (worker->connection_count < worker->connection_count_before)
        worker->connections_gone += worker->connection_count_before - worker->connection_count;
    if (worker->connection_count != worker->connection_count_before)
        worker->trim_at_us = worker->now_us + TRIM_QUIET_US;
    worker->connection_count_before = worker->connection_count;
    if (worker->connections_gone >= TRIM_CONNECTIONS)
        worker->trim_wanted = true;
    if (!worker->trim_wanted || worker->now_us < worker->trim_at_us)
        return;
    worker->trim_wanted = false;
    worker->connections_gone = 0;
    while (worker->buffer_count > 0)
        free(worker->buffers[--worker->buffer_count]);
    malloc_trim(0);
}

/* There is more to do in the next turn, which begins at once. (Not the tick's event: activating a timer that
 * persists puts off its next time.) */
static void on_again(evutil_socket_t fd, short events, void *argument)
{
    (void)fd;
    (void)events;
    worker_wake(argument);
}

static void on_poll(evutil_socket_t fd, short events, void *argument)
{
    (void)fd;
    (void)events;
    struct worker *worker = argument;
    worker_wake(worker);
    worker->poll_armed = false;
    bus_poll(worker->bus);
}

/* A burst leaves more output buffers behind than a quiet worker needs. */
static void shrink_buffers(struct worker *worker)
{
    bool quiet = worker->counters->bytes_sent == worker->bytes_sent_before;
    worker->bytes_sent_before = worker->counters->bytes_sent;
    if (!quiet || worker->buffer_count <= WORKER_BUFFERS_QUIET)
        return;
    while (worker->buffer_count > WORKER_BUFFERS_QUIET)
        free(worker->buffers[--worker->buffer_count]);
    worker->trim_wanted = true;
}

static void expire_retained(struct worker *worker)
{
    const struct config *config = worker->config;
    struct retained_ages ages = {.message_ms = (uint64_t)config->retained.expiry_s * 1000,
        .tombstone_ms = (uint64_t)config->mqtt.tombstones_s * 1000};
    retained_expire(worker->retained, clock_real_us() / 1000, &ages, RETAINED_EXPIRE_BUDGET);
    retained_count_anew(worker);
}

static void on_tick(evutil_socket_t fd, short events, void *argument)
{
    (void)fd;
    (void)events;
    struct worker *worker = argument;
    worker_wake(worker);
    bus_tick(worker->bus);
    timer_wheel_advance(&worker->wheel, worker->now_us);
    shared_tick(worker);
    worker_listen_resume(worker);
    expire_retained(worker);
    worker->counters->delayed = delayed_count(worker->delayed);
    worker_sys_tick(worker);
    shrink_buffers(worker);
    trim(worker);
}

/* Hooks
 * -------------------------------------------------------------------------------------------------------- */

static void say_goodbye(struct connection *connection)
{
    connection_close(connection, MQTT_SERVER_SHUTTING_DOWN, "the node stops");
}

static void on_adopt(void *context, const struct child_slot *adopted)
{
    struct worker *worker = context;
    struct will_table *table;
    log_notice("accepting for worker %u, which is backed off", adopted->slot);
    enum status status = will_table_open(adopted->will_table, &table);
    if (status == STATUS_OK)
        wills_adopt(worker->wills, table, adopted->slot);
    else
        log_error("the wills of worker %u cannot be read: %s", adopted->slot, status_text(status));
    delayed_adopt_slot(worker, adopted);
    if (!worker->stopping)
        worker_listen_adopt(worker, adopted);
}

static void on_unadopt(void *context, const struct child_slot *adopted)
{
    struct worker *worker = context;
    worker_listen_unadopt(worker, adopted);
    wills_release_adopted(worker->wills, adopted->slot);
    delayed_release_adopted(worker->delayed, adopted->slot);
}

static void on_stop(void *context, enum child_stop reason)
{
    struct worker *worker = context;
    log_notice("stopping: %s", reason == CHILD_STOP_SHUTDOWN ? "the node shuts down" : "the master is gone");
    worker->stopping = true;
    delayed_tell_loss(worker);
    worker_listen_stop(worker);
    for_all_connections(worker, say_goodbye);
}

/* Start-up
 * ----------------------------------------------------------------------------------------------------- */

static void on_password_checked(void *context)
{
    worker_wake(context);
}

static enum status open_access(struct worker *worker)
{
    enum status status = access_files_open(worker->child->access, &worker->access);
    if (status != STATUS_OK) {
        log_error("the access files from the master: %s", status_text(status));
        return status;
    }
    if ((status = scram_new(&worker->scram)) != STATUS_OK)
        return status;
    return password_checks_new(
        worker->base, worker->config->auth.max_waiting, on_password_checked, worker, &worker->passwords);
}

static enum status open_memory(struct worker *worker)
{
    keyed_hash_init_from(&worker->hash, worker->child->node_key);
    worker->index = topic_index_new(&worker->hash);
    worker->retained = retained_new(&worker->hash);
    worker->scratch = malloc(WORKER_SCRATCH_SIZE);
    worker->encode_scratch = malloc(12 * ENCODED_MAX);
    worker->publish_topic = malloc(MOUNTED_TOPIC_MAX);
    if (worker->publish_topic == NULL || worker->index == NULL || worker->retained == NULL ||
        worker->scratch == NULL || worker->encode_scratch == NULL)
        return STATUS_NO_MEMORY;
    enum status status = session_rewrite_open(worker->config, &worker->rewrite);
    if (status == STATUS_OK)
        status = transport_scratch_new(&worker->transport_scratch);
    return status == STATUS_OK ? session_table_init(&worker->sessions) : status;
}

static enum status open_timers(struct worker *worker)
{
    timer_wheel_init(&worker->wheel, TICK_US, worker->now_us);
    worker->tick_event = event_new(worker->base, -1, EV_PERSIST, on_tick, worker);
    worker->poll_event = event_new(worker->base, -1, 0, on_poll, worker);
    worker->again_event = event_new(worker->base, -1, 0, on_again, worker);
    if (worker->tick_event == NULL || worker->poll_event == NULL || worker->again_event == NULL)
        return STATUS_NO_MEMORY;
    struct timeval tick = {0, TICK_US};
    event_add(worker->tick_event, &tick);
    return STATUS_OK;
}

static void worker_done(struct worker *worker)
{
    connection_free_closed(worker);
    worker_reload_cancel(worker);
    config_free(&worker->config_held);
    worker_listen_done(worker);
    password_checks_free(&worker->passwords);
    session_for_each(worker, session_abandon, NULL);
    while (worker->leaving.next != NULL && !list_empty(&worker->leaving))
        session_abandon(NULL, list_entry(worker->leaving.next, struct session, aside));
    scram_free(&worker->scram);
    access_files_close(&worker->access);
    worker_bus_close(worker);
    worker_sys_done(worker);
    retained_free(&worker->retained);
    topic_index_free(&worker->index);
    session_table_done(&worker->sessions);
    transport_scratch_free(&worker->transport_scratch);
    while (worker->buffer_count > 0)
        free(worker->buffers[--worker->buffer_count]);
    while (worker->spare_count > 0)
        free(worker->spares[--worker->spare_count]);
    free(worker->route_targets);
    free(worker->route_identifiers);
    free(worker->encode_scratch);
    free(worker->publish_topic);
    topic_rewrite_free(&worker->rewrite);
    free(worker->scratch);
    if (worker->tick_event != NULL)
        event_free(worker->tick_event);
    if (worker->poll_event != NULL)
        event_free(worker->poll_event);
    if (worker->again_event != NULL)
        event_free(worker->again_event);
}

int worker_main(struct child *child)
{
    static struct worker worker_context; /* the process's own */
    struct worker *worker = &worker_context;
    mallopt(M_MXFAST, 0); /* fastbins are merged all at once: a pause of 200 ms after a million small frees */
    worker->child = child;
    worker->config = child->config;
    worker->base = child->base;
    worker->counters = child->counters;
    list_init(&worker->connections);
    list_init(&worker->dirty);
    list_init(&worker->stalled);
    list_init(&worker->closed);
    list_init(&worker->pumping);
    list_init(&worker->leaving);
    worker->now_us = clock_monotonic_us();

    enum status status = open_memory(worker);
    if (status == STATUS_OK)
        status = worker_listen_open(worker);
    if (status == STATUS_OK)
        status = open_access(worker);
    child_forget_secrets(child);
    if (status == STATUS_OK)
        status = worker_bus_open(worker);
    if (status == STATUS_OK)
        status = worker_sys_open(worker);
    if (status == STATUS_OK)
        status = open_timers(worker);
    if (status != STATUS_OK) {
        log_error("cannot start: %s", status == STATUS_SYSTEM ? strerror(errno) : status_text(status));
        worker_done(worker);
        return 1;
    }
    child->handlers = (struct child_handlers){.context = worker,
        .peer_started = worker_bus_peer_started,
        .peer_died = worker_bus_peer_died,
        .stop = on_stop,
        .adopt = on_adopt,
        .unadopt = on_unadopt,
        .sockets = worker_listen_sockets,
        .generation = worker_reload_begin,
        .turn = on_turn,
        .may_sleep = worker_carrier_may_sleep(worker)};
    child_run(child);
    worker_done(worker);
    return 0;
}
