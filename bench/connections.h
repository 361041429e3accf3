/* The scenarios about connections: handshake (connect, CONNECT, disconnect, again) and idle (hold many). */
#ifndef BENCH_CONNECTIONS_H
#define BENCH_CONNECTIONS_H

#include "bench/histogram.h"
#include "bench/target.h"

struct handshake_result {
    double seconds;
    uint64_t done, resumed;
    uint64_t broker_cpu_us;
    uint64_t own_cpu_us;
    struct histogram latency_us; /* connect() to CONNACK */
};

bool handshake_run(
    const struct options *options, const struct target *target, struct handshake_result *ret_result);

struct idle_result {
    uint32_t connections;
    uint64_t pss_before, pss_held, pss_after; /* bytes of the broker's tree; after: 5 s after they left */
    uint64_t private_before, private_held, private_after;
    double cpu_share; /* of one core, while they were held */
};

bool idle_run(const struct options *options, const struct target *target, struct idle_result *ret_result);

#endif
