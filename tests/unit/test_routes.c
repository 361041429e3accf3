/* routes: what is announced and what is not, who is waited for and how long, and what the index of a peer
 * holds. */
#include "cluster/routes.h"
#include "shared/clock.h"
#include "tests/unit/fake_node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#define WINDOW ((size_t)65536)
#define PEERS  3
#define TABLE  (4096u + 2u * 8192u)

struct process {
    struct topic_index *index;
    struct routes *routes;
    struct route_table *table;
};

struct waiter {
    struct routes_waiter routes_waiter; /* first */
    unsigned settled;
    uint64_t silent;
};

static struct fake_node node;
static struct keyed_hash hash;
static struct process processes[PEERS];
static int tables[BUS_PEERS_MAX];
static unsigned alarms_expected;

static void on_alarm(void *context, unsigned peer, const char *text)
{
    (void)context;
    if (alarms_expected == 0)
        fail_msg("alarm about %u: %s", peer, text);
    alarms_expected--;
}

static void process_start(unsigned self)
{
    struct process *it = &processes[self];
    struct bus *bus = fake_peer_start(&node, self, it, on_alarm);
    it->index = topic_index_new(&hash);
    assert_non_null(it->index);
    assert_int_equal(route_table_open(tables[self], node.peers[self].incarnation, &it->table), STATUS_OK);
    struct routes_settings routes = {.bus = bus,
        .index = it->index,
        .counters = &node.peers[self].counters,
        .table = it->table,
        .tables = tables};
    assert_int_equal(routes_new(&routes, &it->routes), STATUS_OK);
}

static void process_end(unsigned self)
{
    routes_free(&processes[self].routes);
    topic_index_free(&processes[self].index);
    route_table_close(&processes[self].table);
    fake_peer_end(&node, self);
}

static int set_up(void **state)
{
    (void)state;
    memset(processes, 0, sizeof processes);
    keyed_hash_init_from(&hash, (const uint8_t[32]){1});
    fake_node_open(&node, PEERS, WINDOW);
    for (unsigned self = 0; self < PEERS; self++)
        assert_int_equal(route_table_create(TABLE, &tables[self]), STATUS_OK);
    for (unsigned self = 0; self < PEERS; self++)
        process_start(self);
    fake_introduce_all(&node);
    for (unsigned self = 0; self < PEERS; self++)
        routes_start(processes[self].routes);
    fake_turns(&node, 4);
    for (unsigned self = 0; self < PEERS; self++)
        assert_true(routes_ready(processes[self].routes));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned self = 0; self < PEERS; self++)
        process_end(self);
    for (unsigned self = 0; self < PEERS; self++)
        close(tables[self]);
    fake_node_close(&node);
    return 0;
}

static void subscribe(unsigned self, const char *text, struct subscription *subscription, int durable)
{
    struct process *it = &processes[self];
    struct topic_filter *filter;
    *subscription = (struct subscription){0};
    assert_int_equal(topic_index_acquire(it->index, bytes_of_text(text), &filter), STATUS_OK);
    assert_int_equal(topic_index_insert(it->index, filter, NULL, subscription), STATUS_OK);
    assert_int_equal(routes_want(it->routes, filter, NULL, durable), STATUS_OK);
}

static void unsubscribe(unsigned self, struct subscription *subscription, int durable)
{
    struct topic_filter *filter = subscription->filter;
    topic_index_remove(processes[self].index, subscription);
    assert_int_equal(routes_want(processes[self].routes, filter, NULL, durable), STATUS_OK);
}

/* The peers that want the filter, as `self` sees it. */
static uint64_t wanted(unsigned self, const char *text)
{
    const struct topic_filter *filter = topic_index_find(processes[self].index, bytes_of_text(text));
    return filter != NULL ? filter->peers : 0;
}

static uint64_t wanted_durably(unsigned self, const char *text)
{
    const struct topic_filter *filter = topic_index_find(processes[self].index, bytes_of_text(text));
    return filter != NULL ? filter->durable_peers : 0;
}

