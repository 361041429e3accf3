/*
 * The load checker's scenario. Client k subscribes to t/k, a watcher (the first ones) to t/+ and the wills;
 * every client publishes to t/RANDOM.
 */
#include "tests/load/scenario.h"

#include "shared/mqtt_packet.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TURN_US 1000
/* CONNACK's return code of version 3 for a server that is busy. */
#define MQTT_CONNACK_UNAVAILABLE 3
/* Between the end of a connection and the next: short, since a crowd that comes back at once is the hard
 * case.
 */
#define REOPEN_MAX_US 30000
/* Initial connections are opened so many at a time, so that handshakes do not time out. */
#define OPENING_MAX 40
/* Nothing arrived for so long: all there is has come. */
#define QUIET_US 3000000
/* CONNECTs that arrive further apart are told apart by the broker: twice what it says, for the way there. */
#define CONCURRENT_US 20000

static struct scenario *running; /* for the clients' callbacks */

static uint32_t random_below(struct scenario *scenario, uint32_t limit)
{
    scenario->random ^= scenario->random << 13;
    scenario->random ^= scenario->random >> 7;
    scenario->random ^= scenario->random << 17;
    return (uint32_t)((scenario->random >> 11) % limit);
}

static bool is_mover(const struct scenario *scenario, uint32_t number)
{
    return number < scenario->options.clients &&
           number >= scenario->options.clients - scenario->options.movers;
}

static void complain(struct scenario *scenario, enum violation_kind kind, uint32_t client, int detail)
{
    struct violation violation = {.kind = kind,
        .subscriber = client,
        .publisher = client,
        .sequence = scenario->members[client].client->connection,
        .detail = detail,
        .at_us = load_now_us()};
    books_violation(scenario->books, &violation);
}

/* Callbacks
 * --------------------------------------------------------------------------------------------------- */

static void longest(uint64_t *most, uint64_t value)
{
    if (value > *most)
        *most = value;
}

static void subscribe(struct client *client)
{
    char own[16];
    snprintf(own, sizeof own, "t/%u", client->number);
    const char *own_filters[] = {own}, *all_filters[] = {"t/+", "w/#"};
    if (client->number < running->options.watchers)
        client_subscribe(client, all_filters, 2);
    else
        client_subscribe(client, own_filters, 1);
}

static void on_connected(struct client *client, bool session_present)
{
    struct member *member = &running->members[client->number];
    member->connect_us = client->connected_us - client->opened_us;
    longest(&running->connect_us, member->connect_us);
    member->suback_us = member->exchange_us = 0;
    if (session_present && member->subscribed)
        return;
    if (member->subscribed) {
        books_life_ended(running->books, client->number);
        if (running->options.expect_sessions)
            complain(running, VIOLATION_SESSION, client->number, 0);
    }
    member->subscribed = false;
    subscribe(client);
}

static void publish_to(struct member *from, uint32_t destination)
{
    struct client *client = from->client;
    const struct options *options = &running->options;
    bool large =
        options->large_every > 0 && random_below(running, options->large_every) == options->large_every - 1;
    uint32_t size =
        large ? options->large_size : options->size / 2 + random_below(running, options->size + 1);
    uint32_t sequence = books_publish(running->books, client->number, client->connection, destination,
        (uint8_t)(1 + random_below(running, 2)), size, load_now_us());
    running->published++;
    client_publish(client, sequence);
}

/* A random client that may publish now; NULL: none was found soon. */
static struct member *random_publisher(void)
{
    for (unsigned tries = 0; tries < 16; tries++) {
        struct member *member = &running->members[random_below(running, running->count)];
        if (client_window_free(member->client, running->options.window))
            return member;
    }
    return NULL;
}

static void on_subscribed(struct client *client)
{
    struct member *member = &running->members[client->number];
    uint64_t now_us = load_now_us();
    member->suback_us = now_us - client->subscribe_us;
    longest(&running->suback_us, member->suback_us);
    member->subscribed = true;
    books_life(running->books, client->number, now_us);
    /* Whoever publishes after SUBACK reaches it, from wherever: try that at once. */
    struct member *other = random_publisher();
    if (running->publishing && other != NULL)
        publish_to(other, client->number);
}

static void on_accepted(struct client *client, uint32_t sequence, bool good)
{
    struct member *member = &running->members[client->number];
    uint64_t now_us = load_now_us();
    uint64_t took_us =
        books_accepted(running->books, client->number, client->connection, sequence, good, now_us);
    if (!good)
        complain(running, VIOLATION_REFUSED, client->number, 0);
    longest(&running->exchange_us, took_us);
    if (took_us > member->exchange_us) {
        member->exchange_us = took_us;
        member->exchange_at_us = now_us - took_us;
    }
}

static void on_completed(struct client *client)
{
    (void)client;
}

static void on_arrived(struct client *client, struct bytes topic, struct bytes payload, uint8_t qos)
{
    running->last_arrival_us = client->read_us;
    books_arrived(running->books, client->number, topic, payload, qos, client->read_us);
}

