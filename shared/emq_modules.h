/*
 * EMQ 2's modules of topics, which number their settings: subscriptions that clients get
 * (module.subscription.N.*) and rewrite rules (module.rewrite.rule.N). Inside the import only.
 */
#ifndef SHARED_EMQ_MODULES_H
#define SHARED_EMQ_MODULES_H

#include "shared/emq_file.h"

#include <jansson.h>

/* Would the configuration take this value at the path? */
typedef bool (*emq_fits)(void *context, const char *path, const json_t *value);

/* Is the directive one of these modules'? */
bool emq_is_module(const char *key);

/* Puts what the file has of them into `root`; warns of what it leaves out. */
void emq_take_modules(const struct config_context *context, const struct emq_file *file, json_t *root,
    emq_fits fits, void *fits_context);

#endif