static void on_settled(struct routes_waiter *routes_waiter, uint64_t silent)
{
    struct waiter *it = (struct waiter *)(void *)routes_waiter;
    it->settled++;
    it->silent = silent;
}

/* As routes_wait(). Waiters are static: a test that fails leaves its own on the list. */
static bool wait_for_all(struct waiter *waiter)
{
    *waiter = (struct waiter){.routes_waiter.settled = on_settled};
    list_init(&waiter->routes_waiter.link);
    return routes_wait(processes[0].routes, &waiter->routes_waiter);
}

static void the_first_subscription_is_told_to_all_and_waits_until_they_acknowledge(void **state)
{
    (void)state;
    struct subscription a;
    static struct waiter waiter;
    assert_true(wait_for_all(&waiter));
    subscribe(0, "a/+", &a, 0);
    assert_false(wait_for_all(&waiter));
    fake_turn(&node, 0);
    assert_int_equal(wanted(1, "a/+"), 1 << 0);
    assert_int_equal(wanted(2, "a/+"), 1 << 0);
    assert_int_equal(node.peers[1].counters.routes, 1);
    fake_turn(&node, 1);
    assert_int_equal(waiter.settled, 0);
    fake_turn(&node, 2);
    assert_int_equal(waiter.settled, 1);
    assert_int_equal(waiter.silent, 0);
    assert_true(wait_for_all(&waiter));
}

static void a_second_subscription_costs_no_record_but_waits_for_the_first(void **state)
{
    (void)state;
    struct subscription a, b, c;
    static struct waiter waiter;
    subscribe(0, "a", &a, 0);
    fake_turn(&node, 0);
    subscribe(0, "a", &b, 0);
    assert_false(bus_unpublished(node.peers[0].bus));
    assert_false(wait_for_all(&waiter));
    fake_turns(&node, 2);
    assert_int_equal(waiter.settled, 1);
    subscribe(0, "a", &c, 0);
    assert_false(bus_unpublished(node.peers[0].bus));
    assert_true(wait_for_all(&waiter));
    unsubscribe(0, &b, 0);
    assert_false(bus_unpublished(node.peers[0].bus));
    assert_int_equal(routes_next_us(processes[0].routes), UINT64_MAX);
    assert_int_equal(routes_announced(processes[0].routes), 1);
}

static void the_last_one_lingers_and_is_then_taken_back(void **state)
{
    (void)state;
    struct subscription a;
    subscribe(0, "a", &a, 0);
    fake_turns(&node, 2);
    unsubscribe(0, &a, 0);
    assert_false(bus_unpublished(node.peers[0].bus));
    assert_int_equal(routes_next_us(processes[0].routes), clock_monotonic_us() + ROUTES_LINGER_US);
    fake_pass_time(&node, ROUTES_LINGER_US - 1);
    fake_turns(&node, 2);
    assert_int_equal(wanted(1, "a"), 1 << 0);
    assert_int_equal(routes_announced(processes[0].routes), 1);
    fake_pass_time(&node, 1);
    fake_turns(&node, 2);
    assert_int_equal(routes_announced(processes[0].routes), 0);
    for (unsigned self = 0; self < PEERS; self++)
        assert_int_equal(topic_index_entries(processes[self].index), 0);
    assert_int_equal(node.peers[1].counters.routes, 0);
}

static void a_resubscription_while_it_lingers_costs_nothing(void **state)
{
    (void)state;
    struct subscription a;
    static struct waiter waiter;
    subscribe(0, "a", &a, 0);
    fake_turns(&node, 2);
    unsubscribe(0, &a, 0);
    fake_pass_time(&node, ROUTES_LINGER_US - 1);
    subscribe(0, "a", &a, 0);
    assert_false(bus_unpublished(node.peers[0].bus));
    assert_true(wait_for_all(&waiter));
    assert_int_equal(routes_next_us(processes[0].routes), UINT64_MAX);
    fake_pass_time(&node, 2 * ROUTES_LINGER_US);
    assert_false(bus_unpublished(node.peers[0].bus));
    fake_turns(&node, 2);
    assert_int_equal(wanted(1, "a"), 1 << 0);
}

