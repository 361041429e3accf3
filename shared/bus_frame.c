/* Frames of the bus: header in, header out, checksum. Any process; no state. */
#include "shared/bus_frame.h"

#include "shared/crc32c.h"

/* Where the members stand; the picture is in the header file. */
enum {
    AT_VERSION = 0,
    AT_TYPE = 1,
    AT_ZERO = 2,
    AT_LENGTH = 4,
    AT_OFFSET = 8,
    AT_INCARNATION = 16,
    AT_NODE = 24,
    AT_SLOT = 26,
    AT_CHECKSUM = 28,
};

static uint32_t checksum(const uint8_t *at, size_t length)
{
    uint32_t crc = crc32c(0, at, AT_CHECKSUM);
    return crc32c(crc, at + BUS_FRAME_HEADER_SIZE, length - BUS_FRAME_HEADER_SIZE);
}

void bus_frame_finish(uint8_t *at, const struct bus_frame *frame)
{
    at[AT_VERSION] = BUS_FRAME_VERSION;
    at[AT_TYPE] = (uint8_t)frame->type;
    put_u16_le(at + AT_ZERO, 0);
    put_u32_le(at + AT_LENGTH, frame->length);
    put_u64_le(at + AT_OFFSET, frame->offset);
    put_u64_le(at + AT_INCARNATION, frame->origin.incarnation);
    put_u16_le(at + AT_NODE, frame->origin.node);
    put_u16_le(at + AT_SLOT, frame->origin.slot);
    put_u32_le(at + AT_CHECKSUM, checksum(at, frame->length));
}

enum status bus_frame_parse(struct bytes from, struct bus_frame *ret_frame)
{
    if (from.size < BUS_FRAME_HEADER_SIZE)
        return STATUS_AGAIN;
    const uint8_t *at = from.data;
    uint32_t length = get_u32_le(at + AT_LENGTH);
    uint64_t offset = get_u64_le(at + AT_OFFSET);
    if (at[AT_VERSION] != BUS_FRAME_VERSION || at[AT_TYPE] != BUS_FRAME_RECORDS ||
        get_u16_le(at + AT_ZERO) != 0 || length < BUS_FRAME_HEADER_SIZE || length > BUS_FRAME_MAX ||
        offset % 8 != 0)
        return STATUS_PROTOCOL;
    if (from.size < length)
        return STATUS_AGAIN;
    *ret_frame = (struct bus_frame){
        .type = (enum bus_frame_type)at[AT_TYPE],
        .length = length,
        .offset = offset,
        .origin = {.incarnation = get_u64_le(at + AT_INCARNATION),
            .node = get_u16_le(at + AT_NODE),
            .slot = get_u16_le(at + AT_SLOT)},
    };
    return STATUS_OK;
}

bool bus_frame_intact(struct bytes frame)
{
    return get_u32_le(frame.data + AT_CHECKSUM) == checksum(frame.data, frame.size);
}
