/*
 * The configuration: defaults, units, addresses, errors all at once with their lines, suggestions, the rule
 * of relative paths, and the handed-over JSON giving the same struct. Works in a temporary folder of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shared/config.h"
#include "shared/config_address.h"
#include "shared/config_lines.h"
#include "shared/config_suggest.h"
#include "shared/config_table.h"
#include "shared/config_units.h"
#include "shared/cpu_count.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64]; /* holds conf/ and certs/ with key, certificate, CA and an empty file */

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int set_up(void **state)
{
    (void)state;
    char path[256];
    snprintf(folder, sizeof folder, "/tmp/test_config.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/conf", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/certs", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    write_file("certs/key.pem", "key\n");
    write_file("certs/cert.pem", "certificate\n");
    write_file("certs/ca.pem", "ca\n");
    write_file("certs/empty.pem", "");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* Loads a text as if it lay in conf/ of the folder. Errors are added to `errors`. */
static enum status load(const char *text, struct config **config, struct config_errors *errors)
{
    char name[256];
    snprintf(name, sizeof name, "%s/conf/test.json", folder);
    return config_load_text(text, strlen(text), name, config, errors);
}

static struct config *load_fine(const char *text)
{
    struct config *config = NULL;
    struct config_errors errors = {0};
    enum status status = load(text, &config, &errors);
    if (status != STATUS_OK)
        config_errors_print(&errors, stderr);
    assert_int_equal(status, STATUS_OK);
    config_errors_done(&errors);
    return config;
}

static bool mentions(const struct config_errors *errors, const char *part)
{
    for (size_t i = 0; i < errors->count; i++)
        if (strstr(errors->entries[i].text, part) != NULL)
            return true;
    return false;
}

/* Loads a text that must be refused, with an error that holds `part`. */
static void assert_refused(const char *text, const char *part)
{
    struct config *config = NULL;
    struct config_errors errors = {0};
    assert_int_equal(load(text, &config, &errors), STATUS_INVALID);
    assert_null(config);
    if (!mentions(&errors, part)) {
        config_errors_print(&errors, stderr);
        fail_msg("no error with «%s»", part);
    }
    config_errors_done(&errors);
}

#define TCP "\"listeners\": {\"tcp:a\": {\"bind\": \"127.0.0.1:1883\"}}"
#define SSL(keys)                                                                                            \
    "{\"listeners\": {\"ssl:a\": {\"bind\": \"127.0.0.1:8883\", \"keyfile\": \"certs/key.pem\", "            \
    "\"certfile\": \"certs/cert.pem\"" keys "}}}"
#define MQTT(keys) "{" TCP ", \"mqtt\": {" keys "}}"

static void defaults_are_filled_in(void **state)
{
    (void)state;
    struct config *config = load_fine("{" TCP "}");
    char path[256];
    assert_string_equal(config->node.name, "n1");
    assert_in_range(config->node.workers, 1, CONFIG_WORKERS_MAX);
    snprintf(path, sizeof path, "%s/data", folder);
    assert_string_equal(config->node.data_dir, path);
    snprintf(path, sizeof path, "%s/data/run", folder);
    assert_string_equal(config->node.run_dir, path);
    assert_string_equal(config->node.user, "nobody");
    assert_int_equal(config->mqtt.max_packet_size, 1 << 20);
    assert_int_equal(config->mqtt.session_expiry_max_s, 7 * 24 * 3600);
    assert_int_equal(config->mqtt.session_expiry_v3_s, 7200);
    assert_true(config->mqtt.keepalive_multiplier == 1.5);
    assert_true(config->mqtt.retain_available);
    assert_int_equal(config->bus.window, 1 << 20);
    assert_int_equal(config->bus.stall_timeout_ms, 5000);
    assert_int_equal(config->session.claim_timeout_ms, 1000);
    assert_int_equal(config->log.level, LOG_LEVEL_INFO);
    assert_int_equal(config->listener_count, 1);
    assert_int_equal(config->listeners[0].max_connections, 1000000);
    assert_int_equal(config->listeners[0].connect_timeout_ms, 10000);
    assert_int_equal(config->listeners[0].access.count, 1);
    assert_true(config->listeners[0].access.rules[0].allow);
    assert_null(config->listeners[0].tls.keyfile);
    config_free(&config);
    assert_null(config);
}

static void every_default_of_the_table_is_valid(void **state)
{
    (void)state;
    struct config *config = load_fine(SSL(", \"cacertfile\": \"certs/ca.pem\""));
    struct config_listener *listener = &config->listeners[0];
    assert_int_equal(listener->tls.versions, CONFIG_TLS_1_2 | CONFIG_TLS_1_3);
    assert_int_equal(listener->tls.depth, 10);
    assert_int_equal(listener->tls.handshake_timeout_ms, 15000);
    assert_true(listener->tls.honor_cipher_order);
    assert_int_equal(listener->tls.verify, CONFIG_VERIFY_NONE);
    char path[256];
    snprintf(path, sizeof path, "%s/certs/ca.pem", folder);
    assert_string_equal(listener->tls.cacertfile, path);
    config_free(&config);
}

static void handed_json_gives_the_same_struct(void **state)
{
    (void)state;
    struct config *config =
        load_fine("{\"node\": {\"name\": \"n.7\", \"workers\": 3, \"run_dir\": \"/run/x\"},"
                  "\"listeners\": {"
                  "\"tcp:b\": {\"bind\": 1884, \"access\": [\"deny 10.0.0.0/8\", \"allow all\"],"
                  "            \"sndbuf\": \"64KiB\", \"tcp_user_timeout\": 1.5},"
                  "\"ssl:a\": {\"bind\": \"[::1]:8883\", \"keyfile\": \"certs/key.pem\","
                  "            \"certfile\": \"certs/cert.pem\", \"password\": \"geheim\","
                  "            \"cacertfile\": \"certs/ca.pem\", \"verify\": \"verify_peer\","
                  "            \"fail_if_no_peer_cert\": true, \"versions\": [\"tlsv1.3\"],"
                  "            \"peer_cert_as_username\": \"cn\"},"
                  "\"ws:c\": {\"bind\": 8083, \"origins\": [\"https://a.example\", \"null\"],"
                  "         \"proxy_protocol\": true, \"peer_cert_as_clientid\": \"cn\"},"
                  "\"unix:d\": {\"bind\": \"run/d.sock\", \"mode\": \"0600\"}},"
                  "\"mqtt\": {\"keepalive_multiplier\": 2.25, \"max_packet_size\": 268435455, "
                  "\"max_queued_bytes\": \"1GB\"},"
                  "\"auth\": {\"allow_anonymous\": false},"
                  "\"log\": {\"level\": \"debug\", \"format\": \"json\"}}");
    char *text = config_to_json(config);
    assert_non_null(text);
    struct config *handed = NULL;
    struct config_errors errors = {0};
    /* The child may see none of the files. */
    assert_int_equal(config_load_handed(text, strlen(text), &handed, &errors), STATUS_OK);
    assert_int_equal(errors.count, 0);
    char *again = config_to_json(handed);
    assert_string_equal(text, again);
    assert_int_equal(handed->node.workers, 3);
    assert_string_equal(handed->node.run_dir, "/run/x");
    assert_string_equal(handed->listeners[0].key, "tcp:b");
    assert_true(handed->listeners[0].bind.both_families);
    assert_int_equal(handed->listeners[0].sndbuf, 65536);
    assert_int_equal(handed->listeners[0].tcp_user_timeout_ms, 1500);
    assert_int_equal(handed->listeners[0].access.count, 2);
    assert_string_equal(handed->listeners[1].tls.password, "geheim");
    assert_int_equal(handed->listeners[1].tls.versions, CONFIG_TLS_1_3);
    assert_memory_equal(&handed->listeners[1].bind.address, &config->listeners[1].bind.address,
        sizeof config->listeners[1].bind.address);
    assert_int_equal(handed->listeners[2].origins.count, 2);
    assert_true(handed->listeners[2].proxy_protocol);
    assert_int_equal(handed->listeners[3].mode, 0600);
    assert_string_equal(handed->listeners[3].bind.text, config->listeners[3].bind.text);
    assert_true(handed->mqtt.keepalive_multiplier == 2.25);
    assert_int_equal(handed->auth.allow_anonymous, CONFIG_ANONYMOUS_NO);
    free(text);
    free(again);
    config_free(&config);
    config_free(&handed);
    config_errors_done(&errors);
}

static void all_errors_come_at_once(void **state)
{
    (void)state;
    static const char text[] = "{\n"
                               "  \"node\": {\"workers\": 65, \"nmae\": \"x\"},\n"
                               "  \"listeners\": {\n"
                               "    \"ssl:a\": {\n"
                               "      \"bind\": \"localhost:8883\",\n"
                               "      \"keyfile\": \"certs/missing.key\",\n"
                               "      \"verify\": \"verify_peer\",\n"
                               "      \"versions\": [\"tlsv1.1\"]\n"
                               "    }\n"
                               "  },\n"
                               "  \"mqtt\": {\"max_qos\": \"2\"}, \"lgo\": {}\n"
                               "}\n";
    struct config *config = NULL;
    struct config_errors errors = {0};
    char resolved[512];
    assert_int_equal(load(text, &config, &errors), STATUS_INVALID);
    assert_true(
        mentions(&errors, "conf/test.json:2: node.workers: found 65; allowed: a whole number from 1 to 64, "
                          "or \"auto\""));
    assert_true(mentions(&errors, ":2: node.nmae: no such key; did you mean \"name\"?"));
    assert_true(mentions(&errors, ":5: listeners.ssl:a.bind: found \"localhost:8883\"; allowed: a port"));
    snprintf(resolved, sizeof resolved,
        ":6: listeners.ssl:a.keyfile: found \"certs/missing.key\", which is %s/certs/missing.key: No such "
        "file",
        folder);
    assert_true(mentions(&errors, resolved));
    assert_true(mentions(&errors, ":4: listeners.ssl:a: the key \"certfile\" is missing"));
    assert_true(mentions(&errors, ":7: listeners.ssl:a.verify: \"verify_peer\" needs cacertfile"));
    assert_true(
        mentions(&errors, ":8: listeners.ssl:a.versions: found [\"tlsv1.1\"]; allowed: a list of at least "
                          "one of \"tlsv1.2\" or \"tlsv1.3\""));
    assert_true(mentions(&errors, ":11: mqtt.max_qos: found \"2\"; allowed: a whole number from 0 to 2"));
    assert_true(mentions(&errors, ":11: lgo: no such section; did you mean \"log\"?"));
    assert_int_equal(errors.count, 9);
    config_errors_done(&errors);
}

static void single_values_are_checked(void **state)
{
    (void)state;
    assert_refused(MQTT("\"max_packet_size\": \"1 XB\""), "found \"1 XB\"; allowed: a size from 1KiB");
    assert_refused(MQTT("\"max_packet_size\": 1023"), "found 1023");
    assert_refused(MQTT("\"max_packet_size\": \"256MiB\""), "found \"256MiB\"");
    assert_refused(MQTT("\"max_packet_size\": -1"), "found -1");
    assert_refused(MQTT("\"session_expiry_v3\": \"1500ms\""), "not a whole number of seconds");
    assert_refused(MQTT("\"session_expiry_v3\": -1"), "a duration from 0s to");
    assert_refused(MQTT("\"keepalive_multiplier\": 0.5"), "a number from 1 to 10");
    assert_refused(MQTT("\"retain_available\": \"yes\""), "true or false");
    assert_refused(MQTT("\"retain_available\": null"), "found null");
    assert_refused("{" TCP ", \"auth\": {\"allow_anonymous\": \"true\"}}", "\"auto\", true or false");
    assert_refused("{" TCP ", \"node\": {\"name\": \"a b\"}}", "letters, digits");
    assert_refused("{" TCP ", \"node\": {\"name\": \"\"}}", "1 to 32");
    assert_refused("{" TCP ", \"bus\": {\"window\": \"100KiB\"}}", "from 128KiB");
    assert_refused("{" TCP ", \"bus\": {\"window\": \"200KiB\"}}", "a power of two");
    assert_refused("{" TCP ", \"log\": {\"level\": \"loud\"}}",
        "\"error\", \"warning\", \"notice\", \"info\" or \"debug\"");
    assert_refused("{" TCP ", \"node\": {\"data_dir\": \"certs/key.pem\"}}", "not a folder");
    assert_refused(MQTT("\"max_queued_bytes\": \"64KiB\""), "at least mqtt.max_packet_size");
    assert_refused(
        "{\"listeners\": {\"tcp:a\": {\"bind\": 1, \"access\": [\"allow all\", \"allow 10.1.0.0/8\"]}}}",
        "access[1]");
    assert_refused(
        "{\"listeners\": {\"tcp:a\": {\"bind\": 1, \"access\": [\"deny all\"]}}}", "no rule allows");
    assert_refused("{\"listeners\": {\"tcp:a\": {\"bind\": 70000}}}", "found 70000");
    assert_refused("{\"listeners\": {\"tcp:a\": {\"bind\": 0}}}", "found 0");
}

static void keys_that_do_not_belong_are_refused(void **state)
{
    (void)state;
    assert_refused("{\"listeners\": {\"tcp:a\": {\"bind\": 1, \"keyfile\": \"x\"}}}",
        "did you mean listeners.ssl:*.keyfile");
    assert_refused("{\"listeners\": {\"quic:a\": {\"bind\": 1}}}",
        "found \"quic:a\"; allowed: tcp:NAME, ssl:NAME, ws:NAME");
    assert_refused("{\"listeners\": {\"tcp:\": {\"bind\": 1}}}", "allowed: tcp:NAME");
    assert_refused("{\"listeners\": {\"tcp:a\": 1883}}", "found a number; allowed: an object");
    assert_refused("{\"listeners\": {}}", "at least one");
    assert_refused("{}", "at least one");
    assert_refused("[]", "found a list; allowed: an object");
    assert_refused("{" TCP ", \"mqtt\": []}", "mqtt: found a list");
    assert_refused("{" TCP ", \"node\": {\"max_qos\": 1}}", "did you mean mqtt.max_qos?");
    assert_refused("{" TCP ", \"log\": {\"colour\": 1}}", "allowed: level, format");
    assert_refused("{" TCP ", \"quota\": {}}", "allowed: node, listeners, mqtt");
    assert_refused("{" TCP ",\n \"mqtt\": {\"max_qos\": 1,\n \"max_qos\": 2}}",
        ":3: mqtt.max_qos: given twice, on line 2 already");
    assert_refused("{" TCP ",\n\"log\": {}, \"log\": {\"level\": \"info\",\n\"leve\\u006c\": \"debug\"}}",
        ":2: log: given twice, on line 2 already");
    assert_refused("{" TCP ",\n\"log\": {}, \"log\": {\"level\": \"info\",\n\"leve\\u006c\": \"debug\"}}",
        ":3: log.level: given twice, on line 2 already");
    assert_refused(
        "{" TCP ", \"mqtt\": {\"max_qos\": 1, \"max_qos\": 3}}", "mqtt.max_qos: found 3"); /* all at once */
    struct config *config = load_fine("{\"//\": 1, \"//\": 2, " TCP "}");
    config_free(&config);
    assert_refused("{" TCP ",\n}", ":2: no valid JSON");
    assert_refused("", "no valid JSON");
}

#define WS(keys)   "{\"listeners\": {\"ws:a\": {\"bind\": \"127.0.0.1:8083\"" keys "}}}"
#define UNIX(keys) "{\"listeners\": {\"unix:a\": {" keys "}}}"

static void websocket_listeners_have_their_keys(void **state)
{
    (void)state;
    struct config *config = load_fine(WS(""));
    const struct config_listener *listener = &config->listeners[0];
    assert_int_equal(listener->type, CONFIG_LISTENER_WS);
    assert_true(config_listener_has_websocket(listener) && !config_listener_has_tls(listener));
    assert_string_equal(listener->path, "/mqtt");
    assert_int_equal(listener->origins.count, 0);
    assert_int_equal(listener->max_frame_size, 0);
    config_free(&config);
    config = load_fine(WS(", \"path\": \"/\", \"max_frame_size\": \"2MB\", \"origins\": "
                          "[\"https://a.example\", \"http://[::1]:8080\", "
                          "\"null\"]"));
    listener = &config->listeners[0];
    assert_string_equal(listener->path, "/");
    assert_int_equal(listener->max_frame_size, 2 << 20);
    assert_int_equal(listener->origins.count, 3);
    assert_string_equal(listener->origins.items[1], "http://[::1]:8080");
    config_free(&config);
    assert_refused(WS(", \"path\": \"mqtt\""), "ws:a.path: found \"mqtt\"; allowed: the path of a URL");
    assert_refused(WS(", \"path\": \"/mqtt?x\""), "allowed: the path of a URL");
    assert_refused(WS(", \"path\": \"/m q\""), "allowed: the path of a URL");
    assert_refused(WS(", \"origins\": []"), "a list of 1 to 256 origins");
    assert_refused(WS(", \"origins\": [\"null\", \"https://a.example/\"]"), "ws:a.origins[1]: found");
    assert_refused(WS(", \"origins\": [\"a.example\"]"), "ws:a.origins[0]: found");
    assert_refused(WS(", \"keyfile\": \"certs/key.pem\""), "did you mean listeners.ssl:*.keyfile");
    assert_refused("{\"listeners\": {\"wss:a\": {\"bind\": 1}}}", "the key \"keyfile\" is missing");
    assert_refused("{\"listeners\": {\"tcp:a\": {\"bind\": 1, \"path\": \"/mqtt\"}}}",
        "did you mean listeners.ws:*.path");
}

static void unix_sockets_have_a_path_and_a_mode(void **state)
{
    (void)state;
    char path[300];
    struct config *config = load_fine(UNIX("\"bind\": \"run/a.sock\""));
    const struct config_listener *listener = &config->listeners[0];
    snprintf(path, sizeof path, "%s/run/a.sock", folder);
    assert_int_equal(listener->type, CONFIG_LISTENER_UNIX);
    assert_string_equal(listener->bind.text, path);
    assert_int_equal(listener->bind.address.ss_family, AF_UNIX);
    assert_int_equal(listener->mode, 0660);
    config_free(&config);
    config = load_fine(UNIX("\"bind\": \"/tmp/a\", \"mode\": \"777\""));
    assert_string_equal(config->listeners[0].bind.text, "/tmp/a");
    assert_int_equal(config->listeners[0].mode, 0777);
    config_free(&config);
    assert_refused(UNIX("\"bind\": 1883"), "a path of at most 107 bytes");
    assert_refused(UNIX("\"bind\": \"a\", \"mode\": 660"), "permissions in octal");
    assert_refused(UNIX("\"bind\": \"a\", \"mode\": \"0668\""), "permissions in octal");
    assert_refused(UNIX("\"bind\": \"a\", \"mode\": \"4755\""), "permissions in octal");
    assert_refused(UNIX("\"bind\": \"a\", \"nodelay\": true"), "did you mean listeners.tcp:*.nodelay");
    snprintf(path, sizeof path, "{\"listeners\": {\"unix:a\": {\"bind\": \"/%0107d\"}}}", 0);
    assert_refused(path, "which has 108 bytes when absolute");
    assert_refused("{\"listeners\": {\"unix:a\": {\"bind\": \"/a\"}, \"unix:b\": {\"bind\": \"/a\"}}}",
        "takes the same connections as \"/a\" of listeners.unix:a; allowed: another path");
}

static void names_behind_a_proxy_need_its_header(void **state)
{
    (void)state;
    struct config *config = load_fine("{\"listeners\": {\"tcp:a\": {\"bind\": 1, \"proxy_protocol\": true, "
                                      "\"peer_cert_as_username\": \"cn\"}}}");
    assert_true(config->listeners[0].proxy_protocol);
    assert_int_equal(config->listeners[0].tls.peer_cert_as_username, CONFIG_PEER_CERT_CN);
    config_free(&config);
    assert_refused(
        WS(", \"peer_cert_as_username\": \"cn\""), "needs a listener with TLS, or \"proxy_protocol\"");
    assert_refused(
        WS(", \"proxy_protocol\": true, \"peer_cert_as_clientid\": \"dn\""), "allowed without TLS: \"cn\"");
    assert_refused(SSL(", \"proxy_protocol\": true, \"peer_cert_as_username\": \"cn\""),
        "needs \"verify\": \"verify_peer\"");
}

static void comments_are_skipped(void **state)
{
    (void)state;
    struct config *config =
        load_fine("{\"//\": \"x\", \"// more\": [1], " TCP ", \"mqtt\": {\"//max_qos\": 7}}");
    assert_int_equal(config->mqtt.max_qos, 2);
    config_free(&config);
    config = load_fine("{\"listeners\": {\"//\": {}, \"tcp:a\": {\"//\": null, \"bind\": \"127.0.0.1:1\"}}}");
    assert_int_equal(config->listener_count, 1);
    config_free(&config);
}

static void tls_keys_need_each_other(void **state)
{
    (void)state;
    assert_refused(SSL(", \"verify\": \"verify_peer\""), "needs cacertfile");
    assert_refused(SSL(", \"fail_if_no_peer_cert\": true"), "true needs \"verify\": \"verify_peer\"");
    assert_refused(SSL(", \"peer_cert_as_username\": \"cn\""), "needs \"verify\"");
    assert_refused(SSL(", \"password\": \"x\", \"password_file\": \"certs/ca.pem\""), "allowed: one of them");
    assert_refused(SSL(", \"ciphers\": \"X\", \"versions\": [\"tlsv1.3\"]"), "no effect without \"tlsv1.2\"");
    assert_refused(SSL(", \"versions\": []"), "at least one of");
    assert_refused(SSL(", \"versions\": [\"tlsv1.2\", \"tlsv1.2\"]"), "one of them twice");
    assert_refused(SSL(", \"cacertfile\": \"certs/empty.pem\""), "an empty file");
    assert_refused(SSL(", \"cacertfile\": \"certs\""), "a folder");
}

static void passwords_are_not_printed(void **state)
{
    (void)state;
    struct config *config = NULL;
    struct config_errors errors = {0};
    assert_int_equal(load(SSL(", \"password\": 123456"), &config, &errors), STATUS_INVALID);
    assert_false(mentions(&errors, "123456"));
    config_errors_done(&errors);
}

static void overlapping_binds_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool overlap;
    } cases[] = {
        {"1883", "1883", true},
        {"1883", "127.0.0.1:1883", true},
        {"1883", "[::1]:1883", true},
        {"0.0.0.0:1883", "127.0.0.1:1883", true},
        {"[::]:1883", "[::1]:1883", true},
        {"[::]:1883", "0.0.0.0:1883", false},
        {"127.0.0.1:1883", "127.0.0.2:1883", false},
        {"127.0.0.1:1883", "[::1]:1883", false},
        {"1883", "1884", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config_bind a = {0};
        struct config_bind b = {0};
        assert_int_equal(config_bind_parse(cases[i].a, &a), STATUS_OK);
        assert_int_equal(config_bind_parse(cases[i].b, &b), STATUS_OK);
        assert_int_equal(config_bind_overlaps(&a, &b), cases[i].overlap);
        assert_int_equal(config_bind_overlaps(&b, &a), cases[i].overlap);
    }
    assert_refused("{\"listeners\": {\"tcp:a\": {\"bind\": 1}, \"tcp:b\": {\"bind\": \"[::1]:1\"}}}",
        "takes the same connections as \"1\" of listeners.tcp:a");
    static const char *const bad[] = {"", ":1", "1:", "::1:1883", "[::1]", "[::1]1883", "1883 ", "+1", "0x50",
        "65536", "[127.0.0.1]:1", "256.0.0.1:1", "[]:1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct config_bind bind = {0};
        assert_int_equal(config_bind_parse(bad[i], &bind), STATUS_INVALID);
    }
}

static void anonymous_clients_depend_on_the_listener(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool allowed;
    } cases[] = {
        {"{" TCP "}", true},
        {"{\"listeners\": {\"tcp:a\": {\"bind\": \"[::1]:1\"}}}", true},
        {"{\"listeners\": {\"ws:a\": {\"bind\": \"[::1]:1\"}}}", true},
        {"{\"listeners\": {\"unix:a\": {\"bind\": \"run/a.sock\"}}}", true},
        /* Whoever the proxy lets through: not this machine alone. */
        {"{\"listeners\": {\"tcp:a\": {\"bind\": \"127.0.0.1:1\", \"proxy_protocol\": true}}}", false},
        {"{\"listeners\": {\"tcp:a\": {\"bind\": \"1\"}}}", false},
        {"{\"listeners\": {\"tcp:a\": {\"bind\": \"0.0.0.0:1\"}}}", false},
        {"{\"listeners\": {\"tcp:a\": {\"bind\": \"1\"}}, \"auth\": {\"allow_anonymous\": true}}", true},
        {"{" TCP ", \"auth\": {\"allow_anonymous\": false}}", false},
        {"{\"listeners\": {\"ssl:a\": {\"bind\": \"1\", \"keyfile\": \"certs/key.pem\", \"certfile\": "
         "\"certs/cert.pem\", \"cacertfile\": \"certs/ca.pem\", \"verify\": \"verify_peer\", "
         "\"fail_if_no_peer_cert\": true}}}",
            true},
        {"{\"listeners\": {\"ssl:a\": {\"bind\": \"1\", \"keyfile\": \"certs/key.pem\", \"certfile\": "
         "\"certs/cert.pem\", \"cacertfile\": \"certs/ca.pem\", \"verify\": \"verify_peer\"}}}",
            false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config *config = NULL;
        struct config_errors errors = {0};
        assert_int_equal(load(cases[i].text, &config, &errors), STATUS_OK);
        assert_int_equal(config_listener_allows_anonymous(config, &config->listeners[0]), cases[i].allowed);
        assert_int_equal(errors.warnings, !cases[i].allowed);
        config_free(&config);
        config_errors_done(&errors);
    }
}

static void ways_to_log_in_depend_on_the_listener(void **state)
{
    (void)state;
#define USERS(more) "\"auth\": {\"password_file\": \"certs/ca.pem\"" more "}"
#define TLS_OF(versions)                                                                                     \
    "\"listeners\": {\"ssl:a\": {\"bind\": 1, \"keyfile\": \"certs/key.pem\", \"certfile\": "                \
    "\"certs/cert.pem\", \"versions\": [" versions "]}}"
    enum {
        WORD = CONFIG_AUTH_PASSWORD,
        SCRAM = CONFIG_AUTH_SCRAM_SHA_256,
        PLUS = CONFIG_AUTH_SCRAM_SHA_256_PLUS
    };
    static const struct {
        const char *text;
        uint32_t methods;
        unsigned warnings;
    } cases[] = {
        {"{" TCP "}", 0, 0},
        {"{" TCP ", " USERS("") "}", WORD | SCRAM, 0},
        {"{" TLS_OF("\"tlsv1.3\"") ", " USERS("") "}", WORD | SCRAM | PLUS, 0},
        {"{" TLS_OF("\"tlsv1.2\"") ", " USERS("") "}", WORD | SCRAM, 0},
        {"{" TCP ", " USERS(", \"methods\": [\"SCRAM-SHA-256\"]") "}", SCRAM, 0},
        {"{" TLS_OF("\"tlsv1.3\"") ", " USERS(", \"methods\": [\"SCRAM-SHA-256-PLUS\"]") "}", PLUS, 0},
        /* Nobody can log in there. */
        {"{" TCP ", " USERS(", \"methods\": [\"SCRAM-SHA-256-PLUS\"]") "}", 0, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config *config = NULL;
        struct config_errors errors = {0};
        assert_int_equal(load(cases[i].text, &config, &errors), STATUS_OK);
        assert_int_equal(config_listener_methods(config, &config->listeners[0]), cases[i].methods);
        assert_int_equal(errors.warnings, cases[i].warnings);
        config_free(&config);
        config_errors_done(&errors);
    }
    assert_refused("{" TCP ", " USERS(", \"methods\": []") "}", "at least one of");
    assert_refused("{" TCP ", " USERS(", \"methods\": [\"SCRAM-SHA-1\"]") "}", "\"SCRAM-SHA-256\"");
#undef USERS
#undef TLS_OF
}

static bool allows(const struct config_access *access, const char *peer)
{
    struct sockaddr_in ipv4 = {.sin_family = AF_INET};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, peer, &ipv4.sin_addr) == 1)
        return config_access_allows(access, (struct sockaddr *)&ipv4);
    assert_int_equal(inet_pton(AF_INET6, peer, &ipv6.sin6_addr), 1);
    return config_access_allows(access, (struct sockaddr *)&ipv6);
}

