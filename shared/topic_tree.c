/*
 * Nodes of wildcard filters and the walk of a match over them. Worker process; pure.
 * Never recursive: a client chooses the number of levels.
 */
#include "shared/topic_tree.h"

#include "shared/heap_size.h"
#include "shared/topic_index_private.h"
#include "shared/topic_level.h"

#include <assert.h>
#include <stdlib.h>

/*
 * A node lives as long as it holds a filter or has a child. Nodes are made only where filters part: what goes
 * on alone stays at its node as the tail, to be compared as text. No child has the tail's next level.
 */
struct topic_index_node {
    struct topic_index_node *parent;  /* NULL: the root */
    struct topic_index_node *plus;    /* the child `+` */
    struct topic_filter *filter;      /* borrowed: the filter that ends here */
    struct topic_filter *hash_filter; /* borrowed: the filter that goes on with `#` from here and ends */
    struct topic_filter *tail;        /* borrowed: a filter that goes on with other levels than `#` */
    uint32_t children;                /* in tree->children */
    uint32_t prefix_size;             /* of the text of all filters from here on: where their next level is */
    uint16_t text_size;
    char text[]; /* this node's level; the root has none */
};

/* A level of the topic that is being matched; found and hashed when first needed. */
struct topic_tree_level {
    struct bytes text;
    uint64_t hash;
    bool hashed;
};

/* Where a walk goes on later: a node, and how many levels of the topic led there. */
struct topic_tree_branch {
    struct topic_index_node *node;
    uint32_t depth;
};

struct walk {
    struct topic_tree *tree;
    struct bytes topic;
    struct bytes rest; /* of the topic; .data NULL: all levels are known */
    uint32_t known;    /* levels of the topic found so far */
    bool dollar;       /* wildcards do not match the first level [MQTT-4.7.2-1] */
};

struct child_key {
    const struct topic_index_node *parent;
    struct bytes level;
};

static struct topic_filter **free_place(
    const struct topic_tree *tree, struct topic_index_node *node, struct bytes rest);
static enum status step_down(
    struct topic_tree *tree, struct topic_index_node **node, struct bytes *rest, uint32_t depth);
static enum status reserve_scratch(struct topic_tree *tree, uint32_t depth);
static void push_tail(const struct topic_tree *tree, struct topic_index_node *node,
    struct topic_index_node *child, struct bytes level);
static struct bytes tail_text(const struct topic_index_node *node);
static size_t node_size(size_t text_size);
static struct topic_index_node *find_step(
    const struct topic_tree *tree, const struct topic_index_node *node, struct bytes level);
static struct topic_index_node *add_child(
    struct topic_tree *tree, struct topic_index_node *parent, struct bytes level);
static void prune(struct topic_tree *tree, struct topic_index_node *node);
static uint32_t walk_collect(struct walk *walk, const struct topic_tree_branch *at, struct topic_filter **to);
static bool walk_tail_matches(struct walk *walk, const struct topic_index_node *node, uint32_t depth);
static bool walk_has_level(struct walk *walk, uint32_t depth);
static struct topic_index_node *walk_literal(
    struct walk *walk, const struct topic_index_node *node, uint32_t depth);
static bool is_child(const void *value, const void *key);

enum status topic_tree_init(struct topic_tree *tree, const struct keyed_hash *hash)
{
    *tree = (struct topic_tree){.hash = hash};
    tree->root = calloc(1, sizeof *tree->root);
    if (tree->root == NULL)
        return STATUS_NO_MEMORY;
    tree->memory = heap_size(sizeof *tree->root);
    return STATUS_OK;
}

void topic_tree_done(struct topic_tree *tree)
{
    assert(tree->filters == 0 && tree->children.count == 0);
    hash_table_done(&tree->children);
    free(tree->root);
    free(tree->levels);
    free(tree->branches);
    *tree = (struct topic_tree){0};
}

enum status topic_tree_add(struct topic_tree *tree, struct bytes text, struct topic_filter *filter)
{
    struct topic_index_node *node = tree->root;
    struct bytes rest = text;
    struct topic_filter **place;
    assert(node != NULL && text.size > 0);
    if (tree->levels == NULL && reserve_scratch(tree, 0) != STATUS_OK)
        return STATUS_NO_MEMORY;
    for (uint32_t depth = 1; (place = free_place(tree, node, rest)) == NULL; depth++) {
        enum status status = step_down(tree, &node, &rest, depth);
        if (status != STATUS_OK) {
            prune(tree, node);
            return status;
        }
    }
    *place = filter;
    filter->node = node;
    tree->filters++;
    return STATUS_OK;
}

void topic_tree_remove(struct topic_tree *tree, struct topic_filter *filter)
{
    struct topic_index_node *node = filter->node;
    struct topic_filter **place = node->filter == filter ? &node->filter
                                  : node->tail == filter ? &node->tail
                                                         : &node->hash_filter;
    assert(tree->filters > 0 && *place == filter);
    *place = NULL;
    filter->node = NULL;
    tree->filters--;
    prune(tree, node);
}

