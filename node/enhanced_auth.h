/*
 * Enhanced authentication [MQTT 4.12]: between CONNECT with an Authentication Method and CONNACK, and again
 * later when the client asks for it. The methods are SCRAM-SHA-256 and, bound to a TLS 1.3 connection,
 * SCRAM-SHA-256-PLUS; the users those of auth.password_file. Worker process; nothing here takes long.
 */
#ifndef NODE_ENHANCED_AUTH_H
#define NODE_ENHANCED_AUTH_H

#include "node/session_connect.h"

#include "shared/mqtt_packet.h"

enum auth_method {
    AUTH_METHOD_NONE, /* CONNECT had no Authentication Method */
    AUTH_METHOD_SCRAM_SHA_256,
    AUTH_METHOD_SCRAM_SHA_256_PLUS,
};

/* As it stands in packets; "" for AUTH_METHOD_NONE. */
const char *enhanced_auth_method_text(uint8_t method);

/* CONNECTION_AUTHORIZING, CONNECT has an Authentication Method: goes on with connect_admit(), at once or
   after AUTH packets, or refuses. */
void enhanced_auth_begin(struct connecting *connecting);
/* AUTH came, in CONNECTION_AUTHENTICATING or CONNECTION_ACTIVE. False: the connection has ended. */
bool enhanced_auth_received(struct connection *connection, const struct mqtt_disconnect *auth);
/* What CONNACK says of it; points into the exchange. */
void enhanced_auth_fill_connack(const struct connection *connection, struct mqtt_properties *properties);
/* Ends the exchange, if there is one; the method stays the connection's. */
void enhanced_auth_end(struct connection *connection);

#endif
