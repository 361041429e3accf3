/*
 * Own announcements: told at once, lingering, acknowledged, waited for. What peers announce is in
 * routes_apply.c, full state in routes_state.c. Worker process; never blocks, never logs.
 */
#include "cluster/routes_private.h"

#include "shared/clock.h"

#include <assert.h>
#include <stdlib.h>

static enum status want_filter(struct routes *routes, struct topic_filter *filter, int durable_change);
static enum status want_group(
    struct routes *routes, struct topic_filter *filter, struct topic_group *group, int durable_change);
static struct route *route_new(struct routes *routes, struct topic_filter *filter, struct topic_group *group);
static void route_free(struct routes *routes, struct route *route);
static bool names_fit(const struct topic_filter *filter, const struct topic_group *group);
static bool note_one(struct routes *routes, const struct route *route);
static void note(struct routes *routes, const struct route *route);
static void announce(struct routes *routes, const struct route *route);
static void announce_group(struct routes *routes, struct route *route);
static uint32_t route_members(const struct routes *routes, const struct route *route);
static uint8_t route_flags(const struct routes *routes, const struct route *route);
static void tell_changed_groups(struct routes *routes);
static void end_lingering(struct routes *routes, uint64_t now_us);
static enum status on_ack(void *context, const struct bus_record *record);
static void acknowledge(struct routes *routes);
static void on_started(void *context, unsigned peer);
static void on_died(void *context, unsigned peer);
static void on_out_of_step(void *context, unsigned peer);
static void on_turn_applied(void *context);
static void on_turn_ending(void *context);
static void on_room(void *context, unsigned peer);
static void on_tick(void *context);

enum status routes_new(const struct routes_settings *settings, struct routes **ret_routes)
{
    struct routes *routes = calloc(1, sizeof *routes);
    if (routes == NULL)
        return STATUS_NO_MEMORY;
    routes->bus = settings->bus;
    routes->tell = settings->tell != 0 ? settings->tell : UINT64_MAX;
    routes->aggregate = settings->aggregate;
    routes->relay = settings->relay;
    routes->index = settings->index;
    routes->counters = settings->counters;
    routes->table = settings->table;
    routes->tables = settings->tables;
    routes->linger_us = settings->linger_us != 0 ? settings->linger_us : ROUTES_LINGER_US;
    routes->silent_us = settings->silent_us != 0 ? settings->silent_us : ROUTES_SILENT_US;
    routes->context = settings->context;
    routes->ready_changed = settings->ready;
    routes->state_more = settings->state_more;
    /* What was answered to our predecessor may still lie in a lane: no number is ever used again. */
    routes->exchange = bus_origin(routes->bus).incarnation << 16;
    list_init(&routes->announced);
    list_init(&routes->lingering);
    list_init(&routes->changed);
    list_init(&routes->waiters);
    list_init(&routes->givings);
    bus_set_handler(routes->bus, BUS_RECORD_ROUTE, routes_on_route, routes);
    bus_set_handler(routes->bus, BUS_RECORD_ROUTE_ACK, on_ack, routes);
    bus_set_handler(routes->bus, BUS_RECORD_STATE_REQUEST, routes_on_state_request, routes);
    bus_set_handler(routes->bus, BUS_RECORD_STATE_END, routes_on_state_end, routes);
    bus_watch(routes->bus, &(struct bus_watcher){.context = routes,
                               .far = true,
                               .started = on_started,
                               .died = on_died,
                               .turn_applied = on_turn_applied,
                               .turn_ending = on_turn_ending,
                               .room = on_room,
                               .out_of_step = on_out_of_step,
                               .tick = on_tick});
    *ret_routes = routes;
    return STATUS_OK;
}

void routes_free(struct routes **routes)
{
    struct routes *it = *routes;
    *routes = NULL;
    if (it == NULL)
        return;
    list_for_each(&it->waiters, element, following) list_remove(element);
    list_for_each(&it->announced, element, following) route_free(it, list_entry(element, struct route, link));
    routes_state_done(it);
    free(it);
}

