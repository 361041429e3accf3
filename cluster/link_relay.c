/*
 * The relay's life, nodes and workers that come and go, and the way out: from the workers' lanes into the
 * windows to other nodes. What nodes send is in link_relay_in.c.
 */
#include "cluster/link_relay_private.h"

#include <stdlib.h>

/* A frame becomes at most three records with their heads. */
#define FORWARD_SLACK 256u

static struct relay_lane *lane_of(struct relay *relay, unsigned slot, unsigned node)
{
    return &relay->lanes[slot * relay->settings.node_count + node];
}

/* ---- own workers ----------------------------------------------------------------------------------------
 */

static void on_worker_started(void *context, unsigned slot)
{
    struct relay *relay = context;
    struct relay_worker *worker = &relay->workers[slot];
    memset(worker->acked, 0, sizeof worker->acked);
    memset(worker->givings, 0, sizeof worker->givings);
    worker->may_acknowledge = worker->target = 0;
    worker->full_us = 0;
    relay->given_up &= ~(UINT64_C(1) << slot);
    for (unsigned node = 0; node < relay->settings.node_count; node++) {
        if (relay->nodes[node].state == RELAY_NODE_TOLD)
            relay_tell_node(relay, slot, node, true);
    }
}

static void on_worker_died(void *context, unsigned slot)
{
    struct relay *relay = context;
    struct relay_worker *worker = &relay->workers[slot];
    routes_wait_cancel(&worker->waiter);
    worker->waits = false;
    relay_asks_release(relay, slot);
    for (unsigned node = 0; node < relay->settings.node_count; node++)
        routes_acknowledge(relay->outer, relay_peer(relay, node));
}

/* ---- nodes ----------------------------------------------------------------------------------------------
 */

static void begin_taking(struct relay *relay, unsigned node)
{
    struct relay_node *it = &relay->nodes[node];
    struct publication_origin origin = {
        .node = relay->settings.node_ids[relay_peer(relay, node)], .incarnation = it->link};
    it->state = RELAY_NODE_TAKING;
    bus_peer_started(relay->settings.links, relay_peer(relay, node), origin);
}

void relay_node_up(struct relay *relay, unsigned node, uint64_t life, uint64_t link)
{
    struct relay_node *it = &relay->nodes[node];
    struct publication_origin origin = {
        .node = relay->settings.node_ids[relay_peer(relay, node)], .incarnation = link};
    bool same = it->state != RELAY_NODE_DOWN && it->life == life;
    if (it->state != RELAY_NODE_DOWN && !same)
        relay_node_down(relay, node);
    it->life = life;
    it->link = link;
    if (same && it->state > RELAY_NODE_WAITING) {
        relay_asks_forget(relay, node);
        relay_tell_forgotten(relay, node);
        bus_peer_renewed(relay->settings.links, relay_peer(relay, node), origin);
    } else if (relay->ready) {
        begin_taking(relay, node);
    } else {
        it->state = RELAY_NODE_WAITING;
    }
}

void relay_node_down(struct relay *relay, unsigned node)
{
    struct relay_node *it = &relay->nodes[node];
    unsigned peer = relay_peer(relay, node);
    if (it->state > RELAY_NODE_WAITING)
        bus_peer_died(relay->settings.links, peer);
    it->state = RELAY_NODE_DOWN;
    relay_asks_forget(relay, node);
    relay_transfers_drop(relay, node);
    bus_for_each_peer(relay_workers(relay), slot) relay_tell_node(relay, slot, node, false);
}

static void on_ready(struct relay *relay)
{
    relay->ready = true;
    for (unsigned node = 0; node < relay->settings.node_count; node++) {
        if (relay->nodes[node].state == RELAY_NODE_WAITING)
            begin_taking(relay, node);
    }
}

/* ---- the way out ----------------------------------------------------------------------------------------
 */

/* Where an earlier link had got to: what lies in the window already is not put again. */
static void find_cursor(struct relay *relay, struct relay_lane *lane, unsigned slot, unsigned node)
{
    uint64_t head,
        taken = bus_taken(relay->settings.links, relay_peer(relay, node), slot, relay->settings.life);
    lane->checked = true;
    if (!bus_lane_in_head(&lane->in, &head) || taken <= lane->in.cursor || taken > head)
        return;
    bus_lane_in_pass(&lane->in, taken);
}

static uint8_t *put_run(struct relay *relay, unsigned node, const struct bus_frame *frame, struct bytes run)
{
    uint8_t *to = bus_put(relay->settings.links, relay_peer(relay, node), BUS_RECORD_FORWARD,
        RELAY_FORWARD_HEAD + run.size, BUS_ROOM_CONTROL);
    if (to == NULL)
        return NULL;
    to = record_write_u16(to, frame->origin.slot);
    to = record_write_u64(to, frame->origin.incarnation);
    return record_write_bytes(to, run);
}

