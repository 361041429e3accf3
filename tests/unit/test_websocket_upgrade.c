/*
 * The opening handshake of WebSocket: what is accepted and what with which status refused, wherever the
 * request is cut, and never a byte read behind it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shared/websocket_upgrade.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define HEAD "GET /mqtt HTTP/1.1\r\nHost: broker\r\n"
#define REST "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" KEY
#define MQTT "Sec-WebSocket-Protocol: mqtt\r\n"
#define GOOD HEAD REST MQTT "\r\n"

static const struct websocket_rules open_rules = {.path = "/mqtt"};
static const char *const origins[] = {"https://example.com", "null"};
static const struct websocket_rules strict_rules = {.path = "/mqtt", .origins = origins, .origin_count = 2};

/* Parses a copy of exactly that size, so that the sanitizer sees every read behind it. */
static enum status parse(const char *text, size_t size, const struct websocket_rules *rules,
    struct websocket_upgrade *upgrade, struct websocket_refusal *refusal)
{
    char *copy = malloc(size > 0 ? size : 1);
    memcpy(copy, text, size);
    enum status status = websocket_upgrade_parse(bytes_of(copy, size), rules, upgrade, refusal);
    free(copy);
    return status;
}

static const char *accepted(const char *text, const struct websocket_rules *rules)
{
    struct websocket_upgrade upgrade = {0};
    struct websocket_refusal refusal = {0, "nothing"};
    if (parse(text, strlen(text), rules, &upgrade, &refusal) != STATUS_OK)
        fail_msg("refused: %u %s\n%s", refusal.http_status, refusal.text, text);
    assert_int_equal(upgrade.size, strlen(text));
    return upgrade.protocol;
}

static void refused(const char *text, const struct websocket_rules *rules, unsigned http_status)
{
    struct websocket_upgrade upgrade;
    struct websocket_refusal refusal = {0, NULL};
    char answer[WEBSOCKET_ANSWER_MAX];
    if (parse(text, strlen(text), rules, &upgrade, &refusal) != STATUS_REFUSED)
        fail_msg("not refused:\n%s", text);
    if (refusal.http_status != http_status)
        fail_msg("%u %s instead of %u:\n%s", refusal.http_status, refusal.text, http_status, text);
    assert_non_null(refusal.text);
    size_t size = websocket_upgrade_refuse(&refusal, answer);
    assert_true(size < sizeof answer);
    assert_int_equal(size > 0, http_status > 0);
}

static void the_example_of_the_rfc_is_answered(void **state)
{
    (void)state;
    struct websocket_upgrade upgrade;
    struct websocket_refusal refusal;
    char answer[WEBSOCKET_ANSWER_MAX];
    assert_int_equal(parse(GOOD "frames", strlen(GOOD "frames"), &open_rules, &upgrade, &refusal), STATUS_OK);
    assert_int_equal(upgrade.size, strlen(GOOD));
    size_t size = websocket_upgrade_answer(&upgrade, answer);
    const char *expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                           "Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    assert_int_equal(size, strlen(expected));
    assert_memory_equal(answer, expected, size);
}

static void a_request_may_come_in_any_pieces(void **state)
{
    (void)state;
    struct websocket_upgrade upgrade;
    struct websocket_refusal refusal;
    for (size_t size = 0; size < strlen(GOOD); size++)
        assert_int_equal(parse(GOOD, size, &open_rules, &upgrade, &refusal), STATUS_AGAIN);
}

static void what_clients_really_send_is_accepted(void **state)
{
    (void)state;
    assert_string_equal(accepted(GOOD, &open_rules), "mqtt");
    assert_string_equal(
        accepted(HEAD REST "Sec-WebSocket-Protocol: mqttv3.1\r\n\r\n", &open_rules), "mqttv3.1");
    assert_string_equal(
        accepted(HEAD REST "Sec-WebSocket-Protocol: foo ,mqttv3.1,\tmqtt\r\n\r\n", &open_rules), "mqtt");
    assert_string_equal(
        accepted(HEAD REST "Sec-WebSocket-Protocol: mqttv3.1\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
            &open_rules),
        "mqtt");
    /* Firefox: a list in Connection, an extension, a query. */
    accepted(
        "GET /mqtt?token=a%20b HTTP/1.1\r\nHost: broker:8083\r\nconnection: keep-alive, Upgrade\r\n"
        "UPGRADE: WebSocket\r\nsec-websocket-version:13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
        "Cookie: a=\xc3\xa4\r\nPragma:\r\nContent-Length: 0\r\n" KEY MQTT "\r\n",
        &open_rules);
    accepted("GET http://broker/mqtt HTTP/1.1\r\nHost: broker\r\n" REST MQTT "\r\n", &open_rules);
}

static void origins_are_checked_when_listed(void **state)
{
    (void)state;
    accepted(GOOD, &strict_rules); /* no browser */
    accepted(HEAD REST MQTT "Origin: https://example.com\r\n\r\n", &strict_rules);
    accepted(HEAD REST MQTT "Origin: HTTPS://Example.COM\r\n\r\n", &strict_rules);
    accepted(HEAD REST MQTT "Origin: null\r\n\r\n", &strict_rules);
    accepted(HEAD REST MQTT "Origin: https://evil.example\r\n\r\n", &open_rules);
    refused(HEAD REST MQTT "Origin: https://evil.example\r\n\r\n", &strict_rules, 403);
    refused(HEAD REST MQTT "Origin: https://example.com.evil.example\r\n\r\n", &strict_rules, 403);
    refused(HEAD REST MQTT "Origin: http://example.com\r\n\r\n", &strict_rules, 403);
    refused(HEAD REST MQTT "Origin:\r\n\r\n", &strict_rules, 403);
    refused(HEAD REST MQTT "Origin: null\r\nOrigin: null\r\n\r\n", &strict_rules, 400);
}

