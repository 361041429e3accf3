/* What retained.c and retained_walk.c share; nobody else includes it. */
#ifndef SHARED_RETAINED_PRIVATE_H
#define SHARED_RETAINED_PRIVATE_H

#include "shared/hash_table.h"
#include "shared/pointer_bag.h"
#include "shared/retained.h"
#include "shared/retained_order.h"

struct retained {
    struct keyed_hash hash;
    struct hash_table by_topic;
    struct retained_order order;
    struct pointer_bag entries; /* for the sweep */
    uint32_t sweep;             /* position that the sweep visits next, plus one */
    uint32_t walks;             /* open */
    uint64_t applied;
    size_t tombstones;
    size_t bytes;  /* of messages: topics, properties, payloads */
    size_t memory; /* bytes of entries and messages */
};

static inline bool retained_is_tombstone(const struct retained_entry *entry)
{
    return entry->message->payload_size == 0;
}

/* NULL: none. */
struct retained_entry *retained_find_entry(const struct retained *retained, struct bytes topic);

#endif
