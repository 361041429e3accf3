/*
 * Hierarchical timer wheel. A timer lies in the level of the highest digit (of 6 bits) in which its tick
 * differs from `now`, in the slot of that digit. So every occupied slot lies ahead of now's digit of its
 * level, lower levels come before higher ones, and a slot of a higher level is sorted into the lower ones
 * when `now` reaches its digit. Worker process.
 */
#include "shared/timer_wheel.h"

#include <assert.h>

#define LAST_TICK ((UINT64_C(1) << (TIMER_WHEEL_SLOT_BITS * TIMER_WHEEL_LEVELS)) - 1)

static void place(struct timer_wheel *wheel, struct timer *timer);
static bool next_tick(const struct timer_wheel *wheel, uint64_t *ret_tick);
static void sort_slots(struct timer_wheel *wheel);
static void expire_slot(struct timer_wheel *wheel);

void timer_wheel_init(struct timer_wheel *wheel, uint64_t tick_us, uint64_t now_us)
{
    assert(tick_us > 0);
    wheel->tick_us = tick_us;
    wheel->now = now_us / tick_us;
    assert(wheel->now < LAST_TICK);
    for (unsigned level = 0; level < TIMER_WHEEL_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (unsigned slot = 0; slot < TIMER_WHEEL_SLOTS; slot++)
            list_init(&wheel->slots[level][slot]);
    }
}

void timer_init(struct timer *timer, timer_expired *expired)
{
    *timer = (struct timer){.expired = expired};
    list_init(&timer->link);
}

bool timer_pending(const struct timer *timer)
{
    return !list_empty(&timer->link);
}

static unsigned level_of(const struct timer_wheel *wheel, uint64_t tick)
{
    return (63u - (unsigned)__builtin_clzll((tick ^ wheel->now) | 1)) / TIMER_WHEEL_SLOT_BITS;
}

static unsigned digit(uint64_t tick, unsigned level)
{
    return (unsigned)(tick >> (level * TIMER_WHEEL_SLOT_BITS)) & (TIMER_WHEEL_SLOTS - 1);
}

void timer_wheel_add(struct timer_wheel *wheel, struct timer *timer, uint64_t expires_us)
{
    timer_wheel_cancel(wheel, timer);
    uint64_t tick = expires_us / wheel->tick_us + (expires_us % wheel->tick_us > 0);
    timer->tick = tick <= wheel->now ? wheel->now + 1 : tick > LAST_TICK ? LAST_TICK : tick;
    place(wheel, timer);
}

void timer_wheel_cancel(struct timer_wheel *wheel, struct timer *timer)
{
    if (!timer_pending(timer))
        return;
    list_remove(&timer->link);
    /* While its slot is being expired the timer is on no slot's list, and this slot's bit is 0 already. */
    unsigned level = level_of(wheel, timer->tick);
    unsigned slot = digit(timer->tick, level);
    if (list_empty(&wheel->slots[level][slot]))
        wheel->occupied[level] &= ~(UINT64_C(1) << slot);
}

void timer_wheel_advance(struct timer_wheel *wheel, uint64_t now_us)
{
    uint64_t target = now_us / wheel->tick_us;
    uint64_t tick;
    while (next_tick(wheel, &tick) && tick <= target) {
        wheel->now = tick;
        sort_slots(wheel);
        expire_slot(wheel);
    }
    if (target > wheel->now)
        wheel->now = target;
}

uint64_t timer_wheel_next_us(const struct timer_wheel *wheel)
{
    uint64_t tick, time_us;
    if (!next_tick(wheel, &tick) || __builtin_mul_overflow(tick, wheel->tick_us, &time_us))
        return UINT64_MAX;
    return time_us;
}

static void place(struct timer_wheel *wheel, struct timer *timer)
{
    unsigned level = level_of(wheel, timer->tick);
    unsigned slot = digit(timer->tick, level);
    wheel->occupied[level] |= UINT64_C(1) << slot;
    list_append(&wheel->slots[level][slot], &timer->link);
}

/* The next tick at which a slot is due, for expiry or for sorting: in the lowest level that has one. */
static bool next_tick(const struct timer_wheel *wheel, uint64_t *ret_tick)
{
    for (unsigned level = 0; level < TIMER_WHEEL_LEVELS; level++) {
        if (wheel->occupied[level] == 0)
            continue;
        unsigned shift = level * TIMER_WHEEL_SLOT_BITS;
        uint64_t above = wheel->now >> shift >> TIMER_WHEEL_SLOT_BITS;
        unsigned slot = (unsigned)__builtin_ctzll(wheel->occupied[level]);
        *ret_tick = (above << TIMER_WHEEL_SLOT_BITS | slot) << shift;
        return true;
    }
    return false;
}

/* Spreads the slots that `now` has just reached over the lower levels, the highest level first. */
static void sort_slots(struct timer_wheel *wheel)
{
    for (unsigned level = TIMER_WHEEL_LEVELS - 1; level > 0; level--) {
        unsigned slot = digit(wheel->now, level);
        if (!(wheel->occupied[level] >> slot & 1))
            continue;
        wheel->occupied[level] &= ~(UINT64_C(1) << slot);
        struct list moved;
        list_init(&moved);
        list_splice(&moved, &wheel->slots[level][slot]);
        list_for_each(&moved, link, following)
        {
            list_remove(link);
            place(wheel, list_entry(link, struct timer, link));
        }
    }
}

/* Calls back the slot of level 0 at `now`. The due timers hang on a list of their own meanwhile, so that
   callbacks may cancel any of them. */
static void expire_slot(struct timer_wheel *wheel)
{
    unsigned slot = digit(wheel->now, 0);
    struct list due;
    list_init(&due);
    list_splice(&due, &wheel->slots[0][slot]);
    wheel->occupied[0] &= ~(UINT64_C(1) << slot);
    while (!list_empty(&due)) {
        struct timer *timer = list_entry(due.next, struct timer, link);
        list_remove(&timer->link);
        timer->expired(wheel, timer);
    }
}
