/*
 * The inside of struct session_moves, for the files session_move*.c alone: session_move.c (life, what comes
 * by the bus), the new owner's side (in_*), the old owner's (out_*), marks and pieces.
 */
#ifndef CLUSTER_SESSION_MOVE_PRIVATE_H
#define CLUSTER_SESSION_MOVE_PRIVATE_H

#include "cluster/outbox.h"
#include "cluster/record.h"
#include "cluster/session_move.h"
#include "shared/hash_table.h"

/*
 * BUS_RECORD_MOVE: u8 kind, u64 incarnation that it is meant for, u64 move (the new owner's number of it),
 * then to the old owner
 *
 * - REQUEST: u64 stamp, u64 before, u8 discard, client identifier
 * - IMPORTED
 * - GIVEN_UP: u8 discard (ended, or asked elsewhere: before IMPORTED the old owner keeps the session)
 *
 * and to the new owner
 *
 * - NOTHING
 * - REDIRECT: u8 peer, u64 before (ask that one instead, which may be the new owner itself; 0: as the stamp)
 * - SEE: u8 peer, identities (that one, or BUS_PEERS_MAX: perhaps somebody, has an older part; these the
 * client had)
 * - STATE: u32 size of the whole, u32 position, bytes. The whole: u8 count, count times (u8 peer, u64 its
 *   incarnation, u64 sequence up to which the session had its publications), the engine's bytes
 * - FORWARD: as STATE. The whole: u16 note size, note, encoded publication
 * - ORIGIN_END: u8 peer, u64 incarnation of the peer, u64 limit
 * - END
 *
 * BUS_RECORD_MOVE_MARK: u8 kind, u64 incarnation that it is meant for, u64 move, then
 *
 * - MARK_REQUEST: u8 old owner, u64 its incarnation (new owner to everybody)
 * - MARK: u8 new owner, u64 limit, u8 complete (to the old owner; again when fragments were under way)
 * - PASSED: u64 limit (to the new owner)
 */
enum move_kind {
    MOVE_REQUEST = 1,
    MOVE_IMPORTED,
    MOVE_GIVEN_UP,
    MOVE_NOTHING,
    MOVE_REDIRECT,
    MOVE_SEE,
    MOVE_STATE,
    MOVE_FORWARD,
    MOVE_ORIGIN_END,
    MOVE_END,
    MOVE_MARK_REQUEST,
    MOVE_MARK,
    MOVE_PASSED,
};

#define MOVE_HEAD_SIZE 17u
#define MOVE_PART_HEAD (MOVE_HEAD_SIZE + 8u)
#define MOVE_PART_MAX  32768u    /* bytes of one part; an eighth of the window if that is less */
#define MOVE_TURN_MAX  131072u   /* bytes of one move before others have theirs */
#define MOVE_REDIRECTS 32u       /* then the ring of redirects is cut */
#define MOVE_SEEN_MAX  65536u    /* identities that one late part remembers */
#define MOVE_IDENTITY  20u       /* bytes of one on the wire */
#define MOVE_EXPECT_US 15000000u /* a registrar that stands still has run on or was replaced by then */

/* What comes in parts: a state, then one publication after the other. */
struct move_parts {
    uint8_t *data; /* owned */
    uint32_t total;
    uint32_t size;
};

enum move_in_state {
    IN_QUEUED,    /* another move of the session goes first */
    IN_EXPECTING, /* nobody knows whether there was a previous owner: only notes what the client gets */
    IN_ASKED,     /* the previous owner was asked; its state may be on its way */
    IN_OWN,       /* it is (or may be) on its way out of this very worker: waits for what becomes of that */
    IN_RECEIVED,  /* the state is whole, and waits for room for IMPORTED */
    IN_MERGING,   /* imported */
};

struct move_limit {
    uint64_t incarnation;
    uint64_t sequence; /* what the origin published before is the old owner's */
};

