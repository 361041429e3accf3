/* mqtt_encode: the exact bytes of each packet, and that what was written is read back the same. */
#include "shared/mqtt_encode.h"

#include "shared/mqtt_decode.h"
#include "shared/mqtt_properties.h"
#include "tests/unit/hex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static uint8_t to[1024];

static void expect_bytes(const void *data, size_t size, const char *hex)
{
    struct bytes expected = hex_bytes(hex);
    assert_int_equal(size, expected.size);
    assert_memory_equal(data, expected.data, size);
    hex_free(expected);
}

/* Into a block of exactly mqtt_publish_size(), so that the sanitizer sees a byte too many. */
static void check_publish(const struct mqtt_publish_out *publish, size_t offset, const char *hex)
{
    size_t size = mqtt_publish_size(publish);
    size_t packet_id_offset = SIZE_MAX;
    uint8_t *block = malloc(size);
    assert_int_equal(mqtt_encode_publish(block, publish, &packet_id_offset), size);
    assert_int_equal(mqtt_encode_publish(block, publish, NULL), size);
    assert_int_equal(packet_id_offset, offset);
    expect_bytes(block, size, hex);
    free(block);
}

static void publish_by_version(void **state)
{
    (void)state;
    static const uint32_t identifiers[] = {1, 200};
    struct mqtt_publish_out publish = {.version = MQTT_3_1_1,
        .topic = bytes_of_text("a/b"),
        .payload = bytes_of_text("hi"),
        .properties = bytes_of_text("\x01\x01"),
        .packet_id = 0x1234};
    check_publish(&publish, 0, "30 07 0003 'a/b' 'hi'");
    publish.qos = 1;
    publish.retain = publish.dup = true;
    check_publish(&publish, 7, "3b 09 0003 'a/b' 1234 'hi'");
    publish.version = MQTT_5_0;
    check_publish(&publish, 7, "3b 0c 0003 'a/b' 1234 02 01 01 'hi'");
    publish.properties = BYTES_NONE;
    publish.payload = BYTES_NONE;
    publish.qos = 2;
    publish.dup = false;
    check_publish(&publish, 7, "35 08 0003 'a/b' 1234 00");
    publish.topic = BYTES_NONE;
    publish.topic_alias = 5;
    publish.has_message_expiry = true;
    publish.message_expiry_s = 60;
    publish.subscription_identifiers = identifiers;
    publish.subscription_identifier_count = 2;
    publish.properties = bytes_of_text("\x01\x01");
    check_publish(&publish, 4, "35 14 0000 1234 0f 23 0005 02 0000003c 0b 01 0b c801 01 01");
    publish.version = MQTT_3_1;
    publish.topic = bytes_of_text("t");
    check_publish(&publish, 5, "35 05 0001 't' 1234");
}

/* Sizes around the borders of the length encodings and of the short copies. */
static void publish_of_every_size_is_read_back(void **state)
{
    (void)state;
    uint8_t *payload = malloc(70000);
    for (size_t i = 0; i < 70000; i++)
        payload[i] = (uint8_t)(i * 7);
    for (size_t size = 0; size < 70000; size = size < 600 ? size + 1 : size * 3 / 2) {
        struct mqtt_publish_out out = {.version = size % 2 ? MQTT_5_0 : MQTT_3_1_1,
            .qos = (uint8_t)(size % 3),
            .packet_id = 77,
            .topic = bytes_of(size % 5 ? "some/topic/name" : "t", size % 5 ? 15 : 1),
            .payload = bytes_of(payload, size)};
        size_t packet_size = mqtt_publish_size(&out);
        uint8_t *packet = malloc(packet_size);
        assert_int_equal(mqtt_encode_publish(packet, &out, NULL), packet_size);
        struct mqtt_header header;
        struct mqtt_fault fault;
        struct mqtt_publish in;
        assert_int_equal(
            mqtt_decode_header_of(MQTT_5_0, packet, packet_size, UINT32_MAX, &header, &fault), STATUS_OK);
        assert_int_equal(header.header_size + header.remaining_size, packet_size);
        struct bytes body = bytes_of(packet + header.header_size, header.remaining_size);
        assert_int_equal(mqtt_decode_publish(out.version, header.flags, body, &in, &fault), STATUS_OK);
        assert_true(bytes_equal(in.topic, out.topic));
        assert_true(bytes_equal(in.payload, out.payload));
        assert_int_equal(in.qos, out.qos);
        assert_int_equal(in.packet_id, out.qos > 0 ? 77 : 0);
        free(packet);
    }
    free(payload);
}

