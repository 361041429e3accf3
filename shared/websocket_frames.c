/*
 * Receiving and heading WebSocket frames with wslay's frame layer. wslay parses and unmasks; here is what a
 * server of MQTT allows of it, and the book of what wslay holds, which tells when its context is free for
 * another connection. Workers.
 */
#include "shared/websocket_frames.h"

#include <assert.h>
#include <stdlib.h>
#include <wslay/wslay.h>

#define READERS_KEPT                                                                                         \
    16 /* for connections that are read next; one is enough but for frames that come in parts */

struct websocket_reader {
    struct websocket_reader *next; /* on the pool's list */
    wslay_frame_context_ptr wslay; /* owned */
    const uint8_t *from;           /* borrowed during a call: what wslay has not taken yet */
    size_t left;
    size_t held;        /* bytes that wslay took and gave no account of yet: less than a header */
    uint64_t remaining; /* payload of the frame under way that has not come yet */
    uint8_t opcode;     /* of that frame */
    bool last;          /* it ends its message */
    bool in_frame;
    uint8_t control_size;
    uint8_t control[WEBSOCKET_CONTROL_MAX]; /* payload of a control frame under way */
};

struct websocket_frames {
    struct websocket_reader *free;
    unsigned free_count;
    wslay_frame_context_ptr sender; /* owned; it makes the headers of all connections */
    uint8_t header[WEBSOCKET_HEADER_MAX];
    size_t header_size;
};

/* wslay's callbacks
 * ----------------------------------------------------------------------------------------- */

static ssize_t on_wslay_receive(uint8_t *to, size_t size, int flags, void *context)
{
    (void)flags;
    struct websocket_reader *reader = context;
    size_t taken = size < reader->left ? size : reader->left;
    if (taken == 0)
        return -1;
    memcpy(to, reader->from, taken);
    reader->from += taken;
    reader->left -= taken;
    reader->held += taken;
    return (ssize_t)taken;
}

/* The first call has the header, the second the payload, which goes its own way. */
static ssize_t on_wslay_send(const uint8_t *from, size_t size, int flags, void *context)
{
    (void)flags;
    struct websocket_frames *frames = context;
    if (frames->header_size == 0) {
        assert(size <= sizeof frames->header);
        memcpy(frames->header, from, size);
        frames->header_size = size;
    }
    return (ssize_t)size;
}

/* The pool
 * -------------------------------------------------------------------------------------------------- */

static void reader_free(struct websocket_reader *reader)
{
    wslay_frame_context_free(reader->wslay);
    free(reader);
}

static struct websocket_reader *reader_take(struct websocket_frames *frames)
{
    static const struct wslay_frame_callbacks callbacks = {.recv_callback = on_wslay_receive};
    struct websocket_reader *reader = frames->free;
    if (reader != NULL) {
        frames->free = reader->next;
        frames->free_count--;
        return reader;
    }
    reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return NULL;
    if (wslay_frame_context_init(&reader->wslay, &callbacks, reader) != 0) {
        free(reader);
        return NULL;
    }
    return reader;
}

/* Takes one that stands between two frames. */
static void reader_give_back(struct websocket_frames *frames, struct websocket_reader *reader)
{
    if (frames->free_count == READERS_KEPT) {
        reader_free(reader);
        return;
    }
    reader->next = frames->free;
    frames->free = reader;
    frames->free_count++;
}

enum status websocket_frames_new(struct websocket_frames **ret_frames)
{
    static const struct wslay_frame_callbacks callbacks = {.send_callback = on_wslay_send};
    struct websocket_frames *frames = calloc(1, sizeof *frames);
    if (frames == NULL)
        return STATUS_NO_MEMORY;
    if (wslay_frame_context_init(&frames->sender, &callbacks, frames) != 0) {
        free(frames);
        return STATUS_NO_MEMORY;
    }
    *ret_frames = frames;
    return STATUS_OK;
}

