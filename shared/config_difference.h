/*
 * What a new configuration changes beside the one that runs: each key with both values, and whether it takes
 * effect by a reload or needs a restart. The master, when it reloads. Pure.
 */
#ifndef SHARED_CONFIG_DIFFERENCE_H
#define SHARED_CONFIG_DIFFERENCE_H

#include "shared/config.h"

enum config_effect {
    CONFIG_EFFECT_RELOAD,  /* a reload brings it */
    CONFIG_EFFECT_RESTART, /* only a restart of shoald does; until then the running value stays */
};

struct config_difference {
    char *path;    /* owned; "mqtt.max_inflight", "listeners.ssl:external.certfile", "listeners.tcp:new" */
    char *was;     /* owned; JSON; NULL: nothing (a listener that is new, a key without a value) */
    char *becomes; /* owned; the same */
    enum config_effect effect;
};

struct config_differences {
    struct config_difference *entries; /* owned */
    size_t count;
};

/* What is secret shows as "(secret)". */
void config_compare(
    const struct config *running, const struct config *next, struct config_differences *ret_differences);
void config_differences_done(struct config_differences *differences);

/* Gives `next` the running values of every key that needs a restart, so that it can be put to use at once. */
void config_keep_running(const struct config *running, struct config *next);

#endif
