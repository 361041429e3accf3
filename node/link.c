/*
 * The link process: its start as a checklist and its loop turn. What it does with records is in
 * cluster/link_relay.h, sessions with other links in cluster/wire.h, the sockets in link_sockets.h.
 *
 * A turn: events (workers, nodes) → what has landed, what workers have put → one frame per lane →
 * acknowledgements.
 */
#include "node/link.h"

#include "cluster/link_relay.h"
#include "cluster/wire.h"
#include "node/child.h"
#include "node/link_sockets.h"
#include "node/tls_material.h"
#include "shared/bus_carrier_nanomsg.h"
#include "shared/bus_carrier_ring.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/topic_index.h"

#include <jansson.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#define TICK_US      10000 /* acknowledgements that found nothing to ride on, heartbeats, time-outs */
#define SECOND_TICKS 5     /* … of the buses: every 50 ms */

struct link {
    struct child *child;
    const struct config *config;
    unsigned count, self; /* nodes */
    struct keyed_hash hash;
    struct topic_index *index;
    struct bus *workers;
    struct bus *links;
    struct bus_carrier *carrier; /* of the workers' bus */
    struct link_sockets *sockets;
    struct relay *relay;
    SSL_CTX *tls;
    struct wire *wire;
    struct wire_node nodes[CHILD_NODES_MAX];
    struct bus_window *lanes; /* [worker * count + node] */
    uint16_t node_ids[BUS_PEERS_MAX];
    struct bus_lane_descriptors link_lanes[BUS_PEERS_MAX];
    struct event *tick;
    struct event *again;
    unsigned ticks;
    bool started;
};

static const char *name_of(const struct link *link, unsigned node)
{
    return link->config->cluster.nodes[node].name;
}

/* ---- hooks of the wire ----------------------------------------------------------------------------------
 */

static uint64_t on_random(void *context)
{
    uint64_t number = 0;
    (void)context;
    if (RAND_bytes((unsigned char *)&number, sizeof number) != 1)
        number = clock_monotonic_us();
    return number;
}

static enum status on_send(void *context, unsigned node, struct bytes message)
{
    return link_sockets_send(((struct link *)context)->sockets, node, message);
}

static void on_wire_log(void *context, enum log_level level, unsigned node, const char *text)
{
    const struct link *link = context;
    if (node == link->self)
        log_write(level, "cluster: %s", text);
    else
        log_write(level, "node %s: %s", name_of(link, node), text);
}

static void on_up(void *context, unsigned node, const struct wire_identity *who)
{
    struct link *link = context;
    log_notice("node %s is reachable (bus protocol %u)", name_of(link, node), who->version);
    relay_node_up(link->relay, node, who->node, who->link);
}

static void on_down(void *context, unsigned node, const char *why)
{
    struct link *link = context;
    log_warning("node %s is lost: %s", name_of(link, node), why);
    relay_node_down(link->relay, node);
}

/* What has landed is read in the turn. */
static void on_landed(void *context, unsigned node)
{
    (void)context;
    (void)node;
}

static void on_restart(void *context, unsigned node, uint64_t offset)
{
    struct link *link = context;
    bus_lane_restart(link->links, link->child->peers + node, offset);
}

static void on_resend(void *context, unsigned node, uint64_t offset)
{
    struct link *link = context;
    bus_resend(link->links, link->child->peers + node, offset);
}

static void on_ready(void *context, unsigned node)
{
    struct link *link = context;
    bus_carrier_ready(link->links, link->child->peers + node);
}

/* ---- hooks of the sockets and buses -----------------------------------------------------------------------
 */

static void on_node_message(void *context, struct bytes message)
{
    struct link *link = context;
    wire_receive(link->wire, message, clock_monotonic_us());
}

static void on_node_writable(void *context, unsigned node)
{
    struct link *link = context;
    wire_writable(link->wire, node, clock_monotonic_us());
}

static void on_node_broken(void *context, unsigned node)
{
    struct link *link = context;
    wire_broken(link->wire, node, clock_monotonic_us());
}

static void on_worker_message(void *context, struct bytes message)
{
    bus_receive(((struct link *)context)->workers, message);
}

static void on_rang(void *context)
{
    (void)context; /* lanes are read in every turn */
}

static void on_worker_ready(void *context, unsigned peer)
{
    bus_carrier_ready(((struct link *)context)->workers, peer);
}

