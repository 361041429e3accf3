/*
 * Builds a listener's SSL_CTX and proves it. Any process. The callbacks below run in the workers, inside
 * handshakes: they judge tickets, choose the application protocol and note why a certificate was refused.
 */
#include "shared/tls_context.h"

#include "shared/clock.h"
#include "shared/tls_failure.h"
#include "shared/tls_pem.h"
#include "shared/tls_summary.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Turns of an in-memory handshake before it counts as stuck. */
#define PROOF_TURNS 20

/* The span in which a whole client chain is valid, as it rides in a ticket (two times, seconds,
 * little-endian); the identities of the chain's certificates follow. */
#define SPAN_SIZE 16
#define CHAIN_MAX 100 /* the most that `depth` allows */
struct span {
    int64_t from_s, until_s;
};

static enum status invalid(char *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Writes the message with OpenSSL's reason, if there is one, behind it. */
static enum status invalid(char *error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, TLS_ERROR_SIZE, format, arguments);
    va_end(arguments);
    tls_pem_add_reason(error);
    return STATUS_INVALID;
}

static enum status use_key_and_chain(SSL_CTX *context, const struct tls_settings *settings, char *error)
{
    const unsigned char *der = settings->key.data;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &der, (long)settings->key.size);
    STACK_OF(X509) *chain = NULL;
    enum status status = STATUS_INVALID;
    if (!key) {
        invalid(error, "the private key cannot be read");
        goto done;
    }
    status = tls_pem_certificates(settings->chain, &chain, error);
    if (status != STATUS_OK)
        goto done;
    X509 *leaf = sk_X509_shift(chain);
    if (SSL_CTX_use_certificate(context, leaf) != 1)
        status = invalid(error, "OpenSSL refuses the server certificate");
    else if (SSL_CTX_use_PrivateKey(context, key) != 1 || SSL_CTX_check_private_key(context) != 1)
        status = invalid(error, "the private key does not belong to the certificate");
    else if (sk_X509_num(chain) > 0 && SSL_CTX_set1_chain(context, chain) != 1)
        status = invalid(error, "OpenSSL refuses the certificate chain");
    X509_free(leaf);
done:
    EVP_PKEY_free(key);
    sk_X509_pop_free(chain, X509_free);
    return status;
}

static enum status use_versions_and_ciphers(
    SSL_CTX *context, const struct tls_settings *settings, char *error)
{
    int lowest = settings->versions & TLS_VERSION_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION;
    int highest = settings->versions & TLS_VERSION_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
    if ((settings->versions & (TLS_VERSION_1_2 | TLS_VERSION_1_3)) == 0 ||
        SSL_CTX_set_min_proto_version(context, lowest) != 1 ||
        SSL_CTX_set_max_proto_version(context, highest) != 1)
        return invalid(error, "no TLS version is enabled");
    if (settings->ciphers && SSL_CTX_set_cipher_list(context, settings->ciphers) != 1)
        return invalid(error, "OpenSSL knows none of the ciphers \"%s\"", settings->ciphers);
    if (settings->ciphersuites && SSL_CTX_set_ciphersuites(context, settings->ciphersuites) != 1)
        return invalid(error, "OpenSSL does not know the ciphersuites \"%s\"", settings->ciphersuites);
    return STATUS_OK;
}

/* What of a listener is revoked, as the context keeps it. */
struct revocation {
    struct tls_revoked *owner; /* shared */
    struct bytes table;        /* in its memory */
};

static void revocation_free(
    void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long number, void *unused)
{
    (void)parent;
    (void)data;
    (void)index;
    (void)number;
    (void)unused;
    struct revocation *revocation = pointer;
    if (revocation != NULL)
        tls_revoked_unref(&revocation->owner);
    free(revocation);
}

static int revocation_index(void)
{
    static int index = -1; /* one thread a process */
    if (index < 0)
        index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, revocation_free);
    return index;
}

static enum status use_revocation(SSL_CTX *context, const struct tls_settings *settings, char *error)
{
    if (settings->revoked == NULL)
        return STATUS_OK;
    struct bytes table = tls_revoked_table(settings->revoked, settings->listener);
    if (table.size == 0)
        return STATUS_OK;
    struct revocation *revocation = calloc(1, sizeof *revocation);
    if (revocation == NULL || SSL_CTX_set_ex_data(context, revocation_index(), revocation) != 1) {
        free(revocation);
        return invalid(error, "the revoked certificates cannot be set");
    }
    *revocation = (struct revocation){.owner = tls_revoked_ref(settings->revoked), .table = table};
    return STATUS_OK;
}

