/*
 * The carrier of the worker bus that the configuration names, on the worker's event loop: nanomsg messages,
 * or the rings read in place at the begin of every turn. Runs in the worker.
 */
#ifndef NODE_WORKER_CARRIER_H
#define NODE_WORKER_CARRIER_H

#include "shared/status.h"

#include <stdbool.h>

struct worker;

/* Opens it and gives it to the bus; the log says what failed. The worker frees it (worker->carrier). */
enum status worker_carrier_open(struct worker *worker) CHECK_RESULT;

/* First thing in a turn: what lies in the rings, if nothing else brings it. */
void worker_carrier_woken(struct worker *worker);

/* For child_handlers.may_sleep; NULL: whenever nothing is ready. */
bool (*worker_carrier_may_sleep(const struct worker *worker))(void *worker);

#endif
