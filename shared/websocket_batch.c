/*
 * Outgoing bytes as WebSocket frames, one for each MQTT packet. Pure: no socket in sight. Workers.
 */
#include "shared/websocket_batch.h"

#include <string.h>

void websocket_source_advance(struct websocket_source *source, size_t taken)
{
    taken += source->skip;
    while (source->count > 0 && taken >= source->pieces->iov_len) {
        taken -= source->pieces->iov_len;
        source->pieces++;
        source->count--;
    }
    source->skip = taken;
}

int websocket_source_pieces(const struct websocket_source *source, uint64_t limit, struct iovec *to, int room)
{
    int count = 0;
    size_t skip = source->skip;
    for (int i = 0; i < source->count && count < room && limit > 0; i++, skip = 0) {
        size_t size = source->pieces[i].iov_len - skip;
        if (size > limit)
            size = (size_t)limit;
        if (size > 0)
            to[count++] = (struct iovec){(uint8_t *)source->pieces[i].iov_base + skip, size};
        limit -= size;
    }
    return count;
}

size_t websocket_source_size(const struct websocket_source *source)
{
    size_t size = 0;
    for (int i = 0; i < source->count; i++)
        size += source->pieces[i].iov_len;
    return size - source->skip;
}

/* Copies `size` bytes; false: there are not so many. */
static bool source_copy(const struct websocket_source *source, uint8_t *to, size_t size)
{
    size_t skip = source->skip;
    for (int i = 0; i < source->count && size > 0; i++, skip = 0) {
        size_t part = source->pieces[i].iov_len - skip < size ? source->pieces[i].iov_len - skip : size;
        memcpy(to, (const uint8_t *)source->pieces[i].iov_base + skip, part);
        to += part;
        size -= part;
    }
    return size == 0;
}

uint64_t websocket_packet_size(const struct websocket_source *source)
{
    uint64_t length = 0;
    uint8_t head[5];
    for (size_t i = 1; i < sizeof head && source_copy(source, head, i + 1); i++) {
        length |= (uint64_t)(head[i] & 0x7f) << 7 * (i - 1);
        if ((head[i] & 0x80) == 0)
            return 1 + i + length;
    }
    return 0;
}

void websocket_batch_fill(
    struct websocket_frames *frames, struct websocket_source source, struct websocket_batch *ret_batch)
{
    struct websocket_batch *batch = ret_batch;
    batch->size = batch->count = 0;
    while (source.count > 0 && batch->count < WEBSOCKET_BATCH_MAX) {
        uint8_t *to = batch->bytes + batch->size;
        uint64_t size = websocket_packet_size(&source);
        if (size == 0 || size > WEBSOCKET_BATCH_SIZE - WEBSOCKET_HEADER_MAX ||
            batch->size + WEBSOCKET_HEADER_MAX + size > WEBSOCKET_BATCH_SIZE)
            return;
        size_t header_size = websocket_put_header(frames, WEBSOCKET_BINARY, size, to);
        if (!source_copy(&source, to + header_size, (size_t)size))
            return;
        websocket_source_advance(&source, (size_t)size);
        batch->frames[batch->count].header_size = (uint16_t)header_size;
        batch->frames[batch->count++].payload_size = (uint16_t)size;
        batch->size += header_size + (size_t)size;
    }
}
