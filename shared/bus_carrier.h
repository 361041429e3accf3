/*
 * What tells the other side of a lane that there is something new. The window (bus_window.h) is the truth; a
 * carrier only brings copies of frames, may lose or repeat them, and needs no memory of its own.
 * nanomsg is the carrier of every lane by default (bus_carrier_nanomsg.h); the simulation has a fake one; the
 * second one within a node brings nothing but a wake-up (bus_carrier_ring.h): the receiver reads the window
 * in place, and is woken only when it has said that it sleeps.
 */
#ifndef SHARED_BUS_CARRIER_H
#define SHARED_BUS_CARRIER_H

#include "shared/bytes.h"
#include "shared/status.h"

struct bus_carrier {
    const struct bus_carrier_ops *ops;
};

struct bus_carrier_ops {
    /*
     * Hands over a run of whole frames (at most 64 KiB), copied before it returns. STATUS_AGAIN: not taken
     * now; the carrier says when another try is worth it (its owner then calls bus_carrier_ready()).
     */
    enum status (*send)(struct bus_carrier *carrier, unsigned peer, struct bytes frames);
    /* Instead of `send`, which is not called then: the peer sleeps, and there is something in the window for
     * it.
     */
    void (*wake)(struct bus_carrier *carrier, unsigned peer);
    void (*free)(struct bus_carrier **carrier);
};

#endif
