/* share_pick: fair where it must be fair, faithful where it must be faithful, connected members first. */
#include "shared/share_pick.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { WORKERS = 4, MEMBERS = 10, MESSAGES = 10000 };

/* One group as its workers see it: each has its own index. */
struct node {
    struct topic_index *index[WORKERS];
    struct topic_group *group[WORKERS];
    struct subscription members[MEMBERS];
    unsigned slot_of[MEMBERS];
    unsigned got[MEMBERS];
};

static struct node node;

static void announce(unsigned slot)
{
    const struct topic_group *own = node.group[slot];
    bool away = own->connected == 0;
    for (unsigned other = 0; other < WORKERS; other++) {
        if (other == slot)
            continue;
        struct topic_group *group = node.group[other];
        uint32_t members = away ? own->count : own->connected;
        assert_int_equal(topic_index_set_group_peer(node.index[other], group, slot, members), STATUS_OK);
        if (members > 0)
            topic_index_set_group_state(group, slot, away, false);
    }
}

static void set_connected(unsigned member, bool connected)
{
    topic_index_set_connected(&node.members[member], connected);
    announce(node.slot_of[member]);
}

static int set_up(void **state)
{
    (void)state;
    struct keyed_hash hash;
    memset(&hash, 7, sizeof hash);
    memset(&node, 0, sizeof node);
    for (unsigned slot = 0; slot < WORKERS; slot++) {
        struct topic_filter *filter;
        node.index[slot] = topic_index_new(&hash);
        assert_non_null(node.index[slot]);
        assert_int_equal(topic_index_acquire(node.index[slot], bytes_of_text("jobs/+"), &filter), STATUS_OK);
        assert_int_equal(
            topic_index_group(node.index[slot], filter, bytes_of_text("g"), &node.group[slot]), STATUS_OK);
        topic_index_hold_group(node.group[slot]);
    }
    for (unsigned i = 0; i < MEMBERS; i++) {
        unsigned slot = node.slot_of[i] = i * i % WORKERS; /* slots 0 and 1 have four, 2 and 3 one each */
        if (i == 2 || i == 3)
            slot = node.slot_of[i] = i;
        struct topic_group *group = node.group[slot];
        assert_int_equal(
            topic_index_insert(node.index[slot], group->filter, group, &node.members[i]), STATUS_OK);
        set_connected(i, true);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned slot = 0; slot < WORKERS; slot++)
        topic_index_free(&node.index[slot]);
    return 0;
}

/* A publication at this worker; the index of the member that gets it, MEMBERS: nobody. */
static unsigned publish_query(unsigned at, struct share_query query)
{
    query.self = at;
    unsigned slot = share_pick_slot(node.group[at], &query);
    if (slot == SHARE_NOBODY)
        return MEMBERS;
    share_picked(node.group[at], &query, slot);
    query.self = slot;
    struct subscription *member = share_pick_member(node.group[slot], &query);
    assert_non_null(member);
    unsigned i = (unsigned)(member - node.members);
    node.got[i]++;
    return i;
}

static unsigned publish(unsigned at, enum share_strategy strategy, uint64_t value)
{
    return publish_query(at, (struct share_query){.strategy = strategy, .value = value});
}

static void check_balance(unsigned mean, unsigned percent)
{
    for (unsigned i = 0; i < MEMBERS; i++) {
        assert_in_range(node.got[i], mean - mean * percent / 100, mean + mean * percent / 100);
        node.got[i] = 0;
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return *state ^ *state >> 29;
}

static void round_robin_is_even(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MESSAGES; i++)
        publish(1, SHARE_ROUND_ROBIN, 0);
    check_balance(MESSAGES / MEMBERS, 1);
    for (unsigned i = 0; i < MESSAGES; i++)
        publish(i * 7 % WORKERS, SHARE_ROUND_ROBIN, 0);
    check_balance(MESSAGES / MEMBERS, 1);
}

static void random_is_even(void **state)
{
    (void)state;
    uint64_t random = 1;
    for (unsigned i = 0; i < 10 * MESSAGES; i++)
        publish(i % WORKERS, SHARE_RANDOM, next_random(&random));
    check_balance(10 * MESSAGES / MEMBERS, 5);
}

static void sticky_stays_and_all_workers_agree(void **state)
{
    (void)state;
    unsigned chosen = publish(3, SHARE_STICKY, 0);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(publish(i % WORKERS, SHARE_STICKY, 0), chosen);
    unsigned other = (chosen + 1) % MEMBERS;
    set_connected(other, false);
    set_connected(other, true);
    assert_int_equal(publish(0, SHARE_STICKY, 0), chosen);
    set_connected(chosen, false);
    unsigned next = publish(0, SHARE_STICKY, 0);
    assert_int_not_equal(next, chosen);
    set_connected(chosen, true);
    assert_int_equal(publish(1, SHARE_STICKY, 0), next);
}

