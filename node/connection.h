/*
 * One client connection: its transport, its bytes in and out, its time-outs and its end. Knows framing, not
 * meaning: whole packets go to packet_dispatch(). Worker process.
 */
#ifndef NODE_CONNECTION_H
#define NODE_CONNECTION_H

#include "shared/list.h"
#include "shared/mqtt_packet.h"
#include "shared/peer_address.h"
#include "shared/publication.h"
#include "shared/timer_wheel.h"
#include "shared/transport.h"

#include <event2/event_struct.h>

struct worker;
struct session;
struct worker_listener;

enum connection_state {
    CONNECTION_PROXY,          /* accepted behind a load balancer, until its PROXY header has come */
    CONNECTION_HANDSHAKE,      /* TLS, WebSocket or both, until the handshake is done */
    CONNECTION_WAITING,        /* until CONNECT has come */
    CONNECTION_AUTHORIZING,    /* CONNECT is well-formed; who is it, may it connect */
    CONNECTION_AUTHENTICATING, /* its Authentication Method goes on: only AUTH and DISCONNECT may come */
    CONNECTION_CLAIMING,       /* it may; its session is being claimed or moved here; until CONNACK */
    CONNECTION_ACTIVE,         /* CONNACK 0 sent; until it ends */
    CONNECTION_DRAINING,       /* our side is shut down; until the client's FIN or a short time-out */
    CONNECTION_CLOSED,         /* off the event loop; freed at the end of the turn */
};

/* Why a connection is not read. Any bit set: its bytes stay where they are. */
enum connection_hold {
    HOLD_CLAIM = 1,   /* CONNECTION_AUTHORIZING, CONNECTION_CLAIMING */
    HOLD_STALL = 2,   /* the next PUBLISH needs a bus window that is full */
    HOLD_OUTPUT = 4,  /* the client does not take what we answer: no more requests until it does */
    HOLD_SUBACKS = 8, /* too many filters wait for other workers */
    HOLD_ROUTES = 16, /* a peer's routes are on their way here: what is published now could miss somebody */
    HOLD_RATE = 32,   /* it has sent more than its listener's rates allow */
};

/* Bytes that wait to be written, with large payloads kept by reference between them (connection_output.c). */
struct output_segment {
    uint32_t position;               /* the payload goes in after this many bytes of the buffer */
    uint32_t sent;                   /* bytes of the payload written already */
    struct publication *publication; /* one reference */
};

struct output_segments {
    uint32_t count;
    uint32_t first; /* the first not wholly written */
    uint32_t capacity;
    struct output_segment array[];
};

struct output {
    uint8_t *data; /* from the worker's pool or the heap; NULL when nothing waits */
    uint32_t size;
    uint32_t sent;
    uint32_t capacity;
    struct output_segments *segments; /* owned; NULL: none */
    size_t waiting;                   /* bytes not yet written, payloads included */
};

/* An acknowledgement that could not go out at once; those behind it wait too [MQTT-4.6.0-2, -3]. */
struct pending_acknowledgement {
    uint64_t ticket;
    uint16_t packet_id;
    uint8_t type; /* MQTT_PUBACK or MQTT_PUBREC */
    uint8_t reason;
    bool done;
};

struct acknowledgement_queue {
    struct pending_acknowledgement *ring;
    uint32_t capacity, head, count;
};

