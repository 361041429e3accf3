/* Counter pages in a sealed memfd. The master makes them; every process maps them. */
#include "shared/counters.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct counter_description table[] = {
#define COUNTER_ROW(name, kind, description) {#name, description, #kind[0], offsetof(struct counters, name)},
    COUNTERS(COUNTER_ROW)
#undef COUNTER_ROW
};

_Static_assert(sizeof(struct counters) + COUNTERS_LISTENERS_MAX * sizeof(uint64_t) <= COUNTERS_PAGE_SIZE,
    "counters fit a page");

const struct counter_description *counters_table(unsigned *ret_count)
{
    *ret_count = sizeof table / sizeof *table;
    return table;
}

enum status counters_create(unsigned pages, int *ret_fd)
{
    int fd = memfd_create("shoal-counters", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return STATUS_SYSTEM;
    if (ftruncate(fd, (off_t)pages * COUNTERS_PAGE_SIZE) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        close(fd);
        return STATUS_SYSTEM;
    }
    *ret_fd = fd;
    return STATUS_OK;
}

enum status counters_map(int fd, unsigned pages, void **ret_base)
{
    void *base = mmap(NULL, (size_t)pages * COUNTERS_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return STATUS_SYSTEM;
    *ret_base = base;
    return STATUS_OK;
}

struct counters *counters_page(void *base, unsigned page)
{
    return (struct counters *)(void *)((char *)base + (size_t)page * COUNTERS_PAGE_SIZE);
}

uint64_t *counters_listeners(void *base, unsigned page)
{
    return (uint64_t *)(void *)(counters_page(base, page) + 1);
}

uint64_t counters_sessions(void *base, unsigned pages)
{
    uint64_t sum = 0;
    for (unsigned page = 0; page < pages; page++)
        sum += counters_page(base, page)->sessions;
    return sum;
}

uint64_t counters_listener_sum(void *base, unsigned pages, unsigned listener)
{
    uint64_t sum = 0;
    for (unsigned page = 0; page < pages; page++)
        sum += counters_listeners(base, page)[listener];
    return sum;
}

void counters_reset_gauges(struct counters *counters)
{
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].kind == 'G')
            memset((char *)counters + table[i].offset, 0, sizeof(uint64_t));
    }
    memset(counters + 1, 0, COUNTERS_LISTENERS_MAX * sizeof(uint64_t));
}

void counters_sum(void *base, unsigned pages, struct counters *ret_sum)
{
    memset(ret_sum, 0, sizeof *ret_sum);
    for (unsigned page = 0; page < pages; page++) {
        const char *from = (const char *)counters_page(base, page);
        for (unsigned i = 0; i < sizeof table / sizeof *table; i++) {
            uint64_t sum, value;
            memcpy(&sum, (char *)ret_sum + table[i].offset, sizeof sum);
            memcpy(&value, from + table[i].offset, sizeof value);
            sum += value;
            memcpy((char *)ret_sum + table[i].offset, &sum, sizeof sum);
        }
    }
}
