/*
 * The table in the memfd:
 *
 *   u64 format | state words, one u64 per block | blocks of BLOCK_SIZE
 *
 * How many blocks there are follows from the file's size; zeroes are an empty table (who opens it first
 * writes the format). An entry is a chain of blocks; the state word of its first one is its identity, those
 * of the others are 0, as of all free blocks. Putting writes the blocks, then the state word; removing
 * exchanges the state word for 0. Which blocks are free is known to each process by itself, from the valid
 * chains at its start. A killed writer leaves either a whole entry or none. Worker process; the master
 * creates the file.
 */
#include "cluster/block_table.h"

#include "shared/crc32c.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_SIZE 64u
#define NEXT_SIZE   8u /* u32 index of the chain's next block + 1, 0: the last; u32 zero */
#define ROOM        (BLOCK_SIZE - NEXT_SIZE)

/* The entry's bytes behind `next`: u32 size of all this, u32 CRC-32C of the rest, u64 word (not under the
   CRC), u64 identity, the content. */
#define FIXED_SIZE  24u
#define WORD_AT     8u
#define IDENTITY_AT 16u
#define CRC_FROM    16u

struct block_table {
    uint8_t *map; /* owned */
    size_t map_size;
    uint64_t *states;
    uint8_t *data;
    uint32_t blocks;
    uint32_t count;
    uint32_t damaged;
    uint32_t *free; /* owned: stack of free blocks */
    uint32_t free_count;
};

static size_t states_size(uint64_t blocks);
static uint64_t blocks_of(size_t file_size);
static enum status find_entries(struct block_table *table, uint64_t magic);
static size_t read_chain(const struct block_table *table, uint32_t first, uint8_t *to, size_t size);
static void write_chain(struct block_table *table, const uint32_t *chain, const uint8_t *bytes, size_t size);
static void free_chain(struct block_table *table, uint32_t first);
static uint8_t *encode(uint64_t identity, uint64_t word, struct bytes content);
static bool decode(struct bytes bytes, struct block_entry *ret_entry);
static bool reserve(struct block_buffer *buffer, size_t size);

enum status block_table_create(const char *name, size_t size, int *ret_fd)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
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

