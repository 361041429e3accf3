/* delayed: published in the order of their times, once, whatever process does it, and never lost from the
 * table. */
#include "cluster/delayed.h"

#include "shared/clock.h"
#include "tests/unit/fake_carrier.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define SIZE       ((size_t)65536)
#define START_US   UINT64_C(1000000000)
#define START_REAL UINT64_C(1700000000000000)

struct process {
    struct fake_carrier carrier;
    struct counters counters;
    struct bus *bus;
    struct block_table *table;
    struct delayed *delayed;
    bool full, unsettled;
    char log[1024]; /* payloads that were published, each with a blank behind */
    struct publication_meta last;
};

static struct fake_lanes *lanes;
static int fd;
static uint64_t now_us;

static void pass_us(uint64_t us)
{
    now_us += us;
    clock_set(START_US + now_us, START_REAL + now_us);
}

static enum status publish(void *context, struct publication_view *view)
{
    struct process *it = context;
    if (it->full)
        return STATUS_AGAIN;
    size_t used = strlen(it->log);
    snprintf(it->log + used, sizeof it->log - used, "%.*s ", (int)view->payload.size,
        (const char *)view->payload.data);
    it->last = view->meta;
    return STATUS_OK;
}

static bool settled(void *context)
{
    return !((struct process *)context)->unsettled;
}

static void begin(struct process *it, unsigned self)
{
    memset(it, 0, sizeof *it);
    fake_carrier_init(&it->carrier);
    struct bus_settings bus = {.self = self,
        .peers = 2,
        .origin = {.incarnation = 10 + self, .slot = (uint16_t)self},
        .lanes = lanes->of[self],
        .counters = &it->counters,
        .carrier = &it->carrier.carrier};
    assert_int_equal(bus_new(&bus, &it->bus), STATUS_OK);
    assert_int_equal(block_table_open(fd, DELAYED_TABLE_MAGIC, &it->table), STATUS_OK);
    struct delayed_settings settings = {
        .bus = it->bus, .table = it->table, .context = it, .publish = publish, .settled = settled};
    assert_int_equal(delayed_new(&settings, &it->delayed), STATUS_OK);
    delayed_start(it->delayed);
}

static void end(struct process *it)
{
    delayed_free(&it->delayed);
    assert_null(it->delayed);
    block_table_close(&it->table);
    fake_carrier_drop(&it->carrier);
    bus_free(&it->bus);
}

static enum status put(struct process *it, const char *payload, uint32_t delay_s)
{
    struct publication_view view = {.meta = {.publisher = 7, .expires_ms = 8, .qos = 2, .retain = true},
        .topic = bytes_of_text("t"),
        .properties = bytes_of_text("pp"),
        .payload = bytes_of_text(payload)};
    return delayed_put(it->delayed, &view, delay_s);
}

static int set_up(void **state)
{
    (void)state;
    now_us = 0;
    pass_us(0);
    lanes = fake_lanes_new(2, (size_t)1 << 17);
    return block_table_create("test", SIZE, &fd) == STATUS_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    clock_use_system();
    close(fd);
    fake_lanes_free(&lanes);
    return 0;
}

static void they_come_in_the_order_of_their_times(void **state)
{
    (void)state;
    struct process it;
    begin(&it, 0);
    static const struct {
        const char *payload;
        uint32_t delay_s;
    } puts[] = {{"c", 3}, {"a", 1}, {"d", 3}, {"b", 2}, {"e", 42949670}, {"a2", 1}};
    for (size_t i = 0; i < sizeof puts / sizeof *puts; i++)
        assert_int_equal(put(&it, puts[i].payload, puts[i].delay_s), STATUS_OK);
    pass_us(999999);
    bus_turn_end(it.bus);
    assert_string_equal(it.log, "");
    pass_us(1);
    bus_turn_end(it.bus);
    assert_string_equal(it.log, "a a2 ");
    assert_int_equal(it.last.publisher, 7);
    assert_int_equal(it.last.expires_ms, 8);
    assert_int_equal(it.last.qos, 2);
    assert_true(it.last.retain && it.last.will != 0);
    pass_us(5000000);
    bus_turn_end(it.bus);
    assert_string_equal(it.log, "a a2 b c d ");
    bus_turn_end(it.bus);
    assert_int_equal(delayed_count(it.delayed), 1);
    pass_us(UINT64_C(42949670) * 1000000);
    bus_turn_end(it.bus);
    assert_string_equal(it.log, "a a2 b c d e ");
    end(&it);
}