static void a_silent_peer_holds_a_waiter_exactly_one_second(void **state)
{
    (void)state;
    struct subscription a;
    static struct waiter waiter;
    node.stopped = 1 << 1;
    subscribe(0, "a", &a, 0);
    assert_false(wait_for_all(&waiter));
    assert_int_equal(routes_next_us(processes[0].routes), clock_monotonic_us() + 1000000);
    fake_turns(&node, 2);
    fake_pass_time(&node, 999999);
    fake_turns(&node, 2);
    assert_int_equal(waiter.settled, 0);
    fake_pass_time(&node, 1);
    assert_int_equal(waiter.settled, 1);
    assert_int_equal(waiter.silent, 1 << 1);
    node.stopped = 0;
    bus_drain(node.peers[1].bus);
    assert_int_equal(wanted(1, "a"), 1 << 0);
    fake_turns(&node, 2);
    assert_true(wait_for_all(&waiter));
    assert_int_equal(waiter.settled, 0);
}

static void a_dead_peers_bits_go_and_nobody_waits_for_it(void **state)
{
    (void)state;
    struct subscription of_0, of_1, of_2;
    static struct waiter waiter;
    subscribe(1, "only", &of_1, 0);
    subscribe(2, "both", &of_2, 0);
    fake_turns(&node, 2);
    struct subscription both;
    subscribe(1, "both", &both, 0);
    fake_turns(&node, 2);
    assert_int_equal(wanted(0, "both"), 1 << 1 | 1 << 2);
    node.stopped = 1 << 1;
    subscribe(0, "new", &of_0, 0);
    assert_false(wait_for_all(&waiter));
    fake_turns(&node, 2);
    assert_int_equal(waiter.settled, 0);
    bus_peer_died(node.peers[0].bus, 1);
    fake_turn(&node, 0);
    assert_int_equal(waiter.settled, 1);
    assert_int_equal(waiter.silent, 0);
    assert_int_equal(wanted(0, "both"), 1 << 2);
    assert_null(topic_index_find(processes[0].index, bytes_of_text("only")));
    assert_int_equal(node.peers[0].counters.routes, 1);
}

static void a_new_peer_takes_full_state_before_it_is_ready(void **state)
{
    (void)state;
    struct subscription a, b, c;
    subscribe(0, "a", &a, 0);
    subscribe(0, "b/#", &b, 1);
    subscribe(2, "a", &c, 0);
    fake_turns(&node, 2);
    process_end(1);
    bus_peer_died(node.peers[0].bus, 1);
    bus_peer_died(node.peers[2].bus, 1);
    process_start(1);
    fake_introduce(&node, 0, 1);
    fake_introduce(&node, 1, 2);
    assert_false(routes_in_step(processes[0].routes, 1));
    routes_start(processes[1].routes);
    assert_false(routes_ready(processes[1].routes));
    fake_turns(&node, 4);
    assert_true(routes_ready(processes[1].routes));
    assert_int_equal(routes_unknown(processes[1].routes), 0);
    assert_true(routes_in_step(processes[0].routes, 1));
    assert_int_equal(wanted(1, "a"), 1 << 0 | 1 << 2);
    assert_int_equal(wanted(1, "b/#"), 1 << 0);
    assert_int_equal(wanted_durably(1, "b/#"), 1 << 0);
    static struct waiter waiter;
    assert_true(wait_for_all(&waiter));
}

static uint64_t group_members(unsigned self, const char *text, unsigned peer)
{
    const struct topic_filter *filter = topic_index_find(processes[self].index, bytes_of_text(text));
    return filter == NULL || filter->groups == NULL ? 0 : filter->groups->peer_members[peer];
}

