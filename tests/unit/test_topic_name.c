/* topic_name: UTF-8, names, filters, shared filters and matching, with the specification's own examples. */
#include "shared/topic_name.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static bool utf8(const char *text)
{
    return utf8_valid(bytes_of_text(text));
}

static bool name(const char *text)
{
    return topic_name_valid(bytes_of_text(text));
}

static bool filter(const char *text)
{
    return topic_filter_valid(bytes_of_text(text));
}

static bool matches(const char *filter_text, const char *topic)
{
    return topic_filter_matches(bytes_of_text(filter_text), bytes_of_text(topic));
}

static void utf8_takes_every_well_formed_form(void **state)
{
    (void)state;
    assert_true(utf8(""));
    assert_true(utf8("plain"));
    assert_true(utf8("\x01\x7f"));
    assert_true(utf8("\xc2\x80\xdf\xbf"));
    assert_true(utf8("\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"));
    assert_true(utf8("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"));
    assert_true(utf8("\xef\xbb\xbfmark"));
}

static void utf8_refuses_every_ill_formed_form(void **state)
{
    (void)state;
    static const char *const bad[] = {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2 ", "\xe0\x9f\xbf",
        "\xe0\xa0", "\xe1\x80 ", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80", "\xff", "\xf0\x90\x80", "\xe2\x82\xc2\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(utf8(bad[i]));
    assert_false(utf8_valid(bytes_of("a\0b", 3)));
    assert_false(utf8_valid(bytes_of("\0", 1)));
}

/* Every size around the vector width, every position, each kind of bad byte: with a copy of exactly that size
   on the heap, so that a read behind the end is found by the sanitizer. */
static void a_bad_byte_is_found_wherever_it_stands(void **state)
{
    (void)state;
    for (size_t size = 1; size <= 70; size++) {
        uint8_t *text = malloc(size);
        memset(text, 'a', size);
        assert_true(topic_name_valid(bytes_of(text, size)));
        for (size_t i = 0; i < size; i++) {
            static const uint8_t bad[] = {0, 0x80, 0xff, '+', '#', 0xc2};
            for (size_t k = 0; k < sizeof bad; k++) {
                text[i] = bad[k];
                assert_false(topic_name_valid(bytes_of(text, size)));
                assert_int_equal(utf8_valid(bytes_of(text, size)), bad[k] == '+' || bad[k] == '#');
            }
            text[i] = 'a';
        }
        for (size_t i = 0; i + 2 < size; i++) {
            memcpy(text + i, "\xe2\x82\xac", 3);
            assert_true(topic_name_valid(bytes_of(text, size)));
            assert_true(utf8_valid(bytes_of(text, size)));
            assert_false(utf8_valid(bytes_of(text, i + 1)));
            assert_false(utf8_valid(bytes_of(text, i + 2)));
            memset(text + i, 'a', 3);
        }
        free(text);
    }
}

static void names_have_no_wildcards_and_a_size(void **state)
{
    (void)state;
    assert_true(name("/"));
    assert_true(name("a//b"));
    assert_true(name("$SYS/x"));
    assert_true(name("with space/\xc3\xa4"));
    assert_true(name("*),-;\"$"));
    assert_false(name(""));
    assert_false(name("a/+"));
    assert_false(name("#"));
    uint8_t *long_name = malloc(65536);
    memset(long_name, 'a', 65536);
    assert_true(topic_name_valid(bytes_of(long_name, 65535)));
    assert_false(topic_name_valid(bytes_of(long_name, 65536)));
    assert_true(topic_filter_valid(bytes_of(long_name, 65535)));
    assert_false(topic_filter_valid(bytes_of(long_name, 65536)));
    free(long_name);
}

static void filters_have_wildcards_where_allowed(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "#", "+", "/", "+/", "/+", "a/#", "+/tennis/#", "sport/+/player1",
        "+/+", "//", "$SYS/#", "$share", "$sharex/+", "/#", "$share/g/a", "$share/g/#", "$share/g//",
        "$share/\xc3\xa4/+/x"};
    static const char *const bad[] = {"", "a#", "a/#/b", "#/", "sport/tennis#", "sport+", "+a", "a/b+/c",
        "a/+b", "##", "++", "+#", "#+", "\xff", "$share/", "$share//a", "$share/g", "$share/g/", "$share/+/a",
        "$share/a#/b", "$share/g/a#", "$share/#", "$share/g/#/b", "$share/g/$share/h/a"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(filter(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(filter(bad[i]));
}

static void shared_filters_split(void **state)
{
    (void)state;
    struct bytes group = BYTES_NONE, rest = BYTES_NONE;
    assert_true(topic_filter_shared(bytes_of_text("$share/group/a/+"), &group, &rest));
    assert_true(bytes_equal(group, bytes_of_text("group")));
    assert_true(bytes_equal(rest, bytes_of_text("a/+")));
    assert_true(topic_filter_shared(bytes_of_text("$share/g//"), &group, &rest));
    assert_true(bytes_equal(rest, bytes_of_text("/")));
    group = rest = BYTES_NONE;
    assert_false(topic_filter_shared(bytes_of_text("a/b"), &group, &rest));
    assert_false(topic_filter_shared(bytes_of_text("$share/g"), &group, &rest));
    assert_false(topic_filter_shared(BYTES_NONE, &group, &rest));
    assert_null(group.data);
    assert_null(rest.data);
}

static void levels_are_counted(void **state)
{
    (void)state;
    assert_int_equal(topic_levels(bytes_of_text("a")), 1);
    assert_int_equal(topic_levels(bytes_of_text("/")), 2);
    assert_int_equal(topic_levels(bytes_of_text("a/b//c")), 4);
}

/* The examples of MQTT 4.7.1 and 4.7.2, and corners. */
static void filters_match_as_specified(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *topic;
        bool matches;
    } cases[] = {
        {"sport/tennis/player1/#", "sport/tennis/player1", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
        {"sport/tennis/player1/#", "sport/tennis/player12", false},
        {"sport/#", "sport", true},
        {"#", "a/b/c", true},
        {"#", "/", true},
        {"sport/tennis/+", "sport/tennis/player1", true},
        {"sport/tennis/+", "sport/tennis/player1/ranking", false},
        {"sport/+", "sport", false},
        {"sport/+", "sport/", true},
        {"+/+", "/finance", true},
        {"/+", "/finance", true},
        {"+", "/finance", false},
        {"#", "$SYS/monitor/Clients", false},
        {"+/monitor/Clients", "$SYS/monitor/Clients", false},
        {"$SYS/#", "$SYS/monitor/Clients", true},
        {"$SYS/monitor/+", "$SYS/monitor/Clients", true},
        {"a/b", "a/b", true},
        {"a/b", "a/bc", false},
        {"a/bc", "a/b", false},
        {"a/b", "a/b/", false},
        {"a/b/", "a/b", false},
        {"a/+/c", "a//c", true},
        {"a/+/#", "a/b", true},
        {"a/+/#", "a", false},
        {"ACCOUNTS", "Accounts", false},
        {"a", "a/b", false},
        {"+/#", "a", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(matches(cases[i].filter, cases[i].topic), cases[i].matches);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_takes_every_well_formed_form),
        cmocka_unit_test(utf8_refuses_every_ill_formed_form),
        cmocka_unit_test(a_bad_byte_is_found_wherever_it_stands),
        cmocka_unit_test(names_have_no_wildcards_and_a_size),
        cmocka_unit_test(filters_have_wildcards_where_allowed),
        cmocka_unit_test(shared_filters_split),
        cmocka_unit_test(levels_are_counted),
        cmocka_unit_test(filters_match_as_specified),
    };
    return cmocka_run_group_tests_name("topic_name", tests, NULL, NULL);
}
