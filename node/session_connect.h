/*
 * What the files share that lead a client from CONNECT to CONNACK: session_authorize.c (who it is and whether
 * it may) and session_connect.c (its session). Worker process.
 */
#ifndef NODE_SESSION_CONNECT_H
#define NODE_SESSION_CONNECT_H

#include "node/connection.h"
#include "node/password_check.h"
#include "node/session.h"

#include "shared/acl.h"

#define CONNECT_ASSIGNED_ID_SIZE 26 /* "shoal-" and 20 hexadecimal digits */

/* What is known between CONNECT and CONNACK. */
struct connecting {
    struct connection *connection; /* owner */
    struct claim claim;
    struct routes_waiter routes;
    struct session *session;     /* the new one, not yet served; owned until CONNACK */
    struct mqtt_connect connect; /* points into `body` */
    struct bytes client_id;      /* into `body`, the identity, or `assigned` */
    struct bytes user; /* who it is: into `body`, the identity or connection->exchange; `data` NULL: nobody in
                          particular */
    struct password_check *check; /* under way; NULL: no */
    struct acl_rights *rights;    /* owned until its session has them; NULL: it may do everything */
    uint8_t *will_topic;          /* owned; the rewritten one, which connect.will_topic is then */
    struct session_mount *mount;  /* owned until its session has it; NULL: none */
    char assigned[CONNECT_ASSIGNED_ID_SIZE + 1];
    uint32_t access_turn; /* worker->access_turn when it was found out who it is, or that began */
    bool by_password;     /* its user was found in auth.password_file */
    bool session_present;
    bool auto_subscribed; /* what auto_subscribe.topics gives it, it has */
    uint64_t
        auto_retained; /* whose retained messages are due with CONNACK: a bit per auto_subscribe.topics */
    size_t body_size;
    uint8_t body[]; /* the CONNECT packet's body */
};

/* CONNACK with the reason (the version's own code), then the end [MQTT-3.2.2-7, 3.1.4-1…]. */
void connect_refuse(struct connection *connection, enum mqtt_reason reason, const char *text);

/* Finds out who it is and whether it may connect, at once or later, and then goes on with
   connect_authorized() or refuses. */
void connect_authorize(struct connecting *connecting);
/* It has proved to be connecting->user: its rights, its will, then connect_authorized() or a refusal. */
void connect_admit(struct connecting *connecting);
/* The access files may have changed since: its rights by those that count now. False: refused. */
bool connect_admit_again(struct connecting *connecting);
/* It may: its session is claimed. */
void connect_authorized(struct connecting *connecting);

/* auto_subscribe.c: subscribes the session to auto_subscribe.topics, before CONNACK; and, when that is out,
   what is due of retained messages (connecting->auto_retained). */
void auto_subscribe(struct connecting *connecting);
void auto_subscribe_retained(struct connection *connection, uint64_t due);

#endif
