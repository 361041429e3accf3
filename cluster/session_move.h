/*
 * Moves a session from the worker that has it (A) to the one where its client is now (B), BUS rules 6:
 * nothing is lost, doubled or put out of order. The session itself is opaque: the engine hands it over in
 * bytes and deliveries through struct session_moves_ops. Worker process; sits on bus.h, routes.h and
 * acceptance.h's encoding; no sockets, no clock but shared/clock.h, does not log.
 *
 *   B                                          A                                      each peer P
 *   session_move_in ── REQUEST ──────────────> take_out, export_state
 *   import_state (subscriptions, routes) <──── STATE (in parts)
 *   IMPORTED ────────────────────────────────> begins to forward
 *   answered: CONNACK, client is read
 *   MARK_REQUEST ── behind the routes, to A and to each peer ─────────────────────> has B's routes
 *                                              marked[P] <────────────── MARK ─────── and marks both lanes
 *   passed[P] <───────────────────────────────────────────────────────── PASSED ─────
 *   forwarded … <───────────────────────────── next … (whatever came for the session before P's mark)
 *   release what was held of P <────────────── ORIGIN_END(P, limit)
 *   in_done <───────────────────────────────── END; out_done
 *
 * A mark carries P's sequence of that moment, its *limit*. What P published before is A's to deliver, B drops
 * it should it come directly, too; what P published later is B's, A drops it. So no identities are compared,
 * but for subscriptions that the client makes at B meanwhile: what matches these alone never was A's.
 *
 * A copies its state and forwards nothing before IMPORTED, and B puts that into the lane in the turn of the
 * import, before it flushes anything to its client. So a B that dies earlier has done nothing, and A takes
 * the session back; with a B that dies later it is gone as all sessions of B. A move waits for room in lanes,
 * for marks of stopped peers and for nothing else.
 *
 * Who is asked while it still waits for the state itself names the one whom it asked (REDIRECT), and lets go
 * of it. One that waits for a late part gives what it has, and names the other (SEE).
 */
#ifndef CLUSTER_SESSION_MOVE_H
#define CLUSTER_SESSION_MOVE_H

#include "cluster/claims.h"
#include "cluster/routes.h"
#include "shared/publication.h"

#define SESSION_MOVE_NOTE_MAX 4096u /* bytes of the engine's own note on one delivery */

struct session_moves;
struct session_move_in;  /* what comes to a session of this worker; the engine keeps it at the session */
struct session_move_out; /* what leaves a session of this worker; the engine keeps it at the session */

/* Grows as the engine writes; owned by the module. */
struct session_move_writer {
    uint8_t *data;
    size_t size;
    size_t capacity;
    bool failed; /* out of memory */
};
void session_move_write(struct session_move_writer *writer, struct bytes bytes);
void session_move_write_u8(struct session_move_writer *writer, uint8_t value);
void session_move_write_u16(struct session_move_writer *writer, uint16_t value);
void session_move_write_u32(struct session_move_writer *writer, uint32_t value);
void session_move_write_u64(struct session_move_writer *writer, uint64_t value);

enum session_move_outcome {
    SESSION_MOVE_FOUND,   /* import_state was called: session present */
    SESSION_MOVE_NOTHING, /* the previous owner has none: session present 0 (unless the store has it) */
    SESSION_MOVE_SILENT,  /* no answer until the deadline: go on without; its late part may follow */
    SESSION_MOVE_LOST,    /* the previous owner died before its state was here */
};

/* The engine. All are called from bus handlers, ticks, watchers or, where said, from the module's own
 * functions. */
