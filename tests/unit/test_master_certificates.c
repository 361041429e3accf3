/* Warnings about certificates that end: each threshold once, the gravest if several are passed at a time. */
#include "node/master_certificates.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define DAY 86400

static void each_threshold_is_passed_once(void **state)
{
    (void)state;
    unsigned told[31] = {0};
    for (int64_t left = 40 * DAY; left > -5 * DAY; left -= 3600) {
        uint32_t days = master_certificates_threshold(left, left - 3600);
        if (days != UINT32_MAX)
            told[days]++;
    }
    for (unsigned days = 0; days <= 30; days++)
        assert_int_equal(told[days], days == 0 || days == 1 || days == 7 || days == 30);
}

static void the_gravest_counts(void **state)
{
    (void)state;
    assert_int_equal(master_certificates_threshold(40 * DAY, 40 * DAY), UINT32_MAX);
    assert_int_equal(master_certificates_threshold(40 * DAY, 5 * DAY), 7); /* the machine was asleep */
    assert_int_equal(master_certificates_threshold(40 * DAY, -1), 0);
    assert_int_equal(master_certificates_threshold(5 * DAY, 4 * DAY), UINT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_threshold_is_passed_once),
        cmocka_unit_test(the_gravest_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