enum status block_table_open(int fd, uint64_t magic, struct block_table **ret_table)
{
    struct stat file;
    if (fstat(fd, &file) < 0)
        return STATUS_SYSTEM;
    if (file.st_size < (off_t)HEADER_SIZE || blocks_of((size_t)file.st_size) == 0)
        return STATUS_INVALID;
    struct block_table *table = calloc(1, sizeof *table);
    if (table == NULL)
        return STATUS_NO_MEMORY;
    table->map_size = (size_t)file.st_size;
    void *map = mmap(NULL, table->map_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    enum status status = STATUS_SYSTEM;
    if (map != MAP_FAILED) {
        table->map = map;
        status = find_entries(table, magic);
    }
    if (status != STATUS_OK) {
        block_table_close(&table);
        return status;
    }
    *ret_table = table;
    return STATUS_OK;
}

void block_table_close(struct block_table **table)
{
    struct block_table *it = *table;
    *table = NULL;
    if (it == NULL)
        return;
    if (it->map != NULL)
        munmap(it->map, it->map_size);
    free(it->free);
    free(it);
}

enum status block_table_put(struct block_table *table, uint64_t identity, uint64_t word, struct bytes content,
    block_handle *ret_handle)
{
    assert(identity != 0);
    size_t size = FIXED_SIZE + content.size;
    size_t needed = (size + ROOM - 1) / ROOM;
    if (needed > table->free_count || size > UINT32_MAX)
        return STATUS_LIMIT;
    uint8_t *bytes = encode(identity, word, content);
    if (bytes == NULL)
        return STATUS_NO_MEMORY;
    table->free_count -= (uint32_t)needed;
    const uint32_t *chain = table->free + table->free_count;
    write_chain(table, chain, bytes, size);
    free(bytes);
    __atomic_store_n(&table->states[chain[0]], identity, __ATOMIC_RELEASE);
    table->count++;
    *ret_handle = chain[0] + 1;
    return STATUS_OK;
}

void block_table_set_word(struct block_table *table, block_handle handle, uint64_t word)
{
    assert(handle >= 1 && handle <= table->blocks);
    uint8_t *at = table->data + (size_t)(handle - 1) * BLOCK_SIZE + NEXT_SIZE + WORD_AT;
    __atomic_store_n((uint64_t *)(void *)at, htole64(word), __ATOMIC_RELEASE); /* aligned: 16 */
}

void block_table_remove(struct block_table *table, block_handle handle, uint64_t identity)
{
    assert(handle >= 1 && handle <= table->blocks);
    uint64_t expected = identity;
    if (identity == 0 || !__atomic_compare_exchange_n(&table->states[handle - 1], &expected, 0, false,
                             __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return;
    free_chain(table, handle - 1);
    table->count--;
}

enum status block_table_get(const struct block_table *table, block_handle handle, struct block_buffer *buffer,
    struct block_entry *ret_entry)
{
    if (handle < 1 || handle > table->blocks)
        return STATUS_NOT_FOUND;
    uint64_t state = __atomic_load_n(&table->states[handle - 1], __ATOMIC_ACQUIRE);
    if (state == 0)
        return STATUS_NOT_FOUND;
    size_t size = get_u32_le(table->data + (size_t)(handle - 1) * BLOCK_SIZE + NEXT_SIZE);
    if (size < FIXED_SIZE || size > (size_t)table->blocks * ROOM)
        return STATUS_NOT_FOUND;
    if (!reserve(buffer, size))
        return STATUS_NO_MEMORY;
    if (read_chain(table, handle - 1, buffer->data, size) != size ||
        !decode(bytes_of(buffer->data, size), ret_entry) || ret_entry->identity != state)
        return STATUS_NOT_FOUND; /* the other process cleared it meanwhile */
    return STATUS_OK;
}

block_handle block_table_next(const struct block_table *table, block_handle after)
{
    for (uint32_t at = after; at < table->blocks; at++) {
        if (__atomic_load_n(&table->states[at], __ATOMIC_ACQUIRE) != 0)
            return at + 1;
    }
    return 0;
}

uint32_t block_table_count(const struct block_table *table)
{
    return table->count;
}

uint32_t block_table_damaged(const struct block_table *table)
{
    return table->damaged;
}

size_t block_table_free_blocks(const struct block_table *table)
{
    return table->free_count;
}

static size_t states_size(uint64_t blocks)
{
    size_t size = HEADER_SIZE + blocks * sizeof(uint64_t);
    return (size + BLOCK_SIZE - 1) / BLOCK_SIZE * BLOCK_SIZE;
}

static uint64_t blocks_of(size_t file_size)
{
    uint64_t blocks = (file_size - HEADER_SIZE) / (BLOCK_SIZE + sizeof(uint64_t));
    while (blocks > 0 && states_size(blocks) + blocks * BLOCK_SIZE > file_size)
        blocks--;
    return blocks < UINT32_MAX ? blocks : UINT32_MAX - 1;
}

/* What is valid stays; everything else is free, whatever stands in it. */
static enum status find_entries(struct block_table *table, uint64_t magic)
{
    uint64_t *format = (uint64_t *)(void *)table->map;
    if (*format == 0)
        __atomic_store_n(format, magic, __ATOMIC_RELEASE);
    if (*format != magic)
        return STATUS_INVALID;
    table->blocks = (uint32_t)blocks_of(table->map_size);
    table->states = (uint64_t *)(void *)(table->map + HEADER_SIZE);
    table->data = table->map + states_size(table->blocks);
    table->free = malloc(table->blocks * sizeof *table->free);
    uint8_t *used = calloc(table->blocks, 1);
    struct block_buffer buffer = {0};
    if (table->free == NULL || used == NULL) {
        free(used);
        return STATUS_NO_MEMORY;
    }
    for (block_handle at = block_table_next(table, 0); at != 0; at = block_table_next(table, at)) {
        struct block_entry entry;
        if (block_table_get(table, at, &buffer, &entry) != STATUS_OK) {
            table->damaged++;
            __atomic_store_n(&table->states[at - 1], 0, __ATOMIC_RELEASE);
            continue;
        }
        table->count++;
        for (uint32_t block = at; block != 0;
             block = get_u32_le(table->data + (size_t)(block - 1) * BLOCK_SIZE))
            used[block - 1] = 1;
    }
    for (uint32_t block = table->blocks; block > 0; block--) {
        if (!used[block - 1])
            table->free[table->free_count++] = block - 1;
    }
    free(used);
    free(buffer.data);
    return STATUS_OK;
}

/* Returns how much there was: less than `size` if the chain ends early, or does not end. */
static size_t read_chain(const struct block_table *table, uint32_t first, uint8_t *to, size_t size)
{
    size_t done = 0;
    uint32_t block = first + 1;
    while (block != 0 && block <= table->blocks && done < size) {
        const uint8_t *at = table->data + (size_t)(block - 1) * BLOCK_SIZE;
        size_t part = size - done < ROOM ? size - done : ROOM;
        memcpy(to + done, at + NEXT_SIZE, part);
        done += part;
        block = get_u32_le(at);
    }
    return block == 0 ? done : 0;
}

static void write_chain(struct block_table *table, const uint32_t *chain, const uint8_t *bytes, size_t size)
{
    for (size_t done = 0, i = 0; done < size; done += ROOM, i++) {
        uint8_t *at = table->data + (size_t)chain[i] * BLOCK_SIZE;
        size_t part = size - done < ROOM ? size - done : ROOM;
        put_u32_le(at, done + part < size ? chain[i + 1] + 1 : 0);
        put_u32_le(at + 4, 0);
        memcpy(at + NEXT_SIZE, bytes + done, part);
    }
}

static void free_chain(struct block_table *table, uint32_t first)
{
    for (uint32_t block = first + 1; block != 0 && block <= table->blocks;
         block = get_u32_le(table->data + (size_t)(block - 1) * BLOCK_SIZE)) {
        assert(table->free_count < table->blocks);
        table->free[table->free_count++] = block - 1;
    }
}

static uint8_t *encode(uint64_t identity, uint64_t word, struct bytes content)
{
    size_t size = FIXED_SIZE + content.size;
    uint8_t *bytes = malloc(size);
    if (bytes == NULL)
        return NULL;
    put_u32_le(bytes, (uint32_t)size);
    put_u64_le(bytes + WORD_AT, word);
    put_u64_le(bytes + IDENTITY_AT, identity);
    if (content.size > 0)
        memcpy(bytes + FIXED_SIZE, content.data, content.size);
    put_u32_le(bytes + 4, crc32c(0, bytes + CRC_FROM, size - CRC_FROM));
    return bytes;
}

static bool decode(struct bytes bytes, struct block_entry *ret_entry)
{
    if (get_u32_le(bytes.data) != bytes.size ||
        crc32c(0, bytes.data + CRC_FROM, bytes.size - CRC_FROM) != get_u32_le(bytes.data + 4))
        return false;
    *ret_entry = (struct block_entry){.identity = get_u64_le(bytes.data + IDENTITY_AT),
        .word = get_u64_le(bytes.data + WORD_AT),
        .content = bytes_of(bytes.data + FIXED_SIZE, bytes.size - FIXED_SIZE)};
    return true;
}

static bool reserve(struct block_buffer *buffer, size_t size)
{
    if (buffer->capacity >= size)
        return true;
    uint8_t *grown = realloc(buffer->data, size);
    if (grown == NULL)
        return false;
    buffer->data = grown;
    buffer->capacity = size;
    return true;
}
