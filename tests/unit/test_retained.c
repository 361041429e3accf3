/* retained: against a list of topics with the newest message of each; walks while the table changes. */
#include "shared/retained.h"
#include "tests/unit/topic_model.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum {
    TOPICS = 700,
    STEPS = 30000,
};

struct model_topic_state {
    char text[128];
    uint64_t stamp;  /* 0: never put */
    bool deleted;    /* a tombstone, or nothing */
    bool lasting;    /* there all the time of a walk */
    uint32_t visits; /* in a walk */
    uint64_t applied;
};

struct world {
    struct retained *retained;
    struct model_topic_state topics[TOPICS];
    uint64_t random;
    uint64_t stamp;
};

static struct keyed_hash test_hash;

static struct publication *message_of(const char *topic, const char *payload, uint64_t stamp)
{
    struct publication_view view = {
        .meta = {.stamp = stamp, .sequence = 1, .retain = true},
        .topic = bytes_of_text(topic),
        .payload = bytes_of_text(payload),
    };
    struct publication *message = publication_new(&view);
    assert_non_null(message);
    return message;
}

static enum status put(struct retained *retained, struct publication *message)
{
    enum status status = retained_put(retained, message);
    publication_unref(&message);
    return status;
}

static enum status put_text(struct retained *retained, const char *topic, const char *payload, uint64_t stamp)
{
    return put(retained, message_of(topic, payload, stamp));
}

static struct world *world_new(void)
{
    struct world *world = calloc(1, sizeof *world);
    world->random = model_seed();
    world->retained = retained_new(&test_hash);
    world->stamp = 1000;
    for (size_t i = 0; i < TOPICS; i++) {
        bool twice = true;
        while (twice) {
            model_topic(&world->random, world->topics[i].text, sizeof world->topics[i].text);
            twice = false;
            for (size_t j = 0; j < i && !twice; j++)
                twice = strcmp(world->topics[i].text, world->topics[j].text) == 0;
        }
        world->topics[i].deleted = true;
    }
    return world;
}

static void world_free(struct world *world)
{
    retained_free(&world->retained);
    free(world);
}

/* A put, sometimes of an old stamp, sometimes a deletion. */
static void put_something(struct world *world)
{
    struct model_topic_state *it = &world->topics[model_below(&world->random, TOPICS)];
    uint64_t stamp = world->stamp++ - (model_below(&world->random, 5) == 0 ? 500 : 0);
    bool delete = model_below(&world->random, 3) == 0;
    uint64_t applied = retained_applied(world->retained);
    bool newer = stamp > it->stamp;
    assert_int_equal(
        put_text(world->retained, it->text, delete ? "" : "x", stamp), newer ? STATUS_OK : STATUS_EXISTS);
    assert_int_equal(retained_applied(world->retained), applied + newer);
    if (!newer)
        return;
    it->stamp = stamp;
    it->deleted = delete;
    it->lasting = it->lasting && !delete;
    it->applied = applied + 1;
}

static void count_visits(struct world *world, const struct retained_found *found, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct publication_view view = publication_view(found[i].message);
        struct model_topic_state *it = NULL;
        for (size_t t = 0; t < TOPICS && it == NULL; t++)
            if (bytes_equal(view.topic, bytes_of_text(world->topics[t].text)))
                it = &world->topics[t];
        assert_non_null(it);
        it->visits++;
        assert_int_equal(view.meta.stamp, it->stamp);
        assert_int_equal(view.payload.size == 0, it->deleted);
        assert_true(it->deleted || found[i].applied == it->applied);
    }
}

/* Walks in random pages; between two of them `changes` puts. */
static void walk(struct world *world, struct retained_walk *walk, uint32_t changes)
{
    for (size_t i = 0; i < TOPICS; i++) {
        world->topics[i].lasting = !world->topics[i].deleted;
        world->topics[i].visits = 0;
    }
    for (bool more = true; more;) {
        struct retained_found found[16];
        uint32_t capacity = 1 + model_below(&world->random, 16);
        uint32_t budget = 1 + model_below(&world->random, 60);
        uint32_t count = retained_walk_next(walk, found, capacity, budget, &more);
        assert_true(count <= capacity);
        count_visits(world, found, count);
        for (uint32_t i = 0; i < changes; i++)
            put_something(world);
    }
    retained_walk_free(&walk);
}

