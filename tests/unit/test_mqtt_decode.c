/* mqtt_decode: what each packet becomes, and which reason code each breach of the specification gets. */
#include "shared/mqtt_decode.h"

#include "shared/mqtt_properties.h"
#include "tests/unit/hex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define OK 0

static union {
    struct mqtt_connect connect;
    struct mqtt_connack connack;
    struct mqtt_publish publish;
    struct mqtt_acknowledgement acknowledgement;
    struct mqtt_subscribe subscribe;
    struct mqtt_suback suback;
    struct mqtt_unsubscribe unsubscribe;
    struct mqtt_disconnect disconnect;
} got;

static struct mqtt_fault fault;

static enum status decode(enum mqtt_version version, uint8_t first, struct bytes body)
{
    uint8_t type = first >> 4;
    switch (type) {
    case MQTT_CONNECT:
        return mqtt_decode_connect(body, &got.connect, &fault);
    case MQTT_CONNACK:
        return mqtt_decode_connack(version, body, &got.connack, &fault);
    case MQTT_PUBLISH:
        return mqtt_decode_publish(version, first & 15, body, &got.publish, &fault);
    case MQTT_SUBSCRIBE:
        return mqtt_decode_subscribe(version, body, &got.subscribe, &fault);
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
        return mqtt_decode_suback(version, type, body, &got.suback, &fault);
    case MQTT_UNSUBSCRIBE:
        return mqtt_decode_unsubscribe(version, body, &got.unsubscribe, &fault);
    case MQTT_DISCONNECT:
        return mqtt_decode_disconnect(version, body, &got.disconnect, &fault);
    case MQTT_AUTH:
        return mqtt_decode_auth(body, &got.disconnect, &fault);
    case MQTT_PINGREQ:
        return mqtt_decode_ping(body, &fault);
    default:
        return mqtt_decode_acknowledgement(version, type, body, &got.acknowledgement, &fault);
    }
}

struct verdict {
    int version;
    uint8_t first; /* first byte of the packet */
    const char *body;
    int reason; /* OK, or the fault's */
};

static void check_verdicts(const struct verdict *verdicts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct bytes body = hex_bytes(verdicts[i].body);
        fault = (struct mqtt_fault){MQTT_SUCCESS, NULL};
        enum status status = decode((enum mqtt_version)verdicts[i].version, verdicts[i].first, body);
        int reason = status == STATUS_OK ? OK : (int)fault.reason;
        if (reason != verdicts[i].reason || (status == STATUS_PROTOCOL) != (fault.text != NULL))
            fail_msg("version %d, %02x, body %s: reason %02x (%s), wanted %02x", verdicts[i].version,
                verdicts[i].first, verdicts[i].body, reason, fault.text ? fault.text : "",
                verdicts[i].reason);
        hex_free(body);
    }
}

#define CHECK(verdicts) check_verdicts(verdicts, sizeof(verdicts) / sizeof *(verdicts))

static enum status header(unsigned version, const char *hex, uint32_t maximum, struct mqtt_header *ret)
{
    struct bytes bytes = hex_bytes(hex);
    enum status status = mqtt_decode_header_of(version, bytes.data, bytes.size, maximum, ret, &fault);
    hex_free(bytes);
    return status;
}

static void headers_are_read(void **state)
{
    (void)state;
    struct mqtt_header it;
    assert_int_equal(header(0, "", 100, &it), STATUS_AGAIN);
    assert_int_equal(header(0, "30", 100, &it), STATUS_AGAIN);
    assert_int_equal(header(0, "30 80", 100, &it), STATUS_AGAIN);
    assert_int_equal(header(0, "30 ff ff ff", 100, &it), STATUS_AGAIN);
    assert_int_equal(header(0, "3d 05", 100, &it), STATUS_OK);
    assert_int_equal(it.type, MQTT_PUBLISH);
    assert_int_equal(it.flags, 13);
    assert_int_equal(it.header_size, 2);
    assert_int_equal(it.remaining_size, 5);
    assert_int_equal(header(0, "30 ff ff ff 7f", UINT32_MAX, &it), STATUS_OK);
    assert_int_equal(it.header_size, 5);
    assert_int_equal(it.remaining_size, 268435455);
    assert_int_equal(header(0, "30 80 01 00", 1000, &it), STATUS_OK);
    assert_int_equal(it.header_size, 3);
    assert_int_equal(it.remaining_size, 128);
}

