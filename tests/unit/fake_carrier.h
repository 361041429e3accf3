/*
 * For tests of what stands on cluster/bus.h, without a broker around it: the master's part (windows of all
 * lanes) and a carrier that keeps messages until the test delivers, loses or repeats them. Everything in one
 * process.
 */
#ifndef TESTS_FAKE_CARRIER_H
#define TESTS_FAKE_CARRIER_H

#include "cluster/bus.h"
#include "shared/bus_window.h"

#include <stdlib.h>
#include <unistd.h>

/* The windows of all lanes between `peers` processes. They outlive every bus. */
struct fake_lanes {
    unsigned peers;
    struct bus_lane_descriptors of[BUS_PEERS_MAX]
                                  [BUS_PEERS_MAX]; /* [self][peer]: bus_settings.lanes = of[self] */
};

static inline struct fake_lanes *fake_lanes_new(unsigned peers, size_t window)
{
    struct fake_lanes *lanes = calloc(1, sizeof *lanes);
    lanes->peers = peers;
    for (unsigned from = 0; from < peers; from++) {
        for (unsigned to = 0; to < peers; to++) {
            struct bus_lane_descriptors *sender = &lanes->of[from][to], *receiver = &lanes->of[to][from];
            if (from == to)
                sender->out_ring = sender->out_cursor = sender->in_ring = sender->in_cursor = -1;
            else if (bus_window_create(window, &sender->out_ring, &receiver->in_cursor) != STATUS_OK ||
                     bus_window_reopen_readonly(sender->out_ring, &receiver->in_ring) != STATUS_OK ||
                     bus_window_reopen_readonly(receiver->in_cursor, &sender->out_cursor) != STATUS_OK)
                abort();
        }
    }
    return lanes;
}

static inline void fake_lanes_free(struct fake_lanes **lanes)
{
    for (unsigned self = 0; self < (*lanes)->peers; self++) {
        for (unsigned peer = 0; peer < (*lanes)->peers; peer++) {
            if (self == peer)
                continue;
            const struct bus_lane_descriptors *lane = &(*lanes)->of[self][peer];
            close(lane->out_ring);
            close(lane->out_cursor);
            close(lane->in_ring);
            close(lane->in_cursor);
        }
    }
    free(*lanes);
    *lanes = NULL;
}

struct fake_message {
    struct fake_message *next;
    unsigned peer; /* to whom */
    size_t size;
    uint8_t data[];
};

/* What one process sends, kept in order until fake_carrier_deliver(). */
struct fake_carrier {
    struct bus_carrier carrier; /* first: hand over &x.carrier */
    uint64_t refuse;            /* peers for whom `send` says «again» */
    uint64_t lose;              /* peers for whom messages vanish */
    unsigned sent;              /* messages taken */
    struct fake_message *first;
    struct fake_message **end;
};

static inline enum status fake_carrier_send(struct bus_carrier *carrier, unsigned peer, struct bytes frames)
{
    struct fake_carrier *fake = (struct fake_carrier *)(void *)carrier;
    if ((fake->refuse >> peer & 1) != 0)
        return STATUS_AGAIN;
    fake->sent++;
    if ((fake->lose >> peer & 1) != 0)
        return STATUS_OK;
    struct fake_message *message = malloc(sizeof *message + frames.size);
    message->next = NULL;
    message->peer = peer;
    message->size = frames.size;
    memcpy(message->data, frames.data, frames.size);
    *fake->end = message;
    fake->end = &message->next;
    return STATUS_OK;
}

static inline void fake_carrier_free(struct bus_carrier **carrier)
{
    *carrier = NULL;
}

static inline void fake_carrier_init(struct fake_carrier *fake)
{
    static const struct bus_carrier_ops ops = {.send = fake_carrier_send, .free = fake_carrier_free};
    memset(fake, 0, sizeof *fake);
    fake->carrier.ops = &ops;
    fake->end = &fake->first;
}

/* Takes the oldest message off; the caller frees it. NULL: none. */
static inline struct fake_message *fake_carrier_take(struct fake_carrier *fake)
{
    struct fake_message *message = fake->first;
    if (message == NULL)
        return NULL;
    fake->first = message->next;
    if (fake->first == NULL)
        fake->end = &fake->first;
    return message;
}

/* Delivers all that is kept; `to[peer]` may be NULL: lost. */
static inline void fake_carrier_deliver(struct fake_carrier *fake, struct bus *const *to)
{
    struct fake_message *message;
    while ((message = fake_carrier_take(fake)) != NULL) {
        if (to[message->peer] != NULL)
            bus_receive(to[message->peer], bytes_of(message->data, message->size));
        free(message);
    }
}

static inline void fake_carrier_drop(struct fake_carrier *fake)
{
    struct fake_message *message;
    while ((message = fake_carrier_take(fake)) != NULL)
        free(message);
}

#endif
