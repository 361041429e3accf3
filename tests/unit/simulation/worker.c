/* A worker's turn: bus first, then clients, then the windows, then the sockets. */
#include "tests/unit/simulation/worker.h"

#include "tests/unit/simulation/world.h"

#include <stdio.h>
#include <stdlib.h>

#define TICK_US        50000u
#define STOOD_STILL_US 500000u

static const char *const names[] = {
    "t/0", "t/1", "t/2", "t/3", "t/4", "deep/5/x", "deep/6/x", "t/7", "will/client"};
static const char *const filters[] = {
    "t/0", "t/1", "t/2", "t/3", "t/4", "+/5/x", "deep/6/#", "t/7", "will/#"};

const char *topic_name(unsigned topic)
{
    return names[topic];
}

const char *topic_filter(unsigned topic)
{
    return filters[topic];
}

/* What the modules call.
 * ------------------------------------------------------------------------------------------ */

static enum status carrier_send(struct bus_carrier *carrier, unsigned peer, struct bytes frames)
{
    struct worker *worker = list_entry(carrier, struct worker, carrier);
    world_point(worker);
    if (worker->doomed || worker->doom_lanes > 0)
        return STATUS_OK;
    if (world_random(worker->world, 50) == 0)
        return STATUS_AGAIN;
    world_send(worker->world, worker->slot, peer, frames);
    return STATUS_OK;
}

/* The ring: an empty message is the wake-up. */
static void carrier_wake(struct bus_carrier *carrier, unsigned peer)
{
    struct worker *worker = list_entry(carrier, struct worker, carrier);
    world_point(worker);
    if (!worker->doomed && worker->doom_lanes == 0)
        world_send(worker->world, worker->slot, peer, BYTES_NONE);
}

static void carrier_free(struct bus_carrier **carrier)
{
    *carrier = NULL;
}

static const struct bus_carrier_ops carrier_ops = {.send = carrier_send, .free = carrier_free};
static const struct bus_carrier_ops ring_ops = {.wake = carrier_wake, .free = carrier_free};

static void on_alarm(void *context, unsigned peer, const char *text)
{
    struct worker *worker = context;
    world_trace(worker->world, "worker %u, lane of %u: %s", worker->slot, peer, text);
}

static void on_ready(void *context, bool ready, uint64_t unknown)
{
    struct worker *worker = context;
    world_trace(worker->world, "worker %u %s, unknown %llx", worker->slot, ready ? "ready" : "not ready",
        (unsigned long long)unknown);
    if (ready && unknown != 0)
        oracle_fail(&worker->world->oracle, "worker %u serves and does not know all routes", worker->slot);
    worker->ready = ready;
    if (ready)
        wills_start(worker->wills);
}

static bool on_deliver(void *context, unsigned peer, const struct publication_view *view)
{
    struct worker *worker = context;
    world_point(worker);
    session_moves_heard(worker->moves, peer, &view->meta);
    if (view->meta.will != 0 && wills_seen(worker->wills, &view->meta))
        return false;
    return session_deliver(worker, peer, view);
}

static void on_complete(void *context, void *taker, uint64_t ticket, enum acceptance_result result)
{
    (void)context;
    session_accepted(taker, ticket, result);
}

static void on_acceptance_room(void *context)
{
    (void)context; /* stalled clients try again every turn */
}

static enum status on_will(void *context, struct publication_view *view)
{
    struct worker *worker = context;
    world_point(worker);
    uint64_t durable;
    uint64_t peers = session_match(worker, view->topic, &durable);
    if (acceptance_offer(worker->acceptance, view, peers, 0, NULL, 0) == ACCEPTANCE_STALLED)
        return STATUS_AGAIN;
    session_deliver(worker, worker->slot, view);
    world_trace(worker->world, "worker %u publishes will %u to %llx", worker->slot,
        get_u32_le(view->payload.data), (unsigned long long)peers);
    oracle_will_published(&worker->world->oracle, get_u32_le(view->payload.data));
    return STATUS_OK;
}

