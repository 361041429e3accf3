/*
 * Memory of libevent, apart from everybody else's. libevent keeps a small block per descriptor for good, made
 * when the descriptor is first watched: in the middle of the heap such blocks pin a page each, so that what
 * ten thousand clients leave behind could not be given back to the system (measured: 17 of 77 MB stayed).
 * Worker process.
 */
#ifndef NODE_EVENT_MEMORY_H
#define NODE_EVENT_MEMORY_H

/* Before the process's first use of libevent. Without memory for it libevent goes on with malloc. */
void event_memory_use(void);

#endif
