/* PROXY protocol headers: both versions, wherever they are cut, and everything that makes one doubtful. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shared/crc32c.h"
#include "shared/proxy_protocol.h"
#include "tests/unit/hex.h"

#include <stdio.h>

#define SIGNATURE "0d0a0d0a000d0a515549540a"
#define TCP4      "c0000201 7f000001 3039 075b" /* 192.0.2.1:12345 */
/* TLS, a certificate in this connection, verified; version and common name */
#define TLS(client, verified) "20 0017" client verified "21 0007 'TLSv1.3' 22 0005 'alice'"

static void accepted(const char *hex, size_t behind, const char *address, const char *name)
{
    struct bytes input = hex_bytes(hex);
    struct proxy_header header = {0};
    const char *error = "nothing";
    char text[PEER_TEXT_SIZE];
    if (proxy_protocol_parse(input, &header, &error) != STATUS_OK)
        fail_msg("%s: %s", error, hex);
    assert_int_equal(header.size, input.size - behind);
    assert_string_equal(peer_address_text(&header.address, text), address);
    assert_int_equal(header.common_name.size, strlen(name));
    assert_memory_equal(header.common_name.data, name, strlen(name));
    for (size_t size = 0; size < header.size; size++) {
        uint8_t *part = malloc(size > 0 ? size : 1);
        memcpy(part, input.data, size);
        assert_int_equal(proxy_protocol_parse(bytes_of(part, size), &header, &error), STATUS_AGAIN);
        free(part);
    }
    hex_free(input);
}

static void refused(const char *hex, const char *why)
{
    struct bytes input = hex_bytes(hex);
    struct proxy_header header;
    const char *error = "nothing";
    enum status status = proxy_protocol_parse(input, &header, &error);
    assert_true(status == STATUS_PROTOCOL || status == STATUS_LIMIT);
    if (strstr(error, why) == NULL)
        fail_msg("«%s» instead of «%s»: %s", error, why, hex);
    hex_free(input);
}

#define UNKNOWN "unknown address"

static void version_1_announces_the_client(void **state)
{
    (void)state;
    accepted("'PROXY TCP4 192.0.2.1 127.0.0.1 12345 1883' 0d0a 100c", 2, "192.0.2.1:12345", "");
    accepted("'PROXY TCP6 2001:db8::1 ::1 1 65535' 0d0a", 0, "[2001:db8::1]:1", "");
    accepted("'PROXY TCP6 ::ffff:192.0.2.1 ::1 0 1' 0d0a", 0, "192.0.2.1:0", "");
    accepted("'PROXY UNKNOWN' 0d0a", 0, UNKNOWN, "");
    accepted("'PROXY UNKNOWN ffff:f...f:ffff anything 65535' 0d0a", 0, UNKNOWN, "");
}

static void version_1_is_strict(void **state)
{
    (void)state;
    static const char *const lines[] = {"PROXY TCP4 192.0.2.1 127.0.0.1 12345",
        "PROXY TCP4 192.0.2.1 127.0.0.1 12345 1 2", "PROXY TCP4  192.0.2.1 127.0.0.1 1 2",
        "PROXY TCP4 192.0.2.1 127.0.0.1 1 2 ", "PROXY TCP4 192.0.2 127.0.0.1 1 2",
        "PROXY TCP4 192.0.2.1 ::1 1 2", "PROXY TCP6 192.0.2.1 ::1 1 2",
        "PROXY TCP4 192.0.2.1 127.0.0.1 65536 2", "PROXY TCP4 192.0.2.1 127.0.0.1 +1 2",
        "PROXY TCP4 192.0.2.1 127.0.0.1 01 2", "PROXY UDP4 192.0.2.1 127.0.0.1 1 2", "PROXY UNKNOWNS",
        "PROXY "};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char hex[200];
        snprintf(hex, sizeof hex, "'%s' 0d0a", lines[i]);
        refused(hex, "malformed PROXY line");
    }
    refused("'PROXY TCP4 192.0.2.1 127.0.0.1 1 2' 0a", "malformed PROXY line");
    refused("'PROXY UNKNOWN ' 00 0d0a", "malformed PROXY line");
    char hex[400];
    snprintf(hex, sizeof hex, "'PROXY UNKNOWN %0100d' 0d0a", 0);
    refused(hex, "without end");
}