/* One life of a publishing worker, as one move sees it. A worker that starts during the move is one more. */
struct move_origin {
    unsigned peer;
    uint64_t incarnation;
    uint64_t limit; /* what it published before is the old owner's; 0: not known */
    uint64_t due;   /* old owner: `popped` + 1 at which all of it was forwarded; 0: not known yet */
    bool marked;    /* its mark (or its death) is known */
    bool complete;  /* old owner: nothing more of it will come here; new owner: all of it was forwarded */
    bool told;      /* old owner: ORIGIN_END was sent */
};

struct move_origins {
    struct move_origin *items; /* owned */
    unsigned count;
    unsigned capacity;
};

struct move_held {
    struct list link;
    unsigned peer;
    struct publication *publication; /* shared */
    uint32_t note_size;
    uint8_t note[];
};

struct session_move_in {
    struct session_moves *moves;
    struct list link;             /* moves->ins */
    struct list work;             /* moves->work_in, while something is to be sent */
    struct session_move_in *next; /* queued behind this one */
    struct session_move_out *out; /* the session is already on its way to a third; or NULL */
    void *session;
    enum move_in_state state;
    bool late;        /* the client does not wait (any more) */
    bool discard;     /* what it asks for is to end where it is; no session here, no callback */
    bool answer_owed; /* imported; `answered` waits until IMPORTED is in the lane */
    bool end;         /* END came */
    bool orphan;      /* the old owner died after the import: nothing more is forwarded */
    unsigned previous;
    unsigned sent_here; /* who named this worker; BUS_PEERS_MAX: nobody */
    unsigned redirects;
    uint64_t id;
    uint64_t stamp;
    uint64_t before; /* of the claims given up on the way, the next is older than this */
    uint64_t deadline_us;
    struct move_parts parts;
    uint64_t previous_incarnation;
    uint64_t owed;    /* peers that are to get a MARK_REQUEST */
    uint64_t wanted;  /* peers whose PASSED is waited for */
    uint64_t settled; /* peers of which nobody will forward anything (any more): the old owner is dead */
    struct move_origins origins;
    /* What came to the old owner while he had the client, or from him, by origin's slot: should he die. */
    struct move_limit highest[BUS_PEERS_MAX];
    struct list held; /* struct move_held, in the order in which they came */
    size_t held_size;
    struct hash_table seen; /* late: struct move_identity of what came directly or was forwarded */
    uint64_t client_hash;
    uint16_t client_id_size;
    uint8_t client_id[];
};

enum move_out_state {
    OUT_PARKED,     /* nobody has asked for it */
    OUT_SENDING,    /* the state is going to the new owner */
    OUT_SENT,       /* all of it went */
    OUT_FORWARDING, /* the new owner has it: what is queued and what comes follows */
};

/* Asked for a session that was already going to another: its turn comes if that one does not take it. */
struct move_follower {
    struct list link;
    unsigned peer; /* self: one of our own moves in */
    uint64_t id;
    uint64_t stamp;
    bool discard;
};

/* Asked for a session that our own claim may bring here first. */
struct move_early {
    struct list link;
    unsigned peer;
    uint64_t id;
    uint64_t stamp;
    uint64_t before;
    bool discard;
    uint16_t client_id_size;
    uint8_t client_id[];
};

/* What a new owner asks for. */
struct move_request {
    unsigned peer;
    uint64_t id;
    uint64_t stamp;
    uint64_t before;
    bool discard;
    struct bytes client_id;
};

struct session_move_out {
    struct session_moves *moves;
    struct list link;           /* moves->outs */
    struct list work;           /* moves->work_out */
    struct session_move_in *in; /* what still comes to the session; or NULL */
    void *session;
    enum move_out_state state;
    unsigned peer; /* the new owner */
    uint64_t id;
    uint64_t stamp;                    /* whoever asks with a newer one may get it */
    uint64_t own_stamp;                /* under which the session was owned here */
    struct session_move_writer writer; /* what is being sent: the state, then a publication at a time */
    uint32_t sent;                     /* bytes of it */
    uint64_t popped;                   /* deliveries taken from the queue so far */
    struct move_origins origins;
    struct list followers;
    uint64_t client_hash;
    uint16_t client_id_size;
    uint8_t client_id[];
};

