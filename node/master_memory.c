/*
 * Makes the memfds that outlive workers, sealed against resizing, so that no child can make another's mapping
 * fault.
 */
#include "node/master_memory.h"

#include "cluster/route_table.h"
#include "node/descriptor.h"
#include "shared/bus_window.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEALS_SIZE (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* ---- lanes and will tables ------------------------------------------------------------------------------
 */

static size_t lane_size(const struct config *config)
{
    size_t workers = config->node.workers;
    size_t lanes = workers * (workers - 1);
    size_t most = lanes == 0 ? MASTER_LANES_TOTAL : MASTER_LANES_TOTAL / lanes;
    if (most < MASTER_LANE_MIN)
        most = MASTER_LANE_MIN;
    size_t size = config->bus.window < most ? config->bus.window : bus_window_round(most);
    if (size < config->bus.window)
        log_notice("bus.window: %zu KiB instead of %zu KiB, since %u workers have %zu lanes", size >> 10,
            config->bus.window >> 10, (unsigned)workers, lanes);
    return size;
}

static enum status make_lane(size_t size, struct master_lane *lane)
{
    enum status status = bus_window_create(size, &lane->ring, &lane->cursor);
    if (status == STATUS_OK)
        status = bus_window_reopen_readonly(lane->ring, &lane->ring_read_only);
    if (status == STATUS_OK)
        status = bus_window_reopen_readonly(lane->cursor, &lane->cursor_read_only);
    return status;
}

