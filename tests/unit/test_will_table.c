/* will_table: a will put is found whole, whoever opens the memfd, and what is damaged costs only itself. */
#include "cluster/will_table.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE      ((size_t)65536)
#define PART_MAX  65535u
#define HEADER    64u /* bytes before the state words */
#define PUBLISHER UINT64_C(0x1122334455667788)

static int fd;
static struct will_table *table;
static struct block_buffer buffer;
static uint8_t payload[PART_MAX + 1];

static void open_again(void)
{
    will_table_close(&table);
    assert_int_equal(will_table_open(fd, &table), STATUS_OK);
}

static void use_size(size_t size)
{
    will_table_close(&table);
    close(fd);
    assert_int_equal(will_table_create(size, &fd), STATUS_OK);
    open_again();
}

static int set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 31 + i / 251);
    assert_int_equal(will_table_create(SIZE, &fd), STATUS_OK);
    assert_int_equal(will_table_open(fd, &table), STATUS_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    will_table_close(&table);
    assert_null(table);
    close(fd);
    free(buffer.data);
    buffer = (struct block_buffer){0};
    return 0;
}

static struct will will_of(uint64_t connection, size_t size)
{
    return (struct will){.connection = connection,
        .publisher = PUBLISHER,
        .delay_s = 30,
        .expiry_s = WILL_NO_EXPIRY,
        .qos = (uint8_t)(connection % 3),
        .retain = connection % 2 != 0,
        .client_id = bytes_of_text("client"),
        .topic = bytes_of_text("a/b"),
        .properties = bytes_of_text("properties"),
        .payload = bytes_of(payload, size)};
}

static will_handle put(uint64_t connection, size_t size)
{
    struct will will = will_of(connection, size);
    will_handle handle = 0;
    assert_int_equal(will_table_put(table, &will, &handle), STATUS_OK);
    assert_int_not_equal(handle, 0);
    return handle;
}

static void assert_whole(will_handle handle, uint64_t connection, size_t size)
{
    struct will expected = will_of(connection, size), will;
    assert_int_equal(will_table_get(table, handle, &buffer, &will), STATUS_OK);
    assert_int_equal(will.connection, connection);
    assert_int_equal(will.publisher, PUBLISHER);
    assert_int_equal(will.delay_s, 30);
    assert_int_equal(will.expiry_s, WILL_NO_EXPIRY);
    assert_int_equal(will.qos, expected.qos);
    assert_int_equal(will.retain, expected.retain);
    assert_true(bytes_equal(will.client_id, expected.client_id));
    assert_true(bytes_equal(will.topic, expected.topic));
    assert_true(bytes_equal(will.properties, expected.properties));
    assert_true(bytes_equal(will.payload, expected.payload));
}

static void assert_gone(will_handle handle)
{
    struct will will;
    assert_int_equal(will_table_get(table, handle, &buffer, &will), STATUS_NOT_FOUND);
}

static uint64_t ended_of(will_handle handle)
{
    struct will will;
    assert_int_equal(will_table_get(table, handle, &buffer, &will), STATUS_OK);
    return will.ended_us;
}

static void a_put_will_comes_back_whole(void **state)
{
    (void)state;
    assert_int_equal(will_table_next(table, 0), 0);
    will_handle first = put(7, 40), second = put(8, 0);
    assert_int_not_equal(first, second);
    assert_whole(first, 7, 40);
    assert_whole(second, 8, 0);
    assert_int_equal(ended_of(first), 0);
    will_table_ended(table, first, 1700000000000000);
    assert_int_equal(ended_of(first), 1700000000000000);
    assert_whole(first, 7, 40);
    assert_int_equal(ended_of(second), 0);
    assert_int_equal(will_table_count(table), 2);
}

static void what_has_no_connection_or_too_long_a_part_is_invalid(void **state)
{
    (void)state;
    size_t before = will_table_free_blocks(table);
    will_handle handle;
    struct will will = will_of(0, 40);
    assert_int_equal(will_table_put(table, &will, &handle), STATUS_INVALID);
    will = will_of(1, PART_MAX + 1);
    assert_int_equal(will_table_put(table, &will, &handle), STATUS_INVALID);
    assert_int_equal(will_table_count(table), 0);
    assert_int_equal(will_table_free_blocks(table), before);
    assert_gone(0);
    assert_gone(UINT32_MAX);
}

