/*
 * Counter pages: one per worker slot (and one for the master), in one memfd that the master makes and all
 * map. A slot's page is written by its worker only, read by anybody (shoalctl status, $SYS, metrics); it
 * survives the worker, so that totals never go back. Plain 64-bit stores: readers may see one counter newer
 * than another.
 */
#ifndef SHARED_COUNTERS_H
#define SHARED_COUNTERS_H

#include "shared/status.h"

#include <stdint.h>

/* X(name, kind, description). kind: C counter (only grows), G gauge (reset when the slot's worker starts). */
#define COUNTERS(X)                                                                                          \
    X(connections, G, "client connections open now")                                                         \
    X(clients, G, "clients connected now, CONNECT answered with CONNACK 0")                                  \
    X(clients_maximum, C, "most clients at a time since the node's start, seen once a second")               \
    X(connects_accepted, C, "CONNECT packets answered with CONNACK 0")                                       \
    X(node_started_ms, C, "when the node was started, on the system's monotonic clock")                      \
    X(connections_accepted, C, "connections accepted")                                                       \
    X(connections_refused, C, "connections closed before CONNACK 0, for whatever reason")                    \
    X(connections_limit, C, "connections refused by max_connections")                                        \
    X(connections_no_descriptor, C, "connections closed since the worker had no descriptor left for them")   \
    X(connections_timeout, C, "connections that said nothing until connect_timeout")                         \
    X(connects_denied, C, "connections refused for who they are or are not, or for their will's topic")      \
    X(reauthentications, C, "times that a connected client authenticated again")                             \
    X(reauthentications_denied, C, "connections closed since that failed")                                   \
    X(handshakes, C, "TLS handshakes completed")                                                             \
    X(handshakes_failed, C, "TLS handshakes that failed")                                                    \
    X(handshakes_resumed, C, "TLS handshakes that resumed a session")                                        \
    X(upgrades, C, "WebSocket connections opened")                                                           \
    X(upgrades_refused, C, "WebSocket opening requests refused")                                             \
    X(proxy_refused, C, "connections refused for want of a good PROXY header")                               \
    X(sessions, G, "sessions, connected or not")                                                             \
    X(sessions_limit, C, "connections refused by mqtt.max_sessions")                                         \
    X(accept_pauses, C, "times that a listener accepted nobody for a while because of max_conn_rate")        \
    X(rate_holds, C, "times that a client was not read for a while because of its listener's rates")         \
    X(topics_refused, C, "topic names and filters longer or deeper than allowed")                            \
    X(properties_refused, C, "packets with more user properties than allowed")                               \
    X(sessions_taken_over, C, "sessions taken over by a new connection of the same client")                  \
    X(sessions_moved_in, C, "sessions taken over from another worker")                                       \
    X(sessions_expired, C, "sessions that ended by expiry")                                                  \
    X(subscriptions, G, "subscriptions of the sessions")                                                     \
    X(shared_subscriptions, G, "subscriptions of them that are parts in shared groups")                      \
    X(shared_redelivered, C, "publications of shared groups handed on from one member to another")           \
    X(shared_dropped, C, "publications of shared groups lost since no other member could take them")         \
    X(routes, G, "filters that other bus peers have announced")                                              \
    X(retained, G, "retained messages held")                                                                 \
    X(retained_bytes, G, "bytes of their topics, payloads and properties")                                   \
    X(retained_refused, C, "retained messages not kept because of the limits on them")                       \
    X(delayed, G, "delayed publications that wait for their time")                                           \
    X(delayed_published, C, "delayed publications published")                                                \
    X(delayed_refused, C, "delayed publications refused: no room for more of them")                          \
    X(packets_received, C, "MQTT packets received")                                                          \
    X(packets_sent, C, "MQTT packets sent")                                                                  \
    X(bytes_received, C, "bytes of MQTT received, after TLS")                                                \
    X(bytes_sent, C, "bytes of MQTT sent, before TLS")                                                       \
    X(publish_received, C, "PUBLISH packets received")                                                       \
    X(publish_sent, C, "PUBLISH packets sent")                                                               \
    X(publish_acknowledged, C, "QoS 1 and 2 PUBLISH packets that were acknowledged to their publisher")      \
    X(publish_unmatched, C, "publications that nobody on any known peer wanted")                             \
    X(publish_refused, C, "publications refused with an error reason code")                                  \
    X(publish_denied, C, "publications that acl_file does not allow")                                        \
    X(subscribe_denied, C, "topic filters that acl_file does not allow to subscribe to")                     \
    X(auto_subscribe_refused, C, "filters of auto_subscribe.topics that a client could not be given")        \
    X(topics_rewritten, C, "topics and filters that became others by rewrite.rules")                         \
    X(rewrites_failed, C, "topics and filters refused since rewrite.rules made nothing valid of them")       \
    X(dropped_denied, C, "deliveries dropped: acl_file does not allow the client to read the topic")         \
    X(dropped_qos0_output, C, "QoS 0 deliveries dropped: the client's output buffer was full")               \
    X(dropped_queue_full, C, "deliveries dropped: the session's queue was full")                             \
    X(dropped_expired, C, "deliveries dropped: the message had expired")                                     \
    X(dropped_too_large, C, "deliveries dropped: larger than the client's Maximum Packet Size")              \
    X(wills_published, C, "wills published")                                                                 \
    X(protocol_errors, C, "connections closed for a malformed packet or protocol error")                     \
    X(keepalive_timeouts, C, "connections closed by keep-alive time-out")                                    \
    X(bus_frames_sent, C, "bus frames sent")                                                                 \
    X(bus_frames_received, C, "bus frames applied")                                                          \
    X(bus_bytes_sent, C, "bytes put into bus lanes")                                                         \
    X(bus_publications_sent, C, "publications put into bus lanes")                                           \
    X(bus_publications_received, C, "publications taken from bus lanes")                                     \
    X(bus_dropped_qos0, C, "QoS 0 publications dropped: the lane's window was full")                         \
    X(bus_dropped_acknowledged, C,                                                                           \
        "QoS 1 and 2 publications lost to a peer that stood still beyond stall_timeout")                     \
    X(bus_frames_bad, C, "bus frames dropped: failed their checks")                                          \
    X(bus_gaps, C, "times that a lane was read from its ring since the carrier had a gap")                   \
    X(bus_stalls, C, "publishers held up by a full window")                                                  \
    X(bus_out_of_step, C, "times that a peer had to take full state again")                                  \
    X(reloads, C, "reloads after which all workers served with the new generation")                          \
    X(reloads_failed, C, "reloads that changed nothing since something was wrong")                           \
    X(reload_failing, G, "1: the last reload failed")                                                        \
    X(log_dropped, C, "log lines dropped since the pipe was full")                                           \
    X(loop_turns, C, "event loop turns")

