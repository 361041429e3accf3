/*
 * What one load of a configuration carries through its steps: where the text came from, where its paths start
 * and what was found wrong. Lives on config_load()'s stack. Inside the configuration modules only.
 */
#ifndef SHARED_CONFIG_CONTEXT_H
#define SHARED_CONFIG_CONTEXT_H

#include "shared/config.h"

#include <jansson.h>

#define CONFIG_PATH_TEXT_MAX 512 /* a JSON path in messages; longer ones are cut */

struct config_context {
    const char *file; /* borrowed; absolute name for messages */
    const char *text; /* borrowed; the JSON, to find lines in; NULL: not known (yet) */
    size_t size;
    const char *base; /* borrowed; absolute folder that relative paths start from */
    const char *node; /* borrowed; where the node stands in a cluster file ("nodes[1]"), whose keys may
                         stand below `defaults` as well; NULL: not a cluster file */
    bool handed;      /* from the master: files and users were looked at already */
    struct config_errors *errors; /* borrowed */
};

/* Adds "FILE:LINE: PATH: " and the formatted text to the errors. `path` may be "": the file as a whole. */
void config_complain(const struct config_context *context, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same as a warning: the configuration loads. */
void config_warn(const struct config_context *context, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with a line that is known, 0 for none, for a text that is not JSON (yet). */
void config_complain_line(const struct config_context *context, unsigned line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void config_warn_line(const struct config_context *context, unsigned line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What loading consists of, for config.c and config_cluster.c. */

/* The whole file; NULL after complaining. To free(). */
char *config_read_file(const struct config_context *context, size_t *ret_size);
/* The JSON document, or NULL after complaining. Repeated keys are complained of, too, and count in
 * config_build(). */
json_t *config_decode(const struct config_context *context, const char *text, size_t size);
/* Parses and checks a node's document. STATUS_INVALID if there are errors, older ones included. `cluster`:
 * taken over by the configuration; NULL: a node alone. */
enum status config_build(const struct config_context *context, const json_t *root,
    struct config_cluster *cluster, struct config **ret_config) CHECK_RESULT;

/* Errors proper, without the warnings. */
size_t config_errors_failures(const struct config_errors *errors);

#endif
