/*
 * Fuzzes the MQTT codec: whatever the input, its body goes to every decoder in every version. What decodes is
 * written again into a block of exactly the documented room, and must decode again to the same. Forwarded
 * properties must decode. Seeds: mqtt_decode.hex, made into files by ./corpus.
 */
#include "shared/mqtt_decode.h"
#include "shared/mqtt_encode.h"
#include "shared/mqtt_properties.h"
#include "shared/topic_name.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const enum mqtt_version versions[] = {MQTT_3_1, MQTT_3_1_1, MQTT_5_0};

/* The room that encoders are given, and what they wrote there. */
struct packet {
    uint8_t *data;
    struct mqtt_header header;
    struct bytes body;
};

static uint8_t *room(struct packet *packet, size_t size)
{
    packet->data = malloc(size);
    assert(packet->data != NULL);
    return packet->data;
}

/* What an encoder wrote is one whole packet of a type. */
static void written(struct packet *packet, enum mqtt_version version, uint8_t type, size_t size)
{
    struct mqtt_fault fault;
    enum status status =
        mqtt_decode_header_of(version, packet->data, size, UINT32_MAX, &packet->header, &fault);
    assert(status == STATUS_OK && packet->header.type == type);
    assert(packet->header.header_size + packet->header.remaining_size == size);
    packet->body = bytes_of(packet->data + packet->header.header_size, packet->header.remaining_size);
}

static void same_properties(const struct mqtt_properties *a, const struct mqtt_properties *b)
{
    assert(a->present == b->present && a->user_properties == b->user_properties);
    assert(mqtt_properties_size(a) == mqtt_properties_size(b));
}

static void check_fault(enum status status, const struct mqtt_fault *fault)
{
    assert(status == STATUS_PROTOCOL && fault->reason >= MQTT_UNSPECIFIED_ERROR && fault->text != NULL);
    assert(mqtt_reason_allowed(MQTT_DISCONNECT, (uint8_t)fault->reason) ||
           mqtt_reason_allowed(MQTT_CONNACK, (uint8_t)fault->reason));
}

static void fuzz_connect(struct bytes body)
{
    struct mqtt_connect connect, again;
    struct mqtt_fault fault = {MQTT_SUCCESS, NULL};
    enum status status = mqtt_decode_connect(body, &connect, &fault);
    assert(connect.version >= MQTT_3_1 && connect.version <= MQTT_5_0);
    if (status != STATUS_OK) {
        check_fault(status, &fault);
        return;
    }
    struct packet packet;
    size_t size = mqtt_connect_size(&connect);
    assert(mqtt_encode_connect(room(&packet, size), &connect) == size);
    written(&packet, connect.version, MQTT_CONNECT, size);
    assert(mqtt_decode_connect(packet.body, &again, &fault) == STATUS_OK);
    assert(again.version == connect.version && again.clean_start == connect.clean_start);
    assert(again.has_will == connect.has_will && again.will_qos == connect.will_qos);
    assert(bytes_equal(again.client_id, connect.client_id));
    assert(bytes_equal(again.user_name, connect.user_name));
    assert(bytes_equal(again.password, connect.password));
    assert(bytes_equal(again.will_topic, connect.will_topic));
    same_properties(&again.properties, &connect.properties);
    same_properties(&again.will_properties, &connect.will_properties);
    free(packet.data);
}

/* The forwarded run, with its length in front, is a run of properties again. */
static void check_forwarded(struct bytes run, struct mqtt_properties *ret)
{
    struct mqtt_fault fault;
    size_t consumed;
    uint8_t *input = malloc(4 + run.size);
    uint8_t *to = mqtt_varint_put(input, (uint32_t)run.size);
    memcpy(to, run.data, run.size);
    size_t size = (size_t)(to - input) + run.size;
    assert(mqtt_properties_decode(bytes_of(input, size), MQTT_PUBLISH, ret, &consumed, &fault) == STATUS_OK);
    assert(consumed == size);
    free(input);
}

