/*
 * WebSocket frames from a client: whatever the bytes, nothing faults, and the payload is the same whether
 * they come at once or in pieces (the first byte says how large). Seeds: websocket_frames.hex.
 */
#include "shared/websocket_frames.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LIMIT 5000

struct outcome {
    uint8_t *payload;
    size_t size;
    size_t controls; /* bytes of control payloads */
    enum status status;
};

static void on_control(void *context, enum websocket_opcode opcode, struct bytes payload)
{
    struct outcome *outcome = context;
    assert(opcode >= WEBSOCKET_CLOSE && payload.size <= WEBSOCKET_CONTROL_MAX);
    for (size_t i = 0; i < payload.size; i++)
        outcome->controls += payload.data[i];
}

static struct outcome receive(struct websocket_frames *frames, struct bytes input, size_t step)
{
    struct outcome outcome = {.payload = malloc(input.size + 1)};
    struct websocket_incoming incoming = {0};
    for (size_t at = 0; at < input.size && outcome.status == STATUS_OK; at += step) {
        size_t size = input.size - at < step ? input.size - at : step;
        size_t got = 0;
        struct websocket_fault fault = {0, NULL};
        uint8_t *block = malloc(size);
        memcpy(block, input.data + at, size);
        outcome.status =
            websocket_receive(frames, &incoming, LIMIT, block, size, on_control, &outcome, &got, &fault);
        assert(got <= size && (outcome.status != STATUS_PROTOCOL || fault.text != NULL));
        memcpy(outcome.payload + outcome.size, block, got);
        outcome.size += got;
        free(block);
    }
    websocket_incoming_done(frames, &incoming);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct websocket_frames *frames = NULL;
    if (size < 2 || websocket_frames_new(&frames) != STATUS_OK)
        return 0;
    struct bytes input = bytes_of(data + 1, size - 1);
    struct outcome whole = receive(frames, input, input.size);
    struct outcome pieces = receive(frames, input, 1 + (size_t)data[0]);
    assert(whole.status == pieces.status && whole.size == pieces.size && whole.controls == pieces.controls);
    assert(memcmp(whole.payload, pieces.payload, whole.size) == 0);
    free(whole.payload);
    free(pieces.payload);
    websocket_frames_free(&frames);
    return 0;
}
