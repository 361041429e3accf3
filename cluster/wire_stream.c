/*
 * TLS over memory BIOs, and messages with a length in front on top of it. Whatever comes from the other side
 * is hostile until the handshake is over, and damaged at worst afterwards: TLS finds every hole.
 */
#include "cluster/wire_stream.h"

#include "shared/tls_context.h"
#include "shared/tls_peer.h"
#include "shared/tls_pem.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define HEAD_SIZE 4 /* u24 size of the body, u8 type */

struct wire_stream {
    SSL *ssl; /* owned; NULL: not encrypted */
    BIO *in;  /* of ssl, or owned if there is none */
    BIO *out;
    uint8_t *buffer; /* owned; decrypted, not yet consumed */
    size_t from, to; /* of buffer */
    bool ready;
    uint32_t put, taken; /* messages, not encrypted: there holes are found by counting */
};

#define BUFFER_SIZE (HEAD_SIZE + WIRE_BODY_MAX + 16384)

/* In the clear each message has its number behind the head, so that a hole breaks the stream as with TLS. */
static size_t head_size(const struct wire_stream *stream)
{
    return stream->ssl != NULL ? HEAD_SIZE : HEAD_SIZE + 4;
}

static enum status invalid(char *text, const char *what)
{
    char reason[160] = "";
    unsigned long code = ERR_get_error();
    if (code != 0)
        ERR_error_string_n(code, reason, sizeof reason);
    ERR_clear_error();
    snprintf(text, WIRE_TEXT_SIZE, "%s%s%s", what, code != 0 ? ": " : "", reason);
    return STATUS_INVALID;
}

static enum status use_own(SSL_CTX *context, struct bytes key_der, struct bytes chain_pem, char *text)
{
    const unsigned char *der = key_der.data;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &der, (long)key_der.size);
    STACK_OF(X509) *chain = NULL;
    enum status status = STATUS_OK;
    if (key == NULL || tls_pem_certificates(chain_pem, &chain, text) != STATUS_OK ||
        sk_X509_num(chain) == 0) {
        status = invalid(text, "the link's key or certificate cannot be read");
    } else {
        X509 *leaf = sk_X509_shift(chain);
        if (SSL_CTX_use_certificate(context, leaf) != 1 || SSL_CTX_use_PrivateKey(context, key) != 1 ||
            (sk_X509_num(chain) > 0 && SSL_CTX_set1_chain(context, chain) != 1))
            status = invalid(text, "OpenSSL refuses the link's certificate");
        X509_free(leaf);
    }
    EVP_PKEY_free(key);
    sk_X509_pop_free(chain, X509_free);
    return status;
}

static enum status use_authorities(SSL_CTX *context, struct bytes pem, char *text)
{
    STACK_OF(X509) *certificates = NULL;
    if (tls_pem_certificates(pem, &certificates, text) != STATUS_OK)
        return STATUS_INVALID;
    enum status status = STATUS_OK;
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    for (int i = 0; i < sk_X509_num(certificates) && status == STATUS_OK; i++) {
        if (X509_STORE_add_cert(store, sk_X509_value(certificates, i)) != 1)
            status = invalid(text, "OpenSSL refuses a CA of the cluster");
    }
    sk_X509_pop_free(certificates, X509_free);
    return status;
}

enum status wire_context_new(
    struct bytes key, struct bytes chain, struct bytes authorities, SSL_CTX **ret_context, char *text)
{
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1) {
        SSL_CTX_free(context);
        return invalid(text, "OpenSSL cannot make a context for TLS 1.3");
    }
    enum status status = use_own(context, key, chain, text);
    if (status == STATUS_OK)
        status = use_authorities(context, authorities, text);
    if (status != STATUS_OK) {
        SSL_CTX_free(context);
        return status;
    }
    /* A node is server to one and client to the next: its certificate need not say which (purpose any). */
    SSL_CTX_set_purpose(context, X509_PURPOSE_ANY);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(
        context, 0); /* every session is a full handshake: nothing outlives a certificate */
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    *ret_context = context;
    return STATUS_OK;
}

static BIO *memory(void)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio != NULL)
        BIO_set_mem_eof_return(bio, -1); /* empty is «later», not the end */
    return bio;
}

