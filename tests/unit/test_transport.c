/*
 * transport: bytes arrive whole and at the right connection, whatever way they are cut; the ends of a stream
 * and failed handshakes are told apart; nothing of one connection stays in the buffers that all share.
 */
#include "shared/transport.h"

#include "tests/unit/tls_fixture.h"

#include <poll.h>
#include <sys/resource.h>

static struct fixture_identity authority, server_identity, client_identity;
static SSL_CTX *server_context, *strict_context;
static struct transport_scratch *scratch;
static uint8_t input[TRANSPORT_READ_BEST];

struct pair {
    struct transport server;
    SSL *client;
    SSL_CTX *client_context;
    int client_fd;
    struct tls_failure failure;
};

static void pair_open(
    struct pair *pair, SSL_CTX *context, int version, const struct fixture_identity *identity)
{
    int fds[2];
    fixture_tcp_pair(fds);
    assert_int_equal(transport_init_tls(&pair->server, fds[0], context, scratch), STATUS_OK);
    pair->client_fd = fds[1];
    pair->client_context = fixture_client_context(version, identity);
    pair->client = SSL_new(pair->client_context);
    SSL_set_fd(pair->client, fds[1]);
    SSL_set_connect_state(pair->client);
}

static void pair_close(struct pair *pair)
{
    SSL_free(pair->client);
    SSL_CTX_free(pair->client_context);
    close(pair->client_fd);
    transport_done(&pair->server);
}

/* Both sides take turns until the server is done or has failed. */
static enum status pair_handshake(struct pair *pair)
{
    enum status status = STATUS_AGAIN;
    for (int turn = 0; turn < 100 && status == STATUS_AGAIN; turn++) {
        SSL_do_handshake(pair->client);
        ERR_clear_error();
        struct pollfd waiting = {.fd = pair->server.fd, .events = POLLIN};
        poll(&waiting, 1, 10);
        status = transport_handshake(&pair->server, &pair->failure);
    }
    return status;
}

static void pair_connect(
    struct pair *pair, SSL_CTX *context, int version, const struct fixture_identity *identity)
{
    pair_open(pair, context, version, identity);
    assert_int_equal(pair_handshake(pair), STATUS_OK);
    assert_int_equal(SSL_do_handshake(pair->client), 1);
    transport_settle(&pair->server);
}

/* Until there is something to tell; records without bytes for us may come first. */
static enum status server_reads(struct pair *pair, size_t *ret_size)
{
    enum status status = STATUS_AGAIN;
    for (int turn = 0; turn < 10 && status == STATUS_AGAIN; turn++) {
        struct pollfd waiting = {.fd = pair->server.fd, .events = POLLIN};
        poll(&waiting, 1, 100);
        status = transport_read(&pair->server, input, sizeof input, ret_size);
    }
    return status;
}

static void server_gets(struct pair *pair, const char *text)
{
    size_t size = 0;
    assert_int_equal(server_reads(pair, &size), STATUS_OK);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(input, text, size);
}

static void client_says(struct pair *pair, const char *text)
{
    assert_int_equal(SSL_write(pair->client, text, (int)strlen(text)), (int)strlen(text));
}

static void server_says(struct pair *pair, const char *text)
{
    size_t taken = 0;
    assert_int_equal(transport_write(&pair->server, (const uint8_t *)text, strlen(text), &taken), STATUS_OK);
    assert_int_equal(taken, strlen(text));
}

static void client_gets(struct pair *pair, const char *text)
{
    char got[100];
    struct pollfd waiting = {.fd = pair->client_fd, .events = POLLIN};
    poll(&waiting, 1, 1000);
    int size = SSL_read(pair->client, got, sizeof got);
    for (int turn = 0; turn < 10 && size <= 0; turn++) {
        poll(&waiting, 1, 100);
        size = SSL_read(pair->client, got, sizeof got);
    }
    assert_int_equal(size, (int)strlen(text));
    assert_memory_equal(got, text, (size_t)size);
}

static void talk(struct pair *pair)
{
    client_says(pair, "question");
    server_gets(pair, "question");
    server_says(pair, "answer");
    client_gets(pair, "answer");
}

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static void both_versions_talk(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct pair pair;
        pair_connect(&pair, server_context, versions[i], NULL);
        assert_string_equal(transport_version(&pair.server), i == 0 ? "TLSv1.2" : "TLSv1.3");
        assert_string_equal(transport_cipher(&pair.server), ""); /* settled */
        size_t size;
        assert_int_equal(transport_read(&pair.server, input, sizeof input, &size), STATUS_AGAIN);
        for (int round = 0; round < 5; round++)
            talk(&pair);
        pair_close(&pair);
    }
}