static void acknowledgements_are_short_when_they_can(void **state)
{
    (void)state;
    expect_bytes(
        to, mqtt_encode_acknowledgement(to, MQTT_5_0, MQTT_PUBACK, 0x102, MQTT_SUCCESS), "40 02 0102");
    expect_bytes(to, mqtt_encode_acknowledgement(to, MQTT_5_0, MQTT_PUBREL, 1, MQTT_SUCCESS), "62 02 0001");
    expect_bytes(
        to, mqtt_encode_acknowledgement(to, MQTT_5_0, MQTT_PUBREC, 1, MQTT_QUOTA_EXCEEDED), "50 03 0001 97");
    expect_bytes(
        to, mqtt_encode_acknowledgement(to, MQTT_3_1_1, MQTT_PUBACK, 1, MQTT_NOT_AUTHORIZED), "40 02 0001");
    expect_bytes(to, mqtt_encode_acknowledgement(to, MQTT_3_1, MQTT_PUBCOMP, 1, MQTT_SUCCESS), "70 02 0001");
    expect_bytes(to, mqtt_encode_pingresp(to), "d0 00");
    expect_bytes(to, mqtt_encode_pingreq(to), "c0 00");
}

static void connack_by_version(void **state)
{
    (void)state;
    struct mqtt_properties properties;
    mqtt_properties_init(&properties);
    properties.present = PROPERTY_BIT(PROPERTY_ASSIGNED_CLIENT_IDENTIFIER) |
                         PROPERTY_BIT(PROPERTY_MAXIMUM_QOS) | PROPERTY_BIT(PROPERTY_TOPIC_ALIAS_MAXIMUM) |
                         PROPERTY_BIT(PROPERTY_MAXIMUM_PACKET_SIZE);
    properties.assigned_client_identifier = bytes_of_text("id");
    properties.maximum_qos = 1;
    properties.topic_alias_maximum = 10;
    properties.maximum_packet_size = 0x100000;
    properties.raw = bytes_of("\x26\0\1k\0\1v", 7);
    assert_int_equal(mqtt_properties_size(&properties), 5 + 2 + 3 + 5 + 7);
    assert_int_equal(mqtt_properties_size(NULL), 0);
    expect_bytes(to, mqtt_encode_connack(to, MQTT_5_0, true, MQTT_SUCCESS, &properties),
        "20 19 01 00 16 12 0002 'id' 22 000a 24 01 27 00100000 26 0001 'k' 0001 'v'");
    expect_bytes(to, mqtt_encode_connack(to, MQTT_5_0, true, MQTT_BANNED, NULL), "20 03 00 8a 00");
    expect_bytes(to, mqtt_encode_connack(to, MQTT_3_1_1, true, MQTT_SUCCESS, &properties), "20 02 01 00");
    expect_bytes(to, mqtt_encode_connack(to, MQTT_3_1, true, MQTT_SUCCESS, NULL), "20 02 00 00");
    expect_bytes(to, mqtt_encode_connack(to, MQTT_3_1_1, false, 5, NULL), "20 02 00 05");
    expect_bytes(to, mqtt_encode_connack(to, MQTT_3_1_1, false, MQTT_UNSUPPORTED_PROTOCOL_VERSION, NULL),
        "20 02 00 01");
}

