/*
 * Walks over the retained messages that match a filter, in topic order. Worker process; pure.
 *
 * For a topic that does not match, the place where it leaves the filter tells the next topic that can match
 * at all; whatever lies between is skipped by a search. Between pages a walk remembers only the topic where
 * it goes on (by a reference to its message), so nothing that happens to the table can upset it.
 */
#include "shared/retained_private.h"
#include "shared/topic_level.h"

#include <assert.h>
#include <stdlib.h>

enum {
    /* Entries that are tried one by one before a search: neighbours are often what is sought. */
    STEPS_BEFORE_SEEK = 3,
    /* What a search counts of the budget, in entries. */
    SEEK_COST = 8,
    /* A topic of that many bytes counts as two entries, and so on. */
    TOPIC_COST_BYTES = 256,
};

struct retained_walk {
    struct retained *retained; /* borrowed */
    bool exact;                /* the filter has no wildcards */
    bool all;                  /* no filter: every entry, tombstones too */
    bool done;
    uint32_t literal_levels;     /* of the filter, before its first wildcard */
    struct publication *resume;  /* shared: go on with its topic; NULL: from the start */
    struct retained_place place; /* of that, if the order is still of `version` */
    uint64_t version;
    struct bytes filter; /* in text */
    char text[];
};

enum verdict {
    VERDICT_MATCH,
    VERDICT_NEXT, /* no match; perhaps the next one */
    VERDICT_SEEK, /* no match below the key */
    VERDICT_END,  /* no match any more */
};

static uint32_t walk_exact(struct retained_walk *walk, struct retained_found *found, uint32_t capacity);
static struct retained_place walk_enter(struct retained_walk *walk);
static void walk_leave(
    struct retained_walk *walk, struct retained_place place, const struct retained_entry *entry);
static size_t literal_beginning(const struct retained_walk *walk);
static enum verdict judge(
    const struct retained_walk *walk, const struct retained_entry *entry, struct retained_key *ret_key);
static enum verdict judge_topic(
    const struct retained_walk *walk, struct bytes topic, struct retained_key *ret_key);
static bool is_ahead(struct bytes prefix, struct bytes wanted, struct bytes rest, bool wanted_is_last,
    struct retained_key *ret_key);
static enum verdict skip_below(const struct retained_walk *walk, struct bytes prefix, uint32_t prefix_levels,
    struct retained_key *ret_key);
static struct retained_place seek_on(const struct retained_order *order, struct retained_place place,
    const struct retained_key *key, int64_t *budget);

struct retained_walk *retained_walk_new(struct retained *retained, struct bytes filter)
{
    struct retained_walk *walk = calloc(1, sizeof *walk + filter.size);
    if (walk == NULL)
        return NULL;
    walk->retained = retained;
    retained->walks++;
    memcpy(walk->text, filter.data, filter.size);
    walk->filter = bytes_of(walk->text, filter.size);
    walk->exact = !topic_has_wildcard(filter);
    for (struct bytes rest = walk->filter; rest.data != NULL; walk->literal_levels++) {
        struct bytes level = topic_level_take(&rest);
        if (topic_level_is(level, '+') || topic_level_is(level, '#'))
            break;
    }
    return walk;
}

struct retained_walk *retained_walk_new_all(struct retained *retained)
{
    struct retained_walk *walk = calloc(1, sizeof *walk);
    if (walk == NULL)
        return NULL;
    walk->retained = retained;
    retained->walks++;
    walk->filter = bytes_of(walk->text, 0);
    walk->all = true;
    return walk;
}

void retained_walk_free(struct retained_walk **walk)
{
    struct retained_walk *it = *walk;
    *walk = NULL;
    if (it == NULL)
        return;
    assert(it->retained->walks > 0);
    it->retained->walks--;
    publication_unref(&it->resume);
    free(it);
}

uint32_t retained_walk_next(struct retained_walk *walk, struct retained_found *found, uint32_t capacity,
    uint32_t budget, bool *ret_more)
{
    assert(capacity > 0 && budget > 0);
    *ret_more = false;
    if (walk->done)
        return 0;
    if (walk->exact)
        return walk_exact(walk, found, capacity);
    const struct retained_order *order = &walk->retained->order;
    struct retained_place place = walk_enter(walk);
    struct retained_entry *entry;
    uint32_t count = 0;
    int64_t left = budget;
    while ((entry = retained_order_at(order, place)) != NULL) {
        if (count == capacity || left <= 0) {
            walk_leave(walk, place, entry);
            *ret_more = true;
            return count;
        }
        left -= 1 + entry->topic_size / TOPIC_COST_BYTES;
        struct retained_key key;
        enum verdict verdict = judge(walk, entry, &key);
        if (verdict == VERDICT_END)
            break;
        if (verdict == VERDICT_MATCH && (walk->all || !retained_is_tombstone(entry)))
            found[count++] = (struct retained_found){entry->message, entry->applied};
        place =
            verdict == VERDICT_SEEK ? seek_on(order, place, &key, &left) : retained_order_next(order, place);
    }
    walk->done = true;
    return count;
}

static uint32_t walk_exact(struct retained_walk *walk, struct retained_found *found, uint32_t capacity)
{
    assert(capacity > 0);
    walk->done = true;
    const struct retained_entry *entry = retained_find_entry(walk->retained, walk->filter);
    if (entry == NULL || retained_is_tombstone(entry))
        return 0;
    found[0] = (struct retained_found){entry->message, entry->applied};
    return 1;
}