/* The client's first packet arrives in one segment with the end of its handshake. */
static void first_packet_comes_with_the_handshake(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct pair pair, other;
        pair_connect(&other, server_context, versions[i], NULL);
        pair_open(&pair, server_context, versions[i], NULL);
        BIO *outgoing = BIO_new(BIO_s_mem());
        SSL_set0_wbio(pair.client, outgoing);
        enum status status = STATUS_AGAIN;
        for (int turn = 0; turn < 10 && status == STATUS_AGAIN; turn++) {
            bool connected = SSL_do_handshake(pair.client) == 1;
            ERR_clear_error();
            if (connected && turn < 5) { /* TLS 1.3: with the Finished, in one segment; 1.2: after it */
                client_says(&pair, "CONNECT");
                turn = 5;
            }
            char *data;
            long size = BIO_get_mem_data(outgoing, &data);
            assert_int_equal(send(pair.client_fd, data, (size_t)size, 0), size);
            BIO_reset(outgoing);
            struct pollfd waiting = {.fd = pair.server.fd, .events = POLLIN};
            poll(&waiting, 1, 1000);
            status = transport_handshake(&pair.server, &pair.failure);
        }
        assert_int_equal(status, STATUS_OK);
        if (i == 0) {
            SSL_do_handshake(pair.client);
            SSL_set_fd(pair.client, pair.client_fd);
            client_says(&pair, "CONNECT");
        }
        talk(&other); /* another connection in between finds nothing of it */
        server_gets(&pair, "CONNECT");
        pair_close(&pair);
        pair_close(&other);
    }
}

/* A megabyte of it in the same segments as the handshake's end: nothing is lost, nothing overflows. */
static void a_flood_behind_the_handshake(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, server_context, TLS1_3_VERSION, NULL);
    static uint8_t data[300000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 >> 3);
    SSL_do_handshake(pair.client);
    struct pollfd waiting = {.fd = pair.server.fd, .events = POLLIN};
    poll(&waiting, 1, 1000);
    assert_int_equal(transport_handshake(&pair.server, &pair.failure), STATUS_AGAIN);
    waiting.fd = pair.client_fd;
    poll(&waiting, 1, 1000);
    assert_int_equal(SSL_do_handshake(pair.client), 1);
    SSL_set_mode(pair.client, SSL_MODE_ENABLE_PARTIAL_WRITE);
    size_t written = 0, got = 0;
    int part;
    while (written < sizeof data &&
           (part = SSL_write(pair.client, data + written, (int)(sizeof data - written))) > 0)
        written += (size_t)part;
    assert_true(written > 60000);
    waiting.fd = pair.server.fd;
    poll(&waiting, 1, 1000);
    assert_int_equal(transport_handshake(&pair.server, &pair.failure), STATUS_OK);
    while (got < written - 17000) {
        size_t size;
        /* the least that may be offered */
        enum status status = transport_read(&pair.server, input, TRANSPORT_READ_MIN, &size);
        if (status == STATUS_AGAIN) {
            poll(&waiting, 1, 1000);
            continue;
        }
        assert_int_equal(status, STATUS_OK);
        assert_memory_equal(input, data + got, size);
        got += size;
    }
    pair_close(&pair);
}

/* A record that arrives in pieces, while another connection is read between the pieces. */
static void pieces_of_a_record_stay_with_their_connection(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct pair first, second;
        pair_connect(&first, server_context, versions[i], NULL);
        pair_connect(&second, server_context, versions[i], NULL);
        BIO *outgoing = BIO_new(BIO_s_mem());
        SSL_set0_wbio(first.client, outgoing);
        client_says(&first, "in pieces, ");
        client_says(&first, "two records");
        char *data;
        size_t size = (size_t)BIO_get_mem_data(outgoing, &data), got = 0;
        char text[100] = "";
        for (size_t at = 0; at < size; at += 3) {
            size_t part = size - at < 3 ? size - at : 3;
            assert_int_equal(send(first.client_fd, data + at, part, 0), (ssize_t)part);
            size_t count = 0;
            struct pollfd waiting = {.fd = first.server.fd, .events = POLLIN};
            poll(&waiting, 1, 1000);
            enum status status = transport_read(&first.server, input, sizeof input, &count);
            assert_true(status == STATUS_OK || status == STATUS_AGAIN);
            memcpy(text + got, input, count);
            got += count;
            talk(&second);
        }
        assert_string_equal(text, "in pieces, two records");
        pair_close(&first);
        pair_close(&second);
    }
}

