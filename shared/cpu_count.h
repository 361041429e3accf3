/*
 * How many CPUs this process really gets: its affinity mask, cut by the quotas of its control groups (version
 * 1 and 2), rounded up, since a container with 1.5 CPUs keeps two workers busy. Reads files, keeps nothing.
 */
#ifndef SHARED_CPU_COUNT_H
#define SHARED_CPU_COUNT_H

/* At least 1. What cannot be read does not limit. */
unsigned cpu_count(void);

/* CPUs, rounded up, that the text of a version 2 `cpu.max` grants ("150000 100000"); 0: no limit. */
unsigned cpu_count_of_quota(const char *text);

#endif
