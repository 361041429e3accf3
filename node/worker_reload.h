/*
 * How a worker takes over another generation: a listener's context a loop turn, each proven by a handshake in
 * memory, so that no client waits; then all at once. Connections that are there keep what they were made
 * with.
 */
#ifndef NODE_WORKER_RELOAD_H
#define NODE_WORKER_RELOAD_H

struct child_generation;
struct worker;

/* child_handlers.generation; context is the worker. */
void worker_reload_begin(void *context, const struct child_generation *next);
/* Gives up what is being prepared, if anything is. */
void worker_reload_cancel(struct worker *worker);

#endif
