/*
 * tls_context and tls_peer: the right clients get in, a ticket lets nobody in whom a full handshake would
 * refuse, and every worker with the same keys resumes what another has begun.
 */
#include "shared/tls_context.h"

#include "shared/clock.h"
#include "shared/tls_failure.h"
#include "shared/tls_peer.h"

#include "tests/unit/tls_fixture.h"

static struct fixture_identity authority, other_authority, server_identity, client_identity, foreign_identity,
    short_identity;
static struct bytes authorities, other_authorities;

/* What a handshake in memory came to. */
struct outcome {
    bool server_done, client_done, resumed;
    struct tls_failure failure; /* the server's */
    char alpn[20];
    char version[20], cipher[60];
    SSL_SESSION *session; /* the client's new one, or NULL */
};

static SSL_SESSION *new_session;

static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(new_session);
    new_session = session;
    return 1;
}

static SSL_CTX *client_context(int version, const struct fixture_identity *identity)
{
    SSL_CTX *context = fixture_client_context(version, identity);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, on_new_session);
    return context;
}

static void note_outcome(struct outcome *outcome, SSL *server, SSL *client)
{
    const unsigned char *alpn;
    unsigned size;
    char byte;
    SSL_read(client, &byte, 1); /* takes the ticket */
    ERR_clear_error();
    SSL_get0_alpn_selected(client, &alpn, &size);
    memcpy(outcome->alpn, alpn ? (const char *)alpn : "", size);
    outcome->resumed = SSL_session_reused(server);
    snprintf(outcome->version, sizeof outcome->version, "%s", SSL_get_version(server));
    snprintf(outcome->cipher, sizeof outcome->cipher, "%s", SSL_get_cipher_name(server));
    outcome->session = new_session;
    new_session = NULL;
    SSL_shutdown(client);
    SSL_shutdown(server);
}

static void run(SSL *server, SSL *client, struct outcome *outcome)
{
    for (int turn = 0; turn < 20 && !(outcome->server_done && outcome->client_done); turn++) {
        outcome->client_done = SSL_do_handshake(client) == 1;
        ERR_clear_error();
        int result = SSL_do_handshake(server);
        outcome->server_done = result == 1;
        if (result != 1 && SSL_get_error(server, result) != SSL_ERROR_WANT_READ) {
            tls_failure_from_ssl(&outcome->failure, server, 0);
            return;
        }
        ERR_clear_error();
    }
}

/* One handshake; `session` to resume may be NULL; `alpn` in wire format may be NULL. Consumes the client
 * context. */
static struct outcome handshake(SSL_CTX *context, SSL_CTX *of_client, SSL_SESSION *session, const char *alpn)
{
    struct outcome outcome = {0};
    BIO *ours, *theirs;
    SSL *server = SSL_new(context), *client = SSL_new(of_client);
    BIO_new_bio_pair(&ours, 65536, &theirs, 65536);
    SSL_set_bio(server, ours, ours);
    SSL_set_bio(client, theirs, theirs);
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    if (session)
        SSL_set_session(client, session);
    if (alpn)
        SSL_set_alpn_protos(client, (const unsigned char *)alpn, (unsigned)strlen(alpn));
    run(server, client, &outcome);
    if (outcome.server_done && outcome.client_done)
        note_outcome(&outcome, server, client);
    SSL_free(server);
    SSL_free(client);
    SSL_CTX_free(of_client);
    SSL_SESSION_free(new_session);
    new_session = NULL;
    return outcome;
}

static void refused(SSL_CTX *context, SSL_CTX *of_client, enum tls_failure_cause cause)
{
    struct outcome outcome = handshake(context, of_client, NULL, NULL);
    assert_false(outcome.server_done);
    assert_string_equal(tls_failure_name(outcome.failure.cause), tls_failure_name(cause));
    char line[600];
    assert_non_null(strstr(tls_failure_line(&outcome.failure, line, sizeof line), "usually"));
}