static void publish_again(enum mqtt_version version, const struct mqtt_publish *in, struct bytes forwarded)
{
    static const uint32_t identifiers[] = {1, 128, MQTT_VARINT_MAX};
    struct mqtt_publish_out out = {.version = version,
        .qos = in->qos,
        .retain = in->retain,
        .dup = in->dup,
        .packet_id = in->packet_id,
        .topic_alias = in->topic_alias,
        .topic = in->topic,
        .properties = forwarded,
        .has_message_expiry = in->has_message_expiry,
        .message_expiry_s = in->message_expiry_s,
        .subscription_identifiers = identifiers,
        .subscription_identifier_count = in->user_properties % 4,
        .payload = in->payload};
    struct packet packet;
    struct mqtt_publish again;
    struct mqtt_fault fault;
    size_t offset, size = mqtt_publish_size(&out);
    assert(mqtt_encode_publish(room(&packet, size), &out, &offset) == size);
    written(&packet, version, MQTT_PUBLISH, size);
    assert(mqtt_decode_publish_to_client(version, packet.header.flags, packet.body, &again, &fault) ==
           STATUS_OK);
    assert(bytes_equal(again.topic, in->topic) && bytes_equal(again.payload, in->payload));
    assert(again.qos == in->qos && again.packet_id == in->packet_id && again.dup == in->dup);
    assert(again.topic_alias == in->topic_alias && again.has_message_expiry == in->has_message_expiry);
    assert(again.message_expiry_s == in->message_expiry_s && again.user_properties == in->user_properties);
    assert(again.payload_is_utf8 == in->payload_is_utf8);
    assert(in->qos > 0 ? get_u16_be(packet.data + offset) == in->packet_id : offset == 0);
    free(packet.data);
}

static void fuzz_publish(enum mqtt_version version, uint8_t flags, struct bytes body)
{
    struct mqtt_publish publish, to_client;
    struct mqtt_fault fault = {MQTT_SUCCESS, NULL};
    enum status of_client = mqtt_decode_publish(version, flags, body, &publish, &fault);
    if (of_client != STATUS_OK)
        check_fault(of_client, &fault);
    enum status status = mqtt_decode_publish_to_client(version, flags, body, &to_client, &fault);
    assert(status == STATUS_OK || of_client != STATUS_OK);
    if (of_client != STATUS_OK)
        return;
    struct mqtt_properties properties;
    struct packet forwarded;
    size_t size = mqtt_properties_forward(room(&forwarded, publish.properties.size), publish.properties);
    assert(size <= publish.properties.size);
    assert(!publish.properties_forward_as_they_are || size == publish.properties.size);
    check_forwarded(bytes_of(forwarded.data, size), &properties);
    assert(properties.user_properties == publish.user_properties && properties.topic_alias == 0);
    publish_again(version, &publish, bytes_of(forwarded.data, size));
    free(forwarded.data);
}

static void fuzz_acknowledgement(enum mqtt_version version, uint8_t type, struct bytes body)
{
    struct mqtt_acknowledgement in, again;
    struct mqtt_fault fault = {MQTT_SUCCESS, NULL};
    enum status status = mqtt_decode_acknowledgement(version, type, body, &in, &fault);
    if (status != STATUS_OK) {
        check_fault(status, &fault);
        return;
    }
    assert(mqtt_properties_size(&in.properties) <= body.size);
    struct packet packet;
    size_t size = mqtt_encode_acknowledgement(
        room(&packet, MQTT_SMALL_PACKET_MAX), version, type, in.packet_id, in.reason);
    written(&packet, version, type, size);
    assert(mqtt_decode_acknowledgement(version, type, packet.body, &again, &fault) == STATUS_OK);
    assert(again.packet_id == in.packet_id && again.reason == in.reason);
    free(packet.data);
}

