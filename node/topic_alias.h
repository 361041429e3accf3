/*
 * Topic aliases of one connection, both ways [MQTT 3.3.2.3.4]: those that the client gave us, and those that
 * we give it. They end with the connection. Worker process.
 */
#ifndef NODE_TOPIC_ALIAS_H
#define NODE_TOPIC_ALIAS_H

#include "shared/bytes.h"
#include "shared/status.h"

/* In: what the client's aliases stand for. */
/* Bytes of all their topics together: far more than topics that are worth an alias take, far less than 65535
 * aliases of the longest. */
#define TOPIC_ALIASES_IN_BYTES ((size_t)1 << 20)
struct topic_aliases_in;

/* `maximum`: what CONNACK told. NULL: no memory. */
struct topic_aliases_in *topic_aliases_in_new(uint16_t maximum);
void topic_aliases_in_free(struct topic_aliases_in **aliases);
/*
 * Notes topic for alias (1…maximum), or with an empty topic sets *topic to what it stands for, borrowed until
 * the alias is set anew. STATUS_NOT_FOUND: never set. STATUS_LIMIT: alias above the maximum.
 * STATUS_NO_MEMORY, also beyond TOPIC_ALIASES_IN_BYTES.
 */
enum status topic_aliases_in_resolve(
    struct topic_aliases_in *aliases, uint16_t alias, struct bytes *topic) CHECK_RESULT;

/* Out: the first so many topics that the client is sent get one each. */
#define TOPIC_ALIASES_OUT_MAX  32  /* of one client: looked up by going through them */
#define TOPIC_ALIASES_OUT_SIZE 512 /* bytes of a topic: longer ones get none */
struct topic_aliases_out;

/* `maximum`: the client's Topic Alias Maximum. NULL: no memory, or 0. */
struct topic_aliases_out *topic_aliases_out_new(uint16_t maximum);
void topic_aliases_out_free(struct topic_aliases_out **aliases);
/* The alias that the client knows for the topic, 0: none. */
uint16_t topic_aliases_out_find(const struct topic_aliases_out *aliases, struct bytes topic);
/* The alias that the next topic would get, 0: none is left for one of this size. */
uint16_t topic_aliases_out_next(const struct topic_aliases_out *aliases, struct bytes topic);
/* The client has been sent `topic` with topic_aliases_out_next(). Without memory it goes on without. */
void topic_aliases_out_note(struct topic_aliases_out *aliases, struct bytes topic);

#endif
