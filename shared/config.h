/*
 * The configuration of a node as plain fields: what config_load() read from a JSON file, checked as a whole,
 * with every default filled in and every path absolute. The master loads it from the file and hands it to its
 * children as JSON (config_to_json, in a memfd), who get the identical struct. Immutable once loaded.
 * Everything here is described once, in the table of config_table.c; `shoald --help-config` prints that.
 * Reads files, never binds a socket, never fetches; whether certificates fit their keys is checked by the TLS
 * modules.
 */
#ifndef SHARED_CONFIG_H
#define SHARED_CONFIG_H

#include "shared/log.h"
#include "shared/share_pick.h"
#include "shared/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#define CONFIG_WORKERS_MAX   64 /* slots of a node: a bit mask of them is one word */
#define CONFIG_LISTENERS_MAX 32
#define CONFIG_RUN_DIR_MAX   80 /* bytes: a socket address holds 107, the rest is for the file's name */
#define CONFIG_NAME_MAX      32 /* bytes of a node's or a listener's name: letters, digits, _ and - */

enum config_listener_type {
    CONFIG_LISTENER_TCP,
    CONFIG_LISTENER_SSL,
    CONFIG_LISTENER_WS,
    CONFIG_LISTENER_WSS,
    CONFIG_LISTENER_UNIX,
    CONFIG_LISTENER_TYPES,
};

struct config_bind {
    char *text; /* owned; as written: "8883", "[::1]:8883"; of a Unix socket its absolute path */
    /* `text` is a port alone: IPv4 and IPv6. `address` is then [::] (clear IPV6_V6ONLY), port as written; a
       kernel without IPv6 wants 0.0.0.0 in its place. Otherwise exactly `address`, and an IPv6 one sets
       IPV6_V6ONLY. */
    bool both_families;
    uint16_t port; /* 0 of a Unix socket, whose `address` is AF_UNIX */
    struct sockaddr_storage address;
    socklen_t address_size;
};

struct config_access_rule {
    bool allow;
    sa_family_t family; /* AF_INET, AF_INET6, or AF_UNSPEC: "all" */
    uint8_t prefix_bits;
    uint8_t address[16]; /* network order; the first 4 bytes for AF_INET */
};

struct config_access {                /* the first rule that fits decides; none fits: refused */
    struct config_access_rule *rules; /* owned */
    size_t count;
};

enum config_verify { CONFIG_VERIFY_NONE, CONFIG_VERIFY_PEER };

enum config_tls_version { CONFIG_TLS_1_2 = 1, CONFIG_TLS_1_3 = 2 }; /* bits of a mask */

enum config_peer_cert { /* which part of a client's certificate becomes its username or client identifier */
    CONFIG_PEER_CERT_NONE,
    CONFIG_PEER_CERT_CN,  /* subject's common name */
    CONFIG_PEER_CERT_DN,  /* whole subject, RFC 2253 */
    CONFIG_PEER_CERT_CRT, /* SHA-256 fingerprint, lower-case hex */
};

struct config_origins { /* web pages that may connect by WebSocket; none: all */
    char **items;       /* owned, as each */
    size_t count;
};

struct config_tls {   /* all zero for listeners without TLS, but for peer_cert_as_* */
    char *keyfile;    /* owned, absolute */
    char *certfile;   /* owned, absolute */
    char *cacertfile; /* owned, absolute; NULL: none */
    char *crlfile;    /* owned, absolute; NULL: none */
    bool partial_chain;
    char *password;      /* owned; NULL: none. Of the private key */
    char *password_file; /* owned, absolute; NULL: none. Its first line, without the line end, is the password
                          */
    enum config_verify verify;
    bool fail_if_no_peer_cert;
    uint32_t versions;  /* mask of enum config_tls_version, contiguous by nature, never 0 */
    char *ciphers;      /* owned; TLS 1.2, OpenSSL's notation; NULL: OpenSSL's default */
    char *ciphersuites; /* owned; TLS 1.3; NULL: OpenSSL's default */
    bool honor_cipher_order;
    bool session_tickets;
    uint32_t depth;
    uint32_t handshake_timeout_ms;
    enum config_peer_cert peer_cert_as_username;
    enum config_peer_cert peer_cert_as_clientid;
};