static void hashes_are_faithful_at_every_worker(void **state)
{
    (void)state;
    uint64_t random = 5;
    for (unsigned i = 0; i < MESSAGES; i++) {
        uint64_t value = next_random(&random);
        unsigned chosen = publish(0, SHARE_HASH_TOPIC, value);
        for (unsigned at = 1; at < WORKERS; at++)
            assert_int_equal(publish(at, SHARE_HASH_TOPIC, value), chosen);
    }
    check_balance(WORKERS * MESSAGES / MEMBERS, 15);
}

static void local_prefers_its_own(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(node.slot_of[publish(1, SHARE_LOCAL, 0)], 1);
    assert_int_equal(publish(2, SHARE_LOCAL, 0), 2);
    set_connected(2, false);
    assert_int_not_equal(node.slot_of[publish(2, SHARE_LOCAL, 0)], 2);
}

static void away_members_are_the_last_resort(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MEMBERS; i++) {
        if (i != 3)
            set_connected(i, false);
    }
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(publish(i % WORKERS, SHARE_ROUND_ROBIN, 0), 3);
    struct share_query connected = {.connected = true};
    assert_int_equal(publish_query(1, connected), 3);
    set_connected(3, false);
    assert_int_equal(publish_query(1, connected), MEMBERS);
    for (unsigned i = 0; i < MEMBERS; i++)
        node.got[i] = 0;
    for (unsigned i = 0; i < MESSAGES; i++)
        publish(2, SHARE_ROUND_ROBIN, 0);
    check_balance(MESSAGES / MEMBERS, 1);
}

static void full_lanes_are_avoided_while_others_are_connected(void **state)
{
    (void)state;
    struct share_query query = {.avoid = UINT64_C(1) << 1};
    for (unsigned i = 0; i < 40; i++)
        assert_int_not_equal(node.slot_of[publish_query(0, query)], 1);
    query.avoid |= 12;
    for (unsigned i = 0; i < MEMBERS; i++) {
        if (node.slot_of[i] == 0)
            set_connected(i, false);
    }
    assert_int_not_equal(node.slot_of[publish_query(0, query)], 0);
}

static void nobody_is_nobody(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MEMBERS; i++) {
        topic_index_remove(node.index[node.slot_of[i]], &node.members[i]);
        announce(node.slot_of[i]);
    }
    assert_int_equal(publish(0, SHARE_ROUND_ROBIN, 0), MEMBERS);
    assert_null(share_pick_member(node.group[0], &(struct share_query){0}));
}

/* What the strategies rely on: connected members stand first, whatever comes and goes. */
static void connected_members_stand_first(void **state)
{
    (void)state;
    uint64_t random = 9;
    struct topic_group *group = node.group[0];
    struct subscription extra[32] = {0};
    bool connected[32] = {false};
    for (unsigned step = 0; step < 20000; step++) {
        unsigned i = (unsigned)(next_random(&random) % 32);
        if (extra[i].filter == NULL) {
            assert_int_equal(topic_index_insert(node.index[0], group->filter, group, &extra[i]), STATUS_OK);
            connected[i] = false;
        } else if (next_random(&random) % 3 == 0) {
            topic_index_remove(node.index[0], &extra[i]);
        } else {
            connected[i] = !connected[i];
            topic_index_set_connected(&extra[i], connected[i]);
        }
        uint32_t count = 0;
        for (unsigned k = 0; k < 32; k++)
            count += extra[k].filter != NULL && connected[k];
        for (unsigned k = 0; k < MEMBERS; k++)
            count += node.slot_of[k] == 0;
        assert_int_equal(group->connected, count);
        for (uint32_t k = 0; k < group->count; k++) {
            const struct subscription *it = group->members[k];
            assert_int_equal(it->position, k);
            if (it >= extra && it < extra + 32)
                assert_int_equal(connected[it - extra], k < group->connected);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(round_robin_is_even, set_up, tear_down),
        cmocka_unit_test_setup_teardown(random_is_even, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sticky_stays_and_all_workers_agree, set_up, tear_down),
        cmocka_unit_test_setup_teardown(hashes_are_faithful_at_every_worker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(local_prefers_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(away_members_are_the_last_resort, set_up, tear_down),
        cmocka_unit_test_setup_teardown(full_lanes_are_avoided_while_others_are_connected, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nobody_is_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(connected_members_stand_first, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
