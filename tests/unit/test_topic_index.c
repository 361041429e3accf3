/* topic_index: against a list of filters that are matched one by one, with random changes in between. */
#include "shared/topic_index.h"
#include "tests/unit/topic_model.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdlib.h>
#include <time.h>

enum {
    FILTERS = 400,
    SUBSCRIPTIONS = 1500,
    STEPS = 60000,
    MATCHES = 3200, /* of one round */
};

struct model_filter_state {
    char text[128];
    uint32_t subscriptions;
    uint32_t members; /* in all groups */
    uint64_t peers;
    uint64_t durable;
    uint32_t remote_members; /* of group g1, peer 7 */
    bool owned;
    bool seen;
};

struct world {
    struct topic_index *index;
    struct model_filter_state filters[FILTERS];
    struct subscription subscriptions[SUBSCRIPTIONS];
    size_t filter_of[SUBSCRIPTIONS];
    uint64_t random;
};

static struct keyed_hash test_hash;

static struct topic_filter *acquire(struct topic_index *index, const char *text)
{
    struct topic_filter *filter = NULL;
    assert_int_equal(topic_index_acquire(index, bytes_of_text(text), &filter), STATUS_OK);
    return filter;
}

static void insert(struct topic_index *index, const char *text, struct subscription *subscription)
{
    assert_int_equal(topic_index_insert(index, acquire(index, text), NULL, subscription), STATUS_OK);
}

static bool is_held(const struct model_filter_state *it)
{
    return it->subscriptions > 0 || it->members > 0 || it->peers != 0 || it->remote_members > 0 || it->owned;
}

static void check_filter(const struct topic_filter *filter, struct model_filter_state *it)
{
    char text[128];
    assert_int_equal(topic_filter_text(filter, text, sizeof text), strlen(it->text));
    assert_string_equal(text, it->text);
    assert_int_equal(filter->count, it->subscriptions);
    assert_int_equal(filter->peers, it->peers);
    assert_int_equal(filter->durable_peers, it->durable);
    assert_int_equal(filter->owner_data != NULL, it->owned);
    for (uint32_t i = 0; i < filter->count; i++) {
        assert_ptr_equal(filter->subscriptions[i]->filter, filter);
        assert_int_equal(filter->subscriptions[i]->position, i);
    }
    uint32_t members = 0;
    uint32_t remote = 0;
    for (struct topic_group *group = filter->groups; group != NULL; group = group->next) {
        assert_ptr_equal(group->filter, filter);
        members += group->count;
        remote += group->peer_members != NULL ? group->peer_members[7] : 0;
        assert_int_equal(group->peers != 0, group->peer_members != NULL);
        for (uint32_t i = 0; i < group->count; i++)
            assert_ptr_equal(group->members[i]->group, group);
    }
    assert_int_equal(members, it->members);
    assert_int_equal(remote, it->remote_members);
}

static void check_match(struct world *world)
{
    char topic[128];
    model_topic(&world->random, topic, sizeof topic);
    struct topic_match match = topic_index_match(world->index, bytes_of_text(topic));
    uint32_t expected = 0;
    for (size_t i = 0; i < FILTERS; i++) {
        struct model_filter_state *it = &world->filters[i];
        if (!is_held(it) || !model_matches(it->text, topic))
            continue;
        expected++;
        bool found = false;
        for (uint32_t m = 0; m < match.count; m++) {
            char text[128];
            topic_filter_text(match.filters[m], text, sizeof text);
            if (strcmp(text, it->text) != 0)
                continue;
            found = true;
            check_filter(match.filters[m], it);
        }
        assert_true(found);
    }
    assert_int_equal(match.count, expected);
}