/* A client that does not read: bytes are kept, writing says so, and all arrives in the end. */
static void all_arrives_at_a_slow_reader(void **state)
{
    (void)state;
    static uint8_t data[3000000], got[sizeof data];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i >> 8 ^ i);
    for (size_t i = 0; i < 2; i++) {
        struct pair pair;
        pair_connect(&pair, server_context, versions[i], NULL);
        int small = 20000;
        setsockopt(pair.server.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
        size_t sent = 0, received = 0;
        bool was_full = false;
        while (received < sizeof data) {
            size_t taken = 0;
            assert_int_equal(
                transport_write(&pair.server, data + sent, sizeof data - sent, &taken), STATUS_OK);
            sent += taken;
            assert_true(sent == sizeof data || transport_wants_write(&pair.server));
            was_full = was_full || transport_wants_write(&pair.server);
            int part = SSL_read(pair.client, got + received, (int)(sizeof got - received));
            if (part > 0)
                received += (size_t)part;
            enum status status = transport_flush(&pair.server);
            assert_int_equal(status == STATUS_AGAIN, transport_wants_write(&pair.server));
        }
        assert_true(was_full);
        assert_memory_equal(got, data, sizeof data);
        assert_false(transport_wants_write(&pair.server));
        pair_close(&pair);
    }
}

/* A handshake whose flight does not fit the kernel's buffer at once is kept going. */
static void a_handshake_through_a_narrow_socket(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct pair pair;
        pair_open(&pair, server_context, versions[i], NULL);
        int small = 1;
        setsockopt(pair.server.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
        setsockopt(pair.client_fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        assert_int_equal(pair_handshake(&pair), STATUS_OK);
        while (SSL_do_handshake(pair.client) != 1 || transport_wants_write(&pair.server))
            assert_true(transport_flush(&pair.server) <= STATUS_AGAIN);
        talk(&pair);
        pair_close(&pair);
    }
}

static void pieces_are_written_as_one(void **state)
{
    (void)state;
    struct pair pair;
    pair_connect(&pair, server_context, TLS1_3_VERSION, NULL);
    char a[] = "one, ", b[] = "two, ", c[] = "three";
    const struct iovec pieces[] = {{a, 5}, {b, 5}, {NULL, 0}, {c, 5}};
    size_t taken = 0;
    assert_int_equal(transport_writev(&pair.server, pieces, 4, &taken), STATUS_OK);
    assert_int_equal(taken, 15);
    client_gets(&pair, "one, ");
    client_gets(&pair, "two, ");
    client_gets(&pair, "three");
    pair_close(&pair);
}

/* The goodbye in the same segment as the last bytes is not lost. */
static void close_notify_comes_after_the_bytes_before_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct pair pair;
        pair_connect(&pair, server_context, versions[i], NULL);
        client_says(&pair, "last words");
        SSL_shutdown(pair.client);
        size_t size;
        server_gets(&pair, "last words");
        assert_int_equal(server_reads(&pair, &size), STATUS_CLOSED);
        assert_int_equal(server_reads(&pair, &size), STATUS_CLOSED);
        server_says(&pair, "answer"); /* half-closed: our side still works */
        client_gets(&pair, "answer");
        assert_int_equal(transport_shutdown(&pair.server), STATUS_OK);
        pair_close(&pair);
    }
}

static void end_of_stream_without_goodbye(void **state)
{
    (void)state;
    struct pair pair;
    pair_connect(&pair, server_context, TLS1_3_VERSION, NULL);
    client_says(&pair, "x");
    shutdown(pair.client_fd, SHUT_WR);
    size_t size;
    server_gets(&pair, "x");
    assert_int_equal(server_reads(&pair, &size), STATUS_CLOSED);
    pair_close(&pair);
}

