/*
 * The worker as a peer on the bus: the modules of cluster/ that agree with other workers on routes, claims,
 * moves and wills, what they are told of this worker, and what they call when something happens. Runs in the
 * worker.
 */
#ifndef NODE_WORKER_BUS_H
#define NODE_WORKER_BUS_H

#include "shared/status.h"

#include <stdint.h>

struct worker;

/* Opens the bus, its carrier and the modules on top; nothing is read before the first turn. */
enum status worker_bus_open(struct worker *worker) CHECK_RESULT;
/* In the opposite order; harmless after an open that failed. */
void worker_bus_close(struct worker *worker);

/* For child_handlers. */
void worker_bus_peer_started(void *worker, unsigned slot, uint64_t incarnation);
void worker_bus_peer_died(void *worker, unsigned slot);

#endif