/* One per client, idle or not: see struct session. */
struct connection {
    struct list lists; /* on worker->connections, or worker->closed */
    struct list dirty; /* on worker->dirty while output waits for the end of the turn */
    struct list held;  /* on worker->stalled with HOLD_STALL */
    struct transport transport;
    struct event event;
    struct worker *worker;
    struct worker_listener *listener;     /* borrowed: whose socket accepted it */
    struct config *config;                /* shared: when it came; what CONNACK has told stays true */
    struct session *session;              /* CONNECTION_ACTIVE; NULL otherwise */
    struct connection_identity *identity; /* owned: from its certificate, until CONNACK; NULL: none */
    struct connecting *connecting;        /* owned: what is known from CONNECT until CONNACK */
    struct auth_exchange *exchange;       /* owned: authentication under way (enhanced_auth.h); NULL: none */
    uint8_t state;                        /* enum connection_state, set by connection_enter() only */
    uint8_t hold;                         /* enum connection_hold bits */
    uint8_t version;                      /* enum mqtt_version, 0 before CONNECT */
    bool reading;                         /* the event is registered for reading / writing now */
    bool writing;
    bool listening;   /* … for the client's end, CONNECTION_AUTHORIZING */
    bool half_closed; /* it has closed its side and left something to read */
    bool blocked;     /* its socket did not take all at the last flush */
    bool processing;  /* packets of it are being dispatched: do not free */
    bool problem_information;
    uint8_t auth_method;          /* enum auth_method: the Authentication Method of its CONNECT */
    bool limited;                 /* a struct connection_rate lies behind this one */
    uint16_t keep_alive_s;        /* in force; 0: none */
    uint16_t receive_maximum;     /* the client's */
    uint32_t maximum_packet_size; /* the client's */
    uint32_t unacknowledged;      /* QoS 1 and 2 publications received and not yet acknowledged by us */
    uint32_t suback_filters;      /* of all subacks */
    uint32_t input_size, input_capacity;
    struct peer_address address;
    struct timer timer; /* handshake, CONNECT, keep-alive or draining time-out, by state */
    uint64_t read_us;   /* monotonic time of the last packet, for keep-alive */
    uint8_t *input;     /* owned: bytes of an incomplete or held packet */
    struct output output;
    struct acknowledgement_queue *acknowledgements; /* owned; NULL: none wait */
    struct pending_suback *subacks;                 /* owned: SUBSCRIBEs whose SUBACK waits for the routes */
    struct topic_aliases_in *aliases_in;            /* owned; NULL until used */
    struct topic_aliases_out *aliases_out;          /* owned; NULL: the client takes none */
    uint64_t next_ticket;
};

/* What a client's certificate says of it, as its listener asks (peer_cert_as_username,
 * peer_cert_as_clientid). */
struct connection_identity {
    char *user_name; /* owned; NULL: not asked for */
    char *client_id; /* owned; NULL: not asked for */
};
void connection_identity_free(struct connection_identity **identity);

/* Takes the socket. Closes it and returns NULL when there is no memory. */
struct connection *connection_new(
    struct worker *worker, struct worker_listener *listener, int fd, const struct peer_address *peer);
/* "address:port" for log lines; valid until the next call. */
const char *connection_peer(const struct connection *connection);

/* Room for `size` more bytes at the end of the output, or NULL (no memory). The caller fills all of them. */
uint8_t *connection_reserve(struct connection *connection, size_t size);
/* Gives back `size` bytes that were reserved last and not filled. */
void connection_unreserve(struct connection *connection, size_t size);
/* Puts a large payload behind what was reserved so far; takes a reference of its own. */
enum status connection_append_payload(
    struct connection *connection, struct publication *publication) CHECK_RESULT;
/* Bytes that wait to be written. */
static inline size_t connection_waiting(const struct connection *connection)
{
    return connection->output.waiting;
}
/* Writes what waits, as far as the socket takes it. Called once a turn per dirty connection. */
void connection_flush(struct connection *connection);

/* connection_output.c, for connection.c: writes what the socket takes (STATUS_AGAIN: some is left) / frees
 * all. */
enum status output_write(struct connection *connection) CHECK_RESULT;
void output_clear(struct worker *worker, struct output *output);

/* Sets and clears reasons not to read; without any, kept bytes are processed and reading goes on. */
void connection_hold(struct connection *connection, enum connection_hold reason);
void connection_release(struct connection *connection, enum connection_hold reason);

/*
 * Ends the connection from our side: in version 5 after CONNACK with DISCONNECT and the reason, then flush,
 * shut down, drain briefly, close, so that the client learns why. The session is told (session_disconnected)
 * at once. The object lives until the end of the turn.
 */
void connection_close(struct connection *connection, enum mqtt_reason reason, const char *text);
/* After a CONNACK that refuses, or the client's DISCONNECT: flush, shut down, drain. */
void connection_goodbye(struct connection *connection, bool with_will);
/* At once and without a word: the socket is broken. */
void connection_drop(struct connection *connection);
/* Frees the connections that ended in this turn. */
void connection_free_closed(struct worker *worker);

/* The one setter of the state. */
void connection_enter(struct connection *connection, enum connection_state state);
const char *connection_state_text(enum connection_state state);

#endif