static void first_access_rule_that_fits_decides(void **state)
{
    (void)state;
    struct config *config = load_fine(
        "{\"listeners\": {\"tcp:a\": {\"bind\": \"127.0.0.1:1\", \"access\": [\"deny 10.1.2.3\", "
        "\"allow 10.0.0.0/9\", \"deny fe80::/10\", \"allow 2001:db8::/33\", \"allow 127.0.0.1\"]}}}");
    const struct config_access *access = &config->listeners[0].access;
    assert_false(allows(access, "10.1.2.3"));
    assert_false(allows(access, "::ffff:10.1.2.3"));
    assert_true(allows(access, "10.1.2.4"));
    assert_true(allows(access, "::ffff:10.1.2.4"));
    assert_true(allows(access, "10.127.255.255"));
    assert_false(allows(access, "10.128.0.0"));
    assert_false(allows(access, "fe80::1"));
    assert_true(allows(access, "2001:db8:7fff::1"));
    assert_false(allows(access, "2001:db8:8000::1"));
    assert_false(allows(access, "192.168.0.1"));
    config_free(&config);
}

static void relative_paths_start_beside_conf(void **state)
{
    (void)state;
    struct config *config = NULL;
    struct config_errors errors = {0};
    char path[256];
    char current[4096];
    write_file("conf/a.json", "{" TCP ", \"node\": {\"data_dir\": \"./d\"}}");
    write_file("certs/a.json", "{" TCP ", \"node\": {\"data_dir\": \"d\"}}");
    snprintf(path, sizeof path, "%s/conf/a.json", folder);
    assert_int_equal(config_load(path, &config, &errors), STATUS_OK);
    snprintf(path, sizeof path, "%s/d", folder);
    assert_string_equal(config->node.data_dir, path);
    config_free(&config);

    snprintf(path, sizeof path, "%s/certs/a.json", folder);
    assert_int_equal(config_load(path, &config, &errors), STATUS_OK);
    assert_non_null(getcwd(current, sizeof current - 2));
    strcat(current, "/d");
    assert_string_equal(config->node.data_dir, current);
    config_free(&config);

    assert_int_equal(config_load("/nowhere/x.json", &config, &errors), STATUS_INVALID);
    assert_true(
        mentions(&errors, "/nowhere/x.json: No such file or directory; allowed: a readable JSON file"));
    assert_int_equal(config_load(folder, &config, &errors), STATUS_INVALID);
    config_errors_done(&errors);
}