/* Of two connections that a client opens within a moment, the workers may see the second one first; not so
 * if the first one, whose CONNECT nobody has answered, was opened earlier than that. */
static bool overtook_itself(const struct client *client, int reason)
{
    return client->rival_us != 0 && client->opened_us - client->rival_us < CONCURRENT_US &&
           (reason == MQTT_SESSION_TAKEN_OVER || reason == MQTT_SERVER_BUSY ||
               reason == MQTT_CONNACK_UNAVAILABLE || reason < 0);
}

static void on_lost(struct client *client, const char *why, int reason)
{
    struct scenario *scenario = running;
    struct member *member = &scenario->members[client->number];
    uint64_t now_us = load_now_us();
    bool connected = client->connected_us >= client->opened_us;
    if (scenario->loss_count == scenario->loss_capacity) {
        scenario->loss_capacity = scenario->loss_capacity * 2 + 64;
        scenario->losses = reallocarray(scenario->losses, scenario->loss_capacity, sizeof *scenario->losses);
        if (scenario->losses == NULL)
            abort();
    }
    scenario->losses[scenario->loss_count++] = (struct loss){.at_us = now_us,
        .opened_us = client->opened_us,
        .client = client->number,
        .connection = client->connection,
        .port = client->port,
        .reason = reason,
        .why = why,
        .connected = connected,
        .overtaken = overtook_itself(client, reason)};
    if ((reason >= 0 && !overtook_itself(client, reason)) || strcmp(why, STREAM_REFUSED) == 0)
        complain(scenario, VIOLATION_REFUSED, client->number, reason);
    if (client->will_topic != NULL)
        books_will(scenario->books, client->number, client->connection, connected, client->read_us);
    if (!client->persistent) {
        books_life_ended(scenario->books, client->number);
        member->subscribed = false;
        client_session_clear(client);
    }
    member->reopen_us = now_us + random_below(scenario, REOPEN_MAX_US);
}

static void on_content(struct client *client, uint32_t sequence, struct bytes *ret_topic,
    struct bytes *ret_payload, uint8_t *ret_qos)
{
    books_content(running->books, client->number, sequence, ret_topic, ret_payload, ret_qos);
}

static const struct client_events events = {.connected = on_connected,
    .subscribed = on_subscribed,
    .accepted = on_accepted,
    .completed = on_completed,
    .arrived = on_arrived,
    .lost = on_lost,
    .content = on_content};

/* What happens when
 * ------------------------------------------------------------------------------------------- */

static void add_member(struct scenario *scenario)
{
    uint32_t number = scenario->count++;
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL)
        abort();
    client->loop = &scenario->loop;
    client->number = number;
    client->version = number % 4 < 2 ? 4 : 5;
    client->persistent =
        is_mover(scenario, number) || random_below(scenario, 100) < scenario->options.persistent;
    client->will_topic = scenario->options.wills && !is_mover(scenario, number) ? "w/load" : NULL;
    client->stream.fd = client->former_fd = -1;
    scenario->members[number] = (struct member){.client = client, .reopen_us = 1};
}

static void open_connection(struct scenario *scenario, struct member *member)
{
    const struct options *options = &scenario->options;
    bool tls = options->tls_port != 0 && (options->port == 0 || member->client->number % 2 == 1);
    member->reopen_us = 0;
    if (!client_open(member->client, (uint16_t)(tls ? options->tls_port : options->port), tls))
        on_lost(member->client, strerror(errno), -1);
}

static bool opening(const struct client *client)
{
    return client->state != CLIENT_CLOSED && client->state != CLIENT_READY;
}

static void open_due(struct scenario *scenario, uint64_t now_us)
{
    uint32_t busy = 0;
    for (uint32_t i = 0; i < scenario->count; i++)
        busy += opening(scenario->members[i].client);
    for (uint32_t i = 0; i < scenario->count && busy < OPENING_MAX; i++) {
        struct member *member = &scenario->members[i];
        if (member->reopen_us != 0 && member->reopen_us <= now_us) {
            open_connection(scenario, member);
            busy++;
        }
    }
}

/* A mover connects anew, mostly from a good connection, at times before the last one has CONNACK. */
static void move(struct scenario *scenario, struct member *member, uint64_t now_us)
{
    uint32_t every_us = scenario->options.move_ms * 1000;
    bool early = random_below(scenario, 100) < scenario->options.early;
    member->move_us =
        now_us + (early ? random_below(scenario, 2000) : every_us / 2 + random_below(scenario, every_us + 1));
    member->early = early;
    member->moves++;
    scenario->moved++;
    if (random_below(scenario, 4) == 0)
        client_close(member->client);
    open_connection(scenario, member);
}

static void move_due(struct scenario *scenario, uint64_t now_us)
{
    for (uint32_t i = 0; i < scenario->count; i++) {
        struct member *member = &scenario->members[i];
        if (!is_mover(scenario, i) || member->reopen_us != 0 || now_us < member->move_us ||
            member->moves >= scenario->options.moves || !member->subscribed)
            continue;
        if (member->early || !opening(member->client))
            move(scenario, member, now_us);
    }
}

