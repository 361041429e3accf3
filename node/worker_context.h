/*
 * The worker process's own context: everything that its modules share. One per process, made by
 * worker_main().
 */
#ifndef NODE_WORKER_CONTEXT_H
#define NODE_WORKER_CONTEXT_H

#include "cluster/acceptance.h"
#include "cluster/bus.h"
#include "cluster/claims.h"
#include "cluster/delayed.h"
#include "cluster/routes.h"
#include "cluster/session_move.h"
#include "cluster/share_copies.h"
#include "cluster/wills.h"
#include "node/access_files.h"
#include "node/child.h"
#include "node/connection.h"
#include "node/descriptor_reserve.h"
#include "node/session.h"
#include "node/shared_delivery.h"
#include "shared/config.h"
#include "shared/counters.h"
#include "shared/keyed_hash.h"
#include "shared/list.h"
#include "shared/retained.h"
#include "shared/timer_wheel.h"
#include "shared/topic_index.h"
#include "shared/transport.h"

#include <event2/event.h>

/* Longest incomplete packet that is copied in front of the next read; a larger one gathers in its own buffer.
 */
#define WORKER_CARRY_MAX 65536
/* Scratch for one read with such a carry in front. */
#define WORKER_SCRATCH_SIZE (WORKER_CARRY_MAX + TRANSPORT_READ_BEST)
/* A turn ends after so much work, ready connections or not, so that what is owed gets flushed. */
#define WORKER_TURN_US    10000
#define WORKER_TURN_BYTES (4u << 20)
/* What one turn brings to clients beyond their max_output_buffer, as long as nothing says that their sockets
   would not take it: more than a turn's reads or a full lane. */
#define WORKER_UNTRIED_BYTES (16u << 20)
/* Output buffers that the worker keeps for the next connection that has something to say. */
#define WORKER_BUFFER_SIZE   16384
#define WORKER_SPARES_MAX    64
#define WORKER_BUFFERS_MAX   512
#define WORKER_BUFFERS_QUIET 8

/* After the process stood still (SIGSTOP, a paused machine), clients have so long to be heard before
   keep-alive counts again. */
#define WORKER_RESUME_GRACE_US 2000000

struct connection;
struct password_checks;
struct scram;

/* A subscriber of the publication that is being routed: its subscriptions that match, merged. */
struct route_target {
    struct session *session;
    uint32_t identifiers; /* the first of their Subscription Identifiers in route_identifiers, 0: none */
    uint8_t qos;
    bool retain_as_published;
    bool inherited; /* one of them moved here with the session */
};

/* Subscription Identifiers of the targets, each target's in a chain. Numbers here are places plus one. */
struct route_identifier {
    uint32_t identifier;
    uint32_t next; /* 0: none */
};

struct worker {
    struct child *child;
    const struct config *config;
    struct config *config_held; /* the same, shared, once it is another one than that of the start */
    struct event_base *base;
    struct counters *counters;
    struct keyed_hash hash; /* from the node's key: the same in all workers */

    /* Routing */
    struct topic_index *index;
    struct retained *retained;
    struct worker_sys *sys; /* worker_sys.c; NULL: no $SYS topics */
    struct bus *bus;
    struct bus_carrier *carrier;
    struct acceptance *acceptance;
    struct routes *routes;
    struct claims *claims;
    struct session_moves *moves;
    struct share_copies *copies;
    struct shared_deliveries shared;
    uint64_t retained_due;               /* nodes that are to get the retained messages … */
    uint64_t retained_begun;             /* … of which so many have got some */
    struct retained_transfer *transfers; /* [CHILD_SLOTS_MAX], retained_state.c */
    struct will_table *will_table;
    struct route_table *route_table;
    struct wills *wills;
    uint64_t will_sequence; /* of the last one that was published */
    struct block_table *delayed_table;
    struct delayed *delayed;
    uint64_t delayed_sequence; /* of the last one that was published */
    uint64_t match_number;     /* counts publications routed to local sessions */
    struct route_target *route_targets;
    uint32_t route_target_capacity;
    struct route_identifier *route_identifiers;
    uint32_t route_identifier_count, route_identifier_capacity;
    uint8_t *publish_topic;        /* MOUNTED_TOPIC_MAX: of the PUBLISH at work, with its mountpoint */
    struct topic_rewrite *rewrite; /* rewrite.rules; NULL: none */
    uint8_t *encode_scratch;       /* struct encoded_publish's bytes */
    uint32_t encode_used;

    /* Sessions and connections */
    struct session_table sessions;
    struct list connections; /* all that are not closed */
    struct list dirty;       /* output waits for the end of the turn */
    struct list stalled;     /* HOLD_STALL, oldest first */
    struct list closed;      /* freed at the end of the turn */
    struct list pumping;     /* sessions to which retained messages are due (retained_delivery.c) */
    struct list leaving;     /* sessions on their way to other workers */
    uint32_t connection_count;

