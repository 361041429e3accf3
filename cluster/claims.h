/*
 * Who owns a client identifier (BUS rules 5, within one node). Every worker claims here before it serves a
 * client, and every worker is the registrar of a part of all identifiers. Newest stamp wins, whatever the
 * order of messages. Worker process; sits on bus.h; no sockets, no clock but shared/clock.h, does not log.
 *
 * Home slot of an identifier: keyed hash mod workers. Its registrar is the first live slot from there on
 * (cyclically): so a worker that is dead or backed off is no black hole for 1/N of the clients. A registrar,
 * be it new or standing in, first collects the owners' reports for that home slot from all live peers, at
 * most claim_timeout; claims wait meanwhile. When the home slot is back it collects for itself and the
 * stand-in forgets. A claimant whose registrar dies claims again at the next; one that hears nothing for
 * claim_timeout goes on with a stamp of its own and reports that, and the registrar finds out later who else
 * owned the client (`late`).
 *
 * A claim says since when its client has asked for it. One that is older than the owner's, because its worker
 * stood still meanwhile, is not granted: the client has given that connection up. What was asked for within
 * CLAIMS_CONCURRENT_US is concurrent; there the registrar's order decides.
 */
#ifndef CLUSTER_CLAIMS_H
#define CLUSTER_CLAIMS_H

#include "cluster/bus.h"
#include "shared/keyed_hash.h"
#include "shared/list.h"

#define CLAIMS_TIMEOUT_US    1000000u /* session.claim_timeout */
#define CLAIMS_CONCURRENT_US 10000u   /* the kernel says in ticks of up to 4 ms when bytes arrived */
#define CLAIMS_CLIENT_ID_MAX 59000u   /* bytes of a client identifier: fits a record */

struct claims;

/* Called back for each owned client. */
struct claims_report;
void claims_report_add(struct claims_report *report, struct bytes client_id, uint64_t stamp);

struct claims_settings {
    struct bus *bus;
    const struct keyed_hash *hash; /* the node's: all workers must agree */
    unsigned workers;              /* slots 0 … workers-1 are workers */
    uint64_t timeout_us;           /* 0: CLAIMS_TIMEOUT_US */
    void *context;
    /* Calls claims_report_add() for every client that has a session here and is not moving out, with the
       stamp of its claim. All of them: the module picks those that it needs. */
    void (*for_each_owned)(void *context, struct claims_report *report);
    /* The stamp with which the client is owned here now, 0: not (or its session is moving out). */
    uint64_t (*owned)(void *context, struct bytes client_id);
    /*
     * A newer claim stands for a client that is owned here: close its connection (0x8E, DISCONNECT in version
     * 5), keep the session and go on queueing: the new owner asks for it (session_move.h) or, if that one
     * dies first, this worker stays the owner. Nothing to do if it is not owned here with a stamp older than
     * that.
     */
    void (*superseded)(void *context, struct bytes client_id, uint64_t stamp, unsigned owner);
    /*
     * The registrar was silent and has answered after all, or found a second owner: `stamp` stands for this
     * worker's claim now, and `previous` had the client before (BUS_PEERS_MAX: nobody). If the client is
     * owned here: take that stamp unless the session's is newer already, and with whichever it has then ask
     * `previous` for its late part (session_move_in with late), or end it there if the session began with
     * Clean Start (session_move_discard). Returns false if the client is not owned here (then the claim is
     * given back).
     */
    bool (*late)(void *context, struct bytes client_id, uint64_t stamp, unsigned previous);
};

enum status claims_new(const struct claims_settings *settings, struct claims **ret_claims) CHECK_RESULT;
void claims_free(struct claims **claims);
/* The bus knows all live peers: begins to collect reports for the own slot. Before the first claims_claim().
 */
void claims_start(struct claims *claims);

enum claim_outcome {
    CLAIM_GRANTED, /* `previous` says who had it: a live peer, self (bus_self), or nobody (BUS_PEERS_MAX) */
    CLAIM_UNANSWERED, /* no registrar answered within the time: `stamp` is our own, previous owner unknown */
    CLAIM_SUPERSEDED, /* its client has asked again meanwhile and is served: refuse this connection */
};

/* Embedded in the connection (or pending will) that waits. */
struct claim {
    struct list link;       /* list_init() it before the first use */
    struct bytes client_id; /* borrowed from the owner until answered or cancelled */
    uint64_t since_us;      /* monotonic time at which the client asked for it (CONNECT came); 0: now */
    /* Called once, from a bus handler, tick or watcher, unless claims_claim() returned true. Off all lists
     * then. */
    void (*answered)(struct claim *claim);
    enum claim_outcome outcome;
    uint64_t stamp;     /* of this claim; for claims_ask: of the record that stands, 0: none */
    unsigned previous;  /* see claim_outcome; for claims_ask: the live owner or BUS_PEERS_MAX */
    uint64_t begun_us;  /* monotonic time of the claim: claim and move together take at most claim_timeout */
    struct list bucket; /* private from here on */
    struct list client_bucket;
    uint64_t id;
    unsigned registrar;
    bool asks;
};

/*
 * Claims `claim->client_id` (1…CLAIMS_CLIENT_ID_MAX bytes) for this worker. True: answered at once, the
 * result is in the claim and `answered` is not called. False: it will be, within claim_timeout.
 */
bool claims_claim(struct claims *claims, struct claim *claim);
/* As above, but only asks whether the client has a live owner and since which stamp (delayed wills). */
bool claims_ask(struct claims *claims, struct claim *claim);
/* Its owner is gone. If the claim is granted later on, it is given back by itself. */
void claims_cancel(struct claims *claims, struct claim *claim);
/* The session ended here (not: moved out). Removes only the record with this stamp. */
void claims_release(struct claims *claims, struct bytes client_id, uint64_t stamp);

/*
 * For session_move.h, when a newer owner asks for a client of which there is no session here: what became of
 * our claim?
 */
enum claim_trace {
    CLAIM_TRACE_NONE,     /* none of late */
    CLAIM_TRACE_WAITING,  /* it is not answered yet: ask again */
    CLAIM_TRACE_GIVEN_UP, /* it was answered when nobody wanted it any more, or handed on; *ret_previous had
                             the client */
};
/* A session under this claim was handed on before it had anything: `previous`, whom it had asked, is still
 * the one. */
void claims_handed_on(struct claims *claims, struct bytes client_id, uint64_t stamp, unsigned previous);
/* Of several that were given up: the newest that is older than `before`, whose stamp becomes *ret_stamp. */
enum claim_trace claims_trace(const struct claims *claims, struct bytes client_id, uint64_t before,
    unsigned *ret_previous, uint64_t *ret_stamp);
/* A peer with an older claim than ours asks for the client's session: it hears of ours, and closes its
 * connection. */
void claims_tell_newer(struct claims *claims, unsigned peer, struct bytes client_id, uint64_t stamp);
/* The engine's answer: under which stamp the client is owned here, 0: not. */
uint64_t claims_owned(const struct claims *claims, struct bytes client_id);
/* The session is ours again under this stamp: its new owner died or gave it back (session_move.h,
 * taken_back). */
void claims_reclaim(struct claims *claims, struct bytes client_id, uint64_t stamp);

/* Monotonic time at which bus_tick() has something to do for claims (UINT64_MAX: nothing). */
uint64_t claims_next_us(const struct claims *claims);

/* Figures: records kept as a registrar, and their bytes. */
size_t claims_records(const struct claims *claims);
size_t claims_memory(const struct claims *claims);
/* The home slot of an identifier, for tests. */
unsigned claims_home(const struct claims *claims, struct bytes client_id);

#endif
