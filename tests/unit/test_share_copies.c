/* share_record and share_copies: what a peer did not settle comes back when it dies, each once and in order,
 * and nothing else does. */
#include "cluster/acceptance.h"
#include "cluster/share_copies.h"
#include "cluster/share_record.h"
#include "shared/clock.h"
#include "tests/unit/fake_node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define WINDOW    ((size_t)65536)
#define PEERS     3
#define BYTES_MAX 4000

struct process {
    struct topic_index *index;
    struct share_copies *copies;
    struct topic_group *group;
    char orphans[4096]; /* "payload/hops " */
    bool alive;         /* as the last was told */
};

static struct fake_node node;
static struct process processes[PEERS];

static void on_orphaned(
    void *context, struct topic_group *group, unsigned hops, struct publication *publication, bool alive)
{
    struct process *it = context;
    struct publication_view view = publication_view(publication);
    size_t used = strlen(it->orphans);
    snprintf(it->orphans + used, sizeof it->orphans - used, "%.*s/%u ", (int)view.payload.size,
        (const char *)view.payload.data, hops);
    it->alive = alive;
    assert_ptr_equal(group, it->group);
    if (hops == 7) /* handing it on keeps a copy for somebody else */
        share_copies_keep(it->copies, 2, share_copies_number(it->copies, 2), group, 8, publication);
}

static void process_start(unsigned self)
{
    struct process *it = &processes[self];
    struct keyed_hash hash;
    struct topic_filter *filter;
    memset(&hash, 1, sizeof hash);
    struct bus *bus = fake_peer_start(&node, self, it, NULL);
    it->index = topic_index_new(&hash);
    assert_non_null(it->index);
    assert_int_equal(topic_index_acquire(it->index, bytes_of_text("t"), &filter), STATUS_OK);
    assert_int_equal(topic_index_group(it->index, filter, bytes_of_text("g"), &it->group), STATUS_OK);
    topic_index_hold_group(it->group);
    struct share_copies_settings settings = {
        .bus = bus, .index = it->index, .bytes_max = BYTES_MAX, .context = it, .orphaned = on_orphaned};
    assert_int_equal(share_copies_new(&settings, &it->copies), STATUS_OK);
}

static void process_end(unsigned self)
{
    share_copies_free(&processes[self].copies);
    topic_index_free(&processes[self].index);
    fake_peer_end(&node, self);
}

static int set_up(void **state)
{
    (void)state;
    memset(processes, 0, sizeof processes);
    fake_node_open(&node, PEERS, WINDOW);
    for (unsigned self = 0; self < PEERS; self++)
        process_start(self);
    fake_introduce_all(&node);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned self = 0; self < PEERS; self++)
        process_end(self);
    fake_node_close(&node);
    return 0;
}

static uint64_t keep(unsigned peer, const char *payload, unsigned hops)
{
    struct publication_view view = {
        .meta = {.qos = 1}, .topic = bytes_of_text("t"), .payload = bytes_of_text(payload)};
    struct publication *publication = publication_new(&view);
    assert_non_null(publication);
    uint64_t number = share_copies_number(processes[0].copies, peer);
    share_copies_keep(processes[0].copies, peer, number, processes[0].group, hops, publication);
    publication_unref(&publication);
    return number;
}

static void settle(unsigned at, uint64_t number)
{
    share_copies_settle(processes[at].copies, 0, node.peers[0].incarnation, number);
}

static void assert_orphans(const char *expected)
{
    assert_string_equal(processes[0].orphans, expected);
    processes[0].orphans[0] = 0;
}

static void what_was_not_settled_comes_back_in_order(void **state)
{
    (void)state;
    uint64_t first = keep(1, "a", 0);
    keep(1, "b", 3);
    uint64_t third = keep(1, "c", 0);
    keep(2, "x", 0);
    keep(1, "d", 0);
    settle(1, third);
    settle(1, first);
    fake_turn(&node, 1);
    assert_int_equal(share_copies_count(processes[0].copies), 3);
    bus_peer_died(node.peers[0].bus, 1);
    assert_orphans("b/3 d/0 ");
    assert_false(processes[0].alive);
    assert_int_equal(share_copies_count(processes[0].copies), 1);
}

static void what_was_settled_before_a_death_counts(void **state)
{
    (void)state;
    uint64_t number = keep(1, "a", 0);
    keep(1, "b", 0);
    settle(1, number);
    share_copies_tell(processes[1].copies);
    bus_publish(node.peers[1].bus); /* in the ring; no message was sent */
    bus_peer_died(node.peers[0].bus, 1);
    assert_orphans("b/0 ");
}

static void what_was_not_published_does_not_count(void **state)
{
    (void)state;
    settle(1, keep(1, "a", 0));
    bus_peer_died(node.peers[0].bus, 1);
    assert_orphans("a/0 ");
}

static void other_incarnations_settle_nothing(void **state)
{
    (void)state;
    uint64_t number = keep(1, "a", 0);
    share_copies_settle(processes[1].copies, 0, node.peers[0].incarnation + 1, number);
    fake_turn(&node, 1);
    assert_int_equal(share_copies_count(processes[0].copies), 1);
    settle(1, number);
    bus_peer_died(node.peers[1].bus, 0); /* it has nothing to tell a dead one */
    fake_turn(&node, 1);
    assert_int_equal(share_copies_count(processes[0].copies), 1);
}

