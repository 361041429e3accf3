/*
 * Start-up and supervision side of a child process: what the master hands it over the control socket, and
 * what it must be told while it runs. `shoald --child ROLE --slot N` (main.c) calls child_main(), which takes
 * the descriptors, drops privileges, reads the configuration and calls the role's main function (worker.h)
 * with a filled struct child. Runs in children only; never touches MQTT, TLS or the bus.
 *
 * The child answers the master's pings by itself from the event loop: a loop turn of 10 s gets the child
 * killed.
 */
#ifndef NODE_CHILD_H
#define NODE_CHILD_H

#include "cluster/bus.h"
#include "node/child_generation.h"
#include "shared/bytes.h"
#include "shared/config.h"
#include "shared/counters.h"
#include "shared/password_file.h"
#include "shared/status.h"
#include "shared/tls_tickets.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#define CHILD_SLOTS_MAX   BUS_PEERS_MAX /* workers of one node */
#define CHILD_SOCKETS_MAX COUNTERS_LISTENERS_MAX

/* How long a child may take to end after child_handlers.stop; the child module ends the process by itself
 * then. */
#define CHILD_STOP_SHUTDOWN_MS    3500
#define CHILD_STOP_MASTER_GONE_MS 900

enum child_role {
    CHILD_ROLE_WORKER = 1,
    CHILD_ROLE_LINK = 2, /* its slot is the number behind the workers' */
};

enum child_stop {
    CHILD_STOP_SHUTDOWN,    /* the node is being stopped: within CHILD_STOP_SHUTDOWN_MS */
    CHILD_STOP_MASTER_GONE, /* the master died: within CHILD_STOP_MASTER_GONE_MS */
};

/* A listening socket, non-blocking, open for the node's whole life in the master. */
struct child_socket {
    uint8_t place; /* whose it is: child_generation.places; another one: a listener that comes or is gone */
    int fd;        /* owned by the child module: take it out of the event loop, never close it */
};

/* The sockets and the tables of one slot, own or adopted. */
struct child_slot {
    unsigned slot;
    unsigned socket_count;
    struct child_socket sockets[CHILD_SOCKETS_MAX];
    int will_table;    /* memfd, read and write, bus.will_table bytes, sealed against
                                            resizing; owned by the child module: map it */
    int delayed_table; /* the same, delayed.max_bytes */
};

/* Set by the role's main function before child_run(). All are called from the event loop; NULL: not wanted.
 */
struct child_handlers {
    void *context;
    /* A peer has (again) a process. Peers that run already are reported in the first loop turn. */
    void (*peer_started)(void *context, unsigned slot, uint64_t incarnation);
    /* The peer's process has ended and was reaped: nothing writes its lanes any more. */
    void (*peer_died)(void *context, unsigned slot);
    /* Called once. Say goodbye, then end the loop with child_end(). */
    void (*stop)(void *context, enum child_stop reason);
    /* A sibling is backed off: accept from its sockets and look after its tables until unadopt(). The
       struct lives that long. */
    void (*adopt)(void *context, const struct child_slot *adopted);
    /* Its next process is about to start: let go of the sockets and unmap the table before this returns. */
    void (*unadopt)(void *context, const struct child_slot *adopted);
    /* The slot (own or adopted) has got sockets that it had not. */
    void (*sockets)(void *context, const struct child_slot *slot);
    /*
     * Another configuration with its certificates is to be used: prepare it in small steps over the next loop
     * turns, prove it, switch, and say so by child_generation_switched(). What `next` has lives until then. A
     * preparation that is still under way is given up first.
     */
    void (*generation)(void *context, const struct child_generation *next);
    /* After the events of every loop turn: what was gathered goes out. */
    void (*turn)(void *context);
    /* Before the loop waits for events. False: it only looks for them, and the next turn comes at once. */
    bool (*may_sleep)(void *context);
};

#define CHILD_NODES_MAX 32