static void toggle_subscription(struct world *world, size_t i, bool shared)
{
    struct subscription *subscription = &world->subscriptions[i];
    if (subscription->filter != NULL) {
        struct model_filter_state *it = &world->filters[world->filter_of[i]];
        *(subscription->group != NULL ? &it->members : &it->subscriptions) -= 1;
        topic_index_remove(world->index, subscription);
        assert_null(subscription->filter);
        return;
    }
    size_t f = model_below(&world->random, FILTERS);
    struct model_filter_state *it = &world->filters[f];
    struct topic_filter *filter = acquire(world->index, it->text);
    struct topic_group *group = NULL;
    if (shared) {
        const char *name = model_below(&world->random, 2) ? "g1" : "g2";
        assert_int_equal(topic_index_group(world->index, filter, bytes_of_text(name), &group), STATUS_OK);
    }
    assert_int_equal(topic_index_insert(world->index, filter, group, subscription), STATUS_OK);
    world->filter_of[i] = f;
    *(shared ? &it->members : &it->subscriptions) += 1;
}

static void change_peer(struct world *world)
{
    struct model_filter_state *it = &world->filters[model_below(&world->random, FILTERS)];
    struct topic_filter *filter = acquire(world->index, it->text);
    unsigned peer = model_below(&world->random, TOPIC_INDEX_PEERS_MAX);
    bool durable = model_below(&world->random, 2);
    uint64_t bit = UINT64_C(1) << peer;
    if (it->peers & bit) {
        topic_index_clear_peer(world->index, filter, peer);
        it->peers &= ~bit;
        it->durable &= ~bit;
    } else {
        topic_index_set_peer(world->index, filter, peer, durable);
        it->peers |= bit;
        it->durable |= durable ? bit : 0;
    }
    topic_index_release(world->index, filter);
}

static void change_group_peer(struct world *world)
{
    struct model_filter_state *it = &world->filters[model_below(&world->random, FILTERS)];
    struct topic_filter *filter = acquire(world->index, it->text);
    struct topic_group *group;
    assert_int_equal(topic_index_group(world->index, filter, bytes_of_text("g1"), &group), STATUS_OK);
    it->remote_members = model_below(&world->random, 3);
    assert_int_equal(topic_index_set_group_peer(world->index, group, 7, it->remote_members), STATUS_OK);
    topic_index_release(world->index, filter);
}

static void change_owner(struct world *world)
{
    struct model_filter_state *it = &world->filters[model_below(&world->random, FILTERS)];
    struct topic_filter *filter = acquire(world->index, it->text);
    it->owned = !it->owned;
    filter->owner_data = it->owned ? world : NULL;
    topic_index_release(world->index, filter);
}

static void drop_peer(struct world *world, unsigned peer)
{
    if (model_below(&world->random, 2)) {
        topic_index_drop_peer(world->index, peer);
    } else {
        uint32_t cursor = TOPIC_INDEX_CURSOR_START;
        do
            cursor = topic_index_drop_peer_page(world->index, peer, cursor, 7);
        while (cursor != 0);
    }
    for (size_t i = 0; i < FILTERS; i++) {
        world->filters[i].peers &= ~(UINT64_C(1) << peer);
        world->filters[i].durable &= ~(UINT64_C(1) << peer);
        if (peer == 7)
            world->filters[i].remote_members = 0;
    }
}

static void step(struct world *world)
{
    switch (model_below(&world->random, 12)) {
    case 0:
        change_peer(world);
        break;
    case 1:
        change_owner(world);
        break;
    case 2:
        change_group_peer(world);
        break;
    case 3:
        if (model_below(&world->random, 100) == 0)
            drop_peer(world, model_below(&world->random, TOPIC_INDEX_PEERS_MAX));
        break;
    case 4:
        if (model_below(&world->random, 100) == 0)
            drop_peer(world, 7);
        break;
    default:
        toggle_subscription(
            world, model_below(&world->random, SUBSCRIPTIONS), model_below(&world->random, 4) == 0);
        break;
    }
}

static void make_filters(struct world *world)
{
    for (size_t i = 0; i < FILTERS; i++) {
        bool twice = true;
        while (twice) {
            model_filter(&world->random, world->filters[i].text, sizeof world->filters[i].text);
            twice = false;
            for (size_t j = 0; j < i && !twice; j++)
                twice = strcmp(world->filters[i].text, world->filters[j].text) == 0;
        }
    }
}

