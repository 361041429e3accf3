/*
 * The bytes of one client connection: a plain socket or TLS, and WebSocket over either
 * (transport_websocket.h), behind one table of operations. A worker's loop calls it; it never waits, never
 * logs, and knows no MQTT. Under load each call costs at most one recv() or one send() and allocates nothing:
 * TLS reads and writes its ciphertext through buffers that all connections of the worker share (struct
 * transport_scratch) and in which nothing stays between two calls.
 *
 * The life of a connection:
 *   transport_init_* → transport_handshake until STATUS_OK → (transport_peer_* …) → transport_settle
 *   → transport_read / transport_write / transport_flush … → transport_shutdown until not STATUS_AGAIN
 *   → transport_drain until STATUS_CLOSED or TRANSPORT_LINGER_MS are over → transport_done.
 * A failed handshake goes straight to transport_shutdown: the alert is sent and nothing resets the connection
 * before the client has read it. transport_done is allowed at any time; alone it is the hard way out.
 */
#ifndef SHARED_TRANSPORT_H
#define SHARED_TRANSPORT_H

#include "shared/bytes.h"
#include "shared/status.h"
#include "shared/tls_failure.h"

#include <openssl/types.h>
#include <sys/uio.h>

/* The room that a caller of transport_read must offer at least, and the room with which it reads best (a
   recv() of 64 KiB and one TLS record that was half there before). Offer the latter. */
#define TRANSPORT_READ_MIN  ((size_t)34 * 1024)
#define TRANSPORT_READ_BEST ((size_t)81 * 1024)

/* How long the caller drains after transport_shutdown before it closes all the same. */
#define TRANSPORT_LINGER_MS 1000

/* One per worker; every TLS connection of the worker borrows it. */
struct transport_scratch;
enum status transport_scratch_new(struct transport_scratch **ret_scratch) CHECK_RESULT;
/* After the last transport that borrows it is done. */
void transport_scratch_free(struct transport_scratch **scratch);

struct transport_ops;
struct transport_rest;
struct transport_websocket;

/* Embedded in a connection; private but for `fd`. */
struct transport {
    const struct transport_ops *ops;
    struct transport_scratch *scratch;     /* borrowed; NULL when plain */
    SSL *ssl;                              /* owned; NULL when plain */
    struct transport_rest *output;         /* owned: ciphertext that the kernel did not take, or NULL */
    struct transport_rest *input;          /* owned: ciphertext received before it could be used, or NULL */
    struct transport_websocket *websocket; /* owned: the layer on top, or NULL */
    int fd;                                /* owned */
    uint16_t error;                        /* errno of the last failed system call */
    uint8_t state;                         /* of transport_tls.c */
    uint8_t cause;                         /* enum tls_failure_cause of what ended it */
};

/* Both take the non-blocking, connected socket `fd` (on failure it stays the caller's). */
void transport_init_plain(struct transport *transport, int fd);
enum status transport_init_tls(
    struct transport *transport, int fd, SSL_CTX *context, struct transport_scratch *scratch) CHECK_RESULT;

/* False: transport_handshake() would be done at once. */
bool transport_has_handshake(const struct transport *transport);

/* Frees all and closes the socket. Sends nothing. */
void transport_done(struct transport *transport);

/*
 * One step of the handshake: at most one recv() and one send().
 * STATUS_OK: done (at once when plain). Call transport_read now, without waiting for the socket: the client's
 *   first packet may have come along with the end of the handshake.
 * STATUS_AGAIN: call again when the socket is readable, or writable if transport_wants_write().
 * STATUS_PROTOCOL, STATUS_CLOSED, STATUS_SYSTEM: failed; *ret_failure says why (the only case in which it is
 *   written). Go to transport_shutdown.
 */
enum status transport_handshake(struct transport *transport, struct tls_failure *ret_failure) CHECK_RESULT;

/* True if the handshake resumed a session. */
bool transport_resumed(const struct transport *transport);

/* The peer's certificate, new reference, or NULL (plain; none sent; after transport_settle). tls_peer.h reads
 * it. */
X509 *transport_peer_certificate(const struct transport *transport);

/*
 * The channel binding tls-exporter of this connection [RFC 9266]: what both ends know and nobody between. TLS
 * 1.3 alone, after the handshake (settled or not). False: there is none.
 */
#define TRANSPORT_BINDING_SIZE 32
bool transport_binding(const struct transport *transport, uint8_t to[TRANSPORT_BINDING_SIZE]);

/* Names for log lines, static: "TLSv1.3", "TLS_AES_256_GCM_SHA384"; "" when plain or not yet known. The
   cipher is forgotten by transport_settle. */
const char *transport_version(const struct transport *transport);
const char *transport_cipher(const struct transport *transport);

/* After the handshake: frees what only the handshake needed, the peer's certificate included. Once. */
void transport_settle(struct transport *transport);

/*
 * Reads what is there, up to `size` (at least TRANSPORT_READ_MIN) bytes, with one recv().
 * STATUS_OK: *ret_size > 0 bytes. There may be more in the kernel (the socket stays readable), never in here.
 * STATUS_AGAIN: nothing now. STATUS_CLOSED: end of stream or close_notify. STATUS_SYSTEM: errno.
 * STATUS_PROTOCOL: not TLS as agreed, or the client's alert; transport_failure() says which.
 */
enum status transport_read(
    struct transport *transport, uint8_t *to, size_t size, size_t *ret_size) CHECK_RESULT;

/*
 * Takes bytes to send. *ret_taken (written on STATUS_OK only) is less than all there are only if the kernel
 * takes no more: then wait until the socket is writable, and go on with the rest (also after other calls; the
 * rest may lie elsewhere in memory). One send() for each 80 KiB. Errors as transport_read.
 */
enum status transport_write(
    struct transport *transport, const uint8_t *from, size_t size, size_t *ret_taken) CHECK_RESULT;
/* As transport_write, for bytes in several places: still one send(). */
enum status transport_writev(
    struct transport *transport, const struct iovec *pieces, int count, size_t *ret_taken) CHECK_RESULT;

/* True while bytes that were taken, or the transport's own, have not reached the kernel: call transport_flush
   when it is writable. */
bool transport_websocket_wants_write(const struct transport *transport);
static inline bool transport_wants_write(const struct transport *transport)
{
    return transport->output != NULL ||
           (transport->websocket != NULL && transport_websocket_wants_write(transport));
}
/* STATUS_OK: nothing is left. STATUS_AGAIN: not all was taken by the kernel. */
enum status transport_flush(struct transport *transport) CHECK_RESULT;

/*
 * Ends the sending side: close_notify (unless a fatal alert was sent), what is left over, then
 * shutdown(SHUT_WR). STATUS_AGAIN: bytes are left; call again when writable. STATUS_OK: sent, drain now.
 * Otherwise: transport_done.
 */
enum status transport_shutdown(struct transport *transport) CHECK_RESULT;

/* Throws away what still arrives (up to 256 KiB a call). STATUS_AGAIN: wait for more. STATUS_CLOSED: the peer
   is done too, or gone. */
enum status transport_drain(struct transport *transport) CHECK_RESULT;

/* Why the last call on this transport answered STATUS_PROTOCOL or STATUS_SYSTEM; ask before any other call.
 */
void transport_failure(const struct transport *transport, struct tls_failure *ret_failure);

#endif