/* Where the page begins: at the start, where the last one stopped, or where that is by now. */
static struct retained_place walk_enter(struct retained_walk *walk)
{
    const struct retained_order *order = &walk->retained->order;
    struct retained_key key = {.head = bytes_of(walk->filter.data, literal_beginning(walk))};
    if (walk->resume == NULL)
        return retained_order_seek(order, &key);
    struct retained_place place = walk->place;
    if (walk->version != order->version) {
        key.head = publication_view(walk->resume).topic;
        place = retained_order_seek(order, &key);
    }
    publication_unref(&walk->resume);
    return place;
}

/* Notes that the next page begins with `entry`, which stands at `place`. */
static void walk_leave(
    struct retained_walk *walk, struct retained_place place, const struct retained_entry *entry)
{
    walk->place = place;
    walk->version = walk->retained->order.version;
    walk->resume = publication_ref(entry->message);
}

/* Bytes of the filter that every topic begins with which matches: "a/b" of a/b/#, "a/b/" of a/b/+. */
static size_t literal_beginning(const struct retained_walk *walk)
{
    struct bytes rest = walk->filter;
    for (uint32_t level = 0; level < walk->literal_levels && rest.data != NULL; level++)
        (void)topic_level_take(&rest);
    assert(rest.data != NULL); /* at the wildcard, which there is */
    size_t size = (size_t)(rest.data - walk->filter.data);
    return size > 0 && rest.data[0] == '#' ? size - 1 : size;
}

static enum verdict judge(
    const struct retained_walk *walk, const struct retained_entry *entry, struct retained_key *ret_key)
{
    if (walk->all)
        return VERDICT_MATCH;
    struct bytes topic = bytes_of(entry->topic, entry->topic_size);
    if (topic.data[0] == '$' && walk->literal_levels == 0) {
        /* Wildcards do not match the first level [MQTT-4.7.2-1]: behind all topics with '$'. */
        *ret_key = (struct retained_key){.head = bytes_of("%", 1)};
        return VERDICT_SEEK;
    }
    return judge_topic(walk, topic, ret_key);
}

/*
 * Byte order makes the topics that begin with a prefix "…/" one range; it begins right there and ends before
 * the same text with '0', the byte after '/', in the place of its last '/'.
 */
static enum verdict judge_topic(
    const struct retained_walk *walk, struct bytes topic, struct retained_key *ret_key)
{
    struct bytes rest = topic;
    struct bytes filter_rest = walk->filter;
    for (uint32_t depth = 0; filter_rest.data != NULL; depth++) {
        struct bytes wanted = topic_level_take(&filter_rest);
        if (topic_level_is(wanted, '#'))
            return VERDICT_MATCH;
        if (rest.data == NULL)
            return VERDICT_NEXT; /* ends too early; "a!/b" may follow "a" before "a/b" does */
        struct bytes from_here = rest;
        struct bytes level = topic_level_take(&rest);
        if (topic_level_is(wanted, '+') || bytes_equal(level, wanted))
            continue;
        struct bytes prefix = bytes_of(topic.data, (size_t)(from_here.data - topic.data));
        if (is_ahead(prefix, wanted, from_here, filter_rest.data == NULL, ret_key))
            return VERDICT_SEEK;
        return skip_below(walk, prefix, depth, ret_key);
    }
    if (rest.data == NULL)
        return VERDICT_MATCH;
    return skip_below(walk, bytes_of(topic.data, (size_t)(rest.data - topic.data)), UINT32_MAX, ret_key);
}

/*
 * A topic goes on with `rest` behind `prefix`, where the filter has the level `wanted`, another one. True,
 * with the key, if topics with the wanted level come later.
 */
static bool is_ahead(struct bytes prefix, struct bytes wanted, struct bytes rest, bool wanted_is_last,
    struct retained_key *ret_key)
{
    size_t common = wanted.size < rest.size ? wanted.size : rest.size;
    int order = common > 0 ? memcmp(wanted.data, rest.data, common) : 0;
    if (order > 0 || (order == 0 && wanted.size > rest.size)) {
        *ret_key = (struct retained_key){prefix, wanted};
        return true;
    }
    if (order < 0 || wanted_is_last || rest.data[wanted.size] > '/')
        return false;
    /* Between "a" and "a/": the filter's text goes on with '/'. */
    *ret_key = (struct retained_key){prefix, bytes_of(wanted.data, wanted.size + 1)};
    return true;
}

/* On to what follows all topics that begin with `prefix`, which has so many levels. */
static enum verdict skip_below(const struct retained_walk *walk, struct bytes prefix, uint32_t prefix_levels,
    struct retained_key *ret_key)
{
    if (prefix_levels <= walk->literal_levels)
        return VERDICT_END; /* the filter allows no other prefix */
    assert(prefix.size > 0 && prefix.data[prefix.size - 1] == '/');
    *ret_key = (struct retained_key){bytes_of(prefix.data, prefix.size - 1), bytes_of("0", 1)};
    return VERDICT_SEEK;
}

static struct retained_place seek_on(const struct retained_order *order, struct retained_place place,
    const struct retained_key *key, int64_t *budget)
{
    for (int step = 0; step < STEPS_BEFORE_SEEK; step++) {
        place = retained_order_next(order, place);
        const struct retained_entry *entry = retained_order_at(order, place);
        if (entry == NULL || retained_entry_compare(entry, key) >= 0)
            return place;
        *budget -= 1;
    }
    *budget -= SEEK_COST;
    return retained_order_seek(order, key);
}
