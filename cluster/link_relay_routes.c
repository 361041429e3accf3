/*
 * Routes through the link. Own workers' filters, together, are announced to the nodes; a worker's
 * announcement is acknowledged when all reachable nodes have what became of it. What a node announces goes to
 * all own workers as it is; it is acknowledged when they have it. Both promises together are SUBACK's (BUS
 * rules 4).
 */
#include "cluster/link_relay_private.h"

#include "cluster/routes_private.h"

/* Bytes of entries in one page, about. */
#define PAGE_SIZE 16384u

/* ---- from own workers to the nodes ------------------------------------------------------------------------
 */

static void inner_applied(void *context, unsigned peer, struct topic_filter *filter,
    struct topic_group *group, uint8_t flags, uint32_t members)
{
    struct relay *relay = context;
    (void)peer;
    (void)flags;
    (void)members;
    if (routes_want(relay->outer, filter, group, 0) != STATUS_OK)
        relay->settings.counters->bus_frames_bad++; /* no memory */
}

static void inner_forgotten(void *context, unsigned peer)
{
    struct relay *relay = context;
    (void)peer;
    routes_want_anew(relay->outer);
}

static void on_settled(struct routes_waiter *waiter, uint64_t silent)
{
    struct relay_worker *worker = list_entry(waiter, struct relay_worker, waiter);
    (void)silent; /* a node that is silent for a second is not live for this promise */
    worker->waits = false;
    worker->may_acknowledge = worker->target;
    routes_acknowledge(worker->relay->inner, worker->slot);
}

static uint64_t inner_acknowledges(void *context, unsigned peer, uint64_t heard)
{
    struct relay *relay = context;
    struct relay_worker *worker = &relay->workers[peer];
    if (!worker->waits && heard > worker->may_acknowledge) {
        worker->target = heard;
        worker->waits = !routes_wait(relay->outer, &worker->waiter);
        if (!worker->waits)
            worker->may_acknowledge = heard;
    }
    return worker->may_acknowledge;
}

static void on_inner_ready(void *context, bool ready, uint64_t unknown)
{
    struct relay *relay = context;
    (void)unknown;
    if (ready && relay->settings.ready != NULL)
        relay->settings.ready(relay->settings.context);
}

/* ---- from the nodes to own workers ------------------------------------------------------------------------
 */

static uint8_t *put_from(
    struct relay *relay, unsigned slot, unsigned node, enum bus_record_type type, size_t size)
{
    struct publication_origin origin = {
        .node = relay->settings.node_ids[relay_peer(relay, node)], .incarnation = relay->nodes[node].life};
    return bus_put_as(
        relay->settings.workers, slot, relay_peer(relay, node), origin, type, size, BUS_ROOM_CONTROL);
}

static void outer_applied(void *context, unsigned peer, struct topic_filter *filter,
    struct topic_group *group, uint8_t flags, uint32_t members)
{
    struct relay *relay = context;
    unsigned node = peer - relay->settings.first_node;
    struct relay_node *it = &relay->nodes[node];
    if (it->state != RELAY_NODE_TOLD)
        return; /* they ask for all of it when they are told */
    it->number++;
    size_t names = topic_filter_text(filter, NULL, 0) + (group != NULL ? strlen(group->name) : 0);
    bus_for_each_peer(relay_workers(relay), slot)
    {
        uint8_t *to =
            put_from(relay, slot, node, BUS_RECORD_ROUTE, ROUTE_HEAD_SIZE + ROUTE_ENTRY_SIZE + names);
        if (to == NULL)
            continue; /* out of step with us: it will ask for everything */
        to = record_write_u8(to, ROUTE_CHANGE);
        to = record_write_u64(to, it->number);
        to = record_write_u8(to, flags);
        to = record_write_u32(to, members);
        routes_write_names(relay->outer, to, filter, group);
    }
}

/* Do all workers have the node's routes up to this announcement? */
static bool all_have(const struct relay *relay, unsigned node, uint64_t number)
{
    if (relay->nodes[node].state != RELAY_NODE_TOLD)
        return false;
    bus_for_each_peer(relay_workers(relay), slot)
    {
        if (relay->workers[slot].acked[node] < number)
            return false;
    }
    return true;
}

static uint64_t outer_acknowledges(void *context, unsigned peer, uint64_t heard)
{
    struct relay *relay = context;
    unsigned node = peer - relay->settings.first_node;
    struct relay_node *it = &relay->nodes[node];
    if (it->mark_heard <= it->may_acknowledge) {
        it->mark_heard = heard;
        it->mark_number = it->number;
    }
    if (it->mark_heard > it->may_acknowledge && all_have(relay, node, it->mark_number)) {
        it->may_acknowledge = it->mark_heard;
        if (heard > it->mark_heard) { /* and on to what came meanwhile */
            it->mark_heard = heard;
            it->mark_number = it->number;
        }
    }
    return it->may_acknowledge;
}

