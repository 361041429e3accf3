/* Reads PEM text with OpenSSL's reader and turns what it says into plain words. Any process; pure. */
#include "shared/tls_pem.h"

#include "shared/tls_context.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>

void tls_pem_add_reason(char *error)
{
    unsigned long code = ERR_peek_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    size_t length = strlen(error);
    if (reason)
        snprintf(error + length, TLS_ERROR_SIZE - length, ": %s", reason);
    ERR_clear_error();
}

/* The reader's end: at the end of the text it says «no start line», anything else is damage. */
static enum status end_of_text(int count, char *error)
{
    unsigned long code = ERR_peek_last_error();
    if (ERR_GET_LIB(code) != ERR_LIB_PEM || ERR_GET_REASON(code) != PEM_R_NO_START_LINE) {
        snprintf(error, TLS_ERROR_SIZE, "certificate %d in it is damaged", count + 1);
        tls_pem_add_reason(error);
        return STATUS_INVALID;
    }
    ERR_clear_error();
    if (count > 0)
        return STATUS_OK;
    snprintf(error, TLS_ERROR_SIZE, "there is no certificate in it (PEM, \"-----BEGIN CERTIFICATE-----\")");
    return STATUS_INVALID;
}

enum status tls_pem_certificates(struct bytes pem, STACK_OF(X509) * *ret_certificates, char *error)
{
    if (pem.size == 0 || pem.size > INT32_MAX) {
        snprintf(error, TLS_ERROR_SIZE, pem.size == 0 ? "it is empty" : "it is too large");
        return STATUS_INVALID;
    }
    ERR_clear_error();
    BIO *text = BIO_new_mem_buf(pem.data, (int)pem.size);
    STACK_OF(X509) *certificates = sk_X509_new_null();
    X509 *certificate = NULL;
    while (text && certificates && (certificate = PEM_read_bio_X509(text, NULL, NULL, NULL)) &&
           sk_X509_push(certificates, certificate) > 0)
        certificate = NULL;
    X509_free(certificate); /* one that could not be pushed */
    enum status status = end_of_text(sk_X509_num(certificates), error);
    BIO_free(text);
    if (status == STATUS_OK)
        *ret_certificates = certificates;
    else
        sk_X509_pop_free(certificates, X509_free);
    return status;
}
