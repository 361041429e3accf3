/*
 * The frame of the bus, as it stands in a lane's ring and travels in carrier messages: a header of 32 bytes,
 * then records. Little-endian. Frames start at multiples of 8 bytes; the gap behind one is zeros and belongs
 * to no frame.
 *
 *   0  u8 version   1  u8 type   2  u16 zero    4  u32 length (header included, gap not)
 *   8  u64 lane offset of this frame           16  u64 incarnation of the origin
 *  24  u16 node   26  u16 slot                 28  u32 CRC-32C of everything else
 *  32  records: u16 size of the body, u8 type, u8 zero, body
 *
 * Pure encoding and checking: any process. What is read may be hostile.
 */
#ifndef SHARED_BUS_FRAME_H
#define SHARED_BUS_FRAME_H

#include "shared/bytes.h"
#include "shared/publication.h"
#include "shared/status.h"

#define BUS_FRAME_VERSION      1
#define BUS_FRAME_MAX          65536 /* bytes, header included */
#define BUS_FRAME_HEADER_SIZE  32
#define BUS_RECORD_HEADER_SIZE 4
#define BUS_RECORD_MAX         60000 /* bytes of one record's body: fits a frame with its headers */
#define BUS_RECORD_PACKED_MAX  60064 /* the same of a record that holds such a one */

/* The value is on the wire: never reuse one. */
enum bus_frame_type {
    BUS_FRAME_RECORDS = 1,
};

struct bus_frame {
    enum bus_frame_type type;
    uint32_t length;
    uint64_t offset;
    struct publication_origin origin;
};

/* Bytes from the start of a frame to the next one's. */
static inline size_t bus_frame_stride(size_t length)
{
    return (length + 7) & ~(size_t)7;
}

/* Writes the header of a frame whose records stand behind it already, with the checksum over both. */
void bus_frame_finish(uint8_t *at, const struct bus_frame *frame);

/*
 * Reads a header and checks it for itself: version, type, length from the header's size to BUS_FRAME_MAX,
 * offset a multiple of 8. STATUS_AGAIN: fewer bytes than a header, or than the frame is long. The checksum:
 * next function.
 */
enum status bus_frame_parse(struct bytes from, struct bus_frame *ret_frame) CHECK_RESULT;

/* True if the checksum of this whole frame (exactly its length) holds. */
bool bus_frame_intact(struct bytes frame);

/* Writes a record's header; the body of `size` bytes follows at the returned place. */
static inline uint8_t *bus_record_begin(uint8_t *at, uint8_t type, size_t size)
{
    put_u32_le(at, (uint32_t)size | (uint32_t)type << 16);
    return at + BUS_RECORD_HEADER_SIZE;
}

/*
 * Takes the next record off *rest (first: what follows the header). STATUS_NOT_FOUND: no more;
 * STATUS_PROTOCOL: what is left is no record.
 */
static inline enum status bus_record_next(struct bytes *rest, uint8_t *ret_type, struct bytes *ret_body)
{
    if (rest->size == 0)
        return STATUS_NOT_FOUND;
    if (rest->size < BUS_RECORD_HEADER_SIZE)
        return STATUS_PROTOCOL;
    uint32_t word = get_u32_le(rest->data);
    size_t size = word & 0xffff;
    if (word >> 24 != 0 || size > rest->size - BUS_RECORD_HEADER_SIZE)
        return STATUS_PROTOCOL;
    *ret_type = (uint8_t)(word >> 16);
    *ret_body = bytes_of(rest->data + BUS_RECORD_HEADER_SIZE, size);
    rest->data += BUS_RECORD_HEADER_SIZE + size;
    rest->size -= BUS_RECORD_HEADER_SIZE + size;
    return STATUS_OK;
}

#endif
