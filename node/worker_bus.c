/* Opening the modules of the bus, and what they call. */
#include "node/worker_bus.h"

#include "node/connection.h"
#include "node/worker.h"
#include "node/worker_carrier.h"
#include "node/worker_context.h"
#include "node/worker_listen.h"
#include "node/worker_sys.h"

#include "shared/log.h"

static void on_alarm(void *context, unsigned peer, const char *text)
{
    const struct worker *worker = context;
    const struct child *child = worker->child;
    if (peer < child->workers)
        log_error("bus, worker %u: %s", peer, text);
    else if (peer < child->peers)
        log_error("bus, link: %s", text);
    else
        log_error("bus, node %s: %s", worker->config->cluster.nodes[peer - child->peers].name, text);
}

static void on_room(void *context)
{
    struct worker *worker = context;
    worker->stalled_have_room = true; /* not from here: this may be deep in the bus */
}

/* No client is read while we do not know what all peers want [BUS rules 1, 4]. */
static void hold_all(struct worker *worker)
{
    log_notice("out of step with a peer: reads no client until its state is here");
    list_for_each(&worker->connections, element, following)
    {
        connection_hold(list_entry(element, struct connection, lists), HOLD_ROUTES);
    }
}

static void on_routes_ready(void *context, bool ready, uint64_t unknown)
{
    struct worker *worker = context;
    if (unknown != 0)
        log_warning("workers 0x%llx did not tell their routes, nor do their tables: their clients may miss "
                    "publications until they do",
            (unsigned long long)unknown);
    worker->held = !ready;
    if (worker->ready) { /* a peer has to tell us everything anew, or has done so */
        if (!ready)
            hold_all(worker);
        worker->resume = ready; /* not from here: this may be deep in the bus */
        return;
    }
    if (!ready)
        return;
    worker->ready = true;
    worker_sys_tick(worker); /* who subscribes first finds them */
    wills_start(worker->wills);
    delayed_begin(worker);
    worker_listen_start(worker);
    child_ready(worker->child);
    log_notice("serving");
}

static enum status publish_will(void *context, struct publication_view *view)
{
    struct worker *worker = context;
    bool matched;
    enum acceptance_result result = publication_route(worker, view, NULL, 0, &matched);
    if (result == ACCEPTANCE_STALLED)
        return STATUS_AGAIN;
    worker->will_sequence = view->meta.sequence;
    worker->counters->wills_published++;
    return STATUS_OK;
}

/* A large one travels in fragments: its entry stays until the last of them lies in the windows. */
bool worker_settled(const struct worker *worker, uint64_t sequence)
{
    for (unsigned peer = 0; peer < worker->child->workers; peer++) {
        if (acceptance_oldest_partial(worker->acceptance, peer) <= sequence)
            return false;
    }
    return true;
}

static bool wills_settled(void *context)
{
    const struct worker *worker = context;
    return worker_settled(worker, worker->will_sequence);
}

/* The number of this node; 0: it is alone. */
static uint16_t own_node(const struct config *config)
{
    return config->cluster.count > 0 ? config->cluster.nodes[config->cluster.self].id : 0;
}

static enum status open_bus(struct worker *worker)
{
    struct child *child = worker->child;
    const struct config *config = worker->config;
    struct bus_settings bus = {.self = child->slot,
        .peers = child->peers + child->nodes,
        .workers = child->workers,
        .origin = {.incarnation = child->incarnation,
            .node = own_node(config),
            .slot = (uint16_t)child->slot},
        .lanes = child->lanes,
        .counters = worker->counters,
        .quarantine = ".",
        .context = worker,
        .alarm = on_alarm};
    enum status status = bus_new(&bus, &worker->bus);
    if (status != STATUS_OK)
        return status;
    status = worker_carrier_open(worker);
    if (status != STATUS_OK)
        return status;
    struct acceptance_settings acceptance = {.bus = worker->bus,
        .stall_timeout_us = (uint64_t)config->bus.stall_timeout_ms * 1000,
        .copies_max = 4 * config->mqtt.max_packet_size,
        .context = worker,
        .complete = publish_complete,
        .room = on_room,
        .deliver = publication_deliver};
    return acceptance_new(&acceptance, &worker->acceptance);
}

