/*
 * Fields of a bus record's body, little-endian, one after the other. A reader never overruns: what is missing
 * reads as zero and the reader has failed; record_read_end() is true only if everything was there and nothing
 * is left. A writer trusts its caller's arithmetic. For the modules of cluster/.
 */
#ifndef CLUSTER_RECORD_H
#define CLUSTER_RECORD_H

#include "shared/bytes.h"

struct record_reader {
    struct bytes rest;
    bool failed;
};

static inline struct record_reader record_read(struct bytes body)
{
    return (struct record_reader){.rest = body};
}

static inline struct bytes record_read_bytes(struct record_reader *reader, size_t size)
{
    if (reader->failed || reader->rest.size < size) {
        reader->failed = true;
        return BYTES_NONE;
    }
    struct bytes taken = {reader->rest.data, size};
    reader->rest.data += size;
    reader->rest.size -= size;
    return taken;
}

static inline uint8_t record_read_u8(struct record_reader *reader)
{
    struct bytes taken = record_read_bytes(reader, 1);
    return reader->failed ? 0 : taken.data[0];
}

static inline uint16_t record_read_u16(struct record_reader *reader)
{
    struct bytes taken = record_read_bytes(reader, 2);
    return reader->failed ? 0 : get_u16_le(taken.data);
}

static inline uint32_t record_read_u32(struct record_reader *reader)
{
    struct bytes taken = record_read_bytes(reader, 4);
    return reader->failed ? 0 : get_u32_le(taken.data);
}

static inline uint64_t record_read_u64(struct record_reader *reader)
{
    struct bytes taken = record_read_bytes(reader, 8);
    return reader->failed ? 0 : get_u64_le(taken.data);
}

static inline bool record_read_end(const struct record_reader *reader)
{
    return !reader->failed && reader->rest.size == 0;
}

/* Each returns where the next field goes. */
static inline uint8_t *record_write_u8(uint8_t *to, uint8_t value)
{
    *to = value;
    return to + 1;
}

static inline uint8_t *record_write_u16(uint8_t *to, uint16_t value)
{
    put_u16_le(to, value);
    return to + 2;
}

static inline uint8_t *record_write_u32(uint8_t *to, uint32_t value)
{
    put_u32_le(to, value);
    return to + 4;
}

static inline uint8_t *record_write_u64(uint8_t *to, uint64_t value)
{
    put_u64_le(to, value);
    return to + 8;
}

static inline uint8_t *record_write_bytes(uint8_t *to, struct bytes from)
{
    if (from.size > 0)
        memcpy(to, from.data, from.size);
    return to + from.size;
}

#endif
