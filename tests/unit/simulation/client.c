/* A client: see the header. Everything it does is drawn from the world's dice. */
#include "tests/unit/simulation/client.h"

#include "tests/unit/simulation/world.h"

#include <stdio.h>
#include <stdlib.h>

#define CONNECT_BOUND_US   4500000u  /* claim and move 1 s, routes 1 s, a starting worker 2 s */
#define UNANSWERED_US      12000000u /* until all workers that stood still have run on, or were replaced */
#define SUBSCRIBE_BOUND_US 1300000u
#define PUBLISH_BOUND_US   10300000u /* a full window 5 s, then a durable peer that does not answer 5 s */

static void send_packet(struct client *client, struct packet packet)
{
    connection_send(client->connection, &packet);
}

static struct worker *choose_worker(struct client *client)
{
    struct world *world = client->world;
    struct worker *worker = &world->workers[world_random(world, world->peers)];
    return worker->alive ? worker : NULL;
}

static void open_connection(struct client *client, struct worker *worker)
{
    struct world *world = client->world;
    client->connection = worker_accept(worker, client);
    client->connection->number = client->number * UINT64_C(100000) + ++client->connections;
    client->connected = false;
    client->asked = 0;
    client->connect_us = world->now_us;
    client->will = 0;
    client->will_delay_s = world_random(world, 4) == 0 ? 1 : 0;
    if (client->wants_will)
        client->will = oracle_tell(&world->oracle, &(struct told){.client = client->number,
                                                       .topic = ORACLE_TOPICS,
                                                       .qos = 2,
                                                       .connection = client->connection->number,
                                                       .sent_us = ORACLE_NEVER,
                                                       .acked_us = ORACLE_NEVER});
    bool clean = !world->calm && world_random(world, 100) < world->weather.clean;
    world_trace(
        world, "client %u connects to worker %u%s", client->number, worker->slot, clean ? ", clean" : "");
    send_packet(
        client, (struct packet){
                    .type = CONNECT, .flag = clean, .number = client->will, .delay_s = client->will_delay_s});
}

void client_init(struct client *client, struct world *world, unsigned number)
{
    *client = (struct client){.world = world, .number = number, .next_id = 1};
    snprintf(client->id, sizeof client->id, "client-%u", number);
    client->wants_will = world_random(world, 2) == 0;
    for (unsigned topic = 0; topic < ORACLE_TOPICS; topic++) {
        if (world_random(world, 3) == 0)
            client->topics |= 1u << topic;
    }
    if (world_random(world, 2) == 0)
        client->topics |= 1u << ORACLE_TOPICS; /* the wills of all */
}

static void publish(struct client *client)
{
    struct world *world = client->world;
    struct client_publish *slot = NULL;
    for (unsigned i = 0; i < CLIENT_INFLIGHT && slot == NULL; i++) {
        if (!client->inflight[i].used)
            slot = &client->inflight[i];
    }
    if (slot == NULL)
        return;
    unsigned qos = (unsigned)world_random(world, 8) == 0 ? 0 : 1 + (unsigned)world_random(world, 2);
    *slot = (struct client_publish){.used = true,
        .qos = (uint8_t)qos,
        .topic = (uint8_t)world_random(world, ORACLE_TOPICS),
        .id = client->next_id,
        .sent_us = world->now_us};
    client->next_id = (uint16_t)(client->next_id % 65000 + 1);
    slot->size = 16 + (uint32_t)world_random(world, 200);
    if (world_random(world, 100) < world->weather.large)
        slot->size = 16 + (uint32_t)world_random(world, 60000);
    slot->number = oracle_tell(&world->oracle, &(struct told){.client = client->number,
                                                   .topic = slot->topic,
                                                   .qos = qos,
                                                   .sends = 1,
                                                   .connection = client->connection->number,
                                                   .sent_us = world->now_us,
                                                   .acked_us = ORACLE_NEVER,
                                                   .sequence = ++client->sequence});
    send_packet(client, (struct packet){.type = PUBLISH,
                            .id = slot->id,
                            .qos = slot->qos,
                            .topic = slot->topic,
                            .number = slot->number,
                            .size = slot->size});
    world_trace(world, "client %u sends publication %u, QoS %u, topic %u", client->number, slot->number, qos,
        slot->topic);
    if (qos == 0)
        slot->used = false;
}

static void subscribe(struct client *client)
{
    uint32_t missing = client->topics & ~client->subscribed & ~client->asked;
    if (missing == 0 || client->asked != 0)
        return;
    unsigned topic = (unsigned)__builtin_ctz(missing);
    client->asked |= 1u << topic;
    client->subscribe_us = client->world->now_us;
    send_packet(client, (struct packet){.type = SUBSCRIBE, .topic = (uint8_t)topic, .id = 1});
}

