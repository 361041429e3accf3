/*
 * What peers announce: checked, and set in the topic index. Worker process. Everything here is hostile until
 * it is checked; a record that breaks the format changes nothing before the entry that is wrong.
 */
#include "cluster/routes_private.h"

#include "shared/clock.h"
#include "shared/pointer_bag.h"
#include "shared/topic_name.h"

#include <stdlib.h>

struct route_entry {
    uint8_t flags;
    uint32_t members;
    struct bytes filter;
    struct bytes group;
};

static enum status apply_change(struct routes *routes, unsigned peer, uint64_t sequence, struct bytes rest);
static enum status apply_page(struct routes *routes, unsigned peer, uint64_t exchange, struct bytes rest);
static enum status apply_entries(struct routes *routes, unsigned peer, struct bytes rest);
static enum status read_entry(struct record_reader *reader, struct route_entry *ret_entry);
static enum status apply_entry(struct routes *routes, unsigned peer, const struct route_entry *entry);
static void apply_filter(struct routes *routes, unsigned peer, struct topic_filter *filter, uint8_t flags);
static enum status apply_group(
    struct routes *routes, unsigned peer, struct topic_filter *filter, const struct route_entry *entry);
static void count_route(struct routes *routes, unsigned peer, bool was, bool is);
static void confirm(struct routes *routes, unsigned peer, const void *what, bool wanted);

enum status routes_on_route(void *context, const struct bus_record *record)
{
    struct routes *routes = context;
    struct record_reader reader = record_read(record->body);
    uint8_t kind = record_read_u8(&reader);
    uint64_t number = record_read_u64(&reader);
    if (reader.failed)
        return STATUS_PROTOCOL;
    /* From a predecessor of who lives now, left in the ring: its death was told already. */
    if (record->origin.incarnation != bus_peer_origin(routes->bus, record->peer).incarnation)
        return STATUS_OK;
    if (kind == ROUTE_CHANGE)
        return apply_change(routes, record->peer, number, reader.rest);
    if (kind == ROUTE_PAGE)
        return apply_page(routes, record->peer, number, reader.rest);
    return STATUS_PROTOCOL;
}

void routes_forget_peer(struct routes *routes, unsigned peer)
{
    struct routes_peer *it = &routes->peers[peer];
    routes_end_confirming(it);
    if (it->routes == 0)
        return;
    topic_index_drop_peer(routes->index, peer);
    routes->counters->routes -= it->routes;
    it->routes = 0;
    if (routes->relay != NULL && routes->relay->forgotten != NULL)
        routes->relay->forgotten(routes->relay->context, peer);
}

static enum status apply_change(struct routes *routes, unsigned peer, uint64_t sequence, struct bytes rest)
{
    struct record_reader reader = record_read(rest);
    struct route_entry entry;
    enum status status = read_entry(&reader, &entry);
    if (status != STATUS_OK || !record_read_end(&reader))
        return STATUS_PROTOCOL;
    status = apply_entry(routes, peer, &entry);
    if (status != STATUS_OK)
        return status; /* not acknowledged */
    if (sequence > routes->peers[peer].heard)
        routes->peers[peer].heard = sequence;
    routes->ack_due |= routes_bit(peer);
    return STATUS_OK;
}

static enum status apply_page(struct routes *routes, unsigned peer, uint64_t exchange, struct bytes rest)
{
    struct routes_peer *it = &routes->peers[peer];
    if (exchange != it->exchange || it->taking == TAKING_NOTHING)
        return STATUS_OK;                                       /* of an older request */
    it->deadline_us = clock_monotonic_us() + routes->silent_us; /* it is telling */
    return apply_entries(routes, peer, rest);
}

