/*
 * The MQTT session of a client identifier [MQTT 4.1]: subscriptions, queue, packets in flight, both ways.
 * Lives apart from its connection: it may have none (until its expiry) and it may move to another worker.
 * Worker process.
 */
#ifndef NODE_SESSION_H
#define NODE_SESSION_H

#include "cluster/claims.h"
#include "cluster/session_move.h"
#include "cluster/wills.h"
#include "node/awaiting_release.h"
#include "node/delivery.h"
#include "node/session_mount.h"
#include "shared/acl.h"
#include "shared/hash_table.h"
#include "shared/list.h"
#include "shared/mqtt_packet.h"
#include "shared/timer_wheel.h"
#include "shared/topic_index.h"

struct connection;
struct worker;

/* One subscription of a session; `subscription` is what the topic index holds. */
struct session_subscription {
    struct list siblings; /* on session->subscriptions */
    struct subscription subscription;
    uint64_t retained_applied;        /* retained_applied() when it was made: later messages came live */
    struct suback_result *suback_due; /* SUBACKs that will start retained messages; NULL: none */
    struct retained_delivery *retained_due; /* not begun yet; NULL: none */
};

/* One per client, idle or not: its size is most of what an idle session costs. */
struct session {
    struct session *next_in_bucket;
    uint64_t hash; /* keyed hash of the client identifier: also the publisher's identity */
    struct worker *worker;
    struct connection *connection;     /* NULL while disconnected */
    struct session_move_in *move_in;   /* something of it is still coming here; NULL: no */
    struct session_move_out *move_out; /* it is leaving: out of the table, deliveries queue; NULL: no */
    struct delivery_queue queue;
    struct inflight_window inflight;
    uint32_t window_limit;   /* the client's Receive Maximum and mqtt.max_inflight */
    uint32_t inflight_limit; /* the same, or 0: nothing new before all is sent again [MQTT-4.6.0-1] */
    uint32_t resend_left;    /* publications in flight that this connection has not been sent yet */
    uint16_t resend_id;      /* they begin with this packet identifier */
    uint8_t version;         /* of the last connection */
    bool queueing;           /* deliveries go to the queue although connected: CONNACK is not out yet */
    bool arriving;           /* its state is still on the way here: connect_moved() will be called */
    bool began_clean;        /* made for a Clean Start: an older one that turns up late is ended */
    bool registered;         /* in the table: this worker's session of the client */
    bool has_shares;         /* something may have come by a shared group (shared_delivery.h) */
    uint32_t expiry_s;       /* Session Expiry Interval in force; UINT32_MAX: never */
    uint64_t match_number;   /* of the publication that matched it last, and where it stands in its targets */
    uint32_t match_target;
    uint32_t subscription_count;
    uint32_t shared_count; /* of them: in shared groups */
    will_handle will;      /* 0: none */
    struct list subscriptions;
    struct hash_table *subscription_table; /* of them by filter; owned; NULL: few */
    size_t subscription_cost;              /* what they cost, see session_subscriptions.c */
    struct list *retained_due;             /* owned: struct retained_delivery, in turn; NULL: none */
    struct list aside; /* on worker->pumping with retained_due, or on worker->leaving with move_out */
    struct awaiting_release awaiting;
    struct connecting *connecting; /* who waits for the move that brings it here; NULL: nobody */
    uint64_t stamp;                /* of the claim that owns it */
    uint64_t will_connection;      /* identity of the connection that the will belongs to */
    struct timer timer;            /* session expiry, while disconnected */
    uint64_t dropped;              /* deliveries lost to its queue's limits */
    char *user;                    /* owned; who its last connection was; NULL: nobody in particular */
    struct acl_rights *rights;     /* owned; what that user may do; NULL: everything */
    struct session_mount *mount;   /* owned; the prefix of its client's topics; NULL: none */
    uint16_t user_size;
    bool will_delayed;
    bool foreign; /* what its move brings was under another mountpoint: not for its client */
    uint16_t client_id_size;
    char client_id[];
};

