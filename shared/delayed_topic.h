/* `$delayed/SECONDS/TOPIC`, to which clients publish what is to be published to TOPIC later. Pure. */
#ifndef SHARED_DELAYED_TOPIC_H
#define SHARED_DELAYED_TOPIC_H

#include "shared/bytes.h"

#define DELAYED_SECONDS_MAX 42949670u /* EMQX's: some 497 days */

/* Does it begin so? */
bool delayed_topic_is(struct bytes topic);
/* False: no whole number of seconds up to the maximum, or no topic behind it, or one that begins with '$'. */
bool delayed_topic_parse(struct bytes topic, uint32_t *ret_seconds, struct bytes *ret_topic);

#endif
