/*
 * The table of EMQ 2's directives (2.0 to 2.3) and the conversions of their values. Data and pure functions;
 * what a conversion drops, it warns of, naming line and directive.
 */
#include "shared/emq_directives.h"

#include "shared/config_path.h"
#include "shared/config_units.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 256

/* Plain values ----------------------------------------------------------------------------------------------
 */

static json_t *convert_text(const struct config_context *context, const struct emq_directive *directive)
{
    (void)context;
    return json_string(directive->value);
}

static json_t *convert_number(const struct config_context *context, const struct emq_directive *directive)
{
    (void)context;
    char *end;
    errno = 0;
    long long number = strtoll(directive->value, &end, 10);
    return end == directive->value || *end != '\0' || errno != 0 ? NULL : json_integer(number);
}

/* A limit for which EMQ's 0 means none: Shoal's largest value stands for it. */
static json_t *unlimited(json_t *number, json_int_t largest)
{
    if (number != NULL && json_integer_value(number) == 0)
        json_integer_set(number, largest);
    return number;
}

static json_t *convert_window(const struct config_context *context, const struct emq_directive *directive)
{
    return unlimited(convert_number(context, directive), 65535);
}

static json_t *convert_queue_length(
    const struct config_context *context, const struct emq_directive *directive)
{
    if (strcmp(directive->value, "infinity") == 0) /* as early versions wrote it */
        return json_integer(100000000);
    return unlimited(convert_number(context, directive), 100000000);
}

static json_t *convert_size(const struct config_context *context, const struct emq_directive *directive)
{
    (void)context;
    uint64_t bytes;
    char text[CONFIG_UNITS_TEXT_MAX];
    if (config_size_parse(directive->value, &bytes) != STATUS_OK)
        return NULL;
    config_size_format(bytes, text);
    return json_string(text);
}

static json_t *convert_duration(const struct config_context *context, const struct emq_directive *directive)
{
    (void)context;
    uint64_t ms;
    char text[CONFIG_UNITS_TEXT_MAX];
    if (config_duration_parse(directive->value, &ms) != STATUS_OK)
        return NULL;
    config_duration_format(ms, text);
    return json_string(text);
}

static json_t *convert_flag(const struct config_context *context, const struct emq_directive *directive)
{
    (void)context;
    if (strcmp(directive->value, "on") == 0 || strcmp(directive->value, "true") == 0)
        return json_true();
    if (strcmp(directive->value, "off") == 0 || strcmp(directive->value, "false") == 0)
        return json_false();
    return NULL;
}

static json_t *convert_file(const struct config_context *context, const struct emq_directive *directive)
{
    char *path = config_path_join(context->base, directive->value);
    assert(path != NULL);
    json_t *value = json_string(path);
    free(path);
    return value;
}

/* Values with a shape of their own --------------------------------------------------------------------------
 */

/* emq@127.0.0.1 becomes emq-127.0.0.1: still different on each node. */
static json_t *convert_node_name(const struct config_context *context, const struct emq_directive *directive)
{
    char name[TEXT_MAX];
    snprintf(name, sizeof name, "%s", directive->value);
    char *at = strchr(name, '@');
    if (at != NULL) {
        *at = '-';
        config_warn_line(context, directive->line, "%s: \"%s\" became \"%s\", since names hold no @",
            directive->key, directive->value, name);
    }
    return json_string(name);
}

/* EMQ waits for keep-alive times back-off, twice. */
static json_t *convert_backoff(const struct config_context *context, const struct emq_directive *directive)
{
    (void)context;
    char *end;
    double backoff = strtod(directive->value, &end);
    return end == directive->value || *end != '\0' ? NULL : json_real(2 * backoff);
}

static json_t *convert_log_level(const struct config_context *context, const struct emq_directive *directive)
{
    (void)context;
    static const char *const graver[] = {"critical", "alert", "emergency", "none"};
    for (size_t i = 0; i < sizeof graver / sizeof *graver; i++)
        if (strcmp(directive->value, graver[i]) == 0)
            return json_string("error");
    return json_string(directive->value);
}

/* "BURST,RATE" in KB and KB per second. Shoal's bucket holds a second's worth: only the rate is taken over.
 */
static json_t *convert_rate_limit(const struct config_context *context, const struct emq_directive *directive)
{
    unsigned long burst, rate;
    int used = 0;
    char text[CONFIG_UNITS_TEXT_MAX];
    if (sscanf(directive->value, "%9lu , %9lu%n", &burst, &rate, &used) != 2 ||
        directive->value[used] != '\0')
        return NULL;
    if (burst != rate)
        config_warn_line(context, directive->line,
            "%s: the rate was taken over, %lu KB per second; what may come at once is a second's worth, not "
            "%lu KB",
            directive->key, rate, burst);
    config_size_format((uint64_t)rate * 1024, text);
    return json_string(text);
}

