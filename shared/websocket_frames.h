/*
 * WebSocket frames (RFC 6455 section 5) of a server, by libwslay: what arrives becomes the bytes of binary
 * messages, whatever way it is cut, and what is sent gets its header. Workers; no I/O. wslay's context of a
 * frame has a buffer of 4 KiB: it comes from a pool and belongs to a connection only while a frame is half
 * there, so that an idle connection has none and reading allocates nothing.
 */
#ifndef SHARED_WEBSOCKET_FRAMES_H
#define SHARED_WEBSOCKET_FRAMES_H

#include "shared/bytes.h"
#include "shared/status.h"

enum websocket_opcode { /* section 5.2 */
    WEBSOCKET_CONTINUATION = 0x0,
    WEBSOCKET_TEXT = 0x1,
    WEBSOCKET_BINARY = 0x2,
    WEBSOCKET_CLOSE = 0x8,
    WEBSOCKET_PING = 0x9,
    WEBSOCKET_PONG = 0xa,
};

enum websocket_code { /* why a connection closes, section 7.4.1 */
    WEBSOCKET_NORMAL = 1000,
    WEBSOCKET_PROTOCOL_ERROR = 1002,
    WEBSOCKET_UNSUPPORTED_DATA = 1003,
    WEBSOCKET_TOO_BIG = 1009,
    WEBSOCKET_INTERNAL_ERROR = 1011,
};

#define WEBSOCKET_HEADER_MAX  10  /* of a frame from the server: no mask */
#define WEBSOCKET_CONTROL_MAX 125 /* payload of a control frame */

/* One per worker. */
struct websocket_frames;
enum status websocket_frames_new(struct websocket_frames **ret_frames) CHECK_RESULT;
/* After the last connection that borrows it. */
void websocket_frames_free(struct websocket_frames **frames);

/* What a connection has received in part; starts zeroed. */
struct websocket_incoming {
    struct websocket_reader *reader; /* owned; NULL between frames */
    uint64_t message_size;           /* so far, of the message under way */
    bool in_message;                 /* its last frame has not come yet */
};
void websocket_incoming_done(struct websocket_frames *frames, struct websocket_incoming *incoming);

/* Takes a whole control frame: ping, pong or close. */
typedef void websocket_on_control(void *context, enum websocket_opcode opcode, struct bytes payload);

struct websocket_fault {
    enum websocket_code code;
    const char *text; /* static */
};

/*
 * Replaces `size` received bytes by the payload of data frames in them: *ret_size bytes at the same place,
 * always written. STATUS_OK: all was taken. STATUS_CLOSED: the client's close frame (on_control has it); what
 * came behind is dropped. STATUS_PROTOCOL: *ret_fault says why; what came before it is good. After the latter
 * two this connection receives no more. A message of more than `limit` bytes is a fault.
 */
enum status websocket_receive(struct websocket_frames *frames, struct websocket_incoming *incoming,
    uint64_t limit, uint8_t *data, size_t size, websocket_on_control *on_control, void *context,
    size_t *ret_size, struct websocket_fault *ret_fault) CHECK_RESULT;

/* Writes the header of a whole message in one frame; returns its size. */
size_t websocket_put_header(struct websocket_frames *frames, enum websocket_opcode opcode,
    uint64_t payload_size, uint8_t to[WEBSOCKET_HEADER_MAX]);

#endif