static void reset_is_a_system_failure(void **state)
{
    (void)state;
    struct pair pair;
    pair_connect(&pair, server_context, TLS1_3_VERSION, NULL);
    struct linger hard = {.l_onoff = 1};
    setsockopt(pair.client_fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    int moved = dup(STDERR_FILENO);
    dup2(moved, pair.client_fd); /* closes the socket, hard */
    close(moved);
    size_t size;
    assert_int_equal(server_reads(&pair, &size), STATUS_SYSTEM);
    struct tls_failure failure;
    transport_failure(&pair.server, &failure);
    assert_int_equal(failure.cause, TLS_FAILURE_SYSTEM);
    pair_close(&pair);
}

static void garbage_after_the_handshake(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct pair pair;
        pair_connect(&pair, server_context, versions[i], NULL);
        client_says(&pair, "good");
        send(pair.client_fd, "\x17\x03\x03\x00\x20 this is no valid record at all", 37, 0);
        size_t size;
        server_gets(&pair, "good");
        assert_int_equal(server_reads(&pair, &size), STATUS_PROTOCOL);
        struct tls_failure failure;
        transport_failure(&pair.server, &failure);
        assert_int_equal(failure.cause, TLS_FAILURE_PROTOCOL);
        assert_int_equal(transport_shutdown(&pair.server), STATUS_OK);
        char byte; /* the alert has reached the client */
        struct pollfd waiting = {.fd = pair.client_fd, .events = POLLIN};
        poll(&waiting, 1, 1000);
        assert_true(SSL_read(pair.client, &byte, 1) <= 0);
        assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_AD_REASON_OFFSET + SSL3_AD_BAD_RECORD_MAC);
        ERR_clear_error();
        pair_close(&pair);
    }
}

static void key_updates_are_answered(void **state)
{
    (void)state;
    struct pair pair;
    pair_connect(&pair, server_context, TLS1_3_VERSION, NULL);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(SSL_key_update(pair.client, SSL_KEY_UPDATE_REQUESTED), 1);
        talk(&pair);
    }
    pair_close(&pair);
}

/* Many requests for a key update cost one answer, with the next write: a client cannot make us keep bytes. */
static void a_storm_of_key_updates_is_bounded(void **state)
{
    (void)state;
    struct pair pair;
    pair_connect(&pair, server_context, TLS1_3_VERSION, NULL);
    for (int round = 0; round < 5000; round++) {
        size_t size;
        assert_int_equal(SSL_key_update(pair.client, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(pair.client), 1);
        if (round % 50 == 0)
            assert_int_equal(transport_read(&pair.server, input, sizeof input, &size), STATUS_AGAIN);
        assert_false(transport_wants_write(&pair.server));
    }
    talk(&pair);
    pair_close(&pair);
}

static void renegotiation_is_refused(void **state)
{
    (void)state;
    struct pair pair;
    pair_connect(&pair, server_context, TLS1_2_VERSION, NULL);
    SSL_renegotiate(pair.client);
    bool refused = false;
    for (int i = 0; i < 10 && !refused; i++) {
        size_t size;
        assert_int_not_equal(SSL_do_handshake(pair.client), 1);
        refused = ERR_GET_REASON(ERR_peek_error()) == SSL_R_NO_RENEGOTIATION;
        struct pollfd waiting = {.fd = pair.server.fd, .events = POLLIN};
        poll(&waiting, 1, 100);
        /* the client may end it with an alert of its own, once refused */
        enum status status = transport_read(&pair.server, input, sizeof input, &size);
        assert_true(status == STATUS_AGAIN || (refused && status == STATUS_PROTOCOL));
    }
    assert_true(refused);
    ERR_clear_error();
    pair_close(&pair);
}

/* Settled connections still check what they read: suites with a separate MAC, before and after encryption. */
static void old_suites_are_checked_after_settling(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct pair pair;
        pair_open(&pair, server_context, TLS1_2_VERSION, NULL);
        SSL_set_cipher_list(pair.client, "ECDHE-ECDSA-AES128-SHA256");
        if (i == 0)
            SSL_set_options(pair.client, SSL_OP_NO_ENCRYPT_THEN_MAC);
        assert_int_equal(pair_handshake(&pair), STATUS_OK);
        assert_string_equal(transport_cipher(&pair.server), "ECDHE-ECDSA-AES128-SHA256");
        assert_int_equal(SSL_do_handshake(pair.client), 1);
        transport_settle(&pair.server);
        for (int round = 0; round < 3; round++)
            talk(&pair);
        BIO *outgoing = BIO_new(BIO_s_mem());
        SSL_set0_wbio(pair.client, outgoing);
        client_says(&pair, "forged");
        char *data;
        size_t size = (size_t)BIO_get_mem_data(outgoing, &data);
        data[size - 40] ^= 1;
        assert_int_equal(send(pair.client_fd, data, size, 0), (ssize_t)size);
        assert_int_equal(server_reads(&pair, &size), STATUS_PROTOCOL);
        pair_close(&pair);
    }
}

