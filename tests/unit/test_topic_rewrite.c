/* topic_rewrite: which rule decides, what it makes, and what hostile topics cost. */
#include "shared/topic_rewrite.h"

#include "shared/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define PUB TOPIC_REWRITE_PUBLISH
#define SUB TOPIC_REWRITE_SUBSCRIBE
#define ALL (TOPIC_REWRITE_PUBLISH | TOPIC_REWRITE_SUBSCRIBE)
#define RULES(...)                                                                                           \
    (const struct topic_rewrite_rule[]){__VA_ARGS__},                                                        \
        sizeof((const struct topic_rewrite_rule[]){__VA_ARGS__}) / sizeof(struct topic_rewrite_rule)

static struct topic_rewrite *made(const struct topic_rewrite_rule *rules, size_t count)
{
    struct topic_rewrite *rewrite = NULL;
    assert_int_equal(topic_rewrite_new(rules, count, &rewrite), STATUS_OK);
    return rewrite;
}

typedef enum topic_rewrite_result (*rewriter)(
    struct topic_rewrite *rewrite, const struct topic_values *values, struct bytes *topic);

/* NULL: it must fail. */
static void assert_becomes(
    struct topic_rewrite *rewrite, rewriter apply, const char *from, const char *expected)
{
    struct topic_values values = {.client_id = bytes_of_text("dev1"), .user = bytes_of_text("anna")};
    struct bytes topic = bytes_of_text(from);
    enum topic_rewrite_result result = apply(rewrite, &values, &topic);
    if (expected == NULL) {
        assert_int_equal(result, TOPIC_REWRITE_FAILED);
        expected = from;
    } else {
        assert_int_equal(result, strcmp(from, expected) == 0 ? TOPIC_REWRITE_SAME : TOPIC_REWRITE_CHANGED);
    }
    if (!bytes_equal(topic, bytes_of_text(expected)))
        fail_msg("%s became %.*s, not %s", from, (int)topic.size, (const char *)topic.data, expected);
}

/* The example of EMQX's own manual. */
static void the_last_matching_source_decides_alone(void **state)
{
    (void)state;
    struct topic_rewrite *rewrite = made(RULES({ALL, "y/+/z/#", "^y/(.+)/z/(.+)$", "y/z/$2"},
        {ALL, "x/#", "^x/y/(.+)$", "z/y/x/$1"}, {ALL, "x/y/+", "^x/y/(\\d+)$", "z/y/$1"}));
    assert_becomes(rewrite, topic_rewrite_name, "y/a/z/b", "y/z/b");
    assert_becomes(rewrite, topic_rewrite_name, "y/def", "y/def");
    assert_becomes(rewrite, topic_rewrite_name, "x/1/2", "x/1/2");
    assert_becomes(rewrite, topic_rewrite_name, "x/y/2", "z/y/2");
    assert_becomes(rewrite, topic_rewrite_name, "x/y/z", "x/y/z"); /* the third alone is asked */
    assert_becomes(rewrite, topic_rewrite_name, "x/y/z/a", "z/y/x/z/a");
    assert_becomes(rewrite, topic_rewrite_filter, "y/+/z/#", "y/z/#");
    assert_becomes(rewrite, topic_rewrite_filter, "x/y/+/+", "z/y/x/+/+");
    assert_becomes(rewrite, topic_rewrite_filter, "$share/g/x/y/7", "$share/g/z/y/7");
    topic_rewrite_free(&rewrite);
    assert_null(rewrite);
}

static void actions_are_apart(void **state)
{
    (void)state;
    struct topic_rewrite *rewrite =
        made(RULES({PUB, "a", "^a$", "published"}, {SUB, "a", "^a$", "subscribed"}, {SUB, "b", "^b$", "c"}));
    assert_becomes(rewrite, topic_rewrite_name, "a", "published");
    assert_becomes(rewrite, topic_rewrite_filter, "a", "subscribed");
    assert_becomes(rewrite, topic_rewrite_name, "b", "b");
    topic_rewrite_free(&rewrite);
}

static void destinations_have_groups_and_names(void **state)
{
    (void)state;
    struct topic_rewrite *rewrite = made(RULES({ALL, "g/#", "^g/(.)(.)(.)?(z)?$", "$2/$1/$3|$4$$5/$"},
        {ALL, "n/#", "^n/", "of/%u/%c/50%"}, {ALL, "many/#", "(.)(.)(.)(.)/(.)(.)(.)(.)(.)(.)(.)", "$9$1"}));
    assert_becomes(rewrite, topic_rewrite_name, "g/abc", "b/a/c|$/$");
    assert_becomes(rewrite, topic_rewrite_name, "g/ab", "b/a/|$/$");
    assert_becomes(rewrite, topic_rewrite_name, "n/x", "of/anna/dev1/50%");
    assert_becomes(rewrite, topic_rewrite_name, "many/1234567", "5m");
    topic_rewrite_free(&rewrite);
}

