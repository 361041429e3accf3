/*
 * For tests of what stands on cluster/bus.h: the bus peers of a node in one process, each with its bus, its
 * carrier and its counters, on a clock that the test sets. What stands on the bus is the test's.
 */
#ifndef TESTS_FAKE_NODE_H
#define TESTS_FAKE_NODE_H

#include "shared/clock.h"
#include "tests/unit/fake_carrier.h"

struct fake_peer {
    struct bus *bus; /* owned; NULL: it does not live */
    struct fake_carrier carrier;
    struct counters counters;
    uint64_t incarnation;
};

struct fake_node {
    unsigned count;
    uint64_t stopped; /* bits: peers that do not run; what is sent to them waits in their rings */
    struct fake_lanes *lanes;
    struct fake_peer peers[BUS_PEERS_MAX];
};

static inline void fake_node_open(struct fake_node *node, unsigned count, size_t window)
{
    clock_set(1000000, 1700000000000000);
    memset(node, 0, sizeof *node);
    node->count = count;
    node->lanes = fake_lanes_new(count, window);
}

/* After the last fake_peer_end(). */
static inline void fake_node_close(struct fake_node *node)
{
    fake_lanes_free(&node->lanes);
    clock_use_system();
}

static inline struct publication_origin fake_origin(const struct fake_node *node, unsigned self)
{
    return (struct publication_origin){.incarnation = node->peers[self].incarnation, .slot = (uint16_t)self};
}

/* The slot's next incarnation. */
static inline struct bus *fake_peer_start(struct fake_node *node, unsigned self, void *context,
    void (*alarm)(void *context, unsigned peer, const char *text))
{
    struct fake_peer *peer = &node->peers[self];
    peer->incarnation++;
    fake_carrier_init(&peer->carrier);
    struct bus_settings settings = {.self = self,
        .peers = node->count,
        .origin = fake_origin(node, self),
        .lanes = node->lanes->of[self],
        .counters = &peer->counters,
        .carrier = &peer->carrier.carrier,
        .context = context,
        .alarm = alarm};
    if (bus_new(&settings, &peer->bus) != STATUS_OK)
        abort();
    return peer->bus;
}

/* After what stands on its bus; what it has put and not published is lost. */
static inline void fake_peer_end(struct fake_node *node, unsigned self)
{
    bus_free(&node->peers[self].bus);
    fake_carrier_drop(&node->peers[self].carrier);
}

/* The master tells each of the other. */
static inline void fake_introduce(struct fake_node *node, unsigned a, unsigned b)
{
    bus_peer_started(node->peers[a].bus, b, fake_origin(node, b));
    bus_peer_started(node->peers[b].bus, a, fake_origin(node, a));
}

static inline void fake_introduce_all(struct fake_node *node)
{
    for (unsigned a = 0; a < node->count; a++)
        for (unsigned b = a + 1; b < node->count; b++)
            fake_introduce(node, a, b);
}

static inline bool fake_runs(const struct fake_node *node, unsigned self)
{
    return node->peers[self].bus != NULL && (node->stopped >> self & 1) == 0;
}

/* What the carrier of `from` keeps reaches those that run. */
static inline void fake_deliver(struct fake_node *node, unsigned from)
{
    struct bus *to[BUS_PEERS_MAX];
    for (unsigned i = 0; i < node->count; i++)
        to[i] = fake_runs(node, i) ? node->peers[i].bus : NULL;
    fake_carrier_deliver(&node->peers[from].carrier, to);
}

static inline void fake_turn(struct fake_node *node, unsigned self)
{
    bus_turn_end(node->peers[self].bus);
    fake_deliver(node, self);
}

/* Turns of all that run. */
static inline void fake_turns(struct fake_node *node, unsigned count)
{
    for (unsigned i = 0; i < count * node->count; i++)
        if (fake_runs(node, i % node->count))
            fake_turn(node, i % node->count);
}

/* Time goes on at once, and then those that run notice. */
static inline void fake_pass_time(struct fake_node *node, uint64_t us)
{
    clock_set(clock_monotonic_us() + us, clock_real_us() + us);
    for (unsigned self = 0; self < node->count; self++)
        if (fake_runs(node, self))
            bus_tick(node->peers[self].bus);
}

#endif
