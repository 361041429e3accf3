/*
 * The bus of one process: its lanes to and from every peer, frames made of records, one frame per lane and
 * loop turn, applied exactly once and in order (BUS rules 1). Knows nothing of what the records mean: modules
 * register a handler per record type. No sockets (a carrier has them), no clock but shared/clock.h: runs in a
 * simulation. Every process but the master has one. Not thread-safe.
 *
 * A loop turn:   bus_receive()/bus_drain()  →  clients are read, records are put  →  bus_turn_end()  → client
 * sockets are flushed. What was put before bus_turn_end() (or bus_publish()) returned survives SIGKILL.
 */
#ifndef CLUSTER_BUS_H
#define CLUSTER_BUS_H

#include "shared/bus_carrier.h"
#include "shared/bus_frame.h"
#include "shared/counters.h"
#include "shared/publication.h"

#include <stdbool.h>

#define BUS_PEERS_MAX 64

/* Walks the set bits of a mask of peers; `peer` is declared by it. */
/* NOLINTBEGIN(bugprone-macro-parentheses): a declared name takes none */
#define bus_for_each_peer(mask, peer)                                                                        \
    for (uint64_t left_ = (mask); left_ != 0; left_ &= left_ - 1)                                            \
        for (unsigned peer = (unsigned)__builtin_ctzll(left_), once_ = 1; once_; once_ = 0)
/* NOLINTEND(bugprone-macro-parentheses) */

/* Record types. The value is on the wire: never reuse one. */
enum bus_record_type {
    BUS_RECORD_PUBLICATION = 1,    /* acceptance.h: one whole publication */
    BUS_RECORD_FRAGMENT = 2,       /* acceptance.h: part of a large one */
    BUS_RECORD_COMPLETION = 3,     /* acceptance.h: ranges of identities that durable targets have */
    BUS_RECORD_SHARE_SETTLED = 4,  /* share_copies.h: ranges of copies that are not needed any more */
    BUS_RECORD_ROUTE = 10,         /* routes.h: add, remove, group counts */
    BUS_RECORD_ROUTE_ACK = 11,     /* routes.h */
    BUS_RECORD_STATE_REQUEST = 12, /* routes.h: send me your full state */
    BUS_RECORD_STATE_END = 13,     /* routes.h */
    BUS_RECORD_CLAIM = 20,     /* claims.h: claim, answer, release, report, superseded (first byte says) */
    BUS_RECORD_MOVE = 30,      /* session_move.h (first byte says) */
    BUS_RECORD_MOVE_MARK = 31, /* session_move.h */
    BUS_RECORD_WILL = 40,      /* wills.h */
    BUS_RECORD_RETAINED = 50,  /* retained message for a peer's full state */
    BUS_RECORD_FORWARD = 60,   /* link_relay.h: between links, records of one worker */
    BUS_RECORD_ANSWER = 61,    /* link_relay.h: between links, a record for one worker */
    BUS_RECORD_AS = 62,        /* from the link to a worker: a record of a node, unpacked by the bus itself */
    BUS_RECORD_NODE = 63,      /* from the link to a worker: a node is reachable, or is not */
    BUS_RECORD_TYPES = 64,
};

/*
 * Peers are numbered the same in all processes of a node: workers from 0 by their slots; in a cluster then
 * the link, and behind it the nodes in the order of the cluster file. A worker has a lane *to* each node,
 * which the link reads; what comes *from* a node comes in the link's lane, packed as BUS_RECORD_AS.
 */
struct bus_lane_descriptors { /* all borrowed until bus_new returns (it maps them) */
    int out_ring;             /* this process writes frames and head */
    int out_cursor;           /* read-only: how far the peer has come */
    int in_ring;              /* read-only; -1: nothing comes in a lane of its own */
    int in_cursor;            /* this process writes */
};

struct bus_settings {
    unsigned self;    /* own peer index = own slot */
    unsigned peers;   /* how many there are, self included; index self has no lane */
    unsigned workers; /* the first of them, whom bus_live_peers() is about; 0: all are */
    bool links;       /* the bus between links: frames are known by the node of their origin, node_ids */
    const uint16_t *node_ids;         /* [peers], borrowed for the bus's life; NULL: nodes have none */
    struct publication_origin origin; /* own */
    const struct bus_lane_descriptors *lanes; /* [peers] */
    struct counters *counters;                /* own page */
    const char *quarantine;      /* folder for frames that were tried twice; NULL: dropped with an alarm */
    struct bus_carrier *carrier; /* borrowed; set later with bus_set_carrier if it needs the bus first */
    void *context;
    /* What the operator must hear of (node/ logs it). */
    void (*alarm)(void *context, unsigned peer, const char *text);
    /* A frame was applied and its lane's cursor is about to pass it: what became of it must be safe. May be
       NULL. */
    void (*passing)(void *context, unsigned peer, uint64_t offset);
};

