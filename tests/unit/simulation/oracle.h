/*
 * What every publication, session and will must come to, told from outside: nothing here looks into the
 * modules.
 */
#ifndef TESTS_SIMULATION_ORACLE_H
#define TESTS_SIMULATION_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ORACLE_CLIENTS 12
#define ORACLE_TOPICS  8
#define ORACLE_NEVER   UINT64_MAX

struct world;

/* One publication, by a client or as a will. Its number is the payload. */
struct told {
    unsigned client;
    unsigned topic; /* ORACLE_TOPICS: a will */
    unsigned qos;
    unsigned sends; /* how often the client sent it; for a will: workers published it */
    uint64_t connection;
    uint64_t sent_us;                 /* first time; for a will: when its connection ended */
    uint64_t acked_us;                /* ORACLE_NEVER: not; for a will: as sent_us if it must be published */
    uint32_t sequence;                /* per client */
    bool late[ORACLE_CLIENTS];        /* one of them came with a late part */
    uint8_t received[ORACLE_CLIENTS]; /* times, in the subscriber's present session */
    uint8_t fresh[ORACLE_CLIENTS];    /* of them without DUP */
    uint8_t place[ORACLE_CLIENTS];    /* 1 + worker that had its session when it was acknowledged; 0: none */
};

/* A subscriber, from its first CONNACK without session to the next. */
struct heard {
    uint64_t session_us;                       /* when it began */
    uint64_t subscribed_us[ORACLE_TOPICS + 1]; /* SUBACK; ORACLE_NEVER: not */
    uint64_t forgiven_us; /* what was sent before may have been lost with a worker that still had a part */
    bool forgive_at_connack;
    uint32_t last_sequence[ORACLE_CLIENTS][ORACLE_TOPICS][3];
    uint64_t last_connection[ORACLE_CLIENTS][ORACLE_TOPICS][3];
};

struct oracle {
    struct told *told; /* owned */
    uint32_t count, capacity;
    struct heard heard[ORACLE_CLIENTS];
    /* A worker that had something of the client's session died since its last CONNACK: an older part of it
     * may be what is found next. So it is for a while if a claim was not answered in time. */
    bool uncertain[ORACLE_CLIENTS];
    uint64_t unanswered_us[ORACLE_CLIENTS];
    uint64_t lost_counted; /* by the workers' counters, those of dead ones included */
    uint64_t moved, late_parts, late_doubles, resurrected, takeovers, killed, stopped, wills, acknowledged,
        delivered, forgiven, forgiven_lost;
    uint64_t longest_connect_us, longest_subscribe_us, longest_publish_us;
    char failure[400];
};

void oracle_init(struct oracle *oracle);
void oracle_done(struct oracle *oracle);
uint32_t oracle_tell(struct oracle *oracle, const struct told *told);
void oracle_fail(struct oracle *oracle, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A client's session begins anew. */
void oracle_new_session(struct oracle *oracle, unsigned client, uint64_t now_us);
void oracle_connack(struct oracle *oracle, unsigned client, uint64_t now_us);
/* A client's application got a publication. */
struct packet;
void oracle_received(struct oracle *oracle, unsigned client, const struct packet *packet);
/* A worker has published a will. */
void oracle_will_published(struct oracle *oracle, uint32_t number);
/* At the end, when everything has come to rest. */
void oracle_check_deliveries(struct oracle *oracle, unsigned clients);

#endif