static void other_requests_are_refused_with_their_status(void **state)
{
    (void)state;
    const struct websocket_rules *rules = &open_rules;
    refused("POST /mqtt HTTP/1.1\r\nHost: b\r\n" REST MQTT "\r\n", rules, 405);
    refused("get /mqtt HTTP/1.1\r\nHost: b\r\n" REST MQTT "\r\n", rules, 0);
    refused("GET /other HTTP/1.1\r\nHost: b\r\n" REST MQTT "\r\n", rules, 404);
    refused("GET /mqtt/ HTTP/1.1\r\nHost: b\r\n" REST MQTT "\r\n", rules, 404);
    refused("GET http://broker HTTP/1.1\r\nHost: b\r\n" REST MQTT "\r\n", rules, 404);
    refused("GET /mqtt HTTP/1.0\r\nHost: b\r\n" REST MQTT "\r\n", rules, 505);
    refused("GET /mqtt\r\nHost: b\r\n" REST MQTT "\r\n", rules, 400);
    refused("GET  /mqtt HTTP/1.1\r\nHost: b\r\n" REST MQTT "\r\n", rules, 400);
    refused("GET /mqtt HTTP/1.1 \r\nHost: b\r\n" REST MQTT "\r\n", rules, 400);
    refused("GET /mqtt HTTP/1.1\r\n" REST MQTT "\r\n", rules, 400);
    refused(HEAD "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" KEY MQTT "\r\n", rules, 426);
    refused("GET /mqtt HTTP/1.1\r\nHost: b\r\n\r\n", rules, 426);
    refused(HEAD "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" KEY MQTT "\r\n", rules, 400);
    refused(HEAD "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n" KEY MQTT "\r\n",
        rules, 426);
    refused(HEAD "Upgrade: websocket\r\nConnection: Upgrade\r\n" KEY MQTT "\r\n", rules, 400);
    refused(HEAD "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" MQTT "\r\n",
        rules, 400);
    refused(HEAD "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                 "Sec-WebSocket-Key: short==\r\n" MQTT "\r\n",
        rules, 400);
    refused(HEAD "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                 "Sec-WebSocket-Key: dGhlIHNhbX*sZSBub25jZQ==\r\n" MQTT "\r\n",
        rules, 400);
    refused(HEAD REST "\r\n", rules, 400);
    refused(HEAD REST "Sec-WebSocket-Protocol: MQTT, mqttv3\r\n\r\n", rules, 400);
    refused(HEAD REST "Sec-WebSocket-Protocol:\r\n\r\n", rules, 400);
    refused(HEAD REST MQTT "Content-Length: 5\r\n\r\n", rules, 400);
    refused(HEAD REST MQTT "Transfer-Encoding: chunked\r\n\r\n", rules, 400);
}

static void malformed_headers_are_refused(void **state)
{
    (void)state;
    const struct websocket_rules *rules = &open_rules;
    refused(HEAD "Host: b\r\n" REST MQTT "\r\n", rules, 400);
    refused(HEAD REST KEY MQTT "\r\n", rules, 400);
    refused(HEAD REST MQTT "X : y\r\n\r\n", rules, 400);
    refused(HEAD REST MQTT ": y\r\n\r\n", rules, 400);
    refused(HEAD REST MQTT "no colon\r\n\r\n", rules, 400);
    refused(HEAD REST MQTT "X: y\r\n folded\r\n\r\n", rules, 400);
    refused(HEAD REST MQTT "X: y\nZ: w\r\n\r\n", rules, 400);
    refused(HEAD REST MQTT "X: y\rZ: w\r\n\r\n", rules, 400);
    refused(HEAD REST MQTT "X: a\x01\r\n\r\n", rules, 400);
    refused(HEAD REST MQTT "X: a\x7f\r\n\r\n", rules, 400);
}

static void other_protocols_are_told_at_their_first_byte(void **state)
{
    (void)state;
    refused("\x10", &open_rules, 0);
    refused("\x16\x03\x01", &open_rules, 0);
    refused("\x80", &open_rules, 0);
    refused("GET /mqtt\x02", &open_rules, 400);
}

static void a_long_header_is_refused(void **state)
{
    (void)state;
    struct websocket_upgrade upgrade;
    struct websocket_refusal refusal = {0};
    char text[WEBSOCKET_UPGRADE_MAX + 1];
    int used = snprintf(text, sizeof text, "%s", HEAD REST MQTT "X: ");
    memset(text + used, 'x', sizeof text - (size_t)used);
    assert_int_equal(parse(text, WEBSOCKET_UPGRADE_MAX - 1, &open_rules, &upgrade, &refusal), STATUS_AGAIN);
    assert_int_equal(parse(text, WEBSOCKET_UPGRADE_MAX, &open_rules, &upgrade, &refusal), STATUS_REFUSED);
    assert_int_equal(refusal.http_status, 431);
    memcpy(text + WEBSOCKET_UPGRADE_MAX - 4, "\r\n\r\n", 4);
    assert_int_equal(parse(text, WEBSOCKET_UPGRADE_MAX, &open_rules, &upgrade, &refusal), STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_the_rfc_is_answered),
        cmocka_unit_test(a_request_may_come_in_any_pieces),
        cmocka_unit_test(what_clients_really_send_is_accepted),
        cmocka_unit_test(origins_are_checked_when_listed),
        cmocka_unit_test(other_requests_are_refused_with_their_status),
        cmocka_unit_test(malformed_headers_are_refused),
        cmocka_unit_test(other_protocols_are_told_at_their_first_byte),
        cmocka_unit_test(a_long_header_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
