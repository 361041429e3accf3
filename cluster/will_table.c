/*
 * The table in the memfd:
 *
 *   u64 format | state words, one u64 per block | blocks of WILL_BLOCK_SIZE
 *
 * How many blocks there are follows from the file's size; zeroes are an empty table (who opens it first
 * writes the format). An entry is a chain of blocks; the state word of its first one is the identity of its
 * connection, those of the others are 0, as of all free blocks. Putting writes the blocks, then the state
 * word; removing exchanges the state word for 0. Which blocks are free is known to each process by itself,
 * from the valid chains at its start. A killed writer leaves either a whole entry or none. Worker process;
 * the master creates the file.
 */
#include "cluster/will_table.h"

#include "cluster/record.h"
#include "shared/crc32c.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC       UINT64_C(0x31736c6c69776873) /* "shwills1" */
#define HEADER_SIZE 64u
#define NEXT_SIZE   8u /* u32 index of the chain's next block + 1, 0: the last; u32 zero */
#define ROOM        (WILL_BLOCK_SIZE - NEXT_SIZE)
#define PART_MAX    65535u

/* The entry's bytes behind `next`: u32 size of all this, u32 CRC-32C of the rest, u64 ended_us (not under the
   CRC), u64 connection, u64 publisher, u32 delay, u32 expiry, u8 qos, u8 retain, four u16 sizes, the four
   parts. */
#define FIXED_SIZE (4u + 4u + 8u + 8u + 8u + 4u + 4u + 1u + 1u + 8u)
#define ENDED_AT   8u
#define CRC_FROM   16u