static void outer_taken(void *context, unsigned peer)
{
    struct relay *relay = context;
    relay_check_told(relay, peer - relay->settings.first_node);
}

void relay_tell_node(struct relay *relay, unsigned slot, unsigned node, bool up)
{
    uint8_t *to = bus_put(relay->settings.workers, slot, BUS_RECORD_NODE, BUS_NODE_SIZE, BUS_ROOM_CONTROL);
    if (to == NULL)
        return;
    bus_node_write(to, relay_peer(relay, node), up,
        (struct publication_origin){.node = relay->settings.node_ids[relay_peer(relay, node)],
            .incarnation = relay->nodes[node].life});
}

void relay_check_told(struct relay *relay, unsigned node)
{
    struct relay_node *it = &relay->nodes[node];
    /* However late: what the workers know from an earlier link must not give way to nothing. */
    if (it->state != RELAY_NODE_TAKING || (routes_unheard(relay->outer) >> relay_peer(relay, node) & 1) != 0)
        return;
    it->state = RELAY_NODE_TOLD;
    it->mark_heard = it->may_acknowledge = 0;
    for (unsigned slot = 0; slot < relay->settings.worker_count; slot++)
        relay->workers[slot].acked[node] = 0;
    bus_for_each_peer(relay_workers(relay), slot) relay_tell_node(relay, slot, node, true);
    routes_acknowledge(relay->outer, relay_peer(relay, node));
}

/* ---- records of own workers in their lanes to a node
 * -------------------------------------------------------- */

void relay_route_acked(struct relay *relay, unsigned slot, unsigned node, struct bytes body)
{
    struct record_reader reader = record_read(body);
    uint64_t life = record_read_u64(&reader), number = record_read_u64(&reader);
    if (!record_read_end(&reader) || life != relay->nodes[node].life)
        return;
    struct relay_worker *worker = &relay->workers[slot];
    if (number > worker->acked[node])
        worker->acked[node] = number;
    routes_acknowledge(relay->outer, relay_peer(relay, node));
}

void relay_state_asked(struct relay *relay, unsigned slot, unsigned node, struct bytes body)
{
    struct record_reader reader = record_read(body);
    uint8_t flags = record_read_u8(&reader);
    uint64_t exchange = record_read_u64(&reader);
    (void)record_read_u64(&reader);
    if (!record_read_end(&reader) || (flags & STATE_ASK_ME) != 0)
        return; /* it asks for itself, too */
    relay->workers[slot].givings[node] =
        (struct relay_giving){.active = true, .exchange = exchange, .cursor = TOPIC_INDEX_CURSOR_START};
}

/* ---- a node's routes to a worker that asked
 * ------------------------------------------------------------------ */

struct page {
    struct relay *relay;
    unsigned slot, node;
    uint64_t bit;
    size_t size; /* of what stands in relay->body */
    bool failed; /* no room: this filter once more, later */
};

static void send_page(struct page *page)
{
    struct relay *relay = page->relay;
    struct relay_giving *giving = &relay->workers[page->slot].givings[page->node];
    uint8_t *to = NULL;
    if (bus_full(relay->settings.workers, UINT64_C(1) << page->slot,
            ROUTE_HEAD_SIZE + page->size + BUS_AS_HEAD_SIZE, BUS_ROOM_PUBLICATION) == 0)
        to = put_from(relay, page->slot, page->node, BUS_RECORD_ROUTE, ROUTE_HEAD_SIZE + page->size);
    page->failed |= to == NULL;
    if (to != NULL) {
        to = record_write_u8(to, ROUTE_PAGE);
        to = record_write_u64(to, giving->exchange);
        record_write_bytes(to, bytes_of(relay->body, page->size));
        giving->begun = true;
    }
    page->size = 0;
}

static void write_entry(struct page *page, uint8_t flags, uint32_t members, const struct topic_filter *filter,
    const struct topic_group *group)
{
    size_t names = topic_filter_text(filter, NULL, 0) + (group != NULL ? strlen(group->name) : 0);
    if (page->size > 0 && page->size + ROUTE_ENTRY_SIZE + names > BUS_RECORD_MAX - ROUTE_HEAD_SIZE)
        send_page(page);
    uint8_t *to = page->relay->body + page->size;
    to = record_write_u8(to, flags);
    to = record_write_u32(to, members);
    to = routes_write_names(page->relay->outer, to, filter, group);
    page->size = (size_t)(to - page->relay->body);
}

