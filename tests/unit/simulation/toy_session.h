/*
 * The inside of the toy worker's sessions, for session*.c alone.
 */
#ifndef TESTS_SIMULATION_TOY_SESSION_H
#define TESTS_SIMULATION_TOY_SESSION_H

#include "tests/unit/simulation/oracle.h"
#include "tests/unit/simulation/worker.h"

#define QUEUE_MAX    4000u
#define INFLIGHT_MAX 16u
#define AWAITING_MAX 64u
#define TOPICS       (ORACLE_TOPICS + 1)

#define QOS  3u
#define LATE 0x80u /* in the qos of a delivery: it came with a late part */

struct delivery {
    struct publication *publication;
    uint8_t qos;
};

struct inflight {
    struct publication *publication; /* NULL: released, PUBCOMP is awaited */
    uint16_t id;
    uint8_t qos;
    bool used;
    bool sent_before; /* to an earlier connection */
    uint64_t order;
};

struct toy_session {
    struct list link; /* worker->sessions or worker->leaving */
    struct worker *worker;
    char id[16];
    uint64_t stamp;
    struct connection *connection;
    bool durable;
    bool waiting; /* for what a move brings: the client is not served */
    bool clean;   /* began with Clean Start */
    /* The client has sent something after CONNACK, so it knows of this session. Until then «session present»
       would make it go on with the state of one that is gone. */
    bool confirmed;
    uint64_t life; /* see struct packet */
    struct subscription subscriptions[TOPICS];
    uint32_t subscribed; /* bits */
    uint32_t inherited;  /* of these: they came with the session */
    struct delivery *queue;
    size_t queue_first, queue_count, queue_capacity;
    struct inflight inflight[INFLIGHT_MAX];
    uint64_t inflight_order;
    uint16_t next_id;
    uint16_t awaiting[AWAITING_MAX]; /* QoS 2 from the client; 0: free */
    uint64_t ticket;                 /* a publication of its client that is not accepted yet; 0: none */
    struct packet pending;
    bool late_part; /* what is forwarded now belongs to a late part */
    struct session_move_in *move_in;
    struct session_move_out *move_out;
    struct routes_waiter connack; /* of a moved session */
};

/* session.c */
struct toy_session *session_new(struct connection *connection);
void session_end(struct toy_session *session);
/* Into index and routes, unless it is there. */
void session_subscribe(struct toy_session *session, unsigned topic);
void session_on_subscribe(struct connection *connection, const struct packet *packet);

/* session_delivery.c */
void session_enqueue(struct toy_session *session, struct publication *publication, uint8_t qos);
/* The caller gets the reference; NULL: empty. */
struct publication *session_dequeue(struct toy_session *session, uint8_t *ret_qos);
struct inflight *inflight_new(struct toy_session *session, uint16_t id);
struct inflight *inflight_find(struct toy_session *session, uint16_t id);
/* Its client is here and was told so, and it is not on its way out. */
bool session_served(const struct toy_session *session);
void session_pump(struct toy_session *session);
/* In the order in which they were sent first. */
void session_resend(struct toy_session *session);

/* session_connect.c */
void session_connack(struct toy_session *session, bool present);
void session_connack_settled(struct routes_waiter *waiter, uint64_t silent);
/* From CONNACK on no publication needs the previous owner: so all peers must have the routes of a session
 * that moved. */
void session_connack_when_routed(struct toy_session *session);

#endif