static void a_full_window_and_parts_under_way_hold_them(void **state)
{
    (void)state;
    struct process it;
    begin(&it, 0);
    assert_int_equal(put(&it, "a", 1), STATUS_OK);
    assert_int_equal(put(&it, "b", 2), STATUS_OK);
    it.full = true;
    pass_us(1000000);
    bus_turn_end(it.bus);
    bus_turn_end(it.bus);
    assert_string_equal(it.log, "");
    assert_int_equal(delayed_count(it.delayed), 2);
    it.full = false;
    it.unsettled = true;
    bus_turn_end(it.bus);
    assert_string_equal(it.log, "a ");
    pass_us(1000000);
    bus_turn_end(it.bus);
    assert_int_equal(delayed_count(it.delayed), 2); /* the first must not be forgotten yet */
    it.unsettled = false;
    bus_turn_end(it.bus);
    assert_string_equal(it.log, "a b ");
    assert_int_equal(delayed_count(it.delayed), 1);
    end(&it);
}

static void the_next_incarnation_goes_on(void **state)
{
    (void)state;
    struct process it;
    begin(&it, 0);
    assert_int_equal(put(&it, "a", 1), STATUS_OK);
    assert_int_equal(put(&it, "b", 5), STATUS_OK);
    assert_int_equal(put(&it, "c", 9), STATUS_OK);
    pass_us(1000000);
    bus_turn_end(it.bus); /* published, not cleared: killed here, it is published again under its identity */
    uint64_t identity = it.last.will;
    end(&it);
    pass_us(2000000);
    begin(&it, 0);
    assert_int_equal(delayed_count(it.delayed), 3);
    bus_turn_end(it.bus);
    assert_string_equal(it.log, "a ");
    assert_int_equal(it.last.will, identity);
    pass_us(1999999);
    bus_turn_end(it.bus);
    assert_string_equal(it.log, "a ");
    pass_us(1);
    bus_turn_end(it.bus);
    assert_string_equal(it.log, "a b ");
    end(&it);
}

static void a_sibling_publishes_what_it_has_adopted(void **state)
{
    (void)state;
    struct process it, sibling;
    begin(&it, 0);
    assert_int_equal(put(&it, "a", 1), STATUS_OK);
    assert_int_equal(put(&it, "b", 2), STATUS_OK);
    int own = fd;
    assert_int_equal(block_table_create("test", SIZE, &fd), STATUS_OK);
    begin(&sibling, 1);
    assert_int_equal(put(&sibling, "s", 1), STATUS_OK);
    struct block_table *table;
    assert_int_equal(block_table_open(own, DELAYED_TABLE_MAGIC, &table), STATUS_OK);
    delayed_adopt(sibling.delayed, table, 0);
    pass_us(1000000);
    bus_turn_end(sibling.bus);
    bus_turn_end(sibling.bus);
    assert_true(strcmp(sibling.log, "a s ") == 0 || strcmp(sibling.log, "s a ") == 0);
    delayed_release_adopted(sibling.delayed, 0);
    pass_us(1000000);
    bus_turn_end(sibling.bus);
    assert_int_equal(strlen(sibling.log), 4);
    end(&sibling);
    end(&it);
    close(fd);
    fd = own;
    begin(&it, 0);
    bus_turn_end(it.bus);
    assert_string_equal(it.log, "b ");
    end(&it);
}

static void a_full_table_refuses_and_keeps_what_it_has(void **state)
{
    (void)state;
    struct process it;
    begin(&it, 0);
    unsigned count = 0;
    enum status status;
    while ((status = put(&it, "x", 1000)) == STATUS_OK)
        count++;
    assert_int_equal(status, STATUS_LIMIT);
    assert_in_range(count, SIZE / BLOCK_SIZE - 20, SIZE / BLOCK_SIZE);
    assert_int_equal(delayed_count(it.delayed), count);
    pass_us(1000 * UINT64_C(1000000));
    bus_turn_end(it.bus);
    bus_turn_end(it.bus);
    assert_int_equal(strlen(it.log), 2 * count);
    assert_int_equal(put(&it, "x", 1), STATUS_OK);
    end(&it);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(they_come_in_the_order_of_their_times),
        TEST(a_full_window_and_parts_under_way_hold_them),
        TEST(the_next_incarnation_goes_on),
        TEST(a_sibling_publishes_what_it_has_adopted),
        TEST(a_full_table_refuses_and_keeps_what_it_has),
    };
    return cmocka_run_group_tests_name("delayed", tests, NULL, NULL);
}
