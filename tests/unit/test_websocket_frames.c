/*
 * WebSocket frames: the payload comes out the same wherever the stream is cut, control frames come between,
 * every breach of the rules has its code, and between frames a connection holds nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shared/websocket_frames.h"
#include "tests/unit/websocket_client.h"

#include <stdio.h>
#include <stdlib.h>

#define LIMIT 200000

static struct websocket_frames *frames;

struct seen {
    char controls[200]; /* "9:payload " of each */
    uint8_t payload[2 * LIMIT];
    size_t size;
    struct websocket_fault fault;
    enum status status;
};

static void on_control(void *context, enum websocket_opcode opcode, struct bytes payload)
{
    struct seen *seen = context;
    size_t used = strlen(seen->controls);
    snprintf(seen->controls + used, sizeof seen->controls - used, "%x:%.*s ", (unsigned)opcode,
        (int)payload.size, (const char *)payload.data);
}

/* One read of `size` bytes, in a block of exactly that size. */
static void receive(struct seen *seen, struct websocket_incoming *incoming, const uint8_t *from, size_t size)
{
    uint8_t *block = malloc(size > 0 ? size : 1);
    size_t got = 0;
    memcpy(block, from, size);
    seen->status =
        websocket_receive(frames, incoming, LIMIT, block, size, on_control, seen, &got, &seen->fault);
    assert_true(got <= size && seen->size + got <= sizeof seen->payload);
    memcpy(seen->payload + seen->size, block, got);
    seen->size += got;
    free(block);
}

static struct seen *receive_in_steps(const uint8_t *stream, size_t size, size_t step)
{
    struct seen *seen = calloc(1, sizeof *seen);
    struct websocket_incoming incoming = {0};
    for (size_t at = 0; at < size && seen->status == STATUS_OK; at += step)
        receive(seen, &incoming, stream + at, size - at < step ? size - at : step);
    websocket_incoming_done(frames, &incoming);
    return seen;
}

static void messages_come_whole_however_they_are_cut(void **state)
{
    (void)state;
    static uint8_t stream[100000], large[70000];
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (uint8_t)(i * 7);
    size_t size = 0;
    size += put_text_frame(stream + size, 0x82, "one");
    size += put_text_frame(stream + size, 0x02, "tw");
    size += put_text_frame(stream + size, 0x89, "ping");
    size += put_text_frame(stream + size, 0x00, "");
    size += put_text_frame(stream + size, 0x8a, "");
    size += put_text_frame(stream + size, 0x80, "o");
    size += put_text_frame(stream + size, 0x82, "");
    size += put_frame(stream + size, (struct frame_wish){.first = 0x82, .payload = large, .size = 300});
    size +=
        put_frame(stream + size, (struct frame_wish){.first = 0x82, .payload = large, .size = sizeof large});
    size += put_text_frame(stream + size, 0x89, "last");
    static const size_t steps[] = {1, 2, 3, 5, 7, 13, 100, 4095, 4096, 4097, 65536, sizeof stream};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct seen *seen = receive_in_steps(stream, size, steps[i]);
        assert_int_equal(seen->status, STATUS_OK);
        assert_string_equal(seen->controls, "9:ping a: 9:last ");
        assert_int_equal(seen->size, 6 + 300 + sizeof large);
        assert_memory_equal(seen->payload, "onetwo", 6);
        assert_memory_equal(seen->payload + 6, large, 300);
        assert_memory_equal(seen->payload + 306, large, sizeof large);
        free(seen);
    }
}

static void between_frames_a_connection_holds_nothing(void **state)
{
    (void)state;
    uint8_t stream[64];
    struct seen *seen = calloc(1, sizeof *seen);
    struct websocket_incoming incoming = {0};
    size_t first = put_text_frame(stream, 0x02, "ab");
    size_t size = first + put_text_frame(stream + first, 0x80, "c");
    for (size_t cut = 1; cut < size; cut++) {
        receive(seen, &incoming, stream, cut);
        assert_int_equal(incoming.reader == NULL, cut == first);
        receive(seen, &incoming, stream + cut, size - cut);
        assert_null(incoming.reader);
        assert_false(incoming.in_message);
    }
    assert_int_equal(seen->size, 3 * (size - 1));
    free(seen);
}