static void wills_survive_a_killed_worker(void **state)
{
    (void)state;
    will_table_close(&table);
    pid_t child = fork();
    if (child == 0) {
        if (will_table_open(fd, &table) != STATUS_OK)
            _exit(1);
        for (uint64_t connection = 1; connection <= 3; connection++) {
            struct will will = will_of(connection, (size_t)connection * 300);
            will_handle handle;
            if (will_table_put(table, &will, &handle) != STATUS_OK)
                _exit(1);
            if (connection == 2)
                will_table_ended(table, handle, 1234567);
        }
        raise(SIGKILL);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
    open_again();
    assert_int_equal(will_table_count(table), 3);
    assert_int_equal(will_table_damaged(table), 0);
    unsigned seen = 0;
    for (will_handle at = will_table_next(table, 0); at != 0; at = will_table_next(table, at)) {
        struct will will;
        assert_int_equal(will_table_get(table, at, &buffer, &will), STATUS_OK);
        uint64_t connection = will.connection;
        assert_in_range(connection, 1, 3);
        assert_int_equal(will.ended_us, connection == 2 ? 1234567 : 0);
        assert_whole(at, connection, (size_t)connection * 300);
        seen |= 1u << connection;
    }
    assert_int_equal(seen, 0xe);
    /* What the successor puts takes no block of theirs. */
    put(4, 2000);
    open_again();
    assert_int_equal(will_table_count(table), 4);
    assert_int_equal(will_table_damaged(table), 0);
}

static void removed_wills_are_gone_for_good(void **state)
{
    (void)state;
    size_t before = will_table_free_blocks(table);
    will_handle gone = put(1, 1000), kept = put(2, 1000);
    will_table_remove(table, gone, 1);
    assert_gone(gone);
    assert_int_equal(will_table_next(table, 0), kept);
    assert_int_equal(will_table_next(table, kept), 0);
    open_again();
    assert_gone(gone);
    assert_whole(kept, 2, 1000);
    assert_int_equal(will_table_count(table), 1);
    will_table_remove(table, kept, 2);
    assert_int_equal(will_table_count(table), 0);
    assert_int_equal(will_table_free_blocks(table), before);
}

static void a_full_table_says_so_and_takes_again_after_a_remove(void **state)
{
    (void)state;
    size_t before = will_table_free_blocks(table);
    struct will will = will_of(1, 1000);
    will_handle handle, first = 0;
    uint64_t count = 0;
    enum status status;
    while ((status = will_table_put(table, &will, &handle)) == STATUS_OK) {
        if (first == 0)
            first = handle;
        count++;
        will = will_of(count + 1, 1000);
    }
    assert_int_equal(status, STATUS_LIMIT);
    assert_int_equal(will_table_count(table), count);
    assert_in_range(before, count * 5, count * 5 + 4);
    will_table_remove(table, first, 1);
    handle = put(1000, 1000);
    assert_whole(handle, 1000, 1000);
    will = will_of(1001, 1000);
    assert_int_equal(will_table_put(table, &will, &handle), STATUS_LIMIT);
    open_again();
    assert_int_equal(will_table_count(table), count);
    assert_int_equal(will_table_damaged(table), 0);
}

static void a_stale_handle_does_not_remove_anothers_will(void **state)
{
    (void)state;
    will_handle old = put(1, 40);
    will_table_remove(table, old, 1);
    will_handle new = put(2, 40);
    assert_int_equal(new, old);
    will_table_remove(table, old, 1);
    will_table_remove(table, old, 0);
    assert_whole(new, 2, 40);
    assert_int_equal(will_table_count(table), 1);
    /* Clearing the same one twice frees its blocks once. */
    size_t before = will_table_free_blocks(table);
    will_table_remove(table, new, 2);
    will_table_remove(table, new, 2);
    assert_int_equal(will_table_free_blocks(table), before + 1);
    assert_int_equal(will_table_count(table), 0);
}

static void large_wills_span_blocks(void **state)
{
    (void)state;
    use_size((size_t)1 << 20);
    size_t before = will_table_free_blocks(table);
    /* Holes first, so that the chains are no runs. */
    will_handle small[8];
    for (uint64_t i = 0; i < 8; i++)
        small[i] = put(100 + i, 40);
    for (uint64_t i = 0; i < 8; i += 2)
        will_table_remove(table, small[i], 100 + i);
    will_handle largest = put(1, PART_MAX), medium = put(2, 700);
    assert_whole(largest, 1, PART_MAX);
    assert_whole(medium, 2, 700);
    assert_true(before - will_table_free_blocks(table) > PART_MAX / WILL_BLOCK_SIZE);
    open_again();
    assert_whole(largest, 1, PART_MAX);
    assert_whole(medium, 2, 700);
    for (uint64_t i = 1; i < 8; i += 2) {
        assert_whole(small[i], 100 + i, 40);
        will_table_remove(table, small[i], 100 + i);
    }
    will_table_remove(table, largest, 1);
    will_table_remove(table, medium, 2);
    assert_int_equal(will_table_free_blocks(table), before);
}

/* One byte of one entry is wrong, then all the file is. */
static void garbage_is_counted_and_its_space_used_again(void **state)
{
    (void)state;
    size_t before = will_table_free_blocks(table);
    put(1, 40);
    will_handle kept = put(2, 40);
    uint8_t *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    uint8_t *found = memmem(map, SIZE, "a/b", 3);
    assert_non_null(found);
    *found ^= 1;
    open_again();
    assert_int_equal(will_table_damaged(table), 1);
    assert_int_equal(will_table_count(table), 1);
    assert_whole(kept, 2, 40);
    assert_int_equal(will_table_free_blocks(table), before - 1);
    open_again();
    assert_int_equal(will_table_damaged(table), 0);

    uint32_t random = 42;
    for (unsigned round = 0; round < 200; round++) {
        for (size_t i = HEADER; i < SIZE; i++) {
            random = random * 1664525 + 1013904223;
            /* In turn: any bytes; small ones, which are plausible sizes and links. */
            map[i] = (uint8_t)(round % 2 == 0 ? random >> 24 : (random >> 24) % 64 == 0 ? random >> 16 : 0);
        }
        open_again();
        assert_true(will_table_damaged(table) > 0);
        assert_int_equal(will_table_count(table), 0);
        assert_int_equal(will_table_free_blocks(table), before);
        assert_whole(put(3, 1000), 3, 1000);
    }
    memset(map, 0xff, HEADER);
    will_table_close(&table);
    assert_int_equal(will_table_open(fd, &table), STATUS_INVALID);
    munmap(map, SIZE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_put_will_comes_back_whole),
        TEST(what_has_no_connection_or_too_long_a_part_is_invalid),
        TEST(wills_survive_a_killed_worker),
        TEST(removed_wills_are_gone_for_good),
        TEST(a_full_table_says_so_and_takes_again_after_a_remove),
        TEST(a_stale_handle_does_not_remove_anothers_will),
        TEST(large_wills_span_blocks),
        TEST(garbage_is_counted_and_its_space_used_again),
    };
    return cmocka_run_group_tests_name("will_table", tests, NULL, NULL);
}
