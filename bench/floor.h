/*
 * The floor: a relay that does the least a client accepts (one process, epoll, no checks, no sessions, a
 * table by topic instead of matching, one copy per delivery, one flush per connection and turn): what the
 * machine itself costs. Every figure of shoal-bench is given as a multiple of it.
 */
#ifndef BENCH_FLOOR_H
#define BENCH_FLOOR_H

#include "bench/tls_files.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Runs the relay on an inherited listening socket until it is killed. `tls` NULL: plain. */
void floor_run(int listen_fd, const struct tls_files *tls);

/* Forks a relay on a free port of 127.0.0.1. Returns its pid, or -1. */
pid_t floor_start(const struct tls_files *tls, uint16_t *ret_port);

#endif