static SSL_CTX *context_with(struct tls_settings settings)
{
    settings.tickets = fixture_tickets();
    return fixture_context(&server_identity, settings);
}

static SSL_CTX *strict(const char *listener, struct bytes with_authorities)
{
    return context_with((struct tls_settings){.listener = listener,
        .authorities = with_authorities,
        .verify_peer = true,
        .fail_if_no_peer_cert = true});
}

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static void who_gets_in(void **state)
{
    (void)state;
    SSL_CTX *contexts[] = {context_with((struct tls_settings){0}),
        context_with((struct tls_settings){.authorities = authorities, .verify_peer = true}),
        strict("ssl:test", authorities)};
    const struct fixture_identity *clients[] = {NULL, &client_identity, &foreign_identity};
    static const bool welcome[3][3] = {{true, true, true}, {true, true, false}, {false, true, false}};
    for (size_t v = 0; v < 2; v++)
        for (size_t i = 0; i < 3; i++)
            for (size_t j = 0; j < 3; j++) {
                struct outcome outcome =
                    handshake(contexts[i], client_context(versions[v], clients[j]), NULL, NULL);
                assert_int_equal(outcome.server_done, welcome[i][j]);
                SSL_SESSION_free(outcome.session);
            }
    for (size_t i = 0; i < 3; i++)
        SSL_CTX_free(contexts[i]);
}

static void refusals_have_their_cause(void **state)
{
    (void)state;
    struct fixture_identity self = fixture_issue((struct fixture_wish){.cn = "self"});
    struct fixture_identity expired = fixture_issue(
        (struct fixture_wish){.cn = "late", .issuer = &authority, .from_days = -9, .until_days = -3});
    struct fixture_identity purpose =
        fixture_issue((struct fixture_wish){.cn = "server", .issuer = &authority, .eku = "serverAuth"});
    SSL_CTX *context = strict("ssl:test", authorities);
    for (size_t v = 0; v < 2; v++) {
        refused(context, client_context(versions[v], NULL), TLS_FAILURE_CERTIFICATE_MISSING);
        refused(context, client_context(versions[v], &foreign_identity), TLS_FAILURE_CERTIFICATE_UNKNOWN_CA);
        refused(context, client_context(versions[v], &self), TLS_FAILURE_CERTIFICATE_SELF_SIGNED);
        refused(context, client_context(versions[v], &expired), TLS_FAILURE_CERTIFICATE_EXPIRED);
        refused(context, client_context(versions[v], &purpose), TLS_FAILURE_CERTIFICATE_PURPOSE);
        SSL_CTX *doubtful = client_context(versions[v], &client_identity);
        SSL_CTX_set_verify(doubtful, SSL_VERIFY_PEER, NULL);
        refused(context, doubtful, TLS_FAILURE_CLIENT_REJECTS_CA);
    }
    SSL_CTX_free(context);
    fixture_done(&self);
    fixture_done(&expired);
    fixture_done(&purpose);
}

/* Depth counts the CAs between the client's certificate and the trusted one. */
static void depth_is_kept(void **state)
{
    (void)state;
    struct fixture_identity one =
        fixture_issue((struct fixture_wish){.cn = "1", .ca = true, .issuer = &authority});
    struct fixture_identity two = fixture_issue((struct fixture_wish){.cn = "2", .ca = true, .issuer = &one});
    struct fixture_identity leaf = fixture_issue((struct fixture_wish){.cn = "leaf", .issuer = &two});
    for (unsigned depth = 1; depth <= 2; depth++) {
        SSL_CTX *context = context_with(
            (struct tls_settings){.authorities = authorities, .verify_peer = true, .depth = depth});
        SSL_CTX *of_client = client_context(0, &leaf);
        SSL_CTX_add1_chain_cert(of_client, two.certificate);
        SSL_CTX_add1_chain_cert(of_client, one.certificate);
        struct outcome outcome = handshake(context, of_client, NULL, NULL);
        assert_int_equal(outcome.server_done, depth == 2);
        if (depth == 1)
            assert_int_equal(outcome.failure.cause, TLS_FAILURE_CERTIFICATE_DEPTH);
        SSL_SESSION_free(outcome.session);
        SSL_CTX_free(context);
    }
    fixture_done(&one);
    fixture_done(&two);
    fixture_done(&leaf);
}

