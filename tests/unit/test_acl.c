/* acl: Mosquitto's rules for who may do what, and how topic filters relate as sets. */
#include "shared/acl.h"
#include "shared/topic_name.h"
#include "shared/topic_relation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct problems {
    char text[2048];
    unsigned count;
};

static void note(void *context, unsigned line, const char *text)
{
    struct problems *problems = context;
    size_t used = strlen(problems->text);
    snprintf(problems->text + used, sizeof problems->text - used, "%u: %s\n", line, text);
    problems->count++;
}

static struct acl *parse(const char *text)
{
    struct problems problems = {0};
    struct acl *acl = NULL;
    assert_int_equal(acl_parse(bytes_of_text(text), note, &problems, &acl), STATUS_OK);
    assert_int_equal(problems.count, 0);
    return acl;
}

static struct acl_rights *rights_of(struct acl *acl, const char *user, const char *client_id)
{
    struct acl_rights *rights = acl_rights_new(acl, bytes_of_text(user), bytes_of_text(client_id));
    assert_non_null(rights);
    return rights;
}

static bool allows(
    struct acl *acl, const char *user, const char *client_id, enum acl_access access, const char *topic)
{
    struct acl_rights *rights = rights_of(acl, user, client_id);
    bool allowed = acl_allows(rights, access, bytes_of_text(topic));
    acl_rights_free(&rights);
    return allowed;
}

static enum acl_extent extent(struct acl *acl, const char *user, const char *filter)
{
    struct acl_rights *rights = rights_of(acl, user, "c");
    enum acl_extent found = acl_readable(rights, bytes_of_text(filter));
    acl_rights_free(&rights);
    return found;
}

static const char example[] = "# anonymous clients\n"
                              "topic read public/#\n"
                              "topic deny public/hidden/#\n"
                              "\n"
                              "user roger moore\n"
                              "topic foo/bar\n"
                              "topic\tread  with space/x y\r\n"
                              "user alice\n"
                              "topic write in/+\n"
                              "pattern readwrite devices/%c/#\n"
                              "pattern read users/%u/%c\n"
                              "user roger moore\n"
                              "topic deny foo/#\n"
                              "topic readwrite #\n";

static void lines_belong_to_the_user_above_them(void **state)
{
    (void)state;
    struct acl *acl = parse(example);
    assert_true(allows(acl, NULL, "c", ACL_READ, "public/a"));
    assert_false(allows(acl, NULL, "c", ACL_WRITE, "public/a"));
    assert_false(allows(acl, NULL, "c", ACL_READ, "public/hidden/a"));
    assert_false(allows(acl, "alice", "c", ACL_READ, "public/a"));
    assert_true(allows(acl, "alice", "c", ACL_WRITE, "in/x"));
    assert_false(allows(acl, "alice", "c", ACL_READ, "in/x"));
    assert_false(allows(acl, "alice", "c", ACL_WRITE, "in/x/y"));
    assert_true(allows(acl, "roger moore", "c", ACL_READ, "with space/x y"));
    assert_false(allows(acl, "nobody", "c", ACL_READ, "in/x"));
    assert_true(acl_has_users(acl));
    acl_free(&acl);
    assert_null(acl);
}

static void denials_come_first_wherever_they_stand(void **state)
{
    (void)state;
    struct acl *acl = parse(example);
    assert_false(allows(acl, "roger moore", "c", ACL_READ, "foo/bar"));
    assert_true(allows(acl, "roger moore", "c", ACL_READ, "else"));
    assert_false(allows(acl, "roger moore", "c", ACL_READ, "$SYS/broker/uptime"));
    acl_free(&acl);
}

static void patterns_are_filled_in_for_each_client(void **state)
{
    (void)state;
    struct acl *acl = parse(example);
    assert_true(allows(acl, "bob", "d1", ACL_WRITE, "devices/d1/x"));
    assert_false(allows(acl, "bob", "d1", ACL_WRITE, "devices/d2/x"));
    assert_true(allows(acl, "bob", "d1", ACL_READ, "users/bob/d1"));
    assert_false(allows(acl, "bob", "d1", ACL_WRITE, "users/bob/d1"));
    assert_true(allows(acl, NULL, "d1", ACL_READ, "devices/d1/x"));
    assert_false(allows(acl, NULL, "d1", ACL_READ, "users//d1"));
    assert_true(allows(acl, "a/b", "d1", ACL_READ, "users/a/b/d1"));
    acl_free(&acl);
}