enum status routes_want(
    struct routes *routes, struct topic_filter *filter, struct topic_group *group, int durable_change)
{
    if (group != NULL)
        return want_group(routes, filter, group, durable_change);
    return want_filter(routes, filter, durable_change);
}

bool routes_wait(struct routes *routes, struct routes_waiter *waiter)
{
    bool outstanding = false;
    routes_for_each(routes_told(routes), peer) outstanding |= routes->peers[peer].acked < routes->sequence;
    if (!outstanding)
        return true;
    waiter->sequence = routes->sequence;
    waiter->deadline_us = clock_monotonic_us() + routes->silent_us;
    list_append(&routes->waiters, &waiter->link);
    return false;
}

void routes_wait_cancel(struct routes_waiter *waiter)
{
    list_remove(&waiter->link);
}

bool routes_in_step(const struct routes *routes, unsigned peer)
{
    struct bus_lane_figures figures;
    bus_figures(routes->bus, peer, &figures);
    return (routes->in_step & routes_bit(peer)) != 0 && !figures.out_of_step;
}

uint64_t routes_next_us(const struct routes *routes)
{
    uint64_t next_us = UINT64_MAX;
    if (!list_empty(&routes->waiters))
        next_us = list_entry(routes->waiters.next, struct routes_waiter, link)->deadline_us;
    if (!list_empty(&routes->lingering)) {
        uint64_t end_us = list_entry(routes->lingering.next, struct route, aside)->linger_until_us;
        next_us = end_us < next_us ? end_us : next_us;
    }
    routes_for_each(bus_live_all(routes->bus), peer)
    {
        const struct routes_peer *it = &routes->peers[peer];
        if ((it->taking == TAKING_ASKED) && it->deadline_us < next_us)
            next_us = it->deadline_us;
    }
    return next_us;
}

void routes_acknowledge(struct routes *routes, unsigned peer)
{
    routes->ack_due |= routes_bit(peer);
}

void routes_want_anew(struct routes *routes)
{
    list_for_each(&routes->announced, element, following)
    {
        struct route *route = list_entry(element, struct route, link);
        if (routes_want(routes, route->filter, route->group, 0) != STATUS_OK)
            return; /* cannot be: it is announced */
    }
}

uint64_t routes_of(const struct routes *routes, unsigned peer)
{
    return routes->peers[peer].routes;
}

size_t routes_announced(const struct routes *routes)
{
    return routes->announced_count;
}

/* Calls back all whose peers have answered, and those who have waited long enough for who did not. */
void routes_settle_waiters(struct routes *routes)
{
    uint64_t now_us = clock_monotonic_us();
    while (!list_empty(&routes->waiters)) {
        struct routes_waiter *waiter = list_entry(routes->waiters.next, struct routes_waiter, link);
        uint64_t silent = 0;
        routes_for_each(routes_told(routes), peer)
        {
            if (routes->peers[peer].acked < waiter->sequence)
                silent |= routes_bit(peer);
        }
        if (silent != 0 && now_us < waiter->deadline_us)
            return;
        list_remove(&waiter->link);
        waiter->settled(waiter, silent);
    }
}

size_t routes_entry_size(const struct route *route)
{
    size_t group_size = route->group != NULL ? strlen(route->group->name) : 0;
    return ROUTE_ENTRY_SIZE + topic_filter_text(route->filter, NULL, 0) + group_size;
}

uint8_t *routes_write_entry(struct routes *routes, uint8_t *to, const struct route *route)
{
    to = record_write_u8(to, route_flags(routes, route));
    to = record_write_u32(to, route_members(routes, route));
    return routes_write_names(routes, to, route->filter, route->group);
}

