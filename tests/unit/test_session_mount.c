/* session_mount: prefixes on, prefixes off. */
#include "node/session_mount.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct session_mount *mount_of(const char *mountpoint, const char *client_id)
{
    struct topic_values values = {.client_id = bytes_of_text(client_id)};
    struct session_mount *mount = NULL;
    enum topic_template_fault fault;
    assert_int_equal(session_mount_new(mountpoint, &values, &mount, &fault), STATUS_OK);
    return mount;
}

static void assert_text(struct bytes found, const char *expected)
{
    assert_true(bytes_equal(found, bytes_of_text(expected)));
}

static void topics_get_it_and_lose_it(void **state)
{
    (void)state;
    uint8_t to[MOUNTED_TOPIC_MAX];
    struct session_mount *mount = mount_of("t/%c/", "dev");
    assert_text(session_mount_topic(mount, bytes_of_text("a/b"), to), "t/dev/a/b");
    assert_text(session_mount_filter(mount, bytes_of_text("#"), to), "t/dev/#");
    assert_text(session_mount_filter(mount, bytes_of_text("$share/g/a/+"), to), "$share/g/t/dev/a/+");
    assert_text(session_mount_strip(mount, bytes_of_text("t/dev/a/b")), "a/b");
    assert_int_equal(session_mount_strip(mount, bytes_of_text("t/dev/")).size, 0);
    assert_int_equal(session_mount_strip(mount, bytes_of_text("t/device/a")).size, 0);
    assert_int_equal(session_mount_strip(mount, bytes_of_text("t")).size, 0);
    free(mount);
}

static void what_is_too_long_is_nothing(void **state)
{
    (void)state;
    static uint8_t to[MOUNTED_TOPIC_MAX], topic[MOUNTED_TOPIC_MAX];
    memset(topic, 'x', sizeof topic);
    struct session_mount *mount = mount_of("abc/", "dev");
    assert_int_equal(session_mount_topic(mount, bytes_of(topic, sizeof topic - 3), to).size, 0);
    assert_int_equal(
        session_mount_topic(mount, bytes_of(topic, sizeof topic - 4), to).size, MOUNTED_TOPIC_MAX);
    free(mount);
}

static void sameness_is_of_the_expanded_text(void **state)
{
    (void)state;
    struct session_mount *mount = mount_of("%c/", "a");
    assert_true(session_mount_is(mount, bytes_of_text("a/")));
    assert_false(session_mount_is(mount, bytes_of_text("b/")));
    assert_false(session_mount_is(mount, BYTES_NONE));
    assert_true(session_mount_is(NULL, BYTES_NONE));
    assert_false(session_mount_is(NULL, bytes_of_text("a/")));
    free(mount);
}

static void names_that_do_not_fit_a_level_are_refused(void **state)
{
    (void)state;
    struct topic_values values = {.client_id = bytes_of_text("a/b"), .user = bytes_of_text("\xff")};
    struct session_mount *mount = NULL;
    enum topic_template_fault fault = TOPIC_TEMPLATE_FINE;
    assert_int_equal(session_mount_new("%c/", &values, &mount, &fault), STATUS_INVALID);
    assert_int_equal(fault, TOPIC_TEMPLATE_CLIENT_ID);
    assert_int_equal(session_mount_new("%u/", &values, &mount, &fault), STATUS_INVALID);
    assert_int_equal(fault, TOPIC_TEMPLATE_USER);
    assert_null(mount);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(topics_get_it_and_lose_it),
        cmocka_unit_test(what_is_too_long_is_nothing),
        cmocka_unit_test(sameness_is_of_the_expanded_text),
        cmocka_unit_test(names_that_do_not_fit_a_level_are_refused),
    };
    return cmocka_run_group_tests_name("session_mount", tests, NULL, NULL);
}
