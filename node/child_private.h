/* What the files of the child module share: start-up (child.c) and event loop (child_loop.c). Not for roles.
 */
#ifndef NODE_CHILD_PRIVATE_H
#define NODE_CHILD_PRIVATE_H

#include "node/child.h"
#include "node/child_generation.h"
#include "node/control_channel.h"

/* Exit codes of a child that the master knows how to tell apart; 0 is an ordered end. */
#define CHILD_EXIT_START 3   /* the start-up failed; the log says how */
#define CHILD_EXIT_LATE  4   /* did not end in time and ended itself */
#define CHILD_EXIT_EXEC  127 /* /proc/self/exe could not be run */

/* Sanitizer builds leave children open to their own leak checker. */
#ifdef __SANITIZE_ADDRESS__
#define CHILD_DUMPABLE 1
#else
#define CHILD_DUMPABLE 0
#endif

struct child_private {
    char title[32];                  /* "worker 0" */
    int lock;                        /* held open, see START_FD_LOCK */
    struct child_generation current; /* the role sees it as const */
    struct child_generation next;    /* number 0: none is being prepared */
    uint64_t log_dropped_before;     /* of the slot's earlier processes */
    bool ended;                      /* child_end() was called */
    bool stopping;
    struct control_channel channel;
    struct event *first_turn;                    /* owned */
    uint64_t peer_incarnations[CHILD_SLOTS_MAX]; /* 0: not running */
    struct child_slot *adopted[CHILD_SLOTS_MAX]; /* owned; NULL: not adopted */
};

const char *child_role_name(enum child_role role);
bool child_role_from_name(const char *name, enum child_role *ret_role);

/* Ends the process after this time, whatever the event loop does. */
void child_set_deadline(unsigned ms);

/* The descriptors of an OWN_SLOT or ADOPT message; takes them on success. */
enum status child_slot_take(const struct child *child, const struct control_message *message,
    struct child_slot *ret_slot) CHECK_RESULT;
void child_slot_close(struct child_slot *slot);
/* Those of a SOCKETS message that it has not yet; takes all. STATUS_LIMIT: too many. */
enum status child_slot_add(struct child_slot *slot, const struct control_message *message) CHECK_RESULT;
/* Closes those whose place is not among `places`. */
void child_slot_prune(struct child_slot *slot, const uint8_t places[CONFIG_LISTENERS_MAX]);

/* PEER_STARTED and PEER_DIED: remembers; does not call the role. */
enum status child_note_peer(struct child *child, const struct control_message *message) CHECK_RESULT;

enum status child_loop_open(struct child *child) CHECK_RESULT;
void child_loop_close(struct child *child);

#endif
