/* awaiting_release: a set, whichever shape it has. */
#include "node/awaiting_release.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void sum(void *context, uint16_t packet_id)
{
    *(uint64_t *)context += packet_id;
}

/* Adds `many` identifiers, removes every other one, looks at all. */
static void fill_and_look(uint32_t many)
{
    struct awaiting_release awaiting;
    uint64_t expected = 0, found = 0;
    memset(&awaiting, 0, sizeof awaiting);
    for (uint32_t id = 1; id <= many; id++)
        assert_int_equal(awaiting_add(&awaiting, (uint16_t)id), STATUS_OK);
    assert_int_equal(awaiting.count, many);
    for (uint32_t id = 1; id <= many; id += 2) {
        assert_true(awaiting_remove(&awaiting, (uint16_t)id));
        assert_false(awaiting_remove(&awaiting, (uint16_t)id));
    }
    for (uint32_t id = 1; id <= many; id++) {
        assert_int_equal(awaiting_has(&awaiting, (uint16_t)id), id % 2 == 0);
        expected += id % 2 == 0 ? id : 0;
    }
    awaiting_for_each(&awaiting, sum, &found);
    assert_int_equal(found, expected);
    for (uint32_t id = 2; id <= many; id += 2)
        assert_true(awaiting_remove(&awaiting, (uint16_t)id));
    assert_int_equal(awaiting.count, 0);
    awaiting_clear(&awaiting);
}

static void holds_few(void **state)
{
    (void)state;
    fill_and_look(5);
    fill_and_look(64);
}

static void holds_many(void **state)
{
    (void)state;
    fill_and_look(65);
    fill_and_look(65535);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(holds_few), cmocka_unit_test(holds_many)};
    return cmocka_run_group_tests_name("awaiting_release", tests, NULL, NULL);
}
