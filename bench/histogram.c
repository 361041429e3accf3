/* Log-linear histogram: 32 linear steps per power of two. */
#include "bench/histogram.h"

static unsigned bucket_of(uint64_t value)
{
    if (value < 32)
        return (unsigned)value;
    unsigned power = 63u - (unsigned)__builtin_clzll(value);
    return (power - 4) * 32 + (unsigned)((value >> (power - 5)) & 31);
}

static uint64_t value_of(unsigned bucket)
{
    if (bucket < 32)
        return bucket;
    unsigned power = bucket / 32 + 4;
    return (UINT64_C(32) + bucket % 32) << (power - 5);
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    if (histogram->count == 0 || value < histogram->min)
        histogram->min = value;
    if (value > histogram->max)
        histogram->max = value;
    histogram->count++;
    histogram->buckets[bucket_of(value)]++;
}

uint64_t histogram_quantile(const struct histogram *histogram, double part)
{
    if (histogram->count == 0)
        return 0;
    uint64_t rank = (uint64_t)(part * (double)(histogram->count - 1)) + 1;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen >= rank)
            return value_of(i) > histogram->max ? histogram->max : value_of(i);
    }
    return histogram->max;
}
