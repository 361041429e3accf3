/*
 * The import of emq.conf: what is converted loads as a configuration and says the same; what has no
 * counterpart is warned of with its line. The stock file in conf/ goes through as a whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shared/config.h"
#include "shared/emq_directives.h"
#include "shared/emq_file.h"
#include "shared/emq_import.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char home[64]; /* EMQ's home: etc/emq.conf lies in it, certs/ has the files */

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", home, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int set_up(void **state)
{
    (void)state;
    char path[128];
    snprintf(home, sizeof home, "/tmp/test_emq_import.XXXXXX");
    assert_non_null(mkdtemp(home));
    snprintf(path, sizeof path, "%s/etc", home);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/certs", home);
    assert_int_equal(mkdir(path, 0700), 0);
    write_file("certs/MyEMQ1.key", "key\n");
    write_file("certs/MyEMQ1.pem", "certificate\n");
    write_file("certs/MyRootCA.pem", "ca\n");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", home);
    return system(command);
}

/* Imports, then loads what came out; the warnings of the import are added to `warnings`. */
static struct config *import(const char *text, struct config_errors *warnings)
{
    char name[128];
    char *json = NULL;
    struct config *config = NULL;
    struct config_errors errors = {0};
    snprintf(name, sizeof name, "%s/etc/emq.conf", home);
    assert_int_equal(emq_import(text, strlen(text), name, &json, warnings), STATUS_OK);
    assert_int_equal(warnings->warnings, warnings->count);
    enum status status = config_load_text(json, strlen(json), "/elsewhere/x.json", &config, &errors);
    if (status != STATUS_OK) {
        fprintf(stderr, "%s\n", json);
        config_errors_print(&errors, stderr);
    }
    assert_int_equal(status, STATUS_OK);
    config_errors_done(&errors);
    free(json);
    return config;
}

static bool mentions(const struct config_errors *errors, const char *part)
{
    for (size_t i = 0; i < errors->count; i++)
        if (strstr(errors->entries[i].text, part) != NULL)
            return true;
    return false;
}

static void assert_warned(const struct config_errors *warnings, const char *part)
{
    if (mentions(warnings, part))
        return;
    config_errors_print(warnings, stderr);
    fail_msg("no warning with «%s»", part);
}

static const struct config_listener *listener_named(const struct config *config, const char *key)
{
    for (size_t i = 0; i < config->listener_count; i++)
        if (strcmp(config->listeners[i].key, key) == 0)
            return &config->listeners[i];
    fail_msg("no listener %s", key);
    return NULL;
}

/* Imports text with one TLS listener's options, each line after "listener.ssl.a.". */
#define SSL_HEAD                                                                                             \
    "listener.ssl.a = 8883\nlistener.ssl.a.keyfile = certs/MyEMQ1.key\nlistener.ssl.a.certfile = "           \
    "certs/MyEMQ1.pem\n"

