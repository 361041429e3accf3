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

/* A string or binary data with its length. */
static inline uint8_t *mqtt_put_binary(uint8_t *to, struct bytes from)
{
    return mqtt_put_run(mqtt_put_u16(to, (uint16_t)from.size), from);
}

#endif
