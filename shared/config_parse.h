/*
 * From a JSON document to the struct: every key against the table, defaults filled in, unknown keys refused.
 * Inside the configuration modules only.
 */
#ifndef SHARED_CONFIG_PARSE_H
#define SHARED_CONFIG_PARSE_H

#include "shared/config_context.h"

#include <jansson.h>

/* Fills a zeroed `config`. What is wrong is complained about, as much of it as can be seen at once. */
void config_parse(const struct config_context *context, const json_t *root, struct config *config);

/* The other way round: a new reference, NULL without memory. */
json_t *config_unparse(const struct config *config);

/* Frees what the fields own. */
void config_parse_done(struct config *config);

#endif
