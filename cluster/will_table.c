/*
 * Wills as entries of a block table: their texts, with the end of their connection as the word that changes
 * in place. Worker process; the master creates the file.
 */
#include "cluster/will_table.h"

#include "cluster/record.h"

#include <stdlib.h>

#define MAGIC    UINT64_C(0x32736c6c69776873) /* "shwills2" */
#define PART_MAX 65535u

/* u64 publisher, u32 delay, u32 expiry, u8 qos, u8 retain, four u16 sizes, the four parts. */
#define FIXED_SIZE (8u + 4u + 4u + 1u + 1u + 8u)

struct will_table {
    struct block_table *blocks; /* owned */
};

static size_t encoded_size(const struct will *will);
static void encode(uint8_t *to, const struct will *will);
static bool decode(const struct block_entry *entry, struct will *ret_will);

enum status will_table_create(size_t size, int *ret_fd)
{
    return block_table_create("shoal-wills", size, ret_fd);
}

enum status will_table_open(int fd, struct will_table **ret_table)
{
    struct will_table *table = calloc(1, sizeof *table);
    if (table == NULL)
        return STATUS_NO_MEMORY;
    enum status status = block_table_open(fd, MAGIC, &table->blocks);
    if (status != STATUS_OK) {
        free(table);
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
    block_table_close(&it->blocks);
    free(it);
}

enum status will_table_put(struct will_table *table, const struct will *will, will_handle *ret_handle)
{
    if (will->connection == 0 || will->client_id.size > PART_MAX || will->topic.size > PART_MAX ||
        will->properties.size > PART_MAX || will->payload.size > PART_MAX)
        return STATUS_INVALID;
    size_t size = encoded_size(will);
    uint8_t *bytes = malloc(size);
    if (bytes == NULL)
        return STATUS_NO_MEMORY;
    encode(bytes, will);
    enum status status =
        block_table_put(table->blocks, will->connection, will->ended_us, bytes_of(bytes, size), ret_handle);
    free(bytes);
    return status;
}

void will_table_ended(struct will_table *table, will_handle handle, uint64_t real_us)
{
    block_table_set_word(table->blocks, handle, real_us);
}

void will_table_remove(struct will_table *table, will_handle handle, uint64_t connection)
{
    block_table_remove(table->blocks, handle, connection);
}

enum status will_table_get(
    const struct will_table *table, will_handle handle, struct block_buffer *buffer, struct will *ret_will)
{
    struct block_entry entry;
    enum status status = block_table_get(table->blocks, handle, buffer, &entry);
    if (status == STATUS_OK && !decode(&entry, ret_will))
        status = STATUS_NOT_FOUND;
    return status;
}

will_handle will_table_next(const struct will_table *table, will_handle after)
{
    return block_table_next(table->blocks, after);
}

uint32_t will_table_count(const struct will_table *table)
{
    return block_table_count(table->blocks);
}

uint32_t will_table_damaged(const struct will_table *table)
{
    return block_table_damaged(table->blocks);
}

size_t will_table_free_blocks(const struct will_table *table)
{
    return block_table_free_blocks(table->blocks);
}

static size_t encoded_size(const struct will *will)
{
    return FIXED_SIZE + will->client_id.size + will->topic.size + will->properties.size + will->payload.size;
}

static void encode(uint8_t *to, const struct will *will)
{
    uint8_t *at = record_write_u64(to, will->publisher);
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
}

static bool decode(const struct block_entry *entry, struct will *ret_will)
{
    struct record_reader reader = record_read(entry->content);
    struct will will = {.ended_us = entry->word, .connection = entry->identity};
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
    if (!record_read_end(&reader) || will.qos > 2)
        return false;
    *ret_will = will;
    return true;
}
