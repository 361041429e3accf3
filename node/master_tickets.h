/*
 * Makes the keys of session tickets, exchanges them on time and sends them to all workers, before they are
 * used. They outlive workers and reloads, not the master. Master only.
 */
#ifndef NODE_MASTER_TICKETS_H
#define NODE_MASTER_TICKETS_H

#include "shared/config.h"
#include "shared/status.h"

#include <event2/event.h>

struct master_child;
struct master_children;
struct master_tickets;

/* Makes the first key. */
enum status master_tickets_open(struct event_base *base, const struct config_tickets *config,
    struct master_tickets **ret_tickets) CHECK_RESULT;
void master_tickets_close(struct master_tickets **tickets);
/* Whoever runs gets new keys from here on. */
void master_tickets_serve(struct master_tickets *tickets, struct master_children *children);
/* Other intervals; the next rotation is one interval away. */
void master_tickets_configure(struct master_tickets *tickets, const struct config_tickets *config);
/* All that are alive, to a child that starts. */
void master_tickets_send(const struct master_tickets *tickets, struct master_child *child);

#endif
