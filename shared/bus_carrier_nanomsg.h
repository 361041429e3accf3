/*
 * The carrier of the worker bus: one nanomsg PULL inbox that this process binds (`ipc://w<slot>.inbox`,
 * relative to the working directory, which only the node's user can enter: a stranger's byte on the socket
 * would abort the receiver), and one PUSH to the inbox of each peer. Runs on the process's libevent loop.
 * Only in processes that were exec'd: a forked nanomsg hangs. The master has none.
 */
#ifndef SHARED_BUS_CARRIER_NANOMSG_H
#define SHARED_BUS_CARRIER_NANOMSG_H

#include "shared/bus_carrier.h"

#include <event2/event.h>
#include <stdint.h>

struct bus_carrier_nanomsg_settings {
    struct event_base *base; /* borrowed */
    unsigned self;           /* slot of the own inbox */
    uint64_t peers;          /* slots to connect to, whether they run already or not; self is left out */
    unsigned rung;           /* peers from this number on have no inbox: … */
    unsigned via;            /* … a doorbell tells this one that there is something for them; 0: nobody */
    void *context;
    /* A message came: bus_receive(). The bytes live for the call. */
    void (*receive)(void *context, struct bytes message);
    /* Somebody rang: there is something for the peers behind us. May be NULL. */
    void (*rang)(void *context);
    /* A peer that was refused may be tried again: bus_carrier_ready(). */
    void (*ready)(void *context, unsigned peer);
};

/* STATUS_SYSTEM: nn_errno() says why, for the log line: bus_carrier_nanomsg_error(). */
enum status bus_carrier_nanomsg_new(
    const struct bus_carrier_nanomsg_settings *settings, struct bus_carrier **ret_carrier) CHECK_RESULT;

/* nanomsg's text for the last error. */
const char *bus_carrier_nanomsg_error(void);

#endif
