/*
 * The directives of a file in the style of EMQ 2's emq.conf: one `key = value` a line, `#` starts a comment.
 * Text only; what the directives mean is emq_directives.c's matter.
 */
#ifndef SHARED_EMQ_FILE_H
#define SHARED_EMQ_FILE_H

#include "shared/config_context.h"

struct emq_directive {
    unsigned line; /* 0: not in the file, EMQ's default */
    char *key;     /* owned; "listener.ssl.external.backlog" */
    char *value;   /* owned; without the blanks around it */
};

struct emq_file {
    struct emq_directive *directives; /* owned; in the order of the file, no key twice */
    size_t count;
};

/* Warns of lines that are no directives and of keys given twice (as in EMQ, the last counts). */
void emq_file_parse(
    const struct config_context *context, const char *text, size_t size, struct emq_file *ret_file);
void emq_file_done(struct emq_file *file);

/* Adds a directive that is not in the file. */
void emq_file_imply(struct emq_file *file, const char *key, const char *value);

const struct emq_directive *emq_file_find(const struct emq_file *file, const char *key); /* NULL: none */

/*
 * Does the key fit the pattern? Both are words joined by dots; `*` in the pattern is any one word, a last
 * `**` any rest, none included.
 */
bool emq_key_matches(const char *key, const char *pattern);

#endif