uint8_t *routes_write_names(
    struct routes *routes, uint8_t *to, const struct topic_filter *filter, const struct topic_group *group)
{
    size_t filter_size = topic_filter_text(filter, routes->text, sizeof routes->text);
    struct bytes name = group != NULL ? bytes_of_text(group->name) : BYTES_NONE;
    to = record_write_u16(to, (uint16_t)filter_size);
    to = record_write_u16(to, (uint16_t)name.size);
    to = record_write_bytes(to, bytes_of(routes->text, filter_size));
    return record_write_bytes(to, name);
}

static bool is_wanted(const struct routes *routes, const struct topic_filter *filter)
{
    return routes->aggregate != 0 ? (filter->peers & routes->aggregate) != 0 : filter->count > 0;
}

/* Members of these peers. */
static uint32_t members_of(const struct topic_group *group, uint64_t peers)
{
    uint32_t sum = 0;
    routes_for_each(group->peers & peers, peer) sum += group->peer_members[peer];
    return sum;
}

static uint32_t group_count(const struct routes *routes, const struct topic_group *group)
{
    return routes->aggregate != 0 ? members_of(group, routes->aggregate) : group->count;
}

static uint32_t group_connected(const struct routes *routes, const struct topic_group *group)
{
    return routes->aggregate != 0 ? members_of(group, routes->aggregate & ~group->away_peers)
                                  : group->connected;
}

static enum status want_filter(struct routes *routes, struct topic_filter *filter, int durable_change)
{
    struct route *route = filter->owner_data;
    bool wanted = is_wanted(routes, filter);
    if (routes->aggregate != 0) /* how many of them is not counted, only whether there are any */
        durable_change =
            ((filter->durable_peers & routes->aggregate) != 0) - (route != NULL && route->durable > 0);
    if (route == NULL) {
        if (!wanted)
            return STATUS_OK;
        if (!names_fit(filter, NULL))
            return STATUS_LIMIT;
        route = route_new(routes, filter, NULL);
        if (route == NULL)
            return STATUS_NO_MEMORY;
        filter->owner_data = route;
        route->durable = durable_change > 0 ? (uint32_t)durable_change : 0;
        route->durable_told = route->durable > 0;
        announce(routes, route);
        return STATUS_OK;
    }
    assert(durable_change >= 0 || route->durable >= (uint32_t)-durable_change);
    route->durable = (uint32_t)((int64_t)route->durable + durable_change);
    if (wanted) {
        list_remove(&route->aside);
    } else if (list_empty(&route->aside)) {
        route->linger_until_us = clock_monotonic_us() + routes->linger_us;
        list_append(&routes->lingering, &route->aside);
    }
    if (route->durable_told != (route->durable > 0)) {
        route->durable_told = route->durable > 0;
        announce(routes, route);
    }
    return STATUS_OK;
}

static enum status want_group(
    struct routes *routes, struct topic_filter *filter, struct topic_group *group, int durable_change)
{
    struct route *route = group->owner_data;
    if (routes->aggregate != 0)
        durable_change =
            ((group->durable_peers & routes->aggregate) != 0) - (route != NULL && route->durable > 0);
    if (route != NULL) {
        assert(durable_change >= 0 || route->durable >= (uint32_t)-durable_change);
        route->durable = (uint32_t)((int64_t)route->durable + durable_change);
        if (list_empty(&route->aside))
            list_append(&routes->changed, &route->aside);
        return STATUS_OK;
    }
    if (group_count(routes, group) == 0)
        return STATUS_OK;
    if (!names_fit(filter, group))
        return STATUS_LIMIT;
    route = route_new(routes, filter, group);
    if (route == NULL)
        return STATUS_NO_MEMORY;
    group->owner_data = route;
    route->durable = durable_change > 0 ? (uint32_t)durable_change : 0;
    announce_group(routes, route);
    return STATUS_OK;
}

static struct route *route_new(struct routes *routes, struct topic_filter *filter, struct topic_group *group)
{
    struct route *route = calloc(1, sizeof *route);
    if (route == NULL)
        return NULL;
    route->filter = filter;
    route->group = group;
    list_init(&route->aside);
    list_append(&routes->announced, &route->link);
    routes->announced_count++;
    return route;
}

