/* What the files of the connection share; node/connection.h is for the others. Worker process. */
#ifndef NODE_CONNECTION_PRIVATE_H
#define NODE_CONNECTION_PRIVATE_H

#include "node/connection.h"

/* connection.c */
/* Registers with the event loop for what is wanted now; a system call only when that changed. */
void connection_watch(struct connection *connection);
/* Lets go of everything that belongs to MQTT: the session hears of it, whatever was kept is dropped. */
void connection_let_go(struct connection *connection, bool with_will);
/* Our side is done: shuts down, then waits for the client's end for a short time. */
void connection_drain(struct connection *connection);
/* The state that follows the PROXY header, or accepting. */
enum connection_state connection_state_of_transport(const struct connection *connection);
/* The client identifier for log lines, not terminated; "-" before CONNACK. */
const char *connection_client(const struct connection *connection);
int connection_client_size(const struct connection *connection);

/* connection_read.c */
/* The socket is readable, or something may lie in the transport. */
void connection_read(struct connection *connection);
/* The transport cannot go on, reading or writing: logs why and ends the connection. */
void connection_read_failed(struct connection *connection, enum status status);

/* connection_handshake.c */
void connection_announced(struct connection *connection); /* CONNECTION_PROXY: something came */
void connection_shake_hands(struct connection *connection);
void connection_handshake_timed_out(struct connection *connection); /* CONNECTION_PROXY, too */

#endif
