/*
 * Encoders of the packets that a broker sends (a client's: mqtt_encode_client.c). PUBLISH and the
 * acknowledgements are the hot paths. Whoever calls gives enough room and values within MQTT's limits; the
 * encoders check neither. Worker process; bench. Pure.
 */
#include "shared/mqtt_encode.h"

#include "shared/mqtt_properties.h"
#include "shared/mqtt_put.h"

#define FLAG_DUP 0x08

static inline uint32_t publish_properties_size(const struct mqtt_publish_out *publish)
{
    size_t size = publish->properties.size;
    if (publish->topic_alias > 0)
        size += 3;
    if (publish->has_message_expiry)
        size += 5;
    for (uint32_t i = 0; i < publish->subscription_identifier_count; i++)
        size += 1 + mqtt_varint_size(publish->subscription_identifiers[i]);
    return (uint32_t)size;
}

/* Remaining length; *ret_properties_size without the length in front. */
static inline uint32_t publish_remaining_size(
    const struct mqtt_publish_out *publish, uint32_t *ret_properties_size)
{
    size_t size = 2 + publish->topic.size + (publish->qos > 0 ? 2 : 0) + publish->payload.size;
    *ret_properties_size = 0;
    if (publish->version == MQTT_5_0) {
        *ret_properties_size = publish_properties_size(publish);
        size += mqtt_varint_size(*ret_properties_size) + *ret_properties_size;
    }
    return (uint32_t)size;
}

size_t mqtt_publish_size(const struct mqtt_publish_out *publish)
{
    uint32_t properties_size;
    uint32_t remaining = publish_remaining_size(publish, &properties_size);
    return 1 + mqtt_varint_size(remaining) + remaining;
}

static uint8_t *put_publish_properties(uint8_t *to, const struct mqtt_publish_out *publish)
{
    if (publish->topic_alias > 0) {
        to = mqtt_put_u8(to, mqtt_property_rules[PROPERTY_TOPIC_ALIAS].identifier);
        to = mqtt_put_u16(to, publish->topic_alias);
    }
    if (publish->has_message_expiry) {
        to = mqtt_put_u8(to, mqtt_property_rules[PROPERTY_MESSAGE_EXPIRY_INTERVAL].identifier);
        to = mqtt_put_u32(to, publish->message_expiry_s);
    }
    for (uint32_t i = 0; i < publish->subscription_identifier_count; i++) {
        to = mqtt_put_u8(to, mqtt_property_rules[PROPERTY_SUBSCRIPTION_IDENTIFIER].identifier);
        to = mqtt_varint_put(to, publish->subscription_identifiers[i]);
    }
    return mqtt_put_run(to, publish->properties);
}

size_t mqtt_encode_publish_head(
    uint8_t *to, const struct mqtt_publish_out *publish, size_t *ret_packet_id_offset)
{
    uint8_t *start = to;
    size_t packet_id_offset = 0;
    uint32_t properties_size;
    uint32_t remaining = publish_remaining_size(publish, &properties_size);
    to = mqtt_put_u8(to, (uint8_t)(MQTT_PUBLISH << 4 | (publish->dup ? FLAG_DUP : 0) | publish->qos << 1 |
                                   (publish->retain ? 1 : 0)));
    to = mqtt_put_length(to, remaining);
    to = mqtt_put_u16(to, (uint16_t)publish->topic.size);
    to = mqtt_put_short_run(to, publish->topic);
    if (publish->qos > 0) {
        packet_id_offset = (size_t)(to - start);
        to = mqtt_put_u16(to, publish->packet_id);
    }
    if (publish->version == MQTT_5_0) {
        to = mqtt_put_length(to, properties_size);
        if (properties_size > 0)
            to = put_publish_properties(to, publish);
    }
    if (ret_packet_id_offset != NULL)
        *ret_packet_id_offset = packet_id_offset;
    return (size_t)(to - start);
}

size_t mqtt_encode_publish(uint8_t *to, const struct mqtt_publish_out *publish, size_t *ret_packet_id_offset)
{
    size_t head_size = mqtt_encode_publish_head(to, publish, ret_packet_id_offset);
    mqtt_put_short_run(to + head_size, publish->payload);
    return head_size + publish->payload.size;
}

