/*
 * The worker process: accepts clients, does TLS, speaks MQTT, and is a peer on the bus. Called by
 * child_main(). Returns the process's exit code.
 */
#ifndef NODE_WORKER_H
#define NODE_WORKER_H

struct child;

int worker_main(struct child *child);

#endif
