/*
 * Publishers and subscribers in one event loop. Each publisher keeps at most --inflight messages that its
 * subscribers have not got yet (and that the broker has not acknowledged), or sends at a fixed rate whatever
 * comes back; then latency counts from the time at which a message should have been sent.
 */
#include "bench/traffic.h"
#include "bench/client.h"
#include "bench/process_cpu.h"

#include "shared/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WARM_UP_US 500000u
#define READY_US   30000000u
#define DRAIN_US   10000000u

struct publisher {
    struct client client;
    char topic[64];
    uint64_t sent, acknowledged;
    uint64_t delivered; /* to all its subscribers */
};

struct traffic {
    enum traffic_kind kind;
    const struct options *options;
    struct client_loop loop;
    struct publisher *publishers;
    struct client *subscribers;
    uint64_t *next_sequence; /* what a subscriber expects next, by pair */
    uint32_t publisher_count, subscriber_count;
    uint32_t copies; /* receivers of each message */
    uint32_t ready;
    bool failed;
    bool measuring;
    uint8_t *payload;
    struct traffic_result *result;
    uint64_t delivered;
};

static void on_ready(struct client *client)
{
    struct traffic *traffic = client->loop->context;
    bool subscriber = client->owner == NULL;
    if (subscriber && client->next_id == 0) {
        const char *topic = traffic->publishers[traffic->kind == TRAFFIC_P2P ? client->number : 0].topic;
        client_subscribe(client, topic, traffic->options->qos);
        return;
    }
    traffic->ready++;
}

static void on_failed(struct client *client, const char *why)
{
    struct traffic *traffic = client->loop->context;
    if (!traffic->failed)
        fprintf(stderr, "shoal-bench: client %s: %s\n", client->id, why);
    traffic->failed = true;
}

static void on_acknowledged(struct client *client)
{
    struct publisher *publisher = client->owner;
    if (publisher != NULL)
        publisher->acknowledged++;
}

static void on_publish(struct client *client, struct bytes topic, struct bytes payload, uint8_t qos)
{
    (void)topic;
    (void)qos;
    struct traffic *traffic = client->loop->context;
    struct traffic_result *result = traffic->result;
    uint32_t number = payload.size < 24 ? UINT32_MAX : get_u32_le(payload.data);
    if (number >= traffic->publisher_count)
        return;
    uint64_t sequence = get_u64_le(payload.data + 8);
    uint64_t *expected = &traffic->next_sequence[traffic->kind == TRAFFIC_FANOUT ? client->number : number];
    if (sequence < *expected) {
        result->doubled++; /* or late */
    } else {
        result->gaps += sequence > *expected; /* something was lost, or will come late */
        *expected = sequence + 1;
    }
    traffic->publishers[number].delivered++;
    traffic->delivered++;
    if (traffic->measuring)
        histogram_add(&result->latency_us, clock_monotonic_us() - get_u64_le(payload.data + 16));
}

static void send_one(struct traffic *traffic, struct publisher *publisher, uint64_t intended_us)
{
    put_u32_le(traffic->payload, publisher->client.number);
    put_u64_le(traffic->payload + 8, publisher->sent);
    put_u64_le(traffic->payload + 16, intended_us);
    client_publish(&publisher->client, bytes_of_text(publisher->topic),
        bytes_of(traffic->payload, traffic->options->size), traffic->options->qos);
    publisher->sent++;
}

static void send_closed_loop(struct traffic *traffic)
{
    uint32_t window = traffic->options->inflight;
    uint64_t now_us = clock_monotonic_us();
    for (uint32_t i = 0; i < traffic->publisher_count; i++) {
        struct publisher *publisher = &traffic->publishers[i];
        while (
            publisher->sent * traffic->copies - publisher->delivered < (uint64_t)window * traffic->copies &&
            (traffic->options->qos == 0 || publisher->sent - publisher->acknowledged < window))
            send_one(traffic, publisher, now_us);
    }
}

/* Returns how long to sleep until the next one is due. */
static uint64_t send_open_loop(struct traffic *traffic, uint64_t begun_us, uint64_t *sent)
{
    double step_us = 1e6 / traffic->options->rate;
    uint64_t now_us = clock_monotonic_us();
    for (;;) {
        uint64_t due_us = begun_us + (uint64_t)((double)*sent * step_us);
        if (due_us > now_us)
            return due_us - now_us;
        send_one(traffic, &traffic->publishers[*sent % traffic->publisher_count], due_us);
        ++*sent;
    }
}

static uint64_t sent_by_all(const struct traffic *traffic)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < traffic->publisher_count; i++)
        sum += traffic->publishers[i].sent;
    return sum;
}

static void flow(struct traffic *traffic, const struct target *target)
{
    struct traffic_result *result = traffic->result;
    uint64_t begun_us = clock_monotonic_us();
    uint64_t end_us = 0, open_loop_sent = 0, cpu_us = 0, own_us = 0, delivered = 0, start_us = 0;
    while (!traffic->failed) {
        uint64_t now_us = clock_monotonic_us();
        if (!traffic->measuring && now_us - begun_us >= WARM_UP_US) {
            traffic->measuring = true;
            cpu_us = target->pid == 0 ? 0 : process_tree_cpu_us(target->pid);
            own_us = own_cpu_us();
            delivered = traffic->delivered;
            start_us = clock_monotonic_us();
            end_us = start_us + (uint64_t)(traffic->options->seconds * 1e6);
        }
        if (traffic->measuring && now_us >= end_us)
            break;
        uint64_t sleep_us = 10000;
        if (traffic->options->rate > 0)
            sleep_us = send_open_loop(traffic, begun_us, &open_loop_sent);
        else
            send_closed_loop(traffic);
        client_loop_turn(&traffic->loop, sleep_us);
    }
    result->delivered = traffic->delivered - delivered;
    result->seconds = (double)(clock_monotonic_us() - start_us) / 1e6;
    result->broker_cpu_us = target->pid == 0 ? 0 : process_tree_cpu_us(target->pid) - cpu_us;
    result->own_cpu_us = own_cpu_us() - own_us;
    traffic->measuring = false;
}