static void run_dir_fits_a_socket_address(void **state)
{
    (void)state;
    char text[512];
    char path[128];
    memset(path, 'x', sizeof path);
    path[0] = '/';
    path[CONFIG_RUN_DIR_MAX] = '\0';
    snprintf(text, sizeof text, "{" TCP ", \"node\": {\"run_dir\": \"%s\"}}", path);
    struct config *config = load_fine(text);
    config_free(&config);
    snprintf(text, sizeof text, "{" TCP ", \"node\": {\"run_dir\": \"%sx\"}}", path);
    assert_refused(text, "which has 81 bytes; allowed: at most 80");
}

static void units_are_exact(void **state)
{
    (void)state;
    uint64_t value;
    char text[CONFIG_UNITS_TEXT_MAX];
    static const struct {
        const char *text;
        uint64_t value;
    } sizes[] = {{"0", 0}, {"17", 17}, {"17B", 17}, {"64KB", 65536}, {"64KiB", 65536}, {"1mb", 1 << 20},
        {"3 G", 3ull << 30}},
      durations[] = {{"0", 0}, {"30", 30000}, {"500ms", 500}, {"1h30m", 5400000}, {"7d", 604800000},
          {"2w", 1209600000}, {"1 h 1 s", 3601000}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(config_size_parse(sizes[i].text, &value), STATUS_OK);
        assert_int_equal(value, sizes[i].value);
        config_size_format(value, text);
        assert_int_equal(config_size_parse(text, &value), STATUS_OK);
        assert_int_equal(value, sizes[i].value);
    }
    for (size_t i = 0; i < sizeof durations / sizeof *durations; i++) {
        assert_int_equal(config_duration_parse(durations[i].text, &value), STATUS_OK);
        assert_int_equal(value, durations[i].value);
        config_duration_format(value, text);
        assert_int_equal(config_duration_parse(text, &value), STATUS_OK);
        assert_int_equal(value, durations[i].value);
    }
    static const char *const bad[] = {
        "", " 1", "-1", "x", "1.5s", "1h30", "99999999999999999999", "18446744073709551615w"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(config_duration_parse(bad[i], &value), STATUS_INVALID);
        assert_int_equal(config_size_parse(bad[i], &value), STATUS_INVALID);
    }
    assert_int_equal(config_size_parse("18446744073709551615K", &value), STATUS_INVALID);
}

