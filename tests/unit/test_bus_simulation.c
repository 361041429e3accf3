/*
 * The rules of the bus, shown without a broker: two and four workers in one process over a carrier that
 * delays, loses and repeats (odd seeds) or only wakes (even seeds); workers that stop, die at any step (a head of some lanes stored, of others not)
 * and come back; clients that wander. One seed is one run.
 *
 *   test_bus_simulation                 three hundred runs with the seeds 1, 2, …
 *   test_bus_simulation --runs N [--from S]
 *   test_bus_simulation --seed N        replays one and tells what happens
 */
#include "tests/unit/simulation/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define RUNS 300

static void add(struct oracle *sum, const struct oracle *one)
{
    sum->moved += one->moved;
    sum->late_parts += one->late_parts;
    sum->late_doubles += one->late_doubles;
    sum->takeovers += one->takeovers;
    sum->killed += one->killed;
    sum->stopped += one->stopped;
    sum->forgiven_lost += one->forgiven_lost;
    sum->wills += one->wills;
    sum->acknowledged += one->acknowledged;
    sum->delivered += one->delivered;
    sum->forgiven += one->forgiven;
    sum->lost_counted += one->lost_counted;
    if (sum->longest_connect_us < one->longest_connect_us)
        sum->longest_connect_us = one->longest_connect_us;
    if (sum->longest_subscribe_us < one->longest_subscribe_us)
        sum->longest_subscribe_us = one->longest_subscribe_us;
    if (sum->longest_publish_us < one->longest_publish_us)
        sum->longest_publish_us = one->longest_publish_us;
}

static bool run(uint64_t seed, bool trace, struct oracle *sum)
{
    struct world *world = malloc(sizeof *world);
    world_init(world, seed, trace);
    bool good = world_run(world);
    if (!good)
        fprintf(stderr, "seed %" PRIu64 ": %s\n", seed, world->oracle.failure);
    add(sum, &world->oracle);
    world_done(world);
    free(world);
    return good;
}

int main(int argc, char **argv)
{
    uint64_t runs = RUNS, from = 1, failed = 0;
    bool trace = false;
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t value = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--runs") == 0) {
            runs = value;
        } else if (strcmp(argv[i], "--from") == 0) {
            from = value;
        } else if (strcmp(argv[i], "--seed") == 0) {
            from = value;
            runs = 1;
            trace = true;
        }
    }
    struct oracle sum = {0};
    for (uint64_t seed = from; seed < from + runs; seed++)
        failed += !run(seed, trace, &sum);
    printf("%" PRIu64 " runs: %" PRIu64 " publications acknowledged, %" PRIu64 " deliveries, %" PRIu64
           " lost and counted, %" PRIu64 " forgiven; %" PRIu64 " doubles of late parts; %" PRIu64
           " sessions taken out, %" PRIu64 " moved, %" PRIu64 " late; %" PRIu64
           " wills; workers killed %" PRIu64 ", stopped %" PRIu64 "; longest wait for CONNACK %" PRIu64
           ", SUBACK %" PRIu64 ", PUBACK %" PRIu64 " ms; %" PRIu64 " failed\n",
        runs, sum.acknowledged, sum.delivered, sum.lost_counted, sum.forgiven_lost, sum.late_doubles,
        sum.takeovers, sum.moved, sum.late_parts, sum.wills, sum.killed, sum.stopped,
        sum.longest_connect_us / 1000, sum.longest_subscribe_us / 1000, sum.longest_publish_us / 1000,
        failed);
    return failed == 0 ? 0 : 1;
}
