/*
 * Full state, both ways: asked for by a worker that starts, and by one that is out of step with a peer; given
 * in pages as the lane has room, first the routes, then what the engine adds, then STATE_END. Worker process.
 *
 * The routes of a peer that is silent are read from its table. Its own answer to the request counts when it
 * comes.
 */
#include "cluster/routes_private.h"

#include "shared/clock.h"

#include <stdlib.h>

#define REQUEST_SIZE 17u
#define END_SIZE     16u
/* Bytes of entries in one record (an eighth of the window if that is less), unless a single one is longer. */
#define PAGE_SIZE 16384u

static void take(struct routes *routes, unsigned peer, enum route_taking taking);
static void check_ready(struct routes *routes);
static void silent_peer(struct routes *routes, unsigned peer);
static void send_request(struct routes *routes, unsigned to, uint8_t flags, uint64_t exchange);
static void begin_giving(struct routes *routes, unsigned peer, uint64_t exchange);
static void giving_free(struct giving *giving);
static bool give_routes(struct routes *routes, struct giving *giving);
static bool give_page(struct routes *routes, struct giving *giving);
static bool send_page(struct routes *routes, struct giving *giving, const uint8_t *end);
static bool give_end(struct routes *routes, struct giving *giving);

void routes_start(struct routes *routes)
{
    routes->started = true;
    routes_for_each(bus_live_all(routes->bus), peer) routes_ask_state(routes, peer, true);
    check_ready(routes);
}

void routes_fell_behind(struct routes *routes, uint64_t peers)
{
    routes_for_each(peers & bus_live_all(routes->bus), peer)
    {
        const struct routes_peer *it = &routes->peers[peer];
        bool asked = it->blocking && it->taking == TAKING_ASKED;
        if (routes->started && !asked)
            routes_ask_state(routes, peer, true);
    }
}

bool routes_ready(const struct routes *routes)
{
    return routes->ready;
}

uint64_t routes_unknown(const struct routes *routes)
{
    return routes->unknown & bus_live_all(routes->bus);
}

uint64_t routes_unheard(const struct routes *routes)
{
    uint64_t unheard = 0;
    routes_for_each(bus_live_all(routes->bus), peer) unheard |=
        routes->peers[peer].taking != TAKING_NOTHING ? routes_bit(peer) : 0;
    return unheard;
}

bool routes_may_acknowledge(const struct routes *routes, unsigned peer)
{
    return routes->peers[peer].taking != TAKING_LATE;
}

void routes_ask_state(struct routes *routes, unsigned peer, bool blocking)
{
    struct routes_peer *it = &routes->peers[peer];
    routes_end_confirming(it);
    it->confirming =
        it->routes > 0; /* from here on, not from the first page: what was there before is to be named */
    it->exchange = ++routes->exchange;
    it->blocking = blocking;
    it->deadline_us = clock_monotonic_us() + routes->silent_us;
    it->taking = TAKING_ASKED;
    /* Who speaks for others cannot say that nobody reads a client. */
    bool not_reading = blocking && routes->relay == NULL;
    send_request(routes, peer, not_reading ? STATE_NOT_READING : 0, it->exchange);
    check_ready(routes);
}

/*
 * Also a peer that starts after us is asked (it answers at once, it has next to nothing): so both sides know
 * that the other has everything, whoever came first.
 */
void routes_state_started(struct routes *routes, unsigned peer)
{
    routes->in_step &= ~routes_bit(peer);
    routes->unknown &= ~routes_bit(peer);
    if (routes->started)
        routes_ask_state(routes, peer, !routes->ready);
}

void routes_state_died(struct routes *routes, unsigned peer)
{
    routes->in_step &= ~routes_bit(peer);
    list_for_each(&routes->givings, element, following)
    {
        struct giving *giving = list_entry(element, struct giving, link);
        if (giving->peer == peer)
            giving_free(giving);
    }
    take(routes, peer, TAKING_NOTHING);
    check_ready(routes);
}

/* There is room again (or its lane was corrupt): it must ask us, and we ask it. */
void routes_state_out_of_step(struct routes *routes, unsigned peer)
{
    routes->in_step &= ~routes_bit(peer);
    send_request(routes, peer, STATE_ASK_ME, 0);
    if (routes->started)
        routes_ask_state(routes, peer, true);
}

