/* mqtt_properties: every property in every place, the walk, what is forwarded, and variable byte integers. */
#include "shared/mqtt_properties.h"

#include "shared/mqtt_decode.h"
#include "tests/unit/hex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct mqtt_fault fault;

static enum status decode(const char *hex, uint8_t place, struct mqtt_properties *ret, size_t *ret_consumed)
{
    struct bytes input = hex_bytes(hex);
    enum status status = mqtt_properties_decode(input, place, ret, ret_consumed, &fault);
    hex_free(input);
    return status;
}

/* Table 2-4 of the specification. `W`: will; letters as in `places`. */
static const struct {
    const char *hex; /* one property */
    const char *places;
} table_2_4[] = {
    {"01 01", "PW"},
    {"02 00000001", "PW"},
    {"03 0001 'x'", "PW"},
    {"08 0001 'x'", "PW"},
    {"09 0001 'x'", "PW"},
    {"0b 01", "PS"},
    {"11 00000001", "CcD"},
    {"12 0001 'x'", "c"},
    {"13 0001", "c"},
    {"15 0001 'x'", "CcA"},
    {"16 0001 'x'", "CcA"},
    {"17 01", "C"},
    {"18 00000001", "W"},
    {"19 01", "C"},
    {"1a 0001 'x'", "c"},
    {"1c 0001 'x'", "cD"},
    {"1f 0001 'x'", "c1234suDA"},
    {"21 0001", "Cc"},
    {"22 0001", "Cc"},
    {"23 0001", "P"},
    {"24 01", "c"},
    {"25 01", "c"},
    {"26 0001 'k' 0001 'v'", "CcPW1234SsUuDA"},
    {"27 00000001", "Cc"},
    {"28 01", "c"},
    {"29 01", "c"},
    {"2a 01", "c"},
};

