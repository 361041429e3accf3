/*
 * Some hundred entries of the retained table in byte order of their topics. Private to the retained table.
 * Pure.
 *
 * All topics of a leaf have their first `skip` bytes in common, and a fragment is the next 8 bytes as a
 * number: most comparisons need not touch an entry, which would miss every cache in a large table.
 */
#ifndef SHARED_RETAINED_LEAF_H
#define SHARED_RETAINED_LEAF_H

#include "shared/bytes.h"

struct publication;

struct retained_entry {
    struct publication *message; /* shared; with an empty payload: a tombstone */
    union {
        uint64_t applied;     /* a message: the table's counter when it was put */
        uint64_t first_visit; /* a tombstone: real ms of the sweep that met it first, 0: none yet */
    };
    uint32_t position; /* in retained->entries */
    uint16_t topic_size;
    char topic[]; /* a copy: comparing must not touch the message */
};

enum { RETAINED_LEAF_MAX = 256 };

struct retained_leaf {
    uint32_t count; /* never 0, but between retained_leaf_new() and the first entry */
    uint32_t skip;  /* may be less than they have in common */
    uint64_t fragments[RETAINED_LEAF_MAX];
    struct retained_entry *entries[RETAINED_LEAF_MAX];
};

/* A text in two parts, so that keys need not be put together. */
struct retained_key {
    struct bytes head;
    struct bytes tail;
};

/* Below 0, 0 or above 0 as the entry's topic is before, equal to or behind the key. */
int retained_entry_compare(const struct retained_entry *entry, const struct retained_key *key);
struct retained_key retained_entry_key(const struct retained_entry *entry);

/* NULL when out of memory. */
struct retained_leaf *retained_leaf_new(void);
/* Where the first entry is that is not below the key; leaf->count: none. */
uint32_t retained_leaf_find(const struct retained_leaf *leaf, const struct retained_key *key);
/* The leaf must have room, and `at` be the entry's place. */
void retained_leaf_insert(struct retained_leaf *leaf, uint32_t at, struct retained_entry *entry);
void retained_leaf_remove(struct retained_leaf *leaf, uint32_t at);
/* Moves the entries from `at` on to the end of `to`, which has room and lies right behind or before. */
void retained_leaf_move(struct retained_leaf *leaf, uint32_t at, struct retained_leaf *to);

#endif