/* EMQ writes an IPv6 address without brackets: ::1:8883. */
static json_t *convert_bind(const struct config_context *context, const struct emq_directive *directive)
{
    (void)context;
    char text[TEXT_MAX];
    const char *last = strrchr(directive->value, ':');
    if (last == NULL || last == strchr(directive->value, ':') || directive->value[0] == '[')
        return json_string(directive->value);
    snprintf(text, sizeof text, "[%.*s]%s", (int)(last - directive->value), directive->value, last);
    return json_string(text);
}

static json_t *convert_versions(const struct config_context *context, const struct emq_directive *directive)
{
    json_t *versions = json_array();
    const char *at = directive->value;
    while (*at != '\0') {
        size_t size = strcspn(at, ", ");
        bool old = (size == 5 && strncmp(at, "tlsv1", size) == 0) ||
                   (size == 7 && strncmp(at, "tlsv1.1", size) == 0) ||
                   (size == 5 && strncmp(at, "sslv3", size) == 0);
        if (old)
            config_warn_line(context, directive->line, "%s: %.*s left out, Shoal speaks TLS 1.2 and 1.3 only",
                directive->key, (int)size, at);
        else if (size > 0)
            json_array_append_new(versions, json_stringn(at, size));
        at += size;
        at += strspn(at, ", ");
    }
    if (json_array_size(versions) == 0)
        json_array_append_new(versions, json_string("tlsv1.2"));
    return versions;
}

/* Erlang's list has commas where OpenSSL's has colons; the names are the same. */
static json_t *convert_ciphers(const struct config_context *context, const struct emq_directive *directive)
{
    (void)context;
    char *names = strdup(directive->value);
    assert(names != NULL);
    char *to = names;
    for (const char *from = directive->value; *from != '\0'; from++)
        if (*from != ' ')
            *to++ = *from == ',' ? ':' : *from;
    *to = '\0';
    json_t *value = json_string(names);
    free(names);
    return value;
}

/* The table. */

#define YET    "no counterpart yet: "
#define NONE   "no counterpart: "
#define ERLANG NONE "a setting of the Erlang machine, which Shoal has not"
#define LOGS   NONE "all log lines go to standard error"
#define SOCKET(type)                                                                                         \
    {"listener." type ".*.acceptors", NULL, NULL, NONE "as many processes accept as node.workers says",      \
        NULL},                                                                                               \
        {"listener." type ".*.max_clients", "listeners.*.max_connections", convert_number, NULL, NULL},      \
        {"listener." type ".*.backlog", "listeners.*.backlog", convert_number, NULL, NULL},                  \
        {"listener." type ".*.nodelay", "listeners.tcp:*.nodelay", convert_flag, NULL, NULL},                \
        {"listener." type ".*.sndbuf", "listeners.*.sndbuf", convert_size, NULL, NULL},                      \
        {"listener." type ".*.recbuf", "listeners.*.recbuf", convert_size, NULL, NULL},                      \
        {"listener." type ".*.send_timeout", "listeners.tcp:*.tcp_user_timeout", convert_duration,           \
            "became tcp_user_timeout, the time in which the peer must acknowledge what was sent", NULL},     \
        {"listener." type ".*.send_timeout_close", NULL, NULL, NONE "a connection that timed out is closed", \
            "on"},                                                                                           \
        {"listener." type ".*.buffer", NULL, NULL, NONE "Shoal sizes its own buffers", NULL},                \
        {"listener." type ".*.tune_buffer", NULL, NULL, NONE "Shoal sizes its own buffers", "off"},          \
        {"listener." type ".*.reuseaddr", NULL, NULL, NONE "it is always set", "true"},                      \
        {"listener." type ".*.zone", NULL, NULL, NONE "a configuration has no zones", NULL},                 \
        {"listener." type ".*.mountpoint", "listeners.*.mountpoint", convert_text, NULL, NULL},              \
        {"listener." type ".*.rate_limit", "listeners.*.bytes_rate", convert_rate_limit, NULL, NULL},        \
        {"listener." type ".*.proxy_protocol", "listeners.tcp:*.proxy_protocol", convert_flag, NULL, NULL},  \
        {"listener." type ".*.proxy_protocol_timeout", NULL, NULL,                                           \
            NONE "the PROXY header has as long as CONNECT (connect_timeout) or the TLS handshake", NULL},    \
        {"listener." type ".*.peer_cert_as_username", "listeners.tcp:*.peer_cert_as_username", convert_text, \
            NULL, NULL},                                                                                     \
    {                                                                                                        \
        "listener." type ".*", "listeners.tcp:*.bind", convert_bind, NULL, NULL                              \
    }