/* BYTES_NONE: nothing is. */
static struct bytes revoked_of(const SSL *ssl)
{
    const struct revocation *revocation = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), revocation_index());
    return revocation != NULL ? revocation->table : BYTES_NONE;
}

/* A certificate of a chain that is good otherwise; its issuer stands behind it. A trust anchor has none. */
static bool is_revoked(X509_STORE_CTX *verification)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(verification, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct bytes table = ssl != NULL ? revoked_of(ssl) : BYTES_NONE;
    const STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(verification);
    int depth = X509_STORE_CTX_get_error_depth(verification);
    uint8_t id[TLS_CERTIFICATE_ID_SIZE];
    if (table.size == 0 || depth + 1 >= sk_X509_num(chain))
        return false;
    return !tls_certificate_id(sk_X509_value(chain, depth), sk_X509_value(chain, depth + 1), id) ||
           tls_revoked_has(table, id);
}

/* Notes whose certificate it was; the verdict stays OpenSSL's, but for revoked ones. */
static int on_verified(int good, X509_STORE_CTX *verification)
{
    const X509 *certificate = X509_STORE_CTX_get_current_cert(verification);
    if (good && certificate && is_revoked(verification)) {
        X509_STORE_CTX_set_error(verification, X509_V_ERR_CERT_REVOKED);
        good = 0;
    }
    if (good || !certificate)
        return good;
    char subject[120] = "";
    X509_NAME_oneline(X509_get_subject_name(certificate), subject, sizeof subject);
    tls_failure_note("certificate %s at depth %d", subject, X509_STORE_CTX_get_error_depth(verification));
    return good;
}

/* Trust, and the list of names that the client is told to choose its certificate by. */
static enum status use_authorities(SSL_CTX *context, struct bytes authorities, char *error)
{
    STACK_OF(X509) *certificates = NULL;
    enum status status = tls_pem_certificates(authorities, &certificates, error);
    if (status != STATUS_OK)
        return status;
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    for (int i = 0; i < sk_X509_num(certificates) && status == STATUS_OK; i++) {
        X509 *authority = sk_X509_value(certificates, i);
        if (X509_STORE_add_cert(store, authority) != 1 || SSL_CTX_add_client_CA(context, authority) != 1)
            status = invalid(error, "OpenSSL refuses certificate %d of the CA file", i + 1);
    }
    sk_X509_pop_free(certificates, X509_free);
    return status;
}

static enum status use_verification(SSL_CTX *context, const struct tls_settings *settings, char *error)
{
    if (!settings->verify_peer) {
        SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
        return STATUS_OK;
    }
    if (settings->authorities.size == 0)
        return invalid(
            error, "client certificates are to be verified, but there is no CA to verify them with");
    int mode = SSL_VERIFY_PEER | (settings->fail_if_no_peer_cert ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
    SSL_CTX_set_verify(context, mode, on_verified);
    SSL_CTX_set_verify_depth(context, (int)settings->depth);
    if (settings->partial_chain)
        X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), X509_V_FLAG_PARTIAL_CHAIN);
    enum status status = use_revocation(context, settings, error);
    if (status != STATUS_OK)
        return status;
    return use_authorities(context, settings->authorities, error);
}

/* The session id context: whatever decides who gets in. A ticket of another one means a full handshake. */
static enum status use_session_id_context(SSL_CTX *context, const struct tls_settings *settings, char *error)
{
    uint8_t policy[8] = {settings->verify_peer, settings->fail_if_no_peer_cert, settings->partial_chain};
    put_u32_le(policy + 4, settings->depth);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool made = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1 &&
                EVP_DigestUpdate(hash, settings->listener, strlen(settings->listener) + 1) == 1 &&
                EVP_DigestUpdate(hash, policy, sizeof policy) == 1 &&
                EVP_DigestUpdate(hash, settings->authorities.data, settings->authorities.size) == 1 &&
                EVP_DigestFinal_ex(hash, digest, &size) == 1 &&
                SSL_CTX_set_session_id_context(context, digest, size) == 1;
    EVP_MD_CTX_free(hash);
    return made ? STATUS_OK : invalid(error, "the session id context cannot be set");
}