static enum status make_lanes(const struct config *config, struct master_memory *memory)
{
    unsigned workers = memory->workers;
    memory->lanes = calloc((size_t)workers * workers, sizeof *memory->lanes);
    if (memory->lanes == NULL)
        return STATUS_NO_MEMORY;
    for (unsigned i = 0; i < workers * workers; i++)
        memory->lanes[i] = (struct master_lane){-1, -1, -1, -1};
    size_t size = lane_size(config);
    for (unsigned i = 0; i < workers * workers; i++) {
        if (i / workers == i % workers)
            continue;
        enum status status = make_lane(size, &memory->lanes[i]);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status make_will_tables(const struct config *config, struct master_memory *memory)
{
    memory->will_tables = calloc(memory->workers, sizeof *memory->will_tables);
    if (memory->will_tables == NULL)
        return STATUS_NO_MEMORY;
    for (unsigned slot = 0; slot < memory->workers; slot++)
        memory->will_tables[slot] = -1;
    for (unsigned slot = 0; slot < memory->workers; slot++) {
        int fd = memfd_create("shoal-wills", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        memory->will_tables[slot] = fd;
        if (fd < 0 || ftruncate(fd, (off_t)config->bus.will_table) != 0 ||
            fcntl(fd, F_ADD_SEALS, SEALS_SIZE) != 0)
            return STATUS_SYSTEM;
    }
    return STATUS_OK;
}

static enum status make_route_tables(struct master_memory *memory)
{
    memory->route_tables = calloc(memory->workers, sizeof *memory->route_tables);
    if (memory->route_tables == NULL)
        return STATUS_NO_MEMORY;
    for (unsigned slot = 0; slot < memory->workers; slot++)
        memory->route_tables[slot] = (struct master_route_table){-1, -1};
    for (unsigned slot = 0; slot < memory->workers; slot++) {
        struct master_route_table *table = &memory->route_tables[slot];
        enum status status = route_table_create(ROUTE_TABLE_SIZE, &table->own);
        if (status == STATUS_OK)
            status = bus_window_reopen_readonly(table->own, &table->read_only);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status make_wakes(struct master_memory *memory)
{
    memory->wakes = calloc(memory->workers, sizeof *memory->wakes);
    if (memory->wakes == NULL)
        return STATUS_NO_MEMORY;
    for (unsigned slot = 0; slot < memory->workers; slot++)
        memory->wakes[slot] = -1;
    for (unsigned slot = 0; slot < memory->workers; slot++) {
        memory->wakes[slot] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (memory->wakes[slot] < 0)
            return STATUS_SYSTEM;
    }
    return STATUS_OK;
}

void master_memory_lane(
    const struct master_memory *memory, unsigned slot, unsigned peer, struct control_message *message)
{
    const struct master_lane *out = &memory->lanes[slot * memory->workers + peer];
    const struct master_lane *in = &memory->lanes[peer * memory->workers + slot];
    message->descriptor_count = LANE_FD_COUNT;
    message->descriptors[LANE_FD_OUT_RING] = out->ring;
    message->descriptors[LANE_FD_OUT_CURSOR] = out->cursor_read_only;
    message->descriptors[LANE_FD_IN_RING] = in->ring_read_only;
    message->descriptors[LANE_FD_IN_CURSOR] = in->cursor;
    message->descriptors[LANE_FD_WAKE] = memory->wakes[peer];
}

/* Both counters stand first in their files (bus_window.c). */
uint64_t master_memory_waiting(const struct master_memory *memory, unsigned from, unsigned to)
{
    const struct master_lane *lane = &memory->lanes[from * memory->workers + to];
    uint64_t head, cursor;
    if (pread(lane->cursor, &cursor, sizeof cursor, 0) != sizeof cursor ||
        pread(lane->ring, &head, sizeof head, 0) != sizeof head)
        return 0;
    return head - cursor;
}

/* ---- all of it ------------------------------------------------------------------------------------------
 */

static enum status make_counters(struct master_memory *memory)
{
    enum status status = counters_create(memory->workers + 1, &memory->counters);
    if (status == STATUS_OK)
        status = counters_map(memory->counters, memory->workers + 1, &memory->counters_base);
    return status;
}

struct counters *master_memory_own_counters(const struct master_memory *memory)
{
    return counters_page(memory->counters_base, memory->workers);
}

enum status master_memory_open(
    const struct config *config, struct master_memory *ret_memory, const char **ret_what)
{
    struct master_memory memory = {.workers = config->node.workers, .counters = -1};
    const char *what = "the counter pages";
    enum status status = make_counters(&memory);
    if (status == STATUS_OK) {
        what = "the bus lanes";
        status = make_lanes(config, &memory);
    }
    if (status == STATUS_OK) {
        what = "the will tables";
        status = make_will_tables(config, &memory);
    }
    if (status == STATUS_OK) {
        what = "the route tables";
        status = make_route_tables(&memory);
    }
    if (status == STATUS_OK) {
        what = "the eventfds of the workers";
        status = make_wakes(&memory);
    }
    if (status != STATUS_OK) {
        int error = errno;
        master_memory_close(&memory);
        errno = error;
        *ret_what = what;
        return status;
    }
    *ret_memory = memory;
    return STATUS_OK;
}

void master_memory_close(struct master_memory *memory)
{
    if (memory->counters_base != NULL)
        munmap(memory->counters_base, (size_t)(memory->workers + 1) * COUNTERS_PAGE_SIZE);
    memory->counters_base = NULL;
    descriptor_close(&memory->counters);
    for (unsigned i = 0; memory->lanes != NULL && i < memory->workers * memory->workers; i++) {
        descriptor_close(&memory->lanes[i].ring);
        descriptor_close(&memory->lanes[i].ring_read_only);
        descriptor_close(&memory->lanes[i].cursor);
        descriptor_close(&memory->lanes[i].cursor_read_only);
    }
    free(memory->lanes);
    memory->lanes = NULL;
    for (unsigned slot = 0; memory->will_tables != NULL && slot < memory->workers; slot++)
        descriptor_close(&memory->will_tables[slot]);
    for (unsigned slot = 0; memory->wakes != NULL && slot < memory->workers; slot++)
        descriptor_close(&memory->wakes[slot]);
    free(memory->wakes);
    memory->wakes = NULL;
    free(memory->will_tables);
    memory->will_tables = NULL;
    for (unsigned slot = 0; memory->route_tables != NULL && slot < memory->workers; slot++) {
        descriptor_close(&memory->route_tables[slot].own);
        descriptor_close(&memory->route_tables[slot].read_only);
    }
    free(memory->route_tables);
    memory->route_tables = NULL;
}
