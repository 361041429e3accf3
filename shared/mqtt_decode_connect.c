/*
 * The CONNECT decoder: protocol name and level, flags and their consistency, properties, payload fields in
 * their order [MQTT 3.1]. Worker process; bench. Pure, trusts nothing: this is what strangers send first.
 */
#include "shared/mqtt_cursor.h"
#include "shared/mqtt_decode.h"
#include "shared/mqtt_properties.h"

#define FLAG_RESERVED    0x01
#define FLAG_CLEAN_START 0x02
#define FLAG_WILL        0x04
#define FLAG_WILL_QOS    0x18
#define FLAG_WILL_RETAIN 0x20
#define FLAG_PASSWORD    0x40
#define FLAG_USER_NAME   0x80

static enum status read_protocol(
    struct mqtt_cursor *cursor, struct mqtt_connect *ret, struct mqtt_fault *ret_fault);
static enum status read_flags(
    struct mqtt_cursor *cursor, struct mqtt_connect *ret, uint8_t *ret_flags, struct mqtt_fault *ret_fault);
static enum status read_properties(
    struct mqtt_cursor *cursor, uint8_t place, struct mqtt_properties *ret, struct mqtt_fault *ret_fault);
static enum status read_client_id(
    struct mqtt_cursor *cursor, struct mqtt_connect *ret, struct mqtt_fault *ret_fault);
static enum status read_will(
    struct mqtt_cursor *cursor, struct mqtt_connect *ret, struct mqtt_fault *ret_fault);
static enum status read_credentials(
    struct mqtt_cursor *cursor, uint8_t flags, struct mqtt_connect *ret, struct mqtt_fault *ret_fault);

enum status mqtt_decode_connect(struct bytes body, struct mqtt_connect *ret, struct mqtt_fault *ret_fault)
{
    *ret = (struct mqtt_connect){.version = MQTT_3_1_1};
    mqtt_properties_init(&ret->properties);
    mqtt_properties_init(&ret->will_properties);
    struct mqtt_cursor cursor = mqtt_cursor_of(body);
    uint8_t flags = 0;
    enum status status = read_protocol(&cursor, ret, ret_fault);
    if (status == STATUS_OK)
        status = read_flags(&cursor, ret, &flags, ret_fault);
    if (status == STATUS_OK && ret->version == MQTT_5_0)
        status = read_properties(&cursor, MQTT_CONNECT, &ret->properties, ret_fault);
    if (status == STATUS_OK)
        status = read_client_id(&cursor, ret, ret_fault);
    if (status == STATUS_OK && ret->has_will)
        status = read_will(&cursor, ret, ret_fault);
    if (status == STATUS_OK)
        status = read_credentials(&cursor, flags, ret, ret_fault);
    if (status == STATUS_OK && cursor.at < cursor.end)
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "bytes behind the CONNECT's fields");
    return status;
}

static enum status read_protocol(
    struct mqtt_cursor *cursor, struct mqtt_connect *ret, struct mqtt_fault *ret_fault)
{
    struct bytes name;
    uint8_t level;
    if (!mqtt_read_binary(cursor, &name) || !mqtt_read_u8(cursor, &level))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "CONNECT shorter than its protocol name");
    if (bytes_equal(name, bytes_of_text("MQTT")) && (level == MQTT_3_1_1 || level == MQTT_5_0))
        ret->version = level;
    else if (bytes_equal(name, bytes_of_text("MQIsdp")) && level == MQTT_3_1)
        ret->version = MQTT_3_1;
    else
        return mqtt_fault_set(
            ret_fault, MQTT_UNSUPPORTED_PROTOCOL_VERSION, "protocol name or level not supported");
    return STATUS_OK;
}

/* In 3.1 reserved bits are not said to be zero, and will flags are disregarded without a will. */
static bool flags_valid(enum mqtt_version version, uint8_t flags)
{
    if ((flags & FLAG_RESERVED) && version != MQTT_3_1) /* [MQTT-3.1.2-3] */
        return false;
    if (!(flags & FLAG_WILL) && (flags & (FLAG_WILL_QOS | FLAG_WILL_RETAIN)) && version != MQTT_3_1)
        return false;                                                    /* [MQTT-3.1.2-11, -13] */
    if ((flags & FLAG_WILL) && (flags & FLAG_WILL_QOS) == FLAG_WILL_QOS) /* [MQTT-3.1.2-12] */
        return false;
    /* 3.1 and 3.1.1 know no password without a user name [MQTT-3.1.2-22 of 3.1.1]. */
    return !(flags & FLAG_PASSWORD) || (flags & FLAG_USER_NAME) || version == MQTT_5_0;
}

