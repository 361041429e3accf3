/*
 * The encrypted stream of one session between two links: bytes of nanomsg messages in, whole messages of the
 * wire (wire_private.h) out, and the other way round. TLS 1.3 by OpenSSL over memory BIOs; both sides show a
 * certificate of the cluster's CA. No socket, no clock. Link process.
 */
#ifndef CLUSTER_WIRE_STREAM_H
#define CLUSTER_WIRE_STREAM_H

#include "shared/bytes.h"
#include "shared/status.h"

#include <openssl/types.h>
#include <stdbool.h>

#define WIRE_TEXT_SIZE 400 /* of a reason in words */
/* One message's body at most: a run of bus frames and its offset. */
#define WIRE_BODY_MAX ((size_t)65536 + 64)

/*
 * The context of both roles, out of key (PKCS#8 DER), chain and CAs (PEM). STATUS_INVALID: `text`
 * (WIRE_TEXT_SIZE) says what is wrong.
 */
enum status wire_context_new(struct bytes key, struct bytes chain, struct bytes authorities,
    SSL_CTX **ret_context, char *text) CHECK_RESULT;

struct wire_stream;

/* `context` NULL: nothing is encrypted; for simulations, which have no key. */
enum status wire_stream_new(SSL_CTX *context, bool client, struct wire_stream **ret_stream) CHECK_RESULT;
void wire_stream_free(struct wire_stream **stream);

/*
 * Takes what came, and goes on with the handshake. STATUS_REFUSED: the handshake has failed, or the stream is
 * damaged: `text` says why, wire_stream_output() may still have an alert for the other side.
 */
enum status wire_stream_input(struct wire_stream *stream, struct bytes bytes, char *text) CHECK_RESULT;
/* Starts the client's handshake: output follows. */
enum status wire_stream_start(struct wire_stream *stream, char *text) CHECK_RESULT;
bool wire_stream_ready(const struct wire_stream *stream); /* the handshake is over, the certificate good */
/* True if the peer's certificate names this node; `names` (TLS_NODE_NAMES_SIZE): those that it has. */
bool wire_stream_is(const struct wire_stream *stream, const char *node, char *names);
/* When the certificate that the peer showed ends, seconds; 0: it showed none. */
int64_t wire_stream_peer_expires_s(const struct wire_stream *stream);

/* The next whole message; STATUS_NOT_FOUND: none yet; STATUS_REFUSED as above. The body lives until the next
   call. */
enum status wire_stream_next(
    struct wire_stream *stream, uint8_t *ret_type, struct bytes *ret_body, char *text) CHECK_RESULT;
/* Appends a message, in two parts; STATUS_SYSTEM: the stream is of no use any more. */
enum status wire_stream_put(
    struct wire_stream *stream, uint8_t type, struct bytes head, struct bytes tail) CHECK_RESULT;

/* What is to be sent, all of it; wire_stream_sent() once it was. */
struct bytes wire_stream_output(struct wire_stream *stream);
void wire_stream_sent(struct wire_stream *stream);

#endif
