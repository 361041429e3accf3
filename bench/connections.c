/*
 * Connections that come and go, and connections that stay. Source addresses go round 127.0.0.1…127.0.0.250,
 * so that ports do not run out.
 */
#include "bench/connections.h"
#include "bench/client.h"
#include "bench/process_cpu.h"

#include "shared/clock.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WARM_UP_US 500000u

struct swarm {
    const struct options *options;
    const struct target *target;
    struct client_loop loop;
    struct client *clients;
    uint64_t *begun_us;
    uint32_t count, ready;
    bool again; /* handshake: reconnect as soon as one is ready */
    bool failed, measuring;
    struct handshake_result *result;
};

static bool open_one(struct swarm *swarm, uint32_t i)
{
    struct client *client = &swarm->clients[i];
    client->number = i;
    client->version = swarm->options->version;
    swarm->begun_us[i] = clock_monotonic_us();
    snprintf(client->id, sizeof client->id, "bench-%d-%u", getpid(), i);
    if (client_open(&swarm->loop, client, (const void *)&swarm->target->address, swarm->target->address_size,
            swarm->target->context, swarm->target->host))
        return true;
    perror("shoal-bench: a connection cannot be opened");
    swarm->failed = true;
    return false;
}

static void on_ready(struct client *client)
{
    struct swarm *swarm = client->loop->context;
    swarm->ready++;
    if (!swarm->again)
        return;
    if (swarm->measuring) {
        swarm->result->done++;
        swarm->result->resumed += client->stream.ssl != NULL && SSL_session_reused(client->stream.ssl);
        histogram_add(&swarm->result->latency_us, clock_monotonic_us() - swarm->begun_us[client->number]);
    }
    client_disconnect(client);
}

/* The broker has closed after DISCONNECT: the next round of this client. */
static void on_failed(struct client *client, const char *why)
{
    struct swarm *swarm = client->loop->context;
    if (client->next_id == 0 && client->stream.out.size == 0 && swarm->again && client->stream.in.size == 0 &&
        strcmp(why, "connection closed by the broker") == 0)
        return;
    if (!swarm->failed)
        fprintf(stderr, "shoal-bench: client %s: %s\n", client->id, why);
    swarm->failed = true;
}

static void on_nothing(struct client *client)
{
    (void)client;
}

static void on_publish(struct client *client, struct bytes topic, struct bytes payload, uint8_t qos)
{
    (void)client;
    (void)topic;
    (void)payload;
    (void)qos;
}

static void swarm_init(struct swarm *swarm, const struct options *options, const struct target *target)
{
    memset(swarm, 0, sizeof *swarm);
    swarm->options = options;
    swarm->target = target;
    swarm->count = options->connections;
    swarm->clients = calloc(swarm->count, sizeof *swarm->clients);
    swarm->begun_us = calloc(swarm->count, sizeof *swarm->begun_us);
    if (swarm->clients == NULL || swarm->begun_us == NULL || !client_loop_init(&swarm->loop))
        abort();
    for (uint32_t i = 0; i < swarm->count; i++)
        swarm->clients[i].stream.fd = -1;
    swarm->loop.context = swarm;
    swarm->loop.ready = on_ready;
    swarm->loop.failed = on_failed;
    swarm->loop.publish = on_publish;
    swarm->loop.acknowledged = on_nothing;
}

static void swarm_close(struct swarm *swarm)
{
    swarm->loop.streams.dirty = NULL;
    for (uint32_t i = 0; i < swarm->count; i++)
        client_close(&swarm->clients[i]);
}

static void swarm_done(struct swarm *swarm)
{
    swarm_close(swarm);
    for (uint32_t i = 0; i < swarm->count; i++)
        SSL_SESSION_free(swarm->clients[i].resume);
    client_loop_done(&swarm->loop);
    free(swarm->clients);
    free(swarm->begun_us);
}

/* Those that the broker has closed connect again. */
static void reopen(struct swarm *swarm)
{
    for (uint32_t i = 0; i < swarm->count; i++) {
        struct client *client = &swarm->clients[i];
        if (client->state != CLIENT_FAILED)
            continue;
        client_close(client);
        if (!swarm->options->resume) {
            SSL_SESSION_free(client->resume);
            client->resume = NULL;
        }
        if (!open_one(swarm, i))
            return;
    }
}

bool handshake_run(
    const struct options *options, const struct target *target, struct handshake_result *ret_result)
{
    struct swarm swarm;
    swarm_init(&swarm, options, target);
    swarm.again = true;
    swarm.result = ret_result;
    memset(ret_result, 0, sizeof *ret_result);
    for (uint32_t i = 0; i < swarm.count && open_one(&swarm, i); i++)
        ;
    uint64_t begun_us = clock_monotonic_us(), start_us = 0, end_us = 0, cpu_us = 0, own_us = 0;
    while (!swarm.failed) {
        uint64_t now_us = clock_monotonic_us();
        if (!swarm.measuring && now_us - begun_us >= WARM_UP_US) {
            swarm.measuring = true;
            cpu_us = target->pid == 0 ? 0 : process_tree_cpu_us(target->pid);
            own_us = own_cpu_us();
            start_us = clock_monotonic_us();
            end_us = start_us + (uint64_t)(options->seconds * 1e6);
        }
        if (swarm.measuring && now_us >= end_us)
            break;
        client_loop_turn(&swarm.loop, 10000);
        reopen(&swarm);
    }
    ret_result->seconds = (double)(clock_monotonic_us() - start_us) / 1e6;
    ret_result->broker_cpu_us = target->pid == 0 ? 0 : process_tree_cpu_us(target->pid) - cpu_us;
    ret_result->own_cpu_us = own_cpu_us() - own_us;
    bool good = !swarm.failed;
    swarm_done(&swarm);
    return good;
}

static void turn_for(struct swarm *swarm, double seconds)
{
    uint64_t until_us = clock_monotonic_us() + (uint64_t)(seconds * 1e6);
    while (!swarm->failed && clock_monotonic_us() < until_us)
        client_loop_turn(&swarm->loop, 50000);
}

bool idle_run(const struct options *options, const struct target *target, struct idle_result *ret_result)
{
    struct swarm swarm;
    swarm_init(&swarm, options, target);
    memset(ret_result, 0, sizeof *ret_result);
    ret_result->connections = swarm.count;
    process_tree_memory(target->pid, &ret_result->pss_before, &ret_result->private_before);
    /* A portion at a time: this measures what is held, not a storm. */
    for (uint32_t i = 0; i < swarm.count && !swarm.failed; i++) {
        open_one(&swarm, i);
        while (!swarm.failed && i + 1 - swarm.ready > 100)
            client_loop_turn(&swarm.loop, 10000);
    }
    uint64_t until_us = clock_monotonic_us() + 60000000u;
    while (!swarm.failed && swarm.ready < swarm.count && clock_monotonic_us() < until_us)
        client_loop_turn(&swarm.loop, 10000);
    bool good = !swarm.failed && swarm.ready == swarm.count;
    turn_for(&swarm, 2);
    uint64_t cpu_us = process_tree_cpu_us(target->pid), start_us = clock_monotonic_us();
    turn_for(&swarm, options->seconds);
    ret_result->cpu_share =
        (double)(process_tree_cpu_us(target->pid) - cpu_us) / (double)(clock_monotonic_us() - start_us);
    process_tree_memory(target->pid, &ret_result->pss_held, &ret_result->private_held);
    swarm_close(&swarm);
    usleep(5000000);
    process_tree_memory(target->pid, &ret_result->pss_after, &ret_result->private_after);
    swarm_done(&swarm);
    return good;
}
