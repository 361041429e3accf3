/*
 * Revoked certificates as a sorted table of identities: the master makes it once out of CRL files, whose
 * signatures it checks; all workers map the same pages and look certificates up, in full handshakes and when
 * a session is resumed. A certificate's identity is its issuer's key and its serial number. Pure but for the
 * mapping.
 */
#ifndef SHARED_TLS_REVOKED_H
#define SHARED_TLS_REVOKED_H

#include "shared/bytes.h"
#include "shared/status.h"

#include <openssl/x509.h>

#define TLS_CERTIFICATE_ID_SIZE 16

/* False: no memory. */
bool tls_certificate_id(const X509 *certificate, const X509 *issuer, uint8_t ret_id[TLS_CERTIFICATE_ID_SIZE]);

/* Making (master) ---- */

struct tls_revoked_facts {
    size_t lists; /* CRLs in the file */
    size_t entries;
    int64_t from_s;  /* the latest «this update» of them */
    int64_t until_s; /* the earliest «next update»; INT64_MAX: none says */
    size_t unlisted; /* CAs for which there is no CRL */
    char first_unlisted[160];
};

/*
 * The table of all CRLs in the text, to free(), possibly empty. STATUS_INVALID: no CRL in it, one that is
 * damaged, indirect, or signed by none of the CAs: `error` (TLS_ERROR_SIZE bytes) says which.
 */
enum status tls_revoked_make(struct bytes pem, struct bytes authorities, struct bytes *ret_table,
    struct tls_revoked_facts *ret_facts, char *error) CHECK_RESULT;

/* Using (worker) ---- */

/* Tables by name, in a mapped file: each a length (4) and bytes of name and table. Shared by those who use
 * it. */
struct tls_revoked;

/* The descriptor stays the caller's. STATUS_PROTOCOL: it is not what the master made. */
enum status tls_revoked_map(int fd, struct tls_revoked **ret_revoked) CHECK_RESULT;
struct tls_revoked *tls_revoked_ref(struct tls_revoked *revoked);
/* Nulls the pointer; NULL is allowed. */
void tls_revoked_unref(struct tls_revoked **revoked);
/* BYTES_NONE: no such table. */
struct bytes tls_revoked_table(const struct tls_revoked *revoked, const char *name);

bool tls_revoked_has(struct bytes table, const uint8_t id[TLS_CERTIFICATE_ID_SIZE]);

#endif