/* Leaves the connection as it is (it dies on its own, or is taken over), or closes it. */
static void move_on(struct client *client)
{
    struct world *world = client->world;
    struct worker *worker = choose_worker(client);
    if (worker == NULL)
        return;
    unsigned how = (unsigned)world_random(world, 4);
    if (how > 0) {
        connection_leave(client->connection, how == 1);
        client->connection = NULL;
        client->connected = false;
        client->retry_us = world->now_us + world_random(world, 300000);
        return;
    }
    client->connection->client = NULL; /* half open: the client has forgotten it */
    open_connection(client, worker);
}

/* A SUBSCRIBE behind a publication that is held up by a window waits with it. */
static bool waits_for_publish(const struct client *client)
{
    for (unsigned i = 0; i < CLIENT_INFLIGHT; i++) {
        if (client->inflight[i].used)
            return true;
    }
    return false;
}

/* How long something that began then has been waited for, the time not counted in which its worker stood
 * still. */
static uint64_t waited(const struct client *client, uint64_t since_us)
{
    uint64_t ran_since_us = client->connection->worker->ran_since_us;
    return client->world->now_us - (since_us > ran_since_us ? since_us : ran_since_us);
}

static void check_bounds(struct client *client)
{
    struct world *world = client->world;
    struct worker *worker = client->connection->worker;
    if (worker->stopped_us != 0 || !worker->ready)
        return;
    if (!client->connected && waited(client, client->connect_us) > CONNECT_BOUND_US)
        oracle_fail(&world->oracle, "stall: client %u waits for CONNACK of worker %u for %u ms",
            client->number, worker->slot, (unsigned)(waited(client, client->connect_us) / 1000));
    if (client->connected && client->asked != 0 &&
        waited(client, client->subscribe_us) > SUBSCRIBE_BOUND_US && !waits_for_publish(client))
        oracle_fail(&world->oracle, "stall: client %u waits for SUBACK of worker %u for %u ms",
            client->number, worker->slot, (unsigned)(waited(client, client->subscribe_us) / 1000));
    for (unsigned i = 0; client->connected && i < CLIENT_INFLIGHT; i++) {
        const struct client_publish *slot = &client->inflight[i];
        if (slot->used && waited(client, slot->sent_us) > PUBLISH_BOUND_US)
            oracle_fail(&world->oracle, "stall: client %u waits for publication %u at worker %u",
                client->number, slot->number, worker->slot);
    }
}

void client_step(struct client *client)
{
    struct world *world = client->world;
    if (client->connection == NULL) {
        struct worker *worker = choose_worker(client);
        if (worker != NULL && world->now_us >= client->retry_us)
            open_connection(client, worker);
        return;
    }
    check_bounds(client);
    if (!world->calm && world_chance(world, world->weather.move)) {
        move_on(client);
        return;
    }
    if (!client->connected)
        return;
    subscribe(client);
    if (!world->calm && world_chance(world, world->weather.publish))
        publish(client);
}

static void longest(uint64_t *figure, uint64_t value)
{
    if (*figure < value)
        *figure = value;
}

/* The session that the publications in flight belonged to is gone: whether they arrived nobody knows. */
static void forget_session(struct client *client)
{
    client->subscribed = 0;
    memset(client->inflight, 0, sizeof client->inflight);
    memset(client->receiving, 0, sizeof client->receiving);
    oracle_new_session(&client->world->oracle, client->number, client->world->now_us);
}

static void resend(struct client *client)
{
    for (unsigned i = 0; i < CLIENT_INFLIGHT; i++) {
        struct client_publish *slot = &client->inflight[i];
        if (!slot->used)
            continue;
        slot->sent_us = client->world->now_us;
        world_trace(client->world, "client %u sends publication %u again%s", client->number, slot->number,
            slot->released ? ", PUBREL" : "");
        client->world->oracle.told[slot->number].sends += !slot->released;
        send_packet(client, (struct packet){.type = slot->released ? PUBREL : PUBLISH,
                                .id = slot->id,
                                .qos = slot->qos,
                                .topic = slot->topic,
                                .number = slot->number,
                                .size = slot->size,
                                .flag = true});
    }
}

/*
 * An older session of this client than the one that it had last. That is what can happen if the registrar did
 * not answer and the later session died: then nobody could know. A client that does not trust it begins anew.
 */
static bool is_resurrected(struct client *client, uint64_t life)
{
    struct oracle *oracle = &client->world->oracle;
    if (life == client->life)
        return false;
    uint64_t unanswered_us = oracle->unanswered_us[client->number];
    bool unanswered = unanswered_us != 0 && client->world->now_us < unanswered_us + UNANSWERED_US;
    if (!oracle->uncertain[client->number] && !unanswered)
        oracle_fail(oracle, "client %u got an older session than it had", client->number);
    oracle->resurrected++;
    return true;
}