static void subscribe_shared(
    unsigned self, const char *group_name, const char *text, struct subscription *subscription)
{
    struct process *it = &processes[self];
    struct topic_filter *filter;
    struct topic_group *group;
    *subscription = (struct subscription){0};
    assert_int_equal(topic_index_acquire(it->index, bytes_of_text(text), &filter), STATUS_OK);
    assert_int_equal(topic_index_group(it->index, filter, bytes_of_text(group_name), &group), STATUS_OK);
    assert_int_equal(topic_index_insert(it->index, filter, group, subscription), STATUS_OK);
    assert_int_equal(routes_want(it->routes, filter, group, 0), STATUS_OK);
}

/* Ends a process without a word and starts the slot's next; stopped ones hear of it when they run again. */
static void replace(unsigned self)
{
    process_end(self);
    for (unsigned other = 0; other < PEERS; other++) {
        if (other != self && (node.stopped >> other & 1) == 0)
            bus_peer_died(node.peers[other].bus, self);
    }
    process_start(self);
    for (unsigned other = 0; other < PEERS; other++) {
        if (other == self)
            continue;
        bus_peer_started(node.peers[self].bus, other, fake_origin(&node, other));
        if ((node.stopped >> other & 1) == 0)
            bus_peer_started(node.peers[other].bus, self, fake_origin(&node, self));
    }
    routes_start(processes[self].routes);
}

/* Full state of several pages: none of them is taken for what the peer had before. */
static void full_state_of_many_pages_arrives_whole(void **state)
{
    (void)state;
    enum { MANY = 3000 };
    struct subscription *many = calloc(MANY, sizeof *many);
    assert_non_null(many);
    char text[32];
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "page/%u", i);
        subscribe(0, text, &many[i], 0);
        if (i % 100 == 0)
            fake_turns(&node, 2);
    }
    fake_turns(&node, 10);
    replace(1);
    fake_turns(&node, 40);
    assert_true(routes_ready(processes[1].routes));
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "page/%u", i);
        assert_int_equal(wanted(1, text) & 1, 1);
    }
    for (unsigned i = 0; i < MANY; i++)
        unsubscribe(0, &many[i], 0);
    free(many);
}

static void routes_of_a_silent_peer_are_known_though_nobody_is_left_who_could_tell_them(void **state)
{
    (void)state;
    struct subscription plain, durable, gone, shared;
    subscribe(2, "a/+", &plain, 0);
    subscribe(2, "b", &durable, 1);
    subscribe(2, "c", &gone, 1);
    unsubscribe(2, &gone, -1);
    subscribe_shared(2, "group", "d", &shared);
    fake_turns(&node, 2);
    fake_pass_time(&node, ROUTES_LINGER_US); /* c is taken back */
    fake_turns(&node, 2);
    node.stopped = 1 << 2;
    replace(0);
    replace(1);
    fake_turns(&node, 3);
    fake_pass_time(&node, ROUTES_SILENT_US - 1);
    fake_turns(&node, 1);
    assert_false(routes_ready(processes[0].routes));
    fake_pass_time(&node, 1);
    for (unsigned self = 0; self < 2; self++) {
        assert_true(routes_ready(processes[self].routes));
        assert_int_equal(routes_unknown(processes[self].routes), 0);
        assert_int_equal(wanted(self, "a/+"), 1 << 2);
        assert_int_equal(wanted_durably(self, "b"), 1 << 2);
        assert_null(topic_index_find(processes[self].index, bytes_of_text("c")));
        assert_int_equal(group_members(self, "d", 2), 1);
    }
}