/* Marks that we owe as a peer of a move. Fragments of what was published before must not be overtaken. */
struct move_mark {
    struct list link;
    unsigned new_owner;
    unsigned old_owner;
    uint64_t old_incarnation;
    uint64_t id;
    uint64_t limit; /* our sequence when MARK went into the lane; 0: it did not yet */
    bool completed; /* the old owner has got all that is its */
};

struct session_moves {
    struct bus *bus;
    struct routes *routes;
    struct claims *claims;
    const struct session_moves_ops *ops;
    void *context;
    size_t held_max;
    size_t state_max;
    uint64_t (*oldest_partial)(void *context, unsigned peer);
    struct keyed_hash hash;
    struct outbox outbox;
    struct list ins;
    struct list outs;
    struct list work_in;
    struct list work_out;
    struct list marks;   /* owed */
    struct list earlies; /* struct move_early */
    struct hash_table ins_by_id;
    struct hash_table ins_by_client;
    struct hash_table outs_by_target; /* by new owner and move */
    struct hash_table outs_by_client; /* those that nobody has imported */
    size_t count;
    struct move_limit heard[BUS_PEERS_MAX]; /* highest sequence that came from each peer */
    uint64_t next_us;                       /* no deadline of a move in is before this */
};

#define move_bit(peer) (UINT64_C(1) << (peer))

static inline uint64_t moves_everybody(const struct session_moves *moves)
{
    return bus_live_peers(moves->bus) | move_bit(bus_self(moves->bus));
}

static inline struct bytes in_client(const struct session_move_in *in)
{
    return bytes_of(in->client_id, in->client_id_size);
}

static inline struct bytes out_client(const struct session_move_out *out)
{
    return bytes_of(out->client_id, out->client_id_size);
}

/* session_move.c */
uint8_t *moves_begin(
    struct session_moves *moves, unsigned peer, uint8_t *to, enum move_kind kind, uint64_t id);
void moves_send(struct session_moves *moves, unsigned peer, const uint8_t *body, const uint8_t *end);
void moves_send_plain(struct session_moves *moves, unsigned peer, enum move_kind kind, uint64_t id);
void moves_send_u8(
    struct session_moves *moves, unsigned peer, enum move_kind kind, uint64_t id, uint8_t value);
void moves_send_redirect(
    struct session_moves *moves, unsigned peer, uint64_t id, unsigned to_ask, uint64_t before);

/* session_move_parts.c */
uint64_t moves_mix(uint64_t value, uint64_t salt);
/* Takes in one part. STATUS_OK: the whole is there; STATUS_AGAIN: more to come. */
enum status parts_add(struct move_parts *parts, struct record_reader *reader, size_t max) CHECK_RESULT;
void parts_done(struct move_parts *parts);
size_t moves_part_max(const struct session_moves *moves, unsigned peer);
/* Puts as much of `whole` behind *sent as there is room for; true when all of it is in the lane. */
bool parts_put(struct session_moves *moves, unsigned peer, enum move_kind kind, uint64_t id,
    struct bytes whole, uint32_t *sent, size_t *budget);