static inline struct bytes session_client_id(const struct session *session)
{
    return bytes_of(session->client_id, session->client_id_size);
}

/* A topic, or filter without `$share`, as its client knows it; BYTES_NONE: it lies outside its mountpoint. */
static inline struct bytes session_sees(const struct session *session, struct bytes topic)
{
    return __builtin_expect(session->mount == NULL, 1) ? topic : session_mount_strip(session->mount, topic);
}

/* May its client get messages of this topic? */
static inline bool session_may_read(const struct session *session, struct bytes topic)
{
    return session->rights == NULL || acl_allows(session->rights, ACL_READ, session_sees(session, topic));
}

/* True if it outlives its connection: PUBACK waits until its worker has queued what it matches. */
static inline bool session_durable(const struct session *session)
{
    return session->expiry_s > 0;
}

/* Table of this worker's sessions by client identifier: grows one bucket at a time, so that no insert pauses.
 */
struct session_table {
    struct session **buckets;
    uint32_t capacity; /* allocated buckets */
    uint32_t level;    /* power of two */
    uint32_t split;    /* next bucket to split */
    uint32_t count;
};

void session_table_insert(struct session_table *table, struct session *session);
void session_table_remove(struct session_table *table, struct session *session);
enum status session_table_init(struct session_table *table) CHECK_RESULT;
void session_table_done(struct session_table *table);
struct session *session_find(struct worker *worker, struct bytes client_id);
void session_for_each(
    struct worker *worker, void (*visit)(void *context, struct session *session), void *context);

/* For walks in portions: visits the sessions of some buckets from `bucket` on; returns where to go on, 0: all
   were visited. A session may be visited twice; `visit` may end it. */
uint32_t session_for_some(struct worker *worker, uint32_t bucket, uint32_t count,
    void (*visit)(void *context, struct session *session), void *context);

/* In and out of the table of this worker's sessions. */
void session_register(struct session *session);
void session_unregister(struct session *session);
/* It is on its way to another worker: out of the table, and it does not expire. */
void session_leave(struct session *session);
/* Makes an empty session and enters it into the table. NULL: no memory. */
struct session *session_new(struct worker *worker, struct bytes client_id, uint8_t version, uint64_t stamp);
/* Ends it: subscriptions, queue, will (published or not by the caller), claim. Nulls the pointer. */
void session_end(struct session **session);
/* The process ends: frees it and tells nobody. For session_for_each(). */
void session_abandon(void *context, struct session *session);
/* The same without releasing the claim: another worker owns the client identifier now. */
void session_discard(struct session **session);

/* Whose it is from now on, and with which rights (takes them). STATUS_NO_MEMORY: nothing has changed. */
enum status session_set_user(
    struct session *session, struct bytes user, struct acl_rights **rights) CHECK_RESULT;

/* Other rights for who it is already (takes them; NULL: everything). */
void session_set_rights(struct session *session, struct acl_rights **rights);

/* Takes the mountpoint of its client's listener (NULL: none). What a session has subscribed to and waits for
   belongs to its mountpoint: one with another is made anew (session_connect.c, session_transfer.c). */
void session_set_mount(struct session *session, struct session_mount **mount);

/* Sets the Session Expiry Interval, at most the configured one [MQTT 3.1.2.11.2]. */
void session_set_expiry(struct session *session, uint32_t expiry_s);

/* Binds a connection (after CONNACK is written): resends what is in flight, then the queue [MQTT-4.4.0-1]. */
void session_connected(struct session *session, struct connection *connection);
/* The connection is gone; starts the expiry, or ends the session. `with_will`: the will is due
 * [MQTT-3.1.2-8]. */
void session_disconnected(struct session *session, bool with_will);

/* session_subscriptions.c */
/* The filter as the client wrote it, `$share/GROUP/` included, NUL-terminated; returns its length. */
size_t session_subscription_text(const struct subscription *subscription, char *to, size_t size);
struct session_subscription *session_subscription_find(
    struct session *session, struct topic_filter *filter, struct topic_group *group);