/* The entry of the index may be gone afterwards. */
static void route_free(struct routes *routes, struct route *route)
{
    struct topic_filter *filter = route->filter;
    if (route->group != NULL)
        route->group->owner_data = NULL;
    else
        filter->owner_data = NULL;
    routes_state_unlink(routes, route);
    list_remove(&route->link);
    list_remove(&route->aside);
    routes->announced_count--;
    free(route);
    topic_index_release(routes->index, filter);
}

static bool names_fit(const struct topic_filter *filter, const struct topic_group *group)
{
    size_t size = topic_filter_text(filter, NULL, 0);
    return size + (group != NULL ? strlen(group->name) : 0) <= ROUTES_NAMES_MAX;
}

static bool note_one(struct routes *routes, const struct route *route)
{
    size_t size = routes_entry_size(route);
    uint8_t *to = route_table_room(routes->table, size);
    if (to == NULL)
        return false;
    routes_write_entry(routes, to, route);
    route_table_added(routes->table, size);
    return true;
}

/* In the slot's table. When what does not count any more has filled it, everything once more. */
static void note(struct routes *routes, const struct route *route)
{
    if (routes->table == NULL || note_one(routes, route))
        return;
    route_table_rewrite(routes->table);
    list_for_each(&routes->announced, element, following)
    {
        const struct route *it = list_entry(element, struct route, link);
        if ((route_flags(routes, it) & ROUTE_WANTED) == 0 || note_one(routes, it))
            continue;
        route_table_give_up(routes->table);
        return;
    }
    route_table_rewritten(routes->table);
}

/* To all live peers, with the next sequence. Whoever has no room is out of step and is told everything later.
 */
static void announce(struct routes *routes, const struct route *route)
{
    size_t size = ROUTE_HEAD_SIZE + routes_entry_size(route);
    routes->sequence++;
    note(routes, route); /* before any peer hears of it: the table never lags behind */
    routes_for_each(routes_told(routes), peer)
    {
        uint8_t *to = bus_put(routes->bus, peer, BUS_RECORD_ROUTE, size, BUS_ROOM_CONTROL);
        if (to == NULL)
            continue;
        to = record_write_u8(to, ROUTE_CHANGE);
        to = record_write_u64(to, routes->sequence);
        routes_write_entry(routes, to, route);
    }
}

static void announce_group(struct routes *routes, struct route *route)
{
    route->members = route_members(routes, route);
    route->group_flags = route_flags(routes, route);
    announce(routes, route);
}

/* The connected ones, if there are any. */
static uint32_t route_members(const struct routes *routes, const struct route *route)
{
    const struct topic_group *group = route->group;
    if (group == NULL)
        return 0;
    uint32_t connected = group_connected(routes, group);
    return connected > 0 ? connected : group_count(routes, group);
}

static uint8_t route_flags(const struct routes *routes, const struct route *route)
{
    if (route->group != NULL && group_count(routes, route->group) == 0)
        return ROUTE_GROUP;
    if (route->group != NULL)
        return (uint8_t)(ROUTE_GROUP | ROUTE_WANTED | (route->durable > 0 ? ROUTE_DURABLE : 0) |
                         (group_connected(routes, route->group) == 0 ? ROUTE_AWAY : 0));
    /* A lingering filter is wanted until its linger ends: route_end announces it with nobody left. */
    bool wanted = is_wanted(routes, route->filter) || !list_empty(&route->aside);
    return (uint8_t)((wanted ? ROUTE_WANTED : 0) | (route->durable_told ? ROUTE_DURABLE : 0));
}

static void tell_changed_groups(struct routes *routes)
{
    list_for_each(&routes->changed, element, following)
    {
        struct route *route = list_entry(element, struct route, aside);
        list_remove(&route->aside);
        if (route->members != route_members(routes, route) ||
            route->group_flags != route_flags(routes, route))
            announce_group(routes, route);
        if (route->members == 0)
            route_free(routes, route);
    }
}