static struct span span_of_chain(const STACK_OF(X509) * chain)
{
    struct span span = {INT64_MIN, INT64_MAX};
    for (int i = 0; i < sk_X509_num(chain); i++) {
        const X509 *certificate = sk_X509_value(chain, i);
        int64_t from_s = tls_time_seconds(X509_get0_notBefore(certificate), INT64_MAX);
        int64_t until_s = tls_time_seconds(X509_get0_notAfter(certificate), INT64_MIN);
        span.from_s = from_s > span.from_s ? from_s : span.from_s;
        span.until_s = until_s < span.until_s ? until_s : span.until_s;
    }
    return span;
}

/* A ticket is being made. One that renews another has inherited the span: the chain is known no more. */
static int on_ticket_made(SSL *ssl, void *unused)
{
    (void)unused;
    const STACK_OF(X509) *chain = SSL_get0_verified_chain(ssl);
    if (!chain || sk_X509_num(chain) == 0)
        return 1;
    struct span span = span_of_chain(chain);
    uint8_t encoded[SPAN_SIZE + CHAIN_MAX * TLS_CERTIFICATE_ID_SIZE];
    size_t size = SPAN_SIZE;
    put_u64_le(encoded, (uint64_t)span.from_s);
    put_u64_le(encoded + 8, (uint64_t)span.until_s);
    for (int i = 0; i + 1 < sk_X509_num(chain); i++, size += TLS_CERTIFICATE_ID_SIZE)
        if (i == CHAIN_MAX ||
            !tls_certificate_id(sk_X509_value(chain, i), sk_X509_value(chain, i + 1), encoded + size))
            return 0; /* no ticket whose chain could not be looked at again */
    return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), encoded, size);
}

/* Each certificate of the chain that was verified then, against what is revoked now. */
static bool chain_is_revoked(struct bytes table, struct bytes ids)
{
    for (size_t at = 0; at < ids.size; at += TLS_CERTIFICATE_ID_SIZE)
        if (tls_revoked_has(table, ids.data + at))
            return true;
    return false;
}

/* Would a full handshake let this client in today? */
static bool ticket_is_good(SSL *ssl, SSL_SESSION *session)
{
    int mode = SSL_get_verify_mode(ssl);
    if ((mode & SSL_VERIFY_PEER) == 0)
        return true;
    if (!SSL_SESSION_get0_peer(session))
        return (mode & SSL_VERIFY_FAIL_IF_NO_PEER_CERT) == 0;
    void *encoded;
    size_t size;
    if (SSL_SESSION_get0_ticket_appdata(session, &encoded, &size) != 1 || size < SPAN_SIZE ||
        (size - SPAN_SIZE) % TLS_CERTIFICATE_ID_SIZE != 0)
        return false;
    if (chain_is_revoked(revoked_of(ssl), bytes_of((uint8_t *)encoded + SPAN_SIZE, size - SPAN_SIZE)))
        return false;
    int64_t now_s = (int64_t)(clock_real_us() / 1000000);
    return (int64_t)get_u64_le(encoded) <= now_s && now_s <= (int64_t)get_u64_le((uint8_t *)encoded + 8);
}

static SSL_TICKET_RETURN on_ticket_seen(SSL *ssl, SSL_SESSION *session, const unsigned char *key_name,
    size_t key_name_size, SSL_TICKET_STATUS status, void *unused)
{
    (void)key_name;
    (void)key_name_size;
    (void)unused;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    if (!ticket_is_good(ssl, session))
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

/* Stateless tickets only: a cache of one worker is of no use to the others. */
static enum status use_tickets(SSL_CTX *context, const struct tls_settings *settings, char *error)
{
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    if (settings->tickets == NULL) {
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(context, 0);
        return STATUS_OK;
    }
    SSL_CTX_set_num_tickets(context, 1);
    if (tls_tickets_use(settings->tickets, context) != STATUS_OK ||
        SSL_CTX_set_session_ticket_cb(context, on_ticket_made, on_ticket_seen, NULL) != 1)
        return invalid(error, "the session ticket keys cannot be set");
    return STATUS_OK;
}

/* For the log: "h2, http/1.1". */
static void note_protocols(const unsigned char *offered, unsigned size)
{
    char text[100];
    size_t length = 0;
    for (unsigned at = 0; at < size && length < sizeof text; at += 1u + offered[at])
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%.*s", at > 0 ? ", " : "",
            (int)offered[at], (const char *)offered + at + 1);
    tls_failure_note("the client offers %s", text);
}