struct move_origin *origin_find(const struct move_origins *origins, unsigned peer, uint64_t incarnation);
/* Finds or adds; NULL: out of memory. */
struct move_origin *origin_get(struct move_origins *origins, unsigned peer, uint64_t incarnation);
void origins_done(struct move_origins *origins);
/* Late parts: true if this identity was there; it is from now on. */
bool seen_add(struct hash_table *seen, const struct publication_meta *meta);
bool seen_has(const struct hash_table *seen, const struct publication_meta *meta);
/* Everything of `from` is in `to` afterwards, and `from` is empty. */
void seen_move(struct hash_table *to, struct hash_table *from);
/* Encodes from *at on (0: the first) as many as fit; the size; *at is 0 after the last. */
size_t seen_write(const struct hash_table *seen, size_t *at, uint8_t *to, size_t size);
/* Adds what was encoded. */
enum status seen_read(struct hash_table *seen, struct record_reader *reader);
void seen_done(struct hash_table *seen);

/* session_move_ins.c */
struct session_move_in *in_new(struct session_moves *moves, void *session, struct bytes client_id);
void in_free(struct session_move_in *in);
/* It has something to do at the end of the turn. */
void in_wake(struct session_move_in *in);
struct session_move_in *in_find(struct session_moves *moves, uint64_t id);
/* The first move of a session that is not leaving. */
struct session_move_in *in_find_client(struct session_moves *moves, struct bytes client_id, uint64_t hash);
struct session_move_in *in_find_session(
    struct session_moves *moves, struct bytes client_id, uint64_t hash, const void *session);
void in_peer_started(struct session_moves *moves, unsigned peer);
void in_peer_died(struct session_moves *moves, unsigned peer);
void in_tick(struct session_moves *moves, uint64_t now_us);
void in_work(struct session_moves *moves);

/* session_move_in.c */
void in_on_nothing(struct session_move_in *in);
void in_on_redirect(struct session_move_in *in, unsigned peer, uint64_t before);
/* The old owner may keep what it has (or end it, if it is not wanted by anybody any more). */
void in_give_up(struct session_move_in *in, bool discard);
/* What the client that waits is told. */
void in_resolve(struct session_move_in *in, enum session_move_outcome outcome);
/* Ends it; a client that still waits gets this outcome. */
void in_finish(struct session_move_in *in, const enum session_move_outcome *outcome);
/* What is still parked here comes behind, as a late part. */
void in_queue_parked(struct session_move_in *in);
void in_previous_died(struct session_move_in *in);

/* session_move_chain.c */
void in_append(struct session_move_in *chain, struct session_move_in *in);
bool in_is_asking(const struct session_move_in *chain, unsigned previous);
/* One more owner of an older part is to be asked behind this one. */
void in_ask_later(struct session_move_in *in, unsigned previous);
enum status in_on_see(struct session_move_in *in, struct record_reader *reader);
/* The session goes on to a third, which is told where the rest is. True: it had nothing but this wait. */
bool in_hand_on(struct session_move_in *in, unsigned peer, uint64_t id);

/* session_move_own.c */
/* A parked session looks for who takes it: true if there is one here that will. */
bool in_will_take(struct session_moves *moves, struct bytes client_id, uint64_t hash);
/* It may be in this worker itself, on its way to somebody who is gone. */
void in_look_here(struct session_move_in *in);
/* Waits for what becomes of a session that was leaving this worker. */
void in_own_step(struct session_move_in *in);
/* Its content comes from a session that was here all the time. */
void in_take_own(struct session_move_in *in, struct session_move_out *out);

/* session_move_import.c */
enum status in_on_state(struct session_move_in *in, struct record_reader *reader);
/* Waits for room first, so that IMPORTED goes with the very turn of the import. */
void in_import(struct session_move_in *in);
/* IMPORTED lies in the lane before the client hears of it: if we die then, the old owner does not go on. */
void in_merging_step(struct session_move_in *in);

/* session_move_merge.c */
enum session_move_verdict in_verdict(
    struct session_move_in *in, unsigned peer, const struct publication_meta *meta, bool inherited);
/*
 * The client gets this one now. True if it had it already: a late part. Otherwise it is remembered for the
 * late part that comes next, if there is one.
 */
