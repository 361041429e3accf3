/*
 * The MQTT control packets as C structures: what mqtt_decode fills and mqtt_encode writes. Versions 3.1 (3),
 * 3.1.1 (4) and 5.0 (5). Everything that points, points into the decoded buffer: valid as long as that is.
 */
#ifndef SHARED_MQTT_PACKET_H
#define SHARED_MQTT_PACKET_H

#include "shared/bytes.h"
#include "shared/status.h"

/* What the longest Remaining Length allows, fixed header included [MQTT 1.5.5]. */
#define MQTT_PACKET_SIZE_MAX (268435455u + 5u)

enum mqtt_version { MQTT_3_1 = 3, MQTT_3_1_1 = 4, MQTT_5_0 = 5 };

enum mqtt_type { /* [MQTT 2.1.2] */
    MQTT_CONNECT = 1,
    MQTT_CONNACK,
    MQTT_PUBLISH,
    MQTT_PUBACK,
    MQTT_PUBREC,
    MQTT_PUBREL,
    MQTT_PUBCOMP,
    MQTT_SUBSCRIBE,
    MQTT_SUBACK,
    MQTT_UNSUBSCRIBE,
    MQTT_UNSUBACK,
    MQTT_PINGREQ,
    MQTT_PINGRESP,
    MQTT_DISCONNECT,
    MQTT_AUTH,
};

enum mqtt_reason {       /* [MQTT 2.4] */
    MQTT_SUCCESS = 0x00, /* also Normal disconnection, Granted QoS 0 */
    MQTT_GRANTED_QOS_1 = 0x01,
    MQTT_GRANTED_QOS_2 = 0x02,
    MQTT_DISCONNECT_WITH_WILL = 0x04,
    MQTT_NO_MATCHING_SUBSCRIBERS = 0x10,
    MQTT_NO_SUBSCRIPTION_EXISTED = 0x11,
    MQTT_CONTINUE_AUTHENTICATION = 0x18,
    MQTT_REAUTHENTICATE = 0x19,
    MQTT_UNSPECIFIED_ERROR = 0x80,
    MQTT_MALFORMED_PACKET = 0x81,
    MQTT_PROTOCOL_ERROR = 0x82,
    MQTT_IMPLEMENTATION_SPECIFIC_ERROR = 0x83,
    MQTT_UNSUPPORTED_PROTOCOL_VERSION = 0x84,
    MQTT_CLIENT_IDENTIFIER_NOT_VALID = 0x85,
    MQTT_BAD_USER_NAME_OR_PASSWORD = 0x86,
    MQTT_NOT_AUTHORIZED = 0x87,
    MQTT_SERVER_UNAVAILABLE = 0x88,
    MQTT_SERVER_BUSY = 0x89,
    MQTT_BANNED = 0x8A,
    MQTT_SERVER_SHUTTING_DOWN = 0x8B,
    MQTT_BAD_AUTHENTICATION_METHOD = 0x8C,
    MQTT_KEEP_ALIVE_TIMEOUT = 0x8D,
    MQTT_SESSION_TAKEN_OVER = 0x8E,
    MQTT_TOPIC_FILTER_INVALID = 0x8F,
    MQTT_TOPIC_NAME_INVALID = 0x90,
    MQTT_PACKET_IDENTIFIER_IN_USE = 0x91,
    MQTT_PACKET_IDENTIFIER_NOT_FOUND = 0x92,
    MQTT_RECEIVE_MAXIMUM_EXCEEDED = 0x93,
    MQTT_TOPIC_ALIAS_INVALID = 0x94,
    MQTT_PACKET_TOO_LARGE = 0x95,
    MQTT_MESSAGE_RATE_TOO_HIGH = 0x96,
    MQTT_QUOTA_EXCEEDED = 0x97,
    MQTT_ADMINISTRATIVE_ACTION = 0x98,
    MQTT_PAYLOAD_FORMAT_INVALID = 0x99,
    MQTT_RETAIN_NOT_SUPPORTED = 0x9A,
    MQTT_QOS_NOT_SUPPORTED = 0x9B,
    MQTT_USE_ANOTHER_SERVER = 0x9C,
    MQTT_SERVER_MOVED = 0x9D,
    MQTT_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E,
    MQTT_CONNECTION_RATE_EXCEEDED = 0x9F,
    MQTT_MAXIMUM_CONNECT_TIME = 0xA0,
    MQTT_SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1,
    MQTT_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2,
};

/* What is wrong with a packet: the reason code to answer with and a phrase for the log and the Reason String.
 */
struct mqtt_fault {
    enum mqtt_reason reason;
    const char *text; /* static */
};