static const struct {
    char letter;
    uint8_t place;
} places[] = {
    {'W', MQTT_PROPERTIES_OF_WILL},
    {'C', MQTT_CONNECT},
    {'c', MQTT_CONNACK},
    {'P', MQTT_PUBLISH},
    {'1', MQTT_PUBACK},
    {'2', MQTT_PUBREC},
    {'3', MQTT_PUBREL},
    {'4', MQTT_PUBCOMP},
    {'S', MQTT_SUBSCRIBE},
    {'s', MQTT_SUBACK},
    {'U', MQTT_UNSUBSCRIBE},
    {'u', MQTT_UNSUBACK},
    {'D', MQTT_DISCONNECT},
    {'A', MQTT_AUTH},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct bytes with_length(const char *hex, unsigned times)
{
    struct bytes one = hex_bytes(hex);
    uint8_t *input = malloc(1 + times * one.size);
    input[0] = (uint8_t)(times * one.size);
    for (unsigned i = 0; i < times; i++)
        memcpy(input + 1 + i * one.size, one.data, one.size);
    hex_free(one);
    return bytes_of(input, 1 + input[0]);
}

static void every_property_in_every_place(void **state)
{
    (void)state;
    assert_int_equal(COUNT(table_2_4), PROPERTY_COUNT);
    for (size_t i = 0; i < COUNT(table_2_4); i++) {
        struct bytes once = with_length(table_2_4[i].hex, 1), twice = with_length(table_2_4[i].hex, 2);
        for (size_t k = 0; k < COUNT(places); k++) {
            bool allowed = strchr(table_2_4[i].places, places[k].letter) != NULL;
            bool repeatable = i == PROPERTY_USER_PROPERTY ||
                              (i == PROPERTY_SUBSCRIPTION_IDENTIFIER && places[k].place == MQTT_PUBLISH);
            struct mqtt_properties it;
            size_t consumed = 0;
            enum status status = mqtt_properties_decode(once, places[k].place, &it, &consumed, &fault);
            assert_int_equal(status, allowed ? STATUS_OK : STATUS_PROTOCOL);
            if (allowed)
                assert_int_equal(consumed, once.size);
            else
                assert_int_equal(fault.reason, MQTT_MALFORMED_PACKET);
            if (allowed)
                assert_int_equal(it.present, PROPERTY_BIT(i));
            status = mqtt_properties_decode(twice, places[k].place, &it, &consumed, &fault);
            assert_int_equal(status, allowed && repeatable ? STATUS_OK : STATUS_PROTOCOL);
            if (allowed && !repeatable)
                assert_int_equal(fault.reason, MQTT_PROTOCOL_ERROR);
        }
        /* Cut short anywhere, with a length that says so. */
        for (size_t size = 1; size + 1 < once.size; size++) {
            struct mqtt_properties it;
            size_t consumed;
            uint8_t *cut = malloc(1 + size);
            memcpy(cut, once.data, 1 + size);
            cut[0] = (uint8_t)size;
            for (size_t k = 0; k < COUNT(places); k++)
                assert_int_equal(
                    mqtt_properties_decode(bytes_of(cut, 1 + size), places[k].place, &it, &consumed, &fault),
                    STATUS_PROTOCOL);
            free(cut);
        }
        hex_free(once);
        hex_free(twice);
    }
}

static void unknown_identifiers_are_refused(void **state)
{
    (void)state;
    for (unsigned identifier = 0; identifier < 256; identifier++) {
        bool known = false;
        for (size_t i = 0; i < PROPERTY_COUNT; i++)
            known |= mqtt_property_rules[i].identifier == identifier;
        uint8_t input[] = {9, (uint8_t)identifier, 0, 0, 0, 0, 0, 0, 0, 0};
        struct mqtt_properties it;
        size_t consumed;
        for (size_t k = 0; !known && k < COUNT(places); k++) {
            assert_int_equal(mqtt_properties_decode(
                                 bytes_of(input, sizeof input), places[k].place, &it, &consumed, &fault),
                STATUS_PROTOCOL);
            assert_int_equal(fault.reason, MQTT_MALFORMED_PACKET);
        }
    }
}

static void defaults_are_the_specifications(void **state)
{
    (void)state;
    struct mqtt_properties it;
    size_t consumed;
    assert_int_equal(decode("00", MQTT_CONNACK, &it, &consumed), STATUS_OK);
    assert_int_equal(consumed, 1);
    assert_int_equal(it.present, 0);
    assert_int_equal(it.receive_maximum, 65535);
    assert_int_equal(it.maximum_packet_size, UINT32_MAX);
    assert_int_equal(it.maximum_qos, 2);
    assert_int_equal(it.retain_available, 1);
    assert_int_equal(it.request_problem_information, 1);
    assert_int_equal(it.topic_alias_maximum, 0);
    assert_int_equal(decode("", MQTT_CONNACK, &it, &consumed), STATUS_PROTOCOL);
    assert_int_equal(decode("01", MQTT_CONNACK, &it, &consumed), STATUS_PROTOCOL);
    assert_int_equal(decode("03 21 0102 ff", MQTT_CONNACK, &it, &consumed), STATUS_OK);
    assert_int_equal(consumed, 4);
    assert_int_equal(it.receive_maximum, 0x102);
}

static void the_walk_meets_every_property(void **state)
{
    (void)state;
    struct bytes raw = hex_bytes("01 01 02 00000007 03 0002 'ct' 0b 8001 23 0009 26 0001 'k' 0002 'vw'");
    static const struct {
        uint8_t identifier;
        size_t size;
    } expected[] = {{1, 1}, {2, 4}, {3, 4}, {0x0b, 2}, {0x23, 2}, {0x26, 7}};
    struct bytes rest = raw, value;
    uint8_t identifier;
    for (size_t i = 0; i < COUNT(expected); i++) {
        assert_true(mqtt_property_next(&rest, &identifier, &value));
        assert_int_equal(identifier, expected[i].identifier);
        assert_int_equal(value.size, expected[i].size);
    }
    assert_false(mqtt_property_next(&rest, &identifier, &value));
    /* A run that nobody has checked ends the walk; it is never read beyond its end. */
    for (size_t size = 0; size < raw.size; size++) {
        uint8_t *cut = malloc(size + 1);
        memcpy(cut, raw.data, size);
        rest = bytes_of(cut, size);
        while (mqtt_property_next(&rest, &identifier, &value))
            assert_true(value.data + value.size <= cut + size);
        free(cut);
    }
    hex_free(raw);
}

static void what_a_receiver_gets(void **state)
{
    (void)state;
    uint8_t to[64];
    struct bytes raw =
        hex_bytes("01 01 02 00000007 26 0001 'b' 0000 23 0009 03 0002 'ct' 0b 8001 26 0001 'a' "
                  "0000 08 0001 'r' 18 00000001 09 0001 00");
    struct bytes expected =
        hex_bytes("01 01 26 0001 'b' 0000 03 0002 'ct' 26 0001 'a' 0000 08 0001 'r' 09 0001 00");
    size_t size = mqtt_properties_forward(to, raw);
    assert_true(bytes_equal(bytes_of(to, size), expected));
    assert_int_equal(mqtt_properties_forward(to, BYTES_NONE), 0);
    hex_free(raw);
    hex_free(expected);
}

static void variable_byte_integers(void **state)
{
    (void)state;
    static const struct {
        uint32_t value;
        const char *hex;
    } cases[] = {{0, "00"}, {127, "7f"}, {128, "8001"}, {16383, "ff7f"}, {16384, "808001"},
        {2097151, "ffff7f"}, {2097152, "80808001"}, {268435455, "ffffff7f"}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct bytes bytes = hex_bytes(cases[i].hex);
        uint8_t to[4];
        uint32_t value = 1;
        size_t consumed = 0;
        assert_int_equal(mqtt_varint_size(cases[i].value), bytes.size);
        assert_int_equal(mqtt_varint_put(to, cases[i].value) - to, bytes.size);
        assert_memory_equal(to, bytes.data, bytes.size);
        assert_int_equal(mqtt_varint_get(bytes.data, bytes.size, &value, &consumed), STATUS_OK);
        assert_int_equal(value, cases[i].value);
        assert_int_equal(consumed, bytes.size);
        assert_int_equal(mqtt_varint_get(bytes.data, bytes.size - 1, &value, &consumed), STATUS_AGAIN);
        hex_free(bytes);
    }
    static const char *const bad[] = {"8000", "808000", "ff8000", "ffffffff", "80808080", "80808000"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct bytes bytes = hex_bytes(bad[i]);
        uint32_t value;
        size_t consumed;
        assert_int_equal(mqtt_varint_get(bytes.data, bytes.size, &value, &consumed), STATUS_PROTOCOL);
        hex_free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_property_in_every_place),
        cmocka_unit_test(unknown_identifiers_are_refused),
        cmocka_unit_test(defaults_are_the_specifications),
        cmocka_unit_test(the_walk_meets_every_property),
        cmocka_unit_test(what_a_receiver_gets),
        cmocka_unit_test(variable_byte_integers),
    };
    return cmocka_run_group_tests_name("mqtt_properties", tests, NULL, NULL);
}
