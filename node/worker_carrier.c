/* Which carrier, and what it calls. */
#include "node/worker_carrier.h"

#include "node/worker.h"
#include "node/worker_context.h"

#include "shared/bus_carrier_nanomsg.h"
#include "shared/bus_carrier_ring.h"
#include "shared/log.h"

static void on_message(void *context, struct bytes message)
{
    struct worker *worker = context;
    worker_wake(worker);
    bus_receive(worker->bus, message);
}

static void on_carrier_ready(void *context, unsigned peer)
{
    struct worker *worker = context;
    bus_carrier_ready(worker->bus, peer);
}

static void on_woken(void *context)
{
    worker_wake(context);
}

static bool reads_in_place(const struct worker *worker)
{
    return worker->config->bus.carrier == CONFIG_CARRIER_RING;
}

static bool may_sleep(void *context)
{
    struct worker *worker = context;
    return bus_may_sleep(worker->bus);
}

static enum status open_nanomsg(struct worker *worker)
{
    const struct child *child = worker->child;
    struct bus_carrier_nanomsg_settings carrier = {.base = worker->base,
        .self = child->slot,
        .peers = child->peers == 64 ? UINT64_MAX : (UINT64_C(1) << child->peers) - 1,
        .rung = child->peers,
        .via = child->nodes > 0 ? child->workers : 0,
        .context = worker,
        .receive = on_message,
        .ready = on_carrier_ready};
    enum status status = bus_carrier_nanomsg_new(&carrier, &worker->carrier);
    if (status != STATUS_OK)
        log_error("the worker bus cannot be opened: %s", bus_carrier_nanomsg_error());
    return status;
}

static enum status open_ring(struct worker *worker)
{
    const struct child *child = worker->child;
    struct bus_carrier_ring_settings carrier = {
        .base = worker->base, .own = child->wake, .context = worker, .woken = on_woken};
    for (unsigned peer = 0; peer < BUS_CARRIER_RING_PEERS; peer++)
        carrier.peers[peer] = child->wake_peers[peer];
    return bus_carrier_ring_new(&carrier, &worker->carrier);
}

enum status worker_carrier_open(struct worker *worker)
{
    enum status status = reads_in_place(worker) ? open_ring(worker) : open_nanomsg(worker);
    if (status == STATUS_OK)
        bus_set_carrier(worker->bus, worker->carrier);
    return status;
}

void worker_carrier_woken(struct worker *worker)
{
    if (!reads_in_place(worker))
        return;
    bus_woken(worker->bus);
    bus_drain(worker->bus);
}

bool (*worker_carrier_may_sleep(const struct worker *worker))(void *)
{
    return reads_in_place(worker) ? may_sleep : NULL;
}
