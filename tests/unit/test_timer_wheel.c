/* timer_wheel: never early, never more than a tick late, and callbacks may do anything to any timer. */
#include "shared/timer_wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define TICK_US 50000u

struct owner {
    struct timer timer;
    uint64_t expires_us;
    unsigned fired;
    struct owner *other;
};

static uint64_t clock_us; /* what the last advance was given */

static void advance(struct timer_wheel *wheel, uint64_t now_us)
{
    clock_us = now_us;
    timer_wheel_advance(wheel, now_us);
}

static void on_expired(struct timer_wheel *wheel, struct timer *timer)
{
    (void)wheel;
    struct owner *owner = timer_owner(timer, struct owner, timer);
    assert_false(timer_pending(timer));
    assert_true(owner->expires_us <= clock_us);
    owner->fired++;
}

static void owner_init(struct owner *owner, timer_expired *expired)
{
    *owner = (struct owner){.fired = 0};
    timer_init(&owner->timer, expired);
}

static void add(struct timer_wheel *wheel, struct owner *owner, uint64_t expires_us)
{
    owner->expires_us = expires_us;
    timer_wheel_add(wheel, &owner->timer, expires_us);
}

static void one_timer_fires_once_in_time(void **state)
{
    (void)state;
    static struct timer_wheel wheel;
    struct owner owner;
    timer_wheel_init(&wheel, TICK_US, 1000000);
    owner_init(&owner, on_expired);
    assert_int_equal(timer_wheel_next_us(&wheel), UINT64_MAX);
    add(&wheel, &owner, 1000001);
    assert_true(timer_pending(&owner.timer));
    assert_int_equal(timer_wheel_next_us(&wheel), 1050000);
    advance(&wheel, 1049999);
    assert_int_equal(owner.fired, 0);
    advance(&wheel, 1050000);
    assert_int_equal(owner.fired, 1);
    assert_false(timer_pending(&owner.timer));
    assert_int_equal(timer_wheel_next_us(&wheel), UINT64_MAX);
    advance(&wheel, 9000000);
    assert_int_equal(owner.fired, 1);
}

static void a_time_in_the_past_fires_with_the_next_tick(void **state)
{
    (void)state;
    static struct timer_wheel wheel;
    struct owner owner;
    timer_wheel_init(&wheel, TICK_US, 10 * TICK_US);
    owner_init(&owner, on_expired);
    add(&wheel, &owner, 0);
    advance(&wheel, 10 * TICK_US);
    assert_int_equal(owner.fired, 0);
    advance(&wheel, 11 * TICK_US);
    assert_int_equal(owner.fired, 1);
    advance(&wheel, 5 * TICK_US); /* time that goes back */
    add(&wheel, &owner, 12 * TICK_US);
    assert_int_equal(timer_wheel_next_us(&wheel), 12 * TICK_US);
}

static void cancel_and_move(void **state)
{
    (void)state;
    static struct timer_wheel wheel;
    struct owner owner;
    timer_wheel_init(&wheel, TICK_US, 0);
    owner_init(&owner, on_expired);
    timer_wheel_cancel(&wheel, &owner.timer);
    add(&wheel, &owner, 100 * TICK_US);
    timer_wheel_cancel(&wheel, &owner.timer);
    timer_wheel_cancel(&wheel, &owner.timer);
    assert_int_equal(timer_wheel_next_us(&wheel), UINT64_MAX);
    add(&wheel, &owner, 100 * TICK_US);
    add(&wheel, &owner, 5000 * TICK_US);
    advance(&wheel, 4999 * TICK_US);
    assert_int_equal(owner.fired, 0);
    add(&wheel, &owner, 5001 * TICK_US);
    advance(&wheel, 5000 * TICK_US);
    assert_int_equal(owner.fired, 0);
    advance(&wheel, 5001 * TICK_US);
    assert_int_equal(owner.fired, 1);
}

static void a_time_never_reached_stays(void **state)
{
    (void)state;
    static struct timer_wheel wheel;
    struct owner owner;
    timer_wheel_init(&wheel, 1000, 123456789);
    owner_init(&owner, on_expired);
    add(&wheel, &owner, UINT64_MAX);
    advance(&wheel, UINT64_C(1) << 56);
    assert_true(timer_pending(&owner.timer));
    assert_true(timer_wheel_next_us(&wheel) > UINT64_C(1) << 56);
}

