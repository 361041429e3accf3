/*
 * The simulated node: a clock that stands until it is moved, the master's part, workers that run turn by
 * turn, are stopped, die in the midst of one and come back, clients, and the checks. Everything in one
 * process; one seed is one run. test_bus_simulation.c says how to replay one.
 */
#ifndef TESTS_SIMULATION_WORLD_H
#define TESTS_SIMULATION_WORLD_H

#include "tests/unit/fake_carrier.h"
#include "tests/unit/simulation/client.h"
#include "tests/unit/simulation/oracle.h"
#include "tests/unit/simulation/worker.h"

#include "cluster/will_table.h"

#define WORLD_CLIENTS_MAX 12
#define WORLD_PEERS_MAX   4

/* A message of the carrier on its way. */
struct flight {
    struct flight *next;
    uint64_t arrives_us;
    unsigned from, to;
    size_t size;
    uint8_t data[];
};

/* How wild the run is, drawn from the seed. Chances are per million and worker turn (or message, or client
 * step). */
struct weather {
    uint64_t duration_us;        /* of the wild part; calm follows */
    unsigned kill;               /* a worker dies at a random point of the turn */
    unsigned stop;               /* a worker stands still for a while */
    unsigned stop_long;          /* of those, per hundred: seconds, perhaps until it is replaced */
    unsigned lose, repeat, late; /* carrier messages, per million */
    unsigned move;               /* a client connects elsewhere */
    unsigned publish;
    unsigned clean; /* of connects, per hundred */
    unsigned large; /* of publications, per hundred */
    size_t window;
};

struct world {
    uint64_t seed;
    uint64_t random;
    uint64_t now_us;
    uint64_t incarnation; /* last given */
    unsigned peers;
    unsigned client_count;
    bool calm;     /* nothing dies or stops any more */
    bool in_place; /* the carrier only wakes, as the ring does; else it brings messages, as nanomsg does */
    bool trace;
    struct weather weather;
    struct keyed_hash hash;
    struct fake_lanes *lanes;
    struct bus_window windows[WORLD_PEERS_MAX][WORLD_PEERS_MAX]; /* [from][to], all writable */
    int will_fds[WORLD_PEERS_MAX];
    int route_fds[WORLD_PEERS_MAX];
    uint8_t *will_maps[WORLD_PEERS_MAX];
    struct flight *flights;
    struct worker workers[WORLD_PEERS_MAX];
    struct client clients[WORLD_CLIENTS_MAX];
    struct oracle oracle;
};

void world_init(struct world *world, uint64_t seed, bool trace);
/* The whole run with all checks; false: `world->oracle.failure` says what was wrong. */
bool world_run(struct world *world);
void world_done(struct world *world);

/* 0 … below - 1 */
uint64_t world_random(struct world *world, uint64_t below);
/* True once in a while. */
bool world_chance(struct world *world, unsigned per_million);
void world_trace(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A point at which a worker may die; called all over its code. From the death on until the end of the phase
   nothing that it does reaches the world. */
void world_point(struct worker *worker);
/* Which worker has which client's session now. */
void world_note_places(const struct world *world, struct told *told);
void world_send(struct world *world, unsigned from, unsigned to, struct bytes frames);

#endif
