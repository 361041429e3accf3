/*
 * A rate limit: tokens come at a steady rate and gather up to one second's worth. Who takes more than there
 * are waits until the debt is paid. Pure: rate (per second, above 0) and time are arguments.
 */
#ifndef SHARED_TOKEN_BUCKET_H
#define SHARED_TOKEN_BUCKET_H

#include <stdint.h>

struct token_bucket { /* zeroed: full, from its first use on */
    double tokens;    /* below 0: a debt */
    uint64_t at_us;   /* monotonic, of the last refill; 0: never */
};

static inline void token_bucket_refill(struct token_bucket *bucket, double rate, uint64_t now_us)
{
    double most = rate < 1 ? 1 : rate;
    if (bucket->at_us == 0)
        bucket->tokens = most;
    else if (now_us > bucket->at_us)
        bucket->tokens += rate * (double)(now_us - bucket->at_us) / 1e6;
    if (bucket->tokens > most)
        bucket->tokens = most;
    bucket->at_us = now_us == 0 ? 1 : now_us;
}

/* Takes them, into debt if need be. */
static inline void token_bucket_take(struct token_bucket *bucket, double rate, uint64_t now_us, double amount)
{
    token_bucket_refill(bucket, rate, now_us);
    bucket->tokens -= amount;
}

/* Microseconds until there is no debt. */
static inline uint64_t token_bucket_wait_us(const struct token_bucket *bucket, double rate)
{
    return bucket->tokens >= 0 ? 0 : (uint64_t)(-bucket->tokens / rate * 1e6) + 1;
}

#endif
