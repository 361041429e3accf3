/*
 * The configuration's keys: one row each with type, range, default, field and documentation. Data only; every
 * process has it, nobody changes it. Limits carry their reason in the row's text or beside it.
 */
#include "shared/config_table.h"

#include "shared/config.h"

#include <string.h>

#define FIELD(field)    offsetof(struct config, field)
#define LISTENER(field) offsetof(struct config_listener, field)
#define KIB             1024.0
#define MIB             (1024.0 * 1024)
#define HOUR_MS         3600000.0
#define DAY_S           86400.0
#define MQTT_PACKET_MAX 268435455.0 /* the largest remaining length [MQTT-1.5.5] */

static const struct config_choice reload_words[] = {
    {"signal", CONFIG_RELOAD_SIGNAL},
    {"watch", CONFIG_RELOAD_WATCH},
    {NULL, 0},
};

static const struct config_choice workers_words[] = {{"auto", 0}, {NULL, 0}};

static const struct config_choice anonymous_words[] = {
    {"auto", CONFIG_ANONYMOUS_AUTO},
    {"true", CONFIG_ANONYMOUS_YES},
    {"false", CONFIG_ANONYMOUS_NO},
    {NULL, 0},
};

static const struct config_choice method_words[] = {
    {"password", CONFIG_AUTH_PASSWORD},
    {"SCRAM-SHA-256", CONFIG_AUTH_SCRAM_SHA_256},
    {"SCRAM-SHA-256-PLUS", CONFIG_AUTH_SCRAM_SHA_256_PLUS},
    {NULL, 0},
};

static const struct config_choice verify_words[] = {
    {"verify_none", CONFIG_VERIFY_NONE},
    {"verify_peer", CONFIG_VERIFY_PEER},
    {NULL, 0},
};

static const struct config_choice version_words[] = {
    {"tlsv1.2", CONFIG_TLS_1_2},
    {"tlsv1.3", CONFIG_TLS_1_3},
    {NULL, 0},
};

static const struct config_choice peer_cert_words[] = {
    {"none", CONFIG_PEER_CERT_NONE},
    {"cn", CONFIG_PEER_CERT_CN},
    {"dn", CONFIG_PEER_CERT_DN},
    {"crt", CONFIG_PEER_CERT_CRT},
    {NULL, 0},
};

static const struct config_choice strategy_words[] = {
    {"round_robin", SHARE_ROUND_ROBIN},
    {"random", SHARE_RANDOM},
    {"sticky", SHARE_STICKY},
    {"hash_clientid", SHARE_HASH_CLIENTID},
    {"hash_topic", SHARE_HASH_TOPIC},
    {"local", SHARE_LOCAL},
    {NULL, 0},
};

static const struct config_choice carrier_words[] = {
    {"nanomsg", CONFIG_CARRIER_NANOMSG}, {"ring", CONFIG_CARRIER_RING}, {NULL, 0}};

static const struct config_choice queue_full_words[] = {
    {"drop_newest", CONFIG_QUEUE_DROP_NEWEST},
    {"drop_oldest", CONFIG_QUEUE_DROP_OLDEST},
    {NULL, 0},
};

static const struct config_choice retained_full_words[] = {
    {"deliver", CONFIG_RETAINED_DELIVER},
    {"refuse", CONFIG_RETAINED_REFUSE},
    {NULL, 0},
};

static const struct config_choice level_words[] = {
    {"error", LOG_LEVEL_ERROR},
    {"warning", LOG_LEVEL_WARNING},
    {"notice", LOG_LEVEL_NOTICE},
    {"info", LOG_LEVEL_INFO},
    {"debug", LOG_LEVEL_DEBUG},
    {NULL, 0},
};

static const struct config_choice format_words[] = {
    {"text", LOG_FORMAT_TEXT},
    {"json", LOG_FORMAT_JSON},
    {NULL, 0},
};