static void on_worker_alarm(void *context, unsigned peer, const char *text)
{
    (void)context;
    log_error("bus, worker %u: %s", peer, text);
}

static void on_link_alarm(void *context, unsigned peer, const char *text)
{
    const struct link *link = context;
    log_error("bus, node %s: %s", name_of(link, peer - link->child->peers), text);
}

static bool reads_in_place(const struct link *link)
{
    return link->config->bus.carrier == CONFIG_CARRIER_RING;
}

/* ---- the loop -------------------------------------------------------------------------------------------
 */

static void on_turn(void *context)
{
    struct link *link = context;
    if (!link->started) { /* the child module has told of all workers that run */
        link->started = true;
        bus_drain(link->workers);
        relay_start(link->relay);
        child_ready(link->child);
    }
    if (reads_in_place(link)) {
        bus_woken(link->workers);
        relay_woken(link->relay);
        bus_drain(link->workers);
    }
    relay_turn(link->relay);
    bus_turn_end(link->workers);
    bus_turn_end(link->links);
    wire_turn_end(link->wire, clock_monotonic_us());
    link->child->counters->loop_turns++;
    link->child->counters->log_dropped = log_dropped();
    if (bus_wants_poll(link->workers) || bus_wants_poll(link->links)) {
        const struct timeval soon = {0, 1000};
        event_add(link->again, &soon);
    }
}

static void on_again(evutil_socket_t fd, short events, void *context)
{
    struct link *link = context;
    (void)fd;
    (void)events;
    bus_poll(link->workers);
    bus_poll(link->links);
}

static const char *state_of(const struct wire_figures *wire, const struct relay_figures *relay)
{
    if (!wire->up)
        return "lost";
    if (!wire->session)
        return "reconnecting";
    return relay->told ? "joined" : "joining";
}

/* For the master, which answers shoalctl. */
static void tell_node(struct link *link, unsigned node)
{
    struct wire_figures wire;
    struct relay_figures relay;
    wire_figures(link->wire, node, &wire);
    relay_figures(link->relay, node, &relay);
    wire.last_refusal[100] = '\0';
    json_t *object = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "state",
        state_of(&wire, &relay), "incarnation", (json_int_t)wire.who.node, "round_trip_us",
        (json_int_t)wire.round_trip_us, "sessions", (json_int_t)wire.sessions, "backlog_bytes",
        (json_int_t)wire.backlog, "frames_sent", (json_int_t)relay.forwarded, "frames_received",
        (json_int_t)relay.received, "routes", (json_int_t)relay.routes, "lost", (json_int_t)relay.lost,
        "certificate_ends_s", (json_int_t)wire.certificate_expires_s, "refusal", wire.last_refusal);
    char *text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
    if (text != NULL)
        child_tell_node(link->child, link->child->peers + node, text);
    free(text);
    json_decref(object);
}

static void on_tick(evutil_socket_t fd, short events, void *context)
{
    struct link *link = context;
    (void)fd;
    (void)events;
    link_sockets_tick(link->sockets);
    wire_tick(link->wire, clock_monotonic_us());
    for (unsigned node = 0; node < link->count; node++) { /* one every so many ticks, each twice a second */
        if (node != link->self && (link->ticks + node * 3) % 50 == 0)
            tell_node(link, node);
    }
    if (++link->ticks % SECOND_TICKS == 0) {
        bus_tick(link->workers);
        bus_tick(link->links);
    }
}

static void on_peer_started(void *context, unsigned slot, uint64_t incarnation)
{
    struct link *link = context;
    bus_peer_started(
        link->workers, slot, (struct publication_origin){.incarnation = incarnation, .slot = (uint16_t)slot});
}

static void on_peer_died(void *context, unsigned slot)
{
    bus_peer_died(((struct link *)context)->workers, slot);
}

static void on_stop(void *context, enum child_stop reason)
{
    struct link *link = context;
    (void)reason;
    child_end(link->child);
}

/* ---- start ----------------------------------------------------------------------------------------------
 */

