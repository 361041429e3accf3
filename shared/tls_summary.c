/* Puts a certificate into words with OpenSSL's own printers. Any process; pure. */
#include "shared/tls_summary.h"

#include "shared/tls_peer.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NAME_FLAGS (XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB)

/* What a printer wrote, in one line, cut to `size`. */
static void take_text(BIO *text, char *to, size_t size)
{
    const char *data = NULL;
    long length = text != NULL ? BIO_get_mem_data(text, &data) : 0;
    size_t take = length <= 0 ? 0 : (size_t)length < size ? (size_t)length : size - 1;
    if (take > 0)
        memcpy(to, data, take);
    to[take] = '\0';
    for (char *at = to; *at != '\0'; at++)
        if (*at == '\n')
            *at = ' ';
    BIO_free(text);
    ERR_clear_error();
}

static void name_text(const X509_NAME *name, char *to, size_t size)
{
    BIO *text = BIO_new(BIO_s_mem());
    if (text != NULL)
        X509_NAME_print_ex(text, name, 0, NAME_FLAGS);
    take_text(text, to, size);
}

static void alternative_names(const X509 *certificate, char *to, size_t size)
{
    to[0] = '\0';
    int at = X509_get_ext_by_NID(certificate, NID_subject_alt_name, -1);
    if (at < 0)
        return;
    BIO *text = BIO_new(BIO_s_mem());
    if (text != NULL)
        X509V3_EXT_print(text, X509_get_ext(certificate, at), 0, 0);
    take_text(text, to, size);
}

static void key_text(const X509 *certificate, char *to, size_t size)
{
    EVP_PKEY *key = X509_get0_pubkey(certificate);
    char group[32] = "";
    size_t length = 0;
    const char *type = key != NULL ? EVP_PKEY_get0_type_name(key) : NULL;
    if (key != NULL && EVP_PKEY_get_group_name(key, group, sizeof group, &length) == 1)
        snprintf(to, size, "%s %s", type, group);
    else
        snprintf(
            to, size, "%s %d", type != NULL ? type : "unknown", key != NULL ? EVP_PKEY_get_bits(key) : 0);
    ERR_clear_error();
}

static void serial_text(const X509 *certificate, char *to, size_t size)
{
    BIO *text = BIO_new(BIO_s_mem());
    if (text != NULL)
        i2a_ASN1_INTEGER(text, X509_get0_serialNumber(certificate));
    take_text(text, to, size);
}

int64_t tls_time_seconds(const ASN1_TIME *time, int64_t if_unreadable)
{
    struct tm parts;
    return ASN1_TIME_to_tm(time, &parts) == 1 ? (int64_t)timegm(&parts) : if_unreadable;
}

const char *tls_date_text(int64_t time_s, char to[TLS_DATE_TEXT_SIZE])
{
    time_t time = (time_t)time_s;
    struct tm parts;
    if (gmtime_r(&time, &parts) == NULL ||
        strftime(to, TLS_DATE_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        snprintf(to, TLS_DATE_TEXT_SIZE, "an unreadable date");
    return to;
}

void tls_summary_of_chain(const STACK_OF(X509) * chain, struct tls_summary *ret_summary)
{
    const X509 *certificate = sk_X509_value(chain, 0);
    struct tls_summary summary = {.chain_until_s = INT64_MAX};
    name_text(X509_get_subject_name(certificate), summary.subject, sizeof summary.subject);
    name_text(X509_get_issuer_name(certificate), summary.issuer, sizeof summary.issuer);
    alternative_names(certificate, summary.names, sizeof summary.names);
    key_text(certificate, summary.key, sizeof summary.key);
    serial_text(certificate, summary.serial, sizeof summary.serial);
    if (tls_peer_identity(certificate, TLS_IDENTITY_CRT, summary.fingerprint, sizeof summary.fingerprint) !=
        STATUS_OK)
        summary.fingerprint[0] = '\0';
    summary.from_s = tls_time_seconds(X509_get0_notBefore(certificate), 0);
    summary.until_s = tls_time_seconds(X509_get0_notAfter(certificate), 0);
    for (int i = 0; i < sk_X509_num(chain); i++) {
        int64_t until_s = tls_time_seconds(X509_get0_notAfter(sk_X509_value(chain, i)), 0);
        summary.chain_until_s = until_s < summary.chain_until_s ? until_s : summary.chain_until_s;
    }
    *ret_summary = summary;
}
