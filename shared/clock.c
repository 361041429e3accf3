/* The one source of time: the system's clocks, or values that a test has set. Any process. */
#include "shared/clock.h"

#include <stdbool.h>
#include <time.h>

static struct {
    bool set; /* a test or simulation owns the time */
    uint64_t monotonic_us;
    uint64_t real_us;
} fixed;

static uint64_t read_us(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_monotonic_us(void)
{
    return fixed.set ? fixed.monotonic_us : read_us(CLOCK_MONOTONIC);
}

uint64_t clock_real_us(void)
{
    return fixed.set ? fixed.real_us : read_us(CLOCK_REALTIME);
}

void clock_set(uint64_t monotonic_us, uint64_t real_us)
{
    fixed.set = true;
    fixed.monotonic_us = monotonic_us;
    fixed.real_us = real_us;
}

void clock_use_system(void)
{
    fixed.set = false;
}
