/* The queue and the in-flight window of a session: rings that grow by doubling. Worker process. */
#include "node/delivery.h"
#include "node/shared_delivery.h"

#include <assert.h>
#include <stdlib.h>

#define RING_FIRST 16u /* entries of a new ring */

void delivery_clear(struct delivery *delivery)
{
    publication_unref(&delivery->publication);
    free(delivery->identifiers);
    if (delivery->share != NULL)
        delivery_share_end(&delivery->share);
    memset(delivery, 0, sizeof *delivery);
}

/* A ring of twice the size with the `count` entries from `head` at its start; the old one is freed. */
static struct delivery *ring_grow(struct delivery *ring, uint32_t capacity, uint32_t head, uint32_t count)
{
    uint32_t grown = capacity == 0 ? RING_FIRST : capacity * 2;
    struct delivery *to = calloc(grown, sizeof *to);
    if (to == NULL)
        return NULL;
    for (uint32_t i = 0; i < count; i++)
        to[i] = ring[(head + i) & (capacity - 1)];
    free(ring);
    return to;
}

enum status delivery_queue_push(struct delivery_queue *queue, const struct delivery *delivery)
{
    if (queue->count == queue->capacity) {
        struct delivery *ring = ring_grow(queue->ring, queue->capacity, queue->head, queue->count);
        if (ring == NULL)
            return STATUS_NO_MEMORY;
        queue->ring = ring;
        queue->capacity = queue->capacity == 0 ? RING_FIRST : queue->capacity * 2;
        queue->head = 0;
    }
    struct delivery *slot = &queue->ring[(queue->head + queue->count) & (queue->capacity - 1)];
    *slot = *delivery;
    slot->state = DELIVERY_QUEUED;
    queue->count++;
    queue->bytes += publication_size(delivery->publication);
    return STATUS_OK;
}

struct delivery *delivery_queue_first(struct delivery_queue *queue)
{
    return queue->count == 0 ? NULL : &queue->ring[queue->head];
}

struct delivery *delivery_queue_at(struct delivery_queue *queue, uint32_t i)
{
    return &queue->ring[(queue->head + i) & (queue->capacity - 1)];
}

void delivery_queue_pop(struct delivery_queue *queue)
{
    assert(queue->count > 0);
    struct delivery *first = &queue->ring[queue->head];
    queue->bytes -= publication_size(first->publication);
    memset(first, 0, sizeof *first);
    queue->head = (queue->head + 1) & (queue->capacity - 1);
    queue->count--;
    if (queue->count == 0 && queue->capacity > RING_FIRST * 4) {
        free(queue->ring);
        memset(queue, 0, sizeof *queue);
    }
}

void delivery_queue_clear(struct delivery_queue *queue)
{
    for (uint32_t i = 0; i < queue->count; i++)
        delivery_clear(&queue->ring[(queue->head + i) & (queue->capacity - 1)]);
    free(queue->ring);
    memset(queue, 0, sizeof *queue);
}

static uint16_t id_after(uint16_t id, uint32_t distance)
{
    /* Identifiers run 1…65535 in a circle; 0 is never one. */
    return (uint16_t)((id - 1u + distance) % 65535u + 1u);
}

static uint32_t id_distance(uint16_t from, uint16_t to)
{
    return (to - from + 65535u) % 65535u;
}

void inflight_init(struct inflight_window *window)
{
    memset(window, 0, sizeof *window);
    window->next_id = 1;
}

bool inflight_has_room(const struct inflight_window *window, uint32_t limit, size_t bytes_limit)
{
    return window->count < limit && window->span < INFLIGHT_SPAN_MAX && window->bytes < bytes_limit;
}

struct delivery *inflight_at(struct inflight_window *window, uint32_t i)
{
    return &window->ring[(window->head + i) & (window->capacity - 1)];
}