static void return_codes_of_3(void **state)
{
    (void)state;
    assert_int_equal(mqtt_connack_return_code(MQTT_SUCCESS), 0);
    assert_int_equal(mqtt_connack_return_code(MQTT_UNSUPPORTED_PROTOCOL_VERSION), 1);
    assert_int_equal(mqtt_connack_return_code(MQTT_CLIENT_IDENTIFIER_NOT_VALID), 2);
    assert_int_equal(mqtt_connack_return_code(MQTT_SERVER_BUSY), 3);
    assert_int_equal(mqtt_connack_return_code(MQTT_BAD_USER_NAME_OR_PASSWORD), 4);
    assert_int_equal(mqtt_connack_return_code(MQTT_NOT_AUTHORIZED), 5);
}

static void suback_by_version(void **state)
{
    (void)state;
    static const uint8_t reasons[] = {0, 2, MQTT_NOT_AUTHORIZED};
    expect_bytes(
        to, mqtt_encode_suback(to, MQTT_5_0, MQTT_SUBACK, 9, reasons, 3, NULL), "90 06 0009 00 00 02 87");
    expect_bytes(
        to, mqtt_encode_suback(to, MQTT_3_1_1, MQTT_SUBACK, 9, reasons, 3, NULL), "90 05 0009 00 02 80");
    expect_bytes(
        to, mqtt_encode_suback(to, MQTT_3_1, MQTT_SUBACK, 9, reasons, 3, NULL), "90 05 0009 00 02 00");
    expect_bytes(to, mqtt_encode_suback(to, MQTT_3_1_1, MQTT_UNSUBACK, 9, reasons, 3, NULL), "b0 02 0009");
    expect_bytes(
        to, mqtt_encode_suback(to, MQTT_5_0, MQTT_UNSUBACK, 9, reasons, 1, NULL), "b0 04 0009 00 00");
}

static void disconnect_is_as_short_as_it_can(void **state)
{
    (void)state;
    struct mqtt_properties properties;
    mqtt_properties_init(&properties);
    expect_bytes(to, mqtt_encode_disconnect(to, MQTT_DISCONNECT, MQTT_SUCCESS, &properties), "e0 00");
    expect_bytes(to, mqtt_encode_disconnect(to, MQTT_DISCONNECT, MQTT_SESSION_TAKEN_OVER, NULL), "e0 01 8e");
    properties.present = PROPERTY_BIT(PROPERTY_REASON_STRING);
    properties.reason_string = bytes_of_text("why");
    expect_bytes(to, mqtt_encode_disconnect(to, MQTT_DISCONNECT, MQTT_PROTOCOL_ERROR, &properties),
        "e0 08 82 06 1f 0003 'why'");
    properties.present = PROPERTY_BIT(PROPERTY_AUTHENTICATION_METHOD);
    properties.authentication_method = bytes_of_text("m");
    expect_bytes(to, mqtt_encode_disconnect(to, MQTT_AUTH, MQTT_CONTINUE_AUTHENTICATION, &properties),
        "f0 06 18 04 15 0001 'm'");
}

/* Writes the CONNECT, reads it, writes what was read: the same bytes again. */
static void check_connect(const struct mqtt_connect *connect)
{
    static uint8_t again[1024];
    struct mqtt_connect in;
    struct mqtt_fault fault;
    struct mqtt_header header;
    size_t size = mqtt_encode_connect(to, connect);
    assert_int_equal(size, mqtt_connect_size(connect));
    assert_int_equal(mqtt_decode_header(to, size, 1000, &header, &fault), STATUS_OK);
    assert_int_equal(
        mqtt_decode_connect(bytes_of(to + header.header_size, header.remaining_size), &in, &fault),
        STATUS_OK);
    assert_int_equal(in.version, connect->version);
    assert_int_equal(mqtt_encode_connect(again, &in), size);
    assert_memory_equal(again, to, size);
}

