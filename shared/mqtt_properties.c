/*
 * MQTT 5 properties by one table: encoding, place and range of each [MQTT 2.2.2.2]. Decoding, encoding and
 * walking all read it, so that a property is described once. Worker process; bench. Pure.
 */
#include "shared/mqtt_properties.h"

#include "shared/mqtt_cursor.h"

#define IN(place) (UINT32_C(1) << (place))
#define IN_WILL   IN(MQTT_PROPERTIES_OF_WILL)
#define IN_ACK    (IN(MQTT_PUBACK) | IN(MQTT_PUBREC) | IN(MQTT_PUBREL) | IN(MQTT_PUBCOMP))
#define IN_REASON                                                                                            \
    (IN(MQTT_CONNACK) | IN_ACK | IN(MQTT_SUBACK) | IN(MQTT_UNSUBACK) | IN(MQTT_DISCONNECT) | IN(MQTT_AUTH))
#define IN_AUTH     (IN(MQTT_CONNECT) | IN(MQTT_CONNACK) | IN(MQTT_AUTH))
#define IN_MESSAGE  (IN(MQTT_PUBLISH) | IN_WILL)
#define IN_ALL      (IN_REASON | IN_MESSAGE | IN(MQTT_CONNECT) | IN(MQTT_SUBSCRIBE) | IN(MQTT_UNSUBSCRIBE))
#define FIELD(name) offsetof(struct mqtt_properties, name)
#define ANY_U16     0, UINT16_MAX
#define ANY_U32     0, UINT32_MAX
#define TEXT        0, 0
#define FLAG        0, 1

