/*
 * The TLS connection: drives one SSL over the worker's shared buffers (transport_bio.h). Workers.
 * Hazard: whatever is still in the scratch when a call returns would be read by another connection. So each
 * call runs between transport_bio_begin() and _end(), a read goes on until OpenSSL has taken every received
 * byte, and writes are sent or kept before the call returns.
 */
#include "shared/transport_tls.h"

#include "shared/transport_bio.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <sys/socket.h>

enum tls_state {
    STATE_FIRST_BYTES, /* from init until it is clear that the client speaks TLS */
    STATE_HANDSHAKE,   /* until the handshake is done */
    STATE_OPEN,        /* until the peer's close_notify or end of stream, an error, or our goodbye */
    STATE_ENDED,       /* the peer has ended its side; we may still write */
    STATE_BROKEN,      /* failed, `cause` says how: nothing but the leftovers goes out any more */
    STATE_GOODBYE,     /* our close_notify is written */
};

/* The record that may be half in OpenSSL already: its plaintext comes out beside that of the bytes received.
 */
#define READ_MARGIN (TRANSPORT_RECORD_SIZE + TRANSPORT_RECORD_OVERHEAD)
_Static_assert(TRANSPORT_READ_BEST >= TRANSPORT_IN_SIZE + READ_MARGIN, "a full recv fits");
/* One recv() of a handshake: what came with its end must fit the first read. */
#define HANDSHAKE_IN_LIMIT ((size_t)16384)
_Static_assert(TRANSPORT_READ_MIN > HANDSHAKE_IN_LIMIT + READ_MARGIN, "what a handshake leaves fits");
_Static_assert(sizeof(struct transport) <= 56, "embedded in every connection");

static enum status break_off(struct transport *transport, enum status status)
{
    transport->state = STATE_BROKEN;
    transport->cause = (uint8_t)transport->scratch->failure.cause;
    return status;
}

/* Ends with the status of a failed send or allocation. */
static enum status break_off_system(struct transport *transport, enum status status)
{
    struct tls_failure *failure = &transport->scratch->failure;
    if (status == STATUS_SYSTEM)
        tls_failure_set(failure, TLS_FAILURE_SYSTEM, "%s", strerror(transport->error));
    else if (status == STATUS_LIMIT)
        tls_failure_set(failure, TLS_FAILURE_PROTOCOL, "the client takes no answers");
    else
        tls_failure_set(failure, TLS_FAILURE_SYSTEM, "%s", status_text(status));
    return break_off(transport, status == STATUS_LIMIT ? STATUS_PROTOCOL : STATUS_SYSTEM);
}

/* After OpenSSL has failed for good: why, and what that is to the caller. */
static enum status break_off_ssl(struct transport *transport)
{
    struct transport_scratch *scratch = transport->scratch;
    tls_failure_from_ssl(&scratch->failure, transport->ssl, scratch->in_error);
    transport->error = 0;
    switch (scratch->failure.cause) {
    case TLS_FAILURE_CLIENT_GONE:
        return break_off(transport, STATUS_CLOSED);
    case TLS_FAILURE_SYSTEM:
        transport->error = (uint16_t)scratch->in_error;
        return break_off(transport, STATUS_SYSTEM);
    default:
        return break_off(transport, STATUS_PROTOCOL);
    }
}

/* Sends what the call has written and lets go of the scratch; `status` unless that fails. */
static enum status finish(struct transport *transport, enum status status)
{
    struct transport_scratch *scratch = transport->scratch;
    enum status sent = transport_bio_send(scratch);
    enum status kept = transport_bio_end(scratch);
    if (sent == STATUS_OK || sent == STATUS_AGAIN)
        sent = kept;
    if (sent == STATUS_OK || transport->state == STATE_BROKEN)
        return status;
    return break_off_system(transport, sent);
}

/* Step 1: is it TLS at all? STATUS_OK: yes, go on. The bytes stay in the scratch for OpenSSL. */
static enum status look_at_first_bytes(struct transport *transport)
{
    struct transport_scratch *scratch = transport->scratch;
    if (!transport_bio_receive(scratch) || scratch->in_error != 0)
        return scratch->in_ended || scratch->in_error != 0 ? break_off_ssl(transport) : STATUS_AGAIN;
    struct bytes first = bytes_of(scratch->in, scratch->in_size);
    enum tls_failure_cause cause = tls_failure_first_bytes(first);
    if (cause == TLS_FAILURE_NONE) {
        transport->state = STATE_HANDSHAKE;
        return STATUS_OK;
    }
    if (first.size < TLS_FIRST_BYTES && !scratch->in_ended)
        return STATUS_AGAIN;
    scratch->in_start = scratch->in_size;
    tls_failure_set(&scratch->failure, cause, "%s", "");
    return break_off(transport, STATUS_PROTOCOL);
}

