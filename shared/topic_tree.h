/*
 * The wildcard filters of a topic index as a tree by level; private to the topic index. Pure.
 *
 * `+` and `#` hang at their node directly. All other children, of all nodes, are in one hash table keyed by
 * (node, text of the level): a node with a million children costs no more to pass than one with three.
 * A match looks at a node only if the topic's levels lead there.
 */
#ifndef SHARED_TOPIC_TREE_H
#define SHARED_TOPIC_TREE_H

#include "shared/bytes.h"
#include "shared/hash_table.h"
#include "shared/keyed_hash.h"

struct topic_filter;
struct topic_index_node;
struct topic_tree_level;
struct topic_tree_branch;

struct topic_tree {
    const struct keyed_hash *hash; /* borrowed from the index */
    struct topic_index_node *root; /* owned */
    struct hash_table children;    /* the nodes that are neither root nor `+` */
    uint32_t filters;
    uint32_t deepest;                   /* no node ever was so many levels below the root */
    struct topic_tree_level *levels;    /* owned, scratch of a match: deepest + 1 */
    struct topic_tree_branch *branches; /* owned, scratch of a match: deepest + 1 */
    size_t memory;                      /* bytes of nodes and scratch */
};

enum status topic_tree_init(struct topic_tree *tree, const struct keyed_hash *hash) CHECK_RESULT;
/* The tree must be empty of filters. */
void topic_tree_done(struct topic_tree *tree);

/* Adds a valid wildcard filter that is not in the tree; sets filter->node. STATUS_NO_MEMORY: nothing changed.
 */
enum status topic_tree_add(
    struct topic_tree *tree, struct bytes text, struct topic_filter *filter) CHECK_RESULT;
/* Removes it and the nodes that only it needed. */
void topic_tree_remove(struct topic_tree *tree, struct topic_filter *filter);
struct topic_filter *topic_tree_find(const struct topic_tree *tree, struct bytes text);

/* Puts all filters that match into `to`, which has room for tree->filters; returns how many. Hot. */
uint32_t topic_tree_match(struct topic_tree *tree, struct bytes topic, struct topic_filter **to);

size_t topic_tree_memory(const struct topic_tree *tree);

#endif