struct topic_filter *topic_tree_find(const struct topic_tree *tree, struct bytes text)
{
    const struct topic_index_node *node = tree->root;
    struct bytes rest = text;
    while (rest.data != NULL) {
        struct bytes behind = rest;
        struct bytes level = topic_level_take(&behind);
        if (topic_level_is(level, '#'))
            return node->hash_filter;
        const struct topic_index_node *child = find_step(tree, node, level);
        if (child == NULL)
            return node->tail != NULL && bytes_equal(tail_text(node), rest) ? node->tail : NULL;
        node = child;
        rest = behind;
    }
    return node->filter;
}

/*
 * Depth first. Where both the level's own child and `+` go on, `+` waits on the stack: at most one branch per
 * level of the deepest node.
 */
uint32_t topic_tree_match(struct topic_tree *tree, struct bytes topic, struct topic_filter **to)
{
    struct walk walk = {.tree = tree, .topic = topic, .rest = topic, .dollar = topic.data[0] == '$'};
    struct topic_tree_branch at = {tree->root, 0};
    uint32_t waiting = 0;
    uint32_t count = 0;
    for (;;) {
        count += walk_collect(&walk, &at, to + count);
        struct topic_index_node *plus = at.depth > 0 || !walk.dollar ? at.node->plus : NULL;
        struct topic_index_node *next = NULL;
        if ((plus != NULL || at.node->children > 0) && walk_has_level(&walk, at.depth)) {
            next = at.node->children > 0 ? walk_literal(&walk, at.node, at.depth) : NULL;
            if (next == NULL)
                next = plus;
            else if (plus != NULL)
                tree->branches[waiting++] = (struct topic_tree_branch){plus, at.depth + 1};
        }
        if (next != NULL)
            at = (struct topic_tree_branch){next, at.depth + 1};
        else if (waiting > 0)
            at = tree->branches[--waiting];
        else
            return count;
    }
}

size_t topic_tree_memory(const struct topic_tree *tree)
{
    return tree->memory + hash_table_memory(&tree->children);
}

/* Where a filter belongs that goes on with `rest` behind this node; NULL: further down. */
static struct topic_filter **free_place(
    const struct topic_tree *tree, struct topic_index_node *node, struct bytes rest)
{
    struct topic_filter **place = NULL;
    if (rest.data == NULL)
        place = &node->filter;
    else if (topic_level_is(rest, '#'))
        place = &node->hash_filter;
    else if (node->tail == NULL && find_step(tree, node, topic_level_take(&rest)) == NULL)
        place = &node->tail;
    assert(place == NULL || *place == NULL);
    return place;
}

/* Goes to the child for the first level of *rest, or makes it, `depth` levels below the root. */
static enum status step_down(
    struct topic_tree *tree, struct topic_index_node **node, struct bytes *rest, uint32_t depth)
{
    struct bytes level = topic_level_take(rest);
    struct topic_index_node *child = find_step(tree, *node, level);
    if (child == NULL) {
        enum status status = reserve_scratch(tree, depth);
        if (status != STATUS_OK)
            return status;
        child = add_child(tree, *node, level);
        if (child == NULL)
            return STATUS_NO_MEMORY;
        push_tail(tree, *node, child, level);
    }
    *node = child;
    return STATUS_OK;
}

/* A match must not fail: its scratch grows with the deepest node. */
static enum status reserve_scratch(struct topic_tree *tree, uint32_t depth)
{
    if (tree->levels != NULL && depth <= tree->deepest)
        return STATUS_OK;
    uint32_t deepest = depth < 8 ? 8 : depth * 2;
    struct topic_tree_level *levels = malloc((deepest + 1) * sizeof *levels);
    struct topic_tree_branch *branches = malloc((deepest + 1) * sizeof *branches);
    if (levels == NULL || branches == NULL) {
        free(levels);
        free(branches);
        return STATUS_NO_MEMORY;
    }
    free(tree->levels);
    free(tree->branches);
    tree->memory += (deepest - tree->deepest) * (sizeof *levels + sizeof *branches);
    tree->levels = levels;
    tree->branches = branches;
    tree->deepest = deepest;
    return STATUS_OK;
}

/* Hands the node's tail on to its new child, if it goes on with that level. */
static void push_tail(const struct topic_tree *tree, struct topic_index_node *node,
    struct topic_index_node *child, struct bytes level)
{
    if (node->tail == NULL)
        return;
    struct bytes rest = tail_text(node);
    if (!bytes_equal(topic_level_take(&rest), level))
        return;
    struct topic_filter **place = free_place(tree, child, rest);
    *place = node->tail;
    (*place)->node = child;
    node->tail = NULL;
}

/* What the tail still has to match behind its node. */
static struct bytes tail_text(const struct topic_index_node *node)
{
    const struct topic_entry *entry = topic_entry_of(node->tail);
    return bytes_of(entry->text + node->prefix_size, entry->text_size - node->prefix_size);
}

/* Spreads a parent's address over all bits, so that equal levels below different parents differ. */
static uint64_t child_hash(const struct topic_index_node *parent, uint64_t level_hash)
{
    uint64_t spread = (uint64_t)(uintptr_t)parent * UINT64_C(0x9E3779B97F4A7C15);
    return level_hash ^ spread ^ spread >> 32;
}