void websocket_frames_free(struct websocket_frames **frames)
{
    if (*frames == NULL)
        return;
    for (struct websocket_reader *reader = (*frames)->free, *next; reader != NULL; reader = next) {
        next = reader->next;
        reader_free(reader);
    }
    wslay_frame_context_free((*frames)->sender);
    free(*frames);
    *frames = NULL;
}

void websocket_incoming_done(struct websocket_frames *frames, struct websocket_incoming *incoming)
{
    (void)frames;
    if (incoming->reader != NULL)
        reader_free(incoming->reader);
    *incoming = (struct websocket_incoming){0};
}

/* Receiving
 * ------------------------------------------------------------------------------------------------- */

static enum status fault(struct websocket_fault *ret_fault, enum websocket_code code, const char *text)
{
    *ret_fault = (struct websocket_fault){code, text};
    return STATUS_PROTOCOL;
}

static bool is_control(uint8_t opcode)
{
    return (opcode & 0x8) != 0;
}

static size_t header_size_of(const struct wslay_frame_iocb *frame)
{
    size_t extended = frame->payload_length < 126 ? 0 : frame->payload_length <= UINT16_MAX ? 2 : 8;
    return 2 + extended + (frame->mask ? 4 : 0);
}

/* Is a frame of this kind right here? wslay has checked lengths and that control frames are whole. */
static enum status check_opcode(
    const struct websocket_incoming *incoming, uint8_t opcode, struct websocket_fault *ret_fault)
{
    switch (opcode) {
    case WEBSOCKET_BINARY:
        return incoming->in_message
                   ? fault(ret_fault, WEBSOCKET_PROTOCOL_ERROR, "a new message within a fragmented one")
                   : STATUS_OK;
    case WEBSOCKET_CONTINUATION:
        return incoming->in_message
                   ? STATUS_OK
                   : fault(ret_fault, WEBSOCKET_PROTOCOL_ERROR, "a continuation of no message");
    case WEBSOCKET_TEXT: /* [MQTT-6.0.0-1] */
        return fault(ret_fault, WEBSOCKET_UNSUPPORTED_DATA, "a text frame, where MQTT has binary ones");
    case WEBSOCKET_CLOSE:
    case WEBSOCKET_PING:
    case WEBSOCKET_PONG:
        return STATUS_OK;
    default:
        return fault(ret_fault, WEBSOCKET_PROTOCOL_ERROR, "an unknown kind of frame");
    }
}

static enum status begin_frame(struct websocket_incoming *incoming, const struct wslay_frame_iocb *frame,
    uint64_t limit, struct websocket_fault *ret_fault)
{
    struct websocket_reader *reader = incoming->reader;
    if (frame->rsv != 0)
        return fault(ret_fault, WEBSOCKET_PROTOCOL_ERROR, "a frame of an extension that was not agreed on");
    if (!frame->mask)
        return fault(ret_fault, WEBSOCKET_PROTOCOL_ERROR, "a frame without mask");
    enum status status = check_opcode(incoming, frame->opcode, ret_fault);
    if (status != STATUS_OK)
        return status;
    if (!is_control(frame->opcode)) {
        if (frame->payload_length > limit - incoming->message_size)
            return fault(ret_fault, WEBSOCKET_TOO_BIG, "a message larger than the limit");
        incoming->message_size += frame->payload_length;
        incoming->in_message = true;
    }
    reader->in_frame = true;
    reader->held -= header_size_of(frame);
    reader->opcode = frame->opcode;
    reader->last = frame->fin;
    reader->remaining = frame->payload_length;
    return STATUS_OK;
}

