/*
 * What the parsed document does not remember of its JSON text, for error messages: the line on which a key
 * stands, and keys that stand twice in one object. For texts that jansson has accepted; on others it may find
 * nothing, but reads no byte beyond the text.
 */
#ifndef SHARED_CONFIG_LINES_H
#define SHARED_CONFIG_LINES_H

#include <stddef.h>

/* `path` as messages have it: "mqtt.max_qos", "listeners.ssl:external.versions[1]". From 1; 0: not found. */
unsigned config_line_of(const char *text, size_t size, const char *path);

/* Calls `found` for each key that its object has already, its path as above; keys that start with // may
 * stand there as often as they like. */
typedef void (*config_repeated)(void *context, const char *path, unsigned line, unsigned first_line);
void config_find_repeated(const char *text, size_t size, config_repeated found, void *context);

#endif