static void bad_headers_are_refused(void **state)
{
    (void)state;
    struct mqtt_header it;
    assert_int_equal(header(5, "30 ff ff ff ff", UINT32_MAX, &it), STATUS_PROTOCOL);
    assert_int_equal(fault.reason, MQTT_MALFORMED_PACKET);
    assert_int_equal(header(4, "30 80 80 80 80", UINT32_MAX, &it), STATUS_PROTOCOL);
    /* The shortest form is asked for by 5.0 only. */
    assert_int_equal(header(5, "30 80 00", 100, &it), STATUS_PROTOCOL);
    assert_int_equal(header(4, "30 82 00", 100, &it), STATUS_OK);
    assert_int_equal(it.remaining_size, 2);
    assert_int_equal(it.header_size, 3);
    /* From the first byte on. */
    assert_int_equal(header(0, "00", 100, &it), STATUS_PROTOCOL);
    assert_int_equal(header(0, "16", 100, &it), STATUS_PROTOCOL);
    for (unsigned first = 0; first < 256; first++) {
        unsigned type = first >> 4, flags = first & 15;
        bool good = type == MQTT_PUBLISH || (type > 0 && flags == 0);
        if (type == MQTT_PUBREL || type == MQTT_SUBSCRIBE || type == MQTT_UNSUBSCRIBE)
            good = flags == 2;
        uint8_t data[] = {(uint8_t)first, 0};
        bool dup = good || (flags == 10 &&
                               (type == MQTT_PUBREL || type == MQTT_SUBSCRIBE || type == MQTT_UNSUBSCRIBE));
        bool auth = type != MQTT_AUTH;
        assert_int_equal(mqtt_decode_header(data, 2, 100, &it, &fault), good ? 0 : STATUS_PROTOCOL);
        assert_int_equal(mqtt_decode_header_of(5, data, 2, 100, &it, &fault), good ? 0 : STATUS_PROTOCOL);
        assert_int_equal(
            mqtt_decode_header_of(4, data, 2, 100, &it, &fault), good && auth ? 0 : STATUS_PROTOCOL);
        assert_int_equal(
            mqtt_decode_header_of(3, data, 2, 100, &it, &fault), dup && auth ? 0 : STATUS_PROTOCOL);
    }
}

static void a_packet_too_large_is_a_limit(void **state)
{
    (void)state;
    struct mqtt_header it;
    assert_int_equal(header(5, "30 62", 100, &it), STATUS_OK);
    assert_int_equal(header(5, "30 63", 100, &it), STATUS_LIMIT);
    assert_int_equal(fault.reason, MQTT_PACKET_TOO_LARGE);
    assert_int_equal(header(5, "30 ff ff ff 7f", 1000000, &it), STATUS_LIMIT);
}

static void connect_of_5_is_read_whole(void **state)
{
    (void)state;
    struct bytes body =
        hex_bytes("0004 'MQTT' 05 f6 003c  12 11 0000000a 21 0014 22 0005 26 0001 'k' 0001 'v'"
                  "0003 'cid'  07 18 00000005 01 01  0004 'w/01' 0002 'by'"
                  "0004 'user' 0003 'pwd'");
    assert_int_equal(mqtt_decode_connect(body, &got.connect, &fault), STATUS_OK);
    struct mqtt_connect *it = &got.connect;
    assert_int_equal(it->version, MQTT_5_0);
    assert_true(it->clean_start);
    assert_int_equal(it->keep_alive_s, 60);
    assert_true(bytes_equal(it->client_id, bytes_of_text("cid")));
    assert_true(bytes_equal(it->user_name, bytes_of_text("user")));
    assert_true(bytes_equal(it->password, bytes_of_text("pwd")));
    assert_int_equal(it->properties.session_expiry_interval, 10);
    assert_int_equal(it->properties.receive_maximum, 20);
    assert_int_equal(it->properties.topic_alias_maximum, 5);
    assert_int_equal(it->properties.maximum_packet_size, UINT32_MAX);
    assert_int_equal(it->properties.request_problem_information, 1);
    assert_int_equal(it->properties.user_properties, 1);
    assert_true(it->has_will);
    assert_int_equal(it->will_qos, 2);
    assert_true(it->will_retain);
    assert_true(bytes_equal(it->will_topic, bytes_of_text("w/01")));
    assert_true(bytes_equal(it->will_payload, bytes_of_text("by")));
    assert_int_equal(it->will_properties.will_delay_interval, 5);
    assert_int_equal(it->will_properties.payload_format_indicator, 1);
    for (size_t size = 0; size < body.size; size++)
        assert_int_equal(
            mqtt_decode_connect(bytes_of(body.data, size), &got.connect, &fault), STATUS_PROTOCOL);
    hex_free(body);
}

