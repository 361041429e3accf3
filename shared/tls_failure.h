/*
 * Why a connection failed below MQTT (TLS, WebSocket, socket), in words for the operator: a cause (one
 * counter each), a line that says what happened, and what usually causes it. Reads OpenSSL's error queue and
 * verification result, or the first bytes that a client sent. Any process; pure.
 */
#ifndef SHARED_TLS_FAILURE_H
#define SHARED_TLS_FAILURE_H

#include "shared/bytes.h"

#include <openssl/types.h>

enum tls_failure_cause {
    TLS_FAILURE_NONE,
    TLS_FAILURE_PLAIN_MQTT,          /* MQTT without TLS on a TLS port */
    TLS_FAILURE_PLAIN_HTTP,          /* HTTP without TLS on a TLS port */
    TLS_FAILURE_NOT_TLS,             /* neither */
    TLS_FAILURE_CLIENT_GONE,         /* closed or reset before the handshake was over */
    TLS_FAILURE_TIMEOUT,             /* said too little within handshake_timeout (set by the caller) */
    TLS_FAILURE_VERSION,             /* no TLS version in common */
    TLS_FAILURE_CIPHER,              /* no cipher, group or signature algorithm in common */
    TLS_FAILURE_ALPN,                /* the client offers application protocols, none of them mqtt */
    TLS_FAILURE_CERTIFICATE_MISSING, /* the client sent no certificate and one is demanded */
    TLS_FAILURE_CERTIFICATE_UNKNOWN_CA,
    TLS_FAILURE_CERTIFICATE_SELF_SIGNED,
    TLS_FAILURE_CERTIFICATE_EXPIRED,        /* or not yet valid */
    TLS_FAILURE_CERTIFICATE_REVOKED,        /* a CRL names it, or a CA of its chain */
    TLS_FAILURE_CERTIFICATE_DEPTH,          /* chain longer than `depth` */
    TLS_FAILURE_CERTIFICATE_PURPOSE,        /* not made for client authentication */
    TLS_FAILURE_CERTIFICATE_INVALID,        /* any other verification error */
    TLS_FAILURE_CLIENT_REJECTS_CA,          /* alert: the client does not know who signed our certificate */
    TLS_FAILURE_CLIENT_REJECTS_CERTIFICATE, /* alert: our certificate does not suit the client (name, purpose)
                                             */
    TLS_FAILURE_CLIENT_REJECTS_EXPIRED,     /* alert: our certificate has expired, by the client's clock */
    TLS_FAILURE_CLIENT_ALERT,               /* any other alert of the client */
    TLS_FAILURE_PROTOCOL,                   /* anything else that breaks TLS */
    TLS_FAILURE_UPGRADE,                    /* no opening request of WebSocket, or one that is refused */
    TLS_FAILURE_WEBSOCKET,                  /* frames that break WebSocket's rules or a limit */
    TLS_FAILURE_SYSTEM,                     /* socket error, out of memory */
    TLS_FAILURE_CAUSES,
};

struct tls_failure {
    enum tls_failure_cause cause;
    char detail[200]; /* OpenSSL's words, the client certificate's subject, errno's text; "" if there is no
                         more */
};

/* Sets cause and detail (printf). */
void tls_failure_set(struct tls_failure *failure, enum tls_failure_cause cause, const char *detail_format,
    ...) __attribute__((format(printf, 3, 4)));

/* From a callback of OpenSSL (printf): what the next tls_failure_from_ssl() adds to its detail. */
void tls_failure_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Reads and empties the thread's OpenSSL error queue after a call on `ssl` failed. `errno_value` counts when
   the queue is empty; 0 and an empty queue: the client has gone. */
void tls_failure_from_ssl(struct tls_failure *failure, SSL *ssl, int errno_value);

/*
 * From the first bytes that came to a TLS port. NONE: it looks like TLS; otherwise what it
 * is instead. Fewer than TLS_FIRST_BYTES bytes that are not TLS may answer NOT_TLS where more would tell.
 */
#define TLS_FIRST_BYTES 12
enum tls_failure_cause tls_failure_first_bytes(struct bytes first);

/* The reverse, for a plain port: the bytes begin a TLS ClientHello (at least 3 bytes are looked at). */
bool tls_is_client_hello(struct bytes first);

/* A fatal alert (handshake_failure) in the clear: what a plain port may answer to a ClientHello, so that the
   client ends at once and says why. */
extern const struct bytes tls_plain_port_alert;

/* What a plain port says about a ClientHello, one line. */
extern const char *const tls_on_plain_port_text;

/* Short name for counters and JSON ("plain_mqtt"), what happened, and what usually causes it. Never NULL. */
const char *tls_failure_name(enum tls_failure_cause cause);
const char *tls_failure_text(enum tls_failure_cause cause);
const char *tls_failure_usual_cause(enum tls_failure_cause cause);

/* The whole line: "text (detail); usually: …". Cut to `size`; always terminated. Returns `to`. */
const char *tls_failure_line(const struct tls_failure *failure, char *to, size_t size);

#endif
