/*
 * Writing MQTT fields one after the other: each function returns where the next one goes. Private to
 * mqtt_encode*.c. The caller has made sure of the room.
 */
#ifndef SHARED_MQTT_PUT_H
#define SHARED_MQTT_PUT_H

#include "shared/bytes.h"
#include "shared/mqtt_properties.h"

static inline uint8_t *mqtt_put_u8(uint8_t *to, uint8_t value)
{
    *to = value;
    return to + 1;
}

static inline uint8_t *mqtt_put_u16(uint8_t *to, uint16_t value)
{
    put_u16_be(to, value);
    return to + 2;
}

static inline uint8_t *mqtt_put_u32(uint8_t *to, uint32_t value)
{
    put_u32_be(to, value);
    return to + 4;
}

/* A length: nearly always one byte, or two. */
static inline uint8_t *mqtt_put_length(uint8_t *to, uint32_t value)
{
    return __builtin_expect(value < 128, 1) ? mqtt_put_u8(to, (uint8_t)value) : mqtt_varint_put(to, value);
}

static inline uint8_t *mqtt_put_run(uint8_t *to, struct bytes from)
{
    if (from.size > 0)
        memcpy(to, from.data, from.size);
    return to + from.size;
}

/* Copies of up to this size are made inline: the call costs more than what it moves. */
#define MQTT_SHORT_RUN_MAX 128

/* The same for hot paths. The last 16 (8, 4) bytes overlap what is there already instead of passing the end.
 */
static inline uint8_t *mqtt_put_short_run(uint8_t *to, struct bytes from)
{
    const uint8_t *data = from.data;
    size_t size = from.size;
    if (size >= 16 && size <= MQTT_SHORT_RUN_MAX) {
        for (size_t i = 0; i + 16 < size; i += 16)
            memcpy(to + i, data + i, 16);
        memcpy(to + size - 16, data + size - 16, 16);
    } else if (size > MQTT_SHORT_RUN_MAX) {
        memcpy(to, data, size);
    } else if (size >= 8) {
        memcpy(to, data, 8);
        memcpy(to + size - 8, data + size - 8, 8);
    } else if (size >= 4) {
        memcpy(to, data, 4);
        memcpy(to + size - 4, data + size - 4, 4);
    } else if (size > 0) {
        to[0] = data[0];
        to[size / 2] = data[size / 2];
        to[size - 1] = data[size - 1];
    }
    return to + size;
}

/* A string or binary data with its length. */
static inline uint8_t *mqtt_put_binary(uint8_t *to, struct bytes from)
{
    return mqtt_put_run(mqtt_put_u16(to, (uint16_t)from.size), from);
}

#endif
