/*
 * Decoders of the fixed header and of all packets but CONNECT (mqtt_decode_connect.c) and those with topic
 * filters (mqtt_decode_subscribe.c). PUBLISH and the 2-byte acknowledgements are the hot paths: one pass, and
 * nothing is done for properties that are not there. Worker process; bench. Pure, trusts nothing.
 */
#include "shared/mqtt_decode.h"

#include "shared/mqtt_cursor.h"
#include "shared/mqtt_properties.h"

#define FLAG_RETAIN 0x01
#define FLAG_DUP    0x08
#define ANY_FLAGS   0xFF

/* Flags by type [MQTT 2.1.3]; PUBLISH's are checked with its body. */
static const uint8_t flags_by_type[16] = {
    [MQTT_PUBLISH] = ANY_FLAGS,
    [MQTT_PUBREL] = 2,
    [MQTT_SUBSCRIBE] = 2,
    [MQTT_UNSUBSCRIBE] = 2,
};

static enum status decode_long_header(unsigned version, const uint8_t *data, size_t size,
    uint32_t max_packet_size, struct mqtt_header *ret_header, struct mqtt_fault *ret_fault);
static enum status publish_topic_fault(struct bytes topic, struct mqtt_fault *ret_fault);
static const uint8_t *publish_properties(const uint8_t *at, const uint8_t *end, bool to_client,
    struct mqtt_publish *ret, struct mqtt_fault *ret_fault);
static enum status reason_and_properties(struct bytes body, uint8_t type, enum mqtt_reason *ret_reason,
    struct mqtt_properties *ret, struct mqtt_fault *ret_fault);

static inline bool header_byte_valid(unsigned version, uint8_t type, uint8_t flags)
{
    uint8_t wanted = flags_by_type[type];
    if (type == 0 || (type == MQTT_AUTH && version != MQTT_5_0 && version != MQTT_VERSION_UNKNOWN))
        return false;
    return wanted == ANY_FLAGS || flags == wanted ||
           (version == MQTT_3_1 && wanted == 2 && flags == (2 | FLAG_DUP));
}

/* Field by field: a struct put together byte by byte and then copied stalls the processor. */
static inline enum status finish_header(uint8_t first, uint8_t header_size, uint32_t remaining_size,
    uint32_t max_packet_size, struct mqtt_header *ret_header, struct mqtt_fault *ret_fault)
{
    if (UNLIKELY(header_size + remaining_size > max_packet_size)) {
        (void)mqtt_fault_set(ret_fault, MQTT_PACKET_TOO_LARGE, "packet larger than the maximum packet size");
        return STATUS_LIMIT;
    }
    ret_header->type = first >> 4;
    ret_header->flags = first & 0x0F;
    ret_header->header_size = header_size;
    ret_header->remaining_size = remaining_size;
    return STATUS_OK;
}

enum status mqtt_decode_header_of(unsigned version, const uint8_t *data, size_t size,
    uint32_t max_packet_size, struct mqtt_header *ret_header, struct mqtt_fault *ret_fault)
{
    if (UNLIKELY(size == 0))
        return STATUS_AGAIN;
    if (UNLIKELY(!header_byte_valid(version, data[0] >> 4, data[0] & 0x0F)))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "packet type or flags not allowed");
    if (LIKELY(size >= 2 && data[1] < 0x80))
        return finish_header(data[0], 2, data[1], max_packet_size, ret_header, ret_fault);
    return decode_long_header(version, data, size, max_packet_size, ret_header, ret_fault);
}

enum status mqtt_decode_header(const uint8_t *data, size_t size, uint32_t max_packet_size,
    struct mqtt_header *ret_header, struct mqtt_fault *ret_fault)
{
    return mqtt_decode_header_of(MQTT_VERSION_UNKNOWN, data, size, max_packet_size, ret_header, ret_fault);
}

static enum status decode_long_header(unsigned version, const uint8_t *data, size_t size,
    uint32_t max_packet_size, struct mqtt_header *ret_header, struct mqtt_fault *ret_fault)
{
    uint32_t value = 0;
    for (uint8_t i = 1; i < 5; i++) {
        if (i == size)
            return STATUS_AGAIN;
        value |= (data[i] & 0x7Fu) << (7 * (i - 1));
        if (data[i] & 0x80)
            continue;
        if (version == MQTT_5_0 && i > 1 && data[i] == 0)
            break;
        return finish_header(data[0], i + 1, value, max_packet_size, ret_header, ret_fault);
    }
    return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "remaining length badly encoded");
}

/* Field by field, since for a whole struct the compiler emits a string instruction that costs more than all
   the rest of the decoder. */
static inline void publish_init(struct mqtt_publish *publish, uint8_t flags, struct bytes topic)
{
    publish->qos = flags >> 1 & 3;
    publish->retain = flags & FLAG_RETAIN;
    publish->dup = (flags & FLAG_DUP) != 0;
    publish->packet_id = 0;
    publish->topic_alias = 0;
    publish->has_message_expiry = false;
    publish->message_expiry_s = 0;
    publish->payload_is_utf8 = false;
    publish->topic = topic;
    publish->properties = BYTES_NONE;
    publish->response_topic = BYTES_NONE;
    publish->properties_forward_as_they_are = true;
    publish->user_properties = 0;
}