/* A client with little memory asks for short records, and gets no longer ones after settling either. */
static void short_records_stay_short(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct pair pair;
        pair_open(&pair, server_context, versions[i], NULL);
        SSL_set_tlsext_max_fragment_length(pair.client, TLSEXT_max_fragment_length_512);
        assert_int_equal(pair_handshake(&pair), STATUS_OK);
        assert_int_equal(SSL_do_handshake(pair.client), 1);
        transport_settle(&pair.server);
        talk(&pair);
        static const uint8_t data[5000];
        uint8_t got[5000];
        size_t taken = 0, received = 0;
        assert_int_equal(transport_write(&pair.server, data, sizeof data, &taken), STATUS_OK);
        assert_int_equal(taken, sizeof data);
        while (received < sizeof data) {
            struct pollfd waiting = {.fd = pair.client_fd, .events = POLLIN};
            int part;
            while ((part = SSL_read(pair.client, got, sizeof got)) <= 0)
                assert_int_equal(poll(&waiting, 1, 1000), 1);
            assert_in_range(part, 1, 512);
            received += (size_t)part;
        }
        pair_close(&pair);
    }
}

static void first_bytes_are(const char *bytes, size_t size, enum tls_failure_cause cause)
{
    for (int split = 0; split < 2; split++) {
        int fds[2];
        struct transport server;
        struct tls_failure failure = {0};
        fixture_tcp_pair(fds);
        assert_int_equal(transport_init_tls(&server, fds[0], server_context, scratch), STATUS_OK);
        enum status status = STATUS_AGAIN;
        size_t step = split ? 1 : size;
        for (size_t at = 0; at < size && status == STATUS_AGAIN; at += step) {
            assert_int_equal(send(fds[1], bytes + at, step, 0), (ssize_t)step);
            struct pollfd waiting = {.fd = fds[0], .events = POLLIN};
            poll(&waiting, 1, 1000);
            status = transport_handshake(&server, &failure);
        }
        assert_int_equal(status, STATUS_PROTOCOL);
        assert_int_equal(failure.cause, cause);
        assert_int_equal(transport_shutdown(&server), STATUS_OK);
        transport_done(&server);
        close(fds[1]);
    }
}

static void what_is_not_tls_is_named(void **state)
{
    (void)state;
    first_bytes_are("\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", 14, TLS_FAILURE_PLAIN_MQTT);
    first_bytes_are("\x10\x80\x02\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x00", 17, TLS_FAILURE_PLAIN_MQTT);
    first_bytes_are("GET / HTTP/1.1\r\n\r\n", 18, TLS_FAILURE_PLAIN_HTTP);
    first_bytes_are("SSH-2.0-OpenSSH_9.2\r\n", 21, TLS_FAILURE_NOT_TLS);
}

static void a_client_that_leaves_early(void **state)
{
    (void)state;
    static const char hello[] = "\x16\x03\x01\x02\x00\x01";
    for (size_t size = 0; size < sizeof hello; size += 6) {
        int fds[2];
        struct transport server;
        struct tls_failure failure = {0};
        fixture_tcp_pair(fds);
        assert_int_equal(transport_init_tls(&server, fds[0], server_context, scratch), STATUS_OK);
        assert_int_equal(transport_handshake(&server, &failure), STATUS_AGAIN);
        send(fds[1], hello, size, 0);
        close(fds[1]);
        struct pollfd waiting = {.fd = fds[0], .events = POLLIN};
        poll(&waiting, 1, 1000);
        enum status status = transport_handshake(&server, &failure);
        if (status == STATUS_AGAIN)
            status = transport_handshake(&server, &failure);
        assert_int_equal(status, STATUS_CLOSED);
        assert_int_equal(failure.cause, TLS_FAILURE_CLIENT_GONE);
        transport_done(&server);
    }
}

