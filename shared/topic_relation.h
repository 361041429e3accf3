/*
 * How two topic filters relate as sets of topics, for rights that are filters. Filters are valid and not
 * shared; neither `+` nor `#` at their start stands for topics that begin with '$' [MQTT-4.7.2-1]. Pure.
 */
#ifndef SHARED_TOPIC_RELATION_H
#define SHARED_TOPIC_RELATION_H

#include "shared/bytes.h"

/* Every topic that `inner` matches, `outer` matches, too. May be false for a few odd pairs of which it is
   true ("+/#" and "#"). */
bool topic_filter_covers(struct bytes outer, struct bytes inner);

/* There are topics that both match. Exact. */
bool topic_filter_overlaps(struct bytes a, struct bytes b);

#endif
