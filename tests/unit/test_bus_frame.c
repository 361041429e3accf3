/* bus_frame and crc32c: what was written is read back; anything else is told apart without a fault. */
#include "shared/bus_frame.h"
#include "shared/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void checksum_has_the_known_value(void **state)
{
    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c_portable(0, "123456789", 9), 0xe3069283);
    uint8_t zeros[32] = {0};
    assert_int_equal(crc32c(0, zeros, sizeof zeros), 0x8a9136aa);
}

static void instruction_and_tables_agree_on_all_sizes(void **state)
{
    (void)state;
    enum { SIZE = 20000 };
    uint8_t *bytes = malloc(SIZE);
    uint32_t random = 1;
    for (size_t i = 0; i < SIZE; i++) {
        random = random * 1664525 + 1013904223;
        bytes[i] = (uint8_t)(random >> 24);
    }
    for (size_t size = 0; size < 4000; size++)
        assert_int_equal(crc32c(0, bytes + size % 7, size), crc32c_portable(0, bytes + size % 7, size));
    for (size_t size = 4000; size <= SIZE; size += 397)
        assert_int_equal(crc32c(7, bytes, size), crc32c_portable(7, bytes, size));
    uint32_t half = crc32c(0, bytes, 9000);
    assert_int_equal(crc32c(half, bytes + 9000, SIZE - 9000), crc32c(0, bytes, SIZE));
    free(bytes);
}

static size_t frame_make(uint8_t *at, const char *const *bodies, size_t count)
{
    uint8_t *to = at + BUS_FRAME_HEADER_SIZE;
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(bodies[i]);
        to = bus_record_begin(to, (uint8_t)(i + 1), size);
        memcpy(to, bodies[i], size);
        to += size;
    }
    struct bus_frame frame = {
        .type = BUS_FRAME_RECORDS,
        .length = (uint32_t)(to - at),
        .offset = 8 * 1234567890123,
        .origin = {.incarnation = 0x0102030405060708, .node = 3, .slot = 5},
    };
    bus_frame_finish(at, &frame);
    return frame.length;
}

static void a_frame_comes_back_whole(void **state)
{
    (void)state;
    uint8_t at[256];
    const char *const bodies[] = {"one", "", "three"};
    size_t length = frame_make(at, bodies, 3);
    struct bus_frame frame;
    assert_int_equal(bus_frame_parse(bytes_of(at, sizeof at), &frame), STATUS_OK);
    assert_int_equal(frame.length, length);
    assert_int_equal(frame.offset, 8 * 1234567890123);
    assert_int_equal(frame.origin.incarnation, 0x0102030405060708);
    assert_int_equal(frame.origin.node, 3);
    assert_int_equal(frame.origin.slot, 5);
    assert_true(bus_frame_intact(bytes_of(at, length)));

    struct bytes rest = bytes_of(at + BUS_FRAME_HEADER_SIZE, length - BUS_FRAME_HEADER_SIZE);
    for (uint8_t i = 0; i < 3; i++) {
        uint8_t type;
        struct bytes body = BYTES_NONE;
        assert_int_equal(bus_record_next(&rest, &type, &body), STATUS_OK);
        assert_int_equal(type, i + 1);
        assert_true(bytes_equal(body, bytes_of_text(bodies[i])));
    }
    uint8_t type;
    struct bytes body = BYTES_NONE;
    assert_int_equal(bus_record_next(&rest, &type, &body), STATUS_NOT_FOUND);
}

static void every_flipped_bit_is_found(void **state)
{
    (void)state;
    uint8_t at[256];
    const char *const bodies[] = {"a body", "another"};
    size_t length = frame_make(at, bodies, 2);
    for (size_t bit = 0; bit < length * 8; bit++) {
        at[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct bus_frame frame;
        enum status status = bus_frame_parse(bytes_of(at, length), &frame);
        assert_true(status != STATUS_OK || !bus_frame_intact(bytes_of(at, frame.length)));
        at[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(bus_frame_intact(bytes_of(at, length)));
}

static void a_cut_frame_is_not_read(void **state)
{
    (void)state;
    uint8_t at[256];
    const char *const bodies[] = {"a body"};
    size_t length = frame_make(at, bodies, 1);
    struct bus_frame frame;
    for (size_t size = 0; size < length; size++)
        assert_int_equal(bus_frame_parse(bytes_of(at, size), &frame), STATUS_AGAIN);
}

static void lengths_out_of_range_are_refused(void **state)
{
    (void)state;
    uint8_t at[256];
    const char *const bodies[] = {"a body"};
    frame_make(at, bodies, 1);
    struct bus_frame frame;
    put_u32_le(at + 4, BUS_FRAME_MAX + 1);
    assert_int_equal(bus_frame_parse(bytes_of(at, sizeof at), &frame), STATUS_PROTOCOL);
    put_u32_le(at + 4, BUS_FRAME_HEADER_SIZE - 1);
    assert_int_equal(bus_frame_parse(bytes_of(at, sizeof at), &frame), STATUS_PROTOCOL);
}

static void a_record_never_reaches_past_its_frame(void **state)
{
    (void)state;
    uint8_t type, at[] = {3, 0, 1, 0, 'a', 'b'};
    struct bytes body, rest = bytes_of(at, sizeof at);
    assert_int_equal(bus_record_next(&rest, &type, &body), STATUS_PROTOCOL);
    rest = bytes_of(at, 3);
    assert_int_equal(bus_record_next(&rest, &type, &body), STATUS_PROTOCOL);
    at[0] = 2;
    at[3] = 1;
    rest = bytes_of(at, sizeof at);
    assert_int_equal(bus_record_next(&rest, &type, &body), STATUS_PROTOCOL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksum_has_the_known_value),
        cmocka_unit_test(instruction_and_tables_agree_on_all_sizes),
        cmocka_unit_test(a_frame_comes_back_whole),
        cmocka_unit_test(every_flipped_bit_is_found),
        cmocka_unit_test(a_cut_frame_is_not_read),
        cmocka_unit_test(lengths_out_of_range_are_refused),
        cmocka_unit_test(a_record_never_reaches_past_its_frame),
    };
    return cmocka_run_group_tests_name("bus_frame", tests, NULL, NULL);
}
