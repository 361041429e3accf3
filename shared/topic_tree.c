/*
 * Nodes of wildcard filters and the walk of a match over them. Worker process; pure.
 * Never recursive: a client chooses the number of levels.
 */
#include "shared/topic_tree.h"

#include "shared/heap_size.h"
#include "shared/topic_index.h"
#include "shared/topic_level.h"

#include <assert.h>
#include <stdlib.h>

/* A node lives as long as a filter ends at it or it has a child. */
struct topic_index_node {
    struct topic_index_node *parent;  /* NULL: the root */
    struct topic_index_node *plus;    /* the child `+` */
    struct topic_filter *filter;      /* borrowed: the filter that ends here */
    struct topic_filter *hash_filter; /* borrowed: the filter that goes on with `#` from here and ends */
    uint32_t children;                /* in tree->children */
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
    struct bytes rest; /* of the topic; .data NULL: all levels are known */
    uint32_t known;    /* levels of the topic found so far */
    bool dollar;       /* wildcards do not match the first level [MQTT-4.7.2-1] */
};

struct child_key {
    const struct topic_index_node *parent;
    struct bytes level;
};

static enum status reserve_scratch(struct topic_tree *tree, struct bytes text);
static enum status make_path(struct topic_tree *tree, struct bytes text, struct topic_index_node **ret_node);
static struct topic_index_node *find_step(
    const struct topic_tree *tree, const struct topic_index_node *node, struct bytes level);
static struct topic_index_node *add_child(
    struct topic_tree *tree, struct topic_index_node *parent, struct bytes level);
static void prune(struct topic_tree *tree, struct topic_index_node *node);
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
    enum status status = reserve_scratch(tree, text);
    if (status != STATUS_OK)
        return status;
    struct topic_index_node *node;
    status = make_path(tree, text, &node);
    if (status != STATUS_OK)
        return status;
    struct topic_filter **place = text.data[text.size - 1] == '#' ? &node->hash_filter : &node->filter;
    assert(*place == NULL);
    *place = filter;
    filter->node = node;
    tree->filters++;
    return STATUS_OK;
}

void topic_tree_remove(struct topic_tree *tree, struct topic_filter *filter)
{
    struct topic_index_node *node = filter->node;
    assert(tree->filters > 0 && (node->filter == filter || node->hash_filter == filter));
    if (node->filter == filter)
        node->filter = NULL;
    else
        node->hash_filter = NULL;
    filter->node = NULL;
    tree->filters--;
    prune(tree, node);
}

struct topic_filter *topic_tree_find(const struct topic_tree *tree, struct bytes text)
{
    struct topic_index_node *node = tree->root;
    struct bytes rest = text;
    while (node != NULL && rest.data != NULL) {
        struct bytes level = topic_level_take(&rest);
        if (topic_level_is(level, '#'))
            return node->hash_filter;
        node = find_step(tree, node, level);
    }
    return node == NULL ? NULL : node->filter;
}

/*
 * Depth first. Where both the level's own child and `+` go on, `+` waits on the stack: at most one branch per
 * level of the longest filter.
 */
uint32_t topic_tree_match(struct topic_tree *tree, struct bytes topic, struct topic_filter **to)
{
    struct walk walk = {.tree = tree, .rest = topic, .dollar = topic.data[0] == '$'};
    struct topic_tree_branch at = {tree->root, 0};
    uint32_t waiting = 0;
    uint32_t count = 0;
    for (;;) {
        bool wildcards = at.depth > 0 || !walk.dollar;
        struct topic_index_node *next = NULL;
        if (at.node->hash_filter != NULL && wildcards)
            to[count++] = at.node->hash_filter; /* `a/#` matches `a` as well [MQTT-4.7.1-2] */
        if (walk_has_level(&walk, at.depth)) {
            struct topic_index_node *plus = wildcards ? at.node->plus : NULL;
            next = at.node->children > 0 ? walk_literal(&walk, at.node, at.depth) : NULL;
            if (next == NULL)
                next = plus;
            else if (plus != NULL)
                tree->branches[waiting++] = (struct topic_tree_branch){plus, at.depth + 1};
        } else if (at.node->filter != NULL) {
            to[count++] = at.node->filter;
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

/* A match must not fail: its scratch grows with the longest filter. */
static enum status reserve_scratch(struct topic_tree *tree, struct bytes text)
{
    uint32_t levels = 0;
    for (struct bytes rest = text; rest.data != NULL; levels++)
        (void)topic_level_take(&rest);
    if (tree->levels != NULL && levels <= tree->deepest)
        return STATUS_OK;
    struct topic_tree_level *level_scratch = malloc((levels + 1) * sizeof *level_scratch);
    struct topic_tree_branch *branch_scratch = malloc((levels + 1) * sizeof *branch_scratch);
    if (level_scratch == NULL || branch_scratch == NULL) {
        free(level_scratch);
        free(branch_scratch);
        return STATUS_NO_MEMORY;
    }
    free(tree->levels);
    free(tree->branches);
    tree->memory += (levels - tree->deepest) * (sizeof *level_scratch + sizeof *branch_scratch);
    tree->levels = level_scratch;
    tree->branches = branch_scratch;
    tree->deepest = levels;
    return STATUS_OK;
}

/* Finds or makes the nodes of all levels but a last `#`. */
static enum status make_path(struct topic_tree *tree, struct bytes text, struct topic_index_node **ret_node)
{
    struct topic_index_node *node = tree->root;
    for (struct bytes rest = text; rest.data != NULL;) {
        struct bytes level = topic_level_take(&rest);
        if (topic_level_is(level, '#'))
            break;
        struct topic_index_node *child = find_step(tree, node, level);
        if (child == NULL)
            child = add_child(tree, node, level);
        if (child == NULL) {
            prune(tree, node);
            return STATUS_NO_MEMORY;
        }
        node = child;
    }
    *ret_node = node;
    return STATUS_OK;
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
    while (node != tree->root && node->filter == NULL && node->hash_filter == NULL && node->plus == NULL &&
           node->children == 0) {
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

/* True if the topic has a level at `depth`, counted from 0. */
static inline bool walk_has_level(struct walk *walk, uint32_t depth)
{
    if (depth < walk->known)
        return true;
    if (walk->rest.data == NULL || walk->tree->levels == NULL)
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
