/* The encoding of control messages: round trips of every type, and refusal of all that is not exact. */
#include "node/control_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const enum control_type all_types[] = {CONTROL_START, CONTROL_OWN_SLOT, CONTROL_LANE, CONTROL_BEGIN,
    CONTROL_ROUTE_TABLE, CONTROL_PEER_STARTED, CONTROL_PEER_DIED, CONTROL_ADOPT, CONTROL_UNADOPT,
    CONTROL_PING, CONTROL_STOP, CONTROL_READY, CONTROL_PONG, CONTROL_UNADOPTED, CONTROL_GENERATION,
    CONTROL_SWITCHED, CONTROL_REFUSED, CONTROL_SOCKETS, CONTROL_TICKET_KEY, CONTROL_NODE_LANE,
    CONTROL_NODE_WINDOW, CONTROL_NODE_STATUS};
#define TYPES (sizeof all_types / sizeof *all_types)

static unsigned descriptors_of(enum control_type type)
{
    switch (type) {
    case CONTROL_START:
        return START_FD_COUNT;
    case CONTROL_LANE:
        return LANE_FD_COUNT;
    case CONTROL_ROUTE_TABLE:
        return 1;
    case CONTROL_NODE_LANE:
        return NODE_LANE_FD_COUNT;
    case CONTROL_NODE_WINDOW:
        return NODE_WINDOW_FD_COUNT;
    case CONTROL_GENERATION:
        return GENERATION_FD_COUNT;
    case CONTROL_OWN_SLOT:
    case CONTROL_SOCKETS:
    case CONTROL_ADOPT:
        return SLOT_FD_FIRST_SOCKET + 2;
    default:
        return 0;
    }
}

static struct control_message sample(enum control_type type)
{
    struct control_message message = {.type = type,
        .role = 1,
        .slot = 63,
        .workers = 64,
        .listeners = 2,
        .nodes = 3,
        .life = UINT64_C(0x1122334455667788),
        .drop = 1,
        .uid = 65534,
        .gid = 4000000000U,
        .incarnation = UINT64_C(0x0123456789abcdef),
        .number = UINT64_C(0xfedcba9876543210),
        .text = "the key does not fit",
        .descriptor_count = descriptors_of(type)};
    for (unsigned i = 0; i < sizeof message.node_key; i++)
        message.node_key[i] = message.decoy_key[31 - i] = (uint8_t)(i * 7);
    for (unsigned i = 0; i < sizeof message.ticket_key; i++)
        message.ticket_key[i] = (uint8_t)(i * 3);
    for (unsigned i = 0; i < message.descriptor_count; i++)
        message.descriptors[i] = (int)(100 + i);
    return message;
}

static enum status decode(
    const uint8_t *bytes, size_t size, unsigned descriptors, struct control_message *ret)
{
    static const int numbers[CONTROL_DESCRIPTORS_MAX + 1];
    return control_decode(bytes_of(bytes, size), numbers, descriptors, ret);
}

static void start_keeps_every_field(void **state)
{
    (void)state;
    uint8_t bytes[CONTROL_SIZE_MAX];
    struct control_message sent = sample(CONTROL_START), got;
    size_t size = control_encode(&sent, bytes);
    assert_int_equal(
        control_decode(bytes_of(bytes, size), sent.descriptors, sent.descriptor_count, &got), STATUS_OK);
    assert_int_equal(got.type, CONTROL_START);
    assert_int_equal(got.role, sent.role);
    assert_int_equal(got.slot, sent.slot);
    assert_int_equal(got.workers, sent.workers);
    assert_int_equal(got.listeners, sent.listeners);
    assert_int_equal(got.drop, sent.drop);
    assert_int_equal(got.uid, sent.uid);
    assert_int_equal(got.gid, sent.gid);
    assert_true(got.incarnation == sent.incarnation);
    assert_true(got.number == sent.number);
    assert_string_equal(got.text, "");
    assert_memory_equal(got.node_key, sent.node_key, sizeof sent.node_key);
    assert_memory_equal(got.decoy_key, sent.decoy_key, sizeof sent.decoy_key);
    assert_int_equal(got.descriptor_count, START_FD_COUNT);
    assert_memory_equal(got.descriptors, sent.descriptors, START_FD_COUNT * sizeof(int));
}

static void texts_are_cut_and_end(void **state)
{
    (void)state;
    uint8_t bytes[CONTROL_SIZE_MAX];
    struct control_message sent = sample(CONTROL_REFUSED), got;
    size_t size = control_encode(&sent, bytes);
    assert_int_equal(decode(bytes, size, 0, &got), STATUS_OK);
    assert_string_equal(got.text, sent.text);
    bytes[size - 1] = '\0'; /* a text within a text */
    assert_int_equal(decode(bytes, size, 0, &got), STATUS_PROTOCOL);
    memset(sent.text, 'x', sizeof sent.text); /* no end */
    size = control_encode(&sent, bytes);
    assert_int_equal(decode(bytes, size, 0, &got), STATUS_OK);
    assert_int_equal(strlen(got.text), CONTROL_TEXT_MAX - 1);
}