/* Two frames, good payload first: it must come out all the same. */
static void breaks(struct frame_wish before, struct frame_wish wish, enum websocket_code code)
{
    static uint8_t stream[1000];
    size_t size = put_text_frame(stream, 0x82, "good");
    if (before.first != 0)
        size += put_frame(stream + size, before);
    size += put_frame(stream + size, wish);
    for (size_t step = 1; step <= size; step++) {
        struct seen *seen = receive_in_steps(stream, size, step);
        assert_int_equal(seen->status, STATUS_PROTOCOL);
        assert_int_equal(seen->fault.code, code);
        assert_non_null(seen->fault.text);
        assert_memory_equal(seen->payload, "good", 4);
        free(seen);
    }
}

static void every_breach_has_its_code(void **state)
{
    (void)state;
    const struct frame_wish none = {0}, begun = {.first = 0x02, .payload = "x", .size = 1};
    uint8_t many[130] = {0};
    breaks(none, (struct frame_wish){.first = 0x81, .payload = "x", .size = 1}, WEBSOCKET_UNSUPPORTED_DATA);
    breaks(none, (struct frame_wish){.first = 0x01, .payload = "x", .size = 1}, WEBSOCKET_UNSUPPORTED_DATA);
    breaks(none, (struct frame_wish){.first = 0x82, .payload = "x", .size = 1, .unmasked = true},
        WEBSOCKET_PROTOCOL_ERROR);
    breaks(none, (struct frame_wish){.first = 0x80, .payload = "x", .size = 1}, WEBSOCKET_PROTOCOL_ERROR);
    breaks(begun, (struct frame_wish){.first = 0x82, .payload = "x", .size = 1}, WEBSOCKET_PROTOCOL_ERROR);
    breaks(none, (struct frame_wish){.first = 0x83, .payload = "x", .size = 1}, WEBSOCKET_PROTOCOL_ERROR);
    breaks(none, (struct frame_wish){.first = 0x8b, .payload = "x", .size = 1}, WEBSOCKET_PROTOCOL_ERROR);
    breaks(none, (struct frame_wish){.first = 0xc2, .payload = "x", .size = 1}, WEBSOCKET_PROTOCOL_ERROR);
    breaks(none, (struct frame_wish){.first = 0x92, .payload = "x", .size = 1}, WEBSOCKET_PROTOCOL_ERROR);
    breaks(none, (struct frame_wish){.first = 0x09, .payload = "x", .size = 1}, WEBSOCKET_PROTOCOL_ERROR);
    breaks(none, (struct frame_wish){.first = 0x89, .payload = many, .size = 126}, WEBSOCKET_PROTOCOL_ERROR);
    breaks(none, (struct frame_wish){.first = 0x88, .payload = "x", .size = 1}, WEBSOCKET_PROTOCOL_ERROR);
    breaks(
        none, (struct frame_wish){.first = 0x88, .payload = "\x03\xed", .size = 2}, WEBSOCKET_PROTOCOL_ERROR);
}

