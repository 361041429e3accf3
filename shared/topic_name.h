/* Rules for UTF-8 strings, topic names and topic filters [MQTT 1.5.4, 4.7, 4.8.2]. Pure. */
#ifndef SHARED_TOPIC_NAME_H
#define SHARED_TOPIC_NAME_H

#include "shared/bytes.h"

/* Well-formed UTF-8 without U+0000 and surrogates. Fast for ASCII: hot path. */
bool utf8_valid(struct bytes text);

/* A name to publish to: 1..65535 bytes, no '+', '#'. UTF-8 validity is checked in the same pass. Hot path. */
bool topic_name_valid(struct bytes topic);

/* A filter to subscribe to: '+' and '#' alone in their level, '#' last; `$share/GROUP/FILTER` well formed,
 * with a FILTER that is not shared in turn. */
bool topic_filter_valid(struct bytes filter);

/* Levels of a name or filter (number of '/' plus one). */
unsigned topic_levels(struct bytes topic);

/* Splits `$share/GROUP/FILTER`; false for a filter that is not shared (outputs untouched). */
bool topic_filter_shared(struct bytes filter, struct bytes *ret_group, struct bytes *ret_filter);

/* True if the filter (not shared) matches the name [MQTT-4.7.2-1 included]. For tests, retained and ACLs. */
bool topic_filter_matches(struct bytes filter, struct bytes topic);

#endif
