/*
 * Topics with placeholders, as operators write them in the configuration: %c is the client's identifier, %u
 * its user name, %h its address (without port). Expanded once per client, never per message. Pure.
 */
#ifndef SHARED_TOPIC_TEMPLATE_H
#define SHARED_TOPIC_TEMPLATE_H

#include "shared/bytes.h"
#include "shared/status.h"

struct topic_values { /* `data` NULL or size 0: it has none */
    struct bytes client_id;
    struct bytes user;
    struct bytes host;
};

/* Why a template cannot be expanded for a client, as a piece of a sentence. */
enum topic_template_fault {
    TOPIC_TEMPLATE_FINE,
    TOPIC_TEMPLATE_CLIENT_ID, /* its client identifier, … */
    TOPIC_TEMPLATE_USER,      /* … its user name … */
    TOPIC_TEMPLATE_HOST,   /* … or its address is not there, or has a `+`, `#` or `/`, or leads with `$` */
    TOPIC_TEMPLATE_LENGTH, /* it does not fit */
};

/*
 * Writes the expanded template. A value that is missing, or that would be more than part of one level (`/`,
 * `+`, `#`), or that would begin the whole with `$`, is refused: nobody's name may widen what the operator
 * has written. The outputs are set with TOPIC_TEMPLATE_FINE only.
 */
enum topic_template_fault topic_template_expand(struct bytes topic, const struct topic_values *values,
    uint8_t *to, size_t room, size_t *ret_size) CHECK_RESULT;

/* With values that fit, would it be a topic filter (`$share/…` included), or a prefix: whole levels without
   wildcards that do not begin with `$`? */
bool topic_template_is_filter(struct bytes topic);
bool topic_template_is_prefix(struct bytes topic);

#endif