/* What is for us and not for the node. True: handled. */
static bool intercept(struct relay *relay, unsigned slot, unsigned node, uint8_t type, struct bytes body)
{
    switch (type) {
    case BUS_RECORD_COMPLETION:
        relay_completed(relay, slot, node, body);
        return true;
    case BUS_RECORD_ROUTE_ACK:
        relay_route_acked(relay, slot, node, body);
        return true;
    case BUS_RECORD_STATE_REQUEST:
        relay_state_asked(relay, slot, node, body);
        return true;
    default:
        return false;
    }
}

/* The records of one frame, as they are; room was looked at. */
static void forward_records(
    struct relay *relay, unsigned slot, unsigned node, const struct bus_frame *frame, struct bytes rest)
{
    uint8_t type;
    struct bytes body;
    size_t size = 0;
    while (bus_record_next(&rest, &type, &body) == STATUS_OK) {
        if (intercept(relay, slot, node, type, body))
            continue;
        if (size + BUS_RECORD_HEADER_SIZE + body.size > BUS_RECORD_PACKED_MAX - RELAY_FORWARD_HEAD) {
            (void)put_run(relay, node, frame, bytes_of(relay->run, size));
            size = 0;
        }
        uint8_t *at = bus_record_begin(relay->run + size, type, body.size);
        record_write_bytes(at, body);
        size += BUS_RECORD_HEADER_SIZE + body.size;
    }
    if (size > 0)
        (void)put_run(relay, node, frame, bytes_of(relay->run, size));
}

static void give_up_lane(struct relay *relay, struct relay_lane *lane, unsigned slot, unsigned node)
{
    relay->settings.counters->bus_frames_bad++;
    bus_lane_in_skip(&lane->in);
    bus_alarm(relay->settings.workers, slot, "its lane to node %u is corrupt: what it held is lost", node);
}

/* Everything that the worker has put for the node, while its window has room. */
static void read_lane(struct relay *relay, unsigned slot, unsigned node)
{
    struct relay_lane *lane = lane_of(relay, slot, node);
    struct bus *links = relay->settings.links;
    uint64_t head, bit = UINT64_C(1) << relay_peer(relay, node);
    if (!lane->checked)
        find_cursor(relay, lane, slot, node);
    if (bus_window_load(lane->in.window.head) == lane->in.cursor)
        return;
    if (!bus_lane_in_head(&lane->in, &head)) {
        give_up_lane(relay, lane, slot, node);
        return;
    }
    for (;;) {
        struct bus_frame frame;
        enum status status = bus_lane_in_copy(&lane->in, head, relay->frame, &frame);
        if (status == STATUS_NOT_FOUND)
            return;
        if (status != STATUS_OK || frame.origin.slot != slot) {
            give_up_lane(relay, lane, slot, node);
            return;
        }
        if (bus_full(links, bit, frame.length + FORWARD_SLACK, BUS_ROOM_PUBLICATION) != 0)
            return;
        forward_records(relay, slot, node, &frame,
            bytes_of(relay->frame + BUS_FRAME_HEADER_SIZE, frame.length - BUS_FRAME_HEADER_SIZE));
        lane->in.cursor = frame.offset + bus_frame_stride(frame.length);
        lane->moved = true;
        if (bus_take(links, relay_peer(relay, node), slot, relay->settings.life, lane->in.cursor) !=
            STATUS_OK)
            return;
        relay->nodes[node].figures.forwarded++;
    }
}

/* First the windows, with the notes what they hold; then the workers may overwrite it. */
static void pass_lanes(struct relay *relay)
{
    bool any = false;
    size_t count = (size_t)relay->settings.worker_count * relay->settings.node_count;
    for (size_t i = 0; i < count; i++)
        any |= relay->lanes[i].moved;
    if (!any)
        return;
    bus_publish(relay->settings.links);
    for (size_t i = 0; i < count; i++) {
        struct relay_lane *lane = &relay->lanes[i];
        if (lane->moved)
            bus_lane_in_pass(&lane->in, lane->in.cursor);
        lane->moved = false;
    }
}

static void read_lanes(struct relay *relay)
{
    size_t count = (size_t)relay->settings.worker_count * relay->settings.node_count;
    for (size_t i = 0; i < count; i++) {
        if (relay->lanes[i].in.window.head != NULL)
            relay->lanes[i].seen = bus_window_load(relay->lanes[i].in.window.head);
    }
    for (unsigned node = 0; node < relay->settings.node_count; node++) {
        if (relay->nodes[node].state < RELAY_NODE_TAKING)
            continue; /* it waits in the lanes */
        for (unsigned slot = 0; slot < relay->settings.worker_count; slot++)
            read_lane(relay, slot, node);
    }
    pass_lanes(relay);
}

