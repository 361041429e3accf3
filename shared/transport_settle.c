/*
 * Makes an established TLS connection small: its session (master secret, ticket, the client's certificate and
 * chain: 1 to 6 KB) gives way to an empty one that all connections of the worker share. Workers.
 *
 * OpenSSL has no call for that. SSL_set_session() does it, provided that the connection's context has the
 * method of the negotiated version: else it would start the connection anew. Hence a bare context per
 * version, made of the method that the first connection of that version shows. The session must not be NULL:
 * OpenSSL's record layer takes that for «no MAC yet» with CBC suites. What it reads from a session later is
 * the negotiated fragment length alone; connections that have one keep theirs. The verified chain hangs on
 * the connection as well: its stack stays, emptied.
 */
#include "shared/transport_bio.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

static bool make_settled(struct transport_settled *settled, const SSL_METHOD *method, int version)
{
    settled->context = SSL_CTX_new(method);
    settled->session = SSL_SESSION_new();
    if (!settled->context || !settled->session ||
        SSL_SESSION_set_protocol_version(settled->session, version) != 1) {
        SSL_CTX_free(settled->context);
        SSL_SESSION_free(settled->session);
        settled->context = NULL;
        settled->session = NULL;
        ERR_clear_error();
        return false;
    }
    settled->method = method;
    return true;
}

static const struct transport_settled *settled_for(struct transport_scratch *scratch, const SSL *ssl)
{
    const SSL_METHOD *method = SSL_get_ssl_method(ssl);
    for (size_t i = 0; i < sizeof scratch->settled / sizeof *scratch->settled; i++) {
        struct transport_settled *settled = &scratch->settled[i];
        if (settled->method == method)
            return settled;
        if (!settled->method)
            return make_settled(settled, method, SSL_version(ssl)) ? settled : NULL;
    }
    return NULL;
}

static void empty_verified_chain(const SSL *ssl)
{
    STACK_OF(X509) *chain = SSL_get0_verified_chain(ssl);
    for (X509 *certificate; chain && (certificate = sk_X509_pop(chain));)
        X509_free(certificate);
}

void transport_settle(struct transport *transport)
{
    SSL *ssl = transport->ssl;
    if (!ssl || !SSL_is_init_finished(ssl))
        return;
    const SSL_SESSION *session = SSL_get_session(ssl);
    if (!session || SSL_SESSION_get_max_fragment_length(session) != TLSEXT_max_fragment_length_DISABLED)
        return;
    const struct transport_settled *settled = settled_for(transport->scratch, ssl);
    if (settled && SSL_set_SSL_CTX(ssl, settled->context) == settled->context &&
        SSL_get_ssl_method(ssl) == settled->method && SSL_set_session(ssl, settled->session) == 1)
        empty_verified_chain(ssl);
    ERR_clear_error();
}

void transport_settle_done(struct transport_scratch *scratch)
{
    for (size_t i = 0; i < sizeof scratch->settled / sizeof *scratch->settled; i++) {
        SSL_SESSION_free(scratch->settled[i].session);
        SSL_CTX_free(scratch->settled[i].context);
    }
}
