/*
 * An MQTT client as the protocol sees it: packet identifiers, retransmission, QoS 2, a persistent session. It
 * connects here and there, subscribes, publishes, and tells the oracle.
 */
#ifndef TESTS_SIMULATION_CLIENT_H
#define TESTS_SIMULATION_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct world;
struct connection;

enum packet_type {
    CONNECT,
    CONNACK,
    SUBSCRIBE,
    SUBACK,
    PUBLISH,
    PUBACK,
    PUBREC,
    PUBREL,
    PUBCOMP,
    DISCONNECT
};

struct packet {
    enum packet_type type;
    uint16_t id;
    uint8_t qos;
    bool late;        /* PUBLISH: of a late part */
    bool flag;        /* CONNECT: clean start; CONNACK: session present; PUBLISH: DUP */
    uint8_t topic;    /* PUBLISH, SUBSCRIBE */
    uint32_t number;  /* PUBLISH: of the publication; CONNECT: of the will, 0: none */
    uint32_t size;    /* PUBLISH: bytes of payload */
    uint32_t delay_s; /* CONNECT: of the will */
    uint64_t life;    /* CONNACK: of the session, the same from one «no session» to the next */
};

#define CLIENT_INFLIGHT 8

struct client_publish {
    uint32_t number;
    uint16_t id;
    uint8_t qos;
    uint8_t topic;
    uint32_t size;
    bool released; /* PUBREC came: PUBREL is due */
    bool used;
    uint64_t sent_us; /* on this connection */
};

struct client {
    struct world *world;
    unsigned number;
    char id[16];
    struct connection *connection; /* borrowed; NULL: none */
    bool connected;                /* CONNACK came */
    bool wants_will;
    uint32_t will; /* number of the present connection's will */
    uint32_t will_delay_s;
    uint64_t connections; /* counted: identity for the order */
    uint64_t connect_us;  /* when CONNECT, SUBSCRIBE was sent */
    uint64_t connack_us;
    uint64_t subscribe_us; /* or when the last publication before it was answered */
    uint64_t retry_us;     /* when to connect again */
    uint32_t sequence;
    uint32_t topics;     /* bits: what it subscribes to */
    uint64_t life;       /* of the session that it believes to have */
    uint32_t subscribed; /* bits: SUBACK came in this session */
    uint32_t asked;      /* bits: SUBSCRIBE under way */
    uint16_t next_id;
    struct client_publish inflight[CLIENT_INFLIGHT];
    uint16_t receiving[64]; /* QoS 2 identifiers between PUBLISH and PUBREL; 0: free */
};

void client_init(struct client *client, struct world *world, unsigned number);
/* One step of its own: connects, moves, publishes. */
void client_step(struct client *client);
/* The worker's answer arrives. */
void client_receive(struct client *client, const struct packet *packet);
/* Its connection is gone. `abnormally`: its will is due. */
void client_lost(struct client *client);
/* Everything it sent is answered, and it is connected and subscribed. */
bool client_rests(const struct client *client);

#endif
