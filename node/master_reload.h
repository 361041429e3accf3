/*
 * Rolling reload: the next generation is loaded and validated here, then the workers switch to it one after
 * the other; each proves it before it answers. The first that refuses stops the roll and those that had
 * switched go back. No connection is closed by any of this. Master only; never waits.
 *
 *   IDLE ──begin: loads──▶ ROLLING ──all serve with it──▶ IDLE (that generation runs)
 *                             │ one refuses, does not answer, or dies of it twice
 *                             ▼
 *                        TURNING_BACK ──all serve with the one that ran──▶ IDLE (failed)
 */
#ifndef NODE_MASTER_RELOAD_H
#define NODE_MASTER_RELOAD_H

#include "node/control_message.h"
#include "shared/status.h"

#include <jansson.h>
#include <stdint.h>

struct master;
struct master_child;
struct master_reload;

enum status master_reload_open(struct master *master, struct master_reload **ret_reload) CHECK_RESULT;
void master_reload_close(struct master_reload **reload);

/*
 * Begins one; while one is under way, the next follows it. `who` asks (static text, for the log). `client` of
 * the control socket gets the report when it is over; 0: nobody waits.
 */
void master_reload_begin(struct master_reload *reload, const char *who, uint64_t client);

/* What a reload would do, as JSON: changes, certificates, errors, warnings. Changes nothing. New reference.
 */
json_t *master_reload_try(struct master_reload *reload);

/* A worker has got ready or has ended: the roll may go on. */
void master_reload_child_changed(struct master_reload *reload, struct master_child *child);
/* CONTROL_SWITCHED or CONTROL_REFUSED. */
void master_reload_child_answered(
    struct master_reload *reload, struct master_child *child, const struct control_message *message);

/* For `shoalctl status`: state, the last one that failed if none has succeeded since. New reference. */
json_t *master_reload_status(const struct master_reload *reload);

#endif
