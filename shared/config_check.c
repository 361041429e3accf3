/*
 * Checks of the configuration as a whole. Runs after all single values are parsed, also when some were wrong
 * (defaults stand in for them), so that one run shows everything. Binds nothing, resolves no host.
 */
#include "shared/config_check.h"

#include "shared/config_address.h"
#include "shared/config_path.h"
#include "shared/cpu_count.h"

#include <assert.h>
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Places on the bus that workers cannot have: the link and the nodes. */
static unsigned others(const struct config *config)
{
    return config->cluster.count == 0 ? 0 : 1 + (unsigned)config->cluster.count;
}

static void derive_node(struct config *config)
{
    if (config->node.workers == 0) {
        unsigned cpus = cpu_count(), most = CONFIG_WORKERS_MAX - others(config);
        config->node.workers = cpus < most ? cpus : most;
    }
    if (config->node.run_dir == NULL && config->node.data_dir != NULL) {
        config->node.run_dir = config_path_join(config->node.data_dir, "run");
        assert(config->node.run_dir != NULL);
    }
}

static void check_user(const struct config_context *context, const char *user)
{
    if (context->handed || geteuid() != 0 || user == NULL)
        return;
    errno = 0;
    if (getpwnam(user) == NULL)
        config_complain(context, "node.user",
            "found \"%s\", which is no user of this system%s%s; allowed: a user", user, errno ? ": " : "",
            errno ? strerror(errno) : "");
}

static void check_node(const struct config_context *context, const struct config *config)
{
    const char *run_dir = config->node.run_dir;
    if (run_dir != NULL && strlen(run_dir) > CONFIG_RUN_DIR_MAX)
        config_complain(context, "node.run_dir",
            "found %s, which has %zu bytes; allowed: at most %d, since the addresses of the sockets in it "
            "are short",
            run_dir, strlen(run_dir), CONFIG_RUN_DIR_MAX);
    check_user(context, config->node.user);
}

static void check_limits(const struct config_context *context, const struct config *config)
{
    size_t window = config->bus.window;
    if ((window & (window - 1)) != 0)
        config_complain(context, "bus.window",
            "found %zu; allowed: a power of two, such as \"512KiB\" or \"1MiB\"", window);
    if (config->mqtt.max_queued_bytes < config->mqtt.max_packet_size)
        config_complain(context, "mqtt.max_queued_bytes",
            "found %zu; allowed: at least mqtt.max_packet_size, %zu, or a large message could never wait",
            config->mqtt.max_queued_bytes, config->mqtt.max_packet_size);
}

static void check_link_file(
    const struct config_context *context, const struct config *config, const char *key, const char *file)
{
    if (config->cluster.count > 0 && file == NULL && !context->handed)
        config_complain(context, "bus",
            "the key \"%s\" is missing; allowed: the path of a readable file, since all that nodes say to "
            "each "
            "other is encrypted",
            key);
    if (config->cluster.count == 0 && file != NULL) {
        char path[CONFIG_PATH_TEXT_MAX];
        snprintf(path, sizeof path, "bus.%s", key);
        config_complain(
            context, path, "a node alone has no link; allowed: in a cluster file (shoald --cluster)");
    }
}

static void check_cluster(const struct config_context *context, const struct config *config)
{
    size_t window = config->bus.node_window;
    if ((window & (window - 1)) != 0)
        config_complain(context, "bus.node_window",
            "found %zu; allowed: a power of two, such as \"1MiB\" or \"4MiB\"", window);
    check_link_file(context, config, "keyfile", config->bus.keyfile);
    check_link_file(context, config, "certfile", config->bus.certfile);
    check_link_file(context, config, "cacertfile", config->bus.cacertfile);
    if (config->node.workers + others(config) > CONFIG_WORKERS_MAX)
        config_complain(context, "node.workers", "found %u; allowed in a cluster of %zu nodes: at most %u",
            (unsigned)config->node.workers, config->cluster.count, CONFIG_WORKERS_MAX - others(config));
}

/* One listener ----------------------------------------------------------------------------------------------
 */

/* Complains under a key of the listener. */
#define COMPLAIN(context, listener, name, ...)                                                               \
    do {                                                                                                     \
        char path[CONFIG_PATH_TEXT_MAX];                                                                     \
        snprintf(path, sizeof path, "listeners.%s.%s", (listener)->key, name);                               \
        config_complain(context, path, __VA_ARGS__);                                                         \
    } while (0)

static void check_access(const struct config_context *context, const struct config_listener *listener)
{
    for (size_t i = 0; i < listener->access.count; i++)
        if (listener->access.rules[i].allow)
            return;
    COMPLAIN(context, listener, "access",
        "no rule allows anybody; allowed: at least one \"allow …\", such as \"allow all\" as the last rule");
}