/* In TLS 1.3 the client believes itself connected and has sent its first packet when it is refused. */
static void a_client_without_certificate_learns_why(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct pair pair;
        pair_open(&pair, strict_context, versions[i], NULL);
        enum status status = STATUS_AGAIN;
        while (status == STATUS_AGAIN) {
            if (SSL_do_handshake(pair.client) == 1)
                SSL_write(pair.client, "CONNECT", 7);
            struct pollfd waiting = {.fd = pair.server.fd, .events = POLLIN};
            poll(&waiting, 1, 1000);
            status = transport_handshake(&pair.server, &pair.failure);
        }
        assert_int_equal(status, STATUS_PROTOCOL);
        assert_int_equal(pair.failure.cause, TLS_FAILURE_CERTIFICATE_MISSING);
        if (versions[i] == TLS1_3_VERSION)
            SSL_write(pair.client, "more", 4);
        assert_int_equal(transport_shutdown(&pair.server), STATUS_OK);
        assert_int_equal(transport_drain(&pair.server), STATUS_AGAIN);
        ERR_clear_error();
        char byte;
        struct pollfd waiting = {.fd = pair.client_fd, .events = POLLIN};
        poll(&waiting, 1, 1000);
        assert_true(SSL_read(pair.client, &byte, 1) <= 0);
        assert_int_equal(ERR_GET_REASON(ERR_peek_error()),
            SSL_AD_REASON_OFFSET + (i == 0 ? SSL3_AD_HANDSHAKE_FAILURE : TLS13_AD_CERTIFICATE_REQUIRED));
        ERR_clear_error();
        shutdown(pair.client_fd, SHUT_WR);
        waiting.fd = pair.server.fd;
        poll(&waiting, 1, 1000);
        assert_int_equal(transport_drain(&pair.server), STATUS_CLOSED);
        pair_close(&pair);
    }
}

static void a_client_with_certificate_gets_in(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct pair pair;
        pair_open(&pair, strict_context, versions[i], &client_identity);
        assert_int_equal(pair_handshake(&pair), STATUS_OK);
        X509 *seen = transport_peer_certificate(&pair.server);
        assert_non_null(seen);
        assert_int_equal(X509_cmp(seen, client_identity.certificate), 0);
        X509_free(seen);
        transport_settle(&pair.server);
        SSL_do_handshake(pair.client);
        for (int round = 0; round < 5; round++)
            talk(&pair);
        if (versions[i] == TLS1_3_VERSION)
            assert_int_equal(SSL_key_update(pair.client, SSL_KEY_UPDATE_REQUESTED), 1);
        talk(&pair);
        assert_int_equal(transport_shutdown(&pair.server), STATUS_OK);
        pair_close(&pair);
    }
}

/* What the client exports by itself is what we have, settled or not, and no other connection's. */
static void both_ends_have_the_same_channel_binding(void **state)
{
    (void)state;
    static const char label[] = "EXPORTER-Channel-Binding";
    uint8_t ours[TRANSPORT_BINDING_SIZE], settled[sizeof ours], theirs[sizeof ours], last[sizeof ours] = {0};
    for (size_t i = 0; i < 3; i++) {
        struct pair pair;
        pair_open(&pair, server_context, versions[i > 0], NULL);
        assert_false(transport_binding(&pair.server, ours));
        assert_int_equal(pair_handshake(&pair), STATUS_OK);
        bool there = transport_binding(&pair.server, ours);
        assert_int_equal(there, i > 0);
        transport_settle(&pair.server);
        assert_int_equal(transport_binding(&pair.server, settled), there);
        SSL_do_handshake(pair.client);
        if (there) {
            assert_int_equal(SSL_export_keying_material(pair.client, theirs, sizeof theirs, label,
                                 sizeof label - 1, (const uint8_t *)"", 0, 1),
                1);
            assert_memory_equal(ours, theirs, sizeof ours);
            assert_memory_equal(settled, theirs, sizeof ours);
            assert_memory_not_equal(ours, last, sizeof ours);
            memcpy(last, ours, sizeof last);
        }
        pair_close(&pair);
    }
    int fds[2];
    struct transport plain;
    fixture_tcp_pair(fds);
    transport_init_plain(&plain, fds[0]);
    assert_false(transport_binding(&plain, ours));
    transport_done(&plain);
    close(fds[1]);
}