size_t mqtt_encode_acknowledgement(
    uint8_t *to, enum mqtt_version version, uint8_t type, uint16_t packet_id, enum mqtt_reason reason)
{
    bool with_reason = version == MQTT_5_0 && reason != MQTT_SUCCESS;
    to[0] = (uint8_t)(type << 4 | (type == MQTT_PUBREL ? 2 : 0));
    to[1] = with_reason ? 3 : 2;
    put_u16_be(to + 2, packet_id);
    if (!with_reason)
        return 4;
    to[4] = (uint8_t)reason;
    return 5;
}

size_t mqtt_encode_pingresp(uint8_t *to)
{
    to[0] = MQTT_PINGRESP << 4;
    to[1] = 0;
    return 2;
}

/* Bytes of one property with its identifier; 0 for the user properties, which stand in `raw`. */
static size_t property_size(const struct mqtt_properties *properties, enum mqtt_property property)
{
    const struct mqtt_property_rule *rule = &mqtt_property_rules[property];
    const void *field = (const uint8_t *)properties + rule->field;
    switch ((enum mqtt_property_type)rule->type) {
    case PROPERTY_TYPE_U8:
        return 2;
    case PROPERTY_TYPE_U16:
        return 3;
    case PROPERTY_TYPE_U32:
        return 5;
    case PROPERTY_TYPE_VARINT:
        return 1 + mqtt_varint_size(*(const uint32_t *)field);
    case PROPERTY_TYPE_STRING:
    case PROPERTY_TYPE_BINARY:
        return 3 + ((const struct bytes *)field)->size;
    case PROPERTY_TYPE_PAIR:
        return 0;
    }
    return 0;
}

size_t mqtt_properties_size(const struct mqtt_properties *properties)
{
    if (properties == NULL)
        return 0;
    size_t size = 0;
    for (uint32_t left = properties->present; left > 0; left &= left - 1)
        size += property_size(properties, (enum mqtt_property)__builtin_ctz(left));
    struct bytes raw = properties->raw, value;
    uint8_t identifier;
    while (mqtt_property_next(&raw, &identifier, &value))
        if (identifier == mqtt_property_rules[PROPERTY_USER_PROPERTY].identifier)
            size += 1 + value.size;
    return size;
}

static uint8_t *put_property(
    uint8_t *to, const struct mqtt_properties *properties, enum mqtt_property property)
{
    const struct mqtt_property_rule *rule = &mqtt_property_rules[property];
    const void *field = (const uint8_t *)properties + rule->field;
    if (rule->type == PROPERTY_TYPE_PAIR)
        return to;
    to = mqtt_put_u8(to, rule->identifier);
    switch ((enum mqtt_property_type)rule->type) {
    case PROPERTY_TYPE_U8:
        return mqtt_put_u8(to, *(const uint8_t *)field);
    case PROPERTY_TYPE_U16:
        return mqtt_put_u16(to, *(const uint16_t *)field);
    case PROPERTY_TYPE_U32:
        return mqtt_put_u32(to, *(const uint32_t *)field);
    case PROPERTY_TYPE_VARINT:
        return mqtt_varint_put(to, *(const uint32_t *)field);
    default:
        return mqtt_put_binary(to, *(const struct bytes *)field);
    }
}

uint8_t *mqtt_properties_put(uint8_t *to, const struct mqtt_properties *properties)
{
    to = mqtt_varint_put(to, (uint32_t)mqtt_properties_size(properties));
    if (properties == NULL)
        return to;
    for (uint32_t left = properties->present; left > 0; left &= left - 1)
        to = put_property(to, properties, (enum mqtt_property)__builtin_ctz(left));
    struct bytes raw = properties->raw, value;
    uint8_t identifier;
    while (mqtt_property_next(&raw, &identifier, &value))
        if (identifier == mqtt_property_rules[PROPERTY_USER_PROPERTY].identifier)
            to = mqtt_put_run(mqtt_put_u8(to, identifier), value);
    return to;
}