const struct mqtt_property_rule mqtt_property_rules[PROPERTY_COUNT] = {
    [PROPERTY_PAYLOAD_FORMAT_INDICATOR] = {0x01, PROPERTY_TYPE_U8, FIELD(payload_format_indicator),
        IN_MESSAGE, FLAG},
    [PROPERTY_MESSAGE_EXPIRY_INTERVAL] = {0x02, PROPERTY_TYPE_U32, FIELD(message_expiry_interval), IN_MESSAGE,
        ANY_U32},
    [PROPERTY_CONTENT_TYPE] = {0x03, PROPERTY_TYPE_STRING, FIELD(content_type), IN_MESSAGE, TEXT},
    [PROPERTY_RESPONSE_TOPIC] = {0x08, PROPERTY_TYPE_STRING, FIELD(response_topic), IN_MESSAGE, TEXT},
    [PROPERTY_CORRELATION_DATA] = {0x09, PROPERTY_TYPE_BINARY, FIELD(correlation_data), IN_MESSAGE, TEXT},
    [PROPERTY_SUBSCRIPTION_IDENTIFIER] = {0x0B, PROPERTY_TYPE_VARINT, FIELD(subscription_identifier),
        IN(MQTT_PUBLISH) | IN(MQTT_SUBSCRIBE), 1, MQTT_VARINT_MAX},
    [PROPERTY_SESSION_EXPIRY_INTERVAL] = {0x11, PROPERTY_TYPE_U32, FIELD(session_expiry_interval),
        IN(MQTT_CONNECT) | IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT), ANY_U32},
    [PROPERTY_ASSIGNED_CLIENT_IDENTIFIER] = {0x12, PROPERTY_TYPE_STRING, FIELD(assigned_client_identifier),
        IN(MQTT_CONNACK), TEXT},
    [PROPERTY_SERVER_KEEP_ALIVE] = {0x13, PROPERTY_TYPE_U16, FIELD(server_keep_alive), IN(MQTT_CONNACK),
        ANY_U16},
    [PROPERTY_AUTHENTICATION_METHOD] = {0x15, PROPERTY_TYPE_STRING, FIELD(authentication_method), IN_AUTH,
        TEXT},
    [PROPERTY_AUTHENTICATION_DATA] = {0x16, PROPERTY_TYPE_BINARY, FIELD(authentication_data), IN_AUTH, TEXT},
    [PROPERTY_REQUEST_PROBLEM_INFORMATION] = {0x17, PROPERTY_TYPE_U8, FIELD(request_problem_information),
        IN(MQTT_CONNECT), FLAG},
    [PROPERTY_WILL_DELAY_INTERVAL] = {0x18, PROPERTY_TYPE_U32, FIELD(will_delay_interval), IN_WILL, ANY_U32},
    [PROPERTY_REQUEST_RESPONSE_INFORMATION] = {0x19, PROPERTY_TYPE_U8, FIELD(request_response_information),
        IN(MQTT_CONNECT), FLAG},
    [PROPERTY_RESPONSE_INFORMATION] = {0x1A, PROPERTY_TYPE_STRING, FIELD(response_information),
        IN(MQTT_CONNACK), TEXT},
    [PROPERTY_SERVER_REFERENCE] = {0x1C, PROPERTY_TYPE_STRING, FIELD(server_reference),
        IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT), TEXT},
    [PROPERTY_REASON_STRING] = {0x1F, PROPERTY_TYPE_STRING, FIELD(reason_string), IN_REASON, TEXT},
    [PROPERTY_RECEIVE_MAXIMUM] = {0x21, PROPERTY_TYPE_U16, FIELD(receive_maximum),
        IN(MQTT_CONNECT) | IN(MQTT_CONNACK), 1, UINT16_MAX},
    [PROPERTY_TOPIC_ALIAS_MAXIMUM] = {0x22, PROPERTY_TYPE_U16, FIELD(topic_alias_maximum),
        IN(MQTT_CONNECT) | IN(MQTT_CONNACK), ANY_U16},
    [PROPERTY_TOPIC_ALIAS] = {0x23, PROPERTY_TYPE_U16, FIELD(topic_alias), IN(MQTT_PUBLISH), 1, UINT16_MAX},
    [PROPERTY_MAXIMUM_QOS] = {0x24, PROPERTY_TYPE_U8, FIELD(maximum_qos), IN(MQTT_CONNACK), FLAG},
    [PROPERTY_RETAIN_AVAILABLE] = {0x25, PROPERTY_TYPE_U8, FIELD(retain_available), IN(MQTT_CONNACK), FLAG},
    [PROPERTY_USER_PROPERTY] = {0x26, PROPERTY_TYPE_PAIR, 0, IN_ALL, TEXT},
    [PROPERTY_MAXIMUM_PACKET_SIZE] = {0x27, PROPERTY_TYPE_U32, FIELD(maximum_packet_size),
        IN(MQTT_CONNECT) | IN(MQTT_CONNACK), 1, UINT32_MAX},
    [PROPERTY_WILDCARD_SUBSCRIPTION_AVAILABLE] = {0x28, PROPERTY_TYPE_U8,
        FIELD(wildcard_subscription_available), IN(MQTT_CONNACK), FLAG},
    [PROPERTY_SUBSCRIPTION_IDENTIFIER_AVAILABLE] = {0x29, PROPERTY_TYPE_U8,
        FIELD(subscription_identifier_available), IN(MQTT_CONNACK), FLAG},
    [PROPERTY_SHARED_SUBSCRIPTION_AVAILABLE] = {0x2A, PROPERTY_TYPE_U8, FIELD(shared_subscription_available),
        IN(MQTT_CONNACK), FLAG},
};