struct bus;

enum status bus_new(const struct bus_settings *settings, struct bus **ret_bus) CHECK_RESULT;
void bus_free(struct bus **bus);
void bus_set_carrier(struct bus *bus, struct bus_carrier *carrier);

unsigned bus_self(const struct bus *bus);
struct publication_origin bus_origin(const struct bus *bus);
uint64_t bus_live_peers(const struct bus *bus);   /* bit mask of workers, without self */
uint64_t bus_live_all(const struct bus *bus);     /* the link and nodes as well */
uint64_t bus_live_targets(const struct bus *bus); /* workers and nodes: who may want publications */
/* All zero for a peer that does not exist: the number may have come in a record. */
struct publication_origin bus_peer_origin(const struct bus *bus, unsigned peer);

/* Next sequence of this process's publications. */
uint64_t bus_next_sequence(struct bus *bus);
/* Hybrid logical clock: greater than every stamp given out or heard of here, and given by no other worker of
 * the node. */
uint64_t bus_stamp(struct bus *bus);
void bus_stamp_heard(struct bus *bus, uint64_t stamp);

/* Records out. ------------------------------------------------------------------------------------ */
enum bus_room {
    BUS_ROOM_PUBLICATION, /* leaves an eighth of the window free */
    BUS_ROOM_CONTROL,     /* all of it; what finds none puts the peer out of step */
};

/* Peers of the mask whose lane has no room for a record of `size` bytes now. Hot path: a few loads a peer. */
uint64_t bus_full(struct bus *bus, uint64_t peers, size_t size, enum bus_room room);
/*
 * Room for one record body in the lane's open frame (in the ring itself), or NULL: lane full (for control
 * records the peer is then marked out of step by this call), or no such live peer. Fill exactly `size` bytes
 * before the next bus call. Hot path: no allocation, no syscall.
 */
uint8_t *bus_put(struct bus *bus, unsigned peer, enum bus_record_type type, size_t size, enum bus_room room);
/* The same for a record that a worker is to take as one of `as`, a node (or a worker of it, `origin`). Link.
 */
uint8_t *bus_put_as(struct bus *bus, unsigned peer, unsigned as, struct publication_origin origin,
    enum bus_record_type type, size_t size, enum bus_room room);
#define BUS_AS_HEAD_SIZE 14u
/*
 * For who passes on frames of other lanes: what lies in the lane to `peer` by the next bus_publish() holds
 * all of `source` (any number below BUS_WINDOW_SOURCES) up to this offset; and what an earlier incarnation
 * had taken of the source with this id.
 */
enum status bus_take(
    struct bus *bus, unsigned peer, unsigned source, uint64_t id, uint64_t offset) CHECK_RESULT;
uint64_t bus_taken(const struct bus *bus, unsigned peer, unsigned source, uint64_t id);
/* The carrier has lost what it was given: everything from this offset on is offered to it again. */
void bus_resend(struct bus *bus, unsigned peer, uint64_t offset);
/* Closes all open frames and publishes the heads: from here on they survive. Early flushes only. */
void bus_publish(struct bus *bus);
/* As bus_publish, then hands the frames to the carrier. Before client sockets are flushed, once a turn. */
void bus_turn_end(struct bus *bus);
/* True if records were put since the last bus_publish(). */
bool bus_unpublished(const struct bus *bus);
/* Bytes of the lane's window that the peer has not applied yet (its cursor is read anew), and all of them. */
uint64_t bus_used(struct bus *bus, unsigned peer);
uint64_t bus_window_of(const struct bus *bus, unsigned peer);
/* `room` is called for each of these peers once half of its window is free: at the next poll or later. */
void bus_wait_room(struct bus *bus, uint64_t peers);

/* Records in. ------------------------------------------------------------------------------------- */
struct bus_record {
    unsigned peer;                    /* whose lane it came by */
    struct publication_origin origin; /* of that peer's incarnation that wrote it */
    uint64_t offset;                  /* lane offset of its frame */
    enum bus_record_type type;
    uint64_t asker;    /* incarnation that answers to what the body asks are for: origin's, or the node's */
    struct bytes body; /* private copy, valid during the call; hostile: check everything */
};
/* STATUS_PROTOCOL: dropped and counted. */
typedef enum status (*bus_handler)(void *context, const struct bus_record *record);
void bus_set_handler(struct bus *bus, enum bus_record_type type, bus_handler handler, void *context);

