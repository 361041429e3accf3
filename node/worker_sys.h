/*
 * The `$SYS` topics of the node, as each worker tells them to its own clients: all read the same counter
 * pages at the same multiples of mqtt.sys_interval, so that nothing need cross the bus. Their retained values
 * are kept apart from the clients' ones: they are neither counted nor sent to other workers. Worker process.
 */
#ifndef NODE_WORKER_SYS_H
#define NODE_WORKER_SYS_H

#include "shared/bytes.h"
#include "shared/status.h"

struct retained;
struct worker;

/* Nothing with mqtt.sys_interval 0. */
enum status worker_sys_open(struct worker *worker) CHECK_RESULT;
void worker_sys_done(struct worker *worker);
/* Tells what has changed, if it is time. */
void worker_sys_tick(struct worker *worker);

/* The table with the retained messages that a filter may match. */
struct retained *worker_retained_of(const struct worker *worker, struct bytes filter);

#endif