void relay_turn(struct relay *relay)
{
    if (!relay->ready && routes_ready(relay->inner))
        on_ready(relay);
    bus_hold(relay->settings.links, !relay_has_room(relay));
    bus_drain(relay->settings.links);
    read_lanes(relay);
    relay_routes_tick(relay);
    relay_answers_send(relay);
}

static void tell_naps(struct relay *relay)
{
    relay->naps++;
    size_t count = (size_t)relay->settings.worker_count * relay->settings.node_count;
    for (size_t i = 0; i < count; i++) {
        if (relay->lanes[i].in.window.naps != NULL)
            bus_window_store(relay->lanes[i].in.window.naps, relay->naps);
    }
}

/* What waits for a node that is away, or for room in its window, is looked at by the clock. */
static bool anything_new(const struct relay *relay)
{
    size_t count = (size_t)relay->settings.worker_count * relay->settings.node_count;
    for (size_t i = 0; i < count; i++) {
        const struct relay_lane *lane = &relay->lanes[i];
        if (lane->in.window.head != NULL && bus_window_load(lane->in.window.head) != lane->seen)
            return true;
    }
    return false;
}

bool relay_may_sleep(struct relay *relay)
{
    if (anything_new(relay))
        return false;
    tell_naps(relay);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!anything_new(relay))
        return true;
    tell_naps(relay);
    return false;
}

void relay_woken(struct relay *relay)
{
    if (relay->naps % 2 != 0)
        tell_naps(relay);
}

/* ---- the whole ------------------------------------------------------------------------------------------
 */

static enum status open_lanes(struct relay *relay)
{
    const struct relay_settings *settings = &relay->settings;
    size_t count = (size_t)settings->worker_count * settings->node_count;
    relay->lanes = calloc(count, sizeof *relay->lanes);
    if (relay->lanes == NULL)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        if (i % settings->node_count == settings->self)
            continue;
        relay->lanes[i].in.window = settings->lanes[i];
        uint64_t naps = bus_window_load(settings->lanes[i].naps);
        if (naps > relay->naps) /* an earlier link may have died while it told them */
            relay->naps = naps;
        if (!bus_lane_in_start(&relay->lanes[i].in))
            bus_alarm(settings->workers, (unsigned)(i / settings->node_count),
                "its lane to a node was corrupt at the start: what it held is lost");
    }
    return STATUS_OK;
}

enum status relay_new(const struct relay_settings *settings, struct relay **ret_relay)
{
    struct relay *relay = calloc(1, sizeof *relay);
    if (relay == NULL)
        return STATUS_NO_MEMORY;
    relay->settings = *settings;
    list_init(&relay->transfers);
    /* Numbers that no earlier link of this node has given out. */
    uint64_t base = bus_origin(settings->workers).incarnation << 32;
    relay->asks.base = base | 1;
    for (unsigned node = 0; node < settings->node_count; node++)
        relay->nodes[node].number = base;
    for (unsigned slot = 0; slot < settings->worker_count; slot++) {
        relay->workers[slot].relay = relay;
        relay->workers[slot].slot = slot;
        list_init(&relay->workers[slot].waiter.link);
    }
    enum status status = open_lanes(relay);
    relay->naps |= 1;
    if (status == STATUS_OK)
        relay_woken(relay);
    if (status == STATUS_OK)
        status = relay_routes_open(relay);
    if (status != STATUS_OK) {
        relay_free(&relay);
        return status;
    }
    bus_set_handler(settings->links, BUS_RECORD_FORWARD, relay_on_forward, relay);
    bus_set_handler(settings->links, BUS_RECORD_ANSWER, relay_on_answer, relay);
    bus_watch(settings->workers,
        &(struct bus_watcher){.context = relay, .started = on_worker_started, .died = on_worker_died});
    *ret_relay = relay;
    return STATUS_OK;
}

void relay_free(struct relay **relay)
{
    struct relay *it = *relay;
    *relay = NULL;
    if (it == NULL)
        return;
    for (unsigned node = 0; node < it->settings.node_count; node++)
        relay_transfers_drop(it, node);
    relay_routes_close(it);
    relay_asks_free(it);
    free(it->lanes);
    free(it);
}

void relay_start(struct relay *relay)
{
    routes_start(relay->inner);
    routes_start(relay->outer);
}

void relay_figures(const struct relay *relay, unsigned node, struct relay_figures *ret_figures)
{
    *ret_figures = relay->nodes[node].figures;
    ret_figures->routes = routes_of(relay->outer, relay_peer(relay, node));
    ret_figures->told = relay->nodes[node].state == RELAY_NODE_TOLD;
}