static inline __attribute__((always_inline)) enum status decode_publish(enum mqtt_version version,
    uint8_t flags, struct bytes body, bool to_client, struct mqtt_publish *ret, struct mqtt_fault *ret_fault)
{
    uint8_t qos = flags >> 1 & 3;
    size_t packet_id_size = qos > 0 ? 2 : 0;
    if (UNLIKELY(qos == 3 || (flags & (6 | FLAG_DUP)) == FLAG_DUP))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "QoS 3, or DUP with QoS 0");
    size_t topic_size = LIKELY(body.size >= 2) ? get_u16_be(body.data) : UINT16_MAX;
    if (UNLIKELY(body.size < 2 + topic_size + packet_id_size))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "PUBLISH shorter than its topic");
    struct bytes topic = bytes_of(body.data + 2, topic_size);
    if (UNLIKELY(!topic_name_valid(topic)) && (topic_size > 0 || version < MQTT_5_0))
        return publish_topic_fault(topic, ret_fault);
    const uint8_t *at = topic.data + topic_size, *end = body.data + body.size;
    publish_init(ret, flags, topic);
    if (qos > 0) {
        uint16_t packet_id = get_u16_be(at);
        if (UNLIKELY(packet_id == 0))
            return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "packet identifier 0");
        ret->packet_id = packet_id;
        at += 2;
    }
    if (version == MQTT_5_0) {
        if (LIKELY(at < end && *at == 0))
            at++;
        else if ((at = publish_properties(at, end, to_client, ret, ret_fault)) == NULL)
            return STATUS_PROTOCOL;
        if (UNLIKELY(topic_size == 0 && ret->topic_alias == 0))
            return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "neither topic nor topic alias");
    }
    ret->payload = bytes_of(at, (size_t)(end - at));
    return STATUS_OK;
}

enum status mqtt_decode_publish(enum mqtt_version version, uint8_t flags, struct bytes body,
    struct mqtt_publish *ret, struct mqtt_fault *ret_fault)
{
    return decode_publish(version, flags, body, false, ret, ret_fault);
}

enum status mqtt_decode_publish_to_client(enum mqtt_version version, uint8_t flags, struct bytes body,
    struct mqtt_publish *ret, struct mqtt_fault *ret_fault)
{
    return decode_publish(version, flags, body, true, ret, ret_fault);
}

static __attribute__((cold)) enum status publish_topic_fault(struct bytes topic, struct mqtt_fault *ret_fault)
{
    if (!utf8_valid(topic))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "topic is not UTF-8");
    if (topic.size == 0)
        return mqtt_fault_set(ret_fault, MQTT_TOPIC_NAME_INVALID, "empty topic");
    return mqtt_fault_set(ret_fault, MQTT_TOPIC_NAME_INVALID, "wildcard in the topic of a PUBLISH");
}

static void keep_publish_property(struct mqtt_publish *publish, const struct mqtt_property_value *value)
{
    switch (value->property) {
    case PROPERTY_TOPIC_ALIAS:
        publish->topic_alias = (uint16_t)value->number;
        publish->properties_forward_as_they_are = false;
        break;
    case PROPERTY_MESSAGE_EXPIRY_INTERVAL:
        publish->has_message_expiry = true;
        publish->message_expiry_s = value->number;
        publish->properties_forward_as_they_are = false;
        break;
    case PROPERTY_SUBSCRIPTION_IDENTIFIER:
        publish->properties_forward_as_they_are = false;
        break;
    case PROPERTY_PAYLOAD_FORMAT_INDICATOR:
        publish->payload_is_utf8 = value->number == 1;
        break;
    case PROPERTY_RESPONSE_TOPIC:
        publish->response_topic = value->bytes;
        break;
    case PROPERTY_USER_PROPERTY:
        publish->user_properties++;
        break;
    default:
        break;
    }
}

/* Reads the properties at `at`; returns where they end, or NULL with the fault. */
static __attribute__((noinline)) const uint8_t *publish_properties(const uint8_t *at, const uint8_t *end,
    bool to_client, struct mqtt_publish *ret, struct mqtt_fault *ret_fault)
{
    size_t consumed;
    struct bytes rest;
    if (mqtt_properties_split(bytes_of(at, (size_t)(end - at)), &rest, &consumed, ret_fault) != STATUS_OK)
        return NULL;
    ret->properties = rest;
    uint32_t seen = 0;
    while (rest.size > 0) {
        struct mqtt_property_value value;
        if (mqtt_property_read(&rest, MQTT_PUBLISH, &seen, &value, ret_fault) != STATUS_OK)
            return NULL;
        keep_publish_property(ret, &value);
    }
    if (!to_client && (seen & PROPERTY_BIT(PROPERTY_SUBSCRIPTION_IDENTIFIER))) {
        (void)mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "subscription identifier sent by a client");
        return NULL;
    }
    return at + consumed;
}