/* Identifier to property plus one; 0: no such identifier. */
static const uint8_t properties_by_identifier[0x2B] = {
    [0x01] = PROPERTY_PAYLOAD_FORMAT_INDICATOR + 1,
    [0x02] = PROPERTY_MESSAGE_EXPIRY_INTERVAL + 1,
    [0x03] = PROPERTY_CONTENT_TYPE + 1,
    [0x08] = PROPERTY_RESPONSE_TOPIC + 1,
    [0x09] = PROPERTY_CORRELATION_DATA + 1,
    [0x0B] = PROPERTY_SUBSCRIPTION_IDENTIFIER + 1,
    [0x11] = PROPERTY_SESSION_EXPIRY_INTERVAL + 1,
    [0x12] = PROPERTY_ASSIGNED_CLIENT_IDENTIFIER + 1,
    [0x13] = PROPERTY_SERVER_KEEP_ALIVE + 1,
    [0x15] = PROPERTY_AUTHENTICATION_METHOD + 1,
    [0x16] = PROPERTY_AUTHENTICATION_DATA + 1,
    [0x17] = PROPERTY_REQUEST_PROBLEM_INFORMATION + 1,
    [0x18] = PROPERTY_WILL_DELAY_INTERVAL + 1,
    [0x19] = PROPERTY_REQUEST_RESPONSE_INFORMATION + 1,
    [0x1A] = PROPERTY_RESPONSE_INFORMATION + 1,
    [0x1C] = PROPERTY_SERVER_REFERENCE + 1,
    [0x1F] = PROPERTY_REASON_STRING + 1,
    [0x21] = PROPERTY_RECEIVE_MAXIMUM + 1,
    [0x22] = PROPERTY_TOPIC_ALIAS_MAXIMUM + 1,
    [0x23] = PROPERTY_TOPIC_ALIAS + 1,
    [0x24] = PROPERTY_MAXIMUM_QOS + 1,
    [0x25] = PROPERTY_RETAIN_AVAILABLE + 1,
    [0x26] = PROPERTY_USER_PROPERTY + 1,
    [0x27] = PROPERTY_MAXIMUM_PACKET_SIZE + 1,
    [0x28] = PROPERTY_WILDCARD_SUBSCRIPTION_AVAILABLE + 1,
    [0x29] = PROPERTY_SUBSCRIPTION_IDENTIFIER_AVAILABLE + 1,
    [0x2A] = PROPERTY_SHARED_SUBSCRIPTION_AVAILABLE + 1,
};

static const struct mqtt_properties defaults = {
    .request_problem_information = 1,
    .maximum_qos = 2,
    .retain_available = 1,
    .wildcard_subscription_available = 1,
    .subscription_identifier_available = 1,
    .shared_subscription_available = 1,
    .receive_maximum = UINT16_MAX,
    .maximum_packet_size = UINT32_MAX,
};

static enum status read_value(struct mqtt_cursor *cursor, enum mqtt_property_type type,
    struct mqtt_property_value *ret, struct mqtt_fault *ret_fault);
static enum status check_value(const struct mqtt_property_value *value, struct mqtt_fault *ret_fault);
static void store_value(struct mqtt_properties *properties, const struct mqtt_property_value *value);

void mqtt_properties_init(struct mqtt_properties *properties)
{
    *properties = defaults;
}

enum status mqtt_properties_split(
    struct bytes input, struct bytes *ret_raw, size_t *ret_consumed, struct mqtt_fault *ret_fault)
{
    uint32_t size;
    size_t length_size;
    if (mqtt_varint_get(input.data, input.size, &size, &length_size) != STATUS_OK)
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "property length missing or badly encoded");
    if (size > input.size - length_size)
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "properties longer than the packet");
    *ret_raw = bytes_of(input.data + length_size, size);
    *ret_consumed = length_size + size;
    return STATUS_OK;
}

enum status mqtt_properties_decode(struct bytes input, uint8_t place, struct mqtt_properties *ret,
    size_t *ret_consumed, struct mqtt_fault *ret_fault)
{
    *ret = defaults;
    enum status status = mqtt_properties_split(input, &ret->raw, ret_consumed, ret_fault);
    struct bytes rest = ret->raw;
    while (status == STATUS_OK && rest.size > 0) {
        struct mqtt_property_value value;
        status = mqtt_property_read(&rest, place, &ret->present, &value, ret_fault);
        if (status == STATUS_OK)
            store_value(ret, &value);
    }
    return status;
}