static int on_protocols_offered(SSL *ssl, const unsigned char **ret_chosen, unsigned char *ret_size,
    const unsigned char *offered, unsigned size, void *wanted)
{
    (void)ssl;
    const char *name = wanted;
    size_t length = strlen(name);
    for (unsigned at = 0; at < size && offered[at] < size - at; at += 1u + offered[at]) {
        if (offered[at] == length && memcmp(offered + at + 1, name, length) == 0) {
            *ret_chosen = offered + at + 1;
            *ret_size = (unsigned char)length;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    note_protocols(offered, size);
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void use_options(SSL_CTX *context, const struct tls_settings *settings)
{
    static char mqtt[] = "mqtt", http[] = "http/1.1";
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    if (settings->honor_cipher_order)
        SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(context,
        SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_dh_auto(context, 1);
    SSL_CTX_set_alpn_select_cb(context, on_protocols_offered, settings->alpn_http ? http : mqtt);
}

enum status tls_context_new(const struct tls_settings *settings, SSL_CTX **ret_context, char *error)
{
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context)
        return invalid(error, "OpenSSL cannot make a context");
    enum status status = use_versions_and_ciphers(context, settings, error);
    if (status == STATUS_OK)
        status = use_key_and_chain(context, settings, error);
    if (status == STATUS_OK)
        status = use_verification(context, settings, error);
    if (status == STATUS_OK)
        status = use_session_id_context(context, settings, error);
    if (status == STATUS_OK)
        status = use_tickets(context, settings, error);
    if (status != STATUS_OK) {
        SSL_CTX_free(context);
        return status;
    }
    use_options(context, settings);
    *ret_context = context;
    return STATUS_OK;
}

/* True if this side has said all it can for now, or is done; false if it has failed. */
static bool proof_step(SSL *ssl, bool *done)
{
    int result = SSL_do_handshake(ssl);
    *done = result == 1;
    return result == 1 || SSL_get_error(ssl, result) == SSL_ERROR_WANT_READ;
}

static enum status shake_hands_in_memory(SSL *server, SSL *client, const char *version, char *error)
{
    BIO *ours = NULL, *theirs = NULL;
    if (BIO_new_bio_pair(&ours, 65536, &theirs, 65536) != 1)
        return invalid(error, "out of memory");
    SSL_set_bio(server, ours, ours);
    SSL_set_bio(client, theirs, theirs);
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    SSL_set_verify(server, SSL_VERIFY_NONE, NULL);
    SSL_set_verify(client, SSL_VERIFY_NONE, NULL);
    bool server_done = false, client_done = false;
    for (int turn = 0; turn < PROOF_TURNS; turn++) {
        bool failed = !proof_step(client, &client_done) || !proof_step(server, &server_done);
        if (failed)
            return invalid(error, "a trial handshake with %s fails", version);
        if (client_done && server_done)
            return STATUS_OK;
    }
    return invalid(error, "a trial handshake with %s does not end", version);
}

static enum status prove_version(SSL_CTX *context, int version, const char *name, char *error)
{
    SSL_CTX *client_context = SSL_CTX_new(TLS_client_method());
    SSL *client = client_context ? SSL_new(client_context) : NULL;
    SSL *server = SSL_new(context);
    enum status status;
    if (!client || !server)
        status = invalid(error, "out of memory");
    else if (SSL_set_min_proto_version(client, version) != 1 ||
             SSL_set_max_proto_version(client, version) != 1)
        status = invalid(error, "OpenSSL on this machine does not speak %s", name);
    else
        status = shake_hands_in_memory(server, client, name, error);
    SSL_free(server);
    SSL_free(client);
    SSL_CTX_free(client_context);
    return status;
}

enum status tls_context_prove(SSL_CTX *context, unsigned versions, char *error)
{
    ERR_clear_error();
    enum status status = STATUS_OK;
    if (versions & TLS_VERSION_1_2)
        status = prove_version(context, TLS1_2_VERSION, "TLS 1.2", error);
    if (status == STATUS_OK && (versions & TLS_VERSION_1_3))
        status = prove_version(context, TLS1_3_VERSION, "TLS 1.3", error);
    return status;
}
