/*
 * MQTT packets from bytes: pure, no socket, no allocation, nothing trusted. Each decoder gets exactly one
 * packet's body and answers STATUS_OK or STATUS_PROTOCOL with the fault (reason code per the specification:
 * 0x81 malformed, 0x82 protocol error, or a more specific one). UTF-8 strings are validated (U+0000 and
 * surrogates are refused [MQTT-1.5.4-1, -2]); topic names and filters too [MQTT-4.7]. On a fault *ret holds
 * nothing of use (but a CONNECT's version). Worker process; bench.
 */
#ifndef SHARED_MQTT_DECODE_H
#define SHARED_MQTT_DECODE_H

#include "shared/mqtt_packet.h"

/* A version not known yet: before the CONNECT has been decoded. */
#define MQTT_VERSION_UNKNOWN 0

/*
 * Reads the fixed header. STATUS_AGAIN: fewer bytes than a header. STATUS_LIMIT: the packet is larger than
 * max_packet_size (whole packet, bytes; fault 0x95). STATUS_PROTOCOL: a length of more than 4 bytes, type 0
 * or wrong flags for the type [MQTT-2.1.3-1] (those from the first byte on). Does not wait for the body.
 * *ret_fault is set unless OK or AGAIN.
 *
 * `version` is the connection's, or MQTT_VERSION_UNKNOWN. It decides three things: in 3.1 a PUBREL, SUBSCRIBE
 * or UNSUBSCRIBE sent again has DUP set, and AUTH exists in 5.0 only, and only there must the length have the
 * shortest form [MQTT-1.5.5-1].
 */
enum status mqtt_decode_header_of(unsigned version, const uint8_t *data, size_t size,
    uint32_t max_packet_size, struct mqtt_header *ret_header, struct mqtt_fault *ret_fault) CHECK_RESULT;
/* The same with MQTT_VERSION_UNKNOWN. */
enum status mqtt_decode_header(const uint8_t *data, size_t size, uint32_t max_packet_size,
    struct mqtt_header *ret_header, struct mqtt_fault *ret_fault) CHECK_RESULT;

/* All bodies: `body` has exactly header.remaining_size bytes. */
/*
 * An unsupported protocol name or level: fault 0x84. ret->version is set on any fault, so that CONNACK can be
 * written: as asked so far as known (else 4). An empty client identifier where there must be one (3.1; 3.1.1
 * without Clean Session) is fault 0x85; 3.1's limit of 23 characters is left to the session.
 */
enum status mqtt_decode_connect(
    struct bytes body, struct mqtt_connect *ret, struct mqtt_fault *ret_fault) CHECK_RESULT;
/*
 * Hot path. Topic alias 0 and QoS 3 are faults here; alias above the maximum is the session's business. What
 * a client sends: a Subscription Identifier is fault 0x82 [MQTT-3.3.4-6].
 */
enum status mqtt_decode_publish(enum mqtt_version version, uint8_t flags, struct bytes body,
    struct mqtt_publish *ret, struct mqtt_fault *ret_fault) CHECK_RESULT;
/* Hot path for the 2-byte form. There, and where nothing but a reason follows, only `present`, `raw` and
 * `user_properties` of ret->properties are set (to nothing). */
enum status mqtt_decode_acknowledgement(enum mqtt_version version, uint8_t type, struct bytes body,
    struct mqtt_acknowledgement *ret, struct mqtt_fault *ret_fault) CHECK_RESULT;
enum status mqtt_decode_subscribe(enum mqtt_version version, struct bytes body, struct mqtt_subscribe *ret,
    struct mqtt_fault *ret_fault) CHECK_RESULT;
bool mqtt_subscribe_next(struct bytes *filters, enum mqtt_version version, struct mqtt_subscribe_filter *ret);
enum status mqtt_decode_unsubscribe(enum mqtt_version version, struct bytes body,
    struct mqtt_unsubscribe *ret, struct mqtt_fault *ret_fault) CHECK_RESULT;
bool mqtt_unsubscribe_next(struct bytes *filters, struct bytes *ret_filter);
/* Before version 5 the body must be empty. */
enum status mqtt_decode_disconnect(enum mqtt_version version, struct bytes body, struct mqtt_disconnect *ret,
    struct mqtt_fault *ret_fault) CHECK_RESULT;
/* Version 5 only. The short form without properties (and so without a method) is well formed. */
enum status mqtt_decode_auth(
    struct bytes body, struct mqtt_disconnect *ret, struct mqtt_fault *ret_fault) CHECK_RESULT;
/* PINGREQ, PINGRESP: no body. */
enum status mqtt_decode_ping(struct bytes body, struct mqtt_fault *ret_fault) CHECK_RESULT;

/* For clients. */
enum status mqtt_decode_connack(enum mqtt_version version, struct bytes body, struct mqtt_connack *ret,
    struct mqtt_fault *ret_fault) CHECK_RESULT;
enum status mqtt_decode_suback(enum mqtt_version version, uint8_t type, struct bytes body,
    struct mqtt_suback *ret, struct mqtt_fault *ret_fault) CHECK_RESULT;
/* As mqtt_decode_publish(), with Subscription Identifiers allowed (found in ret->properties). */
enum status mqtt_decode_publish_to_client(enum mqtt_version version, uint8_t flags, struct bytes body,
    struct mqtt_publish *ret, struct mqtt_fault *ret_fault) CHECK_RESULT;

#endif
