/*
 * MQTT over WebSocket: a layer over the plain or the TLS transport, behind the same calls (transport.h).
 * transport_handshake() includes the opening request; reading answers the payload of binary frames, pings are
 * answered on the way; each transport_writev() makes one binary frame of what it is given (a second one only
 * to go on behind a frame that the kernel took in part); transport_shutdown() says close first. Workers.
 */
#ifndef SHARED_TRANSPORT_WEBSOCKET_H
#define SHARED_TRANSPORT_WEBSOCKET_H

#include "shared/transport.h"
#include "shared/websocket_frames.h"
#include "shared/websocket_upgrade.h"

struct websocket_settings { /* of a listener */
    struct websocket_rules rules;
    uint64_t max_message_size; /* bytes; a larger message closes the connection with 1009 */
};

/* Puts WebSocket over a transport that was just made. Both are borrowed until transport_done(). */
enum status transport_add_websocket(struct transport *transport, const struct websocket_settings *settings,
    struct websocket_frames *frames) CHECK_RESULT;

/* For transport.c; the transport has the layer. */
void transport_websocket_done(struct transport *transport);

#endif
