/*
 * MQTT packets from bytes: pure, no socket, no allocation, nothing trusted. Each decoder gets exactly one
 * packet's body and answers STATUS_OK or STATUS_PROTOCOL with the fault (reason code per the specification:
 * 0x81 malformed, 0x82 protocol error, or a more specific one). UTF-8 strings are validated (U+0000 and
 * surrogates are refused [MQTT-1.5.4-1, -2]); topic names and filters too [MQTT-4.7]. Worker process; bench.
 */
#ifndef SHARED_MQTT_DECODE_H
#define SHARED_MQTT_DECODE_H

#include "shared/mqtt_packet.h"

/*
 * Reads the fixed header. STATUS_AGAIN: fewer bytes than a header. STATUS_LIMIT: the packet is larger than
 * max_packet_size (whole packet, bytes). STATUS_PROTOCOL: a length of more than 4 bytes, type 0 or wrong
 * flags for the type [MQTT-2.1.3-1]. Does not wait for the body. *ret_fault is set unless OK or AGAIN.
 */
enum status mqtt_decode_header(const uint8_t *data, size_t size, uint32_t max_packet_size,
    struct mqtt_header *ret_header, struct mqtt_fault *ret_fault) CHECK_RESULT;

/* All bodies: `body` has exactly header.remaining_size bytes. */
/* An unsupported protocol name or level: fault 0x84, ret->version as asked so far as known (else 4). */
enum status mqtt_decode_connect(
    struct bytes body, struct mqtt_connect *ret, struct mqtt_fault *ret_fault) CHECK_RESULT;
/* Hot path. Topic alias 0 and QoS 3 are faults here; alias above the maximum is the session's business. */
enum status mqtt_decode_publish(enum mqtt_version version, uint8_t flags, struct bytes body,
    struct mqtt_publish *ret, struct mqtt_fault *ret_fault) CHECK_RESULT;
/* Hot path for the 2-byte form. */
enum status mqtt_decode_acknowledgement(enum mqtt_version version, uint8_t type, struct bytes body,
    struct mqtt_acknowledgement *ret, struct mqtt_fault *ret_fault) CHECK_RESULT;
enum status mqtt_decode_subscribe(enum mqtt_version version, struct bytes body, struct mqtt_subscribe *ret,
    struct mqtt_fault *ret_fault) CHECK_RESULT;
bool mqtt_subscribe_next(struct bytes *filters, enum mqtt_version version, struct mqtt_subscribe_filter *ret);
enum status mqtt_decode_unsubscribe(enum mqtt_version version, struct bytes body,
    struct mqtt_unsubscribe *ret, struct mqtt_fault *ret_fault) CHECK_RESULT;
bool mqtt_unsubscribe_next(struct bytes *filters, struct bytes *ret_filter);
enum status mqtt_decode_disconnect(enum mqtt_version version, struct bytes body, struct mqtt_disconnect *ret,
    struct mqtt_fault *ret_fault) CHECK_RESULT;
enum status mqtt_decode_auth(
    struct bytes body, struct mqtt_disconnect *ret, struct mqtt_fault *ret_fault) CHECK_RESULT;
/* For clients. */
enum status mqtt_decode_connack(enum mqtt_version version, struct bytes body, struct mqtt_connack *ret,
    struct mqtt_fault *ret_fault) CHECK_RESULT;
enum status mqtt_decode_suback(enum mqtt_version version, uint8_t type, struct bytes body,
    struct mqtt_suback *ret, struct mqtt_fault *ret_fault) CHECK_RESULT;

#endif