static void fuzz_subscribe(enum mqtt_version version, struct bytes body)
{
    struct mqtt_subscribe in, again;
    struct mqtt_fault fault = {MQTT_SUCCESS, NULL};
    enum status status = mqtt_decode_subscribe(version, body, &in, &fault);
    if (status != STATUS_OK) {
        check_fault(status, &fault);
        return;
    }
    struct mqtt_subscribe_filter *filters = calloc(in.count, sizeof *filters);
    struct bytes rest = in.filters;
    size_t most = 16 + mqtt_properties_size(&in.properties);
    for (uint32_t i = 0; i < in.count; i++) {
        assert(mqtt_subscribe_next(&rest, version, &filters[i]));
        assert(topic_filter_valid(filters[i].filter) && filters[i].qos < 3);
        most += 3 + filters[i].filter.size;
    }
    assert(rest.size == 0 && !mqtt_subscribe_next(&rest, version, &filters[0]));
    struct packet packet;
    size_t size =
        mqtt_encode_subscribe(room(&packet, most), version, in.packet_id, filters, in.count, &in.properties);
    written(&packet, version, MQTT_SUBSCRIBE, size);
    assert(mqtt_decode_subscribe(version, packet.body, &again, &fault) == STATUS_OK);
    assert(again.count == in.count && again.packet_id == in.packet_id);
    assert(bytes_equal(again.filters, in.filters));
    same_properties(&again.properties, &in.properties);
    free(packet.data);
    free(filters);
}

static void fuzz_unsubscribe(enum mqtt_version version, struct bytes body)
{
    struct mqtt_unsubscribe in, again;
    struct mqtt_fault fault = {MQTT_SUCCESS, NULL};
    enum status status = mqtt_decode_unsubscribe(version, body, &in, &fault);
    if (status != STATUS_OK) {
        check_fault(status, &fault);
        return;
    }
    struct bytes *filters = calloc(in.count, sizeof *filters);
    struct bytes rest = in.filters;
    size_t most = 16 + mqtt_properties_size(&in.properties);
    for (uint32_t i = 0; i < in.count; i++) {
        assert(mqtt_unsubscribe_next(&rest, &filters[i]) && topic_filter_valid(filters[i]));
        most += 3 + filters[i].size;
    }
    assert(rest.size == 0 && !mqtt_unsubscribe_next(&rest, &filters[0]));
    struct packet packet;
    size_t size = mqtt_encode_unsubscribe(
        room(&packet, most), version, in.packet_id, filters, in.count, &in.properties);
    written(&packet, version, MQTT_UNSUBSCRIBE, size);
    assert(mqtt_decode_unsubscribe(version, packet.body, &again, &fault) == STATUS_OK);
    assert(again.count == in.count && bytes_equal(again.filters, in.filters));
    free(packet.data);
    free(filters);
}

static void fuzz_disconnect(enum mqtt_version version, uint8_t type, struct bytes body)
{
    struct mqtt_disconnect in, again;
    struct mqtt_fault fault = {MQTT_SUCCESS, NULL};
    enum status status = type == MQTT_AUTH ? mqtt_decode_auth(body, &in, &fault)
                                           : mqtt_decode_disconnect(version, body, &in, &fault);
    if (status != STATUS_OK) {
        check_fault(status, &fault);
        return;
    }
    bool has_method = in.properties.present & PROPERTY_BIT(PROPERTY_AUTHENTICATION_METHOD);
    assert(has_method == (type == MQTT_AUTH && body.size > 0));
    assert(!has_method || utf8_valid(in.properties.authentication_method));
    struct packet packet;
    size_t size = mqtt_encode_disconnect(
        room(&packet, 16 + mqtt_properties_size(&in.properties)), type, in.reason, &in.properties);
    written(&packet, MQTT_5_0, type, size);
    status = type == MQTT_AUTH ? mqtt_decode_auth(packet.body, &again, &fault)
                               : mqtt_decode_disconnect(version, packet.body, &again, &fault);
    assert(status == STATUS_OK && again.reason == in.reason);
    same_properties(&again.properties, &in.properties);
    assert(bytes_equal(again.properties.authentication_data, in.properties.authentication_data));
    free(packet.data);
}

static void fuzz_connack(enum mqtt_version version, struct bytes body)
{
    struct mqtt_connack in, again;
    struct mqtt_fault fault = {MQTT_SUCCESS, NULL};
    enum status status = mqtt_decode_connack(version, body, &in, &fault);
    if (status != STATUS_OK) {
        check_fault(status, &fault);
        return;
    }
    struct packet packet;
    size_t size = mqtt_encode_connack(room(&packet, 16 + mqtt_properties_size(&in.properties)), version,
        in.session_present, in.reason, &in.properties);
    written(&packet, version, MQTT_CONNACK, size);
    assert(mqtt_decode_connack(version, packet.body, &again, &fault) == STATUS_OK);
    assert(again.reason == in.reason);
    same_properties(&again.properties, &in.properties);
    free(packet.data);
}