static void connect_is_read_back(void **state)
{
    (void)state;
    struct mqtt_connect connect = {.version = MQTT_3_1_1, .clean_start = true};
    expect_bytes(to, mqtt_encode_connect(to, &connect), "10 0c 0004 'MQTT' 04 02 0000 0000");
    check_connect(&connect);
    connect.keep_alive_s = 30;
    connect.client_id = bytes_of_text("client");
    connect.user_name = bytes_of_text("user");
    connect.password = bytes_of_text("secret");
    connect.has_will = connect.will_retain = true;
    connect.will_qos = 2;
    connect.will_topic = bytes_of_text("will");
    connect.will_payload = bytes_of_text("gone");
    check_connect(&connect);
    connect.version = MQTT_3_1;
    check_connect(&connect);
    connect.version = MQTT_5_0;
    mqtt_properties_init(&connect.properties);
    mqtt_properties_init(&connect.will_properties);
    check_connect(&connect);
    connect.properties.present = PROPERTY_BIT(PROPERTY_SESSION_EXPIRY_INTERVAL) |
                                 PROPERTY_BIT(PROPERTY_RECEIVE_MAXIMUM) |
                                 PROPERTY_BIT(PROPERTY_USER_PROPERTY);
    connect.properties.session_expiry_interval = 3600;
    connect.properties.raw = bytes_of("\x26\0\1k\0\1v\x26\0\0\0\0", 12);
    connect.will_properties.present =
        PROPERTY_BIT(PROPERTY_RESPONSE_TOPIC) | PROPERTY_BIT(PROPERTY_WILL_DELAY_INTERVAL);
    connect.will_properties.response_topic = bytes_of_text("reply");
    connect.will_properties.will_delay_interval = 5;
    check_connect(&connect);
}

static void subscribe_and_unsubscribe(void **state)
{
    (void)state;
    static const struct mqtt_subscribe_filter filters[] = {
        {.filter = {(const uint8_t *)"a/#", 3}, .qos = 1, .no_local = true, .retain_handling = 2},
        {.filter = {(const uint8_t *)"b", 1}, .qos = 2, .retain_as_published = true},
    };
    struct mqtt_properties properties;
    mqtt_properties_init(&properties);
    properties.present = PROPERTY_BIT(PROPERTY_SUBSCRIPTION_IDENTIFIER);
    properties.subscription_identifier = 300;
    expect_bytes(to, mqtt_encode_subscribe(to, MQTT_5_0, 3, filters, 2, &properties),
        "82 10 0003 03 0b ac02 0003 'a/#' 25 0001 'b' 0a");
    expect_bytes(to, mqtt_encode_subscribe(to, MQTT_3_1_1, 3, filters, 2, &properties),
        "82 0c 0003 0003 'a/#' 01 0001 'b' 02");
    struct bytes names[] = {bytes_of_text("a/#"), bytes_of_text("b")};
    expect_bytes(
        to, mqtt_encode_unsubscribe(to, MQTT_5_0, 4, names, 2, NULL), "a2 0b 0004 00 0003 'a/#' 0001 'b'");
    expect_bytes(to, mqtt_encode_unsubscribe(to, MQTT_3_1, 4, names, 1, NULL), "a2 07 0004 0003 'a/#'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publish_by_version),
        cmocka_unit_test(publish_of_every_size_is_read_back),
        cmocka_unit_test(acknowledgements_are_short_when_they_can),
        cmocka_unit_test(connack_by_version),
        cmocka_unit_test(return_codes_of_3),
        cmocka_unit_test(suback_by_version),
        cmocka_unit_test(disconnect_is_as_short_as_it_can),
        cmocka_unit_test(connect_is_read_back),
        cmocka_unit_test(subscribe_and_unsubscribe),
    };
    return cmocka_run_group_tests_name("mqtt_encode", tests, NULL, NULL);
}