static void connect_by_version(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {0, 0x10, "0004 'MQTT' 04 02 0000 0000", OK},
        {0, 0x10, "0006 'MQIsdp' 03 02 0000 0001 'a'", OK},
        {0, 0x10, "0004 'MQTT' 05 00 0000 00 0000", OK},
        {0, 0x10, "0004 'MQTT' 03 02 0000 0001 'a'", MQTT_UNSUPPORTED_PROTOCOL_VERSION},
        {0, 0x10, "0004 'MQTT' 06 02 0000 0001 'a'", MQTT_UNSUPPORTED_PROTOCOL_VERSION},
        {0, 0x10, "0004 'MQTT' 84 02 0000 0001 'a'", MQTT_UNSUPPORTED_PROTOCOL_VERSION},
        {0, 0x10, "0006 'MQIsdp' 04 02 0000 0001 'a'", MQTT_UNSUPPORTED_PROTOCOL_VERSION},
        {0, 0x10, "0004 'mqtt' 04 02 0000 0001 'a'", MQTT_UNSUPPORTED_PROTOCOL_VERSION},
        {0, 0x10, "0000 04 02 0000 0001 'a'", MQTT_UNSUPPORTED_PROTOCOL_VERSION},
        {0, 0x10, "", MQTT_MALFORMED_PACKET},
        {0, 0x10, "0004 'MQT'", MQTT_MALFORMED_PACKET},
        {0, 0x10, "0004 'MQTT' 04 02 0000 0000 00", MQTT_MALFORMED_PACKET},
        {0, 0x10, "0004 'MQTT' 04 02 0000 0001", MQTT_MALFORMED_PACKET},
        {0, 0x10, "0004 'MQTT' 04 02 0000 0001 ff", MQTT_MALFORMED_PACKET},
        /* A client identifier is needed, or not. */
        {0, 0x10, "0004 'MQTT' 04 00 0000 0000", MQTT_CLIENT_IDENTIFIER_NOT_VALID},
        {0, 0x10, "0006 'MQIsdp' 03 02 0000 0000", MQTT_CLIENT_IDENTIFIER_NOT_VALID},
        {0, 0x10, "0006 'MQIsdp' 03 02 0000 0019 'abcdefghijklmnopqrstuvwxy'", OK},
        /* 3.1: the packet's end takes precedence over the flags. */
        {0, 0x10, "0006 'MQIsdp' 03 c2 0000 0001 'a'", OK},
        {0, 0x10, "0006 'MQIsdp' 03 c2 0000 0001 'a' 0001 'u'", OK},
        {0, 0x10, "0006 'MQIsdp' 03 c2 0000 0001 'a' 0001 'u' 0001 'p'", OK},
        {0, 0x10, "0006 'MQIsdp' 03 c2 0000 0001 'a' 00", MQTT_MALFORMED_PACKET},
        {0, 0x10, "0004 'MQTT' 04 c2 0000 0001 'a'", MQTT_MALFORMED_PACKET},
        {0, 0x10, "0004 'MQTT' 04 c2 0000 0001 'a' 0001 'u'", MQTT_MALFORMED_PACKET},
    };
    CHECK(verdicts);
    struct bytes body = hex_bytes("0004 'MQTT' 06 02");
    assert_int_equal(mqtt_decode_connect(body, &got.connect, &fault), STATUS_PROTOCOL);
    assert_int_equal(got.connect.version, MQTT_3_1_1);
    hex_free(body);
    body = hex_bytes("0004 'MQTT' 05 01");
    assert_int_equal(mqtt_decode_connect(body, &got.connect, &fault), STATUS_PROTOCOL);
    assert_int_equal(got.connect.version, MQTT_5_0);
    hex_free(body);
}