/* What the link has beside its lanes with the workers; all descriptors are owned by the child module. */
struct child_link {
    struct {
        int ring, cursor;                      /* read-only, written */
    } lanes[CHILD_SLOTS_MAX][CHILD_NODES_MAX]; /* from worker to node */
    struct {
        int ring, cursor, landing, landing_cursor;
    } windows[CHILD_NODES_MAX];
};

struct child {
    enum child_role role;
    unsigned slot;    /* own */
    unsigned workers; /* slots 0 … workers-1 exist */
    unsigned peers;   /* those, and in a cluster the link: who has lanes with each other */
    unsigned nodes;   /* of the cluster, this one included, whose numbers on the bus begin at `peers`; 0 */
    uint64_t life;    /* of the node: the same in all children of this master, another after a restart */
    struct child_link *link; /* the link's alone */
    uint64_t incarnation;    /* never used before by any process of this node */
    uint8_t node_key[32];    /* the same in all children of this master: keyed_hash_init_from() */
    uint8_t decoy_key[PASSWORD_DECOY_KEY_SIZE]; /* of this node for good: password_file_scram() */

    const struct config *config; /* owned by the child module */
    struct tls_tickets *tickets; /* owned by the child module, which adds the keys that come */
    const uint8_t *places;       /* [CONFIG_LISTENERS_MAX], of its listeners */
    struct bytes secrets; /* what tls_material_serialize() made; read-only, locked, never dumped; gone after
                             child_forget_secrets() */
    struct bytes access;  /* what access_files_load() made; read-only, never dumped; gone as well then */
    struct tls_revoked *revoked; /* … and so is this, unless shared */
    struct event_base *base;     /* owned by the child module */

    void *counters_base;       /* all pages: counters_sum(counters_base, counters_pages, …) */
    unsigned counters_pages;   /* one per worker, then the master's */
    struct counters *counters; /* own page; gauges are reset already */

    struct child_slot own;
    struct bus_lane_descriptors
        lanes[CHILD_SLOTS_MAX];        /* by peer slot; all -1 at [slot]. Open for the child's life */
    int route_tables[CHILD_SLOTS_MAX]; /* by slot, the own one for writing. Open for the child's life */
    int wake;                          /* eventfd; open as long, as the next */
    int wake_peers[CHILD_SLOTS_MAX];   /* by peer slot; -1 at [slot] */

    struct child_handlers handlers;
    struct child_private *private; /* of the child module */
};

/*
 * What a child process does, from argv to its exit code (never returns to the caller's main by exit()):
 * checklist, then the role's main function. The working directory is run_dir from here on: ipc paths in it
 * are short and relative. SIGTERM, SIGINT, SIGHUP and SIGPIPE are ignored (the master speaks by the control
 * socket).
 */
int child_main(enum child_role role, unsigned slot);

/* Tells the master that this child serves. Call when the start-up of the role is done (also later, in the
 * loop). */
void child_ready(struct child *child);

/*
 * The answer to child_handlers.generation. NULL: the role uses nothing of the former generation any more (nor
 * sockets at other places, which are closed) but
 * what it has shared (config_share);
 * child->config is the new one from here on, its secrets are unmapped. Otherwise why it stays with what it
 * has.
 */
void child_generation_switched(struct child *child, const char *refused);

/* Link: what `shoalctl cluster status` is to show of a node, a JSON object; cut if it is long. */
void child_tell_node(struct child *child, unsigned peer, const char *json);

/* What the master has said of peers until now, before the loop comes to it: after a pause the events of
 * clients may come first. */
void child_hear(struct child *child);

/* Runs the event loop until child_end(). The caller frees its own things afterwards and returns an exit code.
 */
void child_run(struct child *child);
/* Ends the event loop after the current turn. */
void child_end(struct child *child);

/* Unmaps key material and access files; call when the TLS contexts are made and the files are parsed. */
void child_forget_secrets(struct child *child);

#endif
