/*
 * SUBSCRIBE and UNSUBSCRIBE: the decoders check every filter once, the *_next functions then walk what was
 * checked. Worker process; bench. Pure, trusts nothing.
 */
#include "shared/mqtt_cursor.h"
#include "shared/mqtt_decode.h"
#include "shared/mqtt_properties.h"

#define OPTION_NO_LOCAL            0x04
#define OPTION_RETAIN_AS_PUBLISHED 0x08
#define OPTIONS_RESERVED           0xC0
#define OPTIONS_RESERVED_3         0xFC /* before version 5 */

static enum status packet_start(enum mqtt_version version, uint8_t type, struct mqtt_cursor *cursor,
    uint16_t *ret_packet_id, struct mqtt_properties *ret, struct mqtt_fault *ret_fault);
static enum status read_filter(
    struct mqtt_cursor *cursor, struct bytes *ret_filter, struct mqtt_fault *ret_fault);
static enum status read_options(
    enum mqtt_version version, struct mqtt_cursor *cursor, struct bytes filter, struct mqtt_fault *ret_fault);

enum status mqtt_decode_subscribe(
    enum mqtt_version version, struct bytes body, struct mqtt_subscribe *ret, struct mqtt_fault *ret_fault)
{
    struct mqtt_cursor cursor = mqtt_cursor_of(body);
    enum status status =
        packet_start(version, MQTT_SUBSCRIBE, &cursor, &ret->packet_id, &ret->properties, ret_fault);
    ret->filters = mqtt_cursor_rest(&cursor);
    ret->count = 0;
    while (status == STATUS_OK && cursor.at < cursor.end) {
        struct bytes filter;
        status = read_filter(&cursor, &filter, ret_fault);
        if (status == STATUS_OK)
            status = read_options(version, &cursor, filter, ret_fault);
        ret->count++;
    }
    if (status == STATUS_OK && ret->count == 0) /* [MQTT-3.8.3-2] */
        return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "SUBSCRIBE without a filter");
    return status;
}

enum status mqtt_decode_unsubscribe(
    enum mqtt_version version, struct bytes body, struct mqtt_unsubscribe *ret, struct mqtt_fault *ret_fault)
{
    struct mqtt_cursor cursor = mqtt_cursor_of(body);
    enum status status =
        packet_start(version, MQTT_UNSUBSCRIBE, &cursor, &ret->packet_id, &ret->properties, ret_fault);
    ret->filters = mqtt_cursor_rest(&cursor);
    ret->count = 0;
    while (status == STATUS_OK && cursor.at < cursor.end) {
        struct bytes filter;
        status = read_filter(&cursor, &filter, ret_fault);
        ret->count++;
    }
    if (status == STATUS_OK && ret->count == 0) /* [MQTT-3.10.3-2] */
        return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "UNSUBSCRIBE without a filter");
    return status;
}

bool mqtt_subscribe_next(struct bytes *filters, enum mqtt_version version, struct mqtt_subscribe_filter *ret)
{
    struct mqtt_cursor cursor = mqtt_cursor_of(*filters);
    uint8_t options;
    if (!mqtt_read_binary(&cursor, &ret->filter) || !mqtt_read_u8(&cursor, &options))
        return false;
    ret->qos = options & 3;
    ret->no_local = version == MQTT_5_0 && (options & OPTION_NO_LOCAL);
    ret->retain_as_published = version == MQTT_5_0 && (options & OPTION_RETAIN_AS_PUBLISHED);
    ret->retain_handling = version == MQTT_5_0 ? options >> 4 & 3 : 0;
    *filters = mqtt_cursor_rest(&cursor);
    return true;
}

bool mqtt_unsubscribe_next(struct bytes *filters, struct bytes *ret_filter)
{
    struct mqtt_cursor cursor = mqtt_cursor_of(*filters);
    if (!mqtt_read_binary(&cursor, ret_filter))
        return false;
    *filters = mqtt_cursor_rest(&cursor);
    return true;
}

/* Packet identifier and properties. */
static enum status packet_start(enum mqtt_version version, uint8_t type, struct mqtt_cursor *cursor,
    uint16_t *ret_packet_id, struct mqtt_properties *ret, struct mqtt_fault *ret_fault)
{
    mqtt_properties_init(ret);
    if (!mqtt_read_u16(cursor, ret_packet_id))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "packet identifier missing");
    if (*ret_packet_id == 0)
        return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "packet identifier 0");
    if (version < MQTT_5_0)
        return STATUS_OK;
    size_t consumed;
    enum status status = mqtt_properties_decode(mqtt_cursor_rest(cursor), type, ret, &consumed, ret_fault);
    if (status == STATUS_OK)
        cursor->at += consumed;
    return status;
}

static enum status read_filter(
    struct mqtt_cursor *cursor, struct bytes *ret_filter, struct mqtt_fault *ret_fault)
{
    enum status status = mqtt_read_string(
        cursor, ret_filter, "topic filter longer than the packet", "topic filter is not UTF-8", ret_fault);
    if (status == STATUS_OK && !topic_filter_valid(*ret_filter))
        return mqtt_fault_set(ret_fault, MQTT_TOPIC_FILTER_INVALID, "topic filter badly formed");
    return status;
}

static enum status read_options(
    enum mqtt_version version, struct mqtt_cursor *cursor, struct bytes filter, struct mqtt_fault *ret_fault)
{
    uint8_t options;
    if (!mqtt_read_u8(cursor, &options))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "subscription options missing");
    if (options & (version < MQTT_5_0 ? OPTIONS_RESERVED_3 : OPTIONS_RESERVED)) /* [MQTT-3.8.3-5] */
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, "reserved bits in the subscription options");
    if ((options & 3) == 3)
        return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "subscription with QoS 3");
    if ((options >> 4) == 3)
        return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "subscription with Retain Handling 3");
    struct bytes group, rest;
    if ((options & OPTION_NO_LOCAL) && topic_filter_shared(filter, &group, &rest)) /* [MQTT-3.8.3-4] */
        return mqtt_fault_set(ret_fault, MQTT_PROTOCOL_ERROR, "shared subscription with No Local");
    return STATUS_OK;
}