static void versions_and_ciphers_are_kept(void **state)
{
    (void)state;
    SSL_CTX *new_only = context_with((struct tls_settings){.versions = TLS_VERSION_1_3});
    SSL_CTX *old_only = context_with((struct tls_settings){.versions = TLS_VERSION_1_2,
        .ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256",
        .honor_cipher_order = true});
    refused(new_only, client_context(TLS1_2_VERSION, NULL), TLS_FAILURE_VERSION);
    refused(old_only, client_context(TLS1_3_VERSION, NULL), TLS_FAILURE_VERSION);
    struct outcome outcome = handshake(old_only, client_context(0, NULL), NULL, NULL);
    assert_string_equal(outcome.version, "TLSv1.2");
    assert_string_equal(outcome.cipher, "ECDHE-ECDSA-CHACHA20-POLY1305");
    SSL_SESSION_free(outcome.session);
    SSL_CTX *picky = client_context(0, NULL);
    SSL_CTX_set_cipher_list(picky, "ECDHE-ECDSA-AES256-GCM-SHA384");
    refused(old_only, picky, TLS_FAILURE_CIPHER);
    SSL_CTX_free(new_only);
    SSL_CTX_free(old_only);
}

static void alpn_is_mqtt_or_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *offered, *chosen;
    } good[] = {{NULL, ""}, {"\4mqtt", "mqtt"}, {"\2h2\4mqtt", "mqtt"}};
    SSL_CTX *context = context_with((struct tls_settings){0});
    for (size_t i = 0; i < 3; i++) {
        struct outcome outcome = handshake(context, client_context(0, NULL), NULL, good[i].offered);
        assert_true(outcome.server_done);
        assert_string_equal(outcome.alpn, good[i].chosen);
        SSL_SESSION_free(outcome.session);
    }
    struct outcome outcome = handshake(context, client_context(0, NULL), NULL, "\2h2\10http/1.1");
    assert_false(outcome.server_done);
    assert_int_equal(outcome.failure.cause, TLS_FAILURE_ALPN);
    assert_non_null(strstr(outcome.failure.detail, "h2, http/1.1"));
    SSL_CTX_free(context);
    context = context_with((struct tls_settings){.alpn_http = true});
    outcome = handshake(context, client_context(0, NULL), NULL, "\2h2\10http/1.1");
    assert_string_equal(outcome.alpn, "http/1.1");
    SSL_SESSION_free(outcome.session);
    SSL_CTX_free(context);
}

/* A session begun on one context, tried on another. */
static bool resumes(SSL_CTX *first, SSL_CTX *second, int version, const struct fixture_identity *identity)
{
    struct outcome begun = handshake(first, client_context(version, identity), NULL, NULL);
    assert_true(begun.server_done);
    assert_false(begun.resumed);
    assert_non_null(begun.session);
    struct outcome again = handshake(second, client_context(version, identity), begun.session, NULL);
    SSL_SESSION_free(begun.session);
    SSL_SESSION_free(again.session);
    return again.resumed;
}

static void any_worker_resumes(void **state)
{
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        SSL_CTX *first = strict("ssl:test", authorities), *second = strict("ssl:test", authorities);
        assert_true(resumes(first, second, versions[v], &client_identity));
        SSL_CTX_free(first);
        SSL_CTX_free(second);
    }
}