/* No further frame is applied until it is called with false: what was made of the last one has no room. Link.
 */
void bus_hold(struct bus *bus, bool hold);

/* The carrier brought a message (one or more whole frames). */
void bus_receive(struct bus *bus, struct bytes message);
/* Applies everything that the peers have published in their rings, now. */
void bus_drain(struct bus *bus);
/*
 * With a carrier that only wakes: call before the process sleeps. True: all peers know that they must wake
 * it, and had published nothing since their rings were last read; call bus_woken() when it runs again. False:
 * something is there, do not sleep. (Both sides write, then fence, then look: one of them sees the other.)
 */
bool bus_may_sleep(struct bus *bus);
/* Nobody needs to wake this process any more. Then bus_drain(). Cheap when it has not slept. */
void bus_woken(struct bus *bus);
/* Drains if it was last done half a second ago or earlier (the process was stopped): call between a socket
   read and decoding [BUS 4]. Cheap. `now_us`: monotonic. */
void bus_drain_if_stale(struct bus *bus, uint64_t now_us);
/* Peers that had to keep control records back from us: full state must be asked for. Ask before bus_drain();
 * afterwards either this or the peer's own request for it was seen. */
uint64_t bus_behind(const struct bus *bus);
/* About every 50 ms: lanes whose head is ahead for 100 ms are read in place; carriers are tried again. */
void bus_tick(struct bus *bus);
/* True while lanes that were found full are waited for: call bus_poll every 1-2 ms then, so that `room` comes
   soon (cursors in shared memory wake nobody). A couple of loads. */
bool bus_wants_poll(const struct bus *bus);
/* Looks only at the lanes that are waited for. bus_tick does it too. */
void bus_poll(struct bus *bus);
/* The carrier can take something for this peer again. */
void bus_carrier_ready(struct bus *bus, unsigned peer);

/*
 * Peers come and go; the master says so, after waitpid.
 * Incarnations of a slot grow. What an incarnation has written before it is announced here waits in its ring
 * until it is: a process is told of all live peers when it starts, then it drains.
 */
void bus_peer_started(struct bus *bus, unsigned peer, struct publication_origin origin);
/* Reads the dead peer's ring to its head first, then tells the watchers. */
void bus_peer_died(struct bus *bus, unsigned peer);

/*
 * The peer's process is another, whose lanes go on where those of the old one stopped, and it serves as if
 * nothing had been (a link): full state is exchanged, and nothing is forgotten meanwhile.
 */
void bus_peer_renewed(struct bus *bus, unsigned peer, struct publication_origin origin);
/* The lane from this peer begins anew at this offset, whatever it held; it was read first. Link. */
void bus_lane_restart(struct bus *bus, unsigned peer, uint64_t offset);
/* A node, as the link says: as the two above, but nothing is read from a lane of its own. */
void bus_node_started(struct bus *bus, unsigned peer, struct publication_origin origin);
void bus_node_died(struct bus *bus, unsigned peer);
/* The body of BUS_RECORD_NODE. */
#define BUS_NODE_SIZE 12u
void bus_node_write(uint8_t *to, unsigned peer, bool up, struct publication_origin origin);

struct bus_watcher { /* modules that must know; all members may be NULL */
    void *context;
    bool far; /* told of the link and of nodes, too; the others hear of workers alone */
    void (*started)(void *context, unsigned peer); /* a new incarnation: nothing of the old one holds */
    void (*died)(void *context, unsigned peer);
    void (*turn_applied)(void *context);               /* after a batch of records was applied */
    void (*room)(void *context, unsigned peer);        /* a lane that was found full has room again */
    void (*out_of_step)(void *context, unsigned peer); /* full state must be exchanged with this peer */
    void (*tick)(void *context);
    void (*turn_ending)(void *context); /* first thing in bus_turn_end(): last records of this turn */
};
void bus_watch(struct bus *bus, const struct bus_watcher *watcher);

/* For modules on top: the own page, and what the operator must hear of. */
struct counters *bus_counters(struct bus *bus);
void bus_alarm(struct bus *bus, unsigned peer, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* For `shoalctl status` and metrics. */
struct bus_lane_figures {
    uint64_t head, cursor; /* of the outgoing lane, bytes */
    uint64_t window;       /* bytes */
    uint64_t dropped_qos0;
    uint64_t lost_acknowledged;
    bool out_of_step;
};
void bus_count_dropped_qos0(struct bus *bus, unsigned peer); /* acceptance.h counts here */
void bus_count_lost(struct bus *bus, unsigned peer);
void bus_figures(const struct bus *bus, unsigned peer, struct bus_lane_figures *ret_figures);

#endif