/* A close frame has nothing, or a code that may be sent and a reason (section 7.4). */
static bool is_close(struct bytes payload)
{
    if (payload.size < 2)
        return payload.size == 0;
    unsigned code = get_u16_be(payload.data);
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

/* STATUS_CLOSED: it was the close frame. */
static enum status end_frame(struct websocket_incoming *incoming, websocket_on_control *on_control,
    void *context, struct websocket_fault *ret_fault)
{
    struct websocket_reader *reader = incoming->reader;
    reader->in_frame = false;
    if (!is_control(reader->opcode)) {
        incoming->in_message = !reader->last;
        if (reader->last)
            incoming->message_size = 0;
        return STATUS_OK;
    }
    struct bytes payload = bytes_of(reader->control, reader->control_size);
    reader->control_size = 0;
    if (reader->opcode == WEBSOCKET_CLOSE && !is_close(payload))
        return fault(ret_fault, WEBSOCKET_PROTOCOL_ERROR, "a malformed close frame");
    on_control(context, (enum websocket_opcode)reader->opcode, payload);
    return reader->opcode == WEBSOCKET_CLOSE ? STATUS_CLOSED : STATUS_OK;
}

/* Payload that wslay has unmasked: to its place, which never runs ahead of what was taken. */
static void take_payload(
    struct websocket_reader *reader, const struct wslay_frame_iocb *frame, uint8_t *data, size_t *size)
{
    reader->held -= frame->data_length;
    reader->remaining -= frame->data_length;
    if (frame->data_length == 0)
        return;
    if (is_control(reader->opcode)) {
        memcpy(reader->control + reader->control_size, frame->data, frame->data_length);
        reader->control_size = (uint8_t)(reader->control_size + frame->data_length);
    } else {
        memcpy(data + *size, frame->data, frame->data_length);
        *size += frame->data_length;
    }
}

static enum status receive_frames(struct websocket_incoming *incoming, uint64_t limit, uint8_t *data,
    websocket_on_control *on_control, void *context, size_t *size, struct websocket_fault *ret_fault)
{
    struct websocket_reader *reader = incoming->reader;
    for (;;) {
        struct wslay_frame_iocb frame;
        ssize_t got = wslay_frame_recv(reader->wslay, &frame);
        if (got == WSLAY_ERR_WANT_READ)
            return STATUS_OK;
        if (got < 0)
            return fault(ret_fault, WEBSOCKET_PROTOCOL_ERROR, "a malformed frame");
        enum status status = STATUS_OK;
        if (!reader->in_frame)
            status = begin_frame(incoming, &frame, limit, ret_fault);
        if (status != STATUS_OK)
            return status;
        take_payload(reader, &frame, data, size);
        if (reader->remaining == 0)
            status = end_frame(incoming, on_control, context, ret_fault);
        if (status != STATUS_OK)
            return status;
    }
}

enum status websocket_receive(struct websocket_frames *frames, struct websocket_incoming *incoming,
    uint64_t limit, uint8_t *data, size_t size, websocket_on_control *on_control, void *context,
    size_t *ret_size, struct websocket_fault *ret_fault)
{
    *ret_size = 0;
    if (incoming->reader == NULL)
        incoming->reader = reader_take(frames);
    struct websocket_reader *reader = incoming->reader;
    if (reader == NULL)
        return fault(ret_fault, WEBSOCKET_INTERNAL_ERROR, "out of memory");
    reader->from = data;
    reader->left = size;
    enum status status = receive_frames(incoming, limit, data, on_control, context, ret_size, ret_fault);
    if (status != STATUS_OK) {
        websocket_incoming_done(frames, incoming);
    } else if (!reader->in_frame && reader->held == 0) {
        reader_give_back(frames, reader);
        incoming->reader = NULL;
    }
    return status;
}

size_t websocket_put_header(struct websocket_frames *frames, enum websocket_opcode opcode,
    uint64_t payload_size, uint8_t to[WEBSOCKET_HEADER_MAX])
{
    static const uint8_t payload[1]; /* not looked at */
    struct wslay_frame_iocb frame = {.fin = 1,
        .opcode = (uint8_t)opcode,
        .payload_length = payload_size,
        .data = payload,
        .data_length = payload_size};
    frames->header_size = 0;
    ssize_t sent = wslay_frame_send(frames->sender, &frame);
    assert(sent == (ssize_t)payload_size);
    memcpy(to, frames->header, frames->header_size);
    return frames->header_size;
}