/* With each resumption in TLS 1.3 comes a ticket for the next one. */
static void resumption_goes_on(void **state)
{
    (void)state;
    SSL_CTX *context = strict("ssl:test", authorities);
    struct outcome outcome = handshake(context, client_context(TLS1_3_VERSION, &client_identity), NULL, NULL);
    for (int round = 0; round < 4; round++) {
        SSL_SESSION *session = outcome.session;
        assert_non_null(session);
        outcome = handshake(context, client_context(TLS1_3_VERSION, &client_identity), session, NULL);
        SSL_SESSION_free(session);
        assert_true(outcome.resumed);
    }
    SSL_SESSION_free(outcome.session);
    SSL_CTX_free(context);
}

static struct tls_tickets *ring_of(
    const char *first, uint64_t first_from_s, const char *second, uint64_t second_from_s)
{
    struct tls_tickets *ring = NULL;
    uint8_t key[TLS_TICKET_KEY_SIZE] = {0};
    assert_int_equal(tls_tickets_new(3600, &ring), STATUS_OK);
    memcpy(key, first, strlen(first));
    tls_tickets_add(ring, key, first_from_s);
    if (second) {
        memset(key, 0, sizeof key);
        memcpy(key, second, strlen(second));
        tls_tickets_add(ring, key, second_from_s);
    }
    return ring;
}

static void keys_rotate_without_a_full_handshake(void **state)
{
    (void)state;
    uint64_t now = (uint64_t)time(NULL);
    struct tls_tickets *before = ring_of("one", now - 100, NULL, 0),
                       *ahead = ring_of("one", now - 100, "two", now + 60),
                       *after = ring_of("one", now - 100, "two", now - 1);
    struct tls_tickets *rings[] = {before, ahead, after};
    SSL_CTX *contexts[3];
    for (size_t i = 0; i < 3; i++)
        contexts[i] = fixture_context(&server_identity, (struct tls_settings){.tickets = rings[i]});
    for (size_t v = 0; v < 2; v++) {
        /* A worker that has the next key already does not use it before its time. */
        assert_true(resumes(contexts[1], contexts[0], versions[v], NULL));
        assert_true(resumes(contexts[0], contexts[2], versions[v], NULL));
        assert_true(resumes(contexts[2], contexts[1], versions[v], NULL));
        assert_false(resumes(contexts[2], contexts[0], versions[v], NULL)); /* its key never came there */
        /* A former key is good for a lifetime, no longer. */
        struct outcome begun = handshake(contexts[0], client_context(versions[v], NULL), NULL, NULL);
        for (unsigned late_s = 3500; late_s <= 3700; late_s += 200) {
            clock_set(0, (now + late_s) * 1000000);
            struct outcome again =
                handshake(contexts[2], client_context(versions[v], NULL), begun.session, NULL);
            assert_int_equal(again.resumed, late_s < 3600);
            SSL_SESSION_free(again.session);
            clock_use_system();
        }
        SSL_SESSION_free(begun.session);
    }
    for (size_t i = 0; i < 3; i++) {
        SSL_CTX_free(contexts[i]);
        tls_tickets_free(&rings[i]);
    }
}

static void keys_that_are_over_are_dropped(void **state)
{
    (void)state;
    uint64_t from_s;
    uint64_t now = (uint64_t)time(NULL);
    struct tls_tickets *ring = ring_of("one", now - 9000, "two", now - 8000); /* over for 4400 s */
    uint8_t key[TLS_TICKET_KEY_SIZE] = "three";
    tls_tickets_add(ring, key, now);
    assert_int_equal(tls_tickets_count(ring), 2);
    assert_string_equal((const char *)tls_tickets_key(ring, 0, &from_s), "two");
    assert_true(from_s == now - 8000);
    for (unsigned i = 0; i < 3 * TLS_TICKET_KEYS_MAX; i++)
        tls_tickets_add(ring, key, now);
    assert_int_equal(tls_tickets_count(ring), TLS_TICKET_KEYS_MAX);
    tls_tickets_free(&ring);
}

