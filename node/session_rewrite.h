/*
 * The rewrite rules of the configuration (shared/topic_rewrite.h) for what this worker's clients name. Before
 * access rights and mountpoint: both are about what comes out. Nothing at all without rules. Worker process.
 */
#ifndef NODE_SESSION_REWRITE_H
#define NODE_SESSION_REWRITE_H

#include "shared/bytes.h"
#include "shared/config.h"
#include "shared/topic_rewrite.h"

struct worker;
struct session;

/* *ret_rewrite is NULL without rules. */
enum status session_rewrite_open(
    const struct config *config, struct topic_rewrite **ret_rewrite) CHECK_RESULT;

/* Where worker->rewrite is not NULL: false if a topic, or filter, is refused. What it becomes lives until the
   next call. */
bool session_rewrite_name(
    struct worker *worker, struct bytes client_id, struct bytes user, struct bytes *topic);
bool session_rewrite_filter(struct session *session, struct bytes *filter);

#endif