/* Step 2: OpenSSL's turn, until it wants what is not there. */
static enum status shake_hands(struct transport *transport)
{
    struct transport_scratch *scratch = transport->scratch;
    ERR_clear_error();
    for (;;) {
        int result = SSL_do_handshake(transport->ssl);
        if (result == 1) {
            transport->state = STATE_OPEN;
            return STATUS_OK;
        }
        switch (SSL_get_error(transport->ssl, result)) {
        case SSL_ERROR_WANT_READ:
            return STATUS_AGAIN;
        case SSL_ERROR_WANT_WRITE: { /* a flight larger than the scratch */
            enum status status = transport_bio_send(scratch);
            if (status == STATUS_OK || status == STATUS_AGAIN)
                continue;
            return break_off_system(transport, status);
        }
        default:
            scratch->in_start = scratch->in_size;
            return break_off_ssl(transport);
        }
    }
}

static enum status tls_handshake(struct transport *transport, struct tls_failure *ret_failure)
{
    assert(transport->state <= STATE_HANDSHAKE);
    /* Read on even if the kernel took no more: a caller that waits for readability would spin otherwise. */
    enum status status = transport_bio_send_kept(transport);
    transport_bio_begin(transport, HANDSHAKE_IN_LIMIT);
    if (status != STATUS_OK && status != STATUS_AGAIN)
        status = break_off_system(transport, status);
    else
        status = STATUS_OK;
    if (status == STATUS_OK && transport->state == STATE_FIRST_BYTES)
        status = look_at_first_bytes(transport);
    if (status == STATUS_OK)
        status = shake_hands(transport);
    status = finish(transport, status);
    if (status != STATUS_OK && status != STATUS_AGAIN)
        *ret_failure = transport->scratch->failure;
    return status;
}

/* Decrypts all that there is. STATUS_OK: wants more; otherwise how the stream ended. */
static enum status decrypt(struct transport *transport, uint8_t *to, size_t size, size_t *ret_size)
{
    size_t got = 0;
    ERR_clear_error();
    for (;;) {
        assert(got < size);
        size_t part = size - got < INT32_MAX ? size - got : INT32_MAX;
        int result = SSL_read(transport->ssl, to + got, (int)part);
        if (result > 0) {
            got += (size_t)result;
            *ret_size = got;
            continue;
        }
        switch (SSL_get_error(transport->ssl, result)) {
        case SSL_ERROR_WANT_READ:
            return STATUS_OK;
        case SSL_ERROR_WANT_WRITE: { /* answers to key updates fill the scratch */
            enum status status = transport_bio_send(transport->scratch);
            if (status == STATUS_OK || status == STATUS_AGAIN)
                continue;
            return break_off_system(transport, status);
        }
        case SSL_ERROR_ZERO_RETURN:
            transport->state = STATE_ENDED;
            return STATUS_CLOSED;
        default:
            return break_off_ssl(transport);
        }
    }
}

/* The answer of a read when the stream had ended before. */
static enum status read_after_end(const struct transport *transport)
{
    if (transport->state != STATE_BROKEN || transport->cause == TLS_FAILURE_CLIENT_GONE)
        return STATUS_CLOSED;
    tls_failure_set(&transport->scratch->failure, (enum tls_failure_cause)transport->cause, "%s", "");
    return transport->cause == TLS_FAILURE_SYSTEM ? STATUS_SYSTEM : STATUS_PROTOCOL;
}

static enum status tls_read(struct transport *transport, uint8_t *to, size_t size, size_t *ret_size)
{
    assert(transport->state >= STATE_OPEN);
    if (transport->state != STATE_OPEN)
        return read_after_end(transport);
    struct transport_scratch *scratch = transport->scratch;
    size_t got = 0;
    transport_bio_begin(transport, size - READ_MARGIN);
    enum status ended = decrypt(transport, to, size, &got);
    scratch->in_start = scratch->in_size;
    ended = finish(transport, ended);
    if (got == 0)
        return ended == STATUS_OK ? STATUS_AGAIN : ended;
    /* The bytes first. The socket stays readable, so that the caller comes back for the end of the stream. */
    if (ended != STATUS_OK)
        shutdown(transport->fd, SHUT_RD);
    *ret_size = got;
    return STATUS_OK;
}

/* Encrypts one piece, sending whenever the scratch is full. *taken counts on; STATUS_AGAIN: the kernel is
 * full. */