static void walks_find_what_the_model_has(void **state)
{
    (void)state;
    struct world *world = world_new();
    for (uint32_t i = 0; i < STEPS; i++) {
        put_something(world);
        if (i % 10 != 0)
            continue;
        char filter[128];
        model_filter(&world->random, filter, sizeof filter);
        if (model_below(&world->random, 10) == 0)
            strcpy(filter, world->topics[model_below(&world->random, TOPICS)].text);
        walk(world, retained_walk_new(world->retained, bytes_of_text(filter)), 0);
        for (size_t t = 0; t < TOPICS; t++)
            assert_int_equal(world->topics[t].visits,
                !world->topics[t].deleted && model_matches(filter, world->topics[t].text));
    }
    size_t count = 0;
    for (size_t t = 0; t < TOPICS; t++)
        count += !world->topics[t].deleted;
    assert_int_equal(retained_count(world->retained), count);
    world_free(world);
}

static void walks_meet_lasting_topics_once_during_changes(void **state)
{
    (void)state;
    struct world *world = world_new();
    for (uint32_t i = 0; i < 2000; i++)
        put_something(world);
    for (uint32_t i = 0; i < 300; i++) {
        char filter[128];
        model_filter(&world->random, filter, sizeof filter);
        walk(world, retained_walk_new(world->retained, bytes_of_text(filter)), 5);
        for (size_t t = 0; t < TOPICS; t++) {
            const struct model_topic_state *it = &world->topics[t];
            bool matches = model_matches(filter, it->text);
            assert_true(it->visits <= matches);
            assert_true(it->visits == 1 || !it->lasting || !matches);
        }
    }
    world_free(world);
}

static void full_walk_has_everything(void **state)
{
    (void)state;
    struct world *world = world_new();
    for (uint32_t i = 0; i < 1000; i++)
        put_something(world);
    walk(world, retained_walk_new_all(world->retained), 0);
    for (size_t t = 0; t < TOPICS; t++)
        assert_int_equal(world->topics[t].visits, world->topics[t].stamp != 0);
    world_free(world);
}

static uint32_t matches_of(struct retained *retained, const char *filter)
{
    struct retained_walk *walk = retained_walk_new(retained, bytes_of_text(filter));
    struct retained_found found[8];
    bool more;
    uint32_t count = retained_walk_next(walk, found, 8, 1000, &more);
    assert_false(more);
    retained_walk_free(&walk);
    return count;
}

static void equal_stamps_have_an_order(void **state)
{
    (void)state;
    struct retained *retained = retained_new(&test_hash);
    const struct publication_meta metas[] = {
        {.stamp = 5, .origin = {.node = 0, .slot = 0, .incarnation = 3}, .sequence = 9},
        {.stamp = 5, .origin = {.node = 0, .slot = 0, .incarnation = 3}, .sequence = 10},
        {.stamp = 5, .origin = {.node = 0, .slot = 0, .incarnation = 4}, .sequence = 1},
        {.stamp = 5, .origin = {.node = 0, .slot = 1, .incarnation = 2}, .sequence = 1},
        {.stamp = 5, .origin = {.node = 1, .slot = 0, .incarnation = 1}, .sequence = 1},
        {.stamp = 6, .origin = {.node = 0, .slot = 0, .incarnation = 1}, .sequence = 1},
    };
    for (size_t i = 0; i < sizeof metas / sizeof metas[0]; i++) {
        for (size_t j = 0; j <= i; j++) {
            struct publication_view view = {
                .meta = metas[j], .topic = bytes_of_text("t"), .payload = bytes_of_text("x")};
            struct publication *message = publication_new(&view);
            assert_int_equal(put(retained, message), j == i ? STATUS_OK : STATUS_EXISTS);
        }
        struct publication_view again = {.meta = metas[i], .topic = bytes_of_text("t")};
        assert_int_equal(put(retained, publication_new(&again)), STATUS_EXISTS);
    }
    assert_int_equal(retained_count(retained), 1);
    retained_free(&retained);
}

