/*
 * MQTT packets to bytes. Every function writes one whole packet and returns its size. `to` must have the room
 * that the matching *_size function tells, or MQTT_SMALL_PACKET_MAX where none is named. Worker process;
 * bench.
 */
#ifndef SHARED_MQTT_ENCODE_H
#define SHARED_MQTT_ENCODE_H

#include "shared/mqtt_packet.h"

/* Enough for CONNACK without strings, any acknowledgement without properties, PINGRESP, DISCONNECT without
 * strings. */
#define MQTT_SMALL_PACKET_MAX 128

/* What a PUBLISH to one receiver is made of. */
struct mqtt_publish_out {
    enum mqtt_version version;
    uint8_t qos;
    bool retain;
    bool dup;
    uint16_t packet_id;
    uint16_t topic_alias;    /* 0: none; version 5 */
    struct bytes topic;      /* empty when the alias is known to the receiver */
    struct bytes properties; /* to forward, encoded; ignored before version 5 */
    bool has_message_expiry;
    uint32_t message_expiry_s;
    const uint32_t *subscription_identifiers; /* borrowed */
    uint32_t subscription_identifier_count;
    struct bytes payload;
};

/* Hot path. The whole packet's size. */
size_t mqtt_publish_size(const struct mqtt_publish_out *publish);
/* Hot path. Writes it; *ret_packet_id_offset (may be NULL) tells where the packet identifier stands, so that
   a copy for another receiver can be patched (0: QoS 0, there is none). */
size_t mqtt_encode_publish(uint8_t *to, const struct mqtt_publish_out *publish, size_t *ret_packet_id_offset);

/* The same without the payload's bytes, which the caller sends from where they are. Returns the head's size. */
size_t mqtt_encode_publish_head(
    uint8_t *to, const struct mqtt_publish_out *publish, size_t *ret_packet_id_offset);

/* Hot path: PUBACK, PUBREC, PUBREL, PUBCOMP; 4 bytes in version 3 or when the reason is 0, else with the
 * reason. */
size_t mqtt_encode_acknowledgement(
    uint8_t *to, enum mqtt_version version, uint8_t type, uint16_t packet_id, enum mqtt_reason reason);
size_t mqtt_encode_pingresp(uint8_t *to);

/*
 * Packets with any properties: those with a bit in `properties->present` are written, strings included, then
 * the user properties that stand in properties->raw, in order (what else stands there is passed over, so that
 * decoded properties can be written again as they are; empty raw: none). properties may be NULL; ignored
 * before version 5. *_size gives the room needed.
 */
size_t mqtt_properties_size(const struct mqtt_properties *properties); /* without the length in front */
/* `reason` is a reason code (mapped before version 5) or a return code of 3.x. Room: 16 +
 * mqtt_properties_size(). */
size_t mqtt_encode_connack(uint8_t *to, enum mqtt_version version, bool session_present, uint8_t reason,
    const struct mqtt_properties *properties);
/* Maps a version 5 reason code to the CONNACK return code of 3.x [MQTT-3.2.2.3]. */
uint8_t mqtt_connack_return_code(enum mqtt_reason reason);
/* Room: 16 + count + mqtt_properties_size(). Version 3: in SUBACK reasons >= 0x80 become 0x80 (3.1.1) or 0
 * (3.1, which knows no failure); UNSUBACK has none. */
size_t mqtt_encode_suback(uint8_t *to, enum mqtt_version version, uint8_t type, uint16_t packet_id,
    const uint8_t *reasons, size_t count, const struct mqtt_properties *properties);
/* Version 5; room: 16 + mqtt_properties_size(). type is DISCONNECT or AUTH. With MQTT_SUCCESS and no
 * properties it writes the 2 bytes that are a client's DISCONNECT in every version. */
size_t mqtt_encode_disconnect(
    uint8_t *to, uint8_t type, enum mqtt_reason reason, const struct mqtt_properties *properties);

/* For clients (bench, tests). */
size_t mqtt_encode_pingreq(uint8_t *to);
/* The whole packet's size, exactly. */
size_t mqtt_connect_size(const struct mqtt_connect *connect);
size_t mqtt_encode_connect(uint8_t *to, const struct mqtt_connect *connect);
/* Room: 16 + mqtt_properties_size() + 3 and its size for each filter. */
size_t mqtt_encode_subscribe(uint8_t *to, enum mqtt_version version, uint16_t packet_id,
    const struct mqtt_subscribe_filter *filters, size_t count, const struct mqtt_properties *properties);
size_t mqtt_encode_unsubscribe(uint8_t *to, enum mqtt_version version, uint16_t packet_id,
    const struct bytes *filters, size_t count, const struct mqtt_properties *properties);

/* Parts of every packet, for encoders elsewhere. */
uint8_t *mqtt_header_put(uint8_t *to, uint8_t first_byte, size_t remaining_size);
/* Length and properties; version 5 only. */
uint8_t *mqtt_properties_put(uint8_t *to, const struct mqtt_properties *properties);
/* Bytes that mqtt_properties_put() writes; 0 before version 5. */
size_t mqtt_properties_room(enum mqtt_version version, const struct mqtt_properties *properties);

#endif
