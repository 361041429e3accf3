/*
 * Converts a configuration of EMQ 2.x (emq.conf: the file that EMQ's users know) into one of Shoal. What EMQ
 * does by default and Shoal does not is written out; what has no counterpart is warned of, with its line. For
 * shoalctl.
 */
#ifndef SHARED_EMQ_IMPORT_H
#define SHARED_EMQ_IMPORT_H

#include "shared/config.h"

/*
 * `name` is the file's, for messages and for its relative paths: they start from the parent of its folder if
 * that is named `etc` (EMQ's home), otherwise from the working directory, and become absolute. *ret_json is
 * to be freed and passes config_load_text() if the files that it names exist. Everything in `warnings` is a
 * warning.
 */
enum status emq_import(const char *text, size_t size, const char *name, char **ret_json,
    struct config_errors *warnings) CHECK_RESULT;

#endif