static void connect_flags_are_consistent(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {0, 0x10, "0004 'MQTT' 04 03 0000 0001 'a'", MQTT_MALFORMED_PACKET},
        {0, 0x10, "0004 'MQTT' 05 03 0000 00 0001 'a'", MQTT_MALFORMED_PACKET},
        {0, 0x10, "0006 'MQIsdp' 03 03 0000 0001 'a'", OK},
        {0, 0x10, "0004 'MQTT' 04 0a 0000 0001 'a'", MQTT_MALFORMED_PACKET},    /* will QoS without will */
        {0, 0x10, "0004 'MQTT' 05 22 0000 00 0001 'a'", MQTT_MALFORMED_PACKET}, /* will retain without */
        {0, 0x10, "0006 'MQIsdp' 03 3a 0000 0001 'a'", OK},                     /* disregarded there */
        {0, 0x10, "0004 'MQTT' 04 1e 0000 0001 'a' 0001 'w' 0000", MQTT_MALFORMED_PACKET}, /* will QoS 3 */
        {0, 0x10, "0006 'MQIsdp' 03 1e 0000 0001 'a' 0001 'w' 0000", MQTT_MALFORMED_PACKET},
        {0, 0x10, "0004 'MQTT' 04 42 0000 0001 'a' 0001 'p'", MQTT_MALFORMED_PACKET}, /* only a password */
        {0, 0x10, "0006 'MQIsdp' 03 42 0000 0001 'a' 0001 'p'", MQTT_MALFORMED_PACKET},
        {0, 0x10, "0004 'MQTT' 05 42 0000 00 0001 'a' 0001 'p'", OK},
        {0, 0x10, "0004 'MQTT' 04 82 0000 0001 'a' 0001 ff", MQTT_MALFORMED_PACKET}, /* user name not UTF-8 */
        {0, 0x10, "0004 'MQTT' 04 c2 0000 0001 'a' 0000 0001 ff", OK},               /* password: any bytes */
        {0, 0x10, "0004 'MQTT' 04 06 0000 0001 'a' 0001 'w' 0002 00ff", OK},
        {0, 0x10, "0004 'MQTT' 04 06 0000 0001 'a' 0000 0000", MQTT_TOPIC_NAME_INVALID},
        {0, 0x10, "0004 'MQTT' 04 06 0000 0001 'a' 0003 'a/#' 0000", MQTT_TOPIC_NAME_INVALID},
        {0, 0x10, "0004 'MQTT' 04 06 0000 0001 'a' 0001 00 0000", MQTT_MALFORMED_PACKET},
        {0, 0x10, "0004 'MQTT' 04 06 0000 0001 'a' 0001 'w' 0001", MQTT_MALFORMED_PACKET},
        {0, 0x10, "0004 'MQTT' 04 06 0000 0001 'a'", MQTT_MALFORMED_PACKET},
    };
    CHECK(verdicts);
}

static void connect_properties(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {0, 0x10, "0004 'MQTT' 05 02 0000 03 21 0000 0000", MQTT_PROTOCOL_ERROR},
        {0, 0x10, "0004 'MQTT' 05 02 0000 05 27 00000000 0000", MQTT_PROTOCOL_ERROR},
        {0, 0x10, "0004 'MQTT' 05 02 0000 02 17 02 0000", MQTT_PROTOCOL_ERROR},
        {0, 0x10, "0004 'MQTT' 05 02 0000 02 19 02 0000", MQTT_PROTOCOL_ERROR},
        {0, 0x10, "0004 'MQTT' 05 02 0000 06 21 0001 21 0001 0000", MQTT_PROTOCOL_ERROR},
        {0, 0x10, "0004 'MQTT' 05 02 0000 04 16 0001 'd' 0000", MQTT_PROTOCOL_ERROR}, /* data, no method */
        {0, 0x10, "0004 'MQTT' 05 02 0000 08 16 0001 'd' 15 0001 'm' 0000", OK},
        {0, 0x10, "0004 'MQTT' 05 02 0000 03 23 0001 0000", MQTT_MALFORMED_PACKET},     /* topic alias */
        {0, 0x10, "0004 'MQTT' 05 02 0000 05 18 00000001 0000", MQTT_MALFORMED_PACKET}, /* of the will */
        {0, 0x10, "0004 'MQTT' 05 06 0000 00 0000 05 11 00000001 0001 'w' 0000", MQTT_MALFORMED_PACKET},
        {0, 0x10, "0004 'MQTT' 05 06 0000 00 0000 04 08 0001 '+' 0001 'w' 0000", MQTT_PROTOCOL_ERROR},
        {0, 0x10, "0004 'MQTT' 05 06 0000 00 0000 04 08 0001 'r' 0001 'w' 0000", OK},
        {0, 0x10, "0004 'MQTT' 05 02 0000", MQTT_MALFORMED_PACKET},
        {0, 0x10, "0004 'MQTT' 05 02 0000 80 00 0000", MQTT_MALFORMED_PACKET},
    };
    CHECK(verdicts);
}

static void publish_is_read(void **state)
{
    (void)state;
    struct bytes body = hex_bytes("0003 'a/b' 0102 'hello'");
    assert_int_equal(mqtt_decode_publish(MQTT_3_1_1, 0x0d, body, &got.publish, &fault), STATUS_OK);
    assert_int_equal(got.publish.qos, 2);
    assert_true(got.publish.dup);
    assert_true(got.publish.retain);
    assert_int_equal(got.publish.packet_id, 0x102);
    assert_true(bytes_equal(got.publish.topic, bytes_of_text("a/b")));
    assert_true(bytes_equal(got.publish.payload, bytes_of_text("hello")));
    assert_int_equal(got.publish.properties.size, 0);
    assert_true(got.publish.properties_forward_as_they_are);
    hex_free(body);
}

