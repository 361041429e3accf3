/* Names out of client certificates. Workers; pure. */
#include "shared/tls_peer.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* RFC 2253, but letters beyond ASCII as they are. */
#define DN_FLAGS (XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB)

/* Converts to UTF-8; refuses what cannot be, and NUL bytes: names that end early for one reader only. */
static enum status put_text(const ASN1_STRING *text, char *to, size_t size)
{
    unsigned char *utf8 = NULL;
    int length = ASN1_STRING_to_UTF8(&utf8, text);
    enum status status = STATUS_OK;
    if (length < 0 || memchr(utf8, '\0', (size_t)length))
        status = STATUS_REFUSED;
    else if (length == 0)
        status = STATUS_NOT_FOUND;
    else if ((size_t)length >= size)
        status = STATUS_LIMIT;
    if (status == STATUS_OK) {
        memcpy(to, utf8, (size_t)length);
        to[length] = '\0';
    }
    OPENSSL_free(utf8);
    ERR_clear_error();
    return status;
}

static enum status put_common_name(const X509_NAME *subject, char *to, size_t size)
{
    int last = -1;
    for (int at = -1; (at = X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0;)
        last = at;
    if (last < 0)
        return STATUS_NOT_FOUND;
    return put_text(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, last)), to, size);
}

/* Every part is checked as a common name is: printing would hide a NUL behind an escape. */
static enum status check_parts(const X509_NAME *subject)
{
    char part[TLS_IDENTITY_SIZE];
    for (int i = 0; i < X509_NAME_entry_count(subject); i++) {
        const ASN1_STRING *text = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i));
        enum status status = put_text(text, part, sizeof part);
        if (status != STATUS_OK && status != STATUS_NOT_FOUND)
            return status;
    }
    return STATUS_OK;
}

static enum status put_subject(const X509_NAME *subject, char *to, size_t size)
{
    if (X509_NAME_entry_count(subject) == 0)
        return STATUS_NOT_FOUND;
    enum status status = check_parts(subject);
    if (status != STATUS_OK)
        return status;
    BIO *text = BIO_new(BIO_s_mem());
    const char *data = NULL;
    if (!text)
        return STATUS_NO_MEMORY;
    long length = 0;
    if (X509_NAME_print_ex(text, subject, 0, DN_FLAGS) >= 0)
        length = BIO_get_mem_data(text, &data);
    if (length <= 0)
        status = STATUS_REFUSED;
    else if ((size_t)length >= size)
        status = STATUS_LIMIT;
    else {
        memcpy(to, data, (size_t)length);
        to[length] = '\0';
    }
    BIO_free(text);
    ERR_clear_error();
    return status;
}

static enum status put_fingerprint(const X509 *certificate, char *to, size_t size)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    if (X509_digest(certificate, EVP_sha256(), digest, &length) != 1)
        return STATUS_NO_MEMORY;
    if (size < 2 * (size_t)length + 1)
        return STATUS_LIMIT;
    for (unsigned i = 0; i < length; i++)
        snprintf(to + 2 * (size_t)i, 3, "%02x", digest[i]);
    return STATUS_OK;
}

enum status tls_peer_identity(const X509 *certificate, enum tls_identity what, char *to, size_t size)
{
    switch (what) {
    case TLS_IDENTITY_CN:
        return put_common_name(X509_get_subject_name(certificate), to, size);
    case TLS_IDENTITY_DN:
        return put_subject(X509_get_subject_name(certificate), to, size);
    case TLS_IDENTITY_CRT:
        return put_fingerprint(certificate, to, size);
    case TLS_IDENTITY_NONE:
        break;
    }
    return STATUS_NOT_FOUND;
}