static void clear(struct world *world)
{
    for (size_t i = 0; i < SUBSCRIPTIONS; i++)
        if (world->subscriptions[i].filter != NULL)
            toggle_subscription(world, i, false);
    for (unsigned peer = 0; peer < TOPIC_INDEX_PEERS_MAX; peer++)
        drop_peer(world, peer);
    for (size_t i = 0; i < FILTERS; i++) {
        if (!world->filters[i].owned)
            continue;
        struct topic_filter *filter = topic_index_find(world->index, bytes_of_text(world->filters[i].text));
        world->filters[i].owned = false;
        filter->owner_data = NULL;
        topic_index_release(world->index, filter);
    }
}

static void random_changes_match_like_the_model(void **state)
{
    (void)state;
    struct world *world = calloc(1, sizeof *world);
    world->random = model_seed();
    world->index = topic_index_new(&test_hash);
    make_filters(world);
    for (uint32_t i = 0; i < STEPS; i++) {
        step(world);
        if (i % 8 == 0)
            check_match(world);
    }
    size_t held = 0;
    for (size_t i = 0; i < FILTERS; i++) {
        held += is_held(&world->filters[i]);
        struct topic_filter *filter = topic_index_find(world->index, bytes_of_text(world->filters[i].text));
        assert_int_equal(filter != NULL, is_held(&world->filters[i]));
        if (filter != NULL)
            check_filter(filter, &world->filters[i]);
    }
    assert_int_equal(topic_index_entries(world->index), held);
    clear(world);
    assert_int_equal(topic_index_entries(world->index), 0);
    assert_true(topic_index_memory(world->index) < 64 * 1024); /* scratch and spare pages only */
    topic_index_free(&world->index);
    free(world);
}

static void free_takes_a_full_index(void **state)
{
    (void)state;
    struct topic_index *index = topic_index_new(&test_hash);
    struct subscription subscriptions[3] = {0};
    insert(index, "a/+", &subscriptions[0]);
    insert(index, "a/+", &subscriptions[1]);
    struct topic_filter *filter = acquire(index, "x");
    struct topic_group *group;
    assert_int_equal(topic_index_group(index, filter, bytes_of_text("g"), &group), STATUS_OK);
    assert_int_equal(topic_index_insert(index, filter, group, &subscriptions[2]), STATUS_OK);
    assert_int_equal(topic_index_set_group_peer(index, group, 3, 5), STATUS_OK);
    topic_index_free(&index);
    assert_null(index);
}

static void mark_seen(void *context, struct topic_filter *filter)
{
    struct world *world = context;
    char text[128];
    topic_filter_text(filter, text, sizeof text);
    for (size_t i = 0; i < FILTERS; i++)
        if (strcmp(world->filters[i].text, text) == 0)
            world->filters[i].seen = true;
}

/* Half of the filters stay (owned); the others come and go between the pages of a walk. */
static void pages_miss_no_lasting_entry(void **state)
{
    (void)state;
    struct world *world = calloc(1, sizeof *world);
    world->random = model_seed();
    world->index = topic_index_new(&test_hash);
    make_filters(world);
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < 300; i++)
            step(world);
        bool lasting[FILTERS];
        for (size_t i = 0; i < FILTERS; i++) {
            lasting[i] = world->filters[i].owned;
            world->filters[i].seen = false;
        }
        uint32_t cursor = TOPIC_INDEX_CURSOR_START;
        do {
            cursor = topic_index_visit_page(world->index, cursor, 9, mark_seen, world);
            for (uint32_t i = 0; i < 20; i++)
                toggle_subscription(world, model_below(&world->random, SUBSCRIPTIONS), false);
        } while (cursor != 0);
        for (size_t i = 0; i < FILTERS; i++)
            assert_true(!lasting[i] || world->filters[i].seen);
    }
    topic_index_free(&world->index);
    free(world);
}

