/* Clock, dice, carrier, the master, and the run from beginning to end. */
#include "tests/unit/simulation/world.h"

#include "shared/clock.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define START_US    1000000000u
#define REAL_US     UINT64_C(1700000000000000)
#define REPLACED_US 10000000u /* a worker that stands still for longer is killed by the master */
#define REST_US     40000000u /* after the wild part, at most */
#define WILL_TABLE  65536u
#define ROUTE_TABLE 12288u /* is written anew again and again */

uint64_t world_random(struct world *world, uint64_t below)
{
    world->random += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t mixed = world->random;
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return (mixed ^ mixed >> 31) % below;
}

bool world_chance(struct world *world, unsigned per_million)
{
    return per_million > 0 && world_random(world, 1000000) < per_million;
}

void world_trace(struct world *world, const char *format, ...)
{
    if (!world->trace)
        return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%10.3f ms  ", (double)(world->now_us - START_US) / 1000);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

static void draw_weather(struct world *world)
{
    struct weather *weather = &world->weather;
    bool kills = world_random(world, 3) > 0, stops = world_random(world, 3) > 0;
    *weather = (struct weather){
        .duration_us = 3000000 + world_random(world, 7000000),
        .kill = kills ? (unsigned)world_random(world, 500) : 0,
        .stop = stops ? (unsigned)world_random(world, 600) : 0,
        .stop_long = (unsigned)world_random(world, 60),
        .lose = (unsigned)world_random(world, 2) * (unsigned)world_random(world, 100000),
        .repeat = (unsigned)world_random(world, 2) * (unsigned)world_random(world, 100000),
        .late = (unsigned)world_random(world, 200000),
        .move = (unsigned)world_random(world, 20000),
        .publish = 20000 + (unsigned)world_random(world, 100000),
        .clean = (unsigned)world_random(world, 3) * 4,
        .large = (unsigned)world_random(world, 3) * 2,
        .window = (size_t)65536 << world_random(world, 3),
    };
    world->peers = world_random(world, 2) == 0 ? 2 : 4;
    world->client_count = 4 + (unsigned)world_random(world, WORLD_CLIENTS_MAX - 4);
}

void world_init(struct world *world, uint64_t seed, bool trace)
{
    memset(world, 0, sizeof *world);
    world->seed = world->random = seed;
    world->trace = trace;
    world->now_us = START_US;
    world->incarnation = 100;
    clock_set(world->now_us, REAL_US);
    draw_weather(world);
    world->in_place = seed % 2 == 0;
    uint8_t key[32] = {(uint8_t)seed};
    keyed_hash_init_from(&world->hash, key);
    world->lanes = fake_lanes_new(world->peers, world->weather.window);
    oracle_init(&world->oracle);
    for (unsigned from = 0; from < world->peers; from++) {
        for (unsigned to = 0; to < world->peers; to++) {
            if (from != to &&
                bus_window_map_sender(world->lanes->of[from][to].out_ring,
                    world->lanes->of[to][from].in_cursor, &world->windows[from][to]) != STATUS_OK)
                abort();
        }
    }
    for (unsigned slot = 0; slot < world->peers; slot++) {
        if (will_table_create(WILL_TABLE, &world->will_fds[slot]) != STATUS_OK ||
            route_table_create(ROUTE_TABLE, &world->route_fds[slot]) != STATUS_OK)
            abort();
        world->will_maps[slot] =
            mmap(NULL, WILL_TABLE, PROT_READ | PROT_WRITE, MAP_SHARED, world->will_fds[slot], 0);
        world->workers[slot].world = world;
        world->workers[slot].slot = slot;
    }
    for (unsigned i = 0; i < world->client_count; i++)
        client_init(&world->clients[i], world, i);
}

/* The cursors of a sender's mapping are read-only there: this process has the descriptor that can write. */
static uint64_t *cursor_word(struct world *world, unsigned from, unsigned to, unsigned word)
{
    struct bus_window *window = &world->windows[from][to];
    return word == 0 ? window->cursor : word == 1 ? window->trying : window->tries;
}

static void cursor_store(struct world *world, unsigned from, unsigned to, unsigned word, uint64_t value)
{
    off_t at = (off_t)(cursor_word(world, from, to, word) - cursor_word(world, from, to, 0)) * 8;
    if (pwrite(world->lanes->of[to][from].in_cursor, &value, sizeof value, at) != (ssize_t)sizeof value)
        abort();
}

/* Clients of whose sessions it has anything. */
static uint32_t parts_of(const struct worker *worker)
{
    struct world *world = worker->world;
    uint32_t parts = 0;
    for (unsigned i = 0; i < world->client_count; i++) {
        if (session_parts(worker, bytes_of_text(world->clients[i].id)))
            parts |= 1u << i;
    }
    return parts;
}

static void save_shared(struct worker *worker)
{
    struct world *world = worker->world;
    for (unsigned peer = 0; peer < world->peers; peer++) {
        if (peer == worker->slot)
            continue;
        worker->saved_heads[peer] = *world->windows[worker->slot][peer].head;
        worker->saved_cursors[peer] = *cursor_word(world, peer, worker->slot, 0);
        worker->saved_trying[peer] = *cursor_word(world, peer, worker->slot, 1);
        worker->saved_tries[peer] = *cursor_word(world, peer, worker->slot, 2);
    }
    worker->saved_parts = parts_of(worker);
    worker->saved_wills = malloc(WILL_TABLE);
    memcpy(worker->saved_wills, world->will_maps[worker->slot], WILL_TABLE);
}

/* Takes back what the dead did after its death. `lanes`: heads that it still stored. */
static void restore_shared(struct worker *worker, unsigned lanes)
{
    struct world *world = worker->world;
    for (unsigned peer = 0; peer < world->peers; peer++) {
        if (peer == worker->slot)
            continue;
        if (lanes > 0)
            lanes--;
        else
            *world->windows[worker->slot][peer].head = worker->saved_heads[peer];
        cursor_store(world, peer, worker->slot, 0, worker->saved_cursors[peer]);
        cursor_store(world, peer, worker->slot, 1, worker->saved_trying[peer]);
        cursor_store(world, peer, worker->slot, 2, worker->saved_tries[peer]);
    }
    memcpy(world->will_maps[worker->slot], worker->saved_wills, WILL_TABLE);
    free(worker->saved_wills);
    worker->saved_wills = NULL;
}

void world_point(struct worker *worker)
{
    if (worker->doom == 0 || worker->doomed || --worker->doom > 0)
        return;
    worker->doomed = true;
    save_shared(worker);
}

void world_send(struct world *world, unsigned from, unsigned to, struct bytes frames)
{
    const struct weather *weather = &world->weather;
    bool lost = world_chance(world, weather->lose) && !world->calm && !world->in_place;
    unsigned copies = lost ? 0 : 1;
    if (world_chance(world, weather->repeat))
        copies++;
    for (; copies > 0; copies--) {
        struct flight *flight = malloc(sizeof *flight + frames.size);
        uint64_t delay_us = 20 + world_random(world, 200);
        if (world_chance(world, weather->late))
            delay_us += world_random(world, 150000);
        flight->arrives_us = world->now_us + delay_us;
        flight->from = from;
        flight->to = to;
        flight->size = frames.size;
        if (frames.size > 0)
            memcpy(flight->data, frames.data, frames.size);
        struct flight **at = &world->flights;
        while (*at != NULL && (*at)->arrives_us <= flight->arrives_us)
            at = &(*at)->next;
        flight->next = *at;
        *at = flight;
    }
}

static void flights_arrive(struct world *world)
{
    while (world->flights != NULL && world->flights->arrives_us <= world->now_us) {
        struct flight *flight = world->flights;
        world->flights = flight->next;
        struct worker *worker = &world->workers[flight->to];
        if (!worker->alive) {
            free(flight);
            continue;
        }
        flight->next = NULL;
        struct flight **end = &worker->arrived;
        while (*end != NULL)
            end = &(*end)->next;
        *end = flight;
    }
}

/* The master.
 * ---------------------------------------------------------------------------------------------------- */

static void notify(struct world *world, unsigned slot, bool started, struct publication_origin origin)
{
    for (unsigned peer = 0; peer < world->peers; peer++) {
        if (peer == slot || !world->workers[peer].alive)
            continue;
        struct notice *notice = calloc(1, sizeof *notice);
        struct notice **end = &world->workers[peer].notices;
        uint64_t at_us = world->now_us + world_random(world, 10000);
        for (; *end != NULL; end = &(*end)->next)
            at_us = (*end)->at_us > at_us ? (*end)->at_us : at_us;
        *notice = (struct notice){.at_us = at_us, .started = started, .slot = slot, .origin = origin};
        *end = notice;
    }
}

/*
 * What the world has to forgive for a worker's death, to those clients alone of whom it had something: parts
 * of sessions that others had not fetched yet, and that an older part is what is left. What it forwarded in
 * its last turn lies behind heads that were never stored: those parts died with it, though it had let go.
 */
static void forgive(struct world *world, const struct worker *dead)
{
    uint32_t parts = parts_of(dead) | dead->turn_parts | (dead->doomed ? dead->saved_parts : 0);
    for (unsigned i = 0; i < world->client_count; i++) {
        struct client *client = &world->clients[i];
        bool moving = false;
        if ((parts & 1u << i) == 0)
            continue;
        world->oracle.uncertain[i] = true;
        for (unsigned slot = 0; slot < world->peers; slot++) {
            const struct worker *worker = &world->workers[slot];
            moving |= worker->alive && session_moves_client(worker, bytes_of_text(client->id));
        }
        if (!moving)
            continue;
        world->oracle.heard[i].forgive_at_connack =
            !client->connected || client->connection == NULL || client->connection->worker == dead;
        if (!world->oracle.heard[i].forgive_at_connack)
            world->oracle.heard[i].forgiven_us = client->connack_us;
    }
}

static void worker_dies(struct world *world, struct worker *worker)
{
    world_trace(world, "worker %u dies%s", worker->slot, worker->doomed ? " in the midst of a turn" : "");
    world->oracle.killed++;
    forgive(world, worker);
    struct publication_origin origin = worker->origin;
    worker_destroy(worker);
    if (worker->saved_wills != NULL)
        restore_shared(worker, worker->doom_lanes);
    worker->doomed = false;
    worker->doom_lanes = 0;
    worker->restart_us = world->now_us + 20000 + world_random(world, 200000);
    notify(world, worker->slot, false, origin);
}

static void worker_begins(struct world *world, struct worker *worker)
{
    worker->origin =
        (struct publication_origin){.incarnation = ++world->incarnation, .slot = (uint16_t)worker->slot};
    world_trace(world, "worker %u starts as %" PRIu64, worker->slot, worker->origin.incarnation);
    worker_start(worker);
    notify(world, worker->slot, true, worker->origin);
}

static void stop(struct world *world, struct worker *worker)
{
    bool is_long = world_random(world, 100) < world->weather.stop_long;
    uint64_t for_us = is_long ? 500000 + world_random(world, 11000000) : 1000 + world_random(world, 700000);
    world_trace(world, "worker %u stands still for %" PRIu64 " ms", worker->slot, for_us / 1000);
    world->oracle.stopped++;
    worker->stop_began_us = world->now_us;
    worker->stopped_us = world->now_us + for_us;
}

/* Dies at one of its next points, or between two heads of lanes. */
static void plan_death(struct world *world, struct worker *worker)
{
    worker->doom = 1 + world_random(world, 12);
    worker->doom_lanes = world_random(world, 2) == 0 ? (unsigned)world_random(world, world->peers) : 0;
}

static void worker_turn(struct world *world, struct worker *worker)
{
    if (!worker->alive) {
        if (worker->restart_us <= world->now_us)
            worker_begins(world, worker);
        return;
    }
    if (worker->stopped_us > world->now_us) {
        if (world->now_us - worker->stop_began_us > REPLACED_US)
            worker_dies(world, worker);
        return;
    }
    if (worker->stopped_us != 0 || !worker->ready)
        worker->ran_since_us = world->now_us;
    worker->stopped_us = 0;
    if (worker->next_us > world->now_us)
        return;
    if (worker->phase == PHASE_RECEIVE)
        worker->turn_parts = parts_of(worker);
    if (!world->calm && worker->phase == PHASE_RECEIVE && world_chance(world, world->weather.kill))
        plan_death(world, worker);
    do {
        worker_run_phase(worker);
        if (worker->doomed) {
            worker_dies(world, worker);
            return;
        }
        worker->phase = (enum worker_phase)((worker->phase + 1) % PHASES);
        if (!world->calm && world_chance(world, world->weather.stop)) {
            stop(world, worker);
            return;
        }
    } while (worker->phase != PHASE_RECEIVE && world_random(world, 50) > 0);
    if (worker->phase == PHASE_RECEIVE) {
        worker->doom = 0;
        worker->next_us = world->now_us + 500 + world_random(world, 3000);
    }
}

/* The run.
 * ------------------------------------------------------------------------------------------------------- */

static void step(struct world *world, uint64_t by_us)
{
    world->now_us += by_us;
    clock_set(world->now_us, REAL_US + world->now_us);
    flights_arrive(world);
    unsigned first = (unsigned)world_random(world, world->peers);
    for (unsigned i = 0; i < world->peers; i++)
        worker_turn(world, &world->workers[(first + i) % world->peers]);
    for (unsigned i = 0; i < world->client_count; i++)
        client_step(&world->clients[i]);
}

static unsigned sessions_in_all(const struct world *world, unsigned client)
{
    unsigned owners = 0;
    for (unsigned slot = 0; slot < world->peers; slot++)
        owners += sessions_of(&world->workers[slot], bytes_of_text(world->clients[client].id));
    return owners;
}

static bool rests(const struct world *world)
{
    bool all = world->flights == NULL;
    for (unsigned slot = 0; slot < world->peers; slot++) {
        const struct worker *worker = &world->workers[slot];
        if (!worker->alive)
            return false;
        all = all && worker->stopped_us == 0 && worker->ready && worker->notices == NULL &&
              session_moves_count(worker->moves) == 0 && wills_pending(worker->wills) == 0;
    }
    for (unsigned i = 0; i < world->client_count; i++)
        all = all && client_rests(&world->clients[i]) && sessions_in_all(world, i) == 1;
    return all;
}

static void check_rest(struct world *world)
{
    for (unsigned slot = 0; slot < world->peers; slot++) {
        const struct worker *worker = &world->workers[slot];
        if (!worker->alive || !worker->ready || session_moves_count(worker->moves) != 0)
            oracle_fail(&world->oracle, "worker %u does not come to rest: alive %d, ready %d, moves %zu",
                slot, worker->alive, worker->ready, session_moves_count(worker->moves));
        if (worker->alive && wills_pending(worker->wills) != 0)
            oracle_fail(&world->oracle, "worker %u still has %u wills to publish", slot,
                wills_pending(worker->wills));
    }
    for (unsigned i = 0; i < world->client_count; i++) {
        if (!client_rests(&world->clients[i]))
            oracle_fail(&world->oracle, "client %u does not come to rest", i);
    }
}

void world_note_places(const struct world *world, struct told *told)
{
    for (unsigned client = 0; client < world->client_count; client++) {
        for (unsigned slot = 0; slot < world->peers; slot++) {
            const struct worker *worker = &world->workers[slot];
            if (worker->alive && sessions_of(worker, bytes_of_text(world->clients[client].id)) > 0)
                told->place[client] = (uint8_t)(slot + 1);
        }
    }
}

/* One owner, and the registrar knows it. */
static void check_owners(struct world *world)
{
    for (unsigned i = 0; i < world->client_count; i++) {
        struct client *client = &world->clients[i];
        struct bytes id = bytes_of_text(client->id);
        unsigned owners = 0;
        for (unsigned slot = 0; slot < world->peers; slot++) {
            owners += sessions_of(&world->workers[slot], id);
            world_trace(world, "in the end worker %u has %u sessions of client %u, stamp %llx, registrar %u",
                slot, sessions_of(&world->workers[slot], id), i,
                (unsigned long long)session_owned(&world->workers[slot], id),
                claims_home(world->workers[slot].claims, id));
        }
        if (owners != 1)
            oracle_fail(&world->oracle, "client %u has %u sessions", i, owners);
        else if (client->connection == NULL || sessions_of(client->connection->worker, id) != 1)
            oracle_fail(&world->oracle, "client %u has its session where it is not", i);
    }
}

bool world_run(struct world *world)
{
    for (unsigned slot = 0; slot < world->peers; slot++)
        worker_begins(world, &world->workers[slot]);
    uint64_t end_us = world->now_us + world->weather.duration_us;
    while (world->now_us < end_us && world->oracle.failure[0] == '\0')
        step(world, 200 + world_random(world, 1500));
    world_trace(world, "calm");
    world->calm = true;
    end_us = world->now_us + REST_US;
    unsigned still = 0; /* a while longer, for what would come too much */
    while (world->now_us < end_us && still < 300 && world->oracle.failure[0] == '\0') {
        step(world, 500 + world_random(world, 2500));
        still = rests(world) ? still + 1 : 0;
    }
    if (world->oracle.failure[0] == '\0') {
        check_rest(world);
        check_owners(world);
        for (unsigned slot = 0; slot < world->peers; slot++)
            world->oracle.lost_counted += world->workers[slot].counters.bus_dropped_acknowledged +
                                          world->workers[slot].counters.dropped_queue_full;
        oracle_check_deliveries(&world->oracle, world->client_count);
    }
    return world->oracle.failure[0] == '\0';
}

void world_done(struct world *world)
{
    for (unsigned slot = 0; slot < world->peers; slot++) {
        if (world->workers[slot].alive)
            worker_destroy(&world->workers[slot]);
        free(world->workers[slot].saved_wills);
        munmap(world->will_maps[slot], WILL_TABLE);
        close(world->will_fds[slot]);
        close(world->route_fds[slot]);
    }
    while (world->flights != NULL) {
        struct flight *flight = world->flights;
        world->flights = flight->next;
        free(flight);
    }
    for (unsigned from = 0; from < world->peers; from++) {
        for (unsigned to = 0; to < world->peers; to++)
            bus_window_unmap(&world->windows[from][to]);
    }
    fake_lanes_free(&world->lanes);
    oracle_done(&world->oracle);
    clock_use_system();
}