uint8_t *mqtt_header_put(uint8_t *to, uint8_t first_byte, size_t remaining_size)
{
    return mqtt_varint_put(mqtt_put_u8(to, first_byte), (uint32_t)remaining_size);
}

size_t mqtt_properties_room(enum mqtt_version version, const struct mqtt_properties *properties)
{
    if (version < MQTT_5_0)
        return 0;
    size_t size = mqtt_properties_size(properties);
    return mqtt_varint_size((uint32_t)size) + size;
}

uint8_t mqtt_connack_return_code(enum mqtt_reason reason)
{
    switch (reason) {
    case MQTT_SUCCESS:
        return 0;
    case MQTT_UNSUPPORTED_PROTOCOL_VERSION:
        return 1;
    case MQTT_CLIENT_IDENTIFIER_NOT_VALID:
        return 2;
    case MQTT_BAD_USER_NAME_OR_PASSWORD:
    case MQTT_BAD_AUTHENTICATION_METHOD:
        return 4;
    case MQTT_NOT_AUTHORIZED:
    case MQTT_BANNED:
        return 5;
    default:
        return 3; /* server unavailable: 3.x has no other word for it */
    }
}

size_t mqtt_encode_connack(uint8_t *to, enum mqtt_version version, bool session_present, uint8_t reason,
    const struct mqtt_properties *properties)
{
    uint8_t *start = to;
    if (version < MQTT_5_0 && reason >= MQTT_UNSPECIFIED_ERROR)
        reason = mqtt_connack_return_code(reason);
    /* 3.1 has no such flag; with a refusal it is 0 [MQTT-3.2.2-6]. */
    bool present = session_present && reason == MQTT_SUCCESS && version > MQTT_3_1;
    to = mqtt_header_put(to, MQTT_CONNACK << 4, 2 + mqtt_properties_room(version, properties));
    to = mqtt_put_u8(to, present);
    to = mqtt_put_u8(to, reason);
    if (version == MQTT_5_0)
        to = mqtt_properties_put(to, properties);
    return (size_t)(to - start);
}

/* What SUBACK tells a client of version 3: 3.1.1 knows one failure, 3.1 none and gets «granted QoS 0». */
static uint8_t granted(enum mqtt_version version, uint8_t reason)
{
    if (version == MQTT_5_0 || reason < MQTT_UNSPECIFIED_ERROR)
        return reason;
    return version == MQTT_3_1_1 ? MQTT_UNSPECIFIED_ERROR : MQTT_SUCCESS;
}

size_t mqtt_encode_suback(uint8_t *to, enum mqtt_version version, uint8_t type, uint16_t packet_id,
    const uint8_t *reasons, size_t count, const struct mqtt_properties *properties)
{
    uint8_t *start = to;
    if (type == MQTT_UNSUBACK && version < MQTT_5_0)
        count = 0;
    to = mqtt_header_put(to, (uint8_t)(type << 4), 2 + mqtt_properties_room(version, properties) + count);
    to = mqtt_put_u16(to, packet_id);
    if (version == MQTT_5_0)
        to = mqtt_properties_put(to, properties);
    for (size_t i = 0; i < count; i++)
        to = mqtt_put_u8(to, granted(version, reasons[i]));
    return (size_t)(to - start);
}

size_t mqtt_encode_disconnect(
    uint8_t *to, uint8_t type, enum mqtt_reason reason, const struct mqtt_properties *properties)
{
    uint8_t *start = to;
    if (mqtt_properties_size(properties) > 0) {
        to = mqtt_header_put(to, (uint8_t)(type << 4), 1 + mqtt_properties_room(MQTT_5_0, properties));
        to = mqtt_properties_put(mqtt_put_u8(to, (uint8_t)reason), properties);
    } else if (reason != MQTT_SUCCESS) {
        to = mqtt_put_u8(mqtt_header_put(to, (uint8_t)(type << 4), 1), (uint8_t)reason);
    } else {
        to = mqtt_header_put(to, (uint8_t)(type << 4), 0);
    }
    return (size_t)(to - start);
}