static void another_policy_means_a_full_handshake(void **state)
{
    (void)state;
    SSL_CTX *base = strict("ssl:test", authorities);
    SSL_CTX *others[] = {strict("ssl:other", authorities), strict("ssl:test", other_authorities),
        context_with((struct tls_settings){.authorities = authorities, .verify_peer = true}),
        context_with((struct tls_settings){
            .authorities = authorities, .verify_peer = true, .fail_if_no_peer_cert = true, .depth = 3}),
        context_with((struct tls_settings){0})};
    for (size_t v = 0; v < 2; v++)
        for (size_t i = 0; i < 5; i++) {
            assert_false(resumes(base, others[i], versions[v], &client_identity));
            if (i != 1)
                assert_false(resumes(others[i], base, versions[v], &client_identity));
        }
    for (size_t i = 0; i < 5; i++)
        SSL_CTX_free(others[i]);
    SSL_CTX_free(base);
}

/* The measured hole: a ticket from a lax listener, no certificate, a strict listener. */
static void a_lax_ticket_opens_no_strict_listener(void **state)
{
    (void)state;
    SSL_CTX *lax = context_with((struct tls_settings){0});
    SSL_CTX *door = strict("ssl:test", authorities);
    for (size_t v = 0; v < 2; v++) {
        struct outcome begun = handshake(lax, client_context(versions[v], NULL), NULL, NULL);
        assert_non_null(begun.session);
        struct outcome again = handshake(door, client_context(versions[v], NULL), begun.session, NULL);
        SSL_SESSION_free(begun.session);
        assert_false(again.server_done);
        assert_int_equal(again.failure.cause, TLS_FAILURE_CERTIFICATE_MISSING);
    }
    SSL_CTX_free(lax);
    SSL_CTX_free(door);
}

/* A ticket dies with the client's certificate, also one that was renewed by a resumption. */
static void a_ticket_ends_with_the_certificate(void **state)
{
    (void)state;
    SSL_CTX *context = strict("ssl:test", authorities);
    for (size_t v = 0; v < 2; v++) {
        struct outcome begun = handshake(context, client_context(versions[v], &short_identity), NULL, NULL);
        struct outcome renewed =
            handshake(context, client_context(versions[v], &short_identity), begun.session, NULL);
        assert_true(renewed.resumed);
        clock_set(0, (uint64_t)(time(NULL) + 3L * 86400) * 1000000); /* it was valid for two days */
        SSL_SESSION *tickets[] = {begun.session, renewed.session ? renewed.session : begun.session};
        for (size_t i = 0; i < 2; i++) {
            struct outcome again =
                handshake(context, client_context(versions[v], &short_identity), tickets[i], NULL);
            assert_false(again.resumed);
            SSL_SESSION_free(again.session);
        }
        clock_use_system();
        SSL_SESSION_free(begun.session);
        SSL_SESSION_free(renewed.session);
    }
    SSL_CTX_free(context);
}

static void without_tickets_nothing_resumes(void **state)
{
    (void)state;
    SSL_CTX *context = fixture_context(&server_identity, (struct tls_settings){0});
    for (size_t v = 0; v < 2; v++) {
        struct outcome begun = handshake(context, client_context(versions[v], NULL), NULL, NULL);
        assert_true(begun.server_done);
        if (begun.session) {
            struct outcome again = handshake(context, client_context(versions[v], NULL), begun.session, NULL);
            assert_false(again.resumed);
            SSL_SESSION_free(again.session);
        }
        SSL_SESSION_free(begun.session);
    }
    SSL_CTX_free(context);
}