const struct config_section config_sections[] = {
    {"node", "The node: its name, its processes, its folders."},
    {"listeners", "Where clients connect: one object per listener, named tcp:NAME, ssl:NAME, ws:NAME, "
                  "wss:NAME or unix:NAME."},
    {"mqtt", "What the protocol allows, and what one client may cost."},
    {"retained", "Retained messages: how many, how large, how long."},
    {"delayed", "Publications for later: $delayed/SECONDS/TOPIC."},
    {"auto_subscribe", "What clients are subscribed to when they connect."},
    {"rewrite", "Topics that become others."},
    {"bus", "The bus between the processes of the node."},
    {"session", "Who owns a client identifier."},
    {"auth", "Who may connect and do what."},
    {"tickets", "TLS session tickets, by which clients that come back are quick; the keys live in memory alone."},
    {"log", "Log lines, which go to standard error."},
    {NULL, NULL},
};

/* clang-format off */
const struct config_row config_table[] = {
    /* The node. */
    {"node.name", CONFIG_TYPE_NAME, FIELD(node.name), "\"n1\"", 1, CONFIG_NAME_MAX, NULL,
     "Name of the node in log lines, status and $SYS topics."},
    {"node.workers", CONFIG_TYPE_INTEGER, FIELD(node.workers), "\"auto\"", 1, CONFIG_WORKERS_MAX, workers_words,
     "Worker processes. \"auto\": as many as CPUs that affinity and control group quota really give."},
    {"node.data_dir", CONFIG_TYPE_FOLDER, FIELD(node.data_dir), "\"data\"", 0, 0, NULL,
     "Folder of what outlives the node."},
    {"node.run_dir", CONFIG_TYPE_FOLDER, FIELD(node.run_dir), NULL, 0, 0, NULL,
     "Folder of the control socket and the bus's sockets, at most 80 bytes long when absolute. "
     "Absent: the folder `run` in data_dir."},
    {"node.user", CONFIG_TYPE_STRING, FIELD(node.user), "\"nobody\"", 1, 256, NULL,
     "User that the workers run as when the node is started by root; ignored otherwise."},
    {"node.reload", CONFIG_TYPE_CHOICE, FIELD(node.reload), "\"signal\"", 0, 0, reload_words,
     "When configuration and files are read anew: at SIGHUP and `shoalctl reload` alone, or (watch) also a second after "
     "one of the files has changed on disk, in whatever way it was replaced."},

    /* All listeners. */
    {"listeners.*.max_connections", CONFIG_TYPE_INTEGER, LISTENER(max_connections), "1000000", 1, 100e6, NULL,
     "Connections of this listener, all workers together; more are closed at once."},
    {"listeners.*.max_conn_rate", CONFIG_TYPE_INTEGER, LISTENER(max_conn_rate), "0", 0, 1e6, NULL,
     "Connections accepted per second, shared evenly by the workers; more wait in the backlog. 0 no limit."},
    {"listeners.*.messages_rate", CONFIG_TYPE_INTEGER, LISTENER(messages_rate), "0", 0, 10e6, NULL,
     "PUBLISH packets per second of one client, a second's worth at once; one that sends more is read more slowly. "
     "0 no limit."},
    {"listeners.*.bytes_rate", CONFIG_TYPE_SIZE, LISTENER(bytes_rate), "0", 0, 1024 * MIB, NULL,
     "The same for the bytes that a client sends per second."},
    {"listeners.*.backlog", CONFIG_TYPE_INTEGER, LISTENER(backlog), "1024", 1, 65535, NULL,
     "Connections that wait for a worker to accept them, per worker; the system may allow less."},
    {"listeners.*.sndbuf", CONFIG_TYPE_SIZE, LISTENER(sndbuf), "0", 0, 64 * MIB, NULL,
     "The socket's send buffer; 0 leaves it to the system."},
    {"listeners.*.recbuf", CONFIG_TYPE_SIZE, LISTENER(recbuf), "0", 0, 64 * MIB, NULL,
     "The socket's receive buffer; 0 leaves it to the system."},
    {"listeners.*.connect_timeout", CONFIG_TYPE_MS, LISTENER(connect_timeout_ms), "\"10s\"", 100, HOUR_MS, NULL,
     "The whole CONNECT packet must have come by then, counted from the end of the handshake; and before that, "
     "each as long, a PROXY header and the opening request of WebSocket where there is no TLS."},
    {"listeners.*.mountpoint", CONFIG_TYPE_MOUNTPOINT, LISTENER(mountpoint), NULL, 0, 1024, NULL,
     "Prefix of all topics of this listener's clients: put in front of what they publish and subscribe to, taken off "
     "what they get. %c is the client identifier, %u the user name; a client whose name has +, # or / in it, or who has "
     "none, is refused then. Absent: none."},

    /* Listeners on a port. */
    {"listeners.tcp:*.bind", CONFIG_TYPE_BIND, LISTENER(bind), CONFIG_REQUIRED, 0, 0, NULL,
     "Address and port. A port alone serves IPv4 and IPv6."},
    {"listeners.tcp:*.nodelay", CONFIG_TYPE_BOOL, LISTENER(nodelay), "true", 0, 0, NULL,
     "TCP_NODELAY: small packets leave at once."},
    {"listeners.tcp:*.tcp_keepalive", CONFIG_TYPE_SECONDS, LISTENER(tcp_keepalive_s), "\"60s\"", 0, 32400, NULL,
     "Silence after which TCP probes whether the peer is still there; 0 never."},
    {"listeners.tcp:*.tcp_user_timeout", CONFIG_TYPE_MS, LISTENER(tcp_user_timeout_ms), "\"60s\"", 0, HOUR_MS, NULL,
     "A connection ends when the peer has not acknowledged sent bytes for this long; 0 leaves it to the "
     "system."},
    {"listeners.tcp:*.access", CONFIG_TYPE_ACCESS, LISTENER(access), "[\"allow all\"]", 0, 0, NULL,
     "Whose connections are accepted. The first rule that fits the peer's address decides; none fits: refused."},
    {"listeners.tcp:*.proxy_protocol", CONFIG_TYPE_BOOL, LISTENER(proxy_protocol), "false", 0, 0, NULL,
     "Every connection must begin with a PROXY protocol header (version 1 or 2); the address that it announces "
     "counts for access rules and log lines. Only for listeners that nobody but the load balancer can reach."},
    {"listeners.tcp:*.peer_cert_as_username", CONFIG_TYPE_CHOICE, LISTENER(tls.peer_cert_as_username), "\"none\"",
     0, 0, peer_cert_words, "What of the client's certificate becomes its username: the subject's common "
     "name (cn), the whole subject (dn) or the SHA-256 fingerprint (crt). Needs verify_peer; or, without TLS here, "
     "proxy_protocol: then cn is the name that the proxy has verified."},
    {"listeners.tcp:*.peer_cert_as_clientid", CONFIG_TYPE_CHOICE, LISTENER(tls.peer_cert_as_clientid), "\"none\"",
     0, 0, peer_cert_words, "The same for its client identifier."},

    /* Unix sockets. */
    {"listeners.unix:*.bind", CONFIG_TYPE_SOCKET, LISTENER(bind), CONFIG_REQUIRED, 0, 0, NULL,
     "Path of the socket's file, at most 107 bytes long when absolute. Missing folders are made; the file is the "
     "node's user's, replaces one that nobody listens on any more and goes when the node stops."},
    {"listeners.unix:*.mode", CONFIG_TYPE_MODE, LISTENER(mode), "\"0660\"", 0, 0777, NULL,
     "Permissions of that file: who may write to it may connect."},

    /* WebSocket listeners. */
    {"listeners.ws:*.path", CONFIG_TYPE_URL_PATH, LISTENER(path), "\"/mqtt\"", 1, 255, NULL,
     "Path of the URL that clients connect to; others get 404."},
    {"listeners.ws:*.origins", CONFIG_TYPE_ORIGINS, LISTENER(origins), NULL, 0, 0, NULL,
     "Web pages of these origins may connect. Absent: all. Clients that are no browsers send no Origin and are let "
     "in."},
    {"listeners.ws:*.max_frame_size", CONFIG_TYPE_SIZE, LISTENER(max_frame_size), "0", 0, MQTT_PACKET_MAX, NULL,
     "Largest WebSocket message that a client may send, however many packets and frames it has; 0: "
     "mqtt.max_packet_size."},

    /* TLS listeners. */
    {"listeners.ssl:*.keyfile", CONFIG_TYPE_FILE, LISTENER(tls.keyfile), CONFIG_REQUIRED, 0, 0, NULL,
     "The server's private key, PEM, RSA or EC, possibly encrypted."},
    {"listeners.ssl:*.certfile", CONFIG_TYPE_FILE, LISTENER(tls.certfile), CONFIG_REQUIRED, 0, 0, NULL,
     "The server's certificate, PEM, followed by the intermediate certificates of its chain."},
    {"listeners.ssl:*.cacertfile", CONFIG_TYPE_FILE, LISTENER(tls.cacertfile), NULL, 0, 0, NULL,
     "The CA certificates, PEM, that sign the clients' certificates. Needed for verify_peer."},
    {"listeners.ssl:*.crlfile", CONFIG_TYPE_FILE, LISTENER(tls.crlfile), NULL, 0, 0, NULL,
     "Certificate revocation lists, PEM, complete ones, each signed by a CA in cacertfile. Clients whose certificate, or "
     "one of whose CAs, is revoked are refused, also when they resume a session. A list that runs out in use is warned "
     "of and stays in force until it is replaced and reloaded. Needs verify_peer."},
    {"listeners.ssl:*.partial_chain", CONFIG_TYPE_BOOL, LISTENER(tls.partial_chain), "false", 0, 0, NULL,
     "An intermediate CA in cacertfile is trusted without its root: only what is below it gets in. Needs verify_peer."},
    {"listeners.ssl:*.password", CONFIG_TYPE_STRING, LISTENER(tls.password), NULL, 1, 1023, NULL,
     "Password of an encrypted keyfile."},
    {"listeners.ssl:*.password_file", CONFIG_TYPE_FILE, LISTENER(tls.password_file), NULL, 0, 0, NULL,
     "File whose first line is the password of an encrypted keyfile."},
    {"listeners.ssl:*.verify", CONFIG_TYPE_CHOICE, LISTENER(tls.verify), "\"verify_none\"", 0, 0, verify_words,
     "verify_peer: clients are asked for a certificate, and one that they send must be valid."},
    {"listeners.ssl:*.fail_if_no_peer_cert", CONFIG_TYPE_BOOL, LISTENER(tls.fail_if_no_peer_cert), "false", 0, 0,
     NULL, "With verify_peer: clients without a certificate are refused."},
    {"listeners.ssl:*.versions", CONFIG_TYPE_CHOICE_LIST, LISTENER(tls.versions), "[\"tlsv1.2\", \"tlsv1.3\"]",
     0, 0, version_words, "Protocol versions."},
    {"listeners.ssl:*.ciphers", CONFIG_TYPE_STRING, LISTENER(tls.ciphers), NULL, 1, 4096, NULL,
     "TLS 1.2 ciphers in OpenSSL's notation (names joined by colons). Absent: OpenSSL's default."},
    {"listeners.ssl:*.ciphersuites", CONFIG_TYPE_STRING, LISTENER(tls.ciphersuites), NULL, 1, 4096, NULL,
     "TLS 1.3 cipher suites, names joined by colons. Absent: OpenSSL's default."},
    {"listeners.ssl:*.honor_cipher_order", CONFIG_TYPE_BOOL, LISTENER(tls.honor_cipher_order), "true", 0, 0, NULL,
     "The server's order of ciphers counts, not the client's."},
    {"listeners.ssl:*.session_tickets", CONFIG_TYPE_BOOL, LISTENER(tls.session_tickets), "true", 0, 0, NULL,
     "Clients that come back within tickets.lifetime resume their TLS session, on any worker, without the costly part of "
     "the handshake. Nobody gets in so whom a full handshake would refuse."},
    {"listeners.ssl:*.depth", CONFIG_TYPE_INTEGER, LISTENER(tls.depth), "10", 0, 100, NULL,
     "Intermediate certificates allowed between a client's certificate and its CA."},
    {"listeners.ssl:*.handshake_timeout", CONFIG_TYPE_MS, LISTENER(tls.handshake_timeout_ms), "\"15s\"", 100,
     HOUR_MS, NULL, "The TLS handshake must be complete by then."},

    /* MQTT. */
    {"mqtt.max_packet_size", CONFIG_TYPE_SIZE, FIELD(mqtt.max_packet_size), "\"1MB\"", KIB, MQTT_PACKET_MAX, NULL,
     "Largest packet that a client may send; told to version 5 clients."},
    {"mqtt.receive_maximum", CONFIG_TYPE_INTEGER, FIELD(mqtt.receive_maximum), "1024", 1, 65535, NULL,
     "QoS 1 and 2 publications that a version 5 client may have in flight to the server."},
    {"mqtt.max_inflight", CONFIG_TYPE_INTEGER, FIELD(mqtt.max_inflight), "128", 1, 65535, NULL,
     "QoS 1 and 2 deliveries to one client that wait for its acknowledgement; a version 5 client may ask for less."},
    {"mqtt.max_awaiting_rel", CONFIG_TYPE_INTEGER, FIELD(mqtt.max_awaiting_rel), "65535", 1, 65535, NULL,
     "QoS 2 publications of one version 3 client that wait for its PUBREL."},
    {"mqtt.max_qos", CONFIG_TYPE_INTEGER, FIELD(mqtt.max_qos), "2", 0, 2, NULL,
     "Highest QoS that clients may publish with and are granted."},
    {"mqtt.retain_available", CONFIG_TYPE_BOOL, FIELD(mqtt.retain_available), "true", 0, 0, NULL,
     "Clients may publish retained messages."},
    {"mqtt.validate_payload_format", CONFIG_TYPE_BOOL, FIELD(mqtt.validate_payload_format), "false", 0, 0, NULL,
     "Refuse payloads that a version 5 client calls UTF-8 (Payload Format Indicator 1) and that are not."},
    {"mqtt.response_information", CONFIG_TYPE_STRING, FIELD(mqtt.response_information), NULL, 1, 1024, NULL,
     "Told to version 5 clients that ask for it (Request Response Information): where their response topics begin."},
    {"mqtt.wildcard_subscription", CONFIG_TYPE_BOOL, FIELD(mqtt.wildcard_subscription), "true", 0, 0, NULL,
     "Clients may subscribe with + and #."},
    {"mqtt.server_reference", CONFIG_TYPE_STRING, FIELD(mqtt.server_reference), NULL, 1, 1024, NULL,
     "Where version 5 clients are sent when this node stops (DISCONNECT 0x9C with this Server Reference instead of 0x8B)."},
    {"mqtt.shared_subscription", CONFIG_TYPE_BOOL, FIELD(mqtt.shared_subscription), "true", 0, 0, NULL,
     "Clients may subscribe to $share/GROUP/FILTER: each message goes to one member of the group."},
    {"mqtt.shared_subscription_strategy", CONFIG_TYPE_CHOICE, FIELD(mqtt.shared_strategy), "\"round_robin\"", 0, 0,
     strategy_words, "Who of a group gets a message: members in turn (round_robin), any (random), the same one as "
     "long as it is connected (sticky), the same one for the same publisher (hash_clientid) or topic (hash_topic), or "
     "in turn those that the publisher's worker serves, if there are any (local). Members without a connection come last."},
    {"mqtt.max_topic_levels", CONFIG_TYPE_INTEGER, FIELD(mqtt.max_topic_levels), "128", 1, 65535, NULL,
     "Levels of a topic name or filter."},
    {"mqtt.max_topic_length", CONFIG_TYPE_INTEGER, FIELD(mqtt.max_topic_length), "65535", 16, 65535, NULL,
     "Bytes of a topic name or filter; MQTT itself allows 65535."},
    {"mqtt.max_user_properties", CONFIG_TYPE_INTEGER, FIELD(mqtt.max_user_properties), "100", 0, 1e6, NULL,
     "User properties of one packet from a version 5 client."},
    {"mqtt.max_topic_alias", CONFIG_TYPE_INTEGER, FIELD(mqtt.max_topic_alias), "16", 0, 65535, NULL,
     "Topic aliases that a version 5 client may set on its connection; 0 none."},
    {"mqtt.max_clientid_length", CONFIG_TYPE_INTEGER, FIELD(mqtt.max_clientid_length), "1024", 23, 65535, NULL,
     "Bytes of a client identifier; every server must take 23."},
    {"mqtt.max_sessions", CONFIG_TYPE_INTEGER, FIELD(mqtt.max_sessions), "1000000", 0, 100e6, NULL,
     "Sessions of the node, with a connection or without; a client that would need one more is refused. 0 no limit."},
    {"mqtt.max_subscriptions", CONFIG_TYPE_INTEGER, FIELD(mqtt.max_subscriptions), "10000", 0, 100e6, NULL,
     "Subscriptions of one session; 0 no limit."},
    {"mqtt.max_queued_messages", CONFIG_TYPE_INTEGER, FIELD(mqtt.max_queued_messages), "100000", 1, 100e6, NULL,
     "Messages that wait for one session, beyond those in flight."},
    {"mqtt.max_queued_bytes", CONFIG_TYPE_SIZE, FIELD(mqtt.max_queued_bytes), "\"16MB\"", KIB, 1024 * 1024 * MIB,
     NULL, "Bytes of the messages that wait for one session; at least max_packet_size."},
    {"mqtt.queue_full", CONFIG_TYPE_CHOICE, FIELD(mqtt.queue_full), "\"drop_newest\"", 0, 0, queue_full_words,
     "What is lost when a session's queue is full: the message that comes, or the one that waits longest."},
    {"mqtt.queue_qos0", CONFIG_TYPE_BOOL, FIELD(mqtt.queue_qos0), "false", 0, 0, NULL,
     "QoS 0 messages wait for disconnected sessions, too."},
    {"mqtt.max_output_buffer", CONFIG_TYPE_SIZE, FIELD(mqtt.max_output_buffer), "\"1MB\"", 4 * KIB, 1024 * MIB,
     NULL, "Bytes that the socket of one connection did not take above which QoS 0 messages for it are dropped."},
    {"mqtt.keepalive_max", CONFIG_TYPE_SECONDS, FIELD(mqtt.keepalive_max_s), "0", 0, 65535, NULL,
     "Longest keep-alive of version 5 clients; one that asks for more, or for none, is given this. 0 no limit."},
    {"mqtt.keepalive_multiplier", CONFIG_TYPE_REAL, FIELD(mqtt.keepalive_multiplier), "1.5", 1, 10, NULL,
     "A client is gone after its keep-alive times this without a packet."},
    {"mqtt.session_expiry_max", CONFIG_TYPE_SECONDS, FIELD(mqtt.session_expiry_max_s), "\"7d\"", 0, 4294967295.0,
     NULL, "Longest session expiry of version 5 clients; told to those that ask for more."},
    {"mqtt.session_expiry_v3", CONFIG_TYPE_SECONDS, FIELD(mqtt.session_expiry_v3_s), "\"2h\"", 0, 4294967295.0,
     NULL, "How long the session of a version 3 client without clean session outlives its connection."},
    {"mqtt.sys_interval", CONFIG_TYPE_SECONDS, FIELD(mqtt.sys_interval_s), "\"10s\"", 0, DAY_S, NULL,
     "How often the node tells about itself in $SYS topics; 0 never."},
    {"mqtt.tombstones", CONFIG_TYPE_SECONDS, FIELD(mqtt.tombstones_s), "\"1h\"", 10, 365 * DAY_S, NULL,
     "How long the deletion of a retained message is remembered, so that no late copy brings it back."},

    /* Retained messages. */
    {"retained.max_messages", CONFIG_TYPE_INTEGER, FIELD(retained.max_messages), "1000000", 0, 100e6, NULL,
     "Retained messages of the node. At the limit messages for topics that have none yet are not kept; replacing and "
     "deleting go on. 0 no limit."},
    {"retained.max_bytes", CONFIG_TYPE_SIZE, FIELD(retained.max_bytes), "\"1GiB\"", 0, 1024 * 1024 * MIB, NULL,
     "Bytes of their topics, payloads and properties. Every worker has a copy of all, so that the memory is that times "
     "node.workers. 0 no limit."},
    {"retained.max_payload_size", CONFIG_TYPE_SIZE, FIELD(retained.max_payload_size), "0", 0, MQTT_PACKET_MAX, NULL,
     "Largest payload that is kept; 0 whatever mqtt.max_packet_size allows."},
    {"retained.when_full", CONFIG_TYPE_CHOICE, FIELD(retained.when_full), "\"deliver\"", 0, 0, retained_full_words,
     "What becomes of a message that these limits do not let be kept: it goes to those who are subscribed and is not "
     "kept (deliver), or it goes to nobody, and a version 5 client is told 0x97 for QoS 1 and 2 (refuse)."},
    {"retained.expiry", CONFIG_TYPE_SECONDS, FIELD(retained.expiry_s), "0", 0, 4294967295.0, NULL,
     "How long retained messages are kept that have no Message Expiry Interval of their own; 0 for ever."},

    /* Publications for later. */
    {"delayed.enable", CONFIG_TYPE_BOOL, FIELD(delayed.enable), "true", 0, 0, NULL,
     "What a client publishes to $delayed/SECONDS/TOPIC is published to TOPIC so many seconds later."},
    {"delayed.max_messages", CONFIG_TYPE_INTEGER, FIELD(delayed.max_messages), "100000", 0, 100e6, NULL,
     "Publications of the node that wait for their time; more are refused. 0 no limit but the next one."},
    {"delayed.max_bytes", CONFIG_TYPE_SIZE, FIELD(delayed.max_bytes), "\"16MiB\"", 256 * KIB, 16 * 1024 * MIB, NULL,
     "Memory of one worker for them, which outlives it; each takes a multiple of 256 bytes."},

    /* What clients get without asking. */
    {"auto_subscribe.topics", CONFIG_TYPE_SUBSCRIPTIONS, FIELD(auto_subscribe.topics), NULL, 0, 0, NULL,
     "Subscriptions that every client gets with CONNACK, as if it had asked for them. %c is its identifier, %u its user "
     "name, %h its address; a filter whose value a client has not, or has with +, # or / in it, is left out for it."},

    {"rewrite.rules", CONFIG_TYPE_REWRITE_RULES, FIELD(rewrite.rules), NULL, 0, 0, NULL,
     "The last rule whose source_topic matches the topic (or the filter) of a client decides: if its re, a regular "
     "expression (PCRE2), fits, the topic becomes dest_topic, with $1 to $9 for its groups, %c for the client identifier "
     "and %u for the user name."},

    /* Bus, sessions, access, log. */
    {"bus.window", CONFIG_TYPE_SIZE, FIELD(bus.window), "\"1MiB\"", 128 * KIB, 256 * MIB, NULL,
     "Window of each lane between two processes: what may be under way to one that is stopped or slow. A power of "
     "two."},
    {"bus.stall_timeout", CONFIG_TYPE_MS, FIELD(bus.stall_timeout_ms), "\"5s\"", 100, 60000, NULL,
     "How long a full lane holds up the publishers that need it before its messages are dropped and counted."},
    {"bus.carrier", CONFIG_TYPE_CHOICE, FIELD(bus.carrier), "\"nanomsg\"", 0, 0, carrier_words,
     "What carries the frames between the workers of this node: nanomsg messages, or nothing, since the receiver reads "
     "the sender's window in place (ring), which costs less. Between nodes it is always nanomsg."},
    {"bus.will_table", CONFIG_TYPE_SIZE, FIELD(bus.will_table), "\"16MiB\"", 256 * KIB, 1024 * MIB, NULL,
     "Memory per worker for the wills of its clients, which outlive it."},
    {"bus.shared_copies", CONFIG_TYPE_SIZE, FIELD(bus.shared_copies), "\"4MiB\"", 64 * KIB, 1024 * MIB, NULL,
     "QoS 1 and 2 messages that a worker keeps for another one whose members of shared groups have not acknowledged "
     "them, so that they reach other members if that worker crashes. At the bound others are picked."},
    {"bus.node_window", CONFIG_TYPE_SIZE, FIELD(bus.node_window), "\"4MiB\"", 256 * KIB, 256 * MIB, NULL,
     "In a cluster: what may be under way to each other node, beside the windows of the workers. A power of two."},
    {"bus.keyfile", CONFIG_TYPE_FILE, FIELD(bus.keyfile), NULL, 0, 0, NULL,
     "In a cluster, where it must be given: the private key of this node, PEM."},
    {"bus.certfile", CONFIG_TYPE_FILE, FIELD(bus.certfile), NULL, 0, 0, NULL,
     "In a cluster, where it must be given: the certificate of this node, PEM, with its chain. It names the node: as a "
     "DNS name in subjectAltName, or without one as the subject's common name."},
    {"bus.cacertfile", CONFIG_TYPE_FILE, FIELD(bus.cacertfile), NULL, 0, 0, NULL,
     "In a cluster, where it must be given: the CA certificates, PEM, that sign the nodes' certificates, and best "
     "nothing else."},
    {"bus.password_file", CONFIG_TYPE_FILE, FIELD(bus.password_file), NULL, 0, 0, NULL,
     "File whose first line is the password of an encrypted bus.keyfile."},
    {"session.claim_timeout", CONFIG_TYPE_MS, FIELD(session.claim_timeout_ms), "\"1s\"", 50, 60000, NULL,
     "How long a CONNECT waits for another process that may hold the session and does not answer."},
    {"auth.allow_anonymous", CONFIG_TYPE_CHOICE, FIELD(auth.allow_anonymous), "\"auto\"", 0, 0, anonymous_words,
     "Clients without credentials are let in. \"auto\": only by listeners on a loopback address and by those "
     "with fail_if_no_peer_cert, and by none if there is a password_file."},
    {"auth.password_file", CONFIG_TYPE_FILE, FIELD(auth.password_file), NULL, 0, 0, NULL,
     "Users and their passwords, as mosquitto_passwd writes them ($7$ and $6$) or for SCRAM-SHA-256 "
     "(`shoalctl hash-password`). Who gives a user name must be in it. Clients whose certificate is their user name "
     "(peer_cert_as_username) need no password."},
    {"auth.methods", CONFIG_TYPE_CHOICE_LIST, FIELD(auth.methods),
     "[\"password\", \"SCRAM-SHA-256\", \"SCRAM-SHA-256-PLUS\"]", 0, 0, method_words,
     "How users of password_file prove who they are: by the password of CONNECT, or by enhanced authentication "
     "(version 5), which takes a user whose line begins with {SCRAM-SHA-256}; with PLUS it is bound to the TLS 1.3 "
     "connection, so that nobody can sit in the middle."},
    {"auth.acl_file", CONFIG_TYPE_FILE, FIELD(auth.acl_file), NULL, 0, 0, NULL,
     "Who may publish and read what, in the format of Mosquitto's acl_file (user, topic, pattern with %c and %u). "
     "Absent: everybody everything."},
    {"auth.max_waiting", CONFIG_TYPE_INTEGER, FIELD(auth.max_waiting), "1000", 1, 1e6, NULL,
     "Clients per worker that wait for their password to be checked; more are told that the server is busy."},
    {"tickets.rotation", CONFIG_TYPE_SECONDS, FIELD(tickets.rotation_s), "\"1h\"", 1, 30 * DAY_S, NULL,
     "How often the key is exchanged that session tickets are encrypted with. Tickets of former keys are good as long as "
     "tickets.lifetime says; at least a 30th of that."},
    {"tickets.lifetime", CONFIG_TYPE_SECONDS, FIELD(tickets.lifetime_s), "\"2h\"", 1, 7 * DAY_S, NULL,
     "How long a client may resume a TLS session."},
    {"log.level", CONFIG_TYPE_CHOICE, FIELD(log.level), "\"info\"", 0, 0, level_words,
     "Lines of this level and graver ones are written."},
    {"log.format", CONFIG_TYPE_CHOICE, FIELD(log.format), "\"text\"", 0, 0, format_words,
     "Lines for people, or one JSON object per line."},
};
/* clang-format on */

const size_t config_table_size = sizeof config_table / sizeof *config_table;

uint32_t config_row_listeners(const struct config_row *row)
{
#define BIT(type) (1u << CONFIG_LISTENER_##type)
    static const struct {
        const char *prefix;
        uint32_t types;
    } groups[] = {
        {"listeners.*.", BIT(TCP) | BIT(SSL) | BIT(WS) | BIT(WSS) | BIT(UNIX)},
        {"listeners.tcp:*.", BIT(TCP) | BIT(SSL) | BIT(WS) | BIT(WSS)},
        {"listeners.ssl:*.", BIT(SSL) | BIT(WSS)},
        {"listeners.ws:*.", BIT(WS) | BIT(WSS)},
        {"listeners.unix:*.", BIT(UNIX)},
    };
#undef BIT
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (strncmp(row->path, groups[i].prefix, strlen(groups[i].prefix)) == 0)
            return groups[i].types;
    return 0;
}

bool config_row_required(const struct config_row *row)
{
    return row->default_json != NULL && *row->default_json == '\0';
}

size_t config_row_section_size(const struct config_row *row)
{
    return strcspn(row->path, ".");
}

const char *config_row_key(const struct config_row *row)
{
    return strrchr(row->path, '.') + 1;
}