static bool on_settled(void *context)
{
    struct worker *worker = context;
    for (unsigned peer = 0; peer < worker->world->peers; peer++) {
        if (acceptance_oldest_partial(worker->acceptance, peer) != UINT64_MAX)
            return false;
    }
    return true;
}

static uint64_t on_oldest_partial(void *context, unsigned peer)
{
    struct worker *worker = context;
    return acceptance_oldest_partial(worker->acceptance, peer);
}

/* Life.
 * -----------------------------------------------------------------------------------------------------------
 */

static void must(enum status status)
{
    if (status != STATUS_OK)
        abort();
}

static void make_modules(struct worker *worker)
{
    struct world *world = worker->world;
    worker->index = topic_index_new(&world->hash);
    must(acceptance_new(&(struct acceptance_settings){.bus = worker->bus,
                            .stall_timeout_us = 5000000,
                            .copies_max = 1 << 20,
                            .context = worker,
                            .complete = on_complete,
                            .room = on_acceptance_room,
                            .deliver = on_deliver},
        &worker->acceptance));
    must(route_table_open(world->route_fds[worker->slot], worker->origin.incarnation, &worker->route_table));
    must(routes_new(&(struct routes_settings){.bus = worker->bus,
                        .index = worker->index,
                        .table = worker->route_table,
                        .tables = world->route_fds,
                        .counters = &worker->counters,
                        .context = worker,
                        .ready = on_ready},
        &worker->routes));
    must(claims_new(&(struct claims_settings){.bus = worker->bus,
                        .hash = &world->hash,
                        .workers = world->peers,
                        .context = worker,
                        .for_each_owned = sessions_owned,
                        .owned = session_owned,
                        .superseded = session_superseded,
                        .late = session_late},
        &worker->claims));
    must(session_moves_new(&(struct session_moves_settings){.bus = worker->bus,
                               .routes = worker->routes,
                               .claims = worker->claims,
                               .ops = &toy_session_ops,
                               .context = worker,
                               .oldest_partial = on_oldest_partial},
        &worker->moves));
    must(will_table_open(world->will_fds[worker->slot], &worker->will_table));
    must(wills_new(&(struct wills_settings){.bus = worker->bus,
                       .claims = worker->claims,
                       .table = worker->will_table,
                       .context = worker,
                       .publish = on_will,
                       .settled = on_settled},
        &worker->wills));
}

void worker_start(struct worker *worker)
{
    struct world *world = worker->world;
    worker->alive = true;
    worker->ready = false;
    worker->phase = PHASE_RECEIVE;
    worker->next_us = world->now_us + 1000 + world_random(world, 30000);
    worker->stopped_us = worker->doom = 0;
    worker->carrier.ops = world->in_place ? &ring_ops : &carrier_ops;
    worker->asleep = false;
    counters_reset_gauges(&worker->counters);
    list_init(&worker->sessions);
    list_init(&worker->leaving);
    list_init(&worker->connections);
    list_init(&worker->subacks);
    must(bus_new(&(struct bus_settings){.self = worker->slot,
                     .peers = world->peers,
                     .origin = worker->origin,
                     .lanes = world->lanes->of[worker->slot],
                     .counters = &worker->counters,
                     .carrier = &worker->carrier,
                     .context = worker,
                     .alarm = on_alarm},
        &worker->bus));
    make_modules(worker);
    for (unsigned peer = 0; peer < world->peers; peer++) {
        if (peer != worker->slot && world->workers[peer].alive)
            bus_peer_started(worker->bus, peer, world->workers[peer].origin);
    }
    bus_drain(worker->bus);
    routes_start(worker->routes);
    claims_start(worker->claims);
}

static void connection_free(struct connection *connection)
{
    list_remove(&connection->link);
    free(connection->input);
    free(connection->output);
    free(connection);
}