static void directives_become_keys(void **state)
{
    (void)state;
    struct config_errors warnings = {0};
    struct config *config = import("node.name = emq@10.0.0.1 # a comment\n"
                                   "  mqtt.max_packet_size=256KB\r\n"
                                   "mqtt.max_clientid_len = 64\n"
                                   "mqtt.keepalive_backoff = 1.0\n"
                                   "mqtt.client.idle_timeout = 20s\n"
                                   "mqtt.session.max_inflight = 0\n"
                                   "mqtt.session.max_awaiting_rel = 50\n"
                                   "mqtt.session.max_subscriptions = 5\n"
                                   "mqtt.session.expiry_interval = 1d\n"
                                   "mqtt.mqueue.max_length = 77\n"
                                   "mqtt.allow_anonymous = false\n"
                                   "log.console.level = critical\n"
                                   "listener.tcp.b.backlog = 12\n"
                                   "listener.tcp.b = ::1:1884\n"
                                   "listener.tcp.b.max_clients = 99\n"
                                   "listener.tcp.b.nodelay = false\n"
                                   "listener.tcp.b.sndbuf = 8KB\n"
                                   "listener.tcp.b.recbuf = 4096\n"
                                   "listener.tcp.b.send_timeout = 15s\n"
                                   "listener.tcp.b.rate_limit = 100,10\n"
                                   "mqtt.client.max_publish_rate = 7\n"
                                   "mqtt.mqueue.store_qos0 = false\n"
                                   "mqtt.broker.sys_interval = 2m\n",
        &warnings);
    assert_string_equal(config->node.name, "emq-10.0.0.1");
    assert_warned(&warnings, "emq.conf:1: node.name: \"emq@10.0.0.1\" became");
    assert_int_equal(config->mqtt.max_packet_size, 262144);
    assert_int_equal(config->mqtt.max_clientid_length, 64);
    assert_true(config->mqtt.keepalive_multiplier == 2);
    assert_int_equal(config->mqtt.max_inflight, 65535);
    assert_int_equal(config->mqtt.max_awaiting_rel, 50);
    assert_int_equal(config->mqtt.max_subscriptions, 5);
    assert_int_equal(config->mqtt.session_expiry_v3_s, 86400);
    assert_int_equal(config->mqtt.max_queued_messages, 77);
    assert_int_equal(config->auth.allow_anonymous, CONFIG_ANONYMOUS_NO);
    assert_int_equal(config->log.level, LOG_LEVEL_ERROR);
    const struct config_listener *listener = listener_named(config, "tcp:b");
    assert_string_equal(listener->bind.text, "[::1]:1884");
    assert_int_equal(listener->backlog, 12);
    assert_int_equal(listener->max_connections, 99);
    assert_int_equal(listener->connect_timeout_ms, 20000);
    assert_int_equal(listener->tcp_user_timeout_ms, 15000);
    assert_int_equal(listener->sndbuf, 8192);
    assert_int_equal(listener->recbuf, 4096);
    assert_false(listener->nodelay);
    assert_int_equal(listener->bytes_rate, 10240);
    assert_int_equal(listener->messages_rate, 7);
    assert_false(config->mqtt.queue_qos0);
    assert_int_equal(config->mqtt.sys_interval_s, 120);
    assert_warned(&warnings, "emq.conf:19: listener.tcp.b.send_timeout: became tcp_user_timeout");
    assert_warned(
        &warnings, "emq.conf:20: listener.tcp.b.rate_limit: the rate was taken over, 10 KB per second");
    assert_int_equal(warnings.count, 3);
    config_free(&config);
    config_errors_done(&warnings);
}

static void tls_listeners_are_converted(void **state)
{
    (void)state;
    struct config_errors warnings = {0};
    struct config *config = import(SSL_HEAD "listener.ssl.a.cacertfile = certs/MyRootCA.pem\n"
                                            "listener.ssl.a.verify = verify_peer\n"
                                            "listener.ssl.a.fail_if_no_peer_cert = true\n"
                                            "listener.ssl.a.peer_cert_as_username = dn\n"
                                            "listener.ssl.a.tls_versions = tlsv1.2,tlsv1.1,tlsv1\n"
                                            "listener.ssl.a.ciphers = A-SHA384, B-SHA256\n"
                                            "listener.ssl.a.handshake_timeout = 5s\n"
                                            "listener.ssl.a.honor_cipher_order = on\n"
                                            "listener.ssl.a.reuse_sessions = on\n"
                                            "listener.ssl.a.dhfile = x\n"
                                            "mqtt.allow_anonymous = true\n",
        &warnings);
    const struct config_listener *listener = listener_named(config, "ssl:a");
    char path[128];
    snprintf(path, sizeof path, "%s/certs/MyEMQ1.key", home);
    assert_string_equal(listener->tls.keyfile, path);
    assert_true(listener->bind.both_families);
    assert_int_equal(listener->tls.verify, CONFIG_VERIFY_PEER);
    assert_true(listener->tls.fail_if_no_peer_cert);
    assert_int_equal(listener->tls.peer_cert_as_username, CONFIG_PEER_CERT_DN);
    assert_int_equal(listener->tls.versions, CONFIG_TLS_1_2);
    assert_string_equal(listener->tls.ciphers, "A-SHA384:B-SHA256");
    assert_int_equal(listener->tls.handshake_timeout_ms, 5000);
    assert_true(listener->tls.honor_cipher_order);
    assert_warned(&warnings, "emq.conf:8: listener.ssl.a.tls_versions: tlsv1.1 left out");
    assert_warned(&warnings, "emq.conf:8: listener.ssl.a.tls_versions: tlsv1 left out");
    assert_warned(&warnings, "emq.conf:13: listener.ssl.a.dhfile: no counterpart: ");
    assert_int_equal(warnings.count, 3);
    config_free(&config);
    config_errors_done(&warnings);
}