bool in_had_already(struct session_move_in *in, const struct publication_meta *meta);
/* Up to here the old owner had the origin's publications, or has forwarded them. */
void in_note_highest(struct session_move_in *in, unsigned peer, uint64_t incarnation, uint64_t sequence);
enum status in_on_forward(struct session_move_in *in, struct record_reader *reader);
void in_on_origin_end(struct session_move_in *in, unsigned peer, const struct move_limit *limit);
/* All that the old owner had of this origin was forwarded. */
bool in_origin_ended(const struct session_move_in *in, unsigned peer, uint64_t incarnation);
void in_on_end(struct session_move_in *in);
void in_on_passed(struct session_move_in *in, unsigned peer, const struct move_limit *limit);
void in_marking_peer_started(struct session_move_in *in, unsigned peer);
void in_marking_peer_died(struct session_move_in *in, unsigned peer);
/* Nobody will forward more of this peer. False: the session has ended in a callback. */
bool in_settle(struct session_move_in *in, unsigned peer);
/* Ends it if everything is here, and nothing that was the old owner's is still under way to us directly. */
void in_check_done(struct session_move_in *in);
void in_held_free(struct session_move_in *in, struct move_held *held);

/* session_move_outs.c */
struct session_move_out *out_new(struct session_moves *moves, struct bytes client_id, uint64_t stamp);
void out_free(struct session_move_out *out);
void out_wake(struct session_move_out *out);
struct session_move_out *out_find(struct session_moves *moves, unsigned peer, uint64_t id);
/* One that nobody has imported yet: best the newest that nobody has been promised. `but`: a session that is
 * not meant; NULL: none. */
struct session_move_out *out_find_client(
    struct session_moves *moves, struct bytes client_id, uint64_t hash, const void *but);

/* session_move_out.c */
/* False: the engine has none that is older than the stamp. */
bool out_take(struct session_moves *moves, const struct move_request *request);
/* To who asked; one that only waits for its own previous owner sends him there. */
void out_give(struct session_move_out *out, unsigned peer, uint64_t id);
void out_on_imported(struct session_move_out *out);
void out_on_given_up(struct session_move_out *out, bool discard);
/* The session is at the new owner, or has ended: nothing is left here. */
void out_end(struct session_move_out *out);
/* Waits for a newer session of this worker that looks for it; without one it is an ordinary session again. */
void out_keep_or_return(struct session_move_out *out);
void out_on_mark(struct session_move_out *out, unsigned peer, const struct move_limit *limit, bool complete);
/* True if this is the new owner's to deliver. */
bool out_is_after(const struct session_move_out *out, unsigned peer, const struct publication_meta *meta);
void out_peer_started(struct session_moves *moves, unsigned peer);
void out_peer_died(struct session_moves *moves, unsigned peer);

/* session_move_asked.c */
void out_on_request(struct session_moves *moves, const struct move_request *request);
void out_on_given_up_early(struct session_moves *moves, unsigned peer, uint64_t id, bool discard);
void out_answer_nothing(struct session_moves *moves, unsigned peer, uint64_t id);
/* One of our own moves in waits for what becomes of it; false: it has gone for good. */
bool out_follow(struct session_move_out *out, struct session_move_in *in);
/* Those of a peer: this one, or all (0). */
void out_drop_followers(struct session_move_out *out, unsigned peer, uint64_t id);
/* Those who came before our own claim was answered. */
void out_earlies(struct session_moves *moves);
void out_drop_earlies(struct session_moves *moves, uint64_t peers);
void out_module_done(struct session_moves *moves);

/* session_move_forward.c */
void out_work(struct session_moves *moves);

/* session_move_mark.c */
void mark_request(struct session_moves *moves, unsigned new_owner, uint64_t id, unsigned old_owner,
    uint64_t old_incarnation);
void mark_work(struct session_moves *moves);
void mark_peer_died(struct session_moves *moves, unsigned peer);
void mark_done(struct session_moves *moves);

#endif