static void check_client_certificates(
    const struct config_context *context, const struct config_listener *listener)
{
    const struct config_tls *tls = &listener->tls;
    bool peer = tls->verify == CONFIG_VERIFY_PEER;
    if (peer && tls->cacertfile == NULL)
        COMPLAIN(context, listener, "verify",
            "\"verify_peer\" needs cacertfile, the certificates that clients' certificates are checked "
            "against");
    if (!peer && tls->crlfile != NULL)
        COMPLAIN(context, listener, "crlfile",
            "needs \"verify\": \"verify_peer\", since clients are not asked for a certificate otherwise");
    if (!peer && tls->partial_chain)
        COMPLAIN(context, listener, "partial_chain",
            "true needs \"verify\": \"verify_peer\", since clients are not asked for a certificate "
            "otherwise");
    if (!peer && tls->fail_if_no_peer_cert)
        COMPLAIN(context, listener, "fail_if_no_peer_cert",
            "true needs \"verify\": \"verify_peer\", since clients are not asked for a certificate "
            "otherwise");
}

/* Names out of certificates: of our own handshake, or of a proxy's. */
static void check_peer_name(const struct config_context *context, const struct config_listener *listener,
    const char *key, enum config_peer_cert what)
{
    if (what == CONFIG_PEER_CERT_NONE)
        return;
    if (config_listener_has_tls(listener)) {
        if (listener->tls.verify != CONFIG_VERIFY_PEER)
            COMPLAIN(context, listener, key,
                "needs \"verify\": \"verify_peer\", since an unchecked certificate proves nothing");
    } else if (!listener->proxy_protocol) {
        COMPLAIN(context, listener, key,
            "needs a listener with TLS, or \"proxy_protocol\": true behind a proxy that ends the TLS");
    } else if (what != CONFIG_PEER_CERT_CN) {
        COMPLAIN(context, listener, key,
            "allowed without TLS: \"cn\", all that a PROXY header has of a certificate");
    }
}

static void check_tls(const struct config_context *context, const struct config_listener *listener)
{
    const struct config_tls *tls = &listener->tls;
    check_client_certificates(context, listener);
    if (tls->password != NULL && tls->password_file != NULL)
        COMPLAIN(context, listener, "password_file", "password is given too; allowed: one of them");
    if (tls->ciphers != NULL && !(tls->versions & CONFIG_TLS_1_2))
        COMPLAIN(context, listener, "ciphers",
            "has no effect without \"tlsv1.2\" in versions; TLS 1.3 takes ciphersuites");
    if (tls->ciphersuites != NULL && !(tls->versions & CONFIG_TLS_1_3))
        COMPLAIN(context, listener, "ciphersuites",
            "has no effect without \"tlsv1.3\" in versions; TLS 1.2 takes ciphers");
}

/* A listener that lets in nobody at all is probably a surprise. */
static void warn_of_closed_door(
    const struct config_context *context, const struct config *config, const struct config_listener *listener)
{
    char path[CONFIG_PATH_TEXT_MAX];
    if (config_listener_allows_anonymous(config, listener) ||
        config_listener_methods(config, listener) != 0 ||
        listener->tls.peer_cert_as_username != CONFIG_PEER_CERT_NONE)
        return;
    snprintf(path, sizeof path, "listeners.%s", listener->key);
    config_warn(context, path,
        "every client will be refused, since none can prove who it is here; set auth.allow_anonymous to "
        "true, or give an auth.password_file (auth.methods says how its users log in), or have clients show "
        "certificates (verify_peer, and fail_if_no_peer_cert or peer_cert_as_username)");
}

static void check_listener(
    const struct config_context *context, const struct config *config, const struct config_listener *listener)
{
    if (listener->type != CONFIG_LISTENER_UNIX)
        check_access(context, listener);
    if (config_listener_has_tls(listener))
        check_tls(context, listener);
    check_peer_name(context, listener, "peer_cert_as_username", listener->tls.peer_cert_as_username);
    check_peer_name(context, listener, "peer_cert_as_clientid", listener->tls.peer_cert_as_clientid);
    if (!context->handed && listener->bind.text != NULL)
        warn_of_closed_door(context, config, listener);
}

static void check_listeners(const struct config_context *context, const struct config *config)
{
    if (config->listener_count == 0)
        config_complain(context, "listeners", "none found; allowed: at least one, such as tcp:NAME");
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        check_listener(context, config, listener);
        for (size_t j = 0; j < i; j++) {
            const struct config_listener *other = &config->listeners[j];
            if (listener->bind.text == NULL || other->bind.text == NULL ||
                !config_bind_overlaps(&listener->bind, &other->bind))
                continue;
            COMPLAIN(context, listener, "bind",
                "found \"%s\", which takes the same connections as \"%s\" of listeners.%s; allowed: another "
                "%s",
                listener->bind.text, other->bind.text, other->key,
                listener->type == CONFIG_LISTENER_UNIX ? "path" : "port or address");
        }
    }
}

static void check_tickets(const struct config_context *context, const struct config_tickets *tickets)
{
    if ((uint64_t)tickets->rotation_s * 30 < tickets->lifetime_s)
        config_complain(context, "tickets.rotation",
            "found %u s; allowed: at least a 30th of tickets.lifetime, %u s", (unsigned)tickets->rotation_s,
            (unsigned)(tickets->lifetime_s + 29) / 30);
}

void config_check(const struct config_context *context, struct config *config)
{
    derive_node(config);
    check_node(context, config);
    check_limits(context, config);
    check_tickets(context, &config->tickets);
    check_cluster(context, config);
    check_listeners(context, config);
}