static void defaults_that_differ_are_written_out(void **state)
{
    (void)state;
    struct config_errors warnings = {0};
    struct config *config = import(SSL_HEAD, &warnings);
    assert_int_equal(config->auth.allow_anonymous, CONFIG_ANONYMOUS_YES);
    assert_warned(&warnings, "emq.conf: mqtt.allow_anonymous is not given");
    assert_int_equal(warnings.count, 1);
    assert_int_equal(config->mqtt.max_packet_size, 65536);
    assert_int_equal(config->mqtt.max_inflight, 100);
    assert_int_equal(config->mqtt.max_awaiting_rel, 65535);
    assert_int_equal(config->mqtt.max_subscriptions, 0);
    assert_true(config->mqtt.queue_qos0);
    assert_int_equal(config->mqtt.queue_full, CONFIG_QUEUE_DROP_OLDEST);
    assert_int_equal(config->mqtt.sys_interval_s, 60);
    assert_int_equal(config->listeners[0].max_connections, 1024);
    assert_int_equal(config->listeners[0].connect_timeout_ms, 30000);
    assert_false(config->listeners[0].tls.honor_cipher_order);
    config_free(&config);
    config_errors_done(&warnings);
}

static void topics_are_taken_over_with_their_modules(void **state)
{
    (void)state;
    struct config_errors warnings = {0};
    struct config *config = import("listener.tcp.a = 1883\n"
                                   "listener.tcp.a.mountpoint = devices/%c/\n"
                                   "listener.tcp.b = 1884\n"
                                   "listener.tcp.b.mountpoint = devices\n"
                                   "module.subscription = on\n"
                                   "module.subscription.2.topic = to/%u\n"
                                   "module.subscription.1.topic = $client/%c\n"
                                   "module.subscription.1.qos = 1\n"
                                   "module.subscription.3.topic = a/#/b\n"
                                   "module.rewrite = on\n"
                                   "module.rewrite.rule.1 = \"rewrite x/# ^x/y/(.+)$ z/y/$1\"\n"
                                   "module.rewrite.rule.2 = x/y/+ ^x/(.+)$ w/$1\n"
                                   "module.rewrite.rule.10 = y ^(y $1\n"
                                   "module.rewrite.rule.11 = y z\n"
                                   "retainer.max_message_num = 1000\n"
                                   "retainer.max_payload_size = 64KB\n"
                                   "retainer.expiry_interval = 30m\n"
                                   "retainer.storage_type = disc\n"
                                   "auth.user.1.username = anna\n"
                                   "mqtt.allow_anonymous = true\n",
        &warnings);
    assert_string_equal(config->listeners[0].mountpoint, "devices/%c/");
    assert_null(config->listeners[1].mountpoint);
    assert_warned(&warnings, "emq.conf:4: listener.tcp.b.mountpoint: found \"devices\", left out");
    const struct config_subscription *topics = config->auto_subscribe.topics.items;
    assert_int_equal(config->auto_subscribe.topics.count, 2);
    assert_string_equal(topics[0].topic, "$client/%c");
    assert_int_equal(topics[0].qos, 1);
    assert_string_equal(topics[1].topic, "to/%u");
    assert_int_equal(topics[1].qos, 0);
    assert_warned(&warnings, "emq.conf:7: module.subscription.1.topic: no client can publish");
    assert_warned(&warnings, "emq.conf:9: module.subscription.3.topic: nothing that Shoal takes");
    const struct config_rewrite_rule *rules = config->rewrite.rules.items;
    assert_int_equal(config->rewrite.rules.count, 2); /* the first of EMQ 2 is the last here: it decides */
    assert_string_equal(rules[0].source_topic, "x/y/+");
    assert_string_equal(rules[1].source_topic, "x/#");
    assert_string_equal(rules[1].re, "^x/y/(.+)$");
    assert_string_equal(rules[1].dest_topic, "z/y/$1");
    assert_warned(&warnings, "emq.conf:13: module.rewrite.rule.10: nothing that Shoal takes");
    assert_warned(&warnings, "emq.conf:14: module.rewrite.rule.11: no rule such as");
    assert_int_equal(config->retained.max_messages, 1000);
    assert_int_equal(config->retained.max_payload_size, 65536);
    assert_int_equal(config->retained.expiry_s, 1800);
    assert_warned(&warnings, "emq.conf:18: retainer.storage_type: no counterpart: ");
    assert_warned(&warnings, "emq.conf:19: auth.user.1.username: no counterpart: this user cannot log in");
    config_free(&config);
    config_errors_done(&warnings);
}