static void publish_properties_are_read(void **state)
{
    (void)state;
    struct bytes body = hex_bytes("0000 14 01 01 02 00000007 23 0009 08 0002 'r1' 26 0000 0000 'x'");
    assert_int_equal(mqtt_decode_publish(MQTT_5_0, 0, body, &got.publish, &fault), STATUS_OK);
    assert_true(got.publish.payload_is_utf8);
    assert_true(got.publish.has_message_expiry);
    assert_int_equal(got.publish.message_expiry_s, 7);
    assert_int_equal(got.publish.topic_alias, 9);
    assert_int_equal(got.publish.user_properties, 1);
    assert_true(bytes_equal(got.publish.response_topic, bytes_of_text("r1")));
    assert_true(bytes_equal(got.publish.payload, bytes_of_text("x")));
    assert_int_equal(got.publish.properties.size, 0x14);
    assert_false(got.publish.properties_forward_as_they_are);
    hex_free(body);
}

static void publish_faults(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {4, 0x30, "0001 'a'", OK},
        {5, 0x30, "0001 'a' 00", OK},
        {5, 0x30, "0001 'a'", MQTT_MALFORMED_PACKET}, /* no property length */
        {4, 0x30, "", MQTT_MALFORMED_PACKET},
        {4, 0x30, "00", MQTT_MALFORMED_PACKET},
        {4, 0x30, "0002 'a'", MQTT_MALFORMED_PACKET},
        {4, 0x30, "ffff 'a'", MQTT_MALFORMED_PACKET},
        {4, 0x32, "0001 'a' 00", MQTT_MALFORMED_PACKET},
        {4, 0x32, "0001 'a' 0000", MQTT_PROTOCOL_ERROR},
        {5, 0x34, "0001 'a' 0000 00", MQTT_PROTOCOL_ERROR},
        {4, 0x36, "0001 'a' 0001", MQTT_MALFORMED_PACKET}, /* QoS 3 */
        {5, 0x36, "0001 'a' 0001 00", MQTT_MALFORMED_PACKET},
        {4, 0x38, "0001 'a'", MQTT_MALFORMED_PACKET}, /* DUP with QoS 0 [MQTT-3.3.1-2] */
        {4, 0x3a, "0001 'a' 0001", OK},
        {4, 0x30, "0000", MQTT_TOPIC_NAME_INVALID},
        {5, 0x30, "0000 00", MQTT_PROTOCOL_ERROR},
        {5, 0x30, "0000 03 23 0001", OK},
        {5, 0x30, "0001 'a' 03 23 0000", MQTT_TOPIC_ALIAS_INVALID},
        {4, 0x30, "0003 'a/+'", MQTT_TOPIC_NAME_INVALID},
        {5, 0x30, "0001 '#' 00", MQTT_TOPIC_NAME_INVALID},
        {4, 0x30, "0001 00", MQTT_MALFORMED_PACKET},
        {4, 0x30, "0003 eda080", MQTT_MALFORMED_PACKET},
        {5, 0x30, "0001 ff 00", MQTT_MALFORMED_PACKET},
        {5, 0x30, "0001 'a' 02 0b 01", MQTT_PROTOCOL_ERROR}, /* subscription identifier by a client */
        {5, 0x30, "0001 'a' 02 01 02", MQTT_PROTOCOL_ERROR},
        {5, 0x30, "0001 'a' 04 01 01 01 01", MQTT_PROTOCOL_ERROR},
        {5, 0x30, "0001 'a' 05 11 00000001", MQTT_MALFORMED_PACKET},
        {5, 0x30, "0001 'a' 06 08 0003 'a/#'", MQTT_PROTOCOL_ERROR},
        {5, 0x30, "0001 'a' 03 08 0000", MQTT_PROTOCOL_ERROR},
        {5, 0x30, "0001 'a' 04 03 0001 ff", MQTT_MALFORMED_PACKET},
        {5, 0x30, "0001 'a' 04 09 0001 ff", OK}, /* correlation data: any bytes */
        {5, 0x30, "0001 'a' 03 09 0001 ff", MQTT_MALFORMED_PACKET},
        {5, 0x30, "0001 'a' 05", MQTT_MALFORMED_PACKET},
        {5, 0x30, "0001 'a' 81 00 01", MQTT_MALFORMED_PACKET},
        {5, 0x30, "0001 'a' ff ff ff ff 01", MQTT_MALFORMED_PACKET},
    };
    CHECK(verdicts);
    struct bytes body = hex_bytes("0001 'a' 04 0b 01 0b 02");
    assert_int_equal(mqtt_decode_publish_to_client(MQTT_5_0, 0, body, &got.publish, &fault), STATUS_OK);
    hex_free(body);
}

