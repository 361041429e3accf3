/*
 * Certificates, contexts and an in-process TLS client for the unit tests. Each test program includes it once;
 * what a program does not use stays unused.
 */
#ifndef TESTS_UNIT_TLS_FIXTURE_H
#define TESTS_UNIT_TLS_FIXTURE_H

#include "shared/tls_context.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define FIXTURE __attribute__((unused)) static

struct fixture_identity {
    EVP_PKEY *key;
    X509 *certificate;
};

struct fixture_wish {
    const char *cn;
    const struct fixture_identity *issuer; /* NULL: self-signed */
    bool ca;
    bool rsa;
    long from_days, until_days; /* from now; 0 and 0: yesterday to in ten years */
    const char *eku;            /* "serverAuth"; NULL: none */
};

/* One key, there from the beginning of time; for all contexts of the test. */
FIXTURE struct tls_tickets *fixture_tickets(void)
{
    static struct tls_tickets *tickets;
    static const uint8_t key[TLS_TICKET_KEY_SIZE] = "sixteen bytes ..hmac key of 32 bytes.";
    if (tickets == NULL) {
        assert_int_equal(tls_tickets_new(7200, &tickets), STATUS_OK);
        tls_tickets_add(tickets, key, 0);
    }
    return tickets;
}

FIXTURE void fixture_extension(X509 *certificate, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

FIXTURE struct fixture_identity fixture_issue(struct fixture_wish wish)
{
    static long serial = 1;
    struct fixture_identity made;
    made.key = wish.rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    made.certificate = X509_new();
    assert_non_null(made.key);
    assert_non_null(made.certificate);
    X509 *certificate = made.certificate;
    const struct fixture_identity *issuer = wish.issuer ? wish.issuer : &made;
    bool dated = wish.from_days != 0 || wish.until_days != 0;
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    X509_time_adj_ex(X509_getm_notBefore(certificate), dated ? (int)wish.from_days : -1, 0, NULL);
    X509_time_adj_ex(X509_getm_notAfter(certificate), dated ? (int)wish.until_days : 3650, 0, NULL);
    X509_set_pubkey(certificate, made.key);
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_NID(
        subject, NID_commonName, MBSTRING_UTF8, (const unsigned char *)wish.cn, -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(issuer->certificate));
    fixture_extension(certificate, NID_basic_constraints, wish.ca ? "critical,CA:TRUE" : "CA:FALSE");
    if (wish.eku)
        fixture_extension(certificate, NID_ext_key_usage, wish.eku);
    assert_true(X509_sign(certificate, issuer->key, EVP_sha256()) > 0);
    return made;
}

FIXTURE void fixture_done(struct fixture_identity *identity)
{
    EVP_PKEY_free(identity->key);
    X509_free(identity->certificate);
}

/* PEM of up to three certificates, one after the other; free() the data. */
FIXTURE struct bytes fixture_pem(const X509 *first, const X509 *second, const X509 *third)
{
    const X509 *const all[] = {first, second, third};
    BIO *text = BIO_new(BIO_s_mem());
    for (size_t i = 0; i < 3; i++)
        if (all[i])
            assert_int_equal(PEM_write_bio_X509(text, all[i]), 1);
    char *data;
    size_t size = (size_t)BIO_get_mem_data(text, &data);
    uint8_t *copy = malloc(size + 1);
    memcpy(copy, data, size);
    BIO_free(text);
    return bytes_of(copy, size);
}

FIXTURE struct bytes fixture_key_der(EVP_PKEY *key)
{
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
    unsigned char *der = NULL;
    int size = i2d_PKCS8_PRIV_KEY_INFO(info, &der);
    assert_true(size > 0);
    PKCS8_PRIV_KEY_INFO_free(info);
    return bytes_of(der, (size_t)size); /* OPENSSL_free is free here */
}

/* A context for the identity with these settings (key and chain are filled in). */
FIXTURE SSL_CTX *fixture_context(const struct fixture_identity *identity, struct tls_settings settings)
{
    char error[TLS_ERROR_SIZE] = "";
    SSL_CTX *context = NULL;
    struct bytes key = fixture_key_der(identity->key);
    struct bytes chain = fixture_pem(identity->certificate, NULL, NULL);
    settings.key = key;
    settings.chain = chain;
    if (!settings.listener)
        settings.listener = "ssl:test";
    if (settings.versions == 0)
        settings.versions = TLS_VERSION_1_2 | TLS_VERSION_1_3;
    if (settings.depth == 0)
        settings.depth = 1;
    if (tls_context_new(&settings, &context, error) != STATUS_OK)
        fail_msg("%s", error);
    free((void *)(uintptr_t)key.data);
    free((void *)(uintptr_t)chain.data);
    return context;
}

FIXTURE SSL_CTX *fixture_client_context(int version, const struct fixture_identity *identity)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    assert_non_null(context);
    if (version != 0) {
        SSL_CTX_set_min_proto_version(context, version);
        SSL_CTX_set_max_proto_version(context, version);
    }
    if (identity) {
        assert_int_equal(SSL_CTX_use_certificate(context, identity->certificate), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(context, identity->key), 1);
    }
    return context;
}

/* A connected, non-blocking TCP pair over loopback: [0] server side, [1] client side. */
FIXTURE void fixture_tcp_pair(int pair[2])
{
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    assert_int_equal(bind(listening, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listening, 1), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &size), 0);
    pair[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(pair[1], (struct sockaddr *)&address, size), 0);
    pair[0] = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(pair[0] >= 0);
    fcntl(pair[1], F_SETFL, O_NONBLOCK);
    close(listening);
}

#endif