struct session_moves_ops {
    /* Old owner (A). ----------------------------------------------------------------------------------------
     */
    /*
     * A claim with `stamp` stands at another worker. Find the client's session; NULL if there is none, or if
     * it is owned here with a stamp that is newer. Close its connection (0x8E), cancel its delayed will (the
     * client is back), take it out of the registry, go on queueing, never expire it; keep `out` at it and ask
     * session_move_verdict() before each delivery. discard: end the session instead (Clean Start) and return
     * NULL; release no claim.
     */
    void *(*take_out)(
        void *context, struct bytes client_id, uint64_t stamp, bool discard, struct session_move_out *out);
    /*
     * Writes subscriptions, settings and everything in flight in both directions as they are now; not the
     * queue. Changes nothing: it may come to taken_back, or to another that is given the session.
     * STATUS_NO_MEMORY.
     */
    enum status (*export_state)(
        void *context, void *session, struct session_move_writer *writer) CHECK_RESULT;
    /* Takes the next queued delivery off the queue: a reference for the caller, and the engine's note on it
       (granted QoS, Subscription Identifiers, …; at most SESSION_MOVE_NOTE_MAX), borrowed until the next
       call. NULL: empty. */
    struct publication *(*next)(void *context, void *session, struct bytes *ret_note);
    uint32_t (*queue_length)(void *context, void *session);
    /*
     * By its note: this member of a group was picked for the delivery, which no lane but that from the old
     * owner brings. A session may be picked several times for one publication, so identities and limits do
     * not concern it.
     */
    bool (*picked)(struct bytes note);
    /* All of it is at the new owner (or died with it): remove its subscriptions and free it. `out` is gone.
     */
    void (*out_done)(void *context, void *session);
    /*
     * The new owner died, or did not want it any more, before it took over: the session is an ordinary one
     * without connection again, with its old stamp, in the registry; tell claims_reclaim(). If the registry
     * has a newer session of this client by now: free this one. `out` is gone.
     */
    void (*taken_back)(void *context, void *session);

    /* New owner (B). ----------------------------------------------------------------------------------------
     */
    /*
     * The previous owner's state, whole: insert subscriptions, call routes_want() for each, restore what was
     * in flight. late: the client is being served already: queue what was in flight behind what is there,
     * with new packet identifiers, but for what session_move_seen() has seen. STATUS_PROTOCOL: malformed,
     * nothing is used.
     */
    enum status (*import_state)(void *context, void *session, struct bytes state, bool late) CHECK_RESULT;
    /*
     * The client need not wait any longer: once per move that is not late. The best CONNACK goes out when
     * routes_wait() says after this that all peers have the routes: from then on no publication needs A.
     */
    void (*answered)(void *context, void *session, enum session_move_outcome outcome);
    /* Enqueue behind what is there. `forwarded`: A passed it on; `release`: it had come directly and was
     * held. */
    void (*forwarded)(void *context, void *session, const struct publication_view *view, struct bytes note);
    void (*release)(void *context, void *session, struct publication *publication, struct bytes note);
    /* A held one found no room (held_max): it is dropped, count it as the session's queue counts (QoS of it).
     */
    void (*held_dropped)(void *context, void *session, const struct publication_view *view);
    /* The move has ended; it is no longer valid. `next`: another that waited for it goes on (late), or NULL:
       the engine keeps that at the session now. */
    void (*in_done)(void *context, void *session, struct session_move_in *next);
};

struct session_moves_settings {
    struct bus *bus;
    struct routes *routes;
    struct claims *claims; /* whether a claim of ours is under way, when a newer one asks already */
    const struct session_moves_ops *ops;
    void *context;
    size_t held_max;  /* bytes that one move holds; 0: 1 MiB */
    size_t state_max; /* bytes of one session's state or one publication that a peer may send; 0: 64 MiB */
    /*
     * The lowest own sequence whose publication does not wholly lie in the peer's lane yet (fragments),
     * UINT64_MAX: none. A mark must not overtake it. NULL: publications never travel in parts.
     */
    uint64_t (*oldest_partial)(void *context, unsigned peer);
};

enum status session_moves_new(
    const struct session_moves_settings *settings, struct session_moves **ret_moves) CHECK_RESULT;