enum status wire_stream_new(SSL_CTX *context, bool client, struct wire_stream **ret_stream)
{
    struct wire_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return STATUS_NO_MEMORY;
    stream->in = memory();
    stream->out = memory();
    stream->ready = context == NULL;
    if (context != NULL)
        stream->ssl = SSL_new(context);
    if (stream->in == NULL || stream->out == NULL || (context != NULL && stream->ssl == NULL)) {
        BIO_free(stream->in);
        BIO_free(stream->out);
        SSL_free(stream->ssl);
        free(stream);
        return STATUS_NO_MEMORY;
    }
    if (context != NULL) {
        SSL_set_bio(stream->ssl, stream->in, stream->out);
        if (client)
            SSL_set_connect_state(stream->ssl);
        else
            SSL_set_accept_state(stream->ssl);
    }
    *ret_stream = stream;
    return STATUS_OK;
}

void wire_stream_free(struct wire_stream **stream)
{
    struct wire_stream *it = *stream;
    *stream = NULL;
    if (it == NULL)
        return;
    if (it->ssl != NULL) {
        SSL_free(it->ssl);
    } else {
        BIO_free(it->in);
        BIO_free(it->out);
    }
    free(it->buffer);
    free(it);
}

/* What OpenSSL has to say, in words that tell whose fault it is. */
static enum status failed(struct wire_stream *stream, char *text)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    long verdict = SSL_get_verify_result(stream->ssl);
    bool foreign = verdict == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
                   verdict == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN ||
                   verdict == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT;
    if (foreign)
        snprintf(text, WIRE_TEXT_SIZE, "its certificate is refused: no CA of this cluster signed it (%s)",
            X509_verify_cert_error_string(verdict));
    else if (verdict != X509_V_OK)
        snprintf(
            text, WIRE_TEXT_SIZE, "its certificate is refused: %s", X509_verify_cert_error_string(verdict));
    else if (code != 0 && ERR_GET_REASON(code) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        snprintf(text, WIRE_TEXT_SIZE, "it shows no certificate");
    else if (reason != NULL && strstr(reason, "alert") != NULL)
        snprintf(text, WIRE_TEXT_SIZE, "it refuses our certificate or us: %s", reason);
    else
        snprintf(text, WIRE_TEXT_SIZE, "TLS: %s", reason != NULL ? reason : "the stream is damaged");
    ERR_clear_error();
    return STATUS_REFUSED;
}

static enum status go_on(struct wire_stream *stream, char *text)
{
    if (stream->ready)
        return STATUS_OK;
    ERR_clear_error();
    int result = SSL_do_handshake(stream->ssl);
    if (result == 1) {
        stream->ready = true;
        return STATUS_OK;
    }
    return SSL_get_error(stream->ssl, result) == SSL_ERROR_WANT_READ ? STATUS_OK : failed(stream, text);
}

enum status wire_stream_start(struct wire_stream *stream, char *text)
{
    return go_on(stream, text);
}

enum status wire_stream_input(struct wire_stream *stream, struct bytes bytes, char *text)
{
    if (bytes.size > 0 && BIO_write(stream->in, bytes.data, (int)bytes.size) != (int)bytes.size) {
        snprintf(text, WIRE_TEXT_SIZE, "out of memory");
        return STATUS_REFUSED;
    }
    return go_on(stream, text);
}

bool wire_stream_ready(const struct wire_stream *stream)
{
    return stream->ready;
}

bool wire_stream_is(const struct wire_stream *stream, const char *node, char *names)
{
    if (stream->ssl == NULL)
        return true;
    const X509 *certificate = SSL_get0_peer_certificate(stream->ssl);
    if (certificate == NULL) {
        snprintf(names, TLS_NODE_NAMES_SIZE, "nobody");
        return false;
    }
    tls_peer_node_names(certificate, names);
    return tls_peer_is_node(certificate, node);
}

int64_t wire_stream_peer_expires_s(const struct wire_stream *stream)
{
    struct tm parts;
    const X509 *certificate = stream->ssl != NULL ? SSL_get0_peer_certificate(stream->ssl) : NULL;
    if (certificate == NULL || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &parts) != 1)
        return 0;
    return (int64_t)timegm(&parts);
}

