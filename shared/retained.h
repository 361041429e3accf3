/*
 * The retained messages of a worker: one per topic, newest stamp wins, found by topic or by filter.
 * Pure data structure. Worker process. Deletions stay as tombstones for a stated time, so that a late older
 * message does not come back.
 */
#ifndef SHARED_RETAINED_H
#define SHARED_RETAINED_H

#include "shared/keyed_hash.h"
#include "shared/publication.h"

struct retained;

struct retained *retained_new(const struct keyed_hash *hash);
void retained_free(struct retained **retained);

/*
 * Puts `message` (takes its own reference; its meta.stamp decides) as the retained message of its topic,
 * unless a newer one or a newer tombstone is there (then STATUS_EXISTS). An empty payload deletes and leaves
 * a tombstone [MQTT-3.3.1-6]. Equal stamps: the greater (node, slot) wins.
 */
enum status retained_put(struct retained *retained, struct publication *message) CHECK_RESULT;

/*
 * Walks the messages that match a filter (without `$share`), a page at a time: fills at most `capacity`
 * borrowed pointers and returns how many; *cursor starts as RETAINED_CURSOR_START and is opaque between
 * calls. 0: the end. The table may change between pages: a topic that was there from start to end is returned
 * exactly once. Cost of a page: by the tree nodes that it visits, at most `budget` of them (it may return 0
 * messages with *ret_more true). `applied` of a result: value of the counter (see retained_applied) when it
 * was put.
 */
struct retained_walk;
struct retained_walk *retained_walk_new(struct retained *retained, struct bytes filter);
void retained_walk_free(struct retained_walk **walk);
struct retained_found {
    struct publication *message; /* borrowed until the table changes */
    uint64_t applied;
};
uint32_t retained_walk_next(struct retained_walk *walk, struct retained_found *found, uint32_t capacity,
    uint32_t budget, bool *ret_more);

/* Grows by one with every put: whoever notes it at subscribe time knows which messages came later. */
uint64_t retained_applied(const struct retained *retained);

/* Drops messages whose expires_ms has passed and tombstones older than tombstone_ms, visiting at most
   `budget` entries per call and going on where the last call stopped. */
void retained_expire(struct retained *retained, uint64_t now_real_ms, uint64_t tombstone_ms, uint32_t budget);

size_t retained_count(const struct retained *retained);  /* without tombstones */
size_t retained_memory(const struct retained *retained); /* bytes */

#endif