/* Frees all moves without callbacks. */
void session_moves_free(struct session_moves **moves);
/* Other limits from here on, as in the settings. */
void session_moves_set_limits(struct session_moves *moves, size_t held_max, size_t state_max);

/*
 * Asks `previous` (claim->previous) for the client's session; `session` is the new one here, not yet served.
 * deadline_us: claim->begun_us + claim_timeout. `current`: a move that the session has already, or NULL; the
 * new one then waits for its end. late: the client is served already, `answered` is not called.
 * - If another session of the client is still here (its claim was superseded by `previous`, whose request has
 * not come yet): session_move_park() it first.
 * - If no session of the client is here and the claim names nobody or ourselves: call with `previous` =
 * bus_self(); it may be on its way to a worker that has died.
 * - If the claim was not answered: call with `previous` = BUS_PEERS_MAX, late: nobody is asked, but it notes
 * for a while what the client gets, so that a late part that turns up doubles nothing. Returns NULL if there
 * is nobody to ask or memory is out: `answered` is not called. Returns `current` if that one asks the same
 * worker already.
 */
struct session_move_in *session_move_in(struct session_moves *moves, void *session, struct bytes client_id,
    uint64_t stamp, unsigned previous, uint64_t deadline_us, bool late, struct session_move_in *current);
/* Clean Start: whoever has something of the client, beginning with `previous`, ends it; nobody waits. */
void session_move_discard(
    struct session_moves *moves, struct bytes client_id, uint64_t stamp, unsigned previous);
/* The session ends here while something is still coming to it: the rest is discarded wherever it is found. No
 * callback. */
void session_move_cancel(struct session_moves *moves, struct session_move_in **move);
/*
 * The session's claim was superseded by `owner`, and the client is back here before that peer has asked for
 * it. The engine has closed its connection and taken it out of the registry, as for take_out, and keeps the
 * returned out at it. `stamp`: the session's own, old one. When the peer asks it gets this one; if it dies or
 * has nothing, the content goes to the newest session here (export_state, import_state, next, out_done at
 * once). Before session_move_in(). NULL: out of memory.
 */
struct session_move_out *session_move_park(
    struct session_moves *moves, void *session, struct bytes client_id, uint64_t stamp, unsigned owner);

enum session_move_verdict {
    SESSION_MOVE_DELIVER, /* as ever: into the session's queue or to its client */
    SESSION_MOVE_DROP,    /* not here: the new owner has it directly, or it is a double */
    SESSION_MOVE_HOLD,    /* give it to session_move_hold() */
};
/*
 * What to do with a publication for a session that has `in` or `out` (either may be NULL). `peer`: whose lane
 * brought it, bus_self() for those that clients of this worker published. `inherited`: a subscription that
 * import_state brought matches it; false: only such as the client made here since, of which the previous
 * owner knows nothing. Hot while moves last: allocates for late parts and for what is not inherited only.
 */
enum session_move_verdict session_move_verdict(struct session_move_in *in, struct session_move_out *out,
    unsigned peer, const struct publication_meta *meta, bool inherited);
/* Keeps it (own reference; note copied) until what the previous owner forwards of that origin is in. */
void session_move_hold(
    struct session_move_in *in, unsigned peer, struct publication *publication, struct bytes note);

/* Something was queued for the leaving session without asking session_move_verdict(): it is passed on, too.
 */
void session_move_wake(struct session_move_out *out);

/* In import_state, for each publication in flight: true if the client had this one meanwhile (late): leave it
 * out. */
bool session_move_seen(struct session_move_in *in, const struct publication_meta *meta);
/* Each publication that comes from a peer (acceptance's `deliver`), whoever wants it: one store. */
void session_moves_heard(struct session_moves *moves, unsigned peer, const struct publication_meta *meta);

/* Monotonic time at which bus_tick() has something to do for moves (UINT64_MAX: nothing). */
uint64_t session_moves_next_us(const struct session_moves *moves);
size_t session_moves_count(const struct session_moves *moves); /* both directions, parked ones too */

#endif