static void names_with_wildcards_get_nothing_by_patterns(void **state)
{
    (void)state;
    struct acl *acl = parse(example);
    assert_false(allows(acl, "bob", "+", ACL_READ, "devices/d1/x"));
    assert_false(allows(acl, "bob", "#", ACL_READ, "devices/d1/x"));
    assert_false(allows(acl, "bob#", "d1", ACL_READ, "devices/d1/x"));
    assert_false(allows(acl, "+", "d1", ACL_READ, "users/bob/d1"));
    assert_true(allows(acl, "alice", "+", ACL_WRITE, "in/x"));
    acl_free(&acl);
}

static void own_lines_are_asked_before_patterns(void **state)
{
    (void)state;
    struct acl *acl = parse("pattern deny a/%u/#\npattern a/#\nuser x\ntopic a/x/1\n");
    assert_true(allows(acl, "x", "c", ACL_READ, "a/x/1"));
    assert_false(allows(acl, "x", "c", ACL_READ, "a/x/2"));
    assert_true(allows(acl, "x", "c", ACL_READ, "a/y"));
    acl_free(&acl);
}

static void subscriptions_are_judged_as_a_whole(void **state)
{
    (void)state;
    struct acl *acl = parse(example);
    assert_int_equal(extent(acl, NULL, "public/+/a"), ACL_SOME);
    assert_int_equal(extent(acl, NULL, "public/a/+"), ACL_ALL);
    assert_int_equal(extent(acl, NULL, "public/a"), ACL_ALL);
    assert_int_equal(extent(acl, NULL, "public/hidden/#"), ACL_NONE);
    assert_int_equal(extent(acl, NULL, "#"), ACL_SOME);
    assert_int_equal(extent(acl, NULL, "private/#"), ACL_NONE);
    assert_int_equal(extent(acl, "alice", "in/x"), ACL_NONE);
    assert_int_equal(extent(acl, "alice", "devices/c/#"), ACL_ALL);
    assert_int_equal(extent(acl, "alice", "devices/+/a"), ACL_SOME);
    assert_int_equal(extent(acl, "alice", "devices/d/a"), ACL_NONE);
    assert_int_equal(extent(acl, "roger moore", "#"), ACL_SOME);
    assert_int_equal(extent(acl, "roger moore", "foo/bar"), ACL_NONE);
    assert_int_equal(extent(acl, "roger moore", "$SYS/#"), ACL_NONE);
    acl_free(&acl);
    acl = parse("topic #\ntopic $SYS/#\n");
    assert_int_equal(extent(acl, NULL, "#"), ACL_ALL);
    assert_int_equal(extent(acl, NULL, "$SYS/+/x"), ACL_ALL);
    assert_int_equal(extent(acl, NULL, "$other"), ACL_NONE);
    acl_free(&acl);
    acl = parse("");
    assert_int_equal(extent(acl, NULL, "#"), ACL_NONE);
    assert_false(acl_has_users(acl));
    acl_free(&acl);
}

static void every_mistake_is_told_with_its_line(void **state)
{
    (void)state;
    static const char text[] = "topic\n"
                               "topics read a\n"
                               "# fine\n"
                               "topic reed a/b\n"
                               "topic read a/#/b\n"
                               "user\n"
                               "pattern a+b\n"
                               "topic read $share/g/a\n"
                               "topic read \xff\n";
    struct problems problems = {0};
    struct acl *acl = NULL;
    assert_int_equal(acl_parse(bytes_of_text(text), note, &problems, &acl), STATUS_INVALID);
    assert_int_equal(problems.count, 8);
    assert_non_null(strstr(problems.text, "2: found \"topics\""));
    assert_non_null(strstr(problems.text, "4: found \"reed\" before"));
    assert_non_null(strstr(problems.text, "5: found \"a/#/b\""));
    assert_non_null(strstr(problems.text, "6: found \"\" behind user"));
    assert_non_null(strstr(problems.text, "8: found \"$share/g/a\""));
}