static void modules_that_are_off_stay_off(void **state)
{
    (void)state;
    struct config_errors warnings = {0};
    struct config *config = import("listener.tcp.a = 1883\n"
                                   "module.subscription.1.topic = a\n"
                                   "module.rewrite = off\n"
                                   "module.rewrite.rule.1 = x/# ^x/y/(.+)$ z/y/$1\n"
                                   "mqtt.allow_anonymous = true\n",
        &warnings);
    assert_int_equal(config->auto_subscribe.topics.count + config->rewrite.rules.count, 0);
    assert_warned(&warnings, "emq.conf:2: module.subscription.1.topic: left out, the file does not say");
    assert_warned(&warnings, "emq.conf:4: module.rewrite.rule.1: left out, the file does not say");
    assert_int_equal(warnings.count, 2);
    config_free(&config);
    config_errors_done(&warnings);
}

static void what_has_no_counterpart_is_warned_of(void **state)
{
    (void)state;
    struct config_errors warnings = {0};
    struct config *config = import("listener.tcp.a = 1883\n"
                                   "listener.tcp.a.proxy_protocol_timeout = 3s\n"
                                   "listener.tcp.a.rate_limit = 100\n"
                                   "listener.tcp.a.acceptors = 16\n"
                                   "listener.api.a = 8083\n"
                                   "listener.wss.a.keyfile = x\n"
                                   "cluster.discovery = static\n"
                                   "cluster.static.seeds = a@h,b@h\n"
                                   "node.cookie = secret\n"
                                   "mqtt.acl_file = etc/acl.conf\n"
                                   "some.thing = else\n"
                                   "listener.tcp.z.backlog = 1\n"
                                   "just words\n"
                                   "mqtt.max_packet_size = 1 lot\n"
                                   "mqtt.max_clientid_len = 3\n"
                                   "mqtt.allow_anonymous = true\n"
                                   "mqtt.allow_anonymous = false\n",
        &warnings);
    assert_warned(&warnings, "emq.conf:2: listener.tcp.a.proxy_protocol_timeout: no counterpart: ");
    assert_warned(&warnings, "emq.conf:3: listener.tcp.a.rate_limit: found \"100\", left out");
    assert_warned(&warnings, "emq.conf:4: listener.tcp.a.acceptors: no counterpart: ");
    assert_warned(&warnings, "emq.conf:5: listener.api.a: no counterpart yet: ");
    assert_warned(&warnings, "emq.conf:6: listener.wss.a.keyfile: left out, the file opens no such listener");
    assert_warned(&warnings, "emq.conf:7: cluster.discovery: no counterpart: ");
    assert_warned(
        &warnings, "emq.conf:8: cluster.static.seeds: no counterpart: list the nodes in a cluster file");
    assert_warned(&warnings, "emq.conf:9: node.cookie: no counterpart: ");
    assert_warned(&warnings, "emq.conf:10: mqtt.acl_file: no counterpart: its rules do not hold");
    assert_warned(&warnings, "emq.conf:11: some.thing: no such directive is known");
    assert_warned(
        &warnings, "emq.conf:12: listener.tcp.z.backlog: left out, the file opens no such listener");
    assert_warned(&warnings, "emq.conf:13: no «key = value»");
    assert_warned(&warnings, "emq.conf:14: mqtt.max_packet_size: found \"1 lot\", left out");
    assert_warned(&warnings,
        "emq.conf:15: mqtt.max_clientid_len: found \"3\", left out; mqtt.max_clientid_length allows");
    assert_warned(&warnings, "emq.conf:16: mqtt.allow_anonymous: given again on line 17");
    assert_int_equal(warnings.count, 15);
    assert_int_equal(config->auth.allow_anonymous, CONFIG_ANONYMOUS_NO);
    config_free(&config);
    config_errors_done(&warnings);
}

