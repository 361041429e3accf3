/* delayed_topic: what is one, and what only looks like one. */
#include "shared/delayed_topic.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void assert_parsed(const char *text, uint32_t expected, const char *expected_topic)
{
    uint32_t seconds = 77;
    struct bytes topic = BYTES_NONE;
    assert_true(delayed_topic_parse(bytes_of_text(text), &seconds, &topic));
    assert_int_equal(seconds, expected);
    assert_true(bytes_equal(topic, bytes_of_text(expected_topic)));
}

static void seconds_and_topic_are_found(void **state)
{
    (void)state;
    assert_parsed("$delayed/5/a/b", 5, "a/b");
    assert_parsed("$delayed/0/a", 0, "a");
    assert_parsed("$delayed/007//", 7, "/");
    assert_parsed("$delayed/42949670/a", 42949670, "a");
    assert_parsed("$delayed/000000000000000000000000001/a", 1, "a");
}

static void others_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"$delayed/42949671/a", "$delayed/99999999999999999999999/a",
        "$delayed//a", "$delayed/5", "$delayed/5/", "$delayed/-5/a", "$delayed/+5/a", "$delayed/5s/a",
        "$delayed/ 5/a", "$delayed/1.5/a", "$delayed/5/$SYS/a", "$delayed/5/$delayed/5/a", "$delayed/",
        "$delayed", "$delaye/5/a", "a", "delayed/5/a"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint32_t seconds = 77;
        struct bytes topic = BYTES_NONE;
        assert_false(delayed_topic_parse(bytes_of_text(wrong[i]), &seconds, &topic));
        assert_int_equal(seconds, 77);
        assert_int_equal(topic.size, 0);
    }
    assert_true(delayed_topic_is(bytes_of_text("$delayed/")));
    assert_false(delayed_topic_is(bytes_of_text("$delayedx/5/a")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seconds_and_topic_are_found),
        cmocka_unit_test(others_are_refused),
    };
    return cmocka_run_group_tests_name("delayed_topic", tests, NULL, NULL);
}