static void fuzz_suback(enum mqtt_version version, uint8_t type, struct bytes body)
{
    struct mqtt_suback in, again;
    struct mqtt_fault fault = {MQTT_SUCCESS, NULL};
    enum status status = mqtt_decode_suback(version, type, body, &in, &fault);
    if (status != STATUS_OK) {
        check_fault(status, &fault);
        return;
    }
    struct packet packet;
    size_t size =
        mqtt_encode_suback(room(&packet, 16 + in.reasons.size + mqtt_properties_size(&in.properties)),
            version, type, in.packet_id, in.reasons.data, in.reasons.size, &in.properties);
    written(&packet, version, type, size);
    assert(mqtt_decode_suback(version, type, packet.body, &again, &fault) == STATUS_OK);
    assert(again.reasons.size == in.reasons.size);
    free(packet.data);
}

static void fuzz_properties(struct bytes body)
{
    struct mqtt_properties in, again;
    struct mqtt_fault fault;
    size_t consumed;
    for (uint8_t place = MQTT_PROPERTIES_OF_WILL; place <= MQTT_AUTH; place++) {
        if (mqtt_properties_decode(body, place, &in, &consumed, &fault) != STATUS_OK)
            continue;
        size_t size = mqtt_properties_room(MQTT_5_0, &in);
        uint8_t *to = malloc(size);
        assert(mqtt_properties_put(to, &in) == to + size);
        assert(mqtt_properties_decode(bytes_of(to, size), place, &again, &consumed, &fault) == STATUS_OK);
        assert(consumed == size);
        same_properties(&again, &in);
        free(to);
    }
    /* A walk over what nobody has checked stays inside it. */
    uint8_t identifier;
    struct bytes value, rest = body;
    while (mqtt_property_next(&rest, &identifier, &value))
        assert(value.data + value.size <= body.data + body.size);
}

static void fuzz_topics(struct bytes text)
{
    struct bytes group, rest;
    bool name = topic_name_valid(text), filter = topic_filter_valid(text);
    assert(!(name || filter) || utf8_valid(text));
    if (filter && topic_filter_shared(text, &group, &rest))
        assert(topic_filter_valid(rest) && group.size > 0);
    else if (name && filter)
        assert(topic_filter_matches(text, text));
    assert(topic_levels(text) <= text.size + 1);
}

static void fuzz_header(const uint8_t *data, size_t size)
{
    for (unsigned version = MQTT_VERSION_UNKNOWN; version <= MQTT_5_0; version++) {
        struct mqtt_header header;
        struct mqtt_fault fault = {MQTT_SUCCESS, NULL};
        enum status status = mqtt_decode_header_of(version, data, size, 1000, &header, &fault);
        if (status == STATUS_OK)
            assert(header.header_size + header.remaining_size <= 1000 && header.header_size <= size);
        else if (status != STATUS_AGAIN)
            assert(fault.text != NULL && (status == STATUS_PROTOCOL || status == STATUS_LIMIT));
    }
}

static void fuzz_body(enum mqtt_version version, uint8_t flags, struct bytes body)
{
    fuzz_publish(version, flags, body);
    for (uint8_t type = MQTT_PUBACK; type <= MQTT_PUBCOMP; type++)
        fuzz_acknowledgement(version, type, body);
    fuzz_subscribe(version, body);
    fuzz_unsubscribe(version, body);
    fuzz_disconnect(version, MQTT_DISCONNECT, body);
    fuzz_connack(version, body);
    fuzz_suback(version, MQTT_SUBACK, body);
    fuzz_suback(version, MQTT_UNSUBACK, body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_header(data, size);
    if (size < 2)
        return 0;
    struct bytes body = bytes_of(data + 2, size - 2);
    fuzz_connect(body);
    fuzz_disconnect(MQTT_5_0, MQTT_AUTH, body);
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++)
        fuzz_body(versions[i], data[0] & 0x0F, body);
    fuzz_properties(body);
    fuzz_topics(body);
    return 0;
}