struct config_listener {
    char *key; /* owned; "ssl:external": what log lines call it */
    enum config_listener_type type;
    struct config_bind bind;
    uint32_t max_connections; /* of the whole node, all workers together */
    uint32_t max_conn_rate;   /* accepted per second, all workers together; 0: no limit */
    uint32_t messages_rate;   /* PUBLISH packets per second of one client; 0: no limit */
    size_t bytes_rate;        /* bytes per second of one client; 0: no limit */
    uint32_t backlog;
    bool nodelay;
    size_t sndbuf; /* bytes; 0: leave it to the system */
    size_t recbuf;
    uint32_t connect_timeout_ms;  /* from accept, or the end of the handshake where there is one, to the whole
                                     CONNECT */
    uint32_t tcp_keepalive_s;     /* idle time before the first probe; 0: none */
    uint32_t tcp_user_timeout_ms; /* 0: leave it to the system */
    struct config_access access;  /* no rules for unix: the file's mode says who may connect */
    bool proxy_protocol;
    char *path;                    /* owned; ws and wss: "/mqtt" */
    struct config_origins origins; /* ws and wss */
    size_t max_frame_size;         /* ws and wss; 0: mqtt.max_packet_size */
    uint32_t mode;                 /* unix: of the socket's file */
    char *mountpoint;              /* owned; NULL: none. With placeholders (topic_template.h) */
    struct config_tls tls;
};

enum config_reload { CONFIG_RELOAD_SIGNAL, CONFIG_RELOAD_WATCH };

struct config_node {
    char *name;       /* owned */
    uint32_t workers; /* 1…CONFIG_WORKERS_MAX; "auto" is resolved already */
    char *data_dir;   /* owned, absolute; the master makes it */
    char *run_dir;    /* owned, absolute, at most CONFIG_RUN_DIR_MAX bytes; control socket and bus sockets */
    char *user;       /* owned; whom the children become when the master is root, otherwise ignored */
    enum config_reload reload;
};

enum config_queue_full { CONFIG_QUEUE_DROP_NEWEST, CONFIG_QUEUE_DROP_OLDEST };

struct config_mqtt {
    size_t max_packet_size;
    uint32_t receive_maximum; /* told to version 5 clients */
    uint32_t max_inflight; /* unacknowledged deliveries to one client; a version 5 client may ask for less */
    uint32_t max_awaiting_rel; /* QoS 2 publications of one version 3 client without PUBREL */
    uint32_t max_qos;
    bool retain_available;
    bool wildcard_subscription;
    bool validate_payload_format;
    char *response_information; /* owned; NULL: none */
    char *server_reference;     /* owned; NULL: none */
    bool shared_subscription;
    enum share_strategy shared_strategy;
    uint32_t max_topic_levels;
    uint32_t max_topic_length;    /* bytes of a topic name or filter */
    uint32_t max_user_properties; /* of one packet of a client */
    uint32_t max_sessions;        /* of the node, connected or not; 0: no limit */
    uint32_t max_topic_alias;     /* inward; told to version 5 clients; 0: none */
    uint32_t max_clientid_length;
    uint32_t max_subscriptions;        /* of one session; 0: no limit */
    uint32_t max_queued_messages;      /* of one session */
    size_t max_queued_bytes;           /* of one session */
    enum config_queue_full queue_full; /* what a full queue does */
    bool queue_qos0;                   /* QoS 0 waits for disconnected sessions, too */
    size_t max_output_buffer; /* unsent bytes of one connection; above, QoS 0 is dropped and QoS 1, 2 queue */
    uint32_t keepalive_max_s; /* 0: none. A client that asks for more (or for none) gets this: version 5 */
    double keepalive_multiplier;
    uint32_t session_expiry_max_s; /* clamp for version 5 */
    uint32_t session_expiry_v3_s;  /* of a version 3 session with clean session 0 */
    uint32_t sys_interval_s;       /* 0: no $SYS topics */
    uint32_t tombstones_s;         /* how long the deletion of a retained message is remembered */
};