#define TLS(type)                                                                                            \
    {"listener." type ".*.handshake_timeout", "listeners.ssl:*.handshake_timeout", convert_duration, NULL,   \
        NULL},                                                                                               \
        {"listener." type ".*.keyfile", "listeners.ssl:*.keyfile", convert_file, NULL, NULL},                \
        {"listener." type ".*.certfile", "listeners.ssl:*.certfile", convert_file, NULL, NULL},              \
        {"listener." type ".*.cacertfile", "listeners.ssl:*.cacertfile", convert_file, NULL, NULL},          \
        {"listener." type ".*.verify", "listeners.ssl:*.verify", convert_text, NULL, NULL},                  \
        {"listener." type ".*.fail_if_no_peer_cert", "listeners.ssl:*.fail_if_no_peer_cert", convert_flag,   \
            NULL, NULL},                                                                                     \
        {"listener." type ".*.tls_versions", "listeners.ssl:*.versions", convert_versions, NULL, NULL},      \
        {"listener." type ".*.ciphers", "listeners.ssl:*.ciphers", convert_ciphers, NULL, NULL},             \
        {"listener." type ".*.honor_cipher_order", "listeners.ssl:*.honor_cipher_order", convert_flag, NULL, \
            NULL},                                                                                           \
        {"listener." type ".*.dhfile", NULL, NULL,                                                           \
            NONE "key exchange uses elliptic curves, no file of DH parameters", NULL},                       \
        {"listener." type ".*.reuse_sessions", NULL, NULL,                                                   \
            NONE "whether sessions are resumed is no setting", "on"},                                        \
    {                                                                                                        \
        "listener." type ".*.secure_renegotiate", NULL, NULL,                                                \
            NONE "insecure renegotiation is never allowed", "on"                                             \
    }
#define WEBSOCKET(type)                                                                                      \
    {"listener." type ".*.verify_protocol_header", NULL, NULL,                                               \
        NONE "a client must always offer the sub-protocol mqtt or mqttv3.1", "on"},                          \
        {"listener." type ".*.proxy_address_header", NULL, NULL,                                             \
            NONE "a client's address comes from proxy_protocol, never from an HTTP header", NULL},           \
    {                                                                                                        \
        "listener." type ".*.proxy_port_header", NULL, NULL,                                                 \
            NONE "a client's address comes from proxy_protocol, never from an HTTP header", NULL             \
    }