/* More decrypted bytes. STATUS_NOT_FOUND: there are none. */
static enum status fill(struct wire_stream *stream, char *text)
{
    if (stream->buffer == NULL)
        stream->buffer = malloc(BUFFER_SIZE);
    if (stream->buffer == NULL)
        return STATUS_NOT_FOUND;
    if (stream->from > 0) {
        memmove(stream->buffer, stream->buffer + stream->from, stream->to - stream->from);
        stream->to -= stream->from;
        stream->from = 0;
    }
    ERR_clear_error();
    int room = (int)(BUFFER_SIZE - stream->to);
    int got = stream->ssl != NULL ? SSL_read(stream->ssl, stream->buffer + stream->to, room)
                                  : BIO_read(stream->in, stream->buffer + stream->to, room);
    if (got > 0) {
        stream->to += (size_t)got;
        return STATUS_OK;
    }
    if (stream->ssl == NULL)
        return STATUS_NOT_FOUND;
    int error = SSL_get_error(stream->ssl, got);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return STATUS_NOT_FOUND;
    if (error == SSL_ERROR_ZERO_RETURN) {
        snprintf(text, WIRE_TEXT_SIZE, "it has ended the session");
        return STATUS_REFUSED;
    }
    return failed(stream, text);
}

enum status wire_stream_next(
    struct wire_stream *stream, uint8_t *ret_type, struct bytes *ret_body, char *text)
{
    size_t head = head_size(stream);
    for (;;) {
        size_t have = stream->to - stream->from;
        const uint8_t *at = have > 0 ? stream->buffer + stream->from : NULL;
        uint32_t word = have >= head ? get_u32_le(at) : 0;
        size_t size = word & 0xffffff;
        bool hole = have >= head && stream->ssl == NULL && get_u32_le(at + HEAD_SIZE) != stream->taken;
        if (size > WIRE_BODY_MAX || hole) {
            snprintf(text, WIRE_TEXT_SIZE, "it sends what is no message of the cluster bus");
            return STATUS_REFUSED;
        }
        if (have >= head && have - head >= size) {
            *ret_type = (uint8_t)(word >> 24);
            *ret_body = bytes_of(at + head, size);
            stream->from += head + size;
            stream->taken++;
            return STATUS_OK;
        }
        enum status status = fill(stream, text);
        if (status == STATUS_NOT_FOUND && stream->to == stream->from) {
            free(stream->buffer); /* a quiet session keeps none */
            stream->buffer = NULL;
            stream->from = stream->to = 0;
        }
        if (status != STATUS_OK)
            return status;
    }
}

static bool write_all(struct wire_stream *stream, struct bytes bytes)
{
    if (bytes.size == 0)
        return true;
    ERR_clear_error();
    int written = stream->ssl != NULL ? SSL_write(stream->ssl, bytes.data, (int)bytes.size)
                                      : BIO_write(stream->out, bytes.data, (int)bytes.size);
    return written == (int)bytes.size;
}

enum status wire_stream_put(struct wire_stream *stream, uint8_t type, struct bytes head, struct bytes tail)
{
    size_t before = head_size(stream);
    uint8_t start[HEAD_SIZE + 4 + 64];
    assert(head.size <= 64 && head.size + tail.size <= WIRE_BODY_MAX);
    put_u32_le(start, (uint32_t)(head.size + tail.size) | (uint32_t)type << 24);
    if (stream->ssl == NULL)
        put_u32_le(start + HEAD_SIZE, stream->put);
    stream->put++;
    if (head.size > 0)
        memcpy(start + before, head.data, head.size);
    bool written = write_all(stream, bytes_of(start, before + head.size)) && write_all(stream, tail);
    return written ? STATUS_OK : STATUS_SYSTEM;
}

struct bytes wire_stream_output(struct wire_stream *stream)
{
    char *data = NULL;
    long size = BIO_get_mem_data(stream->out, &data);
    return size > 0 ? bytes_of(data, (size_t)size) : BYTES_NONE;
}

void wire_stream_sent(struct wire_stream *stream)
{
    (void)BIO_reset(stream->out);
}
