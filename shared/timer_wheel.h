/*
 * Time-outs without a timer event each: a hierarchical wheel of intrusive timers. Adding, moving and
 * cancelling are O(1) and allocate nothing; advancing costs by what is due. Pure: time is an argument, in
 * microseconds of any clock that never goes back. Worker process; single-threaded.
 *
 * A timer is never early and at most one tick late after the advance that passes it. A time-out that is put
 * off all the time (keep-alive) need not be moved each time: note the activity, and let the callback compare
 * and add again.
 */
#ifndef SHARED_TIMER_WHEEL_H
#define SHARED_TIMER_WHEEL_H

#include "shared/list.h"

#include <stdint.h>

/* 64 slots a level; 8 levels are 2^48 ticks, more than any clock reaches: later times are cut to that. */
#define TIMER_WHEEL_SLOT_BITS 6
#define TIMER_WHEEL_SLOTS     (1u << TIMER_WHEEL_SLOT_BITS)
#define TIMER_WHEEL_LEVELS    8

struct timer_wheel;
struct timer;

/* The timer is pending no more. May add, cancel and free any timer, this one too; must not advance the wheel.
 */
typedef void timer_expired(struct timer_wheel *wheel, struct timer *timer);

/* Embedded in its owner, who finds itself with list_entry-like arithmetic: timer_owner(). 32 bytes. */
struct timer {
    struct list link; /* in a slot of the wheel while pending */
    uint64_t tick;    /* when it expires */
    timer_expired *expired;
};

#define timer_owner(timer, type, member) list_entry(timer, type, member)

struct timer_wheel {
    uint64_t tick_us;
    uint64_t now;                          /* ticks up to and with this one are done */
    uint64_t occupied[TIMER_WHEEL_LEVELS]; /* bit per slot: its list is not empty */
    struct list slots[TIMER_WHEEL_LEVELS][TIMER_WHEEL_SLOTS];
};

/* An empty wheel at time now_us with a resolution of tick_us (at least 1). Must not be moved in memory. */
void timer_wheel_init(struct timer_wheel *wheel, uint64_t tick_us, uint64_t now_us);

/* A timer that is not pending. */
void timer_init(struct timer *timer, timer_expired *expired);
bool timer_pending(const struct timer *timer);

/* Adds a timer, or moves it if it is pending. A time that has passed expires with the next tick. */
void timer_wheel_add(struct timer_wheel *wheel, struct timer *timer, uint64_t expires_us);

/* Harmless if it is not pending. */
void timer_wheel_cancel(struct timer_wheel *wheel, struct timer *timer);

/* Calls back whatever is due at now_us, in the order of ticks. Time that goes back is ignored. */
void timer_wheel_advance(struct timer_wheel *wheel, uint64_t now_us);

/*
 * When to advance next; UINT64_MAX: no timer is pending. Not later than the first expiry's tick, and perhaps
 * earlier (a slot of a higher level is due for sorting), so an advance may find nothing to call.
 */
uint64_t timer_wheel_next_us(const struct timer_wheel *wheel);

#endif
