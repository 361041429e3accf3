/* tls_failure: first bytes are told apart, and every cause has its name and texts. */
#include "shared/tls_failure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static enum tls_failure_cause cause_of(const char *bytes, size_t size)
{
    return tls_failure_first_bytes(bytes_of(bytes, size));
}

static void first_bytes_are_told_apart(void **state)
{
    (void)state;
    assert_int_equal(cause_of("\x16\x03\x01\x02\x00\x01", 6), TLS_FAILURE_NONE);
    assert_int_equal(cause_of("\x16", 1), TLS_FAILURE_NONE);
    assert_int_equal(cause_of("\x16\x05", 2), TLS_FAILURE_NOT_TLS);
    assert_int_equal(cause_of("\x10\x13\x00\x04MQTT\x05", 9), TLS_FAILURE_PLAIN_MQTT);
    assert_int_equal(cause_of("\x10\x91\x02\x00\x06MQIs", 9), TLS_FAILURE_PLAIN_MQTT);
    assert_int_equal(cause_of("\x10\xff\xff\xff\x7f\x00\x04MQTT", 11), TLS_FAILURE_PLAIN_MQTT);
    assert_int_equal(cause_of("\x10\x13\x00\x04HTTP\x05", 9), TLS_FAILURE_NOT_TLS);
    assert_int_equal(cause_of("GET / HTTP/1.1", 14), TLS_FAILURE_PLAIN_HTTP);
    assert_int_equal(cause_of("PRI * HTTP/2.0", 14), TLS_FAILURE_PLAIN_HTTP);
    assert_int_equal(cause_of("PROXY TCP4 1.2.3.4", 18), TLS_FAILURE_NOT_TLS);
    assert_int_equal(cause_of("", 0), TLS_FAILURE_NOT_TLS);
}

/* Whatever the bytes and wherever they end, nothing behind them is read (the sanitizer watches). */
static void any_prefix_is_safe(void **state)
{
    (void)state;
    static const char *const samples[] = {
        "\x10\xff\xff\xff\x7f", "\x10\x80\x01", "\x10\x0c", "GET ", "\x16\x03"};
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++)
        for (size_t size = 0; size <= strlen(samples[i]); size++) {
            char *copy = test_malloc(size + 1);
            memcpy(copy, samples[i], size);
            cause_of(copy, size);
            tls_is_client_hello(bytes_of(copy, size));
            test_free(copy);
        }
}

static void a_client_hello_is_known_on_a_plain_port(void **state)
{
    (void)state;
    assert_true(tls_is_client_hello(bytes_of("\x16\x03\x01\x02", 4)));
    assert_true(tls_is_client_hello(bytes_of("\x16\x03\x03", 3)));
    assert_false(tls_is_client_hello(bytes_of("\x16\x03", 2)));
    assert_false(tls_is_client_hello(bytes_of("\x10\x0c\x00\x04", 4)));
    assert_false(tls_is_client_hello(bytes_of("\x16\x04\x01", 3)));
    assert_int_equal(tls_plain_port_alert.size, 7);
    assert_non_null(strstr(tls_on_plain_port_text, "TLS on a plain MQTT port"));
}

static void every_cause_has_its_texts(void **state)
{
    (void)state;
    for (int cause = 0; cause < TLS_FAILURE_CAUSES; cause++) {
        assert_non_null(tls_failure_name((enum tls_failure_cause)cause));
        assert_non_null(tls_failure_text((enum tls_failure_cause)cause));
        assert_non_null(tls_failure_usual_cause((enum tls_failure_cause)cause));
        for (int other = 0; other < cause; other++)
            assert_string_not_equal(tls_failure_name((enum tls_failure_cause)cause),
                tls_failure_name((enum tls_failure_cause)other));
    }
    assert_string_equal(tls_failure_name((enum tls_failure_cause)1000), "unknown");
}

static void a_line_tells_all_and_fits(void **state)
{
    (void)state;
    struct tls_failure failure;
    char line[400], cut[20];
    tls_failure_set(&failure, TLS_FAILURE_TIMEOUT, "%d ms", 500);
    tls_failure_line(&failure, line, sizeof line);
    assert_non_null(strstr(line, "handshake_timeout (500 ms); usually: "));
    assert_int_equal(strlen(tls_failure_line(&failure, cut, sizeof cut)), sizeof cut - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_bytes_are_told_apart),
        cmocka_unit_test(any_prefix_is_safe),
        cmocka_unit_test(a_client_hello_is_known_on_a_plain_port),
        cmocka_unit_test(every_cause_has_its_texts),
        cmocka_unit_test(a_line_tells_all_and_fits),
    };
    return cmocka_run_group_tests_name("tls_failure", tests, NULL, NULL);
}
