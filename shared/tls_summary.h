/*
 * What an operator wants to know of a certificate, as text: whose it is, for which names, by whom, until
 * when. Any process; pure.
 */
#ifndef SHARED_TLS_SUMMARY_H
#define SHARED_TLS_SUMMARY_H

#include <openssl/x509.h>
#include <stdint.h>

struct tls_summary {
    char subject[256]; /* RFC 2253; longer ones are cut, as all here */
    char issuer[256];
    char names[512];         /* of subjectAltName: "DNS:localhost, IP Address:127.0.0.1"; "" without */
    char key[48];            /* "EC prime256v1", "RSA 2048" */
    char serial[48];         /* hexadecimal */
    char fingerprint[72];    /* SHA-256, hexadecimal */
    int64_t from_s, until_s; /* seconds since 1970 */
    int64_t chain_until_s;   /* the earliest end of the whole chain */
};

/* Of the first certificate of a chain that is not empty. */
void tls_summary_of_chain(const STACK_OF(X509) * chain, struct tls_summary *ret_summary);

/* Seconds since 1970; `if_unreadable` if it is no date. */
int64_t tls_time_seconds(const ASN1_TIME *time, int64_t if_unreadable);

/* "2026-11-24T15:00:00Z" */
#define TLS_DATE_TEXT_SIZE 32
const char *tls_date_text(int64_t time_s, char to[TLS_DATE_TEXT_SIZE]);

#endif