static void on_connack(struct client *client, const struct packet *packet)
{
    struct world *world = client->world;
    bool session_present = packet->flag && !is_resurrected(client, packet->life);
    client->life = packet->life;
    world->oracle.uncertain[client->number] = false;
    client->connected = true;
    client->connack_us = world->now_us;
    longest(&world->oracle.longest_connect_us, world->now_us - client->connect_us);
    world_trace(world, "client %u connected to worker %u, session present %d", client->number,
        client->connection->worker->slot, session_present);
    if (!session_present)
        forget_session(client);
    oracle_connack(&world->oracle, client->number, world->now_us);
    resend(client);
}

static struct client_publish *find_publish(struct client *client, uint16_t id)
{
    for (unsigned i = 0; i < CLIENT_INFLIGHT; i++) {
        if (client->inflight[i].used && client->inflight[i].id == id)
            return &client->inflight[i];
    }
    return NULL;
}

static void acknowledged(struct client *client, struct client_publish *slot)
{
    struct told *told = &client->world->oracle.told[slot->number];
    if (told->acked_us == ORACLE_NEVER) {
        told->acked_us = client->world->now_us;
        world_note_places(client->world, told);
    }
    longest(&client->world->oracle.longest_publish_us, client->world->now_us - slot->sent_us);
}

static void on_publish(struct client *client, const struct packet *packet)
{
    struct oracle *oracle = &client->world->oracle;
    world_trace(client->world, "client %u gets publication %u, identifier %u, QoS %u%s from worker %u",
        client->number, packet->number, packet->id, packet->qos, packet->flag ? ", DUP" : "",
        client->connection->worker->slot);
    if (packet->qos < 2) {
        oracle_received(oracle, client->number, packet);
        if (packet->qos == 1)
            send_packet(client, (struct packet){.type = PUBACK, .id = packet->id});
        return;
    }
    uint16_t *slot = NULL;
    for (unsigned i = 0; i < 64; i++) {
        if (client->receiving[i] == packet->id) {
            send_packet(client, (struct packet){.type = PUBREC, .id = packet->id});
            return; /* has it */
        }
        if (client->receiving[i] == 0)
            slot = &client->receiving[i];
    }
    *slot = packet->id;
    oracle_received(oracle, client->number, packet);
    send_packet(client, (struct packet){.type = PUBREC, .id = packet->id});
}

static void on_pubrel(struct client *client, uint16_t id)
{
    for (unsigned i = 0; i < 64; i++) {
        if (client->receiving[i] == id)
            client->receiving[i] = 0;
    }
    send_packet(client, (struct packet){.type = PUBCOMP, .id = id});
}

static void on_acknowledgement(struct client *client, const struct packet *packet)
{
    struct client_publish *slot = find_publish(client, packet->id);
    if (slot == NULL)
        return;
    if (packet->type == PUBCOMP) {
        slot->used = false;
        return;
    }
    acknowledged(client, slot);
    client->subscribe_us = client->world->now_us;
    if (packet->type == PUBACK) {
        slot->used = false;
        return;
    }
    slot->released = true;
    send_packet(client, (struct packet){.type = PUBREL, .id = slot->id});
}

void client_receive(struct client *client, const struct packet *packet)
{
    struct world *world = client->world;
    switch (packet->type) {
    case CONNACK:
        on_connack(client, packet);
        return;
    case SUBACK:
        client->asked &= ~(1u << packet->topic);
        client->subscribed |= 1u << packet->topic;
        world->oracle.heard[client->number].subscribed_us[packet->topic] = world->now_us;
        longest(&world->oracle.longest_subscribe_us, world->now_us - client->subscribe_us);
        return;
    case PUBLISH:
        on_publish(client, packet);
        return;
    case PUBREL:
        on_pubrel(client, packet->id);
        return;
    case PUBACK:
    case PUBREC:
    case PUBCOMP:
        on_acknowledgement(client, packet);
        return;
    default:
        oracle_fail(&world->oracle, "client %u got packet %d", client->number, packet->type);
    }
}

void client_lost(struct client *client)
{
    client->connection = NULL;
    client->connected = false;
    client->retry_us = client->world->now_us + world_random(client->world, 200000);
}

bool client_rests(const struct client *client)
{
    if (client->connection == NULL || !client->connected || (client->topics & ~client->subscribed) != 0)
        return false;
    for (unsigned i = 0; i < CLIENT_INFLIGHT; i++) {
        if (client->inflight[i].used)
            return false;
    }
    return true;
}
