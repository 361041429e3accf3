/*
 * Rules that give topics other names, as EMQX has them: a rule is asked if its source filter matches the
 * topic (or, with its wildcards taken as text, the topic filter); the last such rule of the list decides
 * alone: where its regular expression (PCRE2) fits, the topic becomes its destination, with $1 … $9 for what
 * the groups caught, %c for the client's identifier and %u for its user name. Otherwise the topic stays. Cost
 * of a topic: a comparison per rule, and one match whose steps are bounded. Pure; worker process, checks in
 * every process.
 */
#ifndef SHARED_TOPIC_REWRITE_H
#define SHARED_TOPIC_REWRITE_H

#include "shared/bytes.h"
#include "shared/status.h"
#include "shared/topic_template.h"

#define TOPIC_REWRITE_ERROR_SIZE 160
#define TOPIC_REWRITE_TOPIC_MAX  65535u

enum topic_rewrite_action { /* bits */
    TOPIC_REWRITE_PUBLISH = 1,
    TOPIC_REWRITE_SUBSCRIBE = 2,
};

struct topic_rewrite_rule { /* texts are borrowed */
    unsigned actions;
    const char *source;
    const char *re;
    const char *dest;
};

struct topic_rewrite;

/* STATUS_INVALID: `error` says what is wrong with the regular expression, or with the destination beside it.
 */
enum status topic_rewrite_check(
    const char *re, const char *dest, char error[TOPIC_REWRITE_ERROR_SIZE]) CHECK_RESULT;

/* The texts of the rules must outlive it. STATUS_INVALID: a regular expression is none. */
enum status topic_rewrite_new(
    const struct topic_rewrite_rule *rules, size_t count, struct topic_rewrite **ret_rewrite) CHECK_RESULT;
void topic_rewrite_free(struct topic_rewrite **rewrite);

enum topic_rewrite_result {
    TOPIC_REWRITE_SAME,
    TOPIC_REWRITE_CHANGED, /* *topic is the new one, in memory of the rules until the next call */
    TOPIC_REWRITE_FAILED,  /* too many steps, a name that would widen it, or what comes out is no topic */
};

/* A valid topic name becomes another. It never begins with '$' unless the old one does. */
enum topic_rewrite_result topic_rewrite_name(
    struct topic_rewrite *rewrite, const struct topic_values *values, struct bytes *topic);
/* The same for a topic filter; of `$share/GROUP/FILTER` only FILTER. */
enum topic_rewrite_result topic_rewrite_filter(
    struct topic_rewrite *rewrite, const struct topic_values *values, struct bytes *filter);

#endif
