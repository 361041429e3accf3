/*
 * What a sender that passes on other lanes' frames has noted of them: a crash at any moment leaves what the
 * published head holds, no more and no less.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/bus_lane_out.h"

#include <stdlib.h>
#include <unistd.h>

#define SIZE   65536
#define SOURCE 3
#define LIFE   77

static int ring, cursor;
static struct bus_lane_out lane;
static const struct publication_origin origin = {.incarnation = 5};

/* The last incarnation is gone with whatever it had not published. */
static void start(void)
{
    free(lane.sources);
    bus_window_unmap(&lane.window);
    lane = (struct bus_lane_out){0};
    assert_int_equal(bus_window_map_sender(ring, cursor, &lane.window), STATUS_OK);
    bus_lane_out_start(&lane);
}

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(bus_window_create(SIZE, &ring, &cursor), STATUS_OK);
    start();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(lane.sources);
    bus_window_unmap(&lane.window);
    lane = (struct bus_lane_out){0};
    close(ring);
    close(cursor);
    return 0;
}

static void put_one(void)
{
    memset(bus_lane_out_put(&lane, origin, 1, 40), 7, 40);
    bus_lane_out_close(&lane, origin);
}

static void what_was_published_is_known_to_the_next(void **state)
{
    (void)state;
    for (uint64_t offset = 100; offset <= 500; offset += 100) {
        put_one();
        assert_int_equal(bus_lane_out_take(&lane, SOURCE, LIFE, offset), STATUS_OK);
        bus_lane_out_publish(&lane);
    }
    start();
    assert_int_equal(bus_lane_out_taken(&lane, SOURCE, LIFE), 500);
    assert_int_equal(bus_lane_out_taken(&lane, SOURCE, LIFE + 1), 0);
    assert_int_equal(bus_lane_out_taken(&lane, SOURCE + 1, LIFE), 0);
}

static void what_was_not_published_is_not_taken(void **state)
{
    (void)state;
    put_one();
    assert_int_equal(bus_lane_out_take(&lane, SOURCE, LIFE, 100), STATUS_OK);
    bus_lane_out_publish(&lane);
    put_one();
    assert_int_equal(bus_lane_out_take(&lane, SOURCE, LIFE, 200), STATUS_OK);
    start();
    assert_int_equal(bus_lane_out_taken(&lane, SOURCE, LIFE), 100);
}

/* Killed between the note and the head; then other records move the head beyond the one of that note. */
static void a_note_without_its_head_never_holds(void **state)
{
    (void)state;
    put_one();
    assert_int_equal(bus_lane_out_take(&lane, SOURCE, LIFE, 100), STATUS_OK);
    bus_lane_out_publish(&lane);
    put_one();
    assert_int_equal(bus_lane_out_take(&lane, SOURCE, LIFE, 200), STATUS_OK);
    bus_lane_out_note(&lane, lane.tail);
    start();
    for (unsigned i = 0; i < 4; i++) {
        put_one();
        bus_lane_out_publish(&lane);
        assert_int_equal(bus_lane_out_taken(&lane, SOURCE, LIFE), 100);
    }
    assert_int_equal(bus_lane_out_take(&lane, SOURCE + 1, LIFE, 9), STATUS_OK);
    assert_int_equal(bus_lane_out_taken(&lane, SOURCE, LIFE), 100);
    bus_lane_out_publish(&lane);
    start();
    assert_int_equal(bus_lane_out_taken(&lane, SOURCE, LIFE), 100);
    assert_int_equal(bus_lane_out_taken(&lane, SOURCE + 1, LIFE), 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_published_is_known_to_the_next, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_not_published_is_not_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_note_without_its_head_never_holds, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
