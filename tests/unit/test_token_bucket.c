/* token_bucket: a second's worth at once, then the rate, and debts are paid in time. */
#include "shared/token_bucket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define SECOND 1000000u

static unsigned tries(struct token_bucket *bucket, double rate, uint64_t now_us)
{
    unsigned count = 0;
    token_bucket_refill(bucket, rate, now_us);
    for (; bucket->tokens >= 1; bucket->tokens--)
        count++;
    return count;
}

static void a_second_s_worth_comes_at_once_and_then_the_rate(void **state)
{
    (void)state;
    struct token_bucket bucket = {0};
    assert_int_equal(tries(&bucket, 10, 5 * SECOND), 10);
    assert_int_equal(tries(&bucket, 10, 5 * SECOND + SECOND / 2), 5);
    assert_int_equal(tries(&bucket, 10, 5 * SECOND + SECOND / 2), 0);
    assert_int_equal(tries(&bucket, 10, 100 * SECOND), 10);
    assert_int_equal(tries(&bucket, 10, 99 * SECOND), 0); /* time that goes back */
}

static void slow_rates_give_one_now_and_then(void **state)
{
    (void)state;
    struct token_bucket bucket = {0};
    assert_int_equal(tries(&bucket, 0.25, SECOND), 1);
    assert_int_equal(tries(&bucket, 0.25, 4 * SECOND), 0);
    assert_int_equal(tries(&bucket, 0.25, 5 * SECOND), 1);
}

static void debts_are_waited_for(void **state)
{
    (void)state;
    struct token_bucket bucket = {0};
    token_bucket_take(&bucket, 1000, SECOND, 900);
    assert_int_equal(token_bucket_wait_us(&bucket, 1000), 0);
    token_bucket_take(&bucket, 1000, SECOND, 600);
    assert_in_range(token_bucket_wait_us(&bucket, 1000), SECOND / 2, SECOND / 2 + 2);
    token_bucket_refill(&bucket, 1000, 2 * SECOND);
    assert_int_equal(token_bucket_wait_us(&bucket, 1000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_s_worth_comes_at_once_and_then_the_rate),
        cmocka_unit_test(slow_rates_give_one_now_and_then),
        cmocka_unit_test(debts_are_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
