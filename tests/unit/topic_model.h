/*
 * For the tests of everything that matches topics: random names and filters that often meet, and a matcher
 * as simple as the specification's text, to compare with. Tests only.
 */
#ifndef TESTS_UNIT_TOPIC_MODEL_H
#define TESTS_UNIT_TOPIC_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* One seed is one run: SHOAL_SEED=N replays it. Printed, so that a failure can be. */
static inline uint64_t model_seed(void)
{
    const char *set = getenv("SHOAL_SEED");
    uint64_t seed = set != NULL ? strtoull(set, NULL, 10) : (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    return seed;
}

static inline uint64_t model_random(uint64_t *state)
{
    uint64_t mixed = (*state += UINT64_C(0x9E3779B97F4A7C15));
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94D049BB133111EB);
    return mixed ^ mixed >> 31;
}

static inline uint32_t model_below(uint64_t *state, uint32_t limit)
{
    return (uint32_t)(model_random(state) % limit);
}

static inline void model_append(char *to, const char *text, size_t size)
{
    size_t length = strlen(to);
    snprintf(to + length, size - length, "%s", text);
}

/* A topic name of 1 to 5 levels out of few texts, some of them empty, some with '$'. Never empty as a whole.
 */
static inline void model_topic(uint64_t *state, char *to, size_t size)
{
    static const char *const texts[] = {"a", "b", "c", "", "ab", "a!", "$SYS", "\xc3\xa9"};
    uint32_t levels = 1 + model_below(state, 5);
    to[0] = '\0';
    for (uint32_t level = 0; level < levels; level++) {
        if (level > 0)
            model_append(to, "/", size);
        model_append(to, texts[model_below(state, 8)], size);
    }
    if (to[0] == '\0')
        strcpy(to, "a");
}

/* A filter: a topic with some levels turned into wildcards. */
static inline void model_filter(uint64_t *state, char *to, size_t size)
{
    char topic[128];
    model_topic(state, topic, sizeof topic);
    bool last = false;
    to[0] = '\0';
    for (char *level = topic; level != NULL && !last;) {
        char *slash = strchr(level, '/');
        if (slash != NULL)
            *slash = '\0';
        uint32_t dice = model_below(state, 8);
        last = dice == 0;
        const char *text = dice == 0 ? "#" : dice < 3 ? "+" : level;
        model_append(to, text, size);
        level = slash == NULL ? NULL : slash + 1;
        if (level != NULL && !last)
            model_append(to, "/", size);
    }
    if (to[0] == '\0')
        strcpy(to, "+");
}

static inline bool model_matches_rest(const char *filter, const char *topic)
{
    size_t filter_level = strcspn(filter, "/");
    size_t topic_level = strcspn(topic, "/");
    if (filter[0] == '#')
        return true;
    bool plus = filter_level == 1 && filter[0] == '+';
    if (!plus && (filter_level != topic_level || strncmp(filter, topic, topic_level) != 0))
        return false;
    filter += filter_level;
    topic += topic_level;
    if (*filter == '\0' || *topic == '\0')
        return *filter == *topic || (*topic == '\0' && strcmp(filter, "/#") == 0);
    return model_matches_rest(filter + 1, topic + 1);
}

/* [MQTT-4.7] */
static inline bool model_matches(const char *filter, const char *topic)
{
    if (topic[0] == '$' && (filter[0] == '+' || filter[0] == '#'))
        return false;
    return model_matches_rest(filter, topic);
}

#endif
