/* What topic_index.c and topic_index_subscriptions.c share; nobody else includes it. */
#ifndef SHARED_TOPIC_INDEX_PRIVATE_H
#define SHARED_TOPIC_INDEX_PRIVATE_H

#include "shared/pointer_bag.h"
#include "shared/topic_index.h"
#include "shared/topic_tree.h"

/* The one allocation of a distinct filter. */
struct topic_entry {
    struct topic_filter filter;          /* first: a filter's pointer is its entry's */
    struct subscription *inline_element; /* filter.subscriptions while its capacity is 1 */
    uint32_t position;                   /* in index->entries */
    uint16_t text_size;
    char text[];
};

struct topic_index {
    struct keyed_hash hash;
    struct hash_table exact; /* entries of filters without wildcards, by text */
    struct topic_tree tree;  /* the others */
    struct pointer_bag entries;
    struct topic_filter **matches; /* owned, scratch of a match */
    uint32_t matches_capacity;     /* more than there are wildcard filters */
    size_t memory;                 /* bytes of entries, arrays and groups */
};

static inline struct topic_entry *topic_entry_of(struct topic_filter *filter)
{
    return (struct topic_entry *)(void *)filter;
}

/* Frees the filter's groups that nothing holds. */
void topic_index_release_groups(struct topic_index *index, struct topic_filter *filter);
/* Frees the filter's subscription array and all of its groups, whatever holds them. */
void topic_index_free_arrays(struct topic_index *index, struct topic_filter *filter);
/* Clears the peer in the filter and its groups. */
void topic_index_forget_peer(struct topic_index *index, struct topic_filter *filter, unsigned peer);

#endif