struct will_table {
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
static enum status find_entries(struct will_table *table);
static bool entry_valid(const struct will_table *table, uint32_t first, struct will_buffer *buffer);
static size_t read_chain(const struct will_table *table, uint32_t first, uint8_t *to, size_t size);
static void write_chain(struct will_table *table, const uint32_t *chain, const uint8_t *bytes, size_t size);
static void free_chain(struct will_table *table, uint32_t first);
static size_t encoded_size(const struct will *will);
static void encode(uint8_t *to, const struct will *will, size_t size);
static bool decode(struct bytes bytes, struct will *ret_will);
static bool reserve(struct will_buffer *buffer, size_t size);

enum status will_table_create(size_t size, int *ret_fd)
{
    int fd = memfd_create("shoal-wills", MFD_CLOEXEC | MFD_ALLOW_SEALING);
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

enum status will_table_open(int fd, struct will_table **ret_table)
{
    struct stat file;
    if (fstat(fd, &file) < 0)
        return STATUS_SYSTEM;
    if (file.st_size < (off_t)HEADER_SIZE || blocks_of((size_t)file.st_size) == 0)
        return STATUS_INVALID;
    struct will_table *table = calloc(1, sizeof *table);
    if (table == NULL)
        return STATUS_NO_MEMORY;
    table->map_size = (size_t)file.st_size;
    void *map = mmap(NULL, table->map_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    enum status status = STATUS_SYSTEM;
    if (map != MAP_FAILED) {
        table->map = map;
        status = find_entries(table);
    }
    if (status != STATUS_OK) {
        will_table_close(&table);
        return status;
    }
    *ret_table = table;
    return STATUS_OK;
}

void will_table_close(struct will_table **table)
{
    struct will_table *it = *table;
    *table = NULL;
    if (it == NULL)
        return;
    if (it->map != NULL)
        munmap(it->map, it->map_size);
    free(it->free);
    free(it);
}

enum status will_table_put(struct will_table *table, const struct will *will, will_handle *ret_handle)
{
    if (will->connection == 0 || will->client_id.size > PART_MAX || will->topic.size > PART_MAX ||
        will->properties.size > PART_MAX || will->payload.size > PART_MAX)
        return STATUS_INVALID;
    size_t size = encoded_size(will);
    size_t needed = (size + ROOM - 1) / ROOM;
    if (needed > table->free_count)
        return STATUS_LIMIT;
    uint8_t *bytes = malloc(size);
    if (bytes == NULL)
        return STATUS_NO_MEMORY;
    encode(bytes, will, size);
    table->free_count -= (uint32_t)needed;
    const uint32_t *chain = table->free + table->free_count;
    write_chain(table, chain, bytes, size);
    free(bytes);
    __atomic_store_n(&table->states[chain[0]], will->connection, __ATOMIC_RELEASE);
    table->count++;
    *ret_handle = chain[0] + 1;
    return STATUS_OK;
}

void will_table_ended(struct will_table *table, will_handle handle, uint64_t real_us)
{
    assert(handle >= 1 && handle <= table->blocks);
    uint8_t *at = table->data + (size_t)(handle - 1) * WILL_BLOCK_SIZE + NEXT_SIZE + ENDED_AT;
    __atomic_store_n((uint64_t *)(void *)at, htole64(real_us), __ATOMIC_RELEASE); /* aligned: 16 */
}

void will_table_remove(struct will_table *table, will_handle handle, uint64_t connection)
{
    assert(handle >= 1 && handle <= table->blocks);
    uint64_t expected = connection;
    if (connection == 0 || !__atomic_compare_exchange_n(&table->states[handle - 1], &expected, 0, false,
                               __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return;
    free_chain(table, handle - 1);
    table->count--;
}

enum status will_table_get(
    const struct will_table *table, will_handle handle, struct will_buffer *buffer, struct will *ret_will)
{
    if (handle < 1 || handle > table->blocks)
        return STATUS_NOT_FOUND;
    uint64_t state = __atomic_load_n(&table->states[handle - 1], __ATOMIC_ACQUIRE);
    if (state == 0)
        return STATUS_NOT_FOUND;
    const uint8_t *first = table->data + (size_t)(handle - 1) * WILL_BLOCK_SIZE;
    size_t size = get_u32_le(first + NEXT_SIZE);
    if (size < FIXED_SIZE || size > FIXED_SIZE + 4 * PART_MAX)
        return STATUS_NOT_FOUND;
    if (!reserve(buffer, size))
        return STATUS_NO_MEMORY;
    if (read_chain(table, handle - 1, buffer->data, size) != size ||
        !decode(bytes_of(buffer->data, size), ret_will) || ret_will->connection != state)
        return STATUS_NOT_FOUND; /* the other process cleared it meanwhile */
    return STATUS_OK;
}

will_handle will_table_next(const struct will_table *table, will_handle after)
{
    for (uint32_t at = after; at < table->blocks; at++) {
        if (__atomic_load_n(&table->states[at], __ATOMIC_ACQUIRE) != 0)
            return at + 1;
    }
    return 0;
}

uint32_t will_table_count(const struct will_table *table)
{
    return table->count;
}

uint32_t will_table_damaged(const struct will_table *table)
{
    return table->damaged;
}

size_t will_table_free_blocks(const struct will_table *table)
{
    return table->free_count;
}

static size_t states_size(uint64_t blocks)
{
    size_t size = HEADER_SIZE + blocks * sizeof(uint64_t);
    return (size + WILL_BLOCK_SIZE - 1) / WILL_BLOCK_SIZE * WILL_BLOCK_SIZE;
}

static uint64_t blocks_of(size_t file_size)
{
    uint64_t blocks = (file_size - HEADER_SIZE) / (WILL_BLOCK_SIZE + sizeof(uint64_t));
    while (blocks > 0 && states_size(blocks) + blocks * WILL_BLOCK_SIZE > file_size)
        blocks--;
    return blocks < UINT32_MAX ? blocks : UINT32_MAX - 1;
}

/* What is valid stays; everything else is free, whatever stands in it. */
static enum status find_entries(struct will_table *table)
{
    uint64_t *format = (uint64_t *)(void *)table->map;
    if (*format == 0)
        __atomic_store_n(format, MAGIC, __ATOMIC_RELEASE);
    if (*format != MAGIC)
        return STATUS_INVALID;
    table->blocks = (uint32_t)blocks_of(table->map_size);
    table->states = (uint64_t *)(void *)(table->map + HEADER_SIZE);
    table->data = table->map + states_size(table->blocks);
    table->free = malloc(table->blocks * sizeof *table->free);
    uint8_t *used = calloc(table->blocks, 1);
    struct will_buffer buffer = {0};
    if (table->free == NULL || used == NULL) {
        free(used);
        return STATUS_NO_MEMORY;
    }
    for (will_handle at = will_table_next(table, 0); at != 0; at = will_table_next(table, at)) {
        if (!entry_valid(table, at - 1, &buffer)) {
            table->damaged++;
            __atomic_store_n(&table->states[at - 1], 0, __ATOMIC_RELEASE);
            continue;
        }
        table->count++;
        for (uint32_t block = at; block != 0;
             block = get_u32_le(table->data + (size_t)(block - 1) * WILL_BLOCK_SIZE))
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

static bool entry_valid(const struct will_table *table, uint32_t first, struct will_buffer *buffer)
{
    struct will will;
    return will_table_get(table, first + 1, buffer, &will) == STATUS_OK;
}

/* Returns how much there was: less than `size` if the chain ends early, or does not end. */
static size_t read_chain(const struct will_table *table, uint32_t first, uint8_t *to, size_t size)
{
    size_t done = 0;
    uint32_t block = first + 1;
    while (block != 0 && block <= table->blocks && done < size) {
        const uint8_t *at = table->data + (size_t)(block - 1) * WILL_BLOCK_SIZE;
        size_t part = size - done < ROOM ? size - done : ROOM;
        memcpy(to + done, at + NEXT_SIZE, part);
        done += part;
        block = get_u32_le(at);
    }
    return block == 0 ? done : 0;
}

static void write_chain(struct will_table *table, const uint32_t *chain, const uint8_t *bytes, size_t size)
{
    for (size_t done = 0, i = 0; done < size; done += ROOM, i++) {
        uint8_t *at = table->data + (size_t)chain[i] * WILL_BLOCK_SIZE;
        size_t part = size - done < ROOM ? size - done : ROOM;
        put_u32_le(at, done + part < size ? chain[i + 1] + 1 : 0);
        put_u32_le(at + 4, 0);
        memcpy(at + NEXT_SIZE, bytes + done, part);
    }
}

static void free_chain(struct will_table *table, uint32_t first)
{
    for (uint32_t block = first + 1; block != 0 && block <= table->blocks;
         block = get_u32_le(table->data + (size_t)(block - 1) * WILL_BLOCK_SIZE)) {
        assert(table->free_count < table->blocks);
        table->free[table->free_count++] = block - 1;
    }
}

static size_t encoded_size(const struct will *will)
{
    return FIXED_SIZE + will->client_id.size + will->topic.size + will->properties.size + will->payload.size;
}

static void encode(uint8_t *to, const struct will *will, size_t size)
{
    uint8_t *at = record_write_u32(to, (uint32_t)size);
    at = record_write_u32(at, 0);
    at = record_write_u64(at, will->ended_us);
    at = record_write_u64(at, will->connection);
    at = record_write_u64(at, will->publisher);
    at = record_write_u32(at, will->delay_s);
    at = record_write_u32(at, will->expiry_s);
    at = record_write_u8(at, will->qos);
    at = record_write_u8(at, will->retain);
    at = record_write_u16(at, (uint16_t)will->client_id.size);
    at = record_write_u16(at, (uint16_t)will->topic.size);
    at = record_write_u16(at, (uint16_t)will->properties.size);
    at = record_write_u16(at, (uint16_t)will->payload.size);
    at = record_write_bytes(at, will->client_id);
    at = record_write_bytes(at, will->topic);
    at = record_write_bytes(at, will->properties);
    record_write_bytes(at, will->payload);
    put_u32_le(to + 4, crc32c(0, to + CRC_FROM, size - CRC_FROM));
}

static bool decode(struct bytes bytes, struct will *ret_will)
{
    struct record_reader reader = record_read(bytes);
    uint32_t size = record_read_u32(&reader);
    uint32_t crc = record_read_u32(&reader);
    struct will will = {.ended_us = record_read_u64(&reader)};
    will.connection = record_read_u64(&reader);
    will.publisher = record_read_u64(&reader);
    will.delay_s = record_read_u32(&reader);
    will.expiry_s = record_read_u32(&reader);
    will.qos = record_read_u8(&reader);
    will.retain = record_read_u8(&reader) != 0;
    uint16_t sizes[4];
    for (unsigned i = 0; i < 4; i++)
        sizes[i] = record_read_u16(&reader);
    will.client_id = record_read_bytes(&reader, sizes[0]);
    will.topic = record_read_bytes(&reader, sizes[1]);
    will.properties = record_read_bytes(&reader, sizes[2]);
    will.payload = record_read_bytes(&reader, sizes[3]);
    if (!record_read_end(&reader) || size != bytes.size || will.qos > 2 ||
        crc32c(0, bytes.data + CRC_FROM, bytes.size - CRC_FROM) != crc)
        return false;
    *ret_will = will;
    return true;
}

static bool reserve(struct will_buffer *buffer, size_t size)
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
