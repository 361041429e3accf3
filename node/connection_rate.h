/* Message and byte rate of one client, in the memory behind its connection where its listener limits them.
   Worker process. */
#ifndef NODE_CONNECTION_RATE_H
#define NODE_CONNECTION_RATE_H

#include "node/connection.h"

#include "shared/config.h"
#include "shared/token_bucket.h"

struct connection_rate {
    struct connection *connection;
    struct timer timer;
    uint64_t until_us; /* while HOLD_RATE is set */
    struct token_bucket messages, bytes;
};

bool connection_rate_wanted(const struct config_listener *listener);
/* `connection` has room for a zeroed struct connection_rate behind it. */
void connection_rate_open(struct connection *connection);
/* Its end: no timer comes any more. */
void connection_rate_close(struct connection *connection);
/* It has sent so much: perhaps it is not read for a while (HOLD_RATE). */
void connection_charge(struct connection *connection, unsigned messages, size_t bytes);

#endif
