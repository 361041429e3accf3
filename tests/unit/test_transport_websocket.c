/*
 * WebSocket over a plain socket and over TLS: the opening request in pieces, frames both ways, a kernel that
 * takes only a part, and how it ends.
 */
#include "shared/transport_websocket.h"

#include "tests/unit/tls_fixture.h"
#include "tests/unit/websocket_client.h"

#include <poll.h>

#define REQUEST                                                                                              \
    "GET /mqtt HTTP/1.1\r\nHost: b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "  \
    "13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
#define LIMIT 100000

static const struct websocket_settings settings = {.rules = {.path = "/mqtt"}, .max_message_size = LIMIT};
static struct fixture_identity identity;
static SSL_CTX *server_context;
static struct transport_scratch *scratch;
static struct websocket_frames *frames;
static uint8_t input[TRANSPORT_READ_BEST];

struct pair {
    struct transport server;
    int client_fd;
    SSL *client; /* NULL: plain */
    SSL_CTX *client_context;
    struct tls_failure failure;
    uint8_t *got; /* what the client has received, headers and all */
    size_t got_size;
};

static void pair_open(struct pair *pair, bool tls)
{
    int fds[2];
    *pair = (struct pair){.got = calloc(1, 1 << 24)};
    fixture_tcp_pair(fds);
    pair->client_fd = fds[1];
    if (!tls) {
        transport_init_plain(&pair->server, fds[0]);
    } else {
        assert_int_equal(transport_init_tls(&pair->server, fds[0], server_context, scratch), STATUS_OK);
        pair->client_context = fixture_client_context(TLS1_3_VERSION, NULL);
        pair->client = SSL_new(pair->client_context);
        SSL_set_fd(pair->client, fds[1]);
        SSL_set_connect_state(pair->client);
    }
    assert_false(tls != transport_has_handshake(&pair->server));
    assert_int_equal(transport_add_websocket(&pair->server, &settings, frames), STATUS_OK);
    assert_true(transport_has_handshake(&pair->server));
}

static void pair_close(struct pair *pair)
{
    SSL_free(pair->client);
    SSL_CTX_free(pair->client_context);
    close(pair->client_fd);
    transport_done(&pair->server);
    free(pair->got);
}

static void client_sends(struct pair *pair, const void *data, size_t size)
{
    if (pair->client)
        assert_int_equal(SSL_write(pair->client, data, (int)size), (int)size);
    else
        assert_int_equal(send(pair->client_fd, data, size, MSG_NOSIGNAL), (ssize_t)size);
}

/* Receives what is there. */
static void client_receives(struct pair *pair)
{
    for (;;) {
        uint8_t *to = pair->got + pair->got_size;
        ssize_t got = pair->client ? SSL_read(pair->client, to, 65536) : recv(pair->client_fd, to, 65536, 0);
        if (got <= 0)
            break;
        pair->got_size += (size_t)got;
    }
    ERR_clear_error();
}

/* Until the client has that many bytes in all. */
static void client_gets(struct pair *pair, size_t size)
{
    for (int turn = 0; turn < 100 && pair->got_size < size; turn++) {
        struct pollfd waiting = {.fd = pair->client_fd, .events = POLLIN};
        client_receives(pair);
        if (pair->got_size < size)
            poll(&waiting, 1, 20);
    }
    assert_true(pair->got_size >= size);
}

static enum status server_shakes_hands(struct pair *pair)
{
    enum status status = STATUS_AGAIN;
    for (int turn = 0; turn < 50 && status == STATUS_AGAIN; turn++) {
        if (pair->client && !SSL_is_init_finished(pair->client))
            SSL_do_handshake(pair->client);
        ERR_clear_error();
        struct pollfd waiting = {.fd = pair->server.fd, .events = POLLIN};
        if (poll(&waiting, 1, 10) > 0 || turn == 0)
            status = transport_handshake(&pair->server, &pair->failure);
        if (pair->client && SSL_is_init_finished(pair->client))
            break;
    }
    return status;
}