static void near_words_are_found(void **state)
{
    (void)state;
    assert_int_equal(config_edit_distance("abc", "abc"), 0);
    assert_int_equal(config_edit_distance("abc", "acb"), 1);
    assert_int_equal(config_edit_distance("", "abc"), 3);
    assert_int_equal(config_edit_distance("kitten", "sitting"), 3);
    assert_true(config_is_near("keyfle", "keyfile"));
    assert_true(config_is_near("max_conections", "max_connections"));
    assert_false(config_is_near("x", "a"));
    assert_false(config_is_near("colour", "level"));
}

static void lines_of_keys_are_found(void **state)
{
    (void)state;
    static const char text[] =
        "{\n\"a\": [1,\n \"}\\\"\", {\"b\":\n 2}],\n\"a.b\": {\"c\": true,\n\"d\": null}}";
    assert_int_equal(config_line_of(text, strlen(text), "a"), 2);
    assert_int_equal(config_line_of(text, strlen(text), "a[1]"), 3);
    assert_int_equal(config_line_of(text, strlen(text), "a[2].b"), 3);
    assert_int_equal(config_line_of(text, strlen(text), "a.b.d"), 6);
    assert_int_equal(config_line_of(text, strlen(text), "a.x"), 0);
    for (size_t size = 0; size < strlen(text); size++) /* cut anywhere it must end and stay inside */
        (void)config_line_of(text, size, "a.b.d");
}

