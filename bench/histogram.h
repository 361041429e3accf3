/* Latencies in buckets whose width is at most 1/32 of the value: quantiles to 3 %. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKETS (64 * 32)

struct histogram {
    uint64_t buckets[HISTOGRAM_BUCKETS];
    uint64_t count, min, max;
};

void histogram_add(struct histogram *histogram, uint64_t value);
/* The value below which this part (0…1) of all lies; 0 when empty. */
uint64_t histogram_quantile(const struct histogram *histogram, double part);

#endif
