/* Names out of client certificates. Workers; pure. */
#include "shared/tls_peer.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
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

/* Calls for each DNS name until one is liked; false if there is no DNS name at all. */
static bool each_dns_name(const X509 *certificate, bool (*like)(void *context, const ASN1_STRING *name),
    void *context, bool *ret_liked)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    bool any = false;
    *ret_liked = false;
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !*ret_liked; i++) {
        int type;
        const ASN1_STRING *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
        if (type != GEN_DNS)
            continue;
        any = true;
        *ret_liked = like(context, value);
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return any;
}

static bool is_name(void *context, const ASN1_STRING *name)
{
    const char *node = context;
    size_t size = strlen(node);
    return (size_t)ASN1_STRING_length(name) == size && memcmp(ASN1_STRING_get0_data(name), node, size) == 0;
}

bool tls_peer_is_node(const X509 *certificate, const char *node)
{
    bool liked;
    char name[TLS_IDENTITY_SIZE];
    if (each_dns_name(certificate, is_name, (void *)(uintptr_t)node, &liked))
        return liked;
    return tls_peer_identity(certificate, TLS_IDENTITY_CN, name, sizeof name) == STATUS_OK &&
           strcmp(name, node) == 0;
}

static bool add_name(void *context, const ASN1_STRING *name)
{
    char *to = context;
    size_t used = strlen(to);
    snprintf(to + used, TLS_NODE_NAMES_SIZE - used, "%sDNS:%.*s", used > 0 ? ", " : "",
        ASN1_STRING_length(name), (const char *)ASN1_STRING_get0_data(name));
    return false;
}

const char *tls_peer_node_names(const X509 *certificate, char to[TLS_NODE_NAMES_SIZE])
{
    bool liked;
    char name[TLS_IDENTITY_SIZE];
    to[0] = '\0';
    if (each_dns_name(certificate, add_name, to, &liked))
        return to;
    if (tls_peer_identity(certificate, TLS_IDENTITY_CN, name, sizeof name) == STATUS_OK)
        snprintf(to, TLS_NODE_NAMES_SIZE, "CN %.150s", name);
    else
        snprintf(to, TLS_NODE_NAMES_SIZE, "no node");
    return to;
}