/* The session's subscription with this text, `$share/GROUP/` and mountpoint included; NULL: none. */
struct session_subscription *session_subscription_named(struct session *session, struct bytes text);
enum status session_subscribe(struct session *session, const struct mqtt_subscribe_filter *filter,
    uint32_t identifier, struct session_subscription **ret_subscription, bool *ret_existed) CHECK_RESULT;
/* Other rights than before: what its subscriptions may get is asked anew. */
void session_rights_changed(struct session *session);
bool session_unsubscribe(struct session *session, struct bytes filter);
void session_unsubscribe_all(struct session *session);
/* The session became durable or stopped being so: its filters' announcements change. */
void session_durability_changed(struct session *session);

/* session_delivery.c: out to the client. */
struct delivery_request { /* one publication for one session */
    const struct publication_view *view;
    struct publication **object;     /* the heap shape, made at the first need and shared by the receivers */
    struct encoded_publish *encoded; /* the receivers' shared encodings, or NULL */
    unsigned peer;                   /* whose lane brought it; bus_self() for this worker's own */
    uint8_t qos;                     /* to deliver with */
    bool retain;
    bool kept;      /* it waited, perhaps for another user than the present one */
    bool inherited; /* a subscription that moved here with the session matches */
    uint32_t identifier;
    const uint32_t *identifiers; /* when there are several; borrowed */
    uint32_t identifier_count;
    bool shared;                   /* it was picked from a shared group */
    struct delivery_share **share; /* taken, and nulled, by what is kept; NULL: nothing to take */
};
/* Sends, queues or drops it by the rules of the session. Hot path. */
void session_deliver(struct session *session, const struct delivery_request *request);
/* The same for a retained message: what a move knows of publications under way does not concern it. */
void session_deliver_retained(struct session *session, const struct delivery_request *request);
/* An owned copy in the form of struct delivery. False: no memory. */
bool session_copy_identifiers(
    const struct delivery_request *request, uint32_t **ret_identifiers) CHECK_RESULT;
/* The engine's note on a delivery that waits in a move: QoS, RETAIN, identifiers. Returns its size. */
#define DELIVERY_NOTE_MAX 320
size_t session_note_encode(const struct delivery_request *request, uint8_t to[DELIVERY_NOTE_MAX]);
/* Fills QoS, RETAIN and identifiers (into `identifiers`, room for 64), and makes the share of one that came
   by a shared group of the session (else NULL), for the caller to end. STATUS_PROTOCOL: malformed. */
enum status session_note_decode(struct session *session, struct bytes note, struct delivery_request *request,
    uint32_t *identifiers, struct delivery_share **ret_share) CHECK_RESULT;
/* The note of a kept delivery. */
size_t session_note_of(const struct delivery *delivery, uint8_t to[DELIVERY_NOTE_MAX]);
/* Puts a publication at the end of the queue whatever the connection does (moves). */
void session_enqueue(struct session *session, const struct delivery_request *request);
/* Sends what window and output allow: first what must be sent again, then from the queue. */
void session_pump(struct session *session);
/* A new connection: PUBREL again for what was received, and the rest is due in session_pump(). */
void session_resend(struct session *session);
/* True if session_pump() may have something to do. */
static inline bool session_has_more(const struct session *session)
{
    return session->queue.count > 0 || session->resend_left > 0;
}
/* PUBACK, PUBREC, PUBCOMP came from the client. False: protocol error, the connection was closed. */
bool session_on_acknowledgement(
    struct session *session, uint8_t type, const struct mqtt_acknowledgement *acknowledgement);

/* Encodings of one publication that receivers with equal settings share; lives for one delivery call. */
#define ENCODED_MAX 2048 /* larger packets are encoded per receiver, or referenced */
struct encoded_publish {
    struct {
        uint32_t size; /* 0: not encoded */
        uint32_t packet_id_offset;
        uint8_t *bytes; /* in the worker's scratch */
    } variants[12];     /* (version 5?) * 6 + qos * 2 + retain */
};

#endif