static void a_peer_that_runs_again_is_believed_rather_than_its_table(void **state)
{
    (void)state;
    struct subscription kept, other;
    subscribe(2, "kept", &kept, 0);
    fake_turns(&node, 2);
    node.stopped = 1 << 2;
    replace(0);
    fake_pass_time(&node, ROUTES_SILENT_US);
    assert_int_equal(wanted(0, "kept"), 1 << 2);
    unsubscribe(2, &kept, 0); /* before it hears of anything that happened meanwhile */
    clock_set(clock_monotonic_us() + ROUTES_LINGER_US, clock_real_us());
    node.stopped = 0;
    bus_tick(node.peers[2].bus);
    bus_peer_died(node.peers[2].bus, 0);
    subscribe(2, "other", &other, 0);
    bus_peer_started(node.peers[2].bus, 0, fake_origin(&node, 0));
    bus_drain(node.peers[2].bus);
    fake_turns(&node, 4);
    assert_int_equal(wanted(0, "kept"), 0);
    assert_int_equal(wanted(0, "other"), 1 << 2);
}

/* The peer has read our table and serves clients: a route that is younger is not known there. */
static void a_waiter_of_who_stood_still_waits_for_a_peer_that_began_without_it(void **state)
{
    (void)state;
    static struct waiter waiter;
    struct subscription late;
    node.stopped = 1 << 2;
    replace(0);
    fake_turns(&node, 1);
    fake_pass_time(&node, ROUTES_SILENT_US);
    fake_turns(&node, 1);
    assert_true(routes_ready(processes[0].routes));
    node.stopped = 1 << 0; /* slow now: its answer takes a while */
    subscribe(2, "late", &late, 0);
    waiter = (struct waiter){.routes_waiter.settled = on_settled};
    list_init(&waiter.routes_waiter.link);
    assert_false(routes_wait(processes[2].routes, &waiter.routes_waiter));
    bus_peer_died(node.peers[2].bus, 0); /* all in one turn, as the master has told it long ago */
    bus_peer_started(node.peers[2].bus, 0, fake_origin(&node, 0));
    bus_drain(node.peers[2].bus);
    fake_turn(&node, 2);
    fake_turn(&node, 1);
    fake_turn(&node, 2);
    assert_int_equal(waiter.settled, 0);
    assert_int_equal(wanted(0, "late"), 0);
    node.stopped = 0;
    bus_drain(node.peers[0].bus);
    fake_turns(&node, 4);
    assert_int_equal(wanted(0, "late"), 1 << 2);
    assert_int_equal(waiter.settled, 1);
    assert_int_equal(waiter.silent, 0);
}

static void a_table_holds_what_counts_however_often_it_changed(void **state)
{
    (void)state;
    static struct subscription kept[40], changing;
    char text[64];
    for (unsigned i = 0; i < 40; i++) {
        snprintf(text, sizeof text, "kept/%u", i);
        subscribe(2, text, &kept[i], 0);
    }
    for (unsigned round = 0; round < 500; round++) {
        subscribe(2, "changing/whenever/it/likes", &changing, 1);
        unsubscribe(2, &changing, -1);
        fake_turns(&node, 1);
    }
    node.stopped = 1 << 2;
    replace(0);
    fake_pass_time(&node, ROUTES_SILENT_US);
    assert_int_equal(routes_unknown(processes[0].routes), 0);
    for (unsigned i = 0; i < 40; i++) {
        snprintf(text, sizeof text, "kept/%u", i);
        assert_int_equal(wanted(0, text), 1 << 2);
    }
}

static void a_peer_whose_table_is_too_small_is_not_known_until_it_answers(void **state)
{
    (void)state;
    static struct subscription many[1000];
    char text[64];
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "many/%u", i);
        subscribe(2, text, &many[i], 0);
        if (i % 100 == 0)
            fake_turns(&node, 1);
    }
    fake_turns(&node, 2);
    node.stopped = 1 << 2;
    replace(0);
    fake_pass_time(&node, ROUTES_SILENT_US);
    assert_true(routes_ready(processes[0].routes));
    assert_int_equal(routes_unknown(processes[0].routes), 1 << 2);
    node.stopped = 0;
    bus_peer_died(node.peers[2].bus, 0);
    bus_peer_started(node.peers[2].bus, 0, fake_origin(&node, 0));
    bus_drain(node.peers[2].bus);
    fake_turns(&node, 10);
    assert_int_equal(routes_unknown(processes[0].routes), 0);
    assert_int_equal(wanted(0, "many/999"), 1 << 2);
}

