/* sys_topics: names and texts as the field has them, only what has changed, and averages that add up. */
#include "shared/sys_topics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TOLD_MAX 200

struct told {
    unsigned count;
    char topics[TOLD_MAX][100];
    char payloads[TOLD_MAX][40];
};

static void note(void *context, const char *topic, const char *payload)
{
    struct told *told = context;
    assert_true(told->count < TOLD_MAX);
    snprintf(told->topics[told->count], sizeof told->topics[0], "%s", topic);
    snprintf(told->payloads[told->count], sizeof told->payloads[0], "%s", payload);
    told->count++;
}

static const char *value(const struct told *told, const char *topic)
{
    for (unsigned i = 0; i < told->count; i++)
        if (strcmp(told->topics[i], topic) == 0)
            return told->payloads[i];
    return "not told";
}

static struct told update(struct sys_topics *topics, const struct counters *sum, uint64_t uptime_ms)
{
    struct told told = {0};
    const struct sys_figures figures = {.sum = sum, .retained = 7, .uptime_ms = uptime_ms};
    sys_topics_update(topics, &figures, note, &told);
    return told;
}

static void names_and_texts_are_the_usual_ones(void **state)
{
    (void)state;
    struct sys_topics *topics = sys_topics_new("n1");
    struct counters sum = {.clients = 3,
        .sessions = 5,
        .clients_maximum = 9,
        .dropped_expired = 1,
        .dropped_queue_full = 2,
        .bytes_sent = UINT64_MAX};
    struct told told = update(topics, &sum, 61999);
    assert_string_equal(value(&told, "$SYS/broker/version"), "shoal version " SHOAL_VERSION);
    assert_string_equal(value(&told, "$SYS/broker/uptime"), "61 seconds");
    assert_string_equal(value(&told, "$SYS/broker/clients/connected"), "3");
    assert_string_equal(value(&told, "$SYS/broker/clients/disconnected"), "2");
    assert_string_equal(value(&told, "$SYS/broker/clients/total"), "5");
    assert_string_equal(value(&told, "$SYS/broker/clients/maximum"), "9");
    assert_string_equal(value(&told, "$SYS/broker/publish/messages/dropped"), "3");
    assert_string_equal(value(&told, "$SYS/broker/retained messages/count"), "7");
    assert_string_equal(value(&told, "$SYS/broker/bytes/sent"), "18446744073709551615");
    assert_string_equal(value(&told, "$SYS/broker/load/messages/sent/15min"), "0.00");
    assert_string_equal(value(&told, "$SYS/brokers"), "n1");
    assert_string_equal(value(&told, "$SYS/brokers/n1/version"), SHOAL_VERSION);
    assert_string_equal(value(&told, "$SYS/brokers/n1/stats/connections/count"), "3");
    assert_string_equal(value(&told, "$SYS/brokers/n1/uptime"), "61999");
    sys_topics_free(&topics);
    assert_null(topics);
}

static void only_what_has_changed_is_told_again(void **state)
{
    (void)state;
    struct sys_topics *topics = sys_topics_new("n1");
    struct counters sum = {.clients = 3, .sessions = 3};
    update(topics, &sum, 1000);
    struct told told = update(topics, &sum, 11000);
    assert_int_equal(told.count, 2); /* the uptimes */
    sum.clients = 2;
    told = update(topics, &sum, 21000);
    assert_string_equal(value(&told, "$SYS/broker/clients/connected"), "2");
    assert_string_equal(value(&told, "$SYS/broker/clients/disconnected"), "1");
    assert_string_equal(value(&told, "$SYS/broker/clients/total"), "not told");
    sys_topics_free(&topics);
}

/* A steady rate: each average comes to it from below, the short one first; a newcomer says about the same. */
static void averages_follow_the_rate(void **state)
{
    (void)state;
    struct sys_topics *old = sys_topics_new("n1"), *young = sys_topics_new("n1");
    struct counters sum = {0};
    struct told told = {0};
    for (unsigned i = 0; i <= 90; i++) { /* 15 minutes, 600 a minute */
        sum.publish_received = 100 * i;
        told = update(old, &sum, 10000 * i);
    }
    assert_true(atof(value(&told, "$SYS/broker/load/publish/received/15min")) > 370);
    assert_true(atof(value(&told, "$SYS/broker/load/publish/received/15min")) < 390);
    struct told late = update(young, &sum, 900000);
    static const char *const spans[] = {"1min", "5min", "15min"};
    for (size_t i = 0; i < 3; i++) {
        char topic[80];
        snprintf(topic, sizeof topic, "$SYS/broker/load/publish/received/%s", spans[i]);
        double begun = atof(value(&late, topic));
        assert_true(begun > 370 && begun <= 600);
    }
    assert_true(atof(value(&late, "$SYS/broker/load/publish/received/1min")) > 599);
    for (unsigned i = 1; i <= 60; i++) /* 10 minutes of silence */
        told = update(old, &sum, 900000 + 10000 * i);
    assert_true(atof(value(&told, "$SYS/broker/load/publish/received/15min")) > 150);
    sys_topics_free(&old);
    sys_topics_free(&young);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_texts_are_the_usual_ones),
        cmocka_unit_test(only_what_has_changed_is_told_again),
        cmocka_unit_test(averages_follow_the_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
