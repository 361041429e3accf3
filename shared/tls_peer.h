/*
 * Who a client's certificate says that it is, for peer_cert_as_username and peer_cert_as_clientid. Workers.
 */
#ifndef SHARED_TLS_PEER_H
#define SHARED_TLS_PEER_H

#include "shared/status.h"

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>

enum tls_identity {
    TLS_IDENTITY_NONE,
    TLS_IDENTITY_CN,  /* the subject's common name (the last one, if there are several) */
    TLS_IDENTITY_DN,  /* the whole subject as RFC 2253 writes it, in UTF-8: "CN=meter-7,O=Example" */
    TLS_IDENTITY_CRT, /* SHA-256 of the DER certificate, 64 hexadecimal digits in lower case */
};

#define TLS_IDENTITY_SIZE 1024 /* bytes, terminating NUL included: enough for what a subject may hold */

/*
 * Writes the identity, terminated, into `to`. STATUS_NOT_FOUND: the certificate has no such name (or an empty
 * one). STATUS_REFUSED: it holds a NUL or is not UTF-8: treat the client as not authenticated. STATUS_LIMIT:
 * longer than `size`.
 */
enum status tls_peer_identity(
    const X509 *certificate, enum tls_identity what, char *to, size_t size) CHECK_RESULT;

/*
 * Does the certificate name this node of a cluster? One of its DNS names (subjectAltName) must be exactly the
 * name, or, if it has none, its common name. No wildcards.
 */
bool tls_peer_is_node(const X509 *certificate, const char *node);

/* The names that count for it, for messages: "DNS:n1, DNS:n2", "CN n1", "no node". Cut to the size. */
#define TLS_NODE_NAMES_SIZE 200
const char *tls_peer_node_names(const X509 *certificate, char to[TLS_NODE_NAMES_SIZE]);

#endif
