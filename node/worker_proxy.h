/*
 * The PROXY protocol header at the start of a connection, on listeners that expect one: whose connection it
 * is, and whether the listener's access rules let him in. Worker process.
 */
#ifndef NODE_WORKER_PROXY_H
#define NODE_WORKER_PROXY_H

#include "shared/status.h"

struct connection;

/*
 * Reads of the header what is there, never a byte behind it, in state CONNECTION_PROXY. STATUS_AGAIN: more
 * must come. STATUS_OK: the connection's address and, where the listener asks for it, its identity are the
 * announced ones. Otherwise the connection must end; the log says why.
 */
enum status worker_proxy_receive(struct connection *connection) CHECK_RESULT;

#endif