static void acknowledgements(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {4, 0x40, "0001", OK},
        {4, 0x40, "0000", MQTT_PROTOCOL_ERROR},
        {4, 0x40, "00", MQTT_MALFORMED_PACKET},
        {4, 0x40, "", MQTT_MALFORMED_PACKET},
        {4, 0x40, "0001 00", MQTT_MALFORMED_PACKET},
        {5, 0x40, "0001", OK},
        {5, 0x40, "0001 10", OK},
        {5, 0x50, "0001 97", OK},
        {5, 0x62, "0001 92", OK},
        {5, 0x70, "0001 92 00", OK},
        {5, 0x40, "0001 92", MQTT_PROTOCOL_ERROR},
        {5, 0x62, "0001 10", MQTT_PROTOCOL_ERROR},
        {5, 0x40, "0001 ff", MQTT_PROTOCOL_ERROR},
        {5, 0x40, "0001 10 0a 1f 0001 'x' 26 0001 'k' 0000", OK},
        {5, 0x40, "0001 10 04 1f 0001 'x' 00", MQTT_MALFORMED_PACKET}, /* bytes behind */
        {5, 0x40, "0001 10 05 11 00000001", MQTT_MALFORMED_PACKET},
        {5, 0x40, "0001 10 08 1f 0001 'x' 1f 0001 'x'", MQTT_PROTOCOL_ERROR},
        {5, 0x40, "0001 10 01", MQTT_MALFORMED_PACKET},
    };
    CHECK(verdicts);
    struct bytes body = hex_bytes("1234 87 0a 1f 0002 'no' 26 0000 0000");
    assert_int_equal(
        mqtt_decode_acknowledgement(MQTT_5_0, MQTT_PUBREC, body, &got.acknowledgement, &fault), STATUS_OK);
    assert_int_equal(got.acknowledgement.packet_id, 0x1234);
    assert_int_equal(got.acknowledgement.reason, MQTT_NOT_AUTHORIZED);
    assert_true(bytes_equal(got.acknowledgement.properties.reason_string, bytes_of_text("no")));
    assert_int_equal(got.acknowledgement.properties.user_properties, 1);
    hex_free(body);
    /* The short form leaves nothing of the packet before. */
    body = hex_bytes("1235");
    assert_int_equal(
        mqtt_decode_acknowledgement(MQTT_5_0, MQTT_PUBACK, body, &got.acknowledgement, &fault), STATUS_OK);
    assert_int_equal(got.acknowledgement.reason, MQTT_SUCCESS);
    assert_int_equal(got.acknowledgement.properties.present, 0);
    assert_int_equal(got.acknowledgement.properties.raw.size, 0);
    assert_int_equal(got.acknowledgement.properties.user_properties, 0);
    hex_free(body);
}

static void subscribe_is_walked(void **state)
{
    (void)state;
    struct bytes body = hex_bytes("0007 02 0b 05  0003 'a/#' 2e  0001 '+' 01");
    assert_int_equal(mqtt_decode_subscribe(MQTT_5_0, body, &got.subscribe, &fault), STATUS_OK);
    assert_int_equal(got.subscribe.packet_id, 7);
    assert_int_equal(got.subscribe.count, 2);
    assert_int_equal(got.subscribe.properties.subscription_identifier, 5);
    struct mqtt_subscribe_filter filter;
    struct bytes filters = got.subscribe.filters;
    assert_true(mqtt_subscribe_next(&filters, MQTT_5_0, &filter));
    assert_true(bytes_equal(filter.filter, bytes_of_text("a/#")));
    assert_int_equal(filter.qos, 2);
    assert_true(filter.no_local);
    assert_true(filter.retain_as_published);
    assert_int_equal(filter.retain_handling, 2);
    assert_true(mqtt_subscribe_next(&filters, MQTT_5_0, &filter));
    assert_true(bytes_equal(filter.filter, bytes_of_text("+")));
    assert_int_equal(filter.qos, 1);
    assert_false(filter.no_local || filter.retain_as_published || filter.retain_handling);
    assert_false(mqtt_subscribe_next(&filters, MQTT_5_0, &filter));
    hex_free(body);
}

