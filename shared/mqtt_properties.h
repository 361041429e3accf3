/*
 * MQTT 5 properties: decoding with checks of type, place and number [MQTT 2.2.2], and walking them in order.
 * Pure. Worker process; bench.
 */
#ifndef SHARED_MQTT_PROPERTIES_H
#define SHARED_MQTT_PROPERTIES_H

#include "shared/mqtt_packet.h"

/* Where properties stand; decides which are allowed. A packet type, or the will of a CONNECT. */
#define MQTT_PROPERTIES_OF_WILL 0

/*
 * Reads the property length and the properties at the start of `input`; *ret_consumed includes the length.
 * `place` is a packet type or MQTT_PROPERTIES_OF_WILL. A property twice (user properties, and subscription
 * identifiers in PUBLISH, excepted) or a value out of range: fault 0x82 (Topic Alias 0: 0x94); one not
 * allowed in this place [MQTT 2.2.2.2] or bad encoding: 0x81. On a fault *ret is undefined.
 */
enum status mqtt_properties_decode(struct bytes input, uint8_t place, struct mqtt_properties *ret,
    size_t *ret_consumed, struct mqtt_fault *ret_fault) CHECK_RESULT;

/* Fields at their specified defaults, nothing present. */
void mqtt_properties_init(struct mqtt_properties *properties);

/* The next property of a checked run: its identifier byte and the encoded value. False at the end. */
bool mqtt_property_next(struct bytes *raw, uint8_t *ret_identifier, struct bytes *ret_value);

/*
 * Copies what a PUBLISH's (or will's) receiver gets: all but Topic Alias, Message Expiry Interval,
 * Subscription Identifier and Will Delay Interval, in order [MQTT-3.3.2-4, -15, -16, -17, -20]. `to` has
 * raw.size bytes of room; returns the size.
 */
size_t mqtt_properties_forward(uint8_t *to, struct bytes raw);

/* How a property's value is encoded [MQTT 2.2.2.2]. */
enum mqtt_property_type {
    PROPERTY_TYPE_U8,
    PROPERTY_TYPE_U16,
    PROPERTY_TYPE_U32,
    PROPERTY_TYPE_VARINT,
    PROPERTY_TYPE_STRING,
    PROPERTY_TYPE_BINARY,
    PROPERTY_TYPE_PAIR, /* two strings */
};

/* What the specification says of one property. */
struct mqtt_property_rule {
    uint8_t identifier;
    uint8_t type;     /* enum mqtt_property_type */
    uint16_t field;   /* offset in struct mqtt_properties; not for PROPERTY_USER_PROPERTY */
    uint32_t places;  /* bit 1 << place */
    uint32_t minimum; /* of numbers */
    uint32_t maximum;
};

extern const struct mqtt_property_rule mqtt_property_rules[PROPERTY_COUNT];

/* One property as read: its number, or its string or binary value (for a pair: both, encoded). */
struct mqtt_property_value {
    enum mqtt_property property;
    uint32_t number;
    struct bytes bytes;
};

/*
 * For decoders with a loop of their own: reads and checks the property at the start of `raw` (not empty),
 * and moves `raw` behind it. `seen` has the PROPERTY_BITs so far and gets this one. Faults as above.
 */
enum status mqtt_property_read(struct bytes *raw, uint8_t place, uint32_t *seen,
    struct mqtt_property_value *ret, struct mqtt_fault *ret_fault) CHECK_RESULT;

/* Reads the property length at the start of `input` and splits off the run. */
enum status mqtt_properties_split(struct bytes input, struct bytes *ret_raw, size_t *ret_consumed,
    struct mqtt_fault *ret_fault) CHECK_RESULT;

/* Variable Byte Integer [MQTT 1.5.5]. */
#define MQTT_VARINT_MAX 268435455
static inline size_t mqtt_varint_size(uint32_t value)
{
    return value < 128 ? 1 : value < 16384 ? 2 : value < 2097152 ? 3 : 4;
}
uint8_t *mqtt_varint_put(uint8_t *to, uint32_t value);
/* STATUS_AGAIN: more bytes needed; STATUS_PROTOCOL: longer than 4 bytes or not the shortest form. */
enum status mqtt_varint_get(
    const uint8_t *from, size_t size, uint32_t *ret_value, size_t *ret_consumed) CHECK_RESULT;

#endif
