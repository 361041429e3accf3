/* CPU time and memory of a whole process tree, from /proc. */
#ifndef BENCH_PROCESS_CPU_H
#define BENCH_PROCESS_CPU_H

#include <stdint.h>
#include <sys/types.h>

/* Microseconds of CPU that the process and its descendants (all threads) have used so far; 0 if it is gone.
 */
uint64_t process_tree_cpu_us(pid_t pid);

/* Proportional and private memory of the tree in bytes. */
void process_tree_memory(pid_t pid, uint64_t *ret_pss, uint64_t *ret_private);

/* Microseconds of CPU of this process. */
uint64_t own_cpu_us(void);

#endif