static void every_type_round_trips(void **state)
{
    (void)state;
    for (size_t i = 0; i < TYPES; i++) {
        uint8_t bytes[CONTROL_SIZE_MAX], again[CONTROL_SIZE_MAX];
        struct control_message sent = sample(all_types[i]), got;
        size_t size = control_encode(&sent, bytes);
        assert_int_equal(
            control_decode(bytes_of(bytes, size), sent.descriptors, sent.descriptor_count, &got), STATUS_OK);
        assert_int_equal(control_encode(&got, again), size);
        assert_memory_equal(bytes, again, size);
        assert_string_not_equal(control_type_name(all_types[i]), "unknown");
    }
}

static void shorter_and_longer_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < TYPES; i++) {
        uint8_t bytes[CONTROL_SIZE_MAX + 8] = {0};
        struct control_message sent = sample(all_types[i]), got;
        size_t size = control_encode(&sent, bytes);
        for (size_t shorter = 0; shorter < size; shorter++)
            assert_int_equal(decode(bytes, shorter, sent.descriptor_count, &got), STATUS_PROTOCOL);
        assert_int_equal(decode(bytes, size + 1, sent.descriptor_count, &got), STATUS_PROTOCOL);
        /* A size field that agrees with the excess does not help either. */
        put_u16_le(bytes + 2, (uint16_t)(size - 4 + 1));
        assert_int_equal(decode(bytes, size + 1, sent.descriptor_count, &got), STATUS_PROTOCOL);
        if (size > 4) {
            put_u16_le(bytes + 2, (uint16_t)(size - 4 - 1));
            assert_int_equal(decode(bytes, size - 1, sent.descriptor_count, &got), STATUS_PROTOCOL);
        }
    }
}

static void wrong_descriptors_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < TYPES; i++) {
        uint8_t bytes[CONTROL_SIZE_MAX];
        struct control_message sent = sample(all_types[i]), got = {.slot = 7};
        size_t size = control_encode(&sent, bytes);
        bool variable = all_types[i] == CONTROL_OWN_SLOT || all_types[i] == CONTROL_ADOPT ||
                        all_types[i] == CONTROL_SOCKETS;
        assert_int_equal(
            decode(bytes, size, sent.descriptor_count + 1, &got), variable ? STATUS_OK : STATUS_PROTOCOL);
        if (sent.descriptor_count > 0)
            assert_int_equal(decode(bytes, size, 0, &got), STATUS_PROTOCOL);
        if (variable)
            assert_int_equal(decode(bytes, size, CONTROL_DESCRIPTORS_MAX + 1, &got), STATUS_PROTOCOL);
    }
}

static void unknown_version_or_type_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[CONTROL_SIZE_MAX];
    struct control_message sent = sample(CONTROL_STOP), got = {.slot = 7};
    size_t size = control_encode(&sent, bytes);
    bytes[0] = CONTROL_VERSION + 1;
    assert_int_equal(decode(bytes, size, 0, &got), STATUS_PROTOCOL);
    bytes[0] = CONTROL_VERSION;
    for (unsigned type = 0; type < 256; type++) {
        bytes[1] = (uint8_t)type;
        bool known = type == CONTROL_BEGIN || type == CONTROL_STOP || type == CONTROL_READY;
        assert_int_equal(decode(bytes, size, 0, &got), known ? STATUS_OK : STATUS_PROTOCOL);
    }
    assert_string_equal(control_type_name((enum control_type)200), "unknown");
}

static void failure_leaves_the_output_alone(void **state)
{
    (void)state;
    struct control_message got = {.type = CONTROL_PING, .slot = 7};
    const uint8_t nothing[] = {CONTROL_VERSION, CONTROL_PONG, 8, 0, 1, 2};
    assert_int_equal(decode(nothing, sizeof nothing, 0, &got), STATUS_PROTOCOL);
    assert_int_equal(got.type, CONTROL_PING);
    assert_int_equal(got.slot, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(start_keeps_every_field),
        cmocka_unit_test(texts_are_cut_and_end),
        cmocka_unit_test(every_type_round_trips),
        cmocka_unit_test(shorter_and_longer_is_refused),
        cmocka_unit_test(wrong_descriptors_are_refused),
        cmocka_unit_test(unknown_version_or_type_is_refused),
        cmocka_unit_test(failure_leaves_the_output_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
