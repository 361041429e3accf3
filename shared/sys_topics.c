/* The table of $SYS topics and their averages. Pure. */
#include "shared/sys_topics.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOPIC_MAX   160
#define PAYLOAD_MAX 64

/* A counter, as one more than its offset: 0 is none. */
#define AT(name) (offsetof(struct counters, name) + 1)

struct row {
    const char *broker;  /* behind "$SYS/broker/"; NULL: not there */
    const char *brokers; /* behind "$SYS/brokers/NODE/"; NULL: not there */
    size_t plus[6];      /* counters added up */
    size_t minus;
};

#define DROPPED                                                                                              \
    {                                                                                                        \
        AT(dropped_qos0_output), AT(dropped_queue_full), AT(dropped_expired), AT(dropped_too_large),         \
            AT(bus_dropped_qos0), AT(bus_dropped_acknowledged)                                               \
    }

static const struct row rows[] = {
    {"clients/connected", "stats/connections/count", {AT(clients)}, 0},
    {"clients/disconnected", NULL, {AT(sessions)}, AT(clients)},
    {"clients/total", "stats/sessions/count", {AT(sessions)}, 0},
    {"clients/maximum", "stats/connections/max", {AT(clients_maximum)}, 0},
    {"clients/expired", NULL, {AT(sessions_expired)}, 0},
    {"subscriptions/count", "stats/subscriptions/count", {AT(subscriptions)}, 0},
    {"messages/received", "metrics/packets/received", {AT(packets_received)}, 0},
    {"messages/sent", "metrics/packets/sent", {AT(packets_sent)}, 0},
    {"publish/messages/received", "metrics/messages/received", {AT(publish_received)}, 0},
    {"publish/messages/sent", "metrics/messages/sent", {AT(publish_sent)}, 0},
    {"publish/messages/dropped", "metrics/messages/dropped", DROPPED, 0},
    {"bytes/received", "metrics/bytes/received", {AT(bytes_received)}, 0},
    {"bytes/sent", "metrics/bytes/sent", {AT(bytes_sent)}, 0},
};

static const struct row loads[] = {
    {"load/messages/received", NULL, {AT(packets_received)}, 0},
    {"load/messages/sent", NULL, {AT(packets_sent)}, 0},
    {"load/publish/received", NULL, {AT(publish_received)}, 0},
    {"load/publish/sent", NULL, {AT(publish_sent)}, 0},
    {"load/publish/dropped", NULL, DROPPED, 0},
    {"load/bytes/received", NULL, {AT(bytes_received)}, 0},
    {"load/bytes/sent", NULL, {AT(bytes_sent)}, 0},
    {"load/sockets", NULL, {AT(connections_accepted)}, 0},
    {"load/connections", NULL, {AT(connects_accepted)}, 0},
};

static const struct {
    const char *name;
    double minutes;
} spans[] = {{"1min", 1}, {"5min", 5}, {"15min", 15}};

#define ROWS  (sizeof rows / sizeof *rows)
#define LOADS (sizeof loads / sizeof *loads)
#define SPANS (sizeof spans / sizeof *spans)

struct average {
    uint64_t before; /* the counter at the last update */
    double values[SPANS];
};

struct sys_topics {
    char *node; /* owned */
    bool begun;
    uint64_t uptime_ms; /* at the last update */
    uint64_t values[ROWS];
    uint64_t retained;
    struct average averages[LOADS];
    double told_loads[LOADS][SPANS];
};

struct telling {
    struct sys_topics *topics;
    sys_topic_told *told;
    void *context;
};

struct sys_topics *sys_topics_new(const char *node_name)
{
    struct sys_topics *topics = calloc(1, sizeof *topics);
    if (topics != NULL)
        topics->node = strdup(node_name);
    if (topics != NULL && topics->node == NULL)
        sys_topics_free(&topics);
    return topics;
}

void sys_topics_free(struct sys_topics **topics)
{
    if (*topics == NULL)
        return;
    free((*topics)->node);
    free(*topics);
    *topics = NULL;
}

static uint64_t counter_at(const struct counters *sum, size_t at)
{
    uint64_t value;
    memcpy(&value, (const char *)sum + at - 1, sizeof value);
    return value;
}