static void wildcards_keep_off_dollar_topics(void **state)
{
    (void)state;
    struct topic_index *index = topic_index_new(&test_hash);
    struct subscription subscriptions[5] = {0};
    insert(index, "#", &subscriptions[0]);
    insert(index, "+/x", &subscriptions[1]);
    insert(index, "$SYS/#", &subscriptions[2]);
    insert(index, "$SYS/+", &subscriptions[3]);
    assert_int_equal(topic_index_match(index, bytes_of_text("$SYS/x")).count, 2);
    assert_int_equal(topic_index_match(index, bytes_of_text("$SYS")).count, 1);
    assert_int_equal(topic_index_match(index, bytes_of_text("a/x")).count, 2);
    assert_int_equal(topic_index_match(index, bytes_of_text("a/$x")).count, 1);
    topic_index_free(&index);
}

static void many_entries_come_and_go(void **state)
{
    (void)state;
    enum { MANY = 100000 };
    struct topic_index *index = topic_index_new(&test_hash);
    struct subscription *subscriptions = calloc(MANY, sizeof *subscriptions);
    size_t empty = topic_index_memory(index);
    char text[64];
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, i % 3 ? "dev/%u/state" : "dev/%u/+", i);
        insert(index, text, &subscriptions[i]);
    }
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "dev/%u/state", i);
        struct topic_match match = topic_index_match(index, bytes_of_text(text));
        assert_int_equal(match.count, 1);
        assert_ptr_equal(match.filters[0]->subscriptions[0], &subscriptions[i]);
    }
    for (unsigned i = 0; i < MANY; i++) {
        topic_index_remove(index, &subscriptions[(i * UINT64_C(7919)) % MANY]);
        snprintf(text, sizeof text, "dev/%u/state", i);
        bool there = subscriptions[i].filter != NULL;
        assert_int_equal(topic_index_match(index, bytes_of_text(text)).count, there);
    }
    assert_int_equal(topic_index_entries(index), 0);
    assert_true(topic_index_memory(index) < empty + 1024 * 1024 + 8192); /* the scratch of matches */
    topic_index_free(&index);
    free(subscriptions);
}

/* As many levels as 65535 bytes can have, as a filter and as a topic. */
static void many_levels_do_no_harm(void **state)
{
    (void)state;
    struct topic_index *index = topic_index_new(&test_hash);
    static char filter[65535];
    static char topic[65535];
    memset(topic, '/', sizeof topic);
    for (size_t i = 0; i < sizeof filter; i++)
        filter[i] = i % 2 ? '/' : '+';
    struct subscription subscriptions[4] = {0};
    insert(index, "a/+/b", &subscriptions[0]);
    assert_int_equal(topic_index_match(index, bytes_of(topic, sizeof topic)).count, 0);
    struct topic_filter *entry;
    assert_int_equal(topic_index_acquire(index, bytes_of(filter, sizeof filter), &entry), STATUS_OK);
    assert_int_equal(topic_index_insert(index, entry, NULL, &subscriptions[1]), STATUS_OK);
    assert_int_equal(topic_index_match(index, bytes_of(topic, sizeof topic)).count, 0);
    assert_int_equal(topic_index_match(index, bytes_of(topic, 32767)).count, 1);
    topic[65534] = '#';
    assert_int_equal(topic_index_acquire(index, bytes_of(topic, sizeof topic), &entry), STATUS_OK);
    assert_int_equal(topic_index_insert(index, entry, NULL, &subscriptions[2]), STATUS_OK);
    topic[65534] = '/';
    assert_int_equal(topic_index_match(index, bytes_of(topic, sizeof topic)).count, 1);
    /* A second filter that parts from the first at the last level. */
    filter[sizeof filter - 1] = 'a';
    assert_int_equal(topic_index_acquire(index, bytes_of(filter, sizeof filter), &entry), STATUS_OK);
    assert_int_equal(topic_index_insert(index, entry, NULL, &subscriptions[3]), STATUS_OK);
    memcpy(topic, filter, sizeof topic);
    for (size_t i = 0; i < sizeof topic; i++)
        topic[i] = topic[i] == '+' ? 'b' : topic[i];
    assert_int_equal(topic_index_match(index, bytes_of(topic, sizeof topic)).count, 2);
    assert_ptr_equal(topic_index_find(index, bytes_of(filter, sizeof filter)), entry);
    for (size_t i = 0; i < 4; i++)
        topic_index_remove(index, &subscriptions[i]);
    assert_true(topic_index_memory(index) < 8 * 1024 * 1024); /* the scratch of so deep a walk */
    assert_int_equal(topic_index_entries(index), 0);
    topic_index_free(&index);
}

