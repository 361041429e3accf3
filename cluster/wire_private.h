/*
 * The inside of struct wire, for wire.c (nodes, time), wire_session.c (sessions and their bytes) and
 * wire_messages.c (what is said in a session) alone.
 *
 * A nanomsg message:  u8 'W', u8 format, u8 kind, u8 zero, u16 id of the sender, u16 id of the receiver, u64
 * session, then bytes of the stream. The head is not authenticated: it can break a session, as a TCP RST can,
 * and no more. Within the stream (wire_stream.h), little-endian: HELLO    u16 highest and u16 lowest version,
 * u64 life of the node, u64 life of the link, u8 size and cluster, u8 size and node REFUSED  text: why the
 * session ends WELCOME  u64 whose window the landing is a copy of (0: of none), u64 up to where, u64 how
 * large it is RESUME   u64 life of the node whose window comes, u64 from where FRAMES   u64 offset, bytes ACK
 * u64 landed up to here, u64 applied up to here PING, PONG  u64 number
 */
#ifndef CLUSTER_WIRE_PRIVATE_H
#define CLUSTER_WIRE_PRIVATE_H

#include "cluster/record.h"
#include "cluster/wire.h"

#define WIRE_HEAD_SIZE 16
#define WIRE_FORMAT    1

enum wire_kind { WIRE_KIND_OPEN = 1, WIRE_KIND_DATA = 2, WIRE_KIND_RESET = 3 };

enum wire_message {
    WIRE_HELLO = 1,
    WIRE_REFUSED = 2,
    WIRE_WELCOME = 3,
    WIRE_RESUME = 4,
    WIRE_FRAMES = 5,
    WIRE_ACK = 6,
    WIRE_PING = 7,
    WIRE_PONG = 8,
};

/* Sessions of one node whose handshake is not over; one more replaces the oldest. */
#define WIRE_PENDING_MAX 4

enum wire_state {
    WIRE_SHAKING, /* TLS */
    WIRE_GREETED, /* HELLO is sent */
    WIRE_KNOWN,   /* its HELLO was good: WELCOME is sent */
};

struct wire_session {
    uint64_t number;
    struct wire_stream *stream; /* owned */
    enum wire_state state;
    bool current;  /* of its node */
    bool welcomed; /* its WELCOME is in: our window goes out */
    bool resumed;  /* its RESUME is in: our landing is ready */
    bool told;     /* `up` was called for it */
    struct wire_identity who;
    uint64_t begun_us;
    uint64_t limit;   /* how far its landing has room */
    uint64_t landing; /* how large that is */
    bool blocked;     /* output waits for the socket */
    bool opened;      /* the message that begins it is out */
    bool failed;      /* of no use any more: ends at the next tick */
};

struct wire_peer {
    struct wire *wire;
    unsigned node;
    bool client;                  /* we are, to this node */
    struct wire_session *current; /* owned, as the next */
    struct wire_session *pending[WIRE_PENDING_MAX];
    unsigned pending_count; /* the oldest first */
    uint64_t next_try_us;
    unsigned refusals;  /* in a row */
    uint64_t heard_us;  /* anything authentic */
    uint64_t broken_us; /* since when its inbox is unreachable as far as known; 0 */
    uint64_t session_end_us;
    uint64_t ping_us, ping_number;
    uint64_t pings_sent_us[8];
    uint64_t acked, applied; /* of its window, as we told it last */
    uint64_t resets_us;      /* when the last RESET went out */
    uint64_t opens_us;       /* the bucket of handshakes that it may begin */
    bool wanted;             /* the carrier refused frames: `ready` is due */
    bool up;
    bool known_down;          /* `down` was called since the start, or `up` */
    struct wire_identity who; /* as told by `up` */
    uint64_t logged_us;
    struct wire_figures figures;
};

struct wire {
    struct bus_carrier carrier;
    struct wire_settings settings;
    uint64_t now_us;
    uint64_t started_us;
    uint64_t strangers;
    uint64_t stranger_logged_us;
    struct wire_peer peers[];
};

/* wire.c */
/* The time of everything that follows. */
void wire_advance(struct wire *wire, uint64_t now_us);

/* wire_session.c */
struct wire_session *wire_session_new(struct wire_peer *peer, uint64_t number, bool client);
/* Off its peer's books and freed. */
void wire_session_end(struct wire_peer *peer, struct wire_session *session);
/* Sends what the stream has to send. */
void wire_session_flush(struct wire_peer *peer, struct wire_session *session);
/* Begins a session, as the client. */
void wire_session_open(struct wire_peer *peer);
/* Takes bytes; the session may be gone afterwards. */
void wire_session_input(struct wire_peer *peer, struct wire_session *session, struct bytes bytes);
void wire_session_become_current(struct wire_peer *peer, struct wire_session *session);
struct wire_session *wire_session_find(struct wire_peer *peer, uint64_t number);
void wire_send_reset(struct wire_peer *peer, uint64_t number);
/* Says why to the operator, and puts off the next attempt. `text` was built by the stream or us. */
void wire_session_refuse(struct wire_peer *peer, struct wire_session *session, const char *text);

/* wire_messages.c */
enum status wire_say_hello(struct wire_peer *peer, struct wire_session *session) CHECK_RESULT;
/* One message of the stream. STATUS_REFUSED: the session ends, for the reason in `text` (WIRE_TEXT_SIZE). */
enum status wire_hear(struct wire_peer *peer, struct wire_session *session, uint8_t type, struct bytes body,
    char *text) CHECK_RESULT;
enum status wire_say_ack(struct wire_peer *peer) CHECK_RESULT;
bool wire_owes_ack(const struct wire_peer *peer);
enum status wire_say_ping(struct wire_peer *peer) CHECK_RESULT;
enum status wire_say_frames(struct wire_peer *peer, uint64_t offset, struct bytes frames) CHECK_RESULT;

static inline const struct wire_node *wire_node_of(const struct wire_peer *peer)
{
    return &peer->wire->settings.nodes[peer->node];
}

#endif
