/*
 * The entries of the retained table in byte order of their topics, so that a walk is a few ranges and its
 * place can be found again by a topic, whatever changed meanwhile. Private to the retained table. Pure.
 *
 * Two floors: leaves of sorted entries, and a directory of the leaves. An insertion copies at most a leaf; a
 * split, once in a hundred insertions, moves the directory (16 bytes per some hundred entries).
 */
#ifndef SHARED_RETAINED_ORDER_H
#define SHARED_RETAINED_ORDER_H

#include "shared/retained_leaf.h"
#include "shared/status.h"

struct retained_order_row {
    struct retained_leaf *leaf;   /* owned */
    struct retained_entry *first; /* leaf->entries[0], here so that a search need not touch the leaf */
};

/* Zeroed is empty. */
struct retained_order {
    struct retained_order_row *rows; /* owned */
    uint32_t count;
    uint32_t capacity;
    uint64_t version; /* grows with every change: places of before are no longer good */
};

/* A place between entries: what retained_order_at() answers stands right behind it. */
struct retained_place {
    uint32_t row;
    uint32_t at;
};

/* Adds an entry whose topic is not there yet. */
enum status retained_order_insert(struct retained_order *order, struct retained_entry *entry) CHECK_RESULT;
void retained_order_remove(struct retained_order *order, struct retained_entry *entry);
void retained_order_done(struct retained_order *order);
size_t retained_order_memory(const struct retained_order *order);

/* The place of the first entry whose topic is not below the key. */
struct retained_place retained_order_seek(const struct retained_order *order, const struct retained_key *key);
/* The entry at a place, NULL at the end. */
struct retained_entry *retained_order_at(const struct retained_order *order, struct retained_place place);
/* The place behind the entry at `place`, which there must be. */
struct retained_place retained_order_next(const struct retained_order *order, struct retained_place place);

#endif