static void on_expired_again(struct timer_wheel *wheel, struct timer *timer)
{
    struct owner *owner = timer_owner(timer, struct owner, timer);
    on_expired(wheel, timer);
    add(wheel, owner, owner->expires_us + 100 * TICK_US);
}

static void a_callback_may_add_its_timer_again(void **state)
{
    (void)state;
    static struct timer_wheel wheel;
    struct owner owner;
    timer_wheel_init(&wheel, TICK_US, 0);
    owner_init(&owner, on_expired_again);
    add(&wheel, &owner, 100 * TICK_US);
    advance(&wheel, 1000 * TICK_US);
    assert_int_equal(owner.fired, 10);
    assert_true(timer_pending(&owner.timer));
}

static void on_expired_frees_both(struct timer_wheel *wheel, struct timer *timer)
{
    struct owner *owner = timer_owner(timer, struct owner, timer);
    if (owner->other != NULL) {
        timer_wheel_cancel(wheel, &owner->other->timer);
        free(owner->other);
    }
    free(owner);
}

/* Two that are due in the same tick: the first frees itself and the second, which hangs on the due list. */
static void a_callback_may_free_any_timer(void **state)
{
    (void)state;
    static struct timer_wheel wheel;
    timer_wheel_init(&wheel, TICK_US, 0);
    struct owner *first = malloc(sizeof *first);
    struct owner *second = malloc(sizeof *second);
    owner_init(first, on_expired_frees_both);
    owner_init(second, on_expired_frees_both);
    first->other = second;
    add(&wheel, first, 700 * TICK_US);
    add(&wheel, second, 700 * TICK_US);
    advance(&wheel, 701 * TICK_US);
    assert_int_equal(timer_wheel_next_us(&wheel), UINT64_MAX);
}

static void on_expired_adds_now(struct timer_wheel *wheel, struct timer *timer)
{
    on_expired(wheel, timer);
    struct owner *owner = timer_owner(timer, struct owner, timer);
    if (owner->other != NULL)
        add(wheel, owner->other, 0);
}

static void a_callback_that_adds_in_the_past_ends(void **state)
{
    (void)state;
    static struct timer_wheel wheel;
    struct owner a, b;
    timer_wheel_init(&wheel, TICK_US, 0);
    owner_init(&a, on_expired_adds_now);
    owner_init(&b, on_expired_adds_now);
    a.other = &b;
    b.other = &a;
    add(&wheel, &a, 1);
    advance(&wheel, 100 * TICK_US);
    assert_int_equal(a.fired + b.fired, 100);
}

/* Against the definition: many timers at random times, added, moved and cancelled between random advances. */
static void random_timers_fire_in_time(void **state)
{
    (void)state;
    enum { COUNT = 500, STEPS = 20000 };
    static struct timer_wheel wheel;
    static struct owner owners[COUNT];
    uint64_t now = 987654321;
    srandom(7);
    timer_wheel_init(&wheel, 1000, now);
    for (int i = 0; i < COUNT; i++)
        owner_init(&owners[i], on_expired);
    for (int step = 0; step < STEPS; step++) {
        struct owner *owner = &owners[random() % COUNT];
        uint64_t span = UINT64_C(1) << random() % 40;
        if (random() % 8 == 0)
            timer_wheel_cancel(&wheel, &owner->timer);
        else
            add(&wheel, owner, now + (uint64_t)random() % span);
        assert_true(timer_wheel_next_us(&wheel) > now - 1000);
        now = random() % 4 > 0 ? now + (uint64_t)random() % 3000 : now + (uint64_t)random() % span;
        advance(&wheel, now);
        for (int i = 0; i < COUNT; i++) {
            if (!timer_pending(&owners[i].timer))
                continue;
            assert_true(owners[i].expires_us + 2000 > now);
            assert_true(timer_wheel_next_us(&wheel) <= owners[i].expires_us + 2000);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_timer_fires_once_in_time),
        cmocka_unit_test(a_time_in_the_past_fires_with_the_next_tick),
        cmocka_unit_test(cancel_and_move),
        cmocka_unit_test(a_time_never_reached_stays),
        cmocka_unit_test(a_callback_may_add_its_timer_again),
        cmocka_unit_test(a_callback_may_free_any_timer),
        cmocka_unit_test(a_callback_that_adds_in_the_past_ends),
        cmocka_unit_test(random_timers_fire_in_time),
    };
    return cmocka_run_group_tests_name("timer_wheel", tests, NULL, NULL);
}