struct config_list { /* of what its field says */
    void *items;     /* owned */
    size_t count;
};

#define CONFIG_AUTO_SUBSCRIBE_MAX 64 /* a bit mask of them is one word */

struct config_subscription { /* to a filter with placeholders (topic_template.h) */
    char *topic;             /* owned */
    uint32_t qos;
    uint32_t retain_handling;
    bool no_local;
    bool retain_as_published;
};

struct config_auto_subscribe {
    struct config_list topics; /* struct config_subscription */
};

#define CONFIG_REWRITE_MAX 256

struct config_rewrite_rule { /* as struct topic_rewrite_rule has it */
    uint32_t actions;        /* enum topic_rewrite_action bits */
    char *source_topic;      /* owned, as the others */
    char *re;
    char *dest_topic;
};

struct config_rewrite {
    struct config_list rules; /* struct config_rewrite_rule */
};

enum config_retained_full { CONFIG_RETAINED_DELIVER, CONFIG_RETAINED_REFUSE };

struct config_retained {
    uint32_t max_messages; /* 0: no limit, as the next ones */
    size_t max_bytes;
    size_t max_payload_size;
    uint32_t expiry_s;                   /* of messages without an interval of their own; 0: never */
    enum config_retained_full when_full; /* what becomes of a message that may not be kept */
};

struct config_delayed {
    bool enable;
    uint32_t max_messages; /* of the node; 0: no limit */
    size_t max_bytes;      /* of one worker: its table */
};

enum config_carrier { CONFIG_CARRIER_NANOMSG, CONFIG_CARRIER_RING };

struct config_bus {
    size_t window; /* bytes of a lane's ring; a power of two */
    uint32_t stall_timeout_ms;
    enum config_carrier carrier;
    size_t will_table;    /* bytes per slot */
    size_t shared_copies; /* bytes per peer */
    size_t node_window;   /* bytes under way to each other node; a power of two */
    char *keyfile;        /* owned, absolute, as the next three; of the link, in a cluster */
    char *certfile;
    char *cacertfile;
    char *password_file; /* NULL: none */
};

/* The nodes of a cluster, as its file lists them. */
struct config_cluster_node {
    char *name;             /* owned */
    struct config_bind bus; /* where its link listens */
    uint16_t id;            /* from the name, the same wherever it stands in a file; never 0 */
};

struct config_cluster {
    char *name;                        /* owned */
    struct config_cluster_node *nodes; /* owned */
    size_t count;                      /* 0: a node alone */
    size_t self;                       /* which of them this is */
    char *path;                        /* owned; its JSON path: "nodes[1]", for messages */
};

struct config_session {
    uint32_t claim_timeout_ms;
};

enum config_anonymous { CONFIG_ANONYMOUS_AUTO, CONFIG_ANONYMOUS_NO, CONFIG_ANONYMOUS_YES };

/* How a user of the password file may prove who it is; bits of a mask. */
enum config_auth_method {
    CONFIG_AUTH_PASSWORD = 1, /* of CONNECT */
    CONFIG_AUTH_SCRAM_SHA_256 = 2,
    CONFIG_AUTH_SCRAM_SHA_256_PLUS = 4,
};

struct config_auth {
    enum config_anonymous allow_anonymous; /* ask config_listener_allows_anonymous() */
    char *password_file;                   /* owned, absolute; NULL: none */
    char *acl_file;                        /* owned, absolute; NULL: none, everybody may do everything */
    uint32_t methods;     /* mask of enum config_auth_method, not 0: config_listener_methods() */
    uint32_t max_waiting; /* CONNECTs per worker whose password is being checked */
};

struct config_tickets { /* of TLS sessions, all listeners */
    uint32_t rotation_s;
    uint32_t lifetime_s;
};

struct config_log {
    enum log_level level;
    enum log_format format;
};

