/*
 * A worker around the modules of cluster/: the least engine that has sessions, subscriptions, queues and
 * packet identifiers. Its code is the model of what node/ does with them.
 */
#ifndef TESTS_SIMULATION_WORKER_H
#define TESTS_SIMULATION_WORKER_H

#include "cluster/acceptance.h"
#include "cluster/claims.h"
#include "cluster/routes.h"
#include "cluster/session_move.h"
#include "cluster/wills.h"
#include "tests/unit/simulation/client.h"

#include "shared/list.h"

struct world;
struct toy_session;

/* A client's connection: what it sent and was not read, what it is to get at the next flush. */
struct connection {
    struct list link; /* worker->connections */
    struct worker *worker;
    struct client *client; /* NULL: the client has forgotten it */
    unsigned client_number;
    char id[16];
    struct toy_session *session;
    struct claim claim;
    bool begun;    /* CONNECT was read */
    bool claiming; /* the claim is not answered */
    bool clean;
    bool connacked; /* the client has its CONNACK */
    bool closing;   /* freed after the turn */
    uint64_t number;
    uint32_t will_number;
    uint32_t will_delay_s;
    will_handle will; /* 0: none */
    uint64_t will_connection;
    struct packet *input, *output;
    size_t input_count, input_capacity, output_count, output_capacity;
};

/* From the master, by the control socket. */
struct notice {
    struct notice *next;
    uint64_t at_us;
    bool started;
    unsigned slot;
    struct publication_origin origin;
};

enum worker_phase { PHASE_RECEIVE, PHASE_CLIENTS, PHASE_END, PHASE_FLUSH, PHASES };

struct worker {
    struct world *world;
    unsigned slot;
    bool alive;
    bool ready;
    enum worker_phase phase;
    uint64_t next_us;    /* of the next phase */
    uint64_t stopped_us; /* stands still until then; 0: runs */
    uint64_t stop_began_us;
    uint64_t ran_since_us; /* without a pause and ready */
    uint64_t restart_us;   /* dead: when the master starts it again */
    uint64_t ticked_us;
    uint64_t looked_us; /* when it last heard what the master says */
    struct publication_origin origin;
    struct notice *notices;
    struct flight *arrived;
    /* Death in the midst of a phase. */
    uint64_t doom; /* points left to live in this phase; 0: no plan */
    bool doomed;
    unsigned doom_lanes; /* in PHASE_END: only the heads of so many lanes were stored */
    uint64_t saved_heads[4], saved_cursors[4], saved_trying[4], saved_tries[4];
    uint8_t *saved_wills;
    uint32_t saved_parts;
    uint32_t turn_parts; /* clients of whose sessions it had anything when its turn began */
    /* What it is made of. */
    struct counters counters;
    uint8_t counters_rest[COUNTERS_PAGE_SIZE - sizeof(struct counters)]; /* a page, as the master makes it */
    struct bus_carrier carrier;
    bool asleep; /* world->in_place: reads no ring until it is woken */
    struct bus *bus;
    struct topic_index *index;
    struct routes *routes;
    struct acceptance *acceptance;
    struct claims *claims;
    struct session_moves *moves;
    struct wills *wills;
    struct will_table *will_table;
    struct route_table *route_table;
    struct list sessions; /* struct toy_session, in the registry */
    struct list leaving;  /* taken out or parked */
    struct list connections;
    struct list subacks; /* that wait */
};

void worker_start(struct worker *worker);
/* Frees everything without a word to anybody: it is dead. */
void worker_destroy(struct worker *worker);
void worker_run_phase(struct worker *worker);
/* A client opens a connection; it is read at the next turn. */
struct connection *worker_accept(struct worker *worker, struct client *client);
void connection_send(struct connection *connection, const struct packet *packet);
/* The client closes it. */
void connection_leave(struct connection *connection, bool politely);

/* session*.c */
extern const struct session_moves_ops toy_session_ops;
struct toy_session *session_find(struct worker *worker, struct bytes client_id);
void session_granted(struct connection *connection);
/* False: not now, a window is full or the session is not there yet. */
bool session_packet(struct connection *connection, const struct packet *packet);
/* The publication with this ticket is complete. */
void session_accepted(struct toy_session *session, uint64_t ticket, enum acceptance_result result);
void session_disconnected(struct toy_session *session);
void session_free_all(struct worker *worker);
/* Matches, and delivers to local sessions. */
bool session_deliver(struct worker *worker, unsigned peer, const struct publication_view *view);
/* The peers that want it. */
uint64_t session_match(struct worker *worker, struct bytes topic, uint64_t *ret_durable);
void sessions_owned(void *context, struct claims_report *report);
uint64_t session_owned(void *context, struct bytes client_id);
void session_superseded(void *context, struct bytes client_id, uint64_t stamp, unsigned owner);
bool session_late(void *context, struct bytes client_id, uint64_t stamp, unsigned previous);
/* True if there is anything of this client here. */
bool session_parts(const struct worker *worker, struct bytes client_id);
/* True if something of this client is coming or going here. */
bool session_moves_client(const struct worker *worker, struct bytes client_id);
unsigned sessions_of(const struct worker *worker, struct bytes client_id);

/* worker.c, for session*.c */
void connection_put(struct connection *connection, const struct packet *packet);
/* `abnormally`: its will is due. */
void connection_close(struct connection *connection, bool abnormally);
/* A topic's name, or the filter for it. */
const char *topic_name(unsigned topic);
const char *topic_filter(unsigned topic);

#endif
