/* Encoders of what clients send: the load tool and the tests. Not used by the broker itself. Pure. */
#include "shared/mqtt_encode.h"

#include "shared/mqtt_properties.h"
#include "shared/mqtt_put.h"

size_t mqtt_encode_pingreq(uint8_t *to)
{
    to[0] = MQTT_PINGREQ << 4;
    to[1] = 0;
    return 2;
}

static struct bytes protocol_name(enum mqtt_version version)
{
    return bytes_of_text(version == MQTT_3_1 ? "MQIsdp" : "MQTT");
}

static size_t connect_remaining_size(const struct mqtt_connect *connect)
{
    size_t size = 2 + protocol_name(connect->version).size + 4 + 2 + connect->client_id.size;
    size += mqtt_properties_room(connect->version, &connect->properties);
    if (connect->has_will)
        size += mqtt_properties_room(connect->version, &connect->will_properties) + 4 +
                connect->will_topic.size + connect->will_payload.size;
    if (connect->user_name.data != NULL)
        size += 2 + connect->user_name.size;
    if (connect->password.data != NULL)
        size += 2 + connect->password.size;
    return size;
}

size_t mqtt_connect_size(const struct mqtt_connect *connect)
{
    size_t remaining = connect_remaining_size(connect);
    return 1 + mqtt_varint_size((uint32_t)remaining) + remaining;
}

static uint8_t connect_flags(const struct mqtt_connect *connect)
{
    unsigned flags = connect->clean_start ? 0x02 : 0;
    if (connect->has_will)
        flags |= 0x04u | (unsigned)connect->will_qos << 3 | (connect->will_retain ? 0x20 : 0);
    flags |= connect->password.data != NULL ? 0x40 : 0;
    flags |= connect->user_name.data != NULL ? 0x80 : 0;
    return (uint8_t)flags;
}

size_t mqtt_encode_connect(uint8_t *to, const struct mqtt_connect *connect)
{
    uint8_t *start = to;
    to = mqtt_header_put(to, MQTT_CONNECT << 4, connect_remaining_size(connect));
    to = mqtt_put_binary(to, protocol_name(connect->version));
    to = mqtt_put_u8(to, (uint8_t)connect->version);
    to = mqtt_put_u8(to, connect_flags(connect));
    to = mqtt_put_u16(to, connect->keep_alive_s);
    if (connect->version == MQTT_5_0)
        to = mqtt_properties_put(to, &connect->properties);
    to = mqtt_put_binary(to, connect->client_id);
    if (connect->has_will) {
        if (connect->version == MQTT_5_0)
            to = mqtt_properties_put(to, &connect->will_properties);
        to = mqtt_put_binary(to, connect->will_topic);
        to = mqtt_put_binary(to, connect->will_payload);
    }
    if (connect->user_name.data != NULL)
        to = mqtt_put_binary(to, connect->user_name);
    if (connect->password.data != NULL)
        to = mqtt_put_binary(to, connect->password);
    return (size_t)(to - start);
}

static uint8_t filter_options(enum mqtt_version version, const struct mqtt_subscribe_filter *filter)
{
    unsigned options = filter->qos;
    if (version == MQTT_5_0)
        options |= (filter->no_local ? 0x04u : 0) | (filter->retain_as_published ? 0x08u : 0) |
                   (unsigned)filter->retain_handling << 4;
    return (uint8_t)options;
}

size_t mqtt_encode_subscribe(uint8_t *to, enum mqtt_version version, uint16_t packet_id,
    const struct mqtt_subscribe_filter *filters, size_t count, const struct mqtt_properties *properties)
{
    uint8_t *start = to;
    size_t remaining = 2 + mqtt_properties_room(version, properties);
    for (size_t i = 0; i < count; i++)
        remaining += 3 + filters[i].filter.size;
    to = mqtt_header_put(to, MQTT_SUBSCRIBE << 4 | 2, remaining);
    to = mqtt_put_u16(to, packet_id);
    if (version == MQTT_5_0)
        to = mqtt_properties_put(to, properties);
    for (size_t i = 0; i < count; i++)
        to = mqtt_put_u8(mqtt_put_binary(to, filters[i].filter), filter_options(version, &filters[i]));
    return (size_t)(to - start);
}

size_t mqtt_encode_unsubscribe(uint8_t *to, enum mqtt_version version, uint16_t packet_id,
    const struct bytes *filters, size_t count, const struct mqtt_properties *properties)
{
    uint8_t *start = to;
    size_t remaining = 2 + mqtt_properties_room(version, properties);
    for (size_t i = 0; i < count; i++)
        remaining += 2 + filters[i].size;
    to = mqtt_header_put(to, MQTT_UNSUBSCRIBE << 4 | 2, remaining);
    to = mqtt_put_u16(to, packet_id);
    if (version == MQTT_5_0)
        to = mqtt_properties_put(to, properties);
    for (size_t i = 0; i < count; i++)
        to = mqtt_put_binary(to, filters[i]);
    return (size_t)(to - start);
}
