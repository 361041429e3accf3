/*
 * «Did you mean …»: the candidate that a misspelt word is nearest to. Pure functions.
 */
#ifndef SHARED_CONFIG_SUGGEST_H
#define SHARED_CONFIG_SUGGEST_H

#include <stdbool.h>

/* How many letters must be inserted, removed, replaced or swapped with their neighbour; long words: a large
 * number. */
unsigned config_edit_distance(const char *a, const char *b);

/* True if `word` is a likely misspelling of `candidate`. */
bool config_is_near(const char *word, const char *candidate);

#endif