static uint64_t oldest_partial(void *context, unsigned peer)
{
    struct worker *worker = context;
    return acceptance_oldest_partial(worker->acceptance, peer);
}

/* The largest state of one session: what is in flight to it, its subscriptions, and a great deal of room. */
size_t worker_state_max(const struct config *config)
{
    return (size_t)64 * 1024 * 1024 + config->mqtt.max_queued_bytes + 2 * config->mqtt.max_packet_size +
           (size_t)config->mqtt.max_subscriptions * 1024;
}

static enum status open_agreement(struct worker *worker)
{
    const struct config *config = worker->config;
    struct child *child = worker->child;
    enum status status =
        route_table_open(child->route_tables[child->slot], child->incarnation, &worker->route_table);
    if (status != STATUS_OK)
        return status;
    struct routes_settings routes = {.bus = worker->bus,
        /* The link tells the nodes what all workers of this one want. */
        .tell = worker->child->peers == 64 ? UINT64_MAX : (UINT64_C(1) << worker->child->peers) - 1,
        .index = worker->index,
        .counters = worker->counters,
        .table = worker->route_table,
        .tables = worker->child->route_tables,
        .context = worker,
        .ready = on_routes_ready,
        .state_more = retained_state_more};
    struct claims_settings claims = {.bus = worker->bus,
        .hash = &worker->hash,
        .workers = worker->child->workers,
        .timeout_us = (uint64_t)config->session.claim_timeout_ms * 1000,
        .context = worker,
        .for_each_owned = connect_report_owned,
        .owned = connect_owned,
        .superseded = connect_superseded,
        .late = connect_late};
    status = routes_new(&routes, &worker->routes);
    if (status == STATUS_OK)
        status = claims_new(&claims, &worker->claims);
    if (status != STATUS_OK)
        return status;
    struct session_moves_settings moves = {.bus = worker->bus,
        .routes = worker->routes,
        .claims = worker->claims,
        .ops = &session_transfer_ops,
        .context = worker,
        .held_max = config->mqtt.max_queued_bytes,
        .state_max = worker_state_max(config),
        .oldest_partial = oldest_partial};
    struct wills_settings wills = {.bus = worker->bus,
        .claims = worker->claims,
        .context = worker,
        .publish = publish_will,
        .settled = wills_settled};
    status = session_moves_new(&moves, &worker->moves);
    if (status == STATUS_OK)
        status = will_table_open(worker->child->own.will_table, &worker->will_table);
    wills.table = worker->will_table;
    if (status == STATUS_OK)
        status = wills_new(&wills, &worker->wills);
    if (status == STATUS_OK)
        status = delayed_open(worker);
    if (status == STATUS_OK)
        status = shared_open(worker);
    return status == STATUS_OK ? retained_state_open(worker) : status;
}

enum status worker_bus_open(struct worker *worker)
{
    enum status status = open_bus(worker);
    return status == STATUS_OK ? open_agreement(worker) : status;
}

void worker_bus_close(struct worker *worker)
{
    shared_done(worker);
    retained_state_done(worker);
    delayed_done(worker);
    wills_free(&worker->wills);
    will_table_close(&worker->will_table);
    route_table_close(&worker->route_table);
    session_moves_free(&worker->moves);
    claims_free(&worker->claims);
    routes_free(&worker->routes);
    acceptance_free(&worker->acceptance);
    if (worker->carrier != NULL)
        worker->carrier->ops->free(&worker->carrier);
    bus_free(&worker->bus);
}

void worker_bus_peer_started(void *context, unsigned slot, uint64_t incarnation)
{
    struct worker *worker = context;
    struct publication_origin origin = {.incarnation = incarnation, .slot = (uint16_t)slot};
    if (slot < worker->child->workers)
        bus_peer_started(worker->bus, slot, origin);
    else
        bus_peer_renewed(worker->bus, slot, origin); /* the link: the nodes behind it live on */
}

void worker_bus_peer_died(void *context, unsigned slot)
{
    struct worker *worker = context;
    log_notice("worker %u is gone", slot);
    bus_peer_died(worker->bus, slot);
}