static enum status read_flags(
    struct mqtt_cursor *cursor, struct mqtt_connect *ret, uint8_t *ret_flags, struct mqtt_fault *ret_fault)
{
    if (!mqtt_read_u8(cursor, ret_flags) || !mqtt_read_u16(cursor, &ret->keep_alive_s))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "CONNECT cut short");
    uint8_t flags = *ret_flags;
    if (!flags_valid(ret->version, flags))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "CONNECT flags not allowed");
    ret->clean_start = flags & FLAG_CLEAN_START;
    ret->has_will = flags & FLAG_WILL;
    ret->will_qos = ret->has_will ? flags >> 3 & 3 : 0;
    ret->will_retain = ret->has_will && (flags & FLAG_WILL_RETAIN);
    return STATUS_OK;
}

static enum status read_properties(
    struct mqtt_cursor *cursor, uint8_t place, struct mqtt_properties *ret, struct mqtt_fault *ret_fault)
{
    size_t consumed;
    enum status status = mqtt_properties_decode(mqtt_cursor_rest(cursor), place, ret, &consumed, ret_fault);
    if (status != STATUS_OK)
        return status;
    cursor->at += consumed;
    uint32_t authentication = ret->present & (PROPERTY_BIT(PROPERTY_AUTHENTICATION_METHOD) |
                                                 PROPERTY_BIT(PROPERTY_AUTHENTICATION_DATA));
    if (authentication == PROPERTY_BIT(PROPERTY_AUTHENTICATION_DATA))
        return mqtt_fault_set(
            ret_fault, MQTT_PROTOCOL_ERROR, "authentication data without authentication method");
    return STATUS_OK;
}

static enum status read_client_id(
    struct mqtt_cursor *cursor, struct mqtt_connect *ret, struct mqtt_fault *ret_fault)
{
    enum status status = mqtt_read_string(cursor, &ret->client_id, "client identifier missing or cut short",
        "client identifier is not UTF-8", ret_fault);
    if (status != STATUS_OK)
        return status;
    bool needed = ret->version == MQTT_3_1 || (ret->version == MQTT_3_1_1 && !ret->clean_start);
    if (ret->client_id.size == 0 && needed) /* [MQTT-3.1.3-8 of 3.1.1] */
        return mqtt_fault_set(ret_fault, MQTT_CLIENT_IDENTIFIER_NOT_VALID, "empty client identifier");
    return STATUS_OK;
}

static enum status read_will(
    struct mqtt_cursor *cursor, struct mqtt_connect *ret, struct mqtt_fault *ret_fault)
{
    enum status status = STATUS_OK;
    if (ret->version == MQTT_5_0)
        status = read_properties(cursor, MQTT_PROPERTIES_OF_WILL, &ret->will_properties, ret_fault);
    if (status == STATUS_OK)
        status = mqtt_read_string(cursor, &ret->will_topic, "will topic missing or cut short",
            "will topic is not UTF-8", ret_fault);
    if (status != STATUS_OK)
        return status;
    if (!topic_name_valid(ret->will_topic))
        return mqtt_fault_set(ret_fault, MQTT_TOPIC_NAME_INVALID, "will topic is no topic name");
    if (!mqtt_read_binary(cursor, &ret->will_payload))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "will payload missing or cut short");
    return STATUS_OK;
}

/* In 3.1 the packet's end takes precedence over the user name and password flags [MQTT 3.1, 3.1]. */
static enum status read_credentials(
    struct mqtt_cursor *cursor, uint8_t flags, struct mqtt_connect *ret, struct mqtt_fault *ret_fault)
{
    bool may_end = ret->version == MQTT_3_1;
    if ((flags & FLAG_USER_NAME) && !(may_end && cursor->at == cursor->end)) {
        enum status status = mqtt_read_string(
            cursor, &ret->user_name, "user name missing or cut short", "user name is not UTF-8", ret_fault);
        if (status != STATUS_OK)
            return status;
    }
    if ((flags & FLAG_PASSWORD) && !(may_end && cursor->at == cursor->end) &&
        !mqtt_read_binary(cursor, &ret->password))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "password missing or cut short");
    return STATUS_OK;
}
