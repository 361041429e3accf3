/*
 * Names of packet types and reason codes for log lines and Reason Strings, and which packet may carry which
 * reason code [MQTT 2.4, 3.x.2.1]. Worker process; bench.
 */
#include "shared/mqtt_packet.h"

#define IN(type) (1u << (type))
#define IN_ACK   (IN(MQTT_PUBACK) | IN(MQTT_PUBREC))
#define IN_SUB   (IN(MQTT_SUBACK) | IN(MQTT_UNSUBACK))

static const struct {
    const char *text;
    uint16_t types; /* bit 1 << type for every packet type that may carry it */
} reasons[] = {
    [MQTT_SUCCESS] = {"success", IN(MQTT_CONNACK) | IN_ACK | IN(MQTT_PUBREL) | IN(MQTT_PUBCOMP) | IN_SUB |
                                     IN(MQTT_DISCONNECT) | IN(MQTT_AUTH)},
    [MQTT_GRANTED_QOS_1] = {"granted QoS 1", IN(MQTT_SUBACK)},
    [MQTT_GRANTED_QOS_2] = {"granted QoS 2", IN(MQTT_SUBACK)},
    [MQTT_DISCONNECT_WITH_WILL] = {"disconnect with will message", IN(MQTT_DISCONNECT)},
    [MQTT_NO_MATCHING_SUBSCRIBERS] = {"no matching subscribers", IN_ACK},
    [MQTT_NO_SUBSCRIPTION_EXISTED] = {"no subscription existed", IN(MQTT_UNSUBACK)},
    [MQTT_CONTINUE_AUTHENTICATION] = {"continue authentication", IN(MQTT_AUTH)},
    [MQTT_REAUTHENTICATE] = {"re-authenticate", IN(MQTT_AUTH)},
    [MQTT_UNSPECIFIED_ERROR] = {"unspecified error",
        IN(MQTT_CONNACK) | IN_ACK | IN_SUB | IN(MQTT_DISCONNECT)},
    [MQTT_MALFORMED_PACKET] = {"malformed packet", IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT)},
    [MQTT_PROTOCOL_ERROR] = {"protocol error", IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT)},
    [MQTT_IMPLEMENTATION_SPECIFIC_ERROR] = {"implementation specific error",
        IN(MQTT_CONNACK) | IN_ACK | IN_SUB | IN(MQTT_DISCONNECT)},
    [MQTT_UNSUPPORTED_PROTOCOL_VERSION] = {"unsupported protocol version", IN(MQTT_CONNACK)},
    [MQTT_CLIENT_IDENTIFIER_NOT_VALID] = {"client identifier not valid", IN(MQTT_CONNACK)},
    [MQTT_BAD_USER_NAME_OR_PASSWORD] = {"bad user name or password", IN(MQTT_CONNACK)},
    [MQTT_NOT_AUTHORIZED] = {"not authorized", IN(MQTT_CONNACK) | IN_ACK | IN_SUB | IN(MQTT_DISCONNECT)},
    [MQTT_SERVER_UNAVAILABLE] = {"server unavailable", IN(MQTT_CONNACK)},
    [MQTT_SERVER_BUSY] = {"server busy", IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT)},
    [MQTT_BANNED] = {"banned", IN(MQTT_CONNACK)},
    [MQTT_SERVER_SHUTTING_DOWN] = {"server shutting down", IN(MQTT_DISCONNECT)},
    [MQTT_BAD_AUTHENTICATION_METHOD] = {"bad authentication method", IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT)},
    [MQTT_KEEP_ALIVE_TIMEOUT] = {"keep alive timeout", IN(MQTT_DISCONNECT)},
    [MQTT_SESSION_TAKEN_OVER] = {"session taken over", IN(MQTT_DISCONNECT)},
    [MQTT_TOPIC_FILTER_INVALID] = {"topic filter invalid", IN_SUB | IN(MQTT_DISCONNECT)},
    [MQTT_TOPIC_NAME_INVALID] = {"topic name invalid", IN(MQTT_CONNACK) | IN_ACK | IN(MQTT_DISCONNECT)},
    [MQTT_PACKET_IDENTIFIER_IN_USE] = {"packet identifier in use", IN_ACK | IN_SUB},
    [MQTT_PACKET_IDENTIFIER_NOT_FOUND] = {"packet identifier not found", IN(MQTT_PUBREL) | IN(MQTT_PUBCOMP)},
    [MQTT_RECEIVE_MAXIMUM_EXCEEDED] = {"receive maximum exceeded", IN(MQTT_DISCONNECT)},
    [MQTT_TOPIC_ALIAS_INVALID] = {"topic alias invalid", IN(MQTT_DISCONNECT)},
    [MQTT_PACKET_TOO_LARGE] = {"packet too large", IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT)},
    [MQTT_MESSAGE_RATE_TOO_HIGH] = {"message rate too high", IN(MQTT_DISCONNECT)},
    [MQTT_QUOTA_EXCEEDED] = {"quota exceeded",
        IN(MQTT_CONNACK) | IN_ACK | IN(MQTT_SUBACK) | IN(MQTT_DISCONNECT)},
    [MQTT_ADMINISTRATIVE_ACTION] = {"administrative action", IN(MQTT_DISCONNECT)},
    [MQTT_PAYLOAD_FORMAT_INVALID] = {"payload format invalid",
        IN(MQTT_CONNACK) | IN_ACK | IN(MQTT_DISCONNECT)},
    [MQTT_RETAIN_NOT_SUPPORTED] = {"retain not supported", IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT)},
    [MQTT_QOS_NOT_SUPPORTED] = {"QoS not supported", IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT)},
    [MQTT_USE_ANOTHER_SERVER] = {"use another server", IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT)},
    [MQTT_SERVER_MOVED] = {"server moved", IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT)},
    [MQTT_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED] = {"shared subscriptions not supported",
        IN(MQTT_SUBACK) | IN(MQTT_DISCONNECT)},
    [MQTT_CONNECTION_RATE_EXCEEDED] = {"connection rate exceeded", IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT)},
    [MQTT_MAXIMUM_CONNECT_TIME] = {"maximum connect time", IN(MQTT_DISCONNECT)},
    [MQTT_SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED] = {"subscription identifiers not supported",
        IN(MQTT_SUBACK) | IN(MQTT_DISCONNECT)},
    [MQTT_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED] = {"wildcard subscriptions not supported",
        IN(MQTT_SUBACK) | IN(MQTT_DISCONNECT)},
};

const char *mqtt_type_text(uint8_t type)
{
    static const char *const texts[] = {"reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC",
        "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP",
        "DISCONNECT", "AUTH"};
    return type < sizeof texts / sizeof *texts ? texts[type] : "unknown type";
}

const char *mqtt_reason_text(uint8_t reason)
{
    if (reason >= sizeof reasons / sizeof *reasons || reasons[reason].text == NULL)
        return "unknown reason";
    return reasons[reason].text;
}

bool mqtt_reason_allowed(uint8_t type, uint8_t reason)
{
    return reason < sizeof reasons / sizeof *reasons && type <= MQTT_AUTH &&
           (reasons[reason].types >> type & 1);
}
