/*
 * Completions across nodes: a worker there waits for one number, here several workers may hold the
 * publication. Each such ask has a number of the link's own; when the last worker has answered, the one over
 * there is told, in ranges.
 */
#include "cluster/link_relay_private.h"

#include <stdlib.h>

/* Open at once; what is beyond is answered when the asker's time-out ends its wait. */
#define ASKS_MAX    ((size_t)1 << 20)
#define ANSWERS_MAX ((size_t)1 << 16)
#define AT_ONCE     256u

static struct relay_ask *ask_at(struct relay_asks *asks, size_t index)
{
    return &asks->array[(asks->first + index) & (asks->capacity - 1)];
}

static bool grow(struct relay_asks *asks)
{
    size_t capacity = asks->capacity == 0 ? 256 : asks->capacity * 2;
    if (asks->count < asks->capacity)
        return true;
    struct relay_ask *array = capacity <= ASKS_MAX ? calloc(capacity, sizeof *array) : NULL;
    if (array == NULL)
        return false;
    for (size_t i = 0; i < asks->count; i++)
        array[i] = *ask_at(asks, i);
    free(asks->array);
    asks->array = array;
    asks->capacity = capacity;
    asks->first = 0;
    return true;
}

static void drop_done(struct relay_asks *asks)
{
    while (asks->count > 0 && ask_at(asks, 0)->done) {
        asks->first = (asks->first + 1) & (asks->capacity - 1);
        asks->count--;
        asks->base++;
    }
}

static void answer(struct relay *relay, const struct relay_ask *it)
{
    struct relay_answers *answers = &relay->nodes[it->node].answers[it->slot];
    if (answers->incarnation != it->incarnation) {
        answers->incarnation = it->incarnation;
        answers->count = 0;
    }
    struct acceptance_range *last = answers->count > 0 ? &answers->array[answers->count - 1] : NULL;
    if (last != NULL && last->first + last->count == it->ask && last->count < UINT32_MAX) {
        last->count++;
        return;
    }
    if (answers->count == answers->capacity) {
        size_t capacity = answers->capacity == 0 ? 16 : answers->capacity * 2;
        struct acceptance_range *array =
            capacity <= ANSWERS_MAX ? realloc(answers->array, capacity * sizeof *array) : NULL;
        if (array == NULL)
            return;
        answers->array = array;
        answers->capacity = capacity;
    }
    answers->array[answers->count++] = (struct acceptance_range){it->ask, 1};
}

static void settle(struct relay *relay, struct relay_ask *it, uint64_t answered)
{
    if (it->done)
        return;
    it->waiting &= ~answered;
    if (it->waiting != 0)
        return;
    it->done = true;
    answer(relay, it);
}

uint64_t relay_ask(
    struct relay *relay, unsigned node, unsigned slot, uint64_t incarnation, uint64_t ask, uint64_t waiting)
{
    struct relay_asks *asks = &relay->asks;
    if (!grow(asks))
        return 0;
    uint64_t number = asks->base + asks->count;
    struct relay_ask *it = ask_at(asks, asks->count++);
    *it = (struct relay_ask){.waiting = waiting,
        .ask = ask,
        .incarnation = incarnation,
        .node = (uint8_t)node,
        .slot = (uint8_t)slot};
    settle(relay, it, 0); /* nobody holds it any more: that, too, is an answer */
    return number;
}

void relay_completed(struct relay *relay, unsigned slot, unsigned node, struct bytes body)
{
    struct relay_asks *asks = &relay->asks;
    enum acceptance_completion_kind kind;
    uint64_t life, bit = UINT64_C(1) << slot;
    struct bytes ranges;
    if (acceptance_completion_read(body, &kind, &life, &ranges) != STATUS_OK) {
        relay->settings.counters->bus_frames_bad++;
        return;
    }
    if (life != relay->nodes[node].life)
        return; /* for an earlier one */
    for (size_t i = 0; kind == ACCEPTANCE_FORGOTTEN && i < asks->count; i++) {
        if (ask_at(asks, i)->node == node)
            settle(relay, ask_at(asks, i), bit);
    }
    for (size_t at = 0; at < ranges.size; at += ACCEPTANCE_RANGE_SIZE) {
        struct acceptance_range range = acceptance_range_read(ranges.data + at);
        for (uint32_t i = 0; i < range.count; i++) {
            uint64_t index = range.first + i - asks->base;
            if (index >= asks->count && range.first + i >= asks->base)
                break;
            if (index < asks->count)
                settle(relay, ask_at(asks, (size_t)index), bit);
        }
    }
    drop_done(asks);
}

