/*
 * Finds the line on which a key of a JSON text stands, for error messages: the parsed document does not
 * remember it. For texts that jansson has accepted; on others it may find nothing, but reads no byte beyond
 * the text.
 */
#ifndef SHARED_CONFIG_LINES_H
#define SHARED_CONFIG_LINES_H

#include <stddef.h>

/* `path` as messages have it: "mqtt.max_qos", "listeners.ssl:external.versions[1]". From 1; 0: not found. */
unsigned config_line_of(const char *text, size_t size, const char *path);

#endif