static void websocket_listeners_are_converted(void **state)
{
    (void)state;
    struct config_errors warnings = {0};
    struct config *config = import("listener.ws.a = 8083\n"
                                   "listener.ws.a.max_clients = 64\n"
                                   "listener.ws.a.access.2 = deny all\n"
                                   "listener.ws.a.access.1 = allow 10.0.0.0/8\n"
                                   "listener.ws.a.verify_protocol_header = off\n"
                                   "listener.ws.a.proxy_address_header = X-Forwarded-For\n"
                                   "listener.wss.b = 127.0.0.1:8084\n"
                                   "listener.wss.b.keyfile = certs/MyEMQ1.key\n"
                                   "listener.wss.b.certfile = certs/MyEMQ1.pem\n"
                                   "listener.wss.b.cacertfile = certs/MyRootCA.pem\n"
                                   "listener.wss.b.verify = verify_peer\n"
                                   "listener.wss.b.fail_if_no_peer_cert = true\n"
                                   "listener.wss.b.tls_versions = tlsv1.2\n"
                                   "mqtt.websocket_protocol_header = on\n"
                                   "mqtt.allow_anonymous = true\n",
        &warnings);
    const struct config_listener *ws = listener_named(config, "ws:a");
    assert_string_equal(ws->bind.text, "8083");
    assert_string_equal(ws->path, "/mqtt");
    assert_int_equal(ws->max_connections, 64);
    assert_int_equal(ws->access.count, 2);
    assert_true(ws->access.rules[0].allow && !ws->access.rules[1].allow);
    const struct config_listener *wss = listener_named(config, "wss:b");
    assert_int_equal(wss->type, CONFIG_LISTENER_WSS);
    assert_int_equal(wss->max_connections, 1024);
    assert_int_equal(wss->tls.verify, CONFIG_VERIFY_PEER);
    assert_true(wss->tls.fail_if_no_peer_cert);
    assert_false(wss->tls.honor_cipher_order);
    assert_int_equal(wss->tls.versions, CONFIG_TLS_1_2);
    assert_warned(&warnings, "emq.conf:5: listener.ws.a.verify_protocol_header: no counterpart: ");
    assert_warned(&warnings, "emq.conf:6: listener.ws.a.proxy_address_header: no counterpart: ");
    assert_int_equal(warnings.count, 2);
    config_free(&config);
    config_errors_done(&warnings);
}

static void proxy_protocol_and_its_names_are_converted(void **state)
{
    (void)state;
    struct config_errors warnings = {0};
    struct config *config = import("listener.tcp.a = 1883\n"
                                   "listener.tcp.a.proxy_protocol = on\n"
                                   "listener.tcp.a.peer_cert_as_username = cn\n"
                                   "listener.tcp.b = 1884\n"
                                   "listener.tcp.b.peer_cert_as_username = cn\n"
                                   "listener.ws.c = 1885\n"
                                   "listener.ws.c.proxy_protocol = on\n"
                                   "listener.ws.c.peer_cert_as_username = dn\n"
                                   "mqtt.allow_anonymous = true\n",
        &warnings);
    const struct config_listener *a = listener_named(config, "tcp:a");
    assert_true(a->proxy_protocol);
    assert_int_equal(a->tls.peer_cert_as_username, CONFIG_PEER_CERT_CN);
    assert_false(listener_named(config, "tcp:b")->proxy_protocol);
    assert_true(listener_named(config, "ws:c")->proxy_protocol);
    assert_warned(&warnings, "emq.conf:5: listener.tcp.b.peer_cert_as_username: left out, it has no effect");
    assert_warned(&warnings, "emq.conf:8: listener.ws.c.peer_cert_as_username: left out, a PROXY header has");
    assert_int_equal(warnings.count, 2);
    config_free(&config);
    config_errors_done(&warnings);
}

static void values_at_rest_need_no_warning(void **state)
{
    (void)state;
    struct config_errors warnings = {0};
    struct config *config = import("listener.tcp.a = 1883\nlistener.tcp.a.proxy_protocol = off\n"
                                   "cluster.discovery = manual\nmqtt.session.upgrade_qos = off\n"
                                   "log.console = console\nmqtt.allow_anonymous = true\n",
        &warnings);
    assert_int_equal(warnings.count, 0);
    config_free(&config);
    config_errors_done(&warnings);
}

