/* All that the master has, for its own files. */
#ifndef NODE_MASTER_PRIVATE_H
#define NODE_MASTER_PRIVATE_H

#include "node/master_certificates.h"
#include "node/master_children.h"
#include "node/master_control.h"
#include "node/master_generation.h"
#include "node/master_reload.h"
#include "node/master_tickets.h"
#include "node/master_watch.h"

#include <jansson.h>

#define MASTER_SIGNALS 4

struct master {
    struct config_source source;
    struct generation *running; /* owned, as all below */
    struct event_base *base;
    struct master_log *log;
    struct master_folders folders;
    struct master_memory memory;
    struct master_listeners listeners;
    struct master_tickets *tickets;
    struct master_children *children;
    struct master_control *control;
    struct master_reload *reload;
    struct master_watch *watch;
    struct master_certificates *certificates;
    struct event *signals[MASTER_SIGNALS];
    uint64_t started_us; /* monotonic */
};

/* From here on this one runs, with these listeners; every worker serves with it. The former generation (by
   master->running) and the former listeners, which *listeners has now, are the caller's. */
void master_use_generation(
    struct master *master, struct generation *generation, struct master_listeners *listeners);

/* The answer to `shoalctl certs`, as for status. */
json_t *master_certs(const struct master *master);

/* The answer to `shoalctl status`; NULL: no memory. The caller's reference. */
json_t *master_status(const struct master *master);

#endif