void relay_asks_release(struct relay *relay, unsigned slot)
{
    for (size_t i = 0; i < relay->asks.count; i++)
        settle(relay, ask_at(&relay->asks, i), UINT64_C(1) << slot);
    drop_done(&relay->asks);
}

void relay_asks_forget(struct relay *relay, unsigned node)
{
    for (size_t i = 0; i < relay->asks.count; i++) {
        if (ask_at(&relay->asks, i)->node == node)
            ask_at(&relay->asks, i)->done = true;
    }
    for (unsigned slot = 0; slot < 64; slot++)
        relay->nodes[node].answers[slot].count = 0;
    drop_done(&relay->asks);
}

/* True if it was put. */
static bool send_some(struct relay *relay, unsigned node, unsigned slot, size_t count)
{
    struct relay_answers *answers = &relay->nodes[node].answers[slot];
    struct bus *bus = relay->settings.links;
    unsigned peer = relay_peer(relay, node);
    size_t size = RELAY_ANSWER_HEAD + ACCEPTANCE_COMPLETION_HEADER_SIZE + count * ACCEPTANCE_RANGE_SIZE;
    if (bus_full(bus, UINT64_C(1) << peer, size, BUS_ROOM_CONTROL) != 0)
        return false;
    uint8_t *to = bus_put(bus, peer, BUS_RECORD_ANSWER, size, BUS_ROOM_CONTROL);
    if (to == NULL)
        return false;
    to = record_write_u8(to, (uint8_t)slot);
    to = record_write_u8(to, BUS_RECORD_COMPLETION);
    acceptance_completion_write(to, ACCEPTANCE_TAKEN, answers->incarnation);
    to += ACCEPTANCE_COMPLETION_HEADER_SIZE;
    for (size_t i = 0; i < count; i++)
        acceptance_range_write(to + i * ACCEPTANCE_RANGE_SIZE, answers->array[answers->count - count + i]);
    answers->count -= count;
    return true;
}

void relay_answers_send(struct relay *relay)
{
    for (unsigned node = 0; node < relay->settings.node_count; node++) {
        if (relay->nodes[node].state < RELAY_NODE_TAKING)
            continue;
        for (unsigned slot = 0; slot < 64; slot++) {
            struct relay_answers *answers = &relay->nodes[node].answers[slot];
            while (answers->count > 0) {
                if (!send_some(relay, node, slot, answers->count < AT_ONCE ? answers->count : AT_ONCE))
                    break; /* later */
            }
        }
    }
}

/* A record of another link for one of our workers, as if from its node. */
enum status relay_on_answer(void *context, const struct bus_record *record)
{
    struct relay *relay = context;
    struct record_reader reader = record_read(record->body);
    unsigned slot = record_read_u8(&reader), type = record_read_u8(&reader);
    if (reader.failed || slot >= relay->settings.worker_count || type != BUS_RECORD_COMPLETION)
        return STATUS_PROTOCOL;
    if ((relay_workers(relay) >> slot & 1) == 0)
        return STATUS_OK;
    uint64_t life = relay->nodes[record->peer - relay->settings.first_node].life;
    uint8_t *to = bus_put_as(relay->settings.workers, slot, record->peer,
        (struct publication_origin){.incarnation = life}, BUS_RECORD_COMPLETION, reader.rest.size,
        BUS_ROOM_CONTROL);
    if (to != NULL)
        record_write_bytes(to, reader.rest);
    return STATUS_OK;
}

void relay_tell_forgotten(struct relay *relay, unsigned node)
{
    struct bus *bus = relay->settings.workers;
    bus_for_each_peer(relay_workers(relay), slot)
    {
        uint8_t *to = bus_put_as(bus, slot, relay_peer(relay, node),
            (struct publication_origin){.incarnation = relay->nodes[node].life}, BUS_RECORD_COMPLETION,
            ACCEPTANCE_COMPLETION_HEADER_SIZE, BUS_ROOM_CONTROL);
        if (to != NULL)
            acceptance_completion_write(to, ACCEPTANCE_FORGOTTEN, bus_peer_origin(bus, slot).incarnation);
    }
}

void relay_asks_free(struct relay *relay)
{
    free(relay->asks.array);
    for (unsigned node = 0; node < RELAY_NODES_MAX; node++) {
        for (unsigned slot = 0; slot < 64; slot++)
            free(relay->nodes[node].answers[slot].array);
    }
}