static void quotas_round_up(void **state)
{
    (void)state;
    assert_int_equal(cpu_count_of_quota("max 100000\n"), 0);
    assert_int_equal(cpu_count_of_quota("150000 100000\n"), 2);
    assert_int_equal(cpu_count_of_quota("200000 100000"), 2);
    assert_int_equal(cpu_count_of_quota("1000 100000"), 1);
    assert_int_equal(cpu_count_of_quota("-1 100000"), 0);
    assert_int_equal(cpu_count_of_quota(""), 0);
    assert_true(cpu_count() >= 1);
}

static void reference_names_every_key(void **state)
{
    (void)state;
    char *text = NULL;
    char *markdown = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    config_print_reference(stream);
    fclose(stream);
    stream = open_memstream(&markdown, &size);
    config_print_reference_markdown(stream);
    fclose(stream);
    for (size_t i = 0; i < config_table_size; i++) {
        assert_non_null(strstr(text, config_table[i].path));
        assert_non_null(strstr(markdown, config_table[i].path));
    }
    free(text);
    free(markdown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_filled_in),
        cmocka_unit_test(every_default_of_the_table_is_valid),
        cmocka_unit_test(handed_json_gives_the_same_struct),
        cmocka_unit_test(all_errors_come_at_once),
        cmocka_unit_test(single_values_are_checked),
        cmocka_unit_test(keys_that_do_not_belong_are_refused),
        cmocka_unit_test(websocket_listeners_have_their_keys),
        cmocka_unit_test(unix_sockets_have_a_path_and_a_mode),
        cmocka_unit_test(names_behind_a_proxy_need_its_header),
        cmocka_unit_test(comments_are_skipped),
        cmocka_unit_test(tls_keys_need_each_other),
        cmocka_unit_test(passwords_are_not_printed),
        cmocka_unit_test(overlapping_binds_are_refused),
        cmocka_unit_test(anonymous_clients_depend_on_the_listener),
        cmocka_unit_test(ways_to_log_in_depend_on_the_listener),
        cmocka_unit_test(first_access_rule_that_fits_decides),
        cmocka_unit_test(relative_paths_start_beside_conf),
        cmocka_unit_test(run_dir_fits_a_socket_address),
        cmocka_unit_test(units_are_exact),
        cmocka_unit_test(near_words_are_found),
        cmocka_unit_test(lines_of_keys_are_found),
        cmocka_unit_test(quotas_round_up),
        cmocka_unit_test(reference_names_every_key),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