enum status mqtt_property_read(struct bytes *raw, uint8_t place, uint32_t *seen,
    struct mqtt_property_value *ret, struct mqtt_fault *ret_fault)
{
    uint8_t identifier = raw->data[0];
    uint8_t found =
        identifier < sizeof properties_by_identifier ? properties_by_identifier[identifier] : (uint8_t)0;
    if (found == 0)
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "unknown property");
    *ret = (struct mqtt_property_value){.property = found - 1u};
    const struct mqtt_property_rule *rule = &mqtt_property_rules[ret->property];
    if (!(rule->places & IN(place)))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "property not allowed in this packet");
    bool repeatable = ret->property == PROPERTY_USER_PROPERTY ||
                      (ret->property == PROPERTY_SUBSCRIPTION_IDENTIFIER && place == MQTT_PUBLISH);
    if ((*seen & PROPERTY_BIT(ret->property)) && !repeatable)
        return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "property given twice");
    *seen |= PROPERTY_BIT(ret->property);
    struct mqtt_cursor cursor = {raw->data + 1, raw->data + raw->size};
    enum status status = read_value(&cursor, rule->type, ret, ret_fault);
    if (status != STATUS_OK)
        return status;
    *raw = mqtt_cursor_rest(&cursor);
    return check_value(ret, ret_fault);
}

/* Size of the encoded value at the start of `from`, which lies within `size` bytes if it is well formed. */
static size_t encoded_size(const uint8_t *from, size_t size, enum mqtt_property_type type)
{
    size_t first, i = 0;
    switch (type) {
    case PROPERTY_TYPE_U8:
        return 1;
    case PROPERTY_TYPE_U16:
        return 2;
    case PROPERTY_TYPE_U32:
        return 4;
    case PROPERTY_TYPE_VARINT:
        while (i < size && i < 4 && (from[i] & 0x80))
            i++;
        return i + 1;
    case PROPERTY_TYPE_STRING:
    case PROPERTY_TYPE_BINARY:
        return size < 2 ? 2 : 2u + get_u16_be(from);
    case PROPERTY_TYPE_PAIR:
        first = size < 2 ? 2 : 2u + get_u16_be(from);
        return size < first + 2 ? first + 2 : first + 2u + get_u16_be(from + first);
    }
    return SIZE_MAX;
}

bool mqtt_property_next(struct bytes *raw, uint8_t *ret_identifier, struct bytes *ret_value)
{
    if (raw->size == 0)
        return false;
    uint8_t identifier = raw->data[0];
    if (identifier >= sizeof properties_by_identifier || properties_by_identifier[identifier] == 0)
        return false;
    enum mqtt_property property = properties_by_identifier[identifier] - 1u;
    size_t size = encoded_size(raw->data + 1, raw->size - 1, mqtt_property_rules[property].type);
    if (size > raw->size - 1)
        return false;
    *ret_identifier = identifier;
    *ret_value = bytes_of(raw->data + 1, size);
    *raw = bytes_of(raw->data + 1 + size, raw->size - 1 - size);
    return true;
}

size_t mqtt_properties_forward(uint8_t *to, struct bytes raw)
{
    uint8_t *start = to;
    uint8_t identifier;
    struct bytes value;
    while (mqtt_property_next(&raw, &identifier, &value)) {
        switch (properties_by_identifier[identifier] - 1) {
        case PROPERTY_TOPIC_ALIAS:
        case PROPERTY_MESSAGE_EXPIRY_INTERVAL:
        case PROPERTY_SUBSCRIPTION_IDENTIFIER:
        case PROPERTY_WILL_DELAY_INTERVAL:
            break;
        default:
            *to = identifier;
            memcpy(to + 1, value.data, value.size);
            to += 1 + value.size;
        }
    }
    return (size_t)(to - start);
}

