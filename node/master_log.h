/*
 * The node's log: copies whole lines from the children's pipes (and the master's own) to standard error,
 * never blocking on it. What standard error does not take waits in a bounded buffer; beyond that lines are
 * dropped and counted. Master only.
 */
#ifndef NODE_MASTER_LOG_H
#define NODE_MASTER_LOG_H

#include "shared/log.h"
#include "shared/status.h"

#include <event2/event.h>
#include <stdint.h>

#define MASTER_LOG_BUFFER ((size_t)256 * 1024)

struct master_log;
struct master_log_source;

/* Takes over the lines of log_write() in this process, too (by a pipe of its own). */
enum status master_log_open(struct event_base *base, enum log_level level, enum log_format format,
    struct master_log **ret_log) CHECK_RESULT;
/* Writes what is there, waiting for standard error at most half a second; log_write() then goes straight
 * there. */
void master_log_close(struct master_log **log);

/* A new pipe for a child named `process`; *ret_fd is its writing end, non-blocking, close-on-exec, the
 * caller's. */
enum status master_log_add(struct master_log *log, const char *process, int *ret_fd,
    struct master_log_source **ret_source) CHECK_RESULT;
/* The child is gone: takes what is left in its pipe, then frees. Nulls the pointer; NULL is allowed. */
void master_log_remove(struct master_log *log, struct master_log_source **source);

/* Lines dropped since the start because standard error took none. */
uint64_t master_log_dropped(const struct master_log *log);

#endif