static enum status apply_entries(struct routes *routes, unsigned peer, struct bytes rest)
{
    struct record_reader reader = record_read(rest);
    while (reader.rest.size > 0) {
        struct route_entry entry;
        enum status status = read_entry(&reader, &entry);
        if (status == STATUS_OK)
            status = apply_entry(routes, peer, &entry);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

bool routes_read_table(struct routes *routes, unsigned peer)
{
    uint8_t *entries;
    size_t size;
    if (routes->tables == NULL || routes->tables[peer] < 0)
        return false;
    uint64_t incarnation = bus_peer_origin(routes->bus, peer).incarnation;
    if (route_table_read(routes->tables[peer], incarnation, &entries, &size) != STATUS_OK)
        return false;
    enum status status = apply_entries(routes, peer, bytes_of(entries, size));
    free(entries);
    return status == STATUS_OK;
}

static enum status read_entry(struct record_reader *reader, struct route_entry *ret_entry)
{
    struct route_entry entry = {.flags = record_read_u8(reader)};
    entry.members = record_read_u32(reader);
    uint16_t filter_size = record_read_u16(reader);
    uint16_t group_size = record_read_u16(reader);
    entry.filter = record_read_bytes(reader, filter_size);
    entry.group = record_read_bytes(reader, group_size);
    if (reader->failed || !topic_filter_valid(entry.filter))
        return STATUS_PROTOCOL;
    bool group = (entry.flags & ROUTE_GROUP) != 0;
    bool named = entry.group.size > 0 && memchr(entry.group.data, 0, entry.group.size) == NULL;
    if (group != (group_size > 0) || (group && !named))
        return STATUS_PROTOCOL;
    if (group && ((entry.flags & ROUTE_WANTED) != 0) != (entry.members > 0))
        return STATUS_PROTOCOL;
    *ret_entry = entry;
    return STATUS_OK;
}

static enum status apply_entry(struct routes *routes, unsigned peer, const struct route_entry *entry)
{
    struct topic_filter *filter = topic_index_find(routes->index, entry->filter);
    if (filter == NULL) {
        if ((entry->flags & ROUTE_WANTED) == 0)
            return STATUS_OK;
        enum status status = topic_index_acquire(routes->index, entry->filter, &filter);
        if (status != STATUS_OK)
            return status;
    }
    enum status status = STATUS_OK;
    if ((entry->flags & ROUTE_GROUP) != 0)
        status = apply_group(routes, peer, filter, entry);
    else
        apply_filter(routes, peer, filter, entry->flags);
    topic_index_release(routes->index, filter); /* frees it if nothing holds it now */
    return status;
}

static void tell_relay(struct routes *routes, unsigned peer, struct topic_filter *filter,
    struct topic_group *group, uint8_t flags, uint32_t members)
{
    if (routes->relay != NULL && routes->relay->applied != NULL)
        routes->relay->applied(routes->relay->context, peer, filter, group, flags, members);
}

static void apply_filter(struct routes *routes, unsigned peer, struct topic_filter *filter, uint8_t flags)
{
    bool wanted = (flags & ROUTE_WANTED) != 0;
    confirm(routes, peer, filter, wanted);
    count_route(routes, peer, (filter->peers & routes_bit(peer)) != 0, wanted);
    if (wanted)
        topic_index_set_peer(routes->index, filter, peer, (flags & ROUTE_DURABLE) != 0);
    else
        topic_index_clear_peer(routes->index, filter, peer);
    tell_relay(routes, peer, filter, NULL, flags, 0);
}

static enum status apply_group(
    struct routes *routes, unsigned peer, struct topic_filter *filter, const struct route_entry *entry)
{
    struct topic_group *group;
    enum status status = topic_index_group(routes->index, filter, entry->group, &group);
    if (status != STATUS_OK)
        return status;
    bool was = (group->peers & routes_bit(peer)) != 0;
    status = topic_index_set_group_peer(routes->index, group, peer, entry->members);
    if (status != STATUS_OK)
        return status;
    if (entry->members > 0)
        topic_index_set_group_state(
            group, peer, (entry->flags & ROUTE_AWAY) != 0, (entry->flags & ROUTE_DURABLE) != 0);
    confirm(routes, peer, group, entry->members > 0);
    count_route(routes, peer, was, entry->members > 0);
    tell_relay(routes, peer, filter, group, entry->flags, entry->members);
    return STATUS_OK;
}

static void count_route(struct routes *routes, unsigned peer, bool was, bool is)
{
    if (was == is)
        return;
    uint64_t change = is ? 1 : UINT64_MAX;
    routes->peers[peer].routes += change;
    routes->counters->routes += change;
}

/* Pointers as a set, while a peer that had routes tells its full state.
 * ------------------------------------------ */

static uint64_t pointer_hash(const void *pointer)
{
    return ((uint64_t)(uintptr_t)pointer >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 16;
}

static bool same_pointer(const void *value, const void *key)
{
    return value == key;
}

static bool is_confirmed(const struct routes_peer *peer, const void *what)
{
    return hash_table_find(&peer->confirmed, pointer_hash(what), same_pointer, what) != NULL;
}

/* Without memory for the set nothing is swept: a route too many costs traffic, one too few loses it. */
static void confirm(struct routes *routes, unsigned peer, const void *what, bool wanted)
{
    struct routes_peer *it = &routes->peers[peer];
    if (!it->confirming || is_confirmed(it, what) == wanted)
        return;
    if (!wanted)
        hash_table_remove(&it->confirmed, pointer_hash(what), what);
    else if (hash_table_insert(&it->confirmed, pointer_hash(what), (void *)(uintptr_t)what) != STATUS_OK)
        routes_end_confirming(it);
}

void routes_end_confirming(struct routes_peer *peer)
{
    hash_table_done(&peer->confirmed);
    peer->confirming = false;
}

struct sweep {
    struct routes *routes;
    unsigned peer;
    struct pointer_bag touched; /* filters that may be empty now; the index must not change during a visit */
};

static void sweep_filter(void *context, struct topic_filter *filter)
{
    struct sweep *sweep = context;
    struct routes *routes = sweep->routes;
    struct routes_peer *peer = &routes->peers[sweep->peer];
    uint64_t bit = routes_bit(sweep->peer);
    bool touched = false;
    if ((filter->peers & bit) != 0 && !is_confirmed(peer, filter)) {
        topic_index_clear_peer(routes->index, filter, sweep->peer);
        count_route(routes, sweep->peer, true, false);
        tell_relay(routes, sweep->peer, filter, NULL, 0, 0);
        touched = true;
    }
    for (struct topic_group *group = filter->groups; group != NULL; group = group->next) {
        /* Clearing needs no memory: it cannot fail. */
        if ((group->peers & bit) == 0 || is_confirmed(peer, group) ||
            topic_index_set_group_peer(routes->index, group, sweep->peer, 0) != STATUS_OK)
            continue;
        count_route(routes, sweep->peer, true, false);
        tell_relay(routes, sweep->peer, filter, group, ROUTE_GROUP, 0);
        touched = true;
    }
    uint32_t position;
    if (touched && pointer_bag_add(&sweep->touched, filter, &position) != STATUS_OK)
        return; /* an empty entry stays until it is used again */
}

void routes_sweep_unconfirmed(struct routes *routes, unsigned peer)
{
    struct sweep sweep = {.routes = routes, .peer = peer};
    topic_index_visit(routes->index, sweep_filter, &sweep);
    for (uint32_t i = 0; i < sweep.touched.count; i++)
        topic_index_release(routes->index, pointer_bag_at(&sweep.touched, i));
    pointer_bag_done(&sweep.touched);
    routes_end_confirming(&routes->peers[peer]);
}