void routes_state_tick(struct routes *routes, uint64_t now_us)
{
    routes_for_each(bus_live_all(routes->bus), peer)
    {
        struct routes_peer *it = &routes->peers[peer];
        if (it->taking != TAKING_ASKED || it->deadline_us > now_us)
            continue;
        silent_peer(routes, peer);
    }
    routes_give(routes);
    check_ready(routes);
}

enum status routes_on_state_request(void *context, const struct bus_record *record)
{
    struct routes *routes = context;
    struct record_reader reader = record_read(record->body);
    uint8_t flags = record_read_u8(&reader);
    uint64_t exchange = record_read_u64(&reader);
    uint64_t asked_us = record_read_u64(&reader);
    if (!record_read_end(&reader))
        return STATUS_PROTOCOL;
    if ((flags & STATE_ASK_ME) != 0) {
        if (routes->started)
            routes_ask_state(routes, record->peer, true);
        return STATUS_OK;
    }
    /* It reads no client before it has all of this: so for those who wait it has it already. Not so if we
       stood still meanwhile: what it has read in our table then may be older. */
    if ((flags & STATE_NOT_READING) != 0 && clock_monotonic_us() < asked_us + routes->silent_us)
        routes->peers[record->peer].acked = routes->sequence;
    begin_giving(routes, record->peer, exchange);
    return STATUS_OK;
}

enum status routes_on_state_end(void *context, const struct bus_record *record)
{
    struct routes *routes = context;
    struct record_reader reader = record_read(record->body);
    uint64_t exchange = record_read_u64(&reader);
    uint64_t sequence = record_read_u64(&reader);
    if (!record_read_end(&reader))
        return STATUS_PROTOCOL;
    struct routes_peer *it = &routes->peers[record->peer];
    if (exchange != it->exchange || it->taking == TAKING_NOTHING)
        return STATUS_OK;
    if (it->confirming)
        routes_sweep_unconfirmed(routes, record->peer);
    if (sequence > it->heard)
        it->heard = sequence;
    take(routes, record->peer, TAKING_NOTHING);
    routes->ack_due |= routes_bit(record->peer);
    check_ready(routes);
    return STATUS_OK;
}

/* Round after round over all who are owed something, until their lanes are full. */
void routes_give(struct routes *routes)
{
    list_for_each(&routes->givings, element, following)
    {
        struct giving *giving = list_entry(element, struct giving, link);
        if ((bus_live_all(routes->bus) & routes_bit(giving->peer)) == 0)
            continue; /* asked before the master told us that it lives */
        if (!giving->routes_sent && !give_routes(routes, giving))
            continue;
        if (routes->state_more != NULL) {
            bool first = !giving->more_begun;
            giving->more_begun = true;
            if (!routes->state_more(routes->context, giving->peer, first))
                continue;
        }
        if (give_end(routes, giving))
            giving_free(giving);
    }
}

void routes_state_unlink(struct routes *routes, struct route *route)
{
    list_for_each(&routes->givings, element, following)
    {
        struct giving *giving = list_entry(element, struct giving, link);
        if (giving->next == &route->link)
            giving->next = route->link.next;
    }
}

void routes_state_done(struct routes *routes)
{
    list_for_each(&routes->givings, element, following) giving_free(list_entry(element, struct giving, link));
    for (unsigned peer = 0; peer < BUS_PEERS_MAX; peer++)
        hash_table_done(&routes->peers[peer].confirmed);
}

static void take(struct routes *routes, unsigned peer, enum route_taking taking)
{
    routes->peers[peer].taking = taking;
    if (routes->relay != NULL && routes->relay->taken != NULL)
        routes->relay->taken(routes->relay->context, peer);
    if (taking == TAKING_NOTHING)
        routes->unknown &= ~routes_bit(peer);
}

static void check_ready(struct routes *routes)
{
    bool ready = routes->started;
    routes_for_each(bus_live_all(routes->bus), peer)
    {
        const struct routes_peer *it = &routes->peers[peer];
        if (it->blocking && it->taking == TAKING_ASKED)
            ready = false;
    }
    if (ready == routes->ready)
        return;
    routes->ready = ready;
    if (routes->ready_changed != NULL)
        routes->ready_changed(routes->context, ready, ready ? routes->unknown : 0);
}