static void bytes_are_bounded_per_peer(void **state)
{
    (void)state;
    uint64_t numbers[100];
    unsigned count = 0;
    while (share_copies_full(processes[0].copies) == 0)
        numbers[count++] = keep(1, "some bytes that count", 0);
    assert_int_equal(share_copies_full(processes[0].copies), 1 << 1);
    assert_in_range(share_copies_bytes(processes[0].copies), BYTES_MAX, BYTES_MAX + 300);
    for (unsigned i = 0; i < count / 2; i++)
        settle(1, numbers[count - 1 - i]);
    fake_turn(&node, 1);
    assert_int_equal(share_copies_full(processes[0].copies), 0);
    bus_peer_died(node.peers[0].bus, 1);
    assert_int_equal(share_copies_bytes(processes[0].copies), 0);
}

static void copies_that_come_back_may_become_new_ones(void **state)
{
    (void)state;
    keep(1, "a", 7);
    keep(2, "b", 7);
    bus_peer_died(node.peers[0].bus, 1);
    assert_orphans("a/7 ");
    bus_peer_died(node.peers[0].bus, 2);
    assert_orphans("b/7 a/8 ");
    assert_int_equal(share_copies_count(processes[0].copies), 1); /* b's, for the one that is gone, too */
}

static void a_lane_that_is_given_up_gives_back(void **state)
{
    (void)state;
    uint64_t number = keep(1, "a", 0);
    share_copies_give_up(processes[0].copies, 1);
    assert_orphans("a/0 ");
    assert_true(processes[0].alive);
    settle(1, number); /* late */
    uint64_t next = keep(1, "b", 0);
    assert_true(next > number);
    fake_turn(&node, 1);
    assert_int_equal(share_copies_count(processes[0].copies), 1);
}

/* One that is never settled must not make the others' places pile up. */
static void holes_are_closed(void **state)
{
    (void)state;
    uint64_t random = 3;
    keep(1, "stuck", 0);
    uint64_t open[8];
    unsigned count = 0;
    for (unsigned i = 0; i < 20000; i++) {
        random = random * UINT64_C(6364136223846793005) + 1;
        if (count == 8 || (count > 0 && random >> 60 < 7)) {
            unsigned which = (unsigned)(random >> 33) % count;
            settle(1, open[which]);
            open[which] = open[--count];
            fake_turn(&node, 1);
        } else {
            open[count++] = keep(1, "x", 0);
        }
        assert_int_equal(share_copies_count(processes[0].copies), count + 1);
    }
}

static void picks_travel(void **state)
{
    (void)state;
    struct share_pick first = {.incarnation = 5,
        .number = 6,
        .filter = bytes_of_text("a/+"),
        .group = bytes_of_text("g"),
        .slot = 7,
        .hops = 8};
    struct share_pick second = {.filter = bytes_of_text("#"), .group = bytes_of_text("h"), .slot = 63};
    uint8_t record[256];
    uint8_t *end = share_record_write(share_record_write(share_record_begin(record, 4), &first), &second);
    size_t size = (size_t)(end - record);
    share_record_end(record, size);
    struct share_reader reader;
    struct share_pick pick;
    assert_int_equal(share_record_read(bytes_of(record, size), &reader), STATUS_OK);
    assert_int_equal(reader.incarnation, 4);
    assert_true(share_record_next(&reader, &pick));
    assert_int_equal(pick.incarnation, 5);
    assert_int_equal(pick.number, 6);
    assert_int_equal(pick.slot, 7);
    assert_int_equal(pick.hops, 8);
    assert_true(bytes_equal(pick.filter, first.filter));
    assert_true(bytes_equal(pick.group, first.group));
    assert_true(share_record_next(&reader, &pick));
    assert_int_equal(pick.slot, 63);
    assert_false(share_record_next(&reader, &pick));
    for (size_t cut = SHARE_HEAD_SIZE; cut < size; cut++) {
        share_record_end(record, cut);
        unsigned whole = 0;
        if (share_record_read(bytes_of(record, cut), &reader) == STATUS_OK) {
            while (share_record_next(&reader, &pick))
                whole++;
        }
        assert_in_range(whole, 0, 1);
    }
}

static void malformed_picks_are_refused(void **state)
{
    (void)state;
    static const struct share_pick wrong[] = {
        {.filter = {(const uint8_t *)"a/#/b", 5}, .group = {(const uint8_t *)"g", 1}},
        {.filter = {(const uint8_t *)"", 0}, .group = {(const uint8_t *)"g", 1}},
        {.filter = {(const uint8_t *)"a", 1}, .group = {(const uint8_t *)"", 0}},
        {.filter = {(const uint8_t *)"a", 1}, .group = {(const uint8_t *)"g", 1}, .hops = SHARE_HOPS_MAX + 1},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint8_t record[256];
        struct share_reader reader;
        struct share_pick pick;
        size_t size = (size_t)(share_record_write(share_record_begin(record, 1), &wrong[i]) - record);
        share_record_end(record, size);
        assert_int_equal(share_record_read(bytes_of(record, size), &reader), STATUS_OK);
        assert_false(share_record_next(&reader, &pick));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_not_settled_comes_back_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_settled_before_a_death_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_not_published_does_not_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_incarnations_settle_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bytes_are_bounded_per_peer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(copies_that_come_back_may_become_new_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lane_that_is_given_up_gives_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(holes_are_closed, set_up, tear_down),
        cmocka_unit_test(picks_travel),
        cmocka_unit_test(malformed_picks_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
