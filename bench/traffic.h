/* The scenarios in which messages flow: p2p, fanout, fanin. */
#ifndef BENCH_TRAFFIC_H
#define BENCH_TRAFFIC_H

#include "bench/histogram.h"
#include "bench/target.h"

enum traffic_kind { TRAFFIC_P2P, TRAFFIC_FANOUT, TRAFFIC_FANIN };

struct traffic_result {
    uint64_t sent, received, expected, doubled, gaps; /* of the whole run */
    double seconds;                                   /* measured span, and in it: */
    uint64_t delivered;
    uint64_t broker_cpu_us;
    uint64_t own_cpu_us;
    struct histogram latency_us;
};

/* Runs it once against the target. False: it could not be run; a message was printed. */
bool traffic_run(enum traffic_kind kind, const struct options *options, const struct target *target,
    struct traffic_result *ret_result);

#endif