static void tombstones_hold_back_older_messages_until_they_age(void **state)
{
    (void)state;
    struct retained *retained = retained_new(&test_hash);
    assert_int_equal(put_text(retained, "a", "x", 10), STATUS_OK);
    assert_int_equal(put_text(retained, "a", "", 20), STATUS_OK);
    assert_int_equal(put_text(retained, "a", "x", 15), STATUS_EXISTS);
    assert_int_equal(matches_of(retained, "a") + matches_of(retained, "#"), 0);
    assert_int_equal(retained_tombstones(retained), 1);
    retained_expire(retained, 100000, &(struct retained_ages){.tombstone_ms = 5000}, 10);
    retained_expire(retained, 104999, &(struct retained_ages){.tombstone_ms = 5000}, 10);
    assert_int_equal(retained_tombstones(retained), 1);
    retained_expire(retained, 105000, &(struct retained_ages){.tombstone_ms = 5000}, 10);
    assert_int_equal(retained_tombstones(retained), 0);
    assert_int_equal(put_text(retained, "a", "x", 15), STATUS_OK);
    assert_int_equal(matches_of(retained, "#"), 1);
    retained_free(&retained);
}

static void expired_messages_go_and_stay_gone(void **state)
{
    (void)state;
    struct retained *retained = retained_new(&test_hash);
    struct publication_view view = {
        .meta = {.stamp = 20, .expires_ms = 1000},
        .topic = bytes_of_text("a/b"),
        .payload = bytes_of_text("x"),
    };
    assert_int_equal(put(retained, publication_new(&view)), STATUS_OK);
    assert_int_equal(put_text(retained, "a/c", "x", 20), STATUS_OK);
    retained_expire(retained, 999, &(struct retained_ages){.tombstone_ms = 5000}, 10);
    assert_int_equal(matches_of(retained, "a/+"), 2);
    retained_expire(retained, 1000, &(struct retained_ages){.tombstone_ms = 5000}, 10);
    assert_int_equal(matches_of(retained, "a/+"), 1);
    assert_int_equal(put_text(retained, "a/b", "x", 19), STATUS_EXISTS);
    retained_expire(retained, 6000, &(struct retained_ages){.tombstone_ms = 5000}, 10);
    assert_int_equal(retained_count(retained), 1);
    assert_int_equal(retained_tombstones(retained), 0);
    retained_free(&retained);
}

static bool fits(const struct retained *retained, const struct retained_limits *limits, const char *topic,
    const char *payload)
{
    struct publication_view view = {.topic = bytes_of_text(topic), .payload = bytes_of_text(payload)};
    return retained_has_room(retained, limits, &view);
}

static void messages_without_an_interval_outlive_their_stamp_by_a_lifetime(void **state)
{
    (void)state;
    struct retained_ages ages = {.message_ms = 500, .tombstone_ms = 5000};
    struct retained *retained = retained_new(&test_hash);
    struct publication_view own = {
        .meta = {.stamp = UINT64_C(1000) << RETAINED_STAMP_BITS, .expires_ms = 9000},
        .topic = bytes_of_text("own"),
        .payload = bytes_of_text("x")};
    assert_int_equal(put(retained, publication_new(&own)), STATUS_OK);
    assert_int_equal(put_text(retained, "t", "x", UINT64_C(1000) << RETAINED_STAMP_BITS | 77), STATUS_OK);
    retained_expire(retained, 1499, &ages, 10);
    assert_int_equal(retained_count(retained), 2);
    retained_expire(retained, 1500, &ages, 10);
    assert_int_equal(matches_of(retained, "t"), 0);
    assert_int_equal(matches_of(retained, "own"), 1);
    retained_expire(retained, 9000, &ages, 10);
    assert_int_equal(retained_count(retained), 0);
    assert_int_equal(retained_bytes(retained), 0);
    retained_free(&retained);
}

