/* Certificates out of PEM text in memory. Any process; pure. */
#ifndef SHARED_TLS_PEM_H
#define SHARED_TLS_PEM_H

#include "shared/bytes.h"
#include "shared/status.h"

#include <openssl/x509.h>

/*
 * All certificates of the text, in its order; other blocks are skipped. The caller frees the stack with its
 * members (sk_X509_pop_free). STATUS_INVALID: none in it, or one that is damaged: `error` (TLS_ERROR_SIZE
 * bytes) says which.
 */
enum status tls_pem_certificates(
    struct bytes pem, STACK_OF(X509) * *ret_certificates, char *error) CHECK_RESULT;

/* Appends OpenSSL's own words, ": reason", to a message of TLS_ERROR_SIZE bytes and empties its error queue.
 */
void tls_pem_add_reason(char *error);

#endif
