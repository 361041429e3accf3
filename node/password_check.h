/*
 * Password hashes off the event loop: one helper thread per worker, made with the first check, that turns one
 * job after the other into a result and touches nothing else. Everything here is called on the event loop;
 * the thread sees a job from start to its result and never a session or a connection. Worker process.
 */
#ifndef NODE_PASSWORD_CHECK_H
#define NODE_PASSWORD_CHECK_H

#include "shared/bytes.h"
#include "shared/password_file.h"
#include "shared/status.h"

#include <event2/event.h>

struct password_checks;
struct password_check; /* one job */

/* `good`: it is the password. The job has ended by then. */
typedef void password_checked(void *owner, bool good);

/* `woken` is called first in the event callback (worker_wake). */
enum status password_checks_new(struct event_base *base, uint32_t waiting_max, void (*woken)(void *context),
    void *context, struct password_checks **ret_checks) CHECK_RESULT;
/* Ends the thread after the hash that it is at (or leaves it to the end of the process, when that takes
   long); no owner is called. */
void password_checks_free(struct password_checks **checks);

/*
 * Begins a check; hash and password are copied. `owner` gets the answer from the event loop, unless it
 * cancels. STATUS_LIMIT: too many are waiting; STATUS_SYSTEM: no thread.
 */
enum status password_check_start(struct password_checks *checks, const struct password_hash *hash,
    struct bytes password, password_checked *checked, void *owner,
    struct password_check **ret_check) CHECK_RESULT;
/* The owner has gone: it is not called, and a hash that was not begun is not made. Nulls the pointer. */
void password_check_cancel(struct password_checks *checks, struct password_check **check);

#endif