static void settings_are_refused_in_words(void **state)
{
    (void)state;
    struct bytes key = fixture_key_der(server_identity.key);
    struct bytes other_key = fixture_key_der(client_identity.key);
    struct bytes chain = fixture_pem(server_identity.certificate, NULL, NULL);
    const struct tls_settings good = {
        .listener = "x", .key = key, .chain = chain, .versions = TLS_VERSION_1_3};
    struct {
        struct tls_settings settings;
        const char *words;
    } cases[] = {{good, "the private key cannot be read"}, {good, "does not belong"}, {good, "it is empty"},
        {good, "no TLS version"}, {good, "\"NONSENSE\""}, {good, "\"TLS_NONSENSE\""}, {good, "no CA"},
        {good, "no certificate in it"}};
    cases[0].settings.key = bytes_of_text("nonsense");
    cases[1].settings.key = other_key;
    cases[2].settings.chain = BYTES_NONE;
    cases[3].settings.versions = 0;
    cases[4].settings.ciphers = "NONSENSE";
    cases[5].settings.ciphersuites = "TLS_NONSENSE";
    cases[6].settings.verify_peer = true;
    cases[7].settings.verify_peer = true;
    cases[7].settings.authorities = bytes_of_text("nothing here");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        SSL_CTX *context = NULL;
        char error[TLS_ERROR_SIZE] = "";
        assert_int_equal(tls_context_new(&cases[i].settings, &context, error), STATUS_INVALID);
        assert_null(context);
        if (!strstr(error, cases[i].words))
            fail_msg("\"%s\" does not say \"%s\"", error, cases[i].words);
        assert_int_equal(ERR_peek_error(), 0);
    }
    free((void *)(uintptr_t)key.data);
    free((void *)(uintptr_t)other_key.data);
    free((void *)(uintptr_t)chain.data);
}

static void a_strict_context_is_proven_without_a_certificate(void **state)
{
    (void)state;
    char error[TLS_ERROR_SIZE] = "";
    SSL_CTX *context = strict("ssl:test", authorities);
    assert_int_equal(tls_context_prove(context, TLS_VERSION_1_2 | TLS_VERSION_1_3, error), STATUS_OK);
    refused(context, client_context(0, NULL), TLS_FAILURE_CERTIFICATE_MISSING); /* and still strict */
    SSL_CTX_free(context);
}

/* Identities
 * -------------------------------------------------------------------------------------------------- */

static X509 *named(int type, const char *cn, int size, const char *organization)
{
    X509 *certificate = X509_new();
    X509_NAME *subject = X509_get_subject_name(certificate);
    if (organization)
        X509_NAME_add_entry_by_NID(
            subject, NID_organizationName, MBSTRING_UTF8, (const unsigned char *)organization, -1, -1, 0);
    if (cn)
        assert_int_equal(
            X509_NAME_add_entry_by_NID(subject, NID_commonName, type, (const unsigned char *)cn, size, -1, 0),
            1);
    return certificate;
}

static void names_are_read(void **state)
{
    (void)state;
    char text[TLS_IDENTITY_SIZE];
    X509 *certificate = named(MBSTRING_UTF8, "m\xc3\xbcller, jr", -1, "A+B");
    assert_int_equal(tls_peer_identity(certificate, TLS_IDENTITY_CN, text, sizeof text), STATUS_OK);
    assert_string_equal(text, "m\xc3\xbcller, jr");
    assert_int_equal(tls_peer_identity(certificate, TLS_IDENTITY_DN, text, sizeof text), STATUS_OK);
    assert_string_equal(text, "CN=m\xc3\xbcller\\, jr,O=A\\+B");
    assert_int_equal(tls_peer_identity(certificate, TLS_IDENTITY_CN, text, 11), STATUS_LIMIT);
    assert_int_equal(tls_peer_identity(certificate, TLS_IDENTITY_NONE, text, sizeof text), STATUS_NOT_FOUND);
    X509_NAME_add_entry_by_NID(X509_get_subject_name(certificate), NID_commonName, MBSTRING_UTF8,
        (const unsigned char *)"second", -1, -1, 0);
    assert_int_equal(tls_peer_identity(certificate, TLS_IDENTITY_CN, text, sizeof text), STATUS_OK);
    assert_string_equal(text, "second");
    X509_free(certificate);
    assert_int_equal(
        tls_peer_identity(client_identity.certificate, TLS_IDENTITY_CRT, text, sizeof text), STATUS_OK);
    assert_int_equal(strlen(text), 64);
    assert_int_equal(strspn(text, "0123456789abcdef"), 64);
}