/* Properties by identifier [MQTT 2.2.2.2]; `present` has bit 1 << PROPERTY_*. */
enum mqtt_property {
    PROPERTY_PAYLOAD_FORMAT_INDICATOR,
    PROPERTY_MESSAGE_EXPIRY_INTERVAL,
    PROPERTY_CONTENT_TYPE,
    PROPERTY_RESPONSE_TOPIC,
    PROPERTY_CORRELATION_DATA,
    PROPERTY_SUBSCRIPTION_IDENTIFIER,
    PROPERTY_SESSION_EXPIRY_INTERVAL,
    PROPERTY_ASSIGNED_CLIENT_IDENTIFIER,
    PROPERTY_SERVER_KEEP_ALIVE,
    PROPERTY_AUTHENTICATION_METHOD,
    PROPERTY_AUTHENTICATION_DATA,
    PROPERTY_REQUEST_PROBLEM_INFORMATION,
    PROPERTY_WILL_DELAY_INTERVAL,
    PROPERTY_REQUEST_RESPONSE_INFORMATION,
    PROPERTY_RESPONSE_INFORMATION,
    PROPERTY_SERVER_REFERENCE,
    PROPERTY_REASON_STRING,
    PROPERTY_RECEIVE_MAXIMUM,
    PROPERTY_TOPIC_ALIAS_MAXIMUM,
    PROPERTY_TOPIC_ALIAS,
    PROPERTY_MAXIMUM_QOS,
    PROPERTY_RETAIN_AVAILABLE,
    PROPERTY_USER_PROPERTY,
    PROPERTY_MAXIMUM_PACKET_SIZE,
    PROPERTY_WILDCARD_SUBSCRIPTION_AVAILABLE,
    PROPERTY_SUBSCRIPTION_IDENTIFIER_AVAILABLE,
    PROPERTY_SHARED_SUBSCRIPTION_AVAILABLE,
    PROPERTY_COUNT,
};

#define PROPERTY_BIT(property) (UINT32_C(1) << (property))

/* All properties of one packet. Fields whose bit is not set hold the specification's default where there is
 * one. */
struct mqtt_properties {
    uint32_t present;
    struct bytes raw; /* the encoded properties, without the length in front; user properties are read from
                         here in order with mqtt_property_next() */
    uint32_t user_properties; /* how many */
    uint8_t payload_format_indicator;
    uint8_t request_problem_information; /* default 1 */
    uint8_t request_response_information;
    uint8_t maximum_qos;      /* default 2 */
    uint8_t retain_available; /* default 1, like the three below */
    uint8_t wildcard_subscription_available;
    uint8_t subscription_identifier_available;
    uint8_t shared_subscription_available;
    uint16_t server_keep_alive;
    uint16_t receive_maximum; /* default 65535 */
    uint16_t topic_alias_maximum;
    uint16_t topic_alias;
    uint32_t message_expiry_interval; /* s */
    uint32_t session_expiry_interval; /* s */
    uint32_t will_delay_interval;     /* s */
    uint32_t maximum_packet_size;     /* default UINT32_MAX: no limit */
    uint32_t subscription_identifier; /* the last one, where several may stand */
    struct bytes content_type;
    struct bytes response_topic;
    struct bytes correlation_data;
    struct bytes assigned_client_identifier;
    struct bytes authentication_method;
    struct bytes authentication_data;
    struct bytes response_information;
    struct bytes server_reference;
    struct bytes reason_string;
};

struct mqtt_header {
    uint8_t type;
    uint8_t flags;
    uint8_t header_size;     /* 2..5 */
    uint32_t remaining_size; /* the whole packet is header_size + remaining_size */
};

struct mqtt_connect {
    enum mqtt_version version;
    bool clean_start; /* Clean Session in version 3 */
    uint16_t keep_alive_s;
    struct bytes client_id;
    struct bytes user_name; /* data NULL: absent */
    struct bytes password;  /* data NULL: absent */
    struct mqtt_properties properties;
    bool has_will;
    uint8_t will_qos;
    bool will_retain;
    struct bytes will_topic;
    struct bytes will_payload;
    struct mqtt_properties will_properties;
};

struct mqtt_publish {
    uint8_t qos;
    bool retain;
    bool dup;
    uint16_t packet_id;   /* QoS 1 and 2 */
    uint16_t topic_alias; /* 0: none */
    bool has_message_expiry;
    uint32_t message_expiry_s;
    bool payload_is_utf8; /* Payload Format Indicator 1 (the payload itself is not checked by the decoder) */
    struct bytes topic;   /* empty when an alias stands for it */
    struct bytes properties; /* encoded, all of them; see mqtt_properties_forward() */
    struct bytes response_topic;
    bool properties_forward_as_they_are; /* no Topic Alias and no Message Expiry in `properties` */
    uint32_t user_properties;
    struct bytes payload;
};

/* PUBACK, PUBREC, PUBREL, PUBCOMP. */
struct mqtt_acknowledgement {
    uint16_t packet_id;
    enum mqtt_reason reason;
    struct mqtt_properties properties;
};

struct mqtt_subscribe {
    uint16_t packet_id;
    struct mqtt_properties properties;
    struct bytes filters; /* walk with mqtt_subscribe_next(); the decoder has checked all of them */
    uint32_t count;
};

struct mqtt_subscribe_filter {
    struct bytes filter;
    uint8_t qos;
    bool no_local;
    bool retain_as_published;
    uint8_t retain_handling;
};

struct mqtt_unsubscribe {
    uint16_t packet_id;
    struct mqtt_properties properties;
    struct bytes filters; /* walk with mqtt_unsubscribe_next() */
    uint32_t count;
};

/* DISCONNECT and AUTH. */
struct mqtt_disconnect {
    enum mqtt_reason reason;
    struct mqtt_properties properties;
};

/* CONNACK and SUBACK/UNSUBACK, which a client (bench, tests) decodes. */
struct mqtt_connack {
    bool session_present;
    uint8_t reason; /* reason code (5.0) or return code (3.x) */
    struct mqtt_properties properties;
};

struct mqtt_suback {
    uint16_t packet_id;
    struct mqtt_properties properties;
    struct bytes reasons; /* one byte a filter; empty for UNSUBACK in version 3 */
};

const char *mqtt_type_text(uint8_t type);
const char *mqtt_reason_text(uint8_t reason);

/* True if the specification lists the reason code for this packet type. */
bool mqtt_reason_allowed(uint8_t type, uint8_t reason);

#endif