struct config {
    unsigned sharers; /* references besides the first, see config_share() */
    char *file;       /* owned; the name that errors gave, absolute if it was a file */
    struct config_node node;
    struct config_listener *listeners; /* owned; in the order of the file */
    size_t listener_count;
    struct config_mqtt mqtt;
    struct config_retained retained;
    struct config_delayed delayed;
    struct config_auto_subscribe auto_subscribe;
    struct config_rewrite rewrite;
    struct config_bus bus;
    struct config_session session;
    struct config_auth auth;
    struct config_tickets tickets;
    struct config_log log;
    struct config_cluster cluster;
};

struct config_error {
    bool warning; /* loads nevertheless */
    char *text;   /* owned: "FILE:LINE: JSON.PATH: what was found; allowed: what is allowed" */
};

/* What is wrong, all at once: zero-initialise, pass to a load, print, then config_errors_done(). */
struct config_errors {
    struct config_error *entries; /* owned */
    size_t count;                 /* of entries, warnings included */
    size_t warnings;
    /* NULL, or looks for more errors in a configuration that has some: keys with a wrong value have their
     * default there, files that cannot be read are NULL. */
    void (*further)(void *context, const struct config *config, struct config_errors *errors);
    void *context; /* its first argument; borrowed */
};

void config_errors_print(const struct config_errors *errors, FILE *to); /* one line each */
void config_errors_done(struct config_errors *errors);

/*
 * Reads and checks a configuration file. Paths in it are relative to the parent of its folder if that folder
 * is named `conf`, otherwise to the working directory. STATUS_INVALID: `errors` says everything that is
 * wrong; *ret_config is untouched. On success `errors` may still have got warnings.
 */
enum status config_load(
    const char *path, struct config **ret_config, struct config_errors *errors) CHECK_RESULT;

/*
 * One node of a cluster file: what `defaults` say, under what the node itself says, `%n` in strings being the
 * node's name. `node` NULL or unknown: an error that lists the names. Otherwise as config_load().
 */
enum status config_load_cluster(const char *path, const char *node, struct config **ret_config,
    struct config_errors *errors) CHECK_RESULT;

/* Where a command line says that the configuration is. */
struct config_source {
    const char *file;
    bool cluster;     /* a cluster file */
    const char *node; /* of it; NULL: not said */
};
enum status config_load_source(const struct config_source *source, struct config **ret_config,
    struct config_errors *errors) CHECK_RESULT;

/* The same from memory: `name` stands for the file in messages and for the rule of relative paths. */
enum status config_load_text(const char *text, size_t size, const char *name, struct config **ret_config,
    struct config_errors *errors) CHECK_RESULT;

/*
 * The same for what config_to_json() wrote, in a child that has dropped its privileges: files and users are
 * not looked at again, since the child may be unable to.
 */
enum status config_load_handed(
    const char *text, size_t size, struct config **ret_config, struct config_errors *errors) CHECK_RESULT;

/* Everything, defaults and absolute paths included, as JSON text to free(). NULL: no memory. Holds passwords.
 */
char *config_to_json(const struct config *config);

/* One more reference, for who still needs it when another configuration is in use. */
struct config *config_share(const struct config *config);
/* Gives up a reference; the last one frees. */
void config_free(struct config **config);

bool config_listener_has_tls(const struct config_listener *listener);
bool config_listener_has_websocket(const struct config_listener *listener);

/*
 * May clients without credentials of any kind in? As "allow_anonymous" says; absent ("auto"): where only this
 * machine can connect (a loopback bind) or only holders of a certificate (fail_if_no_peer_cert), and with a
 * password file nowhere.
 */
bool config_listener_allows_anonymous(const struct config *config, const struct config_listener *listener);

/* How users can log in there, as a mask of enum config_auth_method: none without a password file, and
   SCRAM-SHA-256-PLUS where TLS 1.3 may be spoken only. */
uint32_t config_listener_methods(const struct config *config, const struct config_listener *listener);

/* Do the listener's access rules let this address in? IPv4 mapped into IPv6 counts as IPv4. */
bool config_access_allows(const struct config_access *access, const struct sockaddr *peer);

/* The reference of all keys, for a terminal or as Markdown tables for the README. */
void config_print_reference(FILE *to);
void config_print_reference_markdown(FILE *to);

#endif