static void limits_let_replace_and_delete(void **state)
{
    (void)state;
    struct retained *retained = retained_new(&test_hash);
    struct retained_limits count = {.messages = 2}, bytes = {.bytes = 8}, payload = {.payload_size = 3};
    assert_int_equal(put_text(retained, "a", "xxx", 1), STATUS_OK);
    assert_true(fits(retained, &count, "b", "x"));
    assert_int_equal(put_text(retained, "b", "xxx", 1), STATUS_OK);
    assert_int_equal(retained_bytes(retained), 8);
    assert_false(fits(retained, &count, "c", "x"));
    assert_true(fits(retained, &count, "b", "xxxxxxx"));
    assert_true(fits(retained, &count, "c", ""));
    assert_false(fits(retained, &bytes, "c", "x"));
    assert_false(fits(retained, &bytes, "b", "xxxx"));
    assert_true(fits(retained, &bytes, "b", "yyy"));
    assert_true(fits(retained, &payload, "b", "xxx"));
    assert_false(fits(retained, &payload, "b", "xxxx"));
    assert_int_equal(put_text(retained, "b", "", 2), STATUS_OK);
    assert_int_equal(retained_bytes(retained), 4);
    assert_true(retained_knows(retained, bytes_of_text("b")));
    assert_false(retained_knows(retained, bytes_of_text("c")));
    assert_true(fits(retained, &count, "b", "x"));
    struct retained_limits tight = {.messages = 1};
    assert_false(fits(retained, &tight, "b", "x")); /* a tombstone holds no place */
    retained_free(&retained);
}

static void sweep_visits_all_within_its_budget(void **state)
{
    (void)state;
    enum { MANY = 3000 };
    struct retained *retained = retained_new(&test_hash);
    size_t empty = retained_memory(retained);
    char topic[32];
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(topic, sizeof topic, "t/%u", i);
        assert_int_equal(put_text(retained, topic, "x", 1), STATUS_OK);
        assert_int_equal(put_text(retained, topic, "", 2), STATUS_OK);
    }
    for (unsigned i = 0; i < MANY / 100; i++)
        retained_expire(retained, 1000, &(struct retained_ages){.tombstone_ms = 10}, 100);
    assert_int_equal(retained_tombstones(retained), MANY);
    for (unsigned i = 1; i <= MANY / 100; i++) {
        retained_expire(retained, 1010, &(struct retained_ages){.tombstone_ms = 10}, 100);
        assert_int_equal(retained_tombstones(retained), MANY - i * 100);
    }
    assert_true(retained_memory(retained) < empty + 16 * 1024);
    retained_free(&retained);
}

/* A walk of few matches in a large table looks at little. */
static void walks_skip_what_cannot_match(void **state)
{
    (void)state;
    enum { MANY = 50000 };
    struct retained *retained = retained_new(&test_hash);
    char topic[64];
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(topic, sizeof topic, "site/%u/device/%u", i % 10, i);
        assert_int_equal(put_text(retained, topic, "x", 1), STATUS_OK);
    }
    assert_int_equal(put_text(retained, "site/3/alarm", "x", 1), STATUS_OK);
    assert_int_equal(put_text(retained, "site/8/alarm", "x", 1), STATUS_OK);
    assert_int_equal(matches_of(retained, "site/+/alarm"), 2);
    assert_int_equal(matches_of(retained, "site/+/alarm/#"), 2);
    assert_int_equal(matches_of(retained, "+/3/alarm"), 1);
    assert_int_equal(matches_of(retained, "site/+/nothing/+"), 0);
    assert_int_equal(matches_of(retained, "site/77/#"), 0);
    retained_free(&retained);
}

static int set_up(void **state)
{
    (void)state;
    return keyed_hash_init(&test_hash) == STATUS_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(walks_find_what_the_model_has),
        cmocka_unit_test(walks_meet_lasting_topics_once_during_changes),
        cmocka_unit_test(full_walk_has_everything),
        cmocka_unit_test(equal_stamps_have_an_order),
        cmocka_unit_test(tombstones_hold_back_older_messages_until_they_age),
        cmocka_unit_test(expired_messages_go_and_stay_gone),
        cmocka_unit_test(messages_without_an_interval_outlive_their_stamp_by_a_lifetime),
        cmocka_unit_test(limits_let_replace_and_delete),
        cmocka_unit_test(sweep_visits_all_within_its_budget),
        cmocka_unit_test(walks_skip_what_cannot_match),
    };
    return cmocka_run_group_tests_name("retained", tests, set_up, NULL);
}