/* Makes `slots` more slots at the end, all holes. */
static enum status inflight_extend(struct inflight_window *window, uint32_t slots)
{
    while (window->span + slots > window->capacity) {
        struct delivery *ring = ring_grow(window->ring, window->capacity, window->head, window->span);
        if (ring == NULL)
            return STATUS_NO_MEMORY;
        window->ring = ring;
        window->capacity = window->capacity == 0 ? RING_FIRST : window->capacity * 2;
        window->head = 0;
    }
    window->span += slots;
    return STATUS_OK;
}

enum status inflight_add(
    struct inflight_window *window, const struct delivery *delivery, struct delivery **ret_slot)
{
    if (window->span == 0)
        window->first_id = window->next_id;
    enum status status = inflight_extend(window, 1);
    if (status != STATUS_OK)
        return status;
    struct delivery *slot = inflight_at(window, window->span - 1);
    *slot = *delivery;
    slot->state = DELIVERY_PUBLISHED;
    slot->packet_id = window->next_id;
    window->next_id = id_after(window->next_id, 1);
    window->count++;
    window->bytes += publication_size(slot->publication);
    *ret_slot = slot;
    return STATUS_OK;
}

enum status inflight_restore(struct inflight_window *window, const struct delivery *delivery)
{
    if (window->span == 0)
        window->first_id = delivery->packet_id;
    uint32_t distance = id_distance(window->first_id, delivery->packet_id);
    if (delivery->packet_id == 0 || distance >= INFLIGHT_SPAN_MAX || distance < window->span)
        return STATUS_PROTOCOL;
    enum status status = inflight_extend(window, distance + 1 - window->span);
    if (status != STATUS_OK)
        return status;
    *inflight_at(window, distance) = *delivery;
    window->count++;
    if (delivery->publication != NULL)
        window->bytes += publication_size(delivery->publication);
    window->next_id = id_after(delivery->packet_id, 1);
    return STATUS_OK;
}

struct delivery *inflight_find(struct inflight_window *window, uint16_t packet_id)
{
    if (packet_id == 0 || window->span == 0)
        return NULL;
    uint32_t distance = id_distance(window->first_id, packet_id);
    if (distance >= window->span)
        return NULL;
    struct delivery *slot = inflight_at(window, distance);
    return slot->state == DELIVERY_FREE ? NULL : slot;
}

struct delivery *inflight_from(struct inflight_window *window, uint16_t packet_id)
{
    if (window->span == 0)
        return NULL;
    uint32_t i = id_distance(window->first_id, packet_id);
    if (i > INFLIGHT_SPAN_MAX)
        i = 0; /* lies before the window, which has moved on since */
    while (i < window->span && inflight_at(window, i)->state == DELIVERY_FREE)
        i++;
    return i < window->span ? inflight_at(window, i) : NULL;
}

uint16_t inflight_id_after(uint16_t packet_id)
{
    return id_after(packet_id, 1);
}

void inflight_received(struct inflight_window *window, struct delivery *slot)
{
    if (slot->publication != NULL)
        window->bytes -= publication_size(slot->publication);
    publication_unref(&slot->publication);
    free(slot->identifiers);
    slot->identifiers = NULL;
    slot->state = DELIVERY_RELEASED;
}

void inflight_release(struct inflight_window *window, struct delivery *slot)
{
    if (slot->publication != NULL)
        window->bytes -= publication_size(slot->publication);
    delivery_clear(slot);
    window->count--;
    uint32_t passed = 0;
    while (passed < window->span && inflight_at(window, passed)->state == DELIVERY_FREE)
        passed++;
    window->head = (window->head + passed) & (window->capacity - 1);
    window->span -= passed;
    window->first_id = id_after(window->first_id, passed);
}

void inflight_clear(struct inflight_window *window)
{
    for (uint32_t i = 0; i < window->span; i++)
        delivery_clear(inflight_at(window, i));
    free(window->ring);
    uint16_t next_id = window->next_id;
    inflight_init(window);
    window->next_id = next_id;
}
