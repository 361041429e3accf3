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
 * identifiers in PUBLISH, excepted), one not allowed in this place, or a value out of range: fault 0x82; bad
 * encoding: 0x81.
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

/* Variable Byte Integer [MQTT 1.5.5]. */
size_t mqtt_varint_size(uint32_t value);
uint8_t *mqtt_varint_put(uint8_t *to, uint32_t value);
/* STATUS_AGAIN: more bytes needed; STATUS_PROTOCOL: longer than 4 bytes or not the shortest form. */
enum status mqtt_varint_get(
    const uint8_t *from, size_t size, uint32_t *ret_value, size_t *ret_consumed) CHECK_RESULT;

#endif
