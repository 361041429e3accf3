/*
 * Makes the memfds that outlive workers, sealed against resizing, so that no child can make another's mapping
 * fault.
 */
#include "node/master_memory.h"

#include "cluster/block_table.h"
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

/* So many times the window of another lane holds the link's lane to a worker. */
#define LINK_LANE_FACTOR 4

#define SEALS_SIZE (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* ---- lanes and will tables ------------------------------------------------------------------------------
 */

static size_t lane_size(const struct config *config)
{
    size_t workers = config->node.workers;
    size_t nodes = config->cluster.count;
    size_t lanes = workers * (workers - 1) + (nodes > 0 ? workers * (LINK_LANE_FACTOR + nodes) : 0);
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

static struct master_lane *lanes_new(size_t count)
{
    struct master_lane *lanes = calloc(count + 1, sizeof *lanes);
    for (size_t i = 0; lanes != NULL && i < count; i++)
        lanes[i] = (struct master_lane){-1, -1, -1, -1};
    return lanes;
}

/* What comes from the link is for a worker what all other nodes together say, and waits there for one that
 * stands still (BUS rules 2): its lane is larger. */
static size_t size_from(const struct master_memory *memory, size_t size, unsigned from)
{
    return from == memory->workers ? bus_window_round(size * LINK_LANE_FACTOR) : size;
}

static enum status make_lanes(const struct config *config, struct master_memory *memory)
{
    unsigned peers = memory->peers;
    memory->lanes = lanes_new((size_t)peers * peers);
    if (memory->lanes == NULL)
        return STATUS_NO_MEMORY;
    size_t size = lane_size(config);
    for (unsigned i = 0; i < peers * peers; i++) {
        if (i / peers == i % peers)
            continue;
        enum status status = make_lane(size_from(memory, size, i / peers), &memory->lanes[i]);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status make_window(size_t size, struct master_node_window *window)
{
    enum status status = bus_window_create(size, &window->ring, &window->cursor);
    if (status == STATUS_OK)
        status = bus_window_create(size, &window->landing, &window->landing_cursor);
    return status;
}

static enum status make_cluster(const struct config *config, struct master_memory *memory)
{
    unsigned nodes = memory->nodes;
    memory->node_lanes = lanes_new((size_t)memory->workers * nodes);
    memory->windows = calloc(nodes + 1, sizeof *memory->windows);
    if (memory->node_lanes == NULL || memory->windows == NULL)
        return STATUS_NO_MEMORY;
    for (unsigned node = 0; node < nodes; node++)
        memory->windows[node] = (struct master_node_window){-1, -1, -1, -1};
    size_t size = lane_size(config);
    for (unsigned i = 0; i < memory->workers * nodes; i++) {
        enum status status = i % nodes == memory->self ? STATUS_OK : make_lane(size, &memory->node_lanes[i]);
        if (status != STATUS_OK)
            return status;
    }
    for (unsigned node = 0; node < nodes; node++) {
        enum status status =
            node == memory->self ? STATUS_OK : make_window(config->bus.node_window, &memory->windows[node]);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

/* One per slot. */
static enum status make_tables(const char *name, size_t size, unsigned slots, int **ret_tables)
{
    int *tables = *ret_tables = calloc(slots, sizeof *tables);
    if (tables == NULL)
        return STATUS_NO_MEMORY;
    for (unsigned slot = 0; slot < slots; slot++)
        tables[slot] = -1;
    enum status status = STATUS_OK;
    for (unsigned slot = 0; slot < slots && status == STATUS_OK; slot++)
        status = block_table_create(name, size, &tables[slot]);
    return status;
}

static void close_tables(int **tables, unsigned slots)
{
    for (unsigned slot = 0; *tables != NULL && slot < slots; slot++)
        descriptor_close(&(*tables)[slot]);
    free(*tables);
    *tables = NULL;
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
    memory->wakes = calloc(memory->peers, sizeof *memory->wakes);
    if (memory->wakes == NULL)
        return STATUS_NO_MEMORY;
    for (unsigned slot = 0; slot < memory->peers; slot++)
        memory->wakes[slot] = -1;
    for (unsigned slot = 0; slot < memory->peers; slot++) {
        memory->wakes[slot] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (memory->wakes[slot] < 0)
            return STATUS_SYSTEM;
    }
    return STATUS_OK;
}

void master_memory_lane(
    const struct master_memory *memory, unsigned slot, unsigned peer, struct control_message *message)
{
    const struct master_lane *out = &memory->lanes[slot * memory->peers + peer];
    const struct master_lane *in = &memory->lanes[peer * memory->peers + slot];
    message->descriptor_count = LANE_FD_COUNT;
    message->descriptors[LANE_FD_OUT_RING] = out->ring;
    message->descriptors[LANE_FD_OUT_CURSOR] = out->cursor_read_only;
    message->descriptors[LANE_FD_IN_RING] = in->ring_read_only;
    message->descriptors[LANE_FD_IN_CURSOR] = in->cursor;
    message->descriptors[LANE_FD_WAKE] = memory->wakes[peer];
}

void master_memory_node_lane(const struct master_memory *memory, unsigned slot, unsigned node, bool link,
    struct control_message *message)
{
    const struct master_lane *lane = &memory->node_lanes[slot * memory->nodes + node];
    message->descriptor_count = NODE_LANE_FD_COUNT;
    message->descriptors[NODE_LANE_FD_RING] = link ? lane->ring_read_only : lane->ring;
    message->descriptors[NODE_LANE_FD_CURSOR] = link ? lane->cursor : lane->cursor_read_only;
}

void master_memory_node_window(
    const struct master_memory *memory, unsigned node, struct control_message *message)
{
    const struct master_node_window *window = &memory->windows[node];
    message->descriptor_count = NODE_WINDOW_FD_COUNT;
    message->descriptors[NODE_WINDOW_FD_RING] = window->ring;
    message->descriptors[NODE_WINDOW_FD_CURSOR] = window->cursor;
    message->descriptors[NODE_WINDOW_FD_LANDING] = window->landing;
    message->descriptors[NODE_WINDOW_FD_LANDING_CURSOR] = window->landing_cursor;
}

/* Both counters stand first in their files (bus_window.c). */
uint64_t master_memory_waiting(const struct master_memory *memory, unsigned from, unsigned to)
{
    const struct master_lane *lane = &memory->lanes[from * memory->peers + to];
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
    enum status status = counters_create(memory->pages, &memory->counters);
    if (status == STATUS_OK)
        status = counters_map(memory->counters, memory->pages, &memory->counters_base);
    return status;
}

struct counters *master_memory_counters_of(const struct master_memory *memory, unsigned slot)
{
    return counters_page(memory->counters_base, slot < memory->workers ? slot : memory->workers + 1);
}

struct counters *master_memory_own_counters(const struct master_memory *memory)
{
    return counters_page(memory->counters_base, memory->workers);
}

enum status master_memory_open(
    const struct config *config, struct master_memory *ret_memory, const char **ret_what)
{
    unsigned clustered = config->cluster.count > 0 ? 1 : 0;
    struct master_memory memory = {.workers = config->node.workers,
        .peers = config->node.workers + clustered,
        .nodes = (unsigned)config->cluster.count,
        .self = (unsigned)config->cluster.self,
        .pages = config->node.workers + 1 + clustered,
        .counters = -1};
    const char *what = "the counter pages";
    enum status status = make_counters(&memory);
    if (status == STATUS_OK) {
        what = "the bus lanes";
        status = make_lanes(config, &memory);
    }
    if (status == STATUS_OK && clustered != 0) {
        what = "the windows to other nodes";
        status = make_cluster(config, &memory);
    }
    if (status == STATUS_OK) {
        what = "the will tables";
        status = make_tables("shoal-wills", config->bus.will_table, memory.workers, &memory.will_tables);
    }
    if (status == STATUS_OK) {
        what = "the tables of delayed publications";
        status =
            make_tables("shoal-delayed", config->delayed.max_bytes, memory.workers, &memory.delayed_tables);
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

static void lanes_free(struct master_lane **lanes, size_t count)
{
    for (size_t i = 0; *lanes != NULL && i < count; i++) {
        descriptor_close(&(*lanes)[i].ring);
        descriptor_close(&(*lanes)[i].ring_read_only);
        descriptor_close(&(*lanes)[i].cursor);
        descriptor_close(&(*lanes)[i].cursor_read_only);
    }
    free(*lanes);
    *lanes = NULL;
}

void master_memory_close(struct master_memory *memory)
{
    if (memory->counters_base != NULL)
        munmap(memory->counters_base, (size_t)memory->pages * COUNTERS_PAGE_SIZE);
    memory->counters_base = NULL;
    descriptor_close(&memory->counters);
    lanes_free(&memory->lanes, (size_t)memory->peers * memory->peers);
    lanes_free(&memory->node_lanes, (size_t)memory->workers * memory->nodes);
    for (unsigned node = 0; memory->windows != NULL && node < memory->nodes; node++) {
        descriptor_close(&memory->windows[node].ring);
        descriptor_close(&memory->windows[node].cursor);
        descriptor_close(&memory->windows[node].landing);
        descriptor_close(&memory->windows[node].landing_cursor);
    }
    free(memory->windows);
    memory->windows = NULL;
    close_tables(&memory->will_tables, memory->workers);
    close_tables(&memory->delayed_tables, memory->workers);
    for (unsigned slot = 0; memory->wakes != NULL && slot < memory->peers; slot++)
        descriptor_close(&memory->wakes[slot]);
    free(memory->wakes);
    memory->wakes = NULL;
    for (unsigned slot = 0; memory->route_tables != NULL && slot < memory->workers; slot++) {
        descriptor_close(&memory->route_tables[slot].own);
        descriptor_close(&memory->route_tables[slot].read_only);
    }
    free(memory->route_tables);
    memory->route_tables = NULL;
}