    /* The loop turn */
    uint64_t now_us;     /* monotonic, read once a turn and before time-outs */
    uint64_t resumed_us; /* when the process was last found to have stood still for half a second */
    uint64_t turn_start_us;
    uint32_t turn_bytes;
    size_t untried_bytes; /* of WORKER_UNTRIED_BYTES */
    bool stalled_have_room;
    struct timer_wheel wheel;
    struct event *tick_event;
    struct event *poll_event; /* short one, while a lane is full */
    bool poll_armed;
    struct event *again_event; /* ends the wait at once: more retained messages are due */
    uint8_t *scratch;          /* WORKER_SCRATCH_SIZE: reads */
    struct transport_scratch *transport_scratch;
    struct websocket_frames *websocket_frames; /* NULL: no listener needs it */
    uint8_t *buffers[WORKER_BUFFERS_MAX];
    uint32_t buffer_count;
    void *spares[WORKER_SPARES_MAX]; /* owned: blocks of session_connect.c for CONNECTs to come */
    uint32_t spare_count;
    uint64_t bytes_sent_before; /* at the last tick */

    /* Who may connect and do what */
    struct access_files access;
    uint32_t access_turn; /* counts their changes: who was admitted by former ones is looked at again */
    struct password_checks *passwords;
    struct scram *scram;

    /* Listening */
    struct worker_listener **listeners; /* owned, as configured (worker_listen.c); NULL behind the last */
    struct list retired_listeners;      /* gone from the configuration; they have connections */
    const struct child_slot *adopted[CHILD_SLOTS_MAX]; /* borrowed; NULL: not adopted */
    struct worker_reload *reload;      /* the next generation, being prepared; NULL: none (worker_reload.c) */
    bool accept_paused;                /* for want of descriptors, until the next tick */
    struct descriptor_reserve reserve; /* tells clients that there are none */

    bool awake;                       /* this turn's time was read */
    bool started;                     /* the peers that run are known */
    bool ready;                       /* the routes are in: clients are read */
    bool held;                        /* a peer's state is on its way: HOLD_ROUTES */
    bool resume;                      /* it is here: release all at the end of this turn */
    bool stopping;                    /* saying goodbye */
    uint64_t trim_at_us;              /* not before then is memory given back to the system */
    uint32_t connection_count_before; /* at the last tick */
    bool trim_wanted;
    uint32_t connections_gone; /* since memory was last given back */
};

/* worker.c */
/* First thing in every event callback: reads the time, once a turn. */
void worker_wake(struct worker *worker);
/* After a socket was read and before that is decoded: this process may have been stopped in the midst of a
 * turn. */
void worker_has_read(struct worker *worker);
/* Ends the turn early so that flushes happen, if its budget is used up. */
void worker_spend(struct worker *worker, uint32_t bytes);

/* The most that another worker may send as one session's state. */
size_t worker_state_max(const struct config *config);

/* What must lie in the lanes before a client's socket is written: whenever that is before the turn's end. */
void worker_publish(struct worker *worker);

/* Everything that was published up to this sequence lies wholly in the windows. */
bool worker_settled(const struct worker *worker, uint64_t sequence);

/* session_connect.c: CONNECT, its claim, CONNACK */
void connect_received(struct connection *connection, struct bytes body);
/* Gives up what a connection that is still connecting waits for. */
void connect_abandon(struct connection *connection);
/* CONNECTION_AUTHORIZING or CONNECTION_AUTHENTICATING took too long (session_authorize.c). */
void connect_timed_out(struct connection *connection);
/* Ends the connection that has the session, or that is about to get it [MQTT-3.1.4-3]. The session may end
   with it: find it anew. */
void connect_take_away(struct session *session, const char *text);
/* Hooks of claims.h; context is the worker. */
/* The move of the session that it waits for is as far as it must be for CONNACK. */
void connect_moved(struct session *session, enum session_move_outcome outcome);
void connect_superseded(void *context, struct bytes client_id, uint64_t stamp, unsigned owner);
uint64_t connect_owned(void *context, struct bytes client_id);
void connect_report_owned(void *context, struct claims_report *report);
bool connect_late(void *context, struct bytes client_id, uint64_t stamp, unsigned previous);

/* packet_dispatch.c */
/* Handles the whole packets at the start of `data`; returns the bytes used. Stops at an incomplete packet, a
   hold, or the end of the connection. */
size_t packet_dispatch(struct connection *connection, const uint8_t *data, size_t size);

