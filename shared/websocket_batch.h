/*
 * Outgoing bytes as WebSocket frames, one for each MQTT packet: where they are taken from, where the packets
 * end, and many small frames put together for one write. Pure. Workers.
 */
#ifndef SHARED_WEBSOCKET_BATCH_H
#define SHARED_WEBSOCKET_BATCH_H

#include "shared/websocket_frames.h"

#include <sys/uio.h>

/* Where the caller's bytes are taken from. */
struct websocket_source {
    const struct iovec *pieces;
    int count;
    size_t skip; /* bytes of the first piece that are taken */
};

/* Steps over `taken` bytes and whatever pieces are empty then. */
void websocket_source_advance(struct websocket_source *source, size_t taken);
/* Bytes left. */
size_t websocket_source_size(const struct websocket_source *source);
/* Up to `limit` bytes of the source as pieces; returns their number. */
int websocket_source_pieces(
    const struct websocket_source *source, uint64_t limit, struct iovec *to, int room);

/* Size of the MQTT packet that begins here; 0: too little of it is here to know. */
uint64_t websocket_packet_size(const struct websocket_source *source);

#define WEBSOCKET_BATCH_SIZE 16384 /* one TLS record */
#define WEBSOCKET_BATCH_MAX  256

/* Whole frames, one after the other. */
struct websocket_batch {
    size_t size;
    unsigned count;
    struct {
        uint16_t header_size, payload_size;
    } frames[WEBSOCKET_BATCH_MAX];
    uint8_t bytes[WEBSOCKET_BATCH_SIZE];
};

/* Frames as many of the next packets as fit. None: the next packet is too large, or not whole. */
void websocket_batch_fill(
    struct websocket_frames *frames, struct websocket_source source, struct websocket_batch *ret_batch);

#endif
