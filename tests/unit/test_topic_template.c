/* topic_template: what placeholders become, and what they must never become. */
#include "shared/topic_template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const struct topic_values nobody;

static enum topic_template_fault expand(
    const char *text, const struct topic_values *values, const char *expected)
{
    uint8_t to[64];
    size_t size = 999;
    enum topic_template_fault fault =
        topic_template_expand(bytes_of_text(text), values, to, sizeof to, &size);
    if (fault == TOPIC_TEMPLATE_FINE)
        assert_true(bytes_equal(bytes_of(to, size), bytes_of_text(expected)));
    else
        assert_int_equal(size, 999);
    return fault;
}

static struct topic_values values_of(const char *client_id, const char *user, const char *host)
{
    return (struct topic_values){bytes_of_text(client_id), bytes_of_text(user), bytes_of_text(host)};
}

static void placeholders_become_values(void **state)
{
    (void)state;
    struct topic_values values = values_of("dev1", "anna", "::1");
    assert_int_equal(expand("a/%c/%u/%h/b", &values, "a/dev1/anna/::1/b"), TOPIC_TEMPLATE_FINE);
    assert_int_equal(expand("%c%u/+/#", &values, "dev1anna/+/#"), TOPIC_TEMPLATE_FINE);
    assert_int_equal(expand("100%/%x/%%c/%", &values, "100%/%x/%dev1/%"), TOPIC_TEMPLATE_FINE);
    assert_int_equal(expand("plain", &nobody, "plain"), TOPIC_TEMPLATE_FINE);
    assert_int_equal(expand("", &nobody, ""), TOPIC_TEMPLATE_FINE);
}

static void values_do_not_widen_what_is_written(void **state)
{
    (void)state;
    static const char *const wide[] = {"+", "#", "a+", "a/b", "/", "a#", ""};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        struct topic_values values = values_of(wide[i], wide[i], wide[i]);
        assert_int_equal(expand("a/%c", &values, NULL), TOPIC_TEMPLATE_CLIENT_ID);
        assert_int_equal(expand("a/%u", &values, NULL), TOPIC_TEMPLATE_USER);
        assert_int_equal(expand("a/%h", &values, NULL), TOPIC_TEMPLATE_HOST);
        assert_int_equal(expand("a/b", &values, "a/b"), TOPIC_TEMPLATE_FINE);
    }
    assert_int_equal(expand("a/%u", &nobody, NULL), TOPIC_TEMPLATE_USER);
    struct topic_values dollar = values_of("$SYS", NULL, NULL);
    assert_int_equal(expand("%c/", &dollar, NULL), TOPIC_TEMPLATE_CLIENT_ID);
    assert_int_equal(expand("a/%c", &dollar, "a/$SYS"), TOPIC_TEMPLATE_FINE);
}

static void long_values_do_not_fit(void **state)
{
    (void)state;
    char text[61] = "";
    memset(text, 'x', 60);
    struct topic_values values = values_of(text, NULL, NULL);
    char expected[65] = "";
    snprintf(expected, sizeof expected, "1234%s", text);
    assert_int_equal(expand("1234%c", &values, expected), TOPIC_TEMPLATE_FINE);
    assert_int_equal(expand("12345%c", &values, NULL), TOPIC_TEMPLATE_LENGTH);
}

static void templates_are_checked_before_they_are_used(void **state)
{
    (void)state;
    static const char *const filters[] = {"a/%c/#", "%c", "+/%u", "$share/g/%c/+", "#"};
    static const char *const no_filters[] = {"", "a/%c+", "%u#", "a/#/b", "$share/g/"};
    static const char *const prefixes[] = {"a/", "%c/", "tenants/%u/x/"};
    static const char *const no_prefixes[] = {"", "a", "%c", "a/+/", "#/", "$SYS/", "$share/g/a/"};
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        assert_true(topic_template_is_filter(bytes_of_text(filters[i])));
    for (size_t i = 0; i < sizeof no_filters / sizeof *no_filters; i++)
        assert_false(topic_template_is_filter(bytes_of_text(no_filters[i])));
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        assert_true(topic_template_is_prefix(bytes_of_text(prefixes[i])));
    for (size_t i = 0; i < sizeof no_prefixes / sizeof *no_prefixes; i++)
        assert_false(topic_template_is_prefix(bytes_of_text(no_prefixes[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(placeholders_become_values),
        cmocka_unit_test(values_do_not_widen_what_is_written),
        cmocka_unit_test(long_values_do_not_fit),
        cmocka_unit_test(templates_are_checked_before_they_are_used),
    };
    return cmocka_run_group_tests_name("topic_template", tests, NULL, NULL);
}