static void owner_data_keeps_an_entry(void **state)
{
    (void)state;
    struct topic_index *index = topic_index_new(&test_hash);
    struct subscription subscription = {0};
    insert(index, "a/b", &subscription);
    struct topic_filter *filter = subscription.filter;
    filter->owner_data = index;
    topic_index_remove(index, &subscription);
    assert_ptr_equal(topic_index_find(index, bytes_of_text("a/b")), filter);
    filter->owner_data = NULL;
    topic_index_release(index, filter);
    assert_null(topic_index_find(index, bytes_of_text("a/b")));
    topic_index_free(&index);
}

static int set_up(void **state)
{
    (void)state;
    return keyed_hash_init(&test_hash) == STATUS_OK ? 0 : -1;
}

/* Filters of every shape: found by look-up, by a wildcard below many siblings, by many siblings below one. */
static struct subscription *fill(struct topic_index *index, unsigned count)
{
    struct subscription *subscriptions = calloc(count, sizeof *subscriptions);
    char text[64];
    assert_non_null(subscriptions);
    for (unsigned i = 0; i < count; i++) {
        static const char *const shapes[] = {"fleet/%u/engine/heat", "fleet/%u/+/heat", "fleet/+/engine/%u"};
        snprintf(text, sizeof text, shapes[i % 3], i / 3);
        insert(index, text, &subscriptions[i]);
    }
    return subscriptions;
}

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The least of some rounds: whoever else runs on the machine only adds to it. */
static uint64_t cost_of_matches(struct topic_index *index)
{
    uint64_t least = UINT64_MAX;
    char topics[32][64];
    for (unsigned i = 0; i < 32; i++)
        snprintf(topics[i], sizeof topics[i], "fleet/%u/engine/heat", 3 * i);
    for (unsigned round = 0; round < 20; round++) {
        uint64_t matches = 0, start = cpu_ns();
        for (unsigned i = 0; i < MATCHES; i++)
            matches += topic_index_match(index, bytes_of_text(topics[i % 32])).count;
        uint64_t took = cpu_ns() - start;
        assert_int_equal(matches, 2 * MATCHES);
        least = took < least ? took : least;
    }
    return least;
}

static void a_match_costs_the_same_among_a_million_filters(void **state)
{
    (void)state;
    static const unsigned counts[] = {1000, 1000000};
    uint64_t costs[2];
    for (unsigned i = 0; i < 2; i++) {
        struct topic_index *index = topic_index_new(&test_hash);
        struct subscription *subscriptions = fill(index, counts[i]);
        costs[i] = cost_of_matches(index);
        topic_index_free(&index);
        free(subscriptions);
    }
    print_message("%u ns a match among 1000 filters, %u among 1000000\n", (unsigned)(costs[0] / MATCHES),
        (unsigned)(costs[1] / MATCHES));
    assert_true(costs[1] < 3 * costs[0]); /* what is left is the caches' */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_changes_match_like_the_model),
        cmocka_unit_test(free_takes_a_full_index),
        cmocka_unit_test(pages_miss_no_lasting_entry),
        cmocka_unit_test(wildcards_keep_off_dollar_topics),
        cmocka_unit_test(many_entries_come_and_go),
        cmocka_unit_test(many_levels_do_no_harm),
        cmocka_unit_test(owner_data_keeps_an_entry),
        cmocka_unit_test(a_match_costs_the_same_among_a_million_filters),
    };
    return cmocka_run_group_tests_name("topic_index", tests, set_up, NULL);
}
