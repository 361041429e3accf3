/*
 * The table in the memfd:
 *
 *   header, a page | one half | the other half
 *
 * The half that counts is the one that the lowest bit of `turns` names; entries are appended to it, `used` of
 * it stored last. Writing anew fills the other half and then counts up `turns`. A reader that finds `turns`
 * as it was before it copied has copied what nobody wrote to meanwhile: the half that counts is only appended
 * to. Worker process; the master creates the file.
 */
#include "cluster/route_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_SIZE 4096u
#define TRIES       16u
/* Written anew when it has grown to so many times what counted last time, and is larger than this. */
#define GROWTH   4u
#define SIZE_MIN 65536u

struct header {
    uint64_t incarnation; /* whose entries they are; 0: nobody's */
    uint64_t turns;
    uint64_t used[2]; /* bytes of each half */
};

struct route_table {
    uint8_t *map; /* owned */
    size_t map_size;
    size_t half_size;
    struct header *header;
    unsigned half; /* that entries are written to */
    size_t used;   /* of it, also while it is not seen yet */
    size_t limit;
    bool rewriting;
    bool given_up;
};

static size_t half_size_of(size_t file_size);
static uint64_t load(const uint64_t *from);
static void store(uint64_t *to, uint64_t value);
static enum status read_bytes(int fd, void *to, size_t size, size_t offset);

enum status route_table_create(size_t size, int *ret_fd)
{
    int fd = memfd_create("shoal-routes", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return STATUS_SYSTEM;
    if (ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return STATUS_SYSTEM;
    }
    *ret_fd = fd;
    return STATUS_OK;
}

enum status route_table_open(int fd, uint64_t incarnation, struct route_table **ret_table)
{
    struct stat file;
    if (fstat(fd, &file) < 0)
        return STATUS_SYSTEM;
    if (half_size_of((size_t)file.st_size) == 0 || incarnation == 0)
        return STATUS_INVALID;
    struct route_table *table = calloc(1, sizeof *table);
    if (table == NULL)
        return STATUS_NO_MEMORY;
    table->map_size = (size_t)file.st_size;
    table->half_size = half_size_of(table->map_size);
    void *map = mmap(NULL, table->map_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        free(table);
        return STATUS_SYSTEM;
    }
    table->map = map;
    table->header = map;
    store(&table->header->incarnation, 0);
    route_table_rewrite(table);
    route_table_rewritten(table);
    store(&table->header->incarnation, incarnation);
    *ret_table = table;
    return STATUS_OK;
}

void route_table_close(struct route_table **table)
{
    struct route_table *it = *table;
    *table = NULL;
    if (it == NULL)
        return;
    munmap(it->map, it->map_size);
    free(it);
}

uint8_t *route_table_room(struct route_table *table, size_t size)
{
    size_t limit = table->rewriting ? table->half_size : table->limit;
    if (table->given_up || size > limit || table->used > limit - size)
        return NULL;
    return table->map + HEADER_SIZE + table->half * table->half_size + table->used;
}

void route_table_added(struct route_table *table, size_t size)
{
    table->used += size;
    if (!table->rewriting)
        store(&table->header->used[table->half], table->used);
}

void route_table_rewrite(struct route_table *table)
{
    table->rewriting = true;
    table->half = (unsigned)(load(&table->header->turns) + 1) & 1;
    table->used = 0;
    store(&table->header->used[table->half], 0);
}

/* The former half's memory goes back to the system; a reader that still copies it finds out by `turns`. */
void route_table_rewritten(struct route_table *table)
{
    table->rewriting = false;
    store(&table->header->used[table->half], table->used);
    store(&table->header->turns, load(&table->header->turns) + 1);
    size_t former = HEADER_SIZE + (table->half ^ 1) * table->half_size;
    (void)madvise(table->map + former, table->half_size, MADV_REMOVE);
    size_t limit = table->used * GROWTH > SIZE_MIN ? table->used * GROWTH : SIZE_MIN;
    table->limit = limit < table->half_size ? limit : table->half_size;
}

void route_table_give_up(struct route_table *table)
{
    table->given_up = true;
    store(&table->header->incarnation, 0);
}

enum status route_table_read(int fd, uint64_t incarnation, uint8_t **ret_entries, size_t *ret_size)
{
    struct stat file;
    if (fstat(fd, &file) < 0)
        return STATUS_SYSTEM;
    size_t half_size = half_size_of((size_t)file.st_size);
    for (unsigned tries = 0; tries < TRIES; tries++) {
        struct header before, after;
        enum status status = read_bytes(fd, &before, sizeof before, 0);
        if (status != STATUS_OK)
            return status;
        unsigned half = before.turns & 1;
        uint64_t used = before.used[half];
        if (before.incarnation != incarnation || used > half_size)
            return STATUS_NOT_FOUND;
        uint8_t *entries = malloc(used > 0 ? used : 1);
        if (entries == NULL)
            return STATUS_NO_MEMORY;
        status = read_bytes(fd, entries, used, HEADER_SIZE + half * half_size);
        if (status == STATUS_OK)
            status = read_bytes(fd, &after, sizeof after, 0);
        if (status == STATUS_OK && after.turns == before.turns && after.incarnation == incarnation) {
            *ret_entries = entries;
            *ret_size = used;
            return STATUS_OK;
        }
        free(entries);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_AGAIN;
}

/* Whole pages, so that a half can be given back. */
static size_t half_size_of(size_t file_size)
{
    return file_size < HEADER_SIZE ? 0 : (file_size - HEADER_SIZE) / 2 & ~(size_t)(HEADER_SIZE - 1);
}

static uint64_t load(const uint64_t *from)
{
    return __atomic_load_n(from, __ATOMIC_ACQUIRE);
}

static void store(uint64_t *to, uint64_t value)
{
    __atomic_store_n(to, value, __ATOMIC_SEQ_CST);
}

/* Not mapped: what a damaged writer did to the file cannot make us fault. */
static enum status read_bytes(int fd, void *to, size_t size, size_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, (uint8_t *)to + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return STATUS_SYSTEM;
        done += (size_t)n;
    }
    return STATUS_OK;
}