static enum status map_windows(struct link *link)
{
    const struct child_link *given = link->child->link;
    enum status status = STATUS_OK;
    for (unsigned node = 0; node < link->count && status == STATUS_OK; node++) {
        unsigned peer = link->child->peers + node;
        const struct config_cluster_node *about = &link->config->cluster.nodes[node];
        link->nodes[node] = (struct wire_node){.name = about->name, .id = about->id};
        link->node_ids[peer] = about->id;
        if (node == link->self)
            continue;
        link->link_lanes[peer] = (struct bus_lane_descriptors){.out_ring = given->windows[node].ring,
            .out_cursor = given->windows[node].cursor,
            .in_ring = given->windows[node].landing,
            .in_cursor = given->windows[node].landing_cursor};
        status = bus_window_map_receiver(
            given->windows[node].ring, given->windows[node].cursor, &link->nodes[node].window);
        if (status == STATUS_OK)
            status = bus_window_map_sender(given->windows[node].landing, given->windows[node].landing_cursor,
                &link->nodes[node].landing);
        for (unsigned slot = 0; slot < link->child->workers && status == STATUS_OK; slot++)
            status = bus_window_map_receiver(given->lanes[slot][node].ring, given->lanes[slot][node].cursor,
                &link->lanes[slot * link->count + node]);
    }
    return status;
}

static void on_passing(void *context, unsigned peer, uint64_t offset)
{
    struct link *link = context;
    relay_passing_frame(link->relay, peer, offset);
}

static enum status open_buses(struct link *link)
{
    struct child *child = link->child;
    struct publication_origin origin = {.incarnation = child->incarnation,
        .node = link->config->cluster.nodes[link->self].id,
        .slot = (uint16_t)child->slot};
    struct bus_settings workers = {.self = child->slot,
        .peers = child->peers,
        .workers = child->workers,
        .origin = origin,
        .lanes = child->lanes,
        .counters = child->counters,
        .quarantine = ".",
        .context = link,
        .alarm = on_worker_alarm};
    struct bus_settings links = {.self = child->slot,
        .peers = child->peers + link->count,
        .links = true,
        .node_ids = link->node_ids,
        .origin = origin,
        .lanes = link->link_lanes,
        .counters = child->counters,
        .quarantine = ".",
        .context = link,
        .alarm = on_link_alarm,
        .passing = on_passing};
    enum status status = bus_new(&workers, &link->workers);
    return status == STATUS_OK ? bus_new(&links, &link->links) : status;
}

static enum status open_relay(struct link *link)
{
    struct child *child = link->child;
    keyed_hash_init_from(&link->hash, child->node_key);
    link->index = topic_index_new(&link->hash);
    if (link->index == NULL)
        return STATUS_NO_MEMORY;
    struct relay_settings settings = {.workers = link->workers,
        .links = link->links,
        .index = link->index,
        .worker_count = child->workers,
        .first_node = child->peers,
        .node_count = link->count,
        .self = link->self,
        .node_ids = link->node_ids,
        .life = child->life,
        .lanes = link->lanes,
        .counters = child->counters,
        .tables = child->route_tables};
    return relay_new(&settings, &link->relay);
}

static enum status open_tls(struct link *link)
{
    struct bytes key, chain, authorities;
    char text[WIRE_TEXT_SIZE] = "the key material from the master is damaged";
    enum status status = tls_material_link(link->child->secrets, &key, &chain, &authorities);
    if (status == STATUS_OK)
        status = wire_context_new(key, chain, authorities, &link->tls, text);
    if (status != STATUS_OK)
        log_error("%s", text);
    child_forget_secrets(link->child);
    return status;
}

static enum status open_wire(struct link *link)
{
    struct child *child = link->child;
    struct link_sockets_settings sockets = {.base = child->base,
        .cluster = &link->config->cluster,
        .context = link,
        .receive = on_node_message,
        .writable = on_node_writable,
        .broken = on_node_broken};
    struct wire_settings wire = {.cluster = link->config->cluster.name,
        .tls = link->tls,
        .count = link->count,
        .self = link->self,
        .nodes = link->nodes,
        .first_peer = child->peers,
        .own = {.node = child->life, .link = child->incarnation, .version = WIRE_VERSION},
        .random = on_random,
        .context = link,
        .send = on_send,
        .log = on_wire_log,
        .up = on_up,
        .down = on_down,
        .landed = on_landed,
        .restart = on_restart,
        .resend = on_resend,
        .ready = on_ready};
    enum status status = wire_new(&wire, clock_monotonic_us(), &link->wire);
    if (status != STATUS_OK)
        return status;
    bus_set_carrier(link->links, wire_carrier(link->wire));
    status = link_sockets_open(&sockets, &link->sockets);
    if (status != STATUS_OK)
        log_error("the inbox for other nodes cannot be opened on %s: %s",
            link->config->cluster.nodes[link->self].bus.text, link_sockets_error());
    return status;
}

