/*
 * One value of the configuration, by its row of the table: from JSON into its field, back into JSON, what is
 * allowed in words, and its end. One handler per type. Inside the configuration modules only.
 */
#ifndef SHARED_CONFIG_VALUE_H
#define SHARED_CONFIG_VALUE_H

#include "shared/config_context.h"
#include "shared/config_table.h"

#include <jansson.h>

#define CONFIG_ALLOWED_TEXT_MAX 320

/* The row's field in `holder`: the struct config, or the struct config_listener for rows of listeners. */
void *config_field(const struct config_row *row, void *holder);

/*
 * Sets the field, which must own nothing yet. False: complained under `path`; the field is untouched, or (a
 * path where something is wrong) set all the same.
 */
bool config_value_parse(const struct config_context *context, const char *path, const struct config_row *row,
    const json_t *value, void *field);

/* A new reference; NULL when the field has no value (or there is no memory). */
json_t *config_value_to_json(const struct config_row *row, const void *field);

/* Frees what the field owns. */
void config_value_done(const struct config_row *row, void *field);

/* "a whole number from 1 to 64, or "auto"". */
void config_value_allowed(const struct config_row *row, char to[CONFIG_ALLOWED_TEXT_MAX]);

#endif
