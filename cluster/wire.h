/*
 * What links say to each other below the bus: one authenticated, encrypted session per pair of nodes,
 * heartbeats, and the windows of the cluster bus carried over it: what stands in our *window* to a node is
 * copied into that node's *landing*, byte for byte, at the same offsets, and acknowledged cumulatively.
 * Window and landing lie in memfds that outlive their links, so that a session may break anywhere and the
 * next one goes on where the landing ends: nothing is lost, nothing comes twice (BUS rules 2).
 *
 * No socket and no clock of its own: messages and times are arguments, so that it runs in a simulation. It is
 * the carrier of the bus between links. Link process; not thread-safe; logs by a callback.
 */
#ifndef CLUSTER_WIRE_H
#define CLUSTER_WIRE_H

#include "cluster/wire_stream.h"
#include "shared/bus_carrier.h"
#include "shared/bus_window.h"
#include "shared/log.h"

#include <openssl/types.h>

/*
 * The version of everything that nodes say to each other. A link tells the highest and the lowest that it
 * speaks; two links speak the highest that both do. Rule for upgrades: cluster/README.md.
 */
#define WIRE_VERSION     1
#define WIRE_VERSION_MIN 1

#define WIRE_MESSAGE_MAX 131072 /* bytes of one nanomsg message; longer ones are nobody's */

struct wire_node { /* borrowed for the wire's life */
    const char *name;
    uint16_t id;
    /* Ours to it: the ring read-only, the cursor written here as it is acknowledged. */
    struct bus_window window;
    /* Its to us: the ring written here, the cursor read. */
    struct bus_window landing;
};

struct wire_identity {
    uint64_t node; /* the life of the node: its master's */
    uint64_t link; /* that of its link */
    unsigned version;
};

struct wire_settings {
    const char *cluster; /* its name */
    SSL_CTX *tls;        /* NULL: in the clear, in simulations only */
    unsigned count;      /* of nodes, self included */
    unsigned self;
    const struct wire_node *nodes; /* [count]; the windows of self are not used */
    unsigned first_peer;           /* number of the first node on the bus */
    struct wire_identity own;
    uint64_t (*random)(void *context); /* numbers of sessions */
    void *context;
    /* Hands one message to the node's inbox. STATUS_AGAIN: call wire_writable() when it may be tried again.
     */
    enum status (*send)(void *context, unsigned node, struct bytes message);
    void (*log)(void *context, enum log_level level, unsigned node, const char *text);
    /* The node can be reached, with everything going on where it stopped; or it is reachable again as `who`
       says, since its link, or all of it, was started anew. Never up twice as the same without a down. */
    void (*up)(void *context, unsigned node, const struct wire_identity *who);
    /* It has been silent for too long, or is another now. */
    void (*down)(void *context, unsigned node, const char *why);
    /* Bytes have landed. */
    void (*landed)(void *context, unsigned node);
    /* The landing begins anew at this offset: whatever reads it goes there. What is unread is read first. */
    void (*restart)(void *context, unsigned node, uint64_t offset);
    /* From here on the window is to be sent again. */
    void (*resend)(void *context, unsigned node, uint64_t offset);
    /* The carrier may be offered frames again. */
    void (*ready)(void *context, unsigned node);
};

struct wire;

enum status wire_new(
    const struct wire_settings *settings, uint64_t now_us, struct wire **ret_wire) CHECK_RESULT;
void wire_free(struct wire **wire);
struct bus_carrier *wire_carrier(struct wire *wire);

/* A message came to our inbox: from anybody. */
void wire_receive(struct wire *wire, struct bytes message, uint64_t now_us);
/* The socket to this node takes messages again. */
void wire_writable(struct wire *wire, unsigned node, uint64_t now_us);
/* The connection to its inbox broke: a hint. */
void wire_broken(struct wire *wire, unsigned node, uint64_t now_us);
/* Every 5 to 20 ms: time-outs, heartbeats, acknowledgements, new attempts. */
void wire_tick(struct wire *wire, uint64_t now_us);
/* At the end of a loop turn: acknowledges at once what is worth it. */
void wire_turn_end(struct wire *wire, uint64_t now_us);

struct wire_figures {
    bool up;
    bool session; /* there is an authenticated one */
    struct wire_identity who;
    uint64_t round_trip_us;
    uint64_t sessions; /* so many have been made */
    uint64_t bytes_sent, bytes_received;
    uint64_t backlog;              /* bytes in the window that the other side does not have */
    int64_t certificate_expires_s; /* of the node's certificate; 0: not known */
    char last_refusal[WIRE_TEXT_SIZE];
};
void wire_figures(const struct wire *wire, unsigned node, struct wire_figures *ret_figures);

/* Messages from nobody, or of no session: for a counter. */
uint64_t wire_strangers(const struct wire *wire);

#endif
