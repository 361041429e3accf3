/* hash_table, pointer_bag: random changes against plain arrays, through growing, shrinking and collisions. */
#include "shared/hash_table.h"
#include "shared/pointer_bag.h"
#include "tests/unit/topic_model.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum {
    ITEMS = 20000,
    ROUNDS = 12,
};

struct item {
    uint64_t hash;
    uint32_t position;
    bool there;
};

static bool same_item(const void *value, const void *key)
{
    return value == key;
}

static void *find(const struct hash_table *table, const struct item *item)
{
    return hash_table_find(table, item->hash, same_item, item);
}

static void set_there(struct hash_table *table, struct item *item, bool there)
{
    if (item->there == there)
        return;
    item->there = there;
    if (there)
        assert_int_equal(hash_table_insert(table, item->hash, item), STATUS_OK);
    else
        hash_table_remove(table, item->hash, item);
    assert_ptr_equal(find(table, item), there ? item : NULL);
}

/* The share of items that are in swings between none and nearly all. `hash_bits` few: collisions. */
static void run_table(uint64_t *random, unsigned items, unsigned hash_bits)
{
    struct item *all = calloc(items, sizeof *all);
    struct hash_table table = {0};
    for (unsigned i = 0; i < items; i++)
        all[i].hash = model_random(random) >> (64 - hash_bits);
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned percent = round % 2 ? 3 : 97;
        for (unsigned i = 0; i < items * 2; i++)
            set_there(&table, &all[model_below(random, items)], model_below(random, 100) < percent);
        size_t count = 0;
        for (unsigned i = 0; i < items; i++) {
            assert_ptr_equal(find(&table, &all[i]), all[i].there ? &all[i] : NULL);
            count += all[i].there;
        }
        assert_int_equal(table.count, count);
    }
    for (unsigned i = 0; i < items; i++)
        set_there(&table, &all[i], false);
    assert_int_equal(hash_table_memory(&table), 0);
    hash_table_done(&table);
    free(all);
}

static void table_holds_what_was_put(void **state)
{
    (void)state;
    uint64_t random = model_seed();
    run_table(&random, ITEMS, 64);
    run_table(&random, 10, 64);
}

static void equal_hashes_are_told_apart(void **state)
{
    (void)state;
    uint64_t random = model_seed();
    run_table(&random, 300, 3);
    run_table(&random, 40, 1);
}

static void bag_walks_down_past_removals(void **state)
{
    (void)state;
    uint64_t random = model_seed();
    struct item *all = calloc(ITEMS, sizeof *all);
    struct pointer_bag bag = {0};
    for (unsigned i = 0; i < ITEMS; i++)
        assert_int_equal(pointer_bag_add(&bag, &all[i], &all[i].position), STATUS_OK);
    /* Every other item stays and must be met; the rest is removed on the way, at random. */
    for (uint32_t at = bag.count; at > 0; at = at - 1 < bag.count ? at - 1 : bag.count) {
        ((struct item *)pointer_bag_at(&bag, at - 1))->there = true;
        struct item *removed = &all[model_below(&random, ITEMS / 2) * 2];
        if (removed->hash != 0)
            continue;
        removed->hash = 1;
        struct item *moved = pointer_bag_remove(&bag, removed->position);
        if (moved != NULL)
            moved->position = removed->position;
    }
    for (unsigned i = 0; i < ITEMS; i++) {
        assert_true(all[i].there || all[i].hash != 0);
        assert_true(all[i].hash != 0 || pointer_bag_at(&bag, all[i].position) == &all[i]);
    }
    pointer_bag_done(&bag);
    free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_holds_what_was_put),
        cmocka_unit_test(equal_hashes_are_told_apart),
        cmocka_unit_test(bag_walks_down_past_removals),
    };
    return cmocka_run_group_tests_name("hash_table", tests, NULL, NULL);
}