/* publish_receive.c */
/* False: a hold was set and the packet must be offered again, or the connection ended. */
bool publish_received(struct connection *connection, uint8_t flags, struct bytes body);
bool pubrel_received(struct connection *connection, const struct mqtt_acknowledgement *release);
/* Acceptance's hooks. */
void publish_complete(void *context, void *taker, uint64_t ticket, enum acceptance_result result);
void publish_retry_stalled(struct worker *worker);
/* Acknowledgements that the connection still waits for are given up; its aliases end. */
void publish_abandon(struct connection *connection);

/* subscribe_receive.c */
bool subscribe_received(struct connection *connection, struct bytes body);
/* Subscribes to one filter, in the client's own words, if it may. Returns SUBACK's reason; *ret_retained is
   the subscription whose retained messages are due when the client has been told, or NULL. */
uint8_t subscribe_filter(struct session *session, const struct mqtt_subscribe_filter *wanted,
    uint32_t identifier, struct session_subscription **ret_retained);
bool unsubscribe_received(struct connection *connection, struct bytes body);
/* SUBACKs and retained messages that a session's connection still waits for are given up. */
void subscribe_abandon(struct connection *connection);
/* The subscription goes: a SUBACK that is still due brings no retained messages for it. */
void subscribe_forget(struct session_subscription *subscription);

/* retained_delivery.c */
void retained_delivery_start(struct session *session, struct session_subscription *subscription);
void retained_delivery_cancel(struct session *session, struct session_subscription *subscription);
void retained_delivery_cancel_all(struct session *session);
/* True: there is more to do in the next turn. */
bool retained_delivery_turn(struct worker *worker);

/* retained_limits.c */
enum retained_verdict {
    RETAINED_KEEP,
    RETAINED_FULL,    /* the limits on retained messages do not allow it */
    RETAINED_NOTHING, /* a deletion of what nobody knows, one too many to remember */
};
/* Of a publication with RETAIN from this worker's client. Whoever can should let bus_drain() bring in what
   the others have deleted before the answer RETAINED_FULL or RETAINED_NOTHING counts. */
enum retained_verdict retained_decide(const struct worker *worker, const struct publication_view *view);

/* The gauges, after a change. */
void retained_count_anew(struct worker *worker);

/* retained_state.c: the retained messages as part of a peer's full state */
/* Hook of routes.h. */
bool retained_state_more(void *context, unsigned peer, bool first);
/* To nodes that have become reachable: a page per turn. True: there is more to do in the next turn. */
bool retained_state_turn(struct worker *worker);
enum status retained_state_open(struct worker *worker) CHECK_RESULT;
void retained_state_done(struct worker *worker);

/* publication_route.c */
/*
 * Routes a publication of this worker's client (or a will): to the lanes, the retained table, local sessions.
 * Nothing happened if STALLED or REFUSED. `*ret_matched`: somebody wanted it. Hot path.
 */
enum acceptance_result publication_route(
    struct worker *worker, struct publication_view *view, void *taker, uint64_t ticket, bool *ret_matched);
/* Acceptance's hook: from a peer, to local sessions. True if a durable session took it. */
bool publication_deliver(void *context, unsigned peer, const struct publication_view *view);

/* To this worker's sessions alone: what the node says itself (worker_sys.c). */
void publication_deliver_here(struct worker *worker, const struct publication_view *view);

/* delayed_publish.c */
/* A topic that begins with '$', of a PUBLISH: MQTT_SUCCESS, and it becomes the one to publish to; or the
   reason why not. */
enum mqtt_reason delayed_take_topic(const struct worker *worker, struct bytes *topic, uint32_t *ret_delay_s);
/* Keeps it until then, safe from the end of this process. STATUS_LIMIT: too many, or too large. */
enum status delayed_accept(
    struct worker *worker, const struct publication_view *view, uint32_t delay_s) CHECK_RESULT;
enum status delayed_open(struct worker *worker) CHECK_RESULT;
void delayed_begin(struct worker *worker); /* the routes are in */
void delayed_adopt_slot(struct worker *worker, const struct child_slot *adopted);
void delayed_tell_loss(const struct worker *worker); /* the node ends */
void delayed_done(struct worker *worker);

/* session_will.c */
/* Notes the will of a CONNECT in the slot's table. STATUS_LIMIT: the table is full. */
enum status session_will_set(struct session *session, const struct mqtt_connect *connect) CHECK_RESULT;
void session_will_clear(struct session *session); /* normal disconnect: it is not published */
void session_will_due(struct session *session);   /* the connection ended: now, or after its delay */
void session_will_now(struct session *session);   /* the session ends: whatever the delay */

/* session_transfer.c: the engine's side of cluster/session_move.h; context is the worker */
extern const struct session_moves_ops session_transfer_ops;

#endif