static void pair_connect(struct pair *pair, bool tls)
{
    pair_open(pair, tls);
    if (tls)
        assert_int_equal(server_shakes_hands(pair), STATUS_AGAIN);
    client_sends(pair, REQUEST, strlen(REQUEST));
    enum status status = STATUS_AGAIN;
    for (int turn = 0; turn < 10 && status == STATUS_AGAIN; turn++) {
        struct pollfd waiting = {.fd = pair->server.fd, .events = POLLIN};
        poll(&waiting, 1, 100);
        status = transport_handshake(&pair->server, &pair->failure);
    }
    assert_int_equal(status, STATUS_OK);
    transport_settle(&pair->server);
    client_gets(pair, 100);
    assert_memory_equal(pair->got, "HTTP/1.1 101 ", 13);
    assert_memory_equal(pair->got + pair->got_size - 4, "\r\n\r\n", 4);
    pair->got_size = 0;
}

/* The first answer that is not STATUS_AGAIN. */
static enum status server_reads(struct pair *pair, size_t *size)
{
    enum status status = STATUS_AGAIN;
    for (int turn = 0; turn < 10 && status == STATUS_AGAIN; turn++) {
        struct pollfd waiting = {.fd = pair->server.fd, .events = POLLIN};
        poll(&waiting, 1, 100);
        status = transport_read(&pair->server, input, sizeof input, size);
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

static void client_says(struct pair *pair, uint8_t first, const char *payload)
{
    uint8_t frame[300];
    client_sends(pair, frame, put_text_frame(frame, first, payload));
}

static void expect_got(struct pair *pair, const char *bytes, size_t size)
{
    client_gets(pair, size);
    assert_int_equal(pair->got_size, size);
    assert_memory_equal(pair->got, bytes, size);
    pair->got_size = 0;
}

static void both_sides_talk(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct pair pair;
        size_t taken = 0;
        pair_connect(&pair, tls);
        client_says(&pair, 0x82, "question");
        server_gets(&pair, "question");
        client_says(&pair, 0x02, "frag");
        server_gets(&pair, "frag");
        client_says(&pair, 0x89, "hello");
        size_t size;
        struct pollfd waiting = {.fd = pair.server.fd, .events = POLLIN};
        poll(&waiting, 1, 1000);
        assert_int_equal(transport_read(&pair.server, input, sizeof input, &size), STATUS_AGAIN);
        expect_got(&pair, "\x8a\x05hello", 7);
        client_says(&pair, 0x80, "ment");
        server_gets(&pair, "ment");
        /* Three packets in pieces that are cut anywhere: a frame each, in one write. */
        const struct iovec pieces[] = {
            {(void *)"\x90", 1}, {(void *)"", 0}, {(void *)"\x04sub", 4}, {(void *)"a\xd0\0\x40\2id", 7}};
        assert_int_equal(transport_writev(&pair.server, pieces, 4, &taken), STATUS_OK);
        assert_int_equal(taken, 12);
        assert_false(transport_wants_write(&pair.server));
        expect_got(&pair,
            "\x82\x06\x90\x04suba"
            "\x82\x02\xd0\0"
            "\x82\x04\x40\2id",
            18);
        pair_close(&pair);
    }
}

static void the_request_may_come_in_pieces_and_with_frames_behind(void **state)
{
    (void)state;
    struct pair pair;
    uint8_t frame[100];
    pair_open(&pair, false);
    for (size_t i = 0; i + 1 < strlen(REQUEST); i++) {
        client_sends(&pair, REQUEST + i, 1);
        struct pollfd waiting = {.fd = pair.server.fd, .events = POLLIN};
        assert_int_equal(poll(&waiting, 1, 1000), 1);
        assert_int_equal(transport_handshake(&pair.server, &pair.failure), STATUS_AGAIN);
    }
    size_t size = put_text_frame(frame + 1, 0x82, "early");
    frame[0] = '\n';
    client_sends(&pair, frame, 1 + size);
    assert_int_equal(server_shakes_hands(&pair), STATUS_OK);
    size_t got = 0;
    assert_int_equal(transport_read(&pair.server, input, sizeof input, &got), STATUS_OK);
    assert_int_equal(got, 5);
    assert_memory_equal(input, "early", 5);
    assert_int_equal(transport_read(&pair.server, input, sizeof input, &got), STATUS_AGAIN);
    pair_close(&pair);
}

static void other_requests_get_their_answer(void **state)
{
    (void)state;
    static const struct {
        const char *request, *answer, *detail;
    } cases[] = {
        {"GET /other HTTP/1.1\r\nHost: b\r\n\r\n", "HTTP/1.1 404 Not Found\r\n", "404"},
        {"GET /mqtt HTTP/1.1\r\nHost: b\r\n\r\n", "HTTP/1.1 426 Upgrade Required\r\n", "426"},
        {"\x10\x0c", "", "MQTT without WebSocket"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pair pair;
        pair_open(&pair, false);
        client_sends(&pair, cases[i].request, strlen(cases[i].request));
        assert_int_equal(server_shakes_hands(&pair), STATUS_PROTOCOL);
        assert_int_equal(pair.failure.cause, TLS_FAILURE_UPGRADE);
        assert_non_null(strstr(pair.failure.detail, cases[i].detail));
        assert_int_equal(transport_shutdown(&pair.server), STATUS_OK);
        client_gets(&pair, strlen(cases[i].answer));
        assert_memory_equal(pair.got, cases[i].answer, strlen(cases[i].answer));
        pair_close(&pair);
    }
    struct pair pair;
    pair_open(&pair, false);
    client_sends(&pair, "GET", 3);
    assert_int_equal(server_shakes_hands(&pair), STATUS_AGAIN);
    shutdown(pair.client_fd, SHUT_WR);
    assert_int_equal(server_shakes_hands(&pair), STATUS_CLOSED);
    assert_int_equal(pair.failure.cause, TLS_FAILURE_CLIENT_GONE);
    pair_close(&pair);
}

/* Takes the payload out of binary frames; other kinds are copied to `controls`. */
static size_t unframe(const uint8_t *from, size_t size, uint8_t *to, char *controls)
{
    size_t at = 0, out = 0;
    while (at < size) {
        uint8_t first = from[at];
        size_t length = from[at + 1];
        at += 2;
        if (length == 126) {
            length = get_u16_be(from + at);
            at += 2;
        } else if (length == 127) {
            length = get_u32_be(from + at + 4);
            at += 8;
        }
        assert_true(at + length <= size);
        if (first == 0x82) {
            memcpy(to + out, from + at, length);
            out += length;
        } else {
            sprintf(controls + strlen(controls), "%02x:%.*s ", first, (int)length, (const char *)from + at);
        }
        at += length;
    }
    return out;
}

#define LARGE ((size_t)6 << 20)

/* MQTT packets of a few bytes up to 300 KiB. */
static void put_packets(uint8_t *to, size_t size)
{
    static const size_t lengths[] = {0, 7, 127, 128, 5000, 16000, 16383, 16384, 20000, 300000};
    size_t at = 0;
    for (size_t number = 0; at < size; number++) {
        size_t length = lengths[number % (sizeof lengths / sizeof lengths[0])], left = size - at;
        if (left < length + 4 + 2 + 127) /* the last one fills it up */
            length = left <= 2 + 127 ? left - 2 : left - 4 < 16384 ? left - 3 : left - 4;
        to[at++] = 0x30;
        size_t rest = length;
        do {
            to[at++] = (uint8_t)((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
            rest >>= 7;
        } while (rest > 0);
        for (size_t i = 0; i < length; i++, at++)
            to[at] = (uint8_t)(at * 31 >> 3);
    }
    assert_int_equal(at, size);
}

/* The server writes more than the kernel takes, while the client pings and reads nothing; then it reads. */
static void a_slow_client_gets_everything_in_order(void **state)
{
    (void)state;
    static uint8_t sent[LARGE], received[LARGE];
    put_packets(sent, LARGE);
    for (int tls = 0; tls < 2; tls++) {
        struct pair pair;
        char controls[500] = "";
        size_t at = 0, size;
        int full = 0;
        pair_connect(&pair, tls);
        const int small = 65536;
        setsockopt(pair.server.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
        setsockopt(pair.client_fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        while (at < LARGE) {
            size_t part = LARGE - at < 700000 ? LARGE - at : 700000, taken = 0;
            const struct iovec pieces[] = {{sent + at, part / 3}, {sent + at + part / 3, part - part / 3}};
            assert_int_equal(transport_writev(&pair.server, pieces, 2, &taken), STATUS_OK);
            at += taken;
            if (taken == part)
                continue;
            if (full++ % 4 == 0) {
                client_says(&pair, 0x89, "p");
                struct pollfd waiting = {.fd = pair.server.fd, .events = POLLIN};
                poll(&waiting, 1, 100);
                assert_int_equal(transport_read(&pair.server, input, sizeof input, &size), STATUS_AGAIN);
            }
            client_receives(&pair);
        }
        assert_true(full > 1);
        enum status status = transport_shutdown(&pair.server);
        for (int turn = 0; turn < 100 && status == STATUS_AGAIN; turn++) {
            client_receives(&pair);
            status = transport_shutdown(&pair.server);
        }
        assert_int_equal(status, STATUS_OK);
        assert_int_equal(transport_write(&pair.server, sent, 1, &size), STATUS_CLOSED);
        for (int turn = 0; turn < 100; turn++) {
            struct pollfd waiting = {.fd = pair.client_fd, .events = POLLIN};
            poll(&waiting, 1, 10);
            client_receives(&pair);
            if (memcmp(pair.got + pair.got_size - 4, "\x88\x02\x03\xe8", 4) == 0)
                break;
        }
        assert_int_equal(unframe(pair.got, pair.got_size, received, controls), LARGE);
        assert_memory_equal(sent, received, LARGE);
        assert_non_null(strstr(controls, "8a:p "));
        pair_close(&pair);
    }
}

static void breaches_close_with_their_code(void **state)
{
    (void)state;
    static const struct {
        uint8_t first;
        const char *close;
    } cases[] = {{0x81, "\x88\x02\x03\xeb"}, {0xc2, "\x88\x02\x03\xea"}};
    for (size_t i = 0; i < 2; i++) {
        struct pair pair;
        size_t size = 0;
        struct tls_failure failure;
        pair_connect(&pair, false);
        client_says(&pair, cases[i].first, "x");
        assert_int_equal(server_reads(&pair, &size), STATUS_PROTOCOL);
        transport_failure(&pair.server, &failure);
        assert_int_equal(failure.cause, TLS_FAILURE_WEBSOCKET);
        assert_true(failure.detail[0] != '\0');
        assert_int_equal(transport_shutdown(&pair.server), STATUS_OK);
        expect_got(&pair, cases[i].close, 4);
        pair_close(&pair);
    }
    static uint8_t frame[LIMIT + 100], payload[LIMIT + 1];
    struct pair pair;
    size_t size = 0;
    pair_connect(&pair, false);
    (void)put_frame(frame, (struct frame_wish){.first = 0x82, .payload = payload, .size = sizeof payload});
    client_sends(&pair, frame, 1000);
    assert_int_equal(server_reads(&pair, &size), STATUS_PROTOCOL);
    assert_int_equal(transport_shutdown(&pair.server), STATUS_OK);
    expect_got(&pair, "\x88\x02\x03\xf1", 4);
    pair_close(&pair);
}

static void the_clients_close_is_answered(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct pair pair;
        size_t size = 0;
        uint8_t both[100];
        pair_connect(&pair, tls);
        size_t at = put_text_frame(both, 0x82, "last");
        at += put_text_frame(both + at, 0x88, "\x03\xe9 bye");
        client_sends(&pair, both, at);
        server_gets(&pair, "last");
        expect_got(&pair, "\x88\x02\x03\xe9", 4);
        assert_int_equal(server_reads(&pair, &size), STATUS_CLOSED);
        assert_int_equal(transport_write(&pair.server, both, 1, &size), STATUS_CLOSED);
        assert_int_equal(transport_shutdown(&pair.server), STATUS_OK);
        client_receives(&pair);
        assert_int_equal(pair.got_size, 0); /* no second close */
        pair_close(&pair);
    }
}

static int set_up(void **state)
{
    (void)state;
    identity = fixture_issue((struct fixture_wish){.cn = "server"});
    server_context = fixture_context(&identity, (struct tls_settings){.alpn_http = true});
    return transport_scratch_new(&scratch) == STATUS_OK && websocket_frames_new(&frames) == STATUS_OK ? 0
                                                                                                      : -1;
}

static int tear_down(void **state)
{
    (void)state;
    websocket_frames_free(&frames);
    SSL_CTX_free(server_context);
    transport_scratch_free(&scratch);
    fixture_done(&identity);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_sides_talk),
        cmocka_unit_test(the_request_may_come_in_pieces_and_with_frames_behind),
        cmocka_unit_test(other_requests_get_their_answer),
        cmocka_unit_test(a_slow_client_gets_everything_in_order),
        cmocka_unit_test(breaches_close_with_their_code),
        cmocka_unit_test(the_clients_close_is_answered),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