static void version_2_announces_the_client(void **state)
{
    (void)state;
    accepted(SIGNATURE "21 11 000c" TCP4 "10", 1, "192.0.2.1:12345", "");
    accepted(SIGNATURE
        "21 21 0024 20010db8000000000000000000000001 00000000000000000000000000000001 0001 0002",
        0, "[2001:db8::1]:1", "");
    accepted(SIGNATURE
        "21 21 0024 00000000000000000000ffffc0000201 00000000000000000000000000000001 0001 0002",
        0, "192.0.2.1:1", "");
    accepted(SIGNATURE "20 00 0000", 0, UNKNOWN, "");
    accepted(SIGNATURE "20 11 000c" TCP4, 0, UNKNOWN, "");
    accepted(SIGNATURE "20 77 0003 ffffff", 0, UNKNOWN, "");
    accepted(SIGNATURE "21 00 0000", 0, UNKNOWN, "");
    accepted(SIGNATURE "21 12 000c" TCP4, 0, UNKNOWN, ""); /* UDP: not this connection's address */
    accepted(SIGNATURE "21 11 0013" TCP4 "04 0001 00 ea 0000", 0, "192.0.2.1:12345", "");
}

static void the_common_name_counts_if_it_was_verified(void **state)
{
    (void)state;
    accepted(SIGNATURE "21 11 0026" TCP4 TLS("03", "00000000"), 0, "192.0.2.1:12345", "alice");
    accepted(SIGNATURE "21 11 0026" TCP4 TLS("05", "00000000"), 0, "192.0.2.1:12345", "alice");
    accepted(SIGNATURE "21 11 0026" TCP4 TLS("01", "00000000"), 0, "192.0.2.1:12345", "");
    accepted(SIGNATURE "21 11 0026" TCP4 TLS("06", "00000000"), 0, "192.0.2.1:12345", "");
    accepted(SIGNATURE "21 11 0026" TCP4 TLS("03", "00000001"), 0, "192.0.2.1:12345", "");
    accepted(SIGNATURE "20 11 0026" TCP4 TLS("03", "00000000"), 0, UNKNOWN, "");
    accepted(SIGNATURE "21 00 001a" TLS("03", "00000000"), 0, UNKNOWN, "alice");
}

static void version_2_is_strict(void **state)
{
    (void)state;
    refused(SIGNATURE "11 11 000c" TCP4, "unknown version or command");
    refused(SIGNATURE "22 11 000c" TCP4, "unknown version or command");
    refused(SIGNATURE "21 41 000c" TCP4, "unknown address family");
    refused(SIGNATURE "21 13 000c" TCP4, "unknown address family");
    refused(SIGNATURE "21 11 000b c0000201 7f000001 3039 07", "too short");
    refused(SIGNATURE "21 21 000c" TCP4, "too short");
    refused(SIGNATURE "21 11 000d" TCP4 "04", "malformed extension");
    refused(SIGNATURE "21 11 0010" TCP4 "04 0002 00", "malformed extension");
    refused(SIGNATURE "21 11 0013" TCP4 "20 0004 01 000000", "malformed TLS");
    refused(SIGNATURE "21 11 0017" TCP4 "20 0008 01 00000000 22 0001", "malformed TLS");
    refused(SIGNATURE "21 11 001c" TCP4 "20 0005 01 00000000 20 0005 01 00000000", "malformed TLS");
    refused(SIGNATURE "21 11 2000" TCP4, "more than 8 KiB");
    refused("0d0a0d0a000d0a515549540b", "no PROXY header");
    refused("10", "no PROXY header");
    refused("16 03 01", "no PROXY header");
    refused("'GET / HTTP/1.1'", "no PROXY header");
}

static void a_checksum_must_hold(void **state)
{
    (void)state;
    struct bytes header = hex_bytes(SIGNATURE "21 11 0017" TCP4 "03 0004 00000000 04 0001 00");
    char hex[200] = "";
    uint32_t sum = crc32c(0, header.data, header.size);
    snprintf(hex, sizeof hex, SIGNATURE "21 11 0017" TCP4 "03 0004 %08x 04 0001 00", sum);
    accepted(hex, 0, "192.0.2.1:12345", "");
    snprintf(hex, sizeof hex, SIGNATURE "21 11 0017" TCP4 "03 0004 %08x 04 0001 00", sum ^ 1);
    refused(hex, "wrong checksum");
    refused(SIGNATURE "21 11 0012" TCP4 "03 0003 000000", "wrong checksum");
    hex_free(header);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_1_announces_the_client),
        cmocka_unit_test(version_1_is_strict),
        cmocka_unit_test(version_2_announces_the_client),
        cmocka_unit_test(the_common_name_counts_if_it_was_verified),
        cmocka_unit_test(version_2_is_strict),
        cmocka_unit_test(a_checksum_must_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