/* Its will is due, and whoever is subscribed now must get it. */
static void will_is_owed(struct connection *connection)
{
    struct oracle *oracle = &connection->worker->world->oracle;
    if (connection->will == 0 || !connection->connacked || connection->will_delay_s > 0)
        return;
    struct told *told = &oracle->told[connection->will_number];
    world_trace(connection->worker->world, "will %u is due", connection->will_number);
    if (told->sent_us == ORACLE_NEVER)
        told->sent_us = told->acked_us = connection->worker->world->now_us;
}

void worker_destroy(struct worker *worker)
{
    list_for_each(&worker->connections, element, following)
    {
        struct connection *connection = list_entry(element, struct connection, link);
        will_is_owed(connection);
        if (connection->client != NULL && connection->client->connection == connection)
            client_lost(connection->client);
    }
    session_moves_free(&worker->moves);
    wills_free(&worker->wills);
    claims_free(&worker->claims);
    session_free_all(worker);
    list_for_each(&worker->connections, element, following)
        connection_free(list_entry(element, struct connection, link));
    routes_free(&worker->routes);
    acceptance_free(&worker->acceptance);
    topic_index_free(&worker->index);
    will_table_close(&worker->will_table);
    route_table_close(&worker->route_table);
    bus_free(&worker->bus);
    while (worker->notices != NULL) {
        struct notice *notice = worker->notices;
        worker->notices = notice->next;
        free(notice);
    }
    while (worker->arrived != NULL) {
        struct flight *flight = worker->arrived;
        worker->arrived = flight->next;
        free(flight);
    }
    worker->alive = worker->ready = false;
}

/* Connections.
 * ---------------------------------------------------------------------------------------------------- */

struct connection *worker_accept(struct worker *worker, struct client *client)
{
    struct connection *connection = calloc(1, sizeof *connection);
    connection->worker = worker;
    connection->client = client;
    connection->client_number = client->number;
    memcpy(connection->id, client->id, sizeof connection->id);
    list_init(&connection->claim.link);
    connection->claim.since_us = worker->world->now_us;
    list_append(&worker->connections, &connection->link);
    return connection;
}

static void append(struct packet **packets, size_t *count, size_t *capacity, const struct packet *packet)
{
    if (*count == *capacity) {
        *capacity = *capacity == 0 ? 8 : *capacity * 2;
        *packets = realloc(*packets, *capacity * sizeof **packets);
    }
    (*packets)[(*count)++] = *packet;
}

void connection_send(struct connection *connection, const struct packet *packet)
{
    append(&connection->input, &connection->input_count, &connection->input_capacity, packet);
}

void connection_put(struct connection *connection, const struct packet *packet)
{
    append(&connection->output, &connection->output_count, &connection->output_capacity, packet);
}

void connection_leave(struct connection *connection, bool politely)
{
    connection->client = NULL;
    connection_send(connection, &(struct packet){.type = DISCONNECT, .flag = politely});
}

void connection_close(struct connection *connection, bool abnormally)
{
    if (connection->closing)
        return;
    struct worker *worker = connection->worker;
    connection->closing = true;
    if (connection->claiming)
        claims_cancel(worker->claims, &connection->claim);
    connection->claiming = false;
    if (connection->session != NULL)
        session_disconnected(connection->session);
    connection->session = NULL;
    if (connection->will != 0 && abnormally) {
        if (!worker->doomed)
            will_is_owed(connection);
        wills_end(worker->wills, connection->will, connection->will_connection, false);
    } else if (connection->will != 0) {
        wills_remove(worker->wills, connection->will, connection->will_connection);
    }
    if (!worker->doomed)
        connection->will = 0;
}

