/*
 * SSL_CTX of a TLS listener, made from material that is in memory already (a worker opens no file): versions,
 * ciphers, client verification, ALPN, session tickets. Any process; the caller logs.
 *
 * Resumption lets nobody in whom a full handshake would refuse: the session id context binds listener, verify
 * policy, depth and the content of the CA set; a ticket carries the span in which the whole verified client
 * chain is valid and the identities of its certificates: out of the span, with one that is revoked today, or
 * without a certificate where one is demanded, the ticket is ignored.
 *
 * ALPN: a client that offers none, or `mqtt` among others, is served ("mqtt" is answered). One that offers
 * only other protocols gets no_application_protocol, as RFC 7301 demands and as a defence against
 * cross-protocol attacks: a browser's requests end here. `alpn_http` is for wss listeners and answers
 * "http/1.1" instead.
 */
#ifndef SHARED_TLS_CONTEXT_H
#define SHARED_TLS_CONTEXT_H

#include "shared/bytes.h"
#include "shared/status.h"
#include "shared/tls_revoked.h"
#include "shared/tls_tickets.h"

#include <openssl/types.h>

#define TLS_ERROR_SIZE 400

enum tls_version {
    TLS_VERSION_1_2 = 1 << 0,
    TLS_VERSION_1_3 = 1 << 1,
};

struct tls_settings {            /* everything borrowed for the call */
    const char *listener;        /* its name, "ssl:external" */
    struct bytes key;            /* private key, PKCS#8 DER, not encrypted */
    struct bytes chain;          /* PEM: server certificate first, then its chain */
    struct bytes authorities;    /* PEM: CAs that client certificates are verified against; may be empty if
                                    !verify_peer */
    unsigned versions;           /* bits of enum tls_version */
    const char *ciphers;         /* TLS 1.2, OpenSSL's syntax; NULL: OpenSSL's default */
    const char *ciphersuites;    /* TLS 1.3; NULL: OpenSSL's default */
    bool honor_cipher_order;     /* the server's order counts, not the client's */
    bool verify_peer;            /* ask for a client certificate and verify it */
    bool fail_if_no_peer_cert;   /* … and refuse those who have none */
    unsigned depth;              /* CAs allowed between client certificate and trust anchor */
    struct tls_tickets *tickets; /* keys of session tickets, must outlive the context; NULL: no resumption */
    struct tls_revoked *revoked; /* shared by the context; NULL: nothing is revoked */
    bool partial_chain;          /* an intermediate CA in `authorities` is trusted without its root */
    bool alpn_http;              /* websocket listener */
};

/*
 * Makes the context; the caller owns it (SSL_CTX_free; connections keep their own reference).
 * STATUS_INVALID: something in the settings is wrong; `error` (TLS_ERROR_SIZE bytes) says what in plain
 * words.
 */
enum status tls_context_new(
    const struct tls_settings *settings, SSL_CTX **ret_context, char *error) CHECK_RESULT;

/*
 * Proves that the context works: a handshake in memory with a client that verifies nothing, for each version
 * of `versions`; client verification of the context is off for it. `error` as above.
 */
enum status tls_context_prove(SSL_CTX *context, unsigned versions, char *error) CHECK_RESULT;

#endif
