/* route_table: what a reader sees while the writer is anywhere, and that what does not count any more goes.
 */
#include "cluster/route_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE (4096u + 2u * 8192u)

static int fd;
static struct route_table *table;

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(route_table_create(SIZE, &fd), STATUS_OK);
    assert_int_equal(route_table_open(fd, 7, &table), STATUS_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    route_table_close(&table);
    close(fd);
    return 0;
}

static bool add(const char *text)
{
    uint8_t *to = route_table_room(table, strlen(text));
    if (to == NULL)
        return false;
    memcpy(to, text, strlen(text));
    route_table_added(table, strlen(text));
    return true;
}

static void assert_reads(const char *text)
{
    uint8_t *entries;
    size_t size;
    assert_int_equal(route_table_read(fd, 7, &entries, &size), STATUS_OK);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(entries, text, size);
    free(entries);
}

static void what_was_added_is_read_in_order(void **state)
{
    (void)state;
    assert_reads("");
    assert_true(add("one,"));
    assert_true(add("two,"));
    assert_reads("one,two,");
}

static void an_entry_counts_once_it_is_whole(void **state)
{
    (void)state;
    assert_true(add("one,"));
    uint8_t *to = route_table_room(table, 4);
    assert_non_null(to);
    memcpy(to, "tw", 2); /* stopped here */
    assert_reads("one,");
}

static void a_table_of_another_incarnation_says_nothing(void **state)
{
    (void)state;
    uint8_t *entries;
    size_t size;
    assert_true(add("one,"));
    assert_int_equal(route_table_read(fd, 8, &entries, &size), STATUS_NOT_FOUND);
    route_table_close(&table);
    assert_int_equal(route_table_open(fd, 8, &table), STATUS_OK);
    assert_int_equal(route_table_read(fd, 7, &entries, &size), STATUS_NOT_FOUND);
    assert_int_equal(route_table_read(fd, 8, &entries, &size), STATUS_OK);
    assert_int_equal(size, 0);
    free(entries);
}

static void the_old_entries_are_read_until_the_new_ones_are_whole(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 5; round++) {
        assert_true(add("old,"));
        route_table_rewrite(table);
        assert_true(add("new,"));
        assert_reads(round == 0 ? "old," : "last,old,");
        assert_true(add("more,"));
        route_table_rewritten(table);
        assert_reads("new,more,");
        route_table_rewrite(table);
        assert_true(add("last,"));
        route_table_rewritten(table);
        assert_reads("last,");
    }
}

static void a_full_table_is_written_anew_or_given_up(void **state)
{
    (void)state;
    char text[1001] = {0};
    memset(text, 'x', 1000);
    unsigned count = 0;
    while (add(text))
        count++;
    assert_int_equal(count, 8);
    route_table_rewrite(table);
    assert_true(add("kept,"));
    route_table_rewritten(table);
    assert_true(add(text));
    route_table_rewrite(table);
    while (add(text))
        count++;
    route_table_give_up(table);
    uint8_t *entries;
    size_t size;
    assert_int_equal(route_table_read(fd, 7, &entries, &size), STATUS_NOT_FOUND);
    assert_false(add("more,"));
}

static void what_is_no_table_is_refused(void **state)
{
    (void)state;
    int small;
    struct route_table *none;
    assert_int_equal(route_table_create(4096, &small), STATUS_OK);
    assert_int_equal(route_table_open(small, 7, &none), STATUS_INVALID);
    close(small);
    uint8_t *entries;
    size_t size;
    assert_int_equal(route_table_create(SIZE, &small), STATUS_OK);
    uint64_t broken[4] = {7, 0, SIZE, 0}; /* more used than there is */
    assert_int_equal(pwrite(small, broken, sizeof broken, 0), sizeof broken);
    assert_int_equal(route_table_read(small, 7, &entries, &size), STATUS_NOT_FOUND);
    close(small);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_was_added_is_read_in_order),
        TEST(an_entry_counts_once_it_is_whole),
        TEST(a_table_of_another_incarnation_says_nothing),
        TEST(the_old_entries_are_read_until_the_new_ones_are_whole),
        TEST(a_full_table_is_written_anew_or_given_up),
        TEST(what_is_no_table_is_refused),
    };
    return cmocka_run_group_tests_name("route_table", tests, NULL, NULL);
}