static void subscribe_faults(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {4, 0x82, "0001 0001 'a' 02", OK},
        {3, 0x82, "0001 0001 'a' 00", OK},
        {5, 0x82, "0001 00 0001 'a' 00", OK},
        {4, 0x82, "0001", MQTT_PROTOCOL_ERROR},
        {5, 0x82, "0001 00", MQTT_PROTOCOL_ERROR},
        {5, 0x82, "0001", MQTT_MALFORMED_PACKET},
        {4, 0x82, "00", MQTT_MALFORMED_PACKET},
        {4, 0x82, "0000 0001 'a' 00", MQTT_PROTOCOL_ERROR},
        {4, 0x82, "0001 0001 'a'", MQTT_MALFORMED_PACKET},
        {4, 0x82, "0001 0002 'a'", MQTT_MALFORMED_PACKET},
        {4, 0x82, "0001 0001 'a' 03", MQTT_PROTOCOL_ERROR},
        {4, 0x82, "0001 0001 'a' 04", MQTT_MALFORMED_PACKET},
        {5, 0x82, "0001 00 0001 'a' 03", MQTT_PROTOCOL_ERROR},
        {5, 0x82, "0001 00 0001 'a' 40", MQTT_MALFORMED_PACKET},
        {5, 0x82, "0001 00 0001 'a' 80", MQTT_MALFORMED_PACKET},
        {5, 0x82, "0001 00 0001 'a' 30", MQTT_PROTOCOL_ERROR},
        {5, 0x82, "0001 00 0001 'a' 2c", OK},
        {5, 0x82, "0001 02 0b 00 0001 'a' 00", MQTT_PROTOCOL_ERROR},
        {5, 0x82, "0001 04 0b 01 0b 02 0001 'a' 00", MQTT_PROTOCOL_ERROR},
        {5, 0x82, "0001 05 0b ffffff7f 0001 'a' 00", OK},
        {5, 0x82, "0001 06 0b ffffffff 7f 0001 'a' 00", MQTT_MALFORMED_PACKET},
        {5, 0x82, "0001 03 0b 81 00 0001 'a' 00", MQTT_MALFORMED_PACKET},
        {5, 0x82, "0001 02 01 01 0001 'a' 00", MQTT_MALFORMED_PACKET},
        {4, 0x82, "0001 0000 00", MQTT_TOPIC_FILTER_INVALID},
        {4, 0x82, "0001 0002 'a#' 00", MQTT_TOPIC_FILTER_INVALID},
        {4, 0x82, "0001 0001 'a' 00 0003 '#/a' 00", MQTT_TOPIC_FILTER_INVALID},
        {4, 0x82, "0001 0001 ff 00", MQTT_MALFORMED_PACKET},
        {5, 0x82, "0001 00 000a '$share/g/a' 00", OK},
        {5, 0x82, "0001 00 000a '$share/g/a' 04", MQTT_PROTOCOL_ERROR},
        {5, 0x82, "0001 00 0009 '$share//a' 00", MQTT_TOPIC_FILTER_INVALID},
    };
    CHECK(verdicts);
}

static void unsubscribe(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {4, 0xa2, "0001 0001 'a'", OK},
        {5, 0xa2, "0001 00 0001 'a' 0003 'b/#'", OK},
        {4, 0xa2, "0001", MQTT_PROTOCOL_ERROR},
        {5, 0xa2, "0001 00", MQTT_PROTOCOL_ERROR},
        {4, 0xa2, "0000 0001 'a'", MQTT_PROTOCOL_ERROR},
        {4, 0xa2, "0001 0000", MQTT_TOPIC_FILTER_INVALID},
        {4, 0xa2, "0001 0001 'a' 00", MQTT_MALFORMED_PACKET},
        {5, 0xa2, "0001 02 0b 01 0001 'a'", MQTT_MALFORMED_PACKET},
        {5, 0xa2, "0001 07 26 0001 'k' 0001 'v' 0001 'a'", OK},
    };
    CHECK(verdicts);
    struct bytes body = hex_bytes("0009 0001 'a' 0003 'b/#'");
    assert_int_equal(mqtt_decode_unsubscribe(MQTT_3_1_1, body, &got.unsubscribe, &fault), STATUS_OK);
    assert_int_equal(got.unsubscribe.count, 2);
    struct bytes filters = got.unsubscribe.filters, filter;
    assert_true(mqtt_unsubscribe_next(&filters, &filter));
    assert_true(bytes_equal(filter, bytes_of_text("a")));
    assert_true(mqtt_unsubscribe_next(&filters, &filter));
    assert_true(bytes_equal(filter, bytes_of_text("b/#")));
    assert_false(mqtt_unsubscribe_next(&filters, &filter));
    hex_free(body);
}

