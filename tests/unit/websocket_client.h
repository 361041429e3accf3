/* A WebSocket client's frames, for tests: masked, of any kind, also wrong ones. */
#ifndef TESTS_UNIT_WEBSOCKET_CLIENT_H
#define TESTS_UNIT_WEBSOCKET_CLIENT_H

#include "shared/bytes.h"

#include <assert.h>

struct frame_wish {
    uint8_t first; /* FIN, RSV bits and opcode: 0x82 is a whole binary message */
    const void *payload;
    size_t size;
    bool unmasked;
};

/* Writes the frame; returns its size. */
static inline size_t put_frame(uint8_t *to, struct frame_wish wish)
{
    static const uint8_t mask[4] = {0x12, 0x80, 0xff, 0x07};
    size_t at = 0;
    uint8_t masked = wish.unmasked ? 0 : 0x80;
    to[at++] = wish.first;
    if (wish.size < 126) {
        to[at++] = (uint8_t)(masked | wish.size);
    } else if (wish.size <= UINT16_MAX) {
        to[at++] = masked | 126;
        put_u16_be(to + at, (uint16_t)wish.size);
        at += 2;
    } else {
        to[at++] = masked | 127;
        put_u32_be(to + at, 0);
        put_u32_be(to + at + 4, (uint32_t)wish.size);
        at += 8;
    }
    if (!wish.unmasked) {
        memcpy(to + at, mask, 4);
        at += 4;
    }
    for (size_t i = 0; i < wish.size; i++)
        to[at + i] = ((const uint8_t *)wish.payload)[i] ^ (wish.unmasked ? 0 : mask[i % 4]);
    return at + wish.size;
}

static inline size_t put_text_frame(uint8_t *to, uint8_t first, const char *payload)
{
    return put_frame(to, (struct frame_wish){.first = first, .payload = payload, .size = strlen(payload)});
}

#endif