/* clang-format off */
static const struct emq_mapping mappings[] = {
    {"node.name", "node.name", convert_node_name, NULL, NULL},
    {"node.cookie", NULL, NULL, NONE "nodes know each other by certificates", NULL},
    {"node.**", NULL, NULL, ERLANG, NULL},
    {"cluster.discovery", NULL, NULL, NONE "a cluster file names all nodes (shoald --cluster)", "manual"},
    {"cluster.static.seeds", NULL, NULL, NONE "list the nodes in a cluster file (shoald --cluster)", NULL},
    {"cluster.**", NULL, NULL, NONE "a cluster file says all of its cluster (shoald --cluster)", NULL},

    {"log.console.level", "log.level", convert_log_level, NULL, NULL},
    {"log.console", NULL, NULL, LOGS, "console"},
    {"log.**", NULL, NULL, LOGS, NULL},

    {"mqtt.allow_anonymous", "auth.allow_anonymous", convert_flag, NULL, NULL},
    {"mqtt.acl_nomatch", NULL, NULL, NONE "with auth.acl_file, what no line of it allows is denied", "allow"},
    {"mqtt.acl_file", NULL, NULL, NONE "its rules do not hold, clients may use every topic; auth.acl_file takes rules "
     "in Mosquitto's format", NULL},
    {"mqtt.cache_acl", NULL, NULL, NONE "there is nothing to be cached, the rules are in memory", "true"},
    {"mqtt.max_clientid_len", "mqtt.max_clientid_length", convert_number, NULL, NULL},
    {"mqtt.max_packet_size", "mqtt.max_packet_size", convert_size, NULL, NULL},
    {"mqtt.keepalive_backoff", "mqtt.keepalive_multiplier", convert_backoff, NULL, NULL},
    {"mqtt.websocket_protocol_header", NULL, NULL, NONE "a client must always offer the sub-protocol mqtt or mqttv3.1",
     "on"},
    {"mqtt.websocket_check_upgrade_header", NULL, NULL, NONE "the upgrade header is always checked", "on"},
    {"mqtt.conn.force_gc_count", NULL, NULL, ERLANG, NULL},
    {"mqtt.client.idle_timeout", "listeners.*.connect_timeout", convert_duration, NULL, NULL},
    {"mqtt.client_idle_timeout", "listeners.*.connect_timeout", convert_duration, NULL, NULL},
    {"mqtt.client.max_publish_rate", "listeners.*.messages_rate", convert_number, NULL, NULL},
    {"mqtt.client.enable_stats", NULL, NULL, NONE "counters are kept for the node, not for single clients", "off"},
    {"mqtt.session.max_subscriptions", "mqtt.max_subscriptions", convert_number, NULL, NULL},
    {"mqtt.session.max_inflight", "mqtt.max_inflight", convert_window, NULL, NULL},
    {"mqtt.session.max_awaiting_rel", "mqtt.max_awaiting_rel", convert_window, NULL, NULL},
    {"mqtt.session.expiry_interval", "mqtt.session_expiry_v3", convert_duration, NULL, NULL},
    {"mqtt.session.expired_after", "mqtt.session_expiry_v3", convert_duration, NULL, NULL},
    {"mqtt.session.upgrade_qos", NULL, NULL, NONE "a delivery has the lower QoS, as MQTT says", "off"},
    {"mqtt.session.retry_interval", NULL, NULL, NONE "messages are sent again when a client reconnects, never on "
     "a connection that lives", NULL},
    {"mqtt.session.await_rel_timeout", NULL, NULL, NONE "a QoS 2 publication waits for PUBREL as long as its session "
     "lives", NULL},
    {"mqtt.session.enable_stats", NULL, NULL, NONE "counters are kept for the node, not for single sessions", "off"},
    {"mqtt.session.ignore_loop_deliver", NULL, NULL, NONE "version 5 clients say «no local» for each subscription",
     "false"},
    {"mqtt.mqueue.max_length", "mqtt.max_queued_messages", convert_queue_length, NULL, NULL},
    {"mqtt.queue.max_length", "mqtt.max_queued_messages", convert_queue_length, NULL, NULL},
    {"mqtt.mqueue.type", NULL, NULL, NONE "a session's queue has no priorities", "simple"},
    {"mqtt.queue.type", NULL, NULL, NONE "a session's queue has no priorities", "simple"},
    {"mqtt.mqueue.store_qos0", "mqtt.queue_qos0", convert_flag, NULL, NULL},
    {"mqtt.queue.qos0", "mqtt.queue_qos0", convert_flag, NULL, NULL},
    {"mqtt.mqueue.**", NULL, NULL, NONE "a session's queue is bounded by max_queued_messages and max_queued_bytes", NULL},
    {"mqtt.queue.**", NULL, NULL, NONE "a session's queue is bounded by max_queued_messages and max_queued_bytes", NULL},
    {"mqtt.broker.sys_interval", "mqtt.sys_interval", convert_duration, NULL, NULL},
    {"mqtt.broker.**", NULL, NULL, NONE "a setting inside EMQ", NULL},
    {"mqtt.pubsub.**", NULL, NULL, NONE "a setting inside EMQ", NULL},
    {"mqtt.bridge.**", NULL, NULL, YET "there are no bridges", NULL},
    {"mqtt.plugins.**", NULL, NULL, NONE "Shoal has no plugins; for users see auth.password_file, for access rules "
     "auth.acl_file", NULL},

    /* Of the plugins' own files, which may be given behind emq.conf in one. */
    {"retainer.max_message_num", "retained.max_messages", convert_number, NULL, NULL},
    {"retainer.max_payload_size", "retained.max_payload_size", convert_size, NULL, NULL},
    {"retainer.expiry_interval", "retained.expiry", convert_duration, NULL, NULL},
    {"retainer.storage_type", NULL, NULL, NONE "retained messages are in memory", "ram"},
    {"module.presence.**", NULL, NULL, NONE "clients that come and go are told in the log, not in $SYS topics", "off"},
    {"auth.user.**", NULL, NULL, NONE "this user cannot log in; users are in auth.password_file, and shoalctl "
     "hash-password makes its lines", NULL},
    {"auth.client.**", NULL, NULL, NONE "this client cannot log in; users are in auth.password_file, and shoalctl "
     "hash-password makes its lines", NULL},
    {"auth.**", NULL, NULL, NONE "users and access rights come from files, auth.password_file and auth.acl_file", NULL},

    SOCKET("tcp"),
    TLS("ssl"),
    SOCKET("ssl"),
    WEBSOCKET("ws"),
    SOCKET("ws"),
    TLS("wss"),
    WEBSOCKET("wss"),
    SOCKET("wss"),
    {"listener.api.**", NULL, NULL, YET "there is no HTTP interface", NULL},
    {"sysmon.**", NULL, NULL, ERLANG, NULL},
};
/* clang-format on */

const struct emq_mapping *emq_mapping_of(const char *key)
{
    for (size_t i = 0; i < sizeof mappings / sizeof *mappings; i++)
        if (emq_key_matches(key, mappings[i].pattern))
            return &mappings[i];
    return NULL;
}
