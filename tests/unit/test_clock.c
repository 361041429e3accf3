/* clock: a test owns the time once it has set it. */
#include "shared/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void set_time_stands_still(void **state)
{
    (void)state;
    clock_set(5, 7);
    assert_int_equal(clock_monotonic_us(), 5);
    assert_int_equal(clock_real_us(), 7);
    clock_use_system();
    assert_true(clock_real_us() > 1500000000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(set_time_stands_still)};
    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
