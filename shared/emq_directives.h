/*
 * What EMQ 2's directives are in Shoal: which key each becomes and by what conversion, or why none. Inside
 * the import only.
 */
#ifndef SHARED_EMQ_DIRECTIVES_H
#define SHARED_EMQ_DIRECTIVES_H

#include "shared/emq_file.h"

#include <jansson.h>

/* The value in Shoal's notation, a new reference; NULL: EMQ would not take this value either. */
typedef json_t *(*emq_convert)(const struct config_context *context, const struct emq_directive *directive);

struct emq_mapping {
    const char *pattern; /* of the directive's key, as for emq_key_matches() */
    const char *path;    /* row of the configuration table; NULL: no counterpart, `reason` says why */
    emq_convert convert;
    const char *reason;   /* with a path: what changes in meaning, warned of each time; may be NULL then */
    const char *harmless; /* value of a directive without counterpart that needs no warning; NULL: none */
};

/* The first mapping that the key fits; NULL: no such directive known. */
const struct emq_mapping *emq_mapping_of(const char *key);

#endif