static void dangerous_names_are_refused(void **state)
{
    (void)state;
    static const struct {
        int type;
        const char *cn;
        int size;
    } bad[] = {{V_ASN1_UTF8STRING, "admin\0.evil", 11}, {V_ASN1_UTF8STRING, "ad\xc3min", 6},
        {V_ASN1_UTF8STRING, "\xed\xa0\x80", 3}, {V_ASN1_BMPSTRING, "\0a\0\0\0b", 6}};
    char text[TLS_IDENTITY_SIZE];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        X509 *certificate = named(bad[i].type, bad[i].cn, bad[i].size, NULL);
        assert_int_equal(tls_peer_identity(certificate, TLS_IDENTITY_CN, text, sizeof text), STATUS_REFUSED);
        assert_int_equal(tls_peer_identity(certificate, TLS_IDENTITY_DN, text, sizeof text), STATUS_REFUSED);
        X509_free(certificate);
    }
    X509 *certificate = named(0, NULL, 0, NULL);
    assert_int_equal(tls_peer_identity(certificate, TLS_IDENTITY_CN, text, sizeof text), STATUS_NOT_FOUND);
    assert_int_equal(tls_peer_identity(certificate, TLS_IDENTITY_DN, text, sizeof text), STATUS_NOT_FOUND);
    X509_free(certificate);
}

static int set_up(void **state)
{
    (void)state;
    authority = fixture_issue((struct fixture_wish){.cn = "Test CA", .ca = true});
    other_authority = fixture_issue((struct fixture_wish){.cn = "Other CA", .ca = true});
    server_identity = fixture_issue((struct fixture_wish){.cn = "localhost", .issuer = &authority});
    client_identity = fixture_issue((struct fixture_wish){.cn = "client", .issuer = &authority});
    foreign_identity = fixture_issue((struct fixture_wish){.cn = "foreign", .issuer = &other_authority});
    short_identity = fixture_issue(
        (struct fixture_wish){.cn = "short", .issuer = &authority, .from_days = -1, .until_days = 2});
    authorities = fixture_pem(authority.certificate, NULL, NULL);
    other_authorities = fixture_pem(authority.certificate, other_authority.certificate, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    struct fixture_identity *all[] = {
        &authority, &other_authority, &server_identity, &client_identity, &foreign_identity, &short_identity};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        fixture_done(all[i]);
    free((void *)(uintptr_t)authorities.data);
    free((void *)(uintptr_t)other_authorities.data);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_gets_in),
        cmocka_unit_test(refusals_have_their_cause),
        cmocka_unit_test(depth_is_kept),
        cmocka_unit_test(versions_and_ciphers_are_kept),
        cmocka_unit_test(alpn_is_mqtt_or_nothing),
        cmocka_unit_test(any_worker_resumes),
        cmocka_unit_test(resumption_goes_on),
        cmocka_unit_test(keys_rotate_without_a_full_handshake),
        cmocka_unit_test(keys_that_are_over_are_dropped),
        cmocka_unit_test(another_policy_means_a_full_handshake),
        cmocka_unit_test(a_lax_ticket_opens_no_strict_listener),
        cmocka_unit_test(a_ticket_ends_with_the_certificate),
        cmocka_unit_test(without_tickets_nothing_resumes),
        cmocka_unit_test(settings_are_refused_in_words),
        cmocka_unit_test(a_strict_context_is_proven_without_a_certificate),
        cmocka_unit_test(names_are_read),
        cmocka_unit_test(dangerous_names_are_refused),
    };
    return cmocka_run_group_tests_name("tls_context", tests, set_up, tear_down);
}