static uint64_t row_value(const struct row *row, const struct counters *sum)
{
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof row->plus / sizeof *row->plus && row->plus[i] != 0; i++)
        value += counter_at(sum, row->plus[i]);
    uint64_t less = row->minus == 0 ? 0 : counter_at(sum, row->minus);
    return value > less ? value - less : 0; /* pages are read one after the other */
}

/* Telling
 * ----------------------------------------------------------------------------------------------------- */

static void tell(const struct telling *telling, const char *broker, const char *brokers, const char *payload)
{
    char topic[TOPIC_MAX];
    if (broker != NULL) {
        snprintf(topic, sizeof topic, "$SYS/broker/%s", broker);
        telling->told(telling->context, topic, payload);
    }
    if (brokers != NULL) {
        snprintf(topic, sizeof topic, "$SYS/brokers/%s/%s", telling->topics->node, brokers);
        telling->told(telling->context, topic, payload);
    }
}

static void tell_number(
    const struct telling *telling, const char *broker, const char *brokers, uint64_t value)
{
    char payload[PAYLOAD_MAX];
    snprintf(payload, sizeof payload, "%" PRIu64, value);
    tell(telling, broker, brokers, payload);
}

static void tell_others(const struct telling *telling, const struct sys_figures *figures)
{
    struct sys_topics *topics = telling->topics;
    char payload[PAYLOAD_MAX];
    if (!topics->begun) {
        tell(telling, "version", NULL, "shoal version " SHOAL_VERSION);
        tell(telling, NULL, "version", SHOAL_VERSION);
        tell(telling, NULL, "sysdescr", "Shoal");
        telling->told(telling->context, "$SYS/brokers", topics->node);
    }
    snprintf(payload, sizeof payload, "%" PRIu64 " seconds", figures->uptime_ms / 1000);
    tell(telling, "uptime", NULL, payload);
    tell_number(telling, NULL, "uptime", figures->uptime_ms);
    if (!topics->begun || figures->retained != topics->retained)
        tell_number(telling, "retained messages/count", "stats/retained/count", figures->retained);
    topics->retained = figures->retained;
}

static void tell_rows(const struct telling *telling, const struct sys_figures *figures)
{
    struct sys_topics *topics = telling->topics;
    for (size_t i = 0; i < ROWS; i++) {
        uint64_t value = row_value(&rows[i], figures->sum);
        if (!topics->begun || value != topics->values[i])
            tell_number(telling, rows[i].broker, rows[i].brokers, value);
        topics->values[i] = value;
    }
}

/* Averages
 * ---------------------------------------------------------------------------------------------------- */

/* After `minutes` with so many events, or after the node's whole life so far. */
static void average_update(struct average *average, uint64_t events, double minutes)
{
    double rate = (double)events / minutes;
    for (size_t i = 0; i < SPANS; i++)
        average->values[i] = rate + exp(-minutes / spans[i].minutes) * (average->values[i] - rate);
}

static void tell_load(const struct telling *telling, size_t load, size_t span)
{
    double value = telling->topics->averages[load].values[span];
    double *told = &telling->topics->told_loads[load][span];
    if (telling->topics->begun && fabs(value - *told) < 0.01)
        return;
    char name[64], payload[PAYLOAD_MAX];
    *told = value;
    snprintf(name, sizeof name, "%s/%s", loads[load].broker, spans[span].name);
    snprintf(payload, sizeof payload, "%.2f", value);
    tell(telling, name, NULL, payload);
}

static void tell_loads(const struct telling *telling, const struct sys_figures *figures)
{
    struct sys_topics *topics = telling->topics;
    double minutes = (double)(figures->uptime_ms - topics->uptime_ms) / 60000;
    for (size_t i = 0; i < LOADS; i++) {
        struct average *average = &topics->averages[i];
        uint64_t value = row_value(&loads[i], figures->sum);
        if (minutes > 0)
            average_update(average, value > average->before ? value - average->before : 0, minutes);
        average->before = value;
        for (size_t k = 0; k < SPANS; k++)
            tell_load(telling, i, k);
    }
    topics->uptime_ms = figures->uptime_ms;
}

void sys_topics_update(
    struct sys_topics *topics, const struct sys_figures *figures, sys_topic_told *told, void *context)
{
    const struct telling telling = {.topics = topics, .told = told, .context = context};
    tell_others(&telling, figures);
    tell_rows(&telling, figures);
    if (figures->uptime_ms >= topics->uptime_ms)
        tell_loads(&telling, figures);
    topics->begun = true;
}
