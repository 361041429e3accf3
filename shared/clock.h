/*
 * The one source of time, so that tests and simulations can set it. Any process.
 * Monotonic time drives time-outs; real time stamps what crosses restarts and nodes (expiry, hybrid clock).
 */
#ifndef SHARED_CLOCK_H
#define SHARED_CLOCK_H

#include <stdint.h>

/* Microseconds of CLOCK_MONOTONIC. */
uint64_t clock_monotonic_us(void);

/* Microseconds since 1970 of CLOCK_REALTIME. */
uint64_t clock_real_us(void);

/* From now on both clocks stand at these values until set again. For tests and simulations only. */
void clock_set(uint64_t monotonic_us, uint64_t real_us);

/* Back to the system's clocks. */
void clock_use_system(void);

#endif
