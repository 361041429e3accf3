/* The files that a configuration names and that are read when it is loaded: keys, certificates, users,
 * rights. */
#ifndef SHARED_CONFIG_FILES_H
#define SHARED_CONFIG_FILES_H

#include "shared/config.h"

/* Calls it with the absolute path of each, that of the configuration itself included; one may come twice. */
void config_for_each_file(
    const struct config *config, void (*visit)(void *context, const char *path), void *context);

#endif
