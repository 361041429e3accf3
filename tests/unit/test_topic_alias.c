/* topic_alias: what the client set is found again; what we give is given once, and only for topics that are
 * worth it. */
#include "node/topic_alias.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void inward_aliases_stand_for_what_was_set_last(void **state)
{
    (void)state;
    struct topic_aliases_in *aliases = topic_aliases_in_new(2);
    struct bytes topic = BYTES_NONE;
    assert_int_equal(topic_aliases_in_resolve(aliases, 1, &topic), STATUS_NOT_FOUND);
    assert_int_equal(topic_aliases_in_resolve(aliases, 0, &topic), STATUS_LIMIT);
    assert_int_equal(topic_aliases_in_resolve(aliases, 3, &topic), STATUS_LIMIT);
    topic = bytes_of_text("a/b");
    assert_int_equal(topic_aliases_in_resolve(aliases, 2, &topic), STATUS_OK);
    topic = bytes_of_text("c");
    assert_int_equal(topic_aliases_in_resolve(aliases, 2, &topic), STATUS_OK);
    topic = BYTES_NONE;
    assert_int_equal(topic_aliases_in_resolve(aliases, 2, &topic), STATUS_OK);
    assert_true(bytes_equal(topic, bytes_of_text("c")));
    topic_aliases_in_free(&aliases);
    assert_null(aliases);
}

static void outward_aliases_are_given_once(void **state)
{
    (void)state;
    assert_null(topic_aliases_out_new(0));
    struct topic_aliases_out *aliases = topic_aliases_out_new(2);
    struct bytes first = bytes_of_text("first/topic"), second = bytes_of_text("second/topic");
    assert_int_equal(topic_aliases_out_find(aliases, first), 0);
    assert_int_equal(topic_aliases_out_next(aliases, bytes_of_text("a/b")), 0); /* shorter than an alias */
    assert_int_equal(topic_aliases_out_next(aliases, first), 1);
    topic_aliases_out_note(aliases, first);
    assert_int_equal(topic_aliases_out_find(aliases, first), 1);
    assert_int_equal(topic_aliases_out_next(aliases, second), 2);
    topic_aliases_out_note(aliases, second);
    assert_int_equal(topic_aliases_out_find(aliases, second), 2);
    assert_int_equal(topic_aliases_out_next(aliases, bytes_of_text("third/topic")), 0);
    topic_aliases_out_free(&aliases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inward_aliases_stand_for_what_was_set_last),
        cmocka_unit_test(outward_aliases_are_given_once),
    };
    return cmocka_run_group_tests_name("topic_alias", tests, NULL, NULL);
}