static size_t node_size(size_t text_size)
{
    return offsetof(struct topic_index_node, text) + text_size;
}

/* The child for one level of a filter. */
static struct topic_index_node *find_step(
    const struct topic_tree *tree, const struct topic_index_node *node, struct bytes level)
{
    if (topic_level_is(level, '+'))
        return node->plus;
    if (node->children == 0)
        return NULL;
    struct child_key key = {node, level};
    return hash_table_find(
        &tree->children, child_hash(node, keyed_hash_of(tree->hash, level)), is_child, &key);
}

static struct topic_index_node *add_child(
    struct topic_tree *tree, struct topic_index_node *parent, struct bytes level)
{
    struct topic_index_node *child = calloc(1, node_size(level.size));
    if (child == NULL)
        return NULL;
    child->parent = parent;
    child->text_size = (uint16_t)level.size;
    child->prefix_size = parent->prefix_size + (uint32_t)level.size + 1;
    if (level.size > 0)
        memcpy(child->text, level.data, level.size);
    if (topic_level_is(level, '+')) {
        parent->plus = child;
    } else {
        uint64_t hash = child_hash(parent, keyed_hash_of(tree->hash, level));
        if (hash_table_insert(&tree->children, hash, child) != STATUS_OK) {
            free(child);
            return NULL;
        }
        parent->children++;
    }
    tree->memory += heap_size(node_size(level.size));
    return child;
}

/* Frees the node and its parents as far as nothing needs them. */
static void prune(struct topic_tree *tree, struct topic_index_node *node)
{
    while (node != tree->root && node->filter == NULL && node->hash_filter == NULL && node->tail == NULL &&
           node->plus == NULL && node->children == 0) {
        struct topic_index_node *parent = node->parent;
        if (parent->plus == node) {
            parent->plus = NULL;
        } else {
            struct bytes level = bytes_of(node->text, node->text_size);
            hash_table_remove(&tree->children, child_hash(parent, keyed_hash_of(tree->hash, level)), node);
            parent->children--;
        }
        tree->memory -= heap_size(node_size(node->text_size));
        free(node);
        node = parent;
    }
}

/* Puts the filters into `to` that a node holds and that match; returns how many. */
static inline uint32_t walk_collect(
    struct walk *walk, const struct topic_tree_branch *at, struct topic_filter **to)
{
    const struct topic_index_node *node = at->node;
    uint32_t count = 0;
    if (node->hash_filter != NULL && (at->depth > 0 || !walk->dollar))
        to[count++] = node->hash_filter; /* `a/#` matches `a` as well [MQTT-4.7.1-2] */
    if (node->tail != NULL && walk_has_level(walk, at->depth) && walk_tail_matches(walk, node, at->depth))
        to[count++] = node->tail;
    if (node->filter != NULL && !walk_has_level(walk, at->depth))
        to[count++] = node->filter;
    return count;
}

/* True if the tail matches the topic's levels from `depth` on, of which there is one. */
static bool walk_tail_matches(struct walk *walk, const struct topic_index_node *node, uint32_t depth)
{
    struct bytes filter = tail_text(node);
    if (depth == 0 && walk->dollar && (filter.data[0] == '+' || filter.data[0] == '#'))
        return false;
    const uint8_t *from = walk->tree->levels[depth].text.data;
    struct bytes topic = bytes_of(from, walk->topic.size - (size_t)(from - walk->topic.data));
    while (filter.data != NULL) {
        struct bytes wanted = topic_level_take(&filter);
        if (topic_level_is(wanted, '#'))
            return true;
        if (topic.data == NULL)
            return false;
        struct bytes level = topic_level_take(&topic);
        if (!topic_level_is(wanted, '+') && !bytes_equal(level, wanted))
            return false;
    }
    return topic.data == NULL;
}

/* True if the topic has a level at `depth`, counted from 0. */
static inline bool walk_has_level(struct walk *walk, uint32_t depth)
{
    if (depth < walk->known)
        return true;
    if (walk->rest.data == NULL)
        return false;
    assert(depth == walk->known && depth <= walk->tree->deepest);
    struct topic_tree_level *level = &walk->tree->levels[walk->known++];
    level->text = topic_level_take(&walk->rest);
    level->hashed = false;
    return true;
}

static inline struct topic_index_node *walk_literal(
    struct walk *walk, const struct topic_index_node *node, uint32_t depth)
{
    struct topic_tree_level *level = &walk->tree->levels[depth];
    if (!level->hashed) {
        level->hash = keyed_hash_of(walk->tree->hash, level->text);
        level->hashed = true;
    }
    struct child_key key = {node, level->text};
    return hash_table_find(&walk->tree->children, child_hash(node, level->hash), is_child, &key);
}

static inline bool is_child(const void *value, const void *key)
{
    const struct topic_index_node *node = value;
    const struct child_key *wanted = key;
    return node->parent == wanted->parent && node->text_size == wanted->level.size &&
           memcmp(node->text, wanted->level.data, wanted->level.size) == 0;
}