static void what_comes_out_must_be_a_topic(void **state)
{
    (void)state;
    struct topic_rewrite *rewrite = made(RULES({PUB, "wild/+", "^wild/(.+)$", "$1/#"},
        {ALL, "empty/#", "x(.*)$", "$1"}, {ALL, "dollar/#", "^dollar/(.*)$", "$1"},
        {SUB, "filter/#", "^filter/(.+)$", "a$1"}, {ALL, "user/#", ".", "%u/x"}));
    assert_becomes(rewrite, topic_rewrite_name, "wild/x", NULL);
    assert_becomes(rewrite, topic_rewrite_name, "empty/x", NULL);
    assert_becomes(rewrite, topic_rewrite_name, "dollar/$SYS/x", NULL);
    assert_becomes(rewrite, topic_rewrite_filter, "dollar/$share/g/x", NULL);
    assert_becomes(rewrite, topic_rewrite_filter, "filter/+", NULL); /* a+ */
    assert_becomes(rewrite, topic_rewrite_filter, "filter/b", "ab");
    static const char *const wide[] = {"+", "#", "a/b", ""};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        struct topic_values values = {.user = bytes_of_text(wide[i])};
        struct bytes topic = bytes_of_text("user/1");
        assert_int_equal(topic_rewrite_filter(rewrite, &values, &topic), TOPIC_REWRITE_FAILED);
    }
    topic_rewrite_free(&rewrite);
}

static void a_line_end_evades_nothing(void **state)
{
    (void)state;
    struct topic_rewrite *rewrite = made(RULES({ALL, "a/#", "^a/(.+)$", "b/$1"}, {ALL, "c/#", "^c/x$", "d"}));
    assert_becomes(rewrite, topic_rewrite_name, "a/\nx", "b/\nx");
    assert_becomes(rewrite, topic_rewrite_name, "c/x\n", "c/x\n");
    assert_becomes(rewrite, topic_rewrite_name, "a/\xc3\xa4", "b/\xc3\xa4");
    topic_rewrite_free(&rewrite);
}

static void hostile_topics_cost_little_and_are_refused(void **state)
{
    (void)state;
    static char topic[60001], result[65536];
    struct topic_rewrite *rewrite =
        made(RULES({ALL, "a/#", "^a/(a+)+$", "b"}, {ALL, "long/#", "^long/(.*)$", "longer/prefix/$1"}));
    memset(topic, 'a', 60000);
    topic[1] = '/';
    topic[59999] = '!';
    uint64_t begin_us = clock_monotonic_us();
    for (unsigned i = 0; i < 20; i++)
        assert_becomes(rewrite, topic_rewrite_name, topic, NULL);
    uint64_t took_us = (clock_monotonic_us() - begin_us) / 20;
    printf("a hostile topic takes %u us\n", (unsigned)took_us);
    assert_true(took_us < 50000);
    memcpy(topic, "long/", 5);
    snprintf(result, sizeof result, "longer/prefix/%s", topic + 5);
    assert_becomes(rewrite, topic_rewrite_name, topic, result);
    topic_rewrite_free(&rewrite);
    static char most[65536];
    memset(most, 'a', 65535);
    memcpy(most, "long/", 5);
    rewrite = made(RULES({ALL, "long/#", "^long/(.*)$", "longer/prefix/$1"}));
    assert_becomes(rewrite, topic_rewrite_name, most, NULL); /* would be too long */
    topic_rewrite_free(&rewrite);
}

static void expressions_are_checked(void **state)
{
    (void)state;
    char error[TOPIC_REWRITE_ERROR_SIZE] = "";
    assert_int_equal(topic_rewrite_check("^a/(.+)/([0-9]+)$", "$2/$1", error), STATUS_OK);
    assert_int_equal(topic_rewrite_check("^a/(.+$", "b", error), STATUS_INVALID);
    assert_non_null(strstr(error, "parenthesis"));
    assert_non_null(strstr(error, "at character 7"));
    assert_int_equal(topic_rewrite_check("^a/(.+)$", "b/$2", error), STATUS_INVALID);
    assert_non_null(strstr(error, "1 groups"));
    struct topic_rewrite *rewrite = NULL;
    assert_int_equal(topic_rewrite_new(RULES({ALL, "a", "(", "b"}), &rewrite), STATUS_INVALID);
    assert_null(rewrite);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_matching_source_decides_alone),
        cmocka_unit_test(actions_are_apart),
        cmocka_unit_test(destinations_have_groups_and_names),
        cmocka_unit_test(what_comes_out_must_be_a_topic),
        cmocka_unit_test(a_line_end_evades_nothing),
        cmocka_unit_test(hostile_topics_cost_little_and_are_refused),
        cmocka_unit_test(expressions_are_checked),
    };
    return cmocka_run_group_tests_name("topic_rewrite", tests, NULL, NULL);
}