static void read_connection(struct connection *connection)
{
    size_t done = 0;
    while (done < connection->input_count && connection->worker->ready && !connection->closing) {
        struct packet packet = connection->input[done];
        world_point(connection->worker);
        if (packet.type == DISCONNECT) {
            connection_close(connection, !packet.flag);
            break;
        }
        if (!session_packet(connection, &packet))
            break;
        done++;
    }
    connection->input_count -= done;
    if (done > 0)
        memmove(
            connection->input, connection->input + done, connection->input_count * sizeof *connection->input);
}

static void flush_connection(struct connection *connection)
{
    struct client *client = connection->client;
    struct packet *output = connection->output;
    size_t count = connection->output_count;
    connection->output = NULL;
    connection->output_count = connection->output_capacity = 0;
    for (size_t i = 0; i < count; i++) {
        connection->connacked |= output[i].type == CONNACK;
        if (client != NULL && client->connection == connection)
            client_receive(client, &output[i]);
    }
    free(output);
    if (!connection->closing)
        return;
    if (client != NULL && client->connection == connection)
        client_lost(client);
    connection_free(connection);
}

/* Phases.
 * ---------------------------------------------------------------------------------------------------------
 */

/* What lies in the rings, if this worker is awake. */
static void read_in_place(struct worker *worker)
{
    if (!worker->world->in_place || worker->asleep)
        return;
    bus_woken(worker->bus);
    bus_drain(worker->bus);
    world_point(worker);
}

/* What the master has said by now. */
static void hear_master(struct worker *worker)
{
    struct world *world = worker->world;
    worker->looked_us = world->now_us;
    while (worker->notices != NULL && worker->notices->at_us <= world->now_us) {
        struct notice *notice = worker->notices;
        worker->notices = notice->next;
        if (notice->started)
            bus_peer_started(worker->bus, notice->slot, notice->origin);
        else
            bus_peer_died(worker->bus, notice->slot);
        free(notice);
        world_point(worker);
    }
}

static void phase_receive(struct worker *worker)
{
    struct world *world = worker->world;
    hear_master(worker);
    while (worker->arrived != NULL) {
        struct flight *flight = worker->arrived;
        worker->arrived = flight->next;
        if (world->in_place)
            worker->asleep = false;
        else
            bus_receive(worker->bus, bytes_of(flight->data, flight->size));
        free(flight);
        world_point(worker);
    }
    read_in_place(worker);
    if (bus_wants_poll(worker->bus))
        bus_poll(worker->bus);
    if (world->now_us - worker->ticked_us >= TICK_US) {
        worker->ticked_us = world->now_us;
        bus_tick(worker->bus);
    }
}

static void phase_clients(struct worker *worker)
{
    list_for_each(&worker->connections, element, following)
    {
        struct connection *connection = list_entry(element, struct connection, link);
        if (connection->input_count == 0)
            continue;
        if (worker->world->now_us - worker->looked_us >= STOOD_STILL_US)
            hear_master(worker); /* a peer that is new has its frames held until then */
        bus_drain_if_stale(worker->bus, worker->world->now_us);
        read_connection(connection);
    }
}

static void phase_end(struct worker *worker)
{
    if (worker->doom > 0 && worker->doom_lanes > 0) {
        worker->doom = 1;
        world_point(worker); /* what is stored from here on: doom_lanes heads */
    } else {
        worker->doom_lanes = 0;
    }
    bus_turn_end(worker->bus);
    world_point(worker);
}

static void phase_flush(struct worker *worker)
{
    list_for_each(&worker->connections, element, following)
        flush_connection(list_entry(element, struct connection, link));
    if (worker->world->in_place && !worker->doomed)
        worker->asleep = bus_may_sleep(worker->bus);
}

void worker_run_phase(struct worker *worker)
{
    switch (worker->phase) {
    case PHASE_RECEIVE:
        phase_receive(worker);
        break;
    case PHASE_CLIENTS:
        phase_clients(worker);
        break;
    case PHASE_END:
        phase_end(worker);
        break;
    default:
        phase_flush(worker);
    }
    if (worker->doomed && worker->phase != PHASE_END)
        worker->doom_lanes = 0;
}