uint8_t *mqtt_varint_put(uint8_t *to, uint32_t value)
{
    while (value >= 128) {
        *to++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *to++ = (uint8_t)value;
    return to;
}

enum status mqtt_varint_get(const uint8_t *from, size_t size, uint32_t *ret_value, size_t *ret_consumed)
{
    uint32_t value = 0;
    for (size_t i = 0; i < 4; i++) {
        if (i == size)
            return STATUS_AGAIN;
        value |= (from[i] & 0x7Fu) << (7 * i);
        if (from[i] & 0x80)
            continue;
        if (i > 0 && from[i] == 0)
            return STATUS_PROTOCOL;
        *ret_value = value;
        *ret_consumed = i + 1;
        return STATUS_OK;
    }
    return STATUS_PROTOCOL;
}

static enum status read_number(struct mqtt_cursor *cursor, enum mqtt_property_type type, uint32_t *ret)
{
    size_t size = 1;
    if (type == PROPERTY_TYPE_VARINT) {
        enum status status = mqtt_varint_get(cursor->at, mqtt_cursor_left(cursor), ret, &size);
        cursor->at += status == STATUS_OK ? size : 0;
        return status;
    }
    if (type == PROPERTY_TYPE_U32)
        return mqtt_read_u32(cursor, ret) ? STATUS_OK : STATUS_AGAIN;
    uint8_t high = 0, low;
    if (type == PROPERTY_TYPE_U16 && !mqtt_read_u8(cursor, &high))
        return STATUS_AGAIN;
    if (!mqtt_read_u8(cursor, &low))
        return STATUS_AGAIN;
    *ret = (uint32_t)high << 8 | low;
    return STATUS_OK;
}

static enum status read_pair(struct mqtt_cursor *cursor, struct bytes *ret, struct mqtt_fault *ret_fault)
{
    const uint8_t *start = cursor->at;
    struct bytes text;
    for (int i = 0; i < 2; i++)
        if (mqtt_read_string(cursor, &text, "user property longer than the properties",
                "user property is not UTF-8", ret_fault) != STATUS_OK)
            return STATUS_PROTOCOL;
    *ret = bytes_of(start, (size_t)(cursor->at - start));
    return STATUS_OK;
}

static enum status read_value(struct mqtt_cursor *cursor, enum mqtt_property_type type,
    struct mqtt_property_value *ret, struct mqtt_fault *ret_fault)
{
    switch (type) {
    case PROPERTY_TYPE_STRING:
        return mqtt_read_string(
            cursor, &ret->bytes, "property longer than the properties", "property is not UTF-8", ret_fault);
    case PROPERTY_TYPE_BINARY:
        if (!mqtt_read_binary(cursor, &ret->bytes))
            return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "property longer than the properties");
        return STATUS_OK;
    case PROPERTY_TYPE_PAIR:
        return read_pair(cursor, &ret->bytes, ret_fault);
    default:
        if (read_number(cursor, type, &ret->number) != STATUS_OK)
            return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "property cut short or badly encoded");
        return STATUS_OK;
    }
}

static enum status check_value(const struct mqtt_property_value *value, struct mqtt_fault *ret_fault)
{
    const struct mqtt_property_rule *rule = &mqtt_property_rules[value->property];
    if (value->property == PROPERTY_RESPONSE_TOPIC && !topic_name_valid(value->bytes))
        return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "response topic is no topic name");
    if (rule->type >= PROPERTY_TYPE_STRING)
        return STATUS_OK;
    if (value->property == PROPERTY_TOPIC_ALIAS && value->number == 0)
        return mqtt_fault_set(ret_fault, MQTT_TOPIC_ALIAS_INVALID, "topic alias 0");
    if (value->number < rule->minimum || value->number > rule->maximum)
        return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "property value out of range");
    return STATUS_OK;
}

static void store_value(struct mqtt_properties *properties, const struct mqtt_property_value *value)
{
    const struct mqtt_property_rule *rule = &mqtt_property_rules[value->property];
    void *field = (uint8_t *)properties + rule->field;
    switch ((enum mqtt_property_type)rule->type) {
    case PROPERTY_TYPE_U8:
        *(uint8_t *)field = (uint8_t)value->number;
        break;
    case PROPERTY_TYPE_U16:
        *(uint16_t *)field = (uint16_t)value->number;
        break;
    case PROPERTY_TYPE_U32:
    case PROPERTY_TYPE_VARINT:
        *(uint32_t *)field = value->number;
        break;
    case PROPERTY_TYPE_STRING:
    case PROPERTY_TYPE_BINARY:
        *(struct bytes *)field = value->bytes;
        break;
    case PROPERTY_TYPE_PAIR:
        properties->user_properties++;
        break;
    }
}