static void lengths_are_written_the_short_way(void **state)
{
    (void)state;
    static const uint8_t long_126[] = {0x82, 0xfe, 0x00, 0x7d, 0, 0, 0, 0};
    static const uint8_t long_127[] = {0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0};
    static const uint8_t negative[] = {0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    static const struct bytes wrong[] = {
        {long_126, sizeof long_126}, {long_127, sizeof long_127}, {negative, sizeof negative}};
    for (size_t i = 0; i < 3; i++) {
        struct seen *seen = receive_in_steps(wrong[i].data, wrong[i].size, wrong[i].size);
        assert_int_equal(seen->status, STATUS_PROTOCOL);
        assert_int_equal(seen->fault.code, WEBSOCKET_PROTOCOL_ERROR);
        free(seen);
    }
}

static void a_message_has_a_limit(void **state)
{
    (void)state;
    static uint8_t stream[2 * LIMIT + 1000], payload[LIMIT + 1];
    size_t size = put_frame(stream, (struct frame_wish){.first = 0x82, .payload = payload, .size = LIMIT});
    size +=
        put_frame(stream + size, (struct frame_wish){.first = 0x02, .payload = payload, .size = LIMIT - 1});
    size += put_text_frame(stream + size, 0x80, "x");
    struct seen *seen = receive_in_steps(stream, size, 10000);
    assert_int_equal(seen->status, STATUS_OK);
    assert_int_equal(seen->size, 2 * LIMIT);
    free(seen);
    size = put_frame(stream, (struct frame_wish){.first = 0x82, .payload = payload, .size = LIMIT + 1});
    seen = receive_in_steps(stream, 100, 100);
    assert_int_equal(seen->status, STATUS_PROTOCOL);
    assert_int_equal(seen->fault.code, WEBSOCKET_TOO_BIG);
    free(seen);
    size = put_frame(stream, (struct frame_wish){.first = 0x02, .payload = payload, .size = LIMIT - 1});
    size += put_text_frame(stream + size, 0x80, "xx");
    seen = receive_in_steps(stream, size, 10000);
    assert_int_equal(seen->status, STATUS_PROTOCOL);
    assert_int_equal(seen->fault.code, WEBSOCKET_TOO_BIG);
    free(seen);
    uint8_t huge[15] = {0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0};
    seen = receive_in_steps(huge, sizeof huge, sizeof huge);
    assert_int_equal(seen->fault.code, WEBSOCKET_TOO_BIG);
    free(seen);
}

static void the_close_frame_ends_it(void **state)
{
    (void)state;
    uint8_t stream[100];
    size_t size = put_text_frame(stream, 0x82, "good");
    size += put_text_frame(stream + size, 0x88, "\x03\xe8\x62ye");
    size += put_text_frame(stream + size, 0x82, "too late");
    struct seen *seen = receive_in_steps(stream, size, size);
    assert_int_equal(seen->status, STATUS_CLOSED);
    assert_string_equal(seen->controls, "8:\x03\xe8\x62ye ");
    assert_int_equal(seen->size, 4);
    free(seen);
    size = put_text_frame(stream, 0x88, "");
    seen = receive_in_steps(stream, size, 1);
    assert_int_equal(seen->status, STATUS_CLOSED);
    free(seen);
}

static void headers_are_made_for_every_size(void **state)
{
    (void)state;
    uint8_t header[WEBSOCKET_HEADER_MAX];
    assert_int_equal(websocket_put_header(frames, WEBSOCKET_BINARY, 0, header), 2);
    assert_memory_equal(header, "\x82\x00", 2);
    assert_int_equal(websocket_put_header(frames, WEBSOCKET_PONG, 125, header), 2);
    assert_memory_equal(header, "\x8a\x7d", 2);
    assert_int_equal(websocket_put_header(frames, WEBSOCKET_BINARY, 126, header), 4);
    assert_memory_equal(header, "\x82\x7e\x00\x7e", 4);
    assert_int_equal(websocket_put_header(frames, WEBSOCKET_BINARY, 65535, header), 4);
    assert_memory_equal(header, "\x82\x7e\xff\xff", 4);
    assert_int_equal(websocket_put_header(frames, WEBSOCKET_BINARY, 65536, header), 10);
    assert_memory_equal(header, "\x82\x7f\0\0\0\0\0\x01\0\0", 10);
}

static int set_up(void **state)
{
    (void)state;
    return websocket_frames_new(&frames) == STATUS_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    websocket_frames_free(&frames);
    return frames == NULL ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_whole_however_they_are_cut),
        cmocka_unit_test(between_frames_a_connection_holds_nothing),
        cmocka_unit_test(every_breach_has_its_code),
        cmocka_unit_test(lengths_are_written_the_short_way),
        cmocka_unit_test(a_message_has_a_limit),
        cmocka_unit_test(the_close_frame_ends_it),
        cmocka_unit_test(headers_are_made_for_every_size),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