static void end_lingering(struct routes *routes, uint64_t now_us)
{
    while (!list_empty(&routes->lingering)) {
        struct route *route = list_entry(routes->lingering.next, struct route, aside);
        if (route->linger_until_us > now_us)
            return;
        list_remove(&route->aside);
        announce(routes, route);
        route_free(routes, route);
    }
}

static enum status on_ack(void *context, const struct bus_record *record)
{
    struct routes *routes = context;
    struct record_reader reader = record_read(record->body);
    uint64_t incarnation = record_read_u64(&reader);
    uint64_t sequence = record_read_u64(&reader);
    if (!record_read_end(&reader))
        return STATUS_PROTOCOL;
    if (incarnation != bus_origin(routes->bus).incarnation)
        return STATUS_OK; /* for our predecessor */
    if (sequence > routes->sequence)
        return STATUS_PROTOCOL;
    struct routes_peer *peer = &routes->peers[record->peer];
    if (sequence > peer->acked)
        peer->acked = sequence;
    return STATUS_OK;
}

/* At most one record per peer and turn. One that finds no room goes next time. */
static void acknowledge(struct routes *routes)
{
    uint64_t due = routes->ack_due & bus_live_all(routes->bus);
    routes->ack_due = 0;
    routes_for_each(due, peer)
    {
        if (!routes_may_acknowledge(routes, peer))
            continue; /* its STATE_END brings it up again */
        uint64_t upto = routes->peers[peer].heard;
        if (routes->relay != NULL)
            upto = routes->relay->acknowledges(routes->relay->context, peer, upto);
        if (routes->relay != NULL && upto <= routes->peers[peer].acknowledged)
            continue; /* routes_acknowledge() brings it up again */
        uint8_t *to = NULL;
        if (bus_full(routes->bus, routes_bit(peer), 16, BUS_ROOM_CONTROL) == 0)
            to = bus_put(routes->bus, peer, BUS_RECORD_ROUTE_ACK, 16, BUS_ROOM_CONTROL);
        if (to == NULL) {
            routes->ack_due |= routes_bit(peer);
            continue;
        }
        to = record_write_u64(to, bus_peer_origin(routes->bus, peer).incarnation);
        record_write_u64(to, upto);
        routes->peers[peer].acknowledged = upto;
    }
}

static void on_started(void *context, unsigned peer)
{
    struct routes *routes = context;
    routes->peers[peer].acked = 0;
    routes->peers[peer].heard = 0;
    routes->peers[peer].acknowledged = 0;
    routes_state_started(routes, peer);
}

static void on_died(void *context, unsigned peer)
{
    struct routes *routes = context;
    routes->ack_due &= ~routes_bit(peer);
    routes_forget_peer(routes, peer);
    routes_state_died(routes, peer);
    /* Who waited for it alone goes on at the end of the turn: if we stood still, its next incarnation is told
       of behind this, and may serve clients already. */
}

static void on_out_of_step(void *context, unsigned peer)
{
    routes_state_out_of_step(context, peer);
}

static void on_turn_applied(void *context)
{
    routes_settle_waiters(context);
}

static void on_turn_ending(void *context)
{
    struct routes *routes = context;
    tell_changed_groups(routes);
    if (routes->ack_due != 0)
        acknowledge(routes);
    if (!list_empty(&routes->givings))
        routes_give(routes);
    routes_settle_waiters(routes);
}

static void on_room(void *context, unsigned peer)
{
    (void)peer;
    routes_give(context);
}

static void on_tick(void *context)
{
    struct routes *routes = context;
    uint64_t now_us = clock_monotonic_us();
    /* We may have stood still: what was answered meanwhile counts before time-outs do. */
    bus_drain_if_stale(routes->bus, now_us);
    end_lingering(routes, now_us);
    routes_state_tick(routes, now_us);
    routes_settle_waiters(routes);
}