/* Nothing came from the peer for silent_us. */
static void silent_peer(struct routes *routes, unsigned peer)
{
    if (!routes_read_table(routes, peer))
        routes->unknown |= routes_bit(peer);
    take(routes, peer, TAKING_LATE);
}

/* No room: the peer is out of step then, and asked again when there is. */
static void send_request(struct routes *routes, unsigned to, uint8_t flags, uint64_t exchange)
{
    uint8_t *at = bus_put(routes->bus, to, BUS_RECORD_STATE_REQUEST, REQUEST_SIZE, BUS_ROOM_CONTROL);
    if (at == NULL)
        return;
    at = record_write_u8(at, flags);
    at = record_write_u64(at, exchange);
    record_write_u64(at, clock_monotonic_us());
}

/* Takes the place of an older request of the same peer. */
static void begin_giving(struct routes *routes, unsigned peer, uint64_t exchange)
{
    list_for_each(&routes->givings, element, following)
    {
        struct giving *old = list_entry(element, struct giving, link);
        if (old->peer == peer)
            giving_free(old);
    }
    struct giving *giving = calloc(1, sizeof *giving);
    if (giving == NULL)
        return; /* the peer reads our table */
    giving->peer = peer;
    giving->exchange = exchange;
    list_append(&routes->givings, &giving->link);
}

static void giving_free(struct giving *giving)
{
    list_remove(&giving->link);
    free(giving);
}

/* True when all routes are in the lane. */
static bool give_routes(struct routes *routes, struct giving *giving)
{
    do {
        if (!give_page(routes, giving))
            return false;
    } while (!giving->routes_sent);
    return true;
}

static size_t page_size(const struct routes *routes, const struct giving *giving)
{
    size_t eighth = (size_t)bus_window_of(routes->bus, giving->peer) / 8;
    return eighth < PAGE_SIZE ? eighth : PAGE_SIZE;
}

/* At least one page is sent, be it empty: it begins the peer's check against what it had. */
static bool give_page(struct routes *routes, struct giving *giving)
{
    /* From the first at this moment: what was announced before is either in a page or was never told. */
    struct list *next = giving->next != NULL ? giving->next : routes->announced.next;
    uint8_t *to = routes->page;
    while (next != &routes->announced) {
        const struct route *route = list_entry(next, struct route, link);
        size_t size = (size_t)(to - routes->page) + routes_entry_size(route);
        if (to > routes->page && size > page_size(routes, giving))
            break;
        to = routes_write_entry(routes, to, route);
        next = next->next;
    }
    if (!send_page(routes, giving, to))
        return false;
    giving->next = next;
    giving->routes_sent = next == &routes->announced;
    return true;
}

static bool send_page(struct routes *routes, struct giving *giving, const uint8_t *end)
{
    size_t size = (size_t)(end - routes->page);
    uint64_t bit = routes_bit(giving->peer);
    if (bus_full(routes->bus, bit, ROUTE_HEAD_SIZE + size, BUS_ROOM_PUBLICATION) != 0)
        return false;
    uint8_t *to =
        bus_put(routes->bus, giving->peer, BUS_RECORD_ROUTE, ROUTE_HEAD_SIZE + size, BUS_ROOM_PUBLICATION);
    if (to == NULL)
        return false;
    to = record_write_u8(to, ROUTE_PAGE);
    to = record_write_u64(to, giving->exchange);
    record_write_bytes(to, bytes_of(routes->page, size));
    return true;
}

static bool give_end(struct routes *routes, struct giving *giving)
{
    uint64_t bit = routes_bit(giving->peer);
    if (bus_full(routes->bus, bit, END_SIZE, BUS_ROOM_CONTROL) != 0)
        return false;
    uint8_t *to = bus_put(routes->bus, giving->peer, BUS_RECORD_STATE_END, END_SIZE, BUS_ROOM_CONTROL);
    if (to == NULL)
        return false;
    to = record_write_u64(to, giving->exchange);
    record_write_u64(to, routes->sequence);
    routes->in_step |= bit;
    return true;
}