static bool covers(const char *outer, const char *inner)
{
    return topic_filter_covers(bytes_of_text(outer), bytes_of_text(inner));
}

static bool overlaps(const char *a, const char *b)
{
    bool found = topic_filter_overlaps(bytes_of_text(a), bytes_of_text(b));
    assert_int_equal(found, topic_filter_overlaps(bytes_of_text(b), bytes_of_text(a)));
    return found;
}

static void filters_cover_and_overlap(void **state)
{
    (void)state;
    assert_true(covers("#", "a/+/#") && covers("a/#", "a") && covers("a/#", "a/#") && covers("+/b", "a/b"));
    assert_true(covers("a/+", "a/") && covers("$x/#", "$x/a"));
    assert_false(covers("a/+", "a/#") || covers("a", "a/#") || covers("#", "$x") || covers("a/b", "a/+"));
    assert_false(covers("a/+", "a") || covers("+/a", "$x/a"));
    assert_true(
        overlaps("a/#", "a") && overlaps("+", "a") && overlaps("a/+/c", "a/b/+") && overlaps("#", "+/x"));
    assert_false(
        overlaps("a/+", "a") || overlaps("#", "$x") || overlaps("a", "b") || overlaps("+/$x", "$x/$x"));
}

/* Small alphabet, all filters of up to three levels against all names: the relations are what they say. */
static void relations_agree_with_matching(void **state)
{
    (void)state;
    static const char *const levels[] = {"a", "$b", "", "+", "#"};
    static char filters[200][16], names[64][16];
    size_t filter_count = 0, name_count = 0;
    for (size_t i = 0; i < 6 * 6 * 6; i++) {
        char text[16];
        size_t first = i % 6, second = i / 6 % 6, third = i / 36;
        if (first == 5 || (second == 5 && third != 5))
            continue;
        snprintf(text, sizeof text, "%s%s%s%s%s", levels[first], second == 5 ? "" : "/",
            second == 5 ? "" : levels[second], third == 5 ? "" : "/", third == 5 ? "" : levels[third]);
        if (topic_filter_valid(bytes_of_text(text)))
            memcpy(filters[filter_count++], text, sizeof text);
        if (topic_name_valid(bytes_of_text(text)))
            memcpy(names[name_count++], text, sizeof text);
    }
    assert_true(filter_count > 60 && name_count > 30);
    for (size_t i = 0; i < filter_count; i++) {
        for (size_t k = 0; k < filter_count; k++) {
            bool both = false, outside = false;
            for (size_t n = 0; n < name_count; n++) {
                bool outer = topic_filter_matches(bytes_of_text(filters[i]), bytes_of_text(names[n]));
                bool inner = topic_filter_matches(bytes_of_text(filters[k]), bytes_of_text(names[n]));
                both |= outer && inner;
                outside |= inner && !outer;
            }
            if (covers(filters[i], filters[k]))
                assert_false(outside);
            if (both)
                assert_true(overlaps(filters[i], filters[k]));
        }
    }
}

static void rights_outlive_the_file_that_was_replaced(void **state)
{
    (void)state;
    struct acl *acl = parse("user anna\ntopic read a/#\n");
    struct acl_rights *rights = rights_of(acl, "anna", "c");
    acl_free(&acl);
    assert_null(acl);
    assert_true(acl_allows(rights, ACL_READ, bytes_of_text("a/b")));
    assert_false(acl_allows(rights, ACL_WRITE, bytes_of_text("a/b")));
    acl_rights_free(&rights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rights_outlive_the_file_that_was_replaced),
        cmocka_unit_test(lines_belong_to_the_user_above_them),
        cmocka_unit_test(denials_come_first_wherever_they_stand),
        cmocka_unit_test(patterns_are_filled_in_for_each_client),
        cmocka_unit_test(names_with_wildcards_get_nothing_by_patterns),
        cmocka_unit_test(own_lines_are_asked_before_patterns),
        cmocka_unit_test(subscriptions_are_judged_as_a_whole),
        cmocka_unit_test(every_mistake_is_told_with_its_line),
        cmocka_unit_test(filters_cover_and_overlap),
        cmocka_unit_test(relations_agree_with_matching),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
