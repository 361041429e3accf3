/*
 * The second carrier of the worker bus, `"bus": {"carrier": "ring"}`: it carries nothing. The receiver reads
 * the windows in place; when it has said that it sleeps, and only then, one write to its eventfd wakes it.
 * The eventfds are made by the master and outlive the workers, so that a wake-up is never lost with a
 * process. Runs on the process's libevent loop; whoever runs that asks bus_may_sleep() before it waits.
 */
#ifndef SHARED_BUS_CARRIER_RING_H
#define SHARED_BUS_CARRIER_RING_H

#include "shared/bus_carrier.h"

#include <event2/event.h>

#define BUS_CARRIER_RING_PEERS 64

struct bus_carrier_ring_settings {
    struct event_base *base;           /* borrowed */
    int own;                           /* borrowed eventfd, non-blocking: the peers wake this process by it */
    int peers[BUS_CARRIER_RING_PEERS]; /* borrowed eventfds of the peers, by slot; -1: none */
    void *context;
    void (*woken)(void *context); /* somebody has published: bus_woken(), then bus_drain() */
};

enum status bus_carrier_ring_new(
    const struct bus_carrier_ring_settings *settings, struct bus_carrier **ret_carrier) CHECK_RESULT;

#endif