static void publish_due(struct scenario *scenario, uint64_t now_us)
{
    uint64_t due = (now_us - scenario->start_us) * scenario->options.rate / 1000000;
    if (scenario->options.rate == 0)
        due = scenario->published + 2 * scenario->count;
    if (due > scenario->published + 2 * scenario->count) {
        /* The windows were full: what could not be published is not made up for. */
        uint64_t behind = due - scenario->published - 2 * scenario->count;
        scenario->start_us += behind * 1000000 / scenario->options.rate;
        due -= behind;
    }
    while (scenario->published < due) {
        struct member *from = random_publisher();
        if (from == NULL)
            return;
        publish_to(from, random_below(scenario, scenario->count));
    }
}

static bool everybody(const struct scenario *scenario, bool idle)
{
    for (uint32_t i = 0; i < scenario->count; i++) {
        const struct member *member = &scenario->members[i];
        if (member->client->state != CLIENT_READY || !member->subscribed)
            return false;
        if (idle && member->client->window_count > 0)
            return false;
    }
    return true;
}

static bool movers_done(const struct scenario *scenario)
{
    for (uint32_t i = 0; i < scenario->count; i++)
        if (is_mover(scenario, i) && scenario->members[i].moves < scenario->options.moves)
            return false;
    return scenario->options.movers > 0;
}

static bool told_to_stop(void)
{
    static bool closed;
    char text[64];
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    if (closed || poll(&input, 1, 0) != 1)
        return false;
    ssize_t n = read(STDIN_FILENO, text, sizeof text);
    closed = n <= 0;
    return n > 0;
}

static void turn(struct scenario *scenario)
{
    client_loop_turn(&scenario->loop, TURN_US);
    open_due(scenario, load_now_us());
}

static void publish_phase(struct scenario *scenario)
{
    uint64_t begin_us = scenario->start_us = load_now_us();
    uint64_t end_us = begin_us + (uint64_t)scenario->options.seconds * 1000000;
    scenario->publishing = true;
    for (uint64_t now_us = begin_us; now_us < end_us && !told_to_stop() && !movers_done(scenario);
         now_us = load_now_us()) {
        publish_due(scenario, now_us);
        move_due(scenario, now_us);
        uint64_t joined = scenario->count - scenario->options.clients;
        if (joined < scenario->options.joins &&
            now_us - begin_us > (joined + 1) * scenario->options.join_ms * 1000)
            add_member(scenario);
        turn(scenario);
    }
    scenario->publishing = false;
}

static void settle_phase(struct scenario *scenario)
{
    uint64_t end_us = load_now_us() + (uint64_t)scenario->options.patience * 1000000;
    uint64_t look_us = 0;
    scenario->last_arrival_us = load_now_us();
    for (uint64_t now_us = 0; now_us < end_us;) {
        turn(scenario);
        now_us = load_now_us();
        if (!everybody(scenario, true)) {
            scenario->last_arrival_us = now_us;
            continue;
        }
        /* Longer than it takes for a double, a stray or a will to come behind. */
        if (now_us - scenario->last_arrival_us > QUIET_US)
            return;
        if (now_us < look_us || now_us - scenario->last_arrival_us < QUIET_US / 4)
            continue;
        if (books_missing(scenario->books) == 0)
            return;
        look_us = now_us + QUIET_US / 10;
    }
}

void scenario_run(struct scenario *scenario)
{
    running = scenario;
    uint64_t end_us = load_now_us() + (uint64_t)scenario->options.patience * 1000000;
    while (!everybody(scenario, false) && load_now_us() < end_us)
        turn(scenario);
    printf("{\"event\": \"ready\", \"connected\": %s}\n", everybody(scenario, false) ? "true" : "false");
    fflush(stdout);
    publish_phase(scenario);
    printf("{\"event\": \"published\"}\n");
    fflush(stdout);
    settle_phase(scenario);
}

bool scenario_open(struct scenario *scenario, const struct options *options)
{
    *scenario = (struct scenario){.options = *options, .random = 0x9e3779b97f4a7c15u ^ options->seed};
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    if (tls == NULL || !client_loop_open(&scenario->loop, tls, &events)) {
        fprintf(stderr, "shoal-load-check: cannot start: %s\n", strerror(errno));
        return false;
    }
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    uint32_t most = options->clients + options->joins;
    scenario->books = books_new(most, options->watchers, options->large_size + 2 * options->size);
    scenario->members = calloc(most, sizeof *scenario->members);
    if (scenario->members == NULL)
        return false;
    while (scenario->count < options->clients)
        add_member(scenario);
    return true;
}

void scenario_close(struct scenario *scenario)
{
    for (uint32_t i = 0; i < scenario->count; i++)
        client_disconnect(scenario->members[i].client);
    client_loop_turn(&scenario->loop, 0);
    for (uint32_t i = 0; i < scenario->count; i++)
        client_free(scenario->members[i].client);
    SSL_CTX_free(scenario->loop.tls);
    client_loop_close(&scenario->loop);
    books_free(scenario->books);
    free(scenario->members);
    free(scenario->losses);
}