/* What is still on its way. */
static void drain(struct traffic *traffic)
{
    struct traffic_result *result = traffic->result;
    result->sent = sent_by_all(traffic);
    result->expected = result->sent * traffic->copies;
    uint64_t until_us = clock_monotonic_us() + DRAIN_US;
    uint64_t quiet_us = clock_monotonic_us(), last = 0;
    while (!traffic->failed && traffic->delivered < result->expected && clock_monotonic_us() < until_us) {
        client_loop_turn(&traffic->loop, 10000);
        if (traffic->delivered != last) {
            last = traffic->delivered;
            quiet_us = clock_monotonic_us();
        } else if (clock_monotonic_us() - quiet_us > 2000000) {
            break;
        }
    }
    result->received = traffic->delivered;
}

static bool wait_ready(struct traffic *traffic, uint32_t wanted)
{
    uint64_t until_us = clock_monotonic_us() + READY_US;
    while (traffic->ready < wanted && !traffic->failed && clock_monotonic_us() < until_us)
        client_loop_turn(&traffic->loop, 10000);
    if (traffic->ready < wanted && !traffic->failed)
        fprintf(stderr, "shoal-bench: only %u of %u clients got ready\n", traffic->ready, wanted);
    return traffic->ready >= wanted;
}

static bool open_all(struct traffic *traffic, const struct target *target)
{
    const struct sockaddr *address = (const void *)&target->address;
    for (uint32_t i = 0; i < traffic->publisher_count; i++) {
        struct publisher *publisher = &traffic->publishers[i];
        /* fanin: one topic for all, since the floor knows no wildcards */
        snprintf(publisher->topic, sizeof publisher->topic, "bench/%d/%u", getpid(),
            traffic->kind == TRAFFIC_FANIN ? 0 : i);
    }
    for (uint32_t i = 0; i < traffic->subscriber_count; i++) {
        struct client *client = &traffic->subscribers[i];
        client->number = i;
        client->version = traffic->options->version;
        snprintf(client->id, sizeof client->id, "bench-sub-%d-%u", getpid(), i);
        if (!client_open(
                &traffic->loop, client, address, target->address_size, target->context, target->host))
            return false;
    }
    if (!wait_ready(traffic, traffic->subscriber_count))
        return false;
    for (uint32_t i = 0; i < traffic->publisher_count; i++) {
        struct client *client = &traffic->publishers[i].client;
        client->number = i;
        client->owner = &traffic->publishers[i];
        client->version = traffic->options->version;
        snprintf(client->id, sizeof client->id, "bench-pub-%d-%u", getpid(), i);
        if (!client_open(
                &traffic->loop, client, address, target->address_size, target->context, target->host))
            return false;
    }
    return wait_ready(traffic, traffic->subscriber_count + traffic->publisher_count);
}

static void client_done(struct client *client)
{
    client_close(client);
    SSL_SESSION_free(client->resume);
}

static void traffic_done(struct traffic *traffic)
{
    for (uint32_t i = 0; i < traffic->publisher_count; i++)
        client_done(&traffic->publishers[i].client);
    for (uint32_t i = 0; i < traffic->subscriber_count; i++)
        client_done(&traffic->subscribers[i]);
    client_loop_done(&traffic->loop);
    free(traffic->publishers);
    free(traffic->subscribers);
    free(traffic->next_sequence);
    free(traffic->payload);
}

bool traffic_run(enum traffic_kind kind, const struct options *options, const struct target *target,
    struct traffic_result *ret_result)
{
    struct traffic traffic = {.kind = kind, .options = options, .result = ret_result};
    memset(ret_result, 0, sizeof *ret_result);
    traffic.publisher_count =
        kind == TRAFFIC_P2P ? options->pairs : (kind == TRAFFIC_FANIN ? options->publishers : 1);
    traffic.subscriber_count =
        kind == TRAFFIC_P2P ? options->pairs : (kind == TRAFFIC_FANOUT ? options->subscribers : 1);
    traffic.copies = kind == TRAFFIC_FANOUT ? options->subscribers : 1;
    uint32_t pairs = traffic.publisher_count > traffic.subscriber_count ? traffic.publisher_count
                                                                        : traffic.subscriber_count;
    traffic.publishers = calloc(traffic.publisher_count, sizeof *traffic.publishers);
    traffic.subscribers = calloc(traffic.subscriber_count, sizeof *traffic.subscribers);
    traffic.next_sequence = calloc(pairs, sizeof *traffic.next_sequence);
    traffic.payload = calloc(1, options->size);
    if (traffic.publishers == NULL || traffic.subscribers == NULL || traffic.next_sequence == NULL ||
        traffic.payload == NULL || !client_loop_init(&traffic.loop))
        abort();
    for (uint32_t i = 0; i < traffic.publisher_count; i++)
        traffic.publishers[i].client.stream.fd = -1;
    for (uint32_t i = 0; i < traffic.subscriber_count; i++)
        traffic.subscribers[i].stream.fd = -1;
    traffic.loop.context = &traffic;
    traffic.loop.ready = on_ready;
    traffic.loop.failed = on_failed;
    traffic.loop.publish = on_publish;
    traffic.loop.acknowledged = on_acknowledged;
    bool good = open_all(&traffic, target);
    if (good) {
        flow(&traffic, target);
        drain(&traffic);
        good = !traffic.failed;
    }
    traffic_done(&traffic);
    return good;
}
