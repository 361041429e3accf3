/*
 * Makes the memfds that outlive workers. What only the master may write is sealed against writing before any
 * child sees it; the rest is sealed against resizing, so that no child can make another's mapping fault.
 */
#include "node/master_memory.h"

#include "node/descriptor.h"
#include "node/tls_material.h"
#include "shared/bus_window.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEALS_SIZE (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* ---- read-only blocks -----------------------------------------------------------------------------------
 */

static enum status write_whole(int fd, const uint8_t *from, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, from, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return STATUS_SYSTEM;
        from += written;
        size -= (size_t)written;
    }
    return STATUS_OK;
}

static enum status make_block(const char *name, struct bytes content, int *ret_fd)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return STATUS_SYSTEM;
    enum status status = write_whole(fd, content.data, content.size);
    if (status == STATUS_OK && fcntl(fd, F_ADD_SEALS, SEALS_SIZE | F_SEAL_WRITE) != 0)
        status = STATUS_SYSTEM;
    if (status != STATUS_OK) {
        close(fd);
        return status;
    }
    *ret_fd = fd;
    return STATUS_OK;
}

/* Passwords of keys are for the master alone: the text is made from a copy of the listeners without them. */
static enum status make_config(const struct config *config, int *ret_fd)
{
    struct config handed = *config;
    handed.listeners = calloc(config->listener_count + 1, sizeof *handed.listeners);
    if (handed.listeners == NULL)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < config->listener_count; i++) {
        handed.listeners[i] = config->listeners[i];
        handed.listeners[i].tls.password = NULL;
        handed.listeners[i].tls.password_file = NULL;
    }
    handed.bus.password_file = NULL;
    char *text = config_to_json(&handed);
    free(handed.listeners);
    if (text == NULL)
        return STATUS_NO_MEMORY;
    enum status status = make_block("shoal-config", bytes_of_text(text), ret_fd);
    free(text);
    return status;
}

static enum status make_secrets(const struct tls_material *material, int *ret_fd)
{
    uint8_t *block = NULL;
    size_t size = 0;
    enum status status = tls_material_serialize(material, &block, &size);
    if (status == STATUS_OK)
        status = make_block("shoal-secrets", bytes_of(block, size), ret_fd);
    tls_material_wipe(&block, size);
    return status;
}

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

enum status master_memory_open(const struct config *config, const struct tls_material *material,
    struct bytes access, struct master_memory *ret_memory, const char **ret_what)
{
    struct master_memory memory = {
        .workers = config->node.workers, .config = -1, .secrets = -1, .access = -1, .counters = -1};
    const char *what = "the configuration for the workers";
    enum status status = make_config(config, &memory.config);
    if (status == STATUS_OK) {
        what = "the key material for the workers";
        status = make_secrets(material, &memory.secrets);
    }
    if (status == STATUS_OK) {
        what = "the access files for the workers";
        status = make_block("shoal-access", access, &memory.access);
    }
    if (status == STATUS_OK) {
        what = "the counter pages";
        status = make_counters(&memory);
    }
    if (status == STATUS_OK) {
        what = "the bus lanes";
        status = make_lanes(config, &memory);
    }
    if (status == STATUS_OK) {
        what = "the will tables";
        status = make_will_tables(config, &memory);
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
    descriptor_close(&memory->config);
    descriptor_close(&memory->secrets);
    descriptor_close(&memory->access);
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
    free(memory->will_tables);
    memory->will_tables = NULL;
}
