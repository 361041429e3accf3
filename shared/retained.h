/*
 * The retained messages of a worker: one per topic, newest stamp wins, found by topic or by filter.
 * Pure data structure. Worker process. Deletions stay as tombstones for a stated time, so that a late older
 * message does not come back; so do messages that have expired.
 */
#ifndef SHARED_RETAINED_H
#define SHARED_RETAINED_H

#include "shared/keyed_hash.h"
#include "shared/publication.h"

struct retained;

/* NULL when out of memory. */
struct retained *retained_new(const struct keyed_hash *hash);
/* All walks must have been freed. */
void retained_free(struct retained **retained);

/*
 * Puts `message` (takes its own reference; its meta.stamp decides) as the retained message of its topic,
 * unless a newer one or a newer tombstone is there (then STATUS_EXISTS). An empty payload deletes and leaves
 * a tombstone [MQTT-3.3.1-6]. Equal stamps: the greater (node, slot, incarnation, sequence) wins; the same
 * again is STATUS_EXISTS.
 */
enum status retained_put(struct retained *retained, struct publication *message) CHECK_RESULT;

/*
 * Walks the messages that match a filter (without `$share`), a page at a time: fills at most `capacity`
 * borrowed pointers and returns how many; *ret_more is false after the last page. The table may change
 * between pages: a topic that was there from start to end is returned exactly once, with the message that it
 * has then. A page looks at about `budget` entries at most, also when few of them match (it may return 0
 * messages with *ret_more true). A walk for a filter without wildcards is one look-up.
 *
 * Messages that have expired but were not met by retained_expire() yet are returned: see
 * retained_expires_ms().
 */
struct retained_walk;
/* Copies the filter. NULL when out of memory. */
struct retained_walk *retained_walk_new(struct retained *retained, struct bytes filter);
/* A walk over all there is, topics with '$' and tombstones (empty payloads) included: a peer's full state. */
struct retained_walk *retained_walk_new_all(struct retained *retained);
void retained_walk_free(struct retained_walk **walk);
struct retained_found {
    struct publication *message; /* borrowed until the table changes */
    uint64_t applied;            /* retained_applied() right after it was put; not for tombstones */
};
uint32_t retained_walk_next(struct retained_walk *walk, struct retained_found *found, uint32_t capacity,
    uint32_t budget, bool *ret_more);

/* Grows by one with every put that is not refused: whoever notes it at subscribe time knows which messages
   came later. */
uint64_t retained_applied(const struct retained *retained);

/* What may be kept; 0: no limit. */
struct retained_limits {
    size_t messages;
    size_t bytes;        /* of topics, properties and payloads */
    size_t payload_size; /* of one message */
};
/* Does this message find room, in the place of its topic's present one if there is one? Deletions always do.
 */
bool retained_has_room(const struct retained *retained, const struct retained_limits *limits,
    const struct publication_view *view);
/* Is there a message or a tombstone of the topic? */
bool retained_knows(const struct retained *retained, struct bytes topic);

#define RETAINED_STAMP_BITS 16 /* of a stamp that are no milliseconds (bus_stamp) */
/* How long things are kept; counted in real ms. */
struct retained_ages {
    uint64_t message_ms; /* messages without expires_ms, from their stamp on; 0: for ever */
    uint64_t tombstone_ms;
};
/* Real time in ms when a message with this meta expires, 0: never. */
uint64_t retained_expires_ms(const struct publication_meta *meta, uint64_t message_ms);

/*
 * Turns messages that have expired into tombstones and drops tombstones of an age of tombstone_ms, visiting
 * at most `budget` entries per call and going on where the last call stopped. A tombstone's age counts from
 * the first visit.
 */
void retained_expire(
    struct retained *retained, uint64_t now_real_ms, const struct retained_ages *ages, uint32_t budget);

size_t retained_count(const struct retained *retained);      /* without tombstones */
size_t retained_tombstones(const struct retained *retained); /* they take memory, too */
size_t retained_bytes(const struct retained *retained);      /* as struct retained_limits counts them */
/* Bytes of heap: the table's own and all of each message's, though others may hold references to it. */
size_t retained_memory(const struct retained *retained);

#endif
