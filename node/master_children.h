/*
 * Supervision of the children: a table of slots, who runs, who died, when to start again, who serves for whom
 * meanwhile. Master only; never waits for a child.
 *
 *   DOWN ──spawn──▶ STARTING ──READY──▶ RUNNING
 *                      │ died              │ died
 *                      ▼                   ▼
 *                at once again, or after 3 crashes in 10 s: BACKED_OFF (a sibling adopts) ──time──▶ RETURNING
 *   RETURNING: the sibling is asked to let go; then spawn. Any state ──node stops──▶ ENDED once no process is
 * left.
 */
#ifndef NODE_MASTER_CHILDREN_H
#define NODE_MASTER_CHILDREN_H

#include "node/child.h"
#include "node/control_channel.h"
#include "node/master_folders.h"
#include "node/master_generation.h"
#include "node/master_listeners.h"
#include "node/master_log.h"
#include "node/master_memory.h"
#include "node/master_tickets.h"

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

enum master_child_state {
    MASTER_CHILD_DOWN,       /* never started yet */
    MASTER_CHILD_STARTING,   /* has a process, which has not said READY */
    MASTER_CHILD_RUNNING,    /* serves */
    MASTER_CHILD_BACKED_OFF, /* no process; waits for its time */
    MASTER_CHILD_RETURNING,  /* no process; its adopter is letting go */
    MASTER_CHILD_ENDED,      /* no process, and none will be started: the node stops */
    MASTER_CHILD_STATES,
};

#define MASTER_CRASHES_WATCHED 3 /* this many within 10 s are a crash loop */
/* In a cluster an incarnation ends in the number of its node, so that those of two nodes are never the same.
 */
#define MASTER_NODE_BITS 6
#define MASTER_NO_SLOT   UINT32_MAX

struct master_children;

struct master_child {
    struct master_children *all; /* borrowed */
    unsigned slot;
    char name[16]; /* "worker 0", "link" */
    enum master_child_state state;
    pid_t pid;                                   /* 0: no process */
    uint64_t incarnation;                        /* of the process */
    uint64_t generation;                         /* that it serves with; 0: not known */
    uint64_t started_us;                         /* of the process, monotonic */
    uint64_t ready_us;                           /* 0: not ready yet */
    uint64_t restarts;                           /* processes started after the first */
    uint64_t crashes_us[MASTER_CRASHES_WATCHED]; /* newest first; 0: none */
    unsigned unready_deaths;                     /* processes in a row that never got ready */
    unsigned backoff_level;                      /* 0: none; n: the last delay was 2^(n-1) s */
    uint32_t adopter;                            /* slot that serves for this one; MASTER_NO_SLOT: nobody */
    bool ping_open;                              /* a ping is unanswered */
    uint64_t ping_number;
    uint64_t answered_us;   /* when it last proved to be alive */
    const char *killed_for; /* static text; NULL: we did not kill this process */
    struct control_channel channel;
    struct event *timer;           /* owned: end of the back-off, or of the wait for the adopter */
    struct master_log_source *log; /* owned */
};

struct master_children {
    struct event_base *base;             /* borrowed, as all up to counters */
    const struct generation *generation; /* what a child is started with */
    struct master_folders *folders;
    const struct master_memory *memory;
    const struct master_listeners *listeners;
    const struct master_tickets *tickets;
    struct master_log *log;
    uint8_t node_key[32];
    uint8_t decoy_key[32];
    unsigned count;                 /* of workers */
    unsigned total;                 /* of children: in a cluster the link comes behind the workers */
    uint64_t life;                  /* of this node: the first incarnation */
    struct master_child *table;     /* owned, [slot], [count] is the link */
    json_t *nodes[CHILD_NODES_MAX]; /* owned; what the link told last of each; NULL: nothing yet */
    struct event *tick;             /* owned; pings */
    struct event *deadline;         /* owned; of the stop */
    uint64_t tick_us;               /* when the last tick was */
    bool all_ready_told;
    bool stopping;
    bool forced; /* a child had to be killed to stop the node */
    void *context;
    void (*ended)(void *context); /* the node stops and no process is left; called once */
    /* It has got ready, or its process has ended. */
    void (*changed)(void *context, struct master_child *child);
    /* CONTROL_SWITCHED or CONTROL_REFUSED. */
    void (*switched)(void *context, struct master_child *child, const struct control_message *message);
};

/* `settings` has the borrowed members, context and callbacks; the rest is set here. Starts no process. */
enum status master_children_open(
    const struct master_children *settings, struct master_children **ret_children) CHECK_RESULT;
/* Kills and reaps what still runs. */
void master_children_close(struct master_children **children);

/* Starts every slot. */
void master_children_start(struct master_children *children);
/* SIGCHLD came. */
void master_children_reap(struct master_children *children);
/* Asks all to end, once; those that do not are killed in time for the node to stop within 5 s. */
void master_children_stop(struct master_children *children);
/* Ends all at once. */
void master_children_kill(struct master_children *children);

/* No slot is in a crash loop and all serve. */
bool master_children_all_serve(const struct master_children *children);
bool master_child_is_link(const struct master_child *child);
const char *master_child_state_name(enum master_child_state state);

/* master_spawn.c: makes the process, its channel and log, and sends it everything up to BEGIN. */
enum status master_spawn(struct master_child *child) CHECK_RESULT;
/* Sends; a child that cannot be sent to is killed. */
void master_child_send(struct master_child *child, const struct control_message *message);
void master_child_send_slot(
    struct master_child *child, enum control_type type, unsigned slot, uint64_t incarnation);
/* The sockets (out of `listeners`) and the will table of `slot`, as OWN_SLOT, ADOPT or SOCKETS. */
void master_child_hand_slot(struct master_child *child, enum control_type type, unsigned slot,
    const struct master_listeners *listeners);
void master_child_kill(struct master_child *child, const char *why);
void master_child_message(struct master_child *child, const struct control_message *message);

#endif