struct counters {
#define COUNTER_FIELD(name, kind, description) uint64_t name;
    COUNTERS(COUNTER_FIELD)
#undef COUNTER_FIELD
};

#define COUNTERS_PAGE_SIZE 4096
/* Behind the counters in each page: connections open now, by listener. A gauge. */
#define COUNTERS_LISTENERS_MAX 64

struct counter_description {
    const char *name;
    const char *text;
    char kind;       /* 'C' or 'G' */
    unsigned offset; /* in struct counters */
};

/* The table of all counters, *ret_count entries. */
const struct counter_description *counters_table(unsigned *ret_count);

/* Makes a sealed memfd of `pages` zeroed pages; close-on-exec. Master. */
enum status counters_create(unsigned pages, int *ret_fd) CHECK_RESULT;
/* Maps all pages; page i starts i * COUNTERS_PAGE_SIZE bytes in. Any process. */
enum status counters_map(int fd, unsigned pages, void **ret_base) CHECK_RESULT;
struct counters *counters_page(void *base, unsigned page);
/* The connections by listener of one page. */
uint64_t *counters_listeners(void *base, unsigned page);
/* Sessions on all pages. */
uint64_t counters_sessions(void *base, unsigned pages);
/* Connections of one listener on all pages. */
uint64_t counters_listener_sum(void *base, unsigned pages, unsigned listener);
/* Zeroes the gauges of one page. The slot's new worker calls it first. */
void counters_reset_gauges(struct counters *counters);
/* Adds up `pages` pages into *ret_sum. */
void counters_sum(void *base, unsigned pages, struct counters *ret_sum);

#endif