static enum status encrypt(struct transport *transport, const uint8_t *from, size_t size, size_t *taken)
{
    struct transport_scratch *scratch = transport->scratch;
    for (size_t done = 0; done < size;) {
        size_t part = size - done < TRANSPORT_RECORD_SIZE ? size - done : TRANSPORT_RECORD_SIZE;
        if (sizeof scratch->out - scratch->out_size < part + TRANSPORT_RECORD_OVERHEAD) {
            enum status status = transport_bio_send(scratch);
            if (status != STATUS_OK)
                return status == STATUS_AGAIN ? status : break_off_system(transport, status);
        }
        int result = SSL_write(transport->ssl, from + done, (int)part);
        if (result <= 0)
            return break_off_ssl(transport);
        done += (size_t)result;
        *taken += (size_t)result;
    }
    return STATUS_OK;
}

static enum status tls_writev(
    struct transport *transport, const struct iovec *pieces, int count, size_t *ret_taken)
{
    assert(transport->state >= STATE_OPEN);
    if (transport->state >= STATE_BROKEN)
        return transport->state == STATE_BROKEN ? read_after_end(transport) : STATUS_CLOSED;
    size_t taken = 0;
    enum status status = transport_bio_send_kept(transport);
    if (status == STATUS_AGAIN)
        goto full;
    if (status != STATUS_OK)
        return break_off_system(transport, status);
    transport_bio_begin(transport, 0);
    ERR_clear_error();
    for (int i = 0; i < count && status == STATUS_OK; i++)
        status = encrypt(transport, pieces[i].iov_base, pieces[i].iov_len, &taken);
    status = finish(transport, status);
    if (status != STATUS_OK && status != STATUS_AGAIN)
        return status;
full:
    *ret_taken = taken;
    return STATUS_OK;
}

static enum status tls_flush(struct transport *transport)
{
    enum status status = transport_bio_send_kept(transport);
    return status == STATUS_OK || status == STATUS_AGAIN ? status : break_off_system(transport, status);
}

static enum status tls_say_goodbye(struct transport *transport)
{
    if (transport->state == STATE_OPEN || transport->state == STATE_ENDED) {
        transport_bio_begin(transport, 0);
        ERR_clear_error();
        if (SSL_shutdown(transport->ssl) < 0)
            ERR_clear_error();
        transport->state = STATE_GOODBYE;
        enum status status = finish(transport, STATUS_OK);
        if (status != STATUS_OK)
            return status;
    }
    return tls_flush(transport);
}

static void tls_failure(const struct transport *transport, struct tls_failure *ret_failure)
{
    if (transport->error != 0)
        transport_socket_failure(transport, ret_failure);
    else
        *ret_failure = transport->scratch->failure;
}

static const struct transport_ops tls_ops = {
    .handshake = tls_handshake,
    .read = tls_read,
    .writev = tls_writev,
    .flush = tls_flush,
    .say_goodbye = tls_say_goodbye,
    .failure = tls_failure,
};

enum status transport_init_tls(
    struct transport *transport, int fd, SSL_CTX *context, struct transport_scratch *scratch)
{
    SSL *ssl = SSL_new(context);
    if (!ssl) {
        ERR_clear_error();
        return STATUS_NO_MEMORY;
    }
    BIO_up_ref(scratch->bio);
    BIO_up_ref(scratch->bio);
    SSL_set0_rbio(ssl, scratch->bio);
    SSL_set0_wbio(ssl, scratch->bio);
    SSL_set_accept_state(ssl);
    SSL_set_read_ahead(ssl, 1);
    *transport = (struct transport){.ops = &tls_ops, .scratch = scratch, .ssl = ssl, .fd = fd};
    return STATUS_OK;
}

void transport_tls_done(struct transport *transport)
{
    SSL_free(transport->ssl);
    free(transport->input);
    free(transport->output);
}

bool transport_resumed(const struct transport *transport)
{
    return transport->ssl && SSL_session_reused(transport->ssl);
}

X509 *transport_peer_certificate(const struct transport *transport)
{
    return transport->ssl ? SSL_get1_peer_certificate(transport->ssl) : NULL;
}

const char *transport_version(const struct transport *transport)
{
    return transport->ssl && transport->state >= STATE_OPEN ? SSL_get_version(transport->ssl) : "";
}

const char *transport_cipher(const struct transport *transport)
{
    const SSL_CIPHER *cipher = transport->ssl ? SSL_get_current_cipher(transport->ssl) : NULL;
    return cipher ? SSL_CIPHER_get_name(cipher) : "";
}

/* TLS 1.2 would take the master secret, which transport_settle() has thrown away by then. */
bool transport_binding(const struct transport *transport, uint8_t to[TRANSPORT_BINDING_SIZE])
{
    static const char label[] = "EXPORTER-Channel-Binding";
    SSL *ssl = transport->ssl;
    if (ssl == NULL || transport->state < STATE_OPEN || SSL_version(ssl) != TLS1_3_VERSION)
        return false;
    bool done = SSL_export_keying_material(
                    ssl, to, TRANSPORT_BINDING_SIZE, label, sizeof label - 1, (const uint8_t *)"", 0, 1) == 1;
    ERR_clear_error();
    return done;
}