static void access_rules_keep_their_order_and_meaning(void **state)
{
    (void)state;
    struct config_errors warnings = {0};
    struct config *config = import("listener.tcp.a = 1883\n"
                                   "listener.tcp.a.access.10 = deny 192.168.1.7/16\n"
                                   "listener.tcp.a.access.2 = allow 192.168.0.0/24\n"
                                   "listener.tcp.a.access.3 = allow some.host\n"
                                   "listener.tcp.b = 1884\n"
                                   "listener.tcp.b.access.1 = allow all\n",
        &warnings);
    const struct config_access *access = &listener_named(config, "tcp:a")->access;
    assert_int_equal(access->count, 3);
    assert_int_equal(access->rules[0].prefix_bits, 24);
    assert_true(access->rules[0].allow);
    assert_int_equal(access->rules[1].prefix_bits, 16);
    assert_false(access->rules[1].allow);
    assert_int_equal(access->rules[1].address[2], 0);
    /* What no rule fits, EMQ lets in. */
    assert_int_equal(access->rules[2].family, AF_UNSPEC);
    assert_true(access->rules[2].allow);
    assert_int_equal(listener_named(config, "tcp:b")->access.count, 1);
    assert_warned(&warnings, "emq.conf:4: listener.tcp.a.access.3: no rule such as");
    config_free(&config);
    config_errors_done(&warnings);
}

static void keys_without_verify_peer_are_dropped(void **state)
{
    (void)state;
    struct config_errors warnings = {0};
    struct config *config = import(SSL_HEAD "listener.ssl.a.fail_if_no_peer_cert = true\n"
                                            "listener.ssl.a.peer_cert_as_username = cn\n"
                                            "mqtt.max_packet_size = 32MB\n",
        &warnings);
    assert_warned(&warnings, "emq.conf:4: listener.ssl.a.fail_if_no_peer_cert: left out");
    assert_warned(&warnings, "emq.conf:5: listener.ssl.a.peer_cert_as_username: left out");
    assert_false(config->listeners[0].tls.fail_if_no_peer_cert);
    assert_int_equal(config->mqtt.max_queued_bytes, 32 << 20);
    config_free(&config);
    config_errors_done(&warnings);
}

/* The example of the sources; skipped when the test runs without them. */
static void stock_file_goes_through(void **state)
{
    (void)state;
    struct config_errors warnings = {0};
    static char text[1 << 16];
    char path[512];
    size_t root = strlen(__FILE__) - strlen("tests/unit/test_emq_import.c");
    snprintf(path, sizeof path, "%.*sconf/emq.conf.example", (int)root, __FILE__);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        skip();
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    struct config *config = import(text, &warnings);
    assert_int_equal(config->listener_count, 5);
    assert_true(listener_named(config, "ssl:external")->tls.fail_if_no_peer_cert);
    assert_int_equal(config->mqtt.max_inflight, 32);
    assert_false(mentions(&warnings, "no such directive"));
    assert_false(mentions(&warnings, "found \""));
    for (size_t i = 0; i < warnings.count; i++)
        assert_non_null(strstr(warnings.entries[i].text, "emq.conf:"));
    config_free(&config);
    config_errors_done(&warnings);
}

static void patterns_match_words(void **state)
{
    (void)state;
    assert_true(emq_key_matches("a.b", "a.b"));
    assert_true(emq_key_matches("a.b.c", "a.*.c"));
    assert_true(emq_key_matches("a.b.c", "a.**"));
    assert_true(emq_key_matches("a", "a.**"));
    assert_false(emq_key_matches("a", "a.*"));
    assert_false(emq_key_matches("a.b.c", "a.*"));
    assert_false(emq_key_matches("a.b", "a.b.c"));
    assert_false(emq_key_matches("ab.b", "a.b"));
    assert_false(emq_key_matches("b.a", "a.**"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directives_become_keys),
        cmocka_unit_test(tls_listeners_are_converted),
        cmocka_unit_test(defaults_that_differ_are_written_out),
        cmocka_unit_test(topics_are_taken_over_with_their_modules),
        cmocka_unit_test(modules_that_are_off_stay_off),
        cmocka_unit_test(what_has_no_counterpart_is_warned_of),
        cmocka_unit_test(websocket_listeners_are_converted),
        cmocka_unit_test(proxy_protocol_and_its_names_are_converted),
        cmocka_unit_test(values_at_rest_need_no_warning),
        cmocka_unit_test(access_rules_keep_their_order_and_meaning),
        cmocka_unit_test(keys_without_verify_peer_are_dropped),
        cmocka_unit_test(stock_file_goes_through),
        cmocka_unit_test(patterns_match_words),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