enum status mqtt_decode_acknowledgement(enum mqtt_version version, uint8_t type, struct bytes body,
    struct mqtt_acknowledgement *ret, struct mqtt_fault *ret_fault)
{
    if (UNLIKELY(body.size < 2 || (body.size > 2 && version < MQTT_5_0)))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "acknowledgement of a wrong length");
    ret->packet_id = get_u16_be(body.data);
    if (UNLIKELY(ret->packet_id == 0))
        return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "packet identifier 0");
    ret->reason = MQTT_SUCCESS;
    ret->properties.present = 0;
    ret->properties.raw = BYTES_NONE;
    ret->properties.user_properties = 0;
    if (LIKELY(body.size == 2))
        return STATUS_OK;
    return reason_and_properties(
        bytes_of(body.data + 2, body.size - 2), type, &ret->reason, &ret->properties, ret_fault);
}

/* What an acknowledgement, DISCONNECT or AUTH ends with: reason, then properties unless the packet ends
 * there. `body` is not empty. */
static enum status reason_and_properties(struct bytes body, uint8_t type, enum mqtt_reason *ret_reason,
    struct mqtt_properties *ret, struct mqtt_fault *ret_fault)
{
    if (!mqtt_reason_allowed(type, body.data[0]))
        return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "reason code not allowed in this packet");
    *ret_reason = body.data[0];
    if (body.size == 1)
        return STATUS_OK;
    size_t consumed;
    struct bytes rest = bytes_of(body.data + 1, body.size - 1);
    enum status status = mqtt_properties_decode(rest, type, ret, &consumed, ret_fault);
    if (status == STATUS_OK && consumed < rest.size)
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "bytes behind the properties");
    return status;
}

enum status mqtt_decode_disconnect(
    enum mqtt_version version, struct bytes body, struct mqtt_disconnect *ret, struct mqtt_fault *ret_fault)
{
    ret->reason = MQTT_SUCCESS;
    mqtt_properties_init(&ret->properties);
    if (body.size == 0)
        return STATUS_OK;
    if (version < MQTT_5_0)
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "DISCONNECT with a body");
    return reason_and_properties(body, MQTT_DISCONNECT, &ret->reason, &ret->properties, ret_fault);
}

enum status mqtt_decode_auth(struct bytes body, struct mqtt_disconnect *ret, struct mqtt_fault *ret_fault)
{
    ret->reason = MQTT_SUCCESS;
    mqtt_properties_init(&ret->properties);
    if (body.size == 0)
        return STATUS_OK;
    enum status status = reason_and_properties(body, MQTT_AUTH, &ret->reason, &ret->properties, ret_fault);
    if (status == STATUS_OK && !(ret->properties.present & PROPERTY_BIT(PROPERTY_AUTHENTICATION_METHOD)))
        return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "AUTH without authentication method");
    return status;
}

enum status mqtt_decode_ping(struct bytes body, struct mqtt_fault *ret_fault)
{
    if (body.size == 0)
        return STATUS_OK;
    return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "ping with a body");
}

enum status mqtt_decode_connack(
    enum mqtt_version version, struct bytes body, struct mqtt_connack *ret, struct mqtt_fault *ret_fault)
{
    if (body.size < 2 || (body.size > 2 && version < MQTT_5_0))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "CONNACK of a wrong length");
    if (body.data[0] > 1)
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "reserved bits set in CONNACK");
    ret->session_present = body.data[0];
    ret->reason = body.data[1];
    mqtt_properties_init(&ret->properties);
    if (version < MQTT_5_0) {
        if (ret->reason > 5)
            return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "unknown return code in CONNACK");
        return STATUS_OK;
    }
    if (body.size == 2)
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "CONNACK without property length");
    enum mqtt_reason reason;
    return reason_and_properties(
        bytes_of(body.data + 1, body.size - 1), MQTT_CONNACK, &reason, &ret->properties, ret_fault);
}

enum status mqtt_decode_suback(enum mqtt_version version, uint8_t type, struct bytes body,
    struct mqtt_suback *ret, struct mqtt_fault *ret_fault)
{
    struct mqtt_cursor cursor = mqtt_cursor_of(body);
    if (!mqtt_read_u16(&cursor, &ret->packet_id))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "SUBACK cut short");
    if (ret->packet_id == 0)
        return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "packet identifier 0");
    mqtt_properties_init(&ret->properties);
    if (version == MQTT_5_0) {
        size_t consumed;
        enum status status =
            mqtt_properties_decode(mqtt_cursor_rest(&cursor), type, &ret->properties, &consumed, ret_fault);
        if (status != STATUS_OK)
            return status;
        cursor.at += consumed;
    }
    ret->reasons = mqtt_cursor_rest(&cursor);
    bool bare = type == MQTT_UNSUBACK && version < MQTT_5_0;
    if (bare != (ret->reasons.size == 0))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "too many or no reason codes");
    for (size_t i = 0; i < ret->reasons.size; i++)
        if (!mqtt_reason_allowed(type, ret->reasons.data[i]) ||
            (version < MQTT_5_0 && ret->reasons.data[i] > MQTT_UNSPECIFIED_ERROR))
            return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "reason code not allowed in this packet");
    return STATUS_OK;
}