static void on_woken(void *context)
{
    (void)context; /* all is looked at in the turn */
}

static bool may_sleep(void *context)
{
    struct link *link = context;
    return bus_may_sleep(link->workers) && relay_may_sleep(link->relay);
}

static enum status open_ring(struct link *link)
{
    struct bus_carrier_ring_settings settings = {
        .base = link->child->base, .own = link->child->wake, .context = link, .woken = on_woken};
    for (unsigned peer = 0; peer < BUS_CARRIER_RING_PEERS; peer++)
        settings.peers[peer] = link->child->wake_peers[peer];
    return bus_carrier_ring_new(&settings, &link->carrier);
}

static enum status open_nanomsg(struct link *link)
{
    struct bus_carrier_nanomsg_settings settings = {.base = link->child->base,
        .self = link->child->slot,
        .peers = (UINT64_C(1) << link->child->workers) - 1,
        .context = link,
        .receive = on_worker_message,
        .rang = on_rang,
        .ready = on_worker_ready};
    enum status status = bus_carrier_nanomsg_new(&settings, &link->carrier);
    if (status != STATUS_OK)
        log_error("the worker bus cannot be opened: %s", bus_carrier_nanomsg_error());
    return status;
}

static enum status open_carrier(struct link *link)
{
    enum status status = reads_in_place(link) ? open_ring(link) : open_nanomsg(link);
    if (status == STATUS_OK)
        bus_set_carrier(link->workers, link->carrier);
    return status;
}

static enum status open_timers(struct link *link)
{
    const struct timeval every = {0, TICK_US};
    link->tick = event_new(link->child->base, -1, EV_PERSIST, on_tick, link);
    link->again = event_new(link->child->base, -1, 0, on_again, link);
    if (link->tick == NULL || link->again == NULL || event_add(link->tick, &every) != 0)
        return STATUS_NO_MEMORY;
    return STATUS_OK;
}

static enum status open_all(struct link *link)
{
    for (unsigned peer = 0; peer < BUS_PEERS_MAX; peer++)
        link->link_lanes[peer] = (struct bus_lane_descriptors){-1, -1, -1, -1};
    link->lanes = calloc((size_t)link->child->workers * link->count, sizeof *link->lanes);
    if (link->lanes == NULL)
        return STATUS_NO_MEMORY;
    enum status status = open_tls(link);
    if (status == STATUS_OK)
        status = map_windows(link);
    if (status == STATUS_OK)
        status = open_buses(link);
    if (status == STATUS_OK)
        status = open_relay(link);
    if (status == STATUS_OK)
        status = open_wire(link);
    if (status == STATUS_OK)
        status = open_carrier(link);
    return status == STATUS_OK ? open_timers(link) : status;
}

static void close_all(struct link *link)
{
    if (link->tick != NULL)
        event_free(link->tick);
    if (link->again != NULL)
        event_free(link->again);
    if (link->carrier != NULL)
        link->carrier->ops->free(&link->carrier);
    link_sockets_close(&link->sockets);
    relay_free(&link->relay);
    wire_free(&link->wire);
    bus_free(&link->workers);
    bus_free(&link->links);
    topic_index_free(&link->index);
    for (unsigned node = 0; node < link->count; node++) {
        bus_window_unmap(&link->nodes[node].window);
        bus_window_unmap(&link->nodes[node].landing);
    }
    for (size_t i = 0; link->lanes != NULL && i < (size_t)link->child->workers * link->count; i++)
        bus_window_unmap(&link->lanes[i]);
    free(link->lanes);
    SSL_CTX_free(link->tls);
}

int link_main(struct child *child)
{
    static struct link context; /* the process's own */
    struct link *link = &context;
    link->child = child;
    link->config = child->config;
    link->count = child->nodes;
    link->self = (unsigned)child->config->cluster.self;
    enum status status = child->config->cluster.count == child->nodes ? STATUS_OK : STATUS_PROTOCOL;
    if (status == STATUS_OK)
        status = open_all(link);
    if (status != STATUS_OK) {
        log_error("cannot start: %s", status_text(status));
        close_all(link);
        return 1;
    }
    child->handlers = (struct child_handlers){.context = link,
        .peer_started = on_peer_started,
        .peer_died = on_peer_died,
        .stop = on_stop,
        .turn = on_turn,
        .may_sleep = reads_in_place(link) ? may_sleep : NULL};
    child_run(child);
    close_all(link);
    return 0;
}