static void write_entries(void *context, struct topic_filter *filter)
{
    struct page *page = context;
    unsigned peer = (unsigned)__builtin_ctzll(page->bit);
    if ((filter->peers & page->bit) != 0) {
        bool durable = (filter->durable_peers & page->bit) != 0;
        write_entry(page, (uint8_t)(ROUTE_WANTED | (durable ? ROUTE_DURABLE : 0)), 0, filter, NULL);
    }
    for (struct topic_group *group = filter->groups; group != NULL; group = group->next) {
        if ((group->peers & page->bit) == 0)
            continue;
        unsigned flags = ROUTE_GROUP | ROUTE_WANTED;
        flags |= (group->away_peers & page->bit) != 0 ? ROUTE_AWAY : 0;
        flags |= (group->durable_peers & page->bit) != 0 ? ROUTE_DURABLE : 0;
        write_entry(page, (uint8_t)flags, group->peer_members[peer], filter, group);
    }
}

/* One page, or the end. False: no room now. */
static bool give_some(struct relay *relay, unsigned slot, unsigned node)
{
    struct relay_giving *giving = &relay->workers[slot].givings[node];
    struct bus *bus = relay->settings.workers;
    uint64_t bit = UINT64_C(1) << slot;
    /* The largest page: one that is nearly full, and one more entry. */
    if (bus_full(bus, bit, BUS_FRAME_MAX, BUS_ROOM_PUBLICATION) != 0)
        return false;
    if (giving->cursor == 0 && giving->begun) {
        uint8_t *to = put_from(relay, slot, node, BUS_RECORD_STATE_END, 16);
        if (to == NULL)
            return false;
        to = record_write_u64(to, giving->exchange);
        record_write_u64(to, relay->nodes[node].number);
        giving->active = false;
        return true;
    }
    struct page page = {
        .relay = relay, .slot = slot, .node = node, .bit = UINT64_C(1) << relay_peer(relay, node)};
    uint32_t cursor = giving->cursor;
    while (cursor != 0 && page.size < PAGE_SIZE && !page.failed)
        cursor = topic_index_visit_page(relay->settings.index, cursor, 1, write_entries, &page);
    if (!page.failed)
        send_page(&page); /* one at least, be it empty: it begins the worker's check against what it had */
    if (page.failed)
        return false;
    giving->cursor = cursor;
    return true;
}

static void give(struct relay *relay)
{
    bus_for_each_peer(relay_workers(relay), slot)
    {
        for (unsigned node = 0; node < relay->settings.node_count; node++) {
            struct relay_giving *giving = &relay->workers[slot].givings[node];
            if (giving->active && relay->nodes[node].state != RELAY_NODE_TOLD)
                giving->active = false;
            while (giving->active && give_some(relay, slot, node))
                continue;
        }
    }
}

void relay_routes_tick(struct relay *relay)
{
    for (unsigned node = 0; node < relay->settings.node_count; node++)
        relay_check_told(relay, node);
    give(relay);
}

/* ---- the whole ------------------------------------------------------------------------------------------
 */

enum status relay_routes_open(struct relay *relay)
{
    const struct relay_settings *settings = &relay->settings;
    uint64_t workers = (UINT64_C(1) << settings->worker_count) - 1;
    relay->inner_hooks = (struct routes_relay){.context = relay,
        .applied = inner_applied,
        .acknowledges = inner_acknowledges,
        .forgotten = inner_forgotten};
    relay->outer_hooks = (struct routes_relay){
        .context = relay, .applied = outer_applied, .acknowledges = outer_acknowledges, .taken = outer_taken};
    const struct routes_settings inner = {.bus = settings->workers,
        .relay = &relay->inner_hooks,
        .index = settings->index,
        .counters = settings->counters,
        .tables = settings->tables,
        .context = relay,
        .ready = on_inner_ready};
    const struct routes_settings outer = {.bus = settings->links,
        .aggregate = workers,
        .relay = &relay->outer_hooks,
        .index = settings->index,
        .counters = settings->counters,
        .context = relay};
    enum status status = routes_new(&outer, &relay->outer);
    for (unsigned slot = 0; slot < settings->worker_count; slot++)
        relay->workers[slot].waiter.settled = on_settled;
    return status == STATUS_OK ? routes_new(&inner, &relay->inner) : status;
}

void relay_routes_close(struct relay *relay)
{
    for (unsigned slot = 0; slot < relay->settings.worker_count; slot++)
        routes_wait_cancel(&relay->workers[slot].waiter);
    routes_free(&relay->inner);
    routes_free(&relay->outer);
}
