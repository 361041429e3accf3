/*
 * What no single value can say: keys that need each other, listeners that collide, names that must exist.
 * Inside the configuration modules only.
 */
#ifndef SHARED_CONFIG_CHECK_H
#define SHARED_CONFIG_CHECK_H

#include "shared/config_context.h"

/* Fills in what is derived (run_dir, workers), then complains and warns. */
void config_check(const struct config_context *context, struct config *config);

#endif