static void disconnect_auth_and_ping(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {4, 0xe0, "", OK},
        {4, 0xe0, "00", MQTT_MALFORMED_PACKET},
        {5, 0xe0, "", OK},
        {5, 0xe0, "04", OK},
        {5, 0xe0, "00 05 11 00000000", OK},
        {5, 0xe0, "01", MQTT_PROTOCOL_ERROR},
        {5, 0xe0, "00 00 00", MQTT_MALFORMED_PACKET},
        {5, 0xe0, "00 03 21 0001", MQTT_MALFORMED_PACKET},
        {5, 0xe0, "8b 00", OK},
        {5, 0xf0, "", OK},
        {5, 0xf0, "18 08 15 0001 'm' 16 0001 ff", OK},
        {5, 0xf0, "19 04 15 0001 'm'", OK},
        {5, 0xf0, "18", MQTT_PROTOCOL_ERROR},
        {5, 0xf0, "18 00", MQTT_PROTOCOL_ERROR},
        {5, 0xf0, "18 04 16 0001 'd'", MQTT_PROTOCOL_ERROR},
        {5, 0xf0, "04 04 15 0001 'm'", MQTT_PROTOCOL_ERROR},
        {5, 0xc0, "", OK},
        {4, 0xc0, "00", MQTT_MALFORMED_PACKET},
    };
    CHECK(verdicts);
}

static void what_clients_read(void **state)
{
    (void)state;
    static const struct verdict verdicts[] = {
        {4, 0x20, "0000", OK},
        {4, 0x20, "0105", OK},
        {4, 0x20, "0006", MQTT_PROTOCOL_ERROR},
        {4, 0x20, "0200", MQTT_MALFORMED_PACKET},
        {4, 0x20, "0000 00", MQTT_MALFORMED_PACKET},
        {5, 0x20, "0000", MQTT_MALFORMED_PACKET},
        {5, 0x20, "0000 00", OK},
        {5, 0x20, "0087 00", OK},
        {5, 0x20, "0000 02 24 01", OK},
        {5, 0x20, "0000 02 24 02", MQTT_PROTOCOL_ERROR},
        {5, 0x20, "0000 05 12 0002 'id'", OK},
        {5, 0x20, "0000 02 17 01", MQTT_MALFORMED_PACKET},
        {4, 0x90, "0001 00 01 02 80", OK},
        {4, 0x90, "0001 87", MQTT_PROTOCOL_ERROR},
        {4, 0x90, "0001", MQTT_MALFORMED_PACKET},
        {5, 0x90, "0001 00 87 02", OK},
        {5, 0x90, "0001 00 11", MQTT_PROTOCOL_ERROR},
        {5, 0x90, "0001 00", MQTT_MALFORMED_PACKET},
        {4, 0xb0, "0001", OK},
        {4, 0xb0, "0001 00", MQTT_MALFORMED_PACKET},
        {5, 0xb0, "0001 00 11 00", OK},
        {5, 0xb0, "0000 00 11", MQTT_PROTOCOL_ERROR},
    };
    CHECK(verdicts);
}

static void texts_are_never_missing(void **state)
{
    (void)state;
    assert_string_equal(mqtt_type_text(MQTT_CONNECT), "CONNECT");
    assert_string_equal(mqtt_type_text(MQTT_AUTH), "AUTH");
    assert_string_equal(mqtt_type_text(16), "unknown type");
    assert_string_equal(mqtt_reason_text(MQTT_SESSION_TAKEN_OVER), "session taken over");
    assert_string_equal(mqtt_reason_text(3), "unknown reason");
    for (unsigned reason = 0; reason < 256; reason++)
        assert_non_null(mqtt_reason_text((uint8_t)reason));
    assert_false(mqtt_reason_allowed(MQTT_PUBACK, 0xa3));
    assert_false(mqtt_reason_allowed(200, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_read),
        cmocka_unit_test(bad_headers_are_refused),
        cmocka_unit_test(a_packet_too_large_is_a_limit),
        cmocka_unit_test(connect_of_5_is_read_whole),
        cmocka_unit_test(connect_by_version),
        cmocka_unit_test(connect_flags_are_consistent),
        cmocka_unit_test(connect_properties),
        cmocka_unit_test(publish_is_read),
        cmocka_unit_test(publish_properties_are_read),
        cmocka_unit_test(publish_faults),
        cmocka_unit_test(acknowledgements),
        cmocka_unit_test(subscribe_is_walked),
        cmocka_unit_test(subscribe_faults),
        cmocka_unit_test(unsubscribe),
        cmocka_unit_test(disconnect_auth_and_ping),
        cmocka_unit_test(what_clients_read),
        cmocka_unit_test(texts_are_never_missing),
    };
    return cmocka_run_group_tests_name("mqtt_decode", tests, NULL, NULL);
}
