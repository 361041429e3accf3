/*
 * Waking by eventfd. Edge-triggered, and so never read: every write is an edge of its own, and a counter that
 * one write per nap makes grow does not come to its end.
 */
#include "shared/bus_carrier_ring.h"

#include <stdlib.h>
#include <unistd.h>

struct carrier {
    struct bus_carrier base; /* first */
    struct bus_carrier_ring_settings settings;
    struct event *readable; /* owned */
};

static struct carrier *carrier_of(struct bus_carrier *carrier)
{
    return (struct carrier *)(void *)carrier;
}

static void on_readable(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    struct carrier *carrier = context;
    carrier->settings.woken(carrier->settings.context);
}

static void carrier_wake(struct bus_carrier *base, unsigned peer)
{
    const struct carrier *carrier = carrier_of(base);
    const uint64_t one = 1;
    if (peer >= BUS_CARRIER_RING_PEERS || carrier->settings.peers[peer] < 0)
        return;
    /* Should it fail, bus_tick() of the peer finds a head that has been ahead for 100 ms. */
    ssize_t written = write(carrier->settings.peers[peer], &one, sizeof one);
    (void)written;
}

static void carrier_free(struct bus_carrier **base)
{
    if (*base == NULL)
        return;
    struct carrier *carrier = carrier_of(*base);
    *base = NULL;
    if (carrier->readable != NULL)
        event_free(carrier->readable);
    free(carrier);
}

static const struct bus_carrier_ops ops = {.wake = carrier_wake, .free = carrier_free};

enum status bus_carrier_ring_new(
    const struct bus_carrier_ring_settings *settings, struct bus_carrier **ret_carrier)
{
    struct carrier *carrier = calloc(1, sizeof *carrier);
    if (carrier == NULL)
        return STATUS_NO_MEMORY;
    carrier->base.ops = &ops;
    carrier->settings = *settings;
    carrier->readable =
        event_new(settings->base, settings->own, EV_READ | EV_PERSIST | EV_ET, on_readable, carrier);
    if (carrier->readable == NULL || event_add(carrier->readable, NULL) != 0) {
        struct bus_carrier *base = &carrier->base;
        carrier_free(&base);
        return STATUS_NO_MEMORY;
    }
    *ret_carrier = &carrier->base;
    return STATUS_OK;
}