static void who_was_not_told_everything_reads_no_client_before_it_knows_all(void **state)
{
    (void)state;
    static struct subscription many[400];
    static struct waiter waiter;
    char text[400];
    unsigned count = 0;
    node.stopped = 1 << 2;
    alarms_expected = 1;
    while (alarms_expected > 0 && count < 400) { /* until one finds no room */
        snprintf(text, sizeof text, "many/%0300u", count);
        subscribe(0, text, &many[count++], 0);
        fake_turns(&node, 1);
    }
    assert_int_equal(alarms_expected, 0);
    assert_false(routes_in_step(processes[0].routes, 2));
    assert_false(wait_for_all(&waiter));
    /* It runs again: what a worker does before it looks at what its clients have sent. */
    node.stopped = 0;
    assert_int_equal(bus_behind(node.peers[2].bus), 1 << 0);
    bus_drain(node.peers[2].bus);
    routes_fell_behind(processes[2].routes, 1 << 0);
    assert_int_equal(wanted(2, text), 0);
    assert_false(routes_ready(processes[2].routes));
    assert_int_equal(waiter.settled, 0);
    for (unsigned i = 0; i < 100 && !routes_ready(processes[2].routes); i++) {
        bus_poll(node.peers[0].bus);
        fake_turns(&node, 1);
        assert_true(routes_ready(processes[2].routes) == (wanted(2, text) == 1 << 0));
    }
    assert_true(routes_ready(processes[2].routes));
    fake_turns(&node, 2);
    assert_int_equal(bus_behind(node.peers[2].bus), 0);
    assert_true(routes_in_step(processes[0].routes, 2));
    assert_int_equal(waiter.settled, 1);
    assert_int_equal(waiter.silent, 0);
}

static void the_durable_bit_is_told_when_the_first_comes_and_the_last_goes(void **state)
{
    (void)state;
    struct subscription plain, first, second;
    subscribe(0, "a", &plain, 0);
    fake_turns(&node, 2);
    assert_int_equal(wanted_durably(1, "a"), 0);
    subscribe(0, "a", &first, 1);
    fake_turns(&node, 2);
    assert_int_equal(wanted_durably(1, "a"), 1 << 0);
    subscribe(0, "a", &second, 1);
    assert_false(bus_unpublished(node.peers[0].bus));
    unsubscribe(0, &first, -1);
    assert_false(bus_unpublished(node.peers[0].bus));
    unsubscribe(0, &second, -1);
    fake_turns(&node, 2);
    assert_int_equal(wanted_durably(1, "a"), 0);
    assert_int_equal(wanted(1, "a"), 1 << 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_first_subscription_is_told_to_all_and_waits_until_they_acknowledge),
        TEST(a_second_subscription_costs_no_record_but_waits_for_the_first),
        TEST(the_last_one_lingers_and_is_then_taken_back),
        TEST(a_resubscription_while_it_lingers_costs_nothing),
        TEST(a_silent_peer_holds_a_waiter_exactly_one_second),
        TEST(a_dead_peers_bits_go_and_nobody_waits_for_it),
        TEST(a_new_peer_takes_full_state_before_it_is_ready),
        TEST(full_state_of_many_pages_arrives_whole),
        TEST(routes_of_a_silent_peer_are_known_though_nobody_is_left_who_could_tell_them),
        TEST(a_peer_that_runs_again_is_believed_rather_than_its_table),
        TEST(a_waiter_of_who_stood_still_waits_for_a_peer_that_began_without_it),
        TEST(a_table_holds_what_counts_however_often_it_changed),
        TEST(a_peer_whose_table_is_too_small_is_not_known_until_it_answers),
        TEST(who_was_not_told_everything_reads_no_client_before_it_knows_all),
        TEST(the_durable_bit_is_told_when_the_first_comes_and_the_last_goes),
    };
    return cmocka_run_group_tests_name("routes", tests, NULL, NULL);
}