static void plain_bytes(void **state)
{
    (void)state;
    int fds[2];
    struct transport server;
    struct tls_failure failure;
    size_t size = 0;
    fixture_tcp_pair(fds);
    transport_init_plain(&server, fds[0]);
    assert_int_equal(transport_handshake(&server, &failure), STATUS_OK);
    assert_int_equal(transport_read(&server, input, sizeof input, &size), STATUS_AGAIN);
    assert_int_equal(send(fds[1], "abc", 3, 0), 3);
    assert_int_equal(transport_read(&server, input, sizeof input, &size), STATUS_OK);
    assert_int_equal(size, 3);
    static uint8_t data[8000000];
    assert_int_equal(transport_write(&server, data, sizeof data, &size), STATUS_OK);
    assert_true(size < sizeof data);
    assert_int_equal(transport_write(&server, data, sizeof data, &size), STATUS_OK);
    assert_int_equal(size, 0);
    assert_false(transport_wants_write(&server));
    assert_int_equal(transport_flush(&server), STATUS_OK);
    assert_int_equal(transport_shutdown(&server), STATUS_OK);
    close(fds[1]);
    transport_done(&server);
}

static void plain_ends(void **state)
{
    (void)state;
    int fds[2];
    struct transport server;
    size_t size;
    fixture_tcp_pair(fds);
    transport_init_plain(&server, fds[0]);
    close(fds[1]);
    struct pollfd waiting = {.fd = fds[0], .events = POLLIN};
    poll(&waiting, 1, 1000);
    assert_int_equal(transport_read(&server, input, sizeof input, &size), STATUS_CLOSED);
    assert_int_equal(transport_write(&server, input, 10, &size), STATUS_OK);
    poll(&waiting, 1, 1000);
    enum status status = transport_write(&server, input, 10, &size);
    assert_int_equal(status, STATUS_SYSTEM);
    struct tls_failure failure;
    transport_failure(&server, &failure);
    assert_int_equal(failure.cause, TLS_FAILURE_SYSTEM);
    assert_string_not_equal(failure.detail, "");
    transport_done(&server);
}

static int set_up(void **state)
{
    (void)state;
    authority = fixture_issue((struct fixture_wish){.cn = "Test CA", .ca = true});
    server_identity = fixture_issue((struct fixture_wish){.cn = "localhost", .issuer = &authority});
    client_identity = fixture_issue((struct fixture_wish){.cn = "client", .issuer = &authority});
    struct bytes authorities = fixture_pem(authority.certificate, NULL, NULL);
    server_context = fixture_context(&server_identity, (struct tls_settings){.tickets = fixture_tickets()});
    strict_context = fixture_context(&server_identity, (struct tls_settings){.tickets = fixture_tickets(),
                                                           .authorities = authorities,
                                                           .verify_peer = true,
                                                           .fail_if_no_peer_cert = true});
    free((void *)(uintptr_t)authorities.data);
    return transport_scratch_new(&scratch) == STATUS_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    transport_scratch_free(&scratch);
    SSL_CTX_free(server_context);
    SSL_CTX_free(strict_context);
    fixture_done(&authority);
    fixture_done(&server_identity);
    fixture_done(&client_identity);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_versions_talk),
        cmocka_unit_test(first_packet_comes_with_the_handshake),
        cmocka_unit_test(a_flood_behind_the_handshake),
        cmocka_unit_test(pieces_of_a_record_stay_with_their_connection),
        cmocka_unit_test(all_arrives_at_a_slow_reader),
        cmocka_unit_test(a_handshake_through_a_narrow_socket),
        cmocka_unit_test(pieces_are_written_as_one),
        cmocka_unit_test(close_notify_comes_after_the_bytes_before_it),
        cmocka_unit_test(end_of_stream_without_goodbye),
        cmocka_unit_test(reset_is_a_system_failure),
        cmocka_unit_test(garbage_after_the_handshake),
        cmocka_unit_test(key_updates_are_answered),
        cmocka_unit_test(a_storm_of_key_updates_is_bounded),
        cmocka_unit_test(renegotiation_is_refused),
        cmocka_unit_test(old_suites_are_checked_after_settling),
        cmocka_unit_test(short_records_stay_short),
        cmocka_unit_test(what_is_not_tls_is_named),
        cmocka_unit_test(a_client_that_leaves_early),
        cmocka_unit_test(a_client_without_certificate_learns_why),
        cmocka_unit_test(a_client_with_certificate_gets_in),
        cmocka_unit_test(both_ends_have_the_same_channel_binding),
        cmocka_unit_test(plain_bytes),
        cmocka_unit_test(plain_ends),
    };
    return cmocka_run_group_tests_name("transport", tests, set_up, tear_down);
}
