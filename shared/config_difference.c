/*
 * Compares configurations row by row of the table, by the JSON of each value, so that a new key is compared
 * without a word here. Keys of which nobody has said that they follow a reload count as needing a restart.
 */
#include "shared/config_difference.h"

#include "shared/config_cluster.h"
#include "shared/config_context.h"
#include "shared/config_table.h"
#include "shared/config_value.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Keys that a reload brings: whoever uses them asks the configuration each time, or is told. A name that ends
 * in '.' stands for all below it. */
static const char *const reloaded[] = {"node.reload", "listeners.", "mqtt.", "retained.", "auto_subscribe.", "rewrite.",
    "delayed.", "auth.allow_anonymous", "auth.password_file", "auth.methods", "auth.acl_file", "tickets.",
    "log.level"};
/* … but not these: peers have agreed on the first (a packet that one worker accepts must pass through all),
 * the others decide what a worker has. */
static const char *const not_reloaded[] = {"mqtt.max_packet_size", "mqtt.sys_interval", "delayed.max_bytes"};

static bool fits(const char *path, const char *pattern)
{
    size_t size = strlen(pattern);
    return pattern[size - 1] == '.' ? strncmp(path, pattern, size) == 0 : strcmp(path, pattern) == 0;
}

static enum config_effect effect_of(const struct config_row *row)
{
    for (size_t i = 0; i < sizeof not_reloaded / sizeof *not_reloaded; i++)
        if (fits(row->path, not_reloaded[i]))
            return CONFIG_EFFECT_RESTART;
    for (size_t i = 0; i < sizeof reloaded / sizeof *reloaded; i++)
        if (fits(row->path, reloaded[i]))
            return CONFIG_EFFECT_RELOAD;
    return CONFIG_EFFECT_RESTART;
}

static bool is_secret(const struct config_row *row)
{
    return strcmp(config_row_key(row), "password") == 0;
}

/* The list -------------------------------------------------------------------------------------------------
 */

static void add(
    struct config_differences *list, char *path, char *was, char *becomes, enum config_effect effect)
{
    struct config_difference *larger = realloc(list->entries, (list->count + 1) * sizeof *list->entries);
    assert(larger != NULL && path != NULL);
    list->entries = larger;
    list->entries[list->count++] = (struct config_difference){path, was, becomes, effect};
}

static char *path_text(const char *listener, const char *key)
{
    char *path = NULL;
    int size = asprintf(&path, "listeners.%s%s%s", listener, *key ? "." : "", key);
    assert(size >= 0);
    return path;
}

void config_differences_done(struct config_differences *differences)
{
    for (size_t i = 0; i < differences->count; i++) {
        free(differences->entries[i].path);
        free(differences->entries[i].was);
        free(differences->entries[i].becomes);
    }
    free(differences->entries);
    *differences = (struct config_differences){0};
}

/* Rows -----------------------------------------------------------------------------------------------------
 */

static bool row_differs(const struct config_row *row, const void *running, const void *next)
{
    json_t *was = config_value_to_json(row, config_field(row, (void *)(uintptr_t)running));
    json_t *becomes = config_value_to_json(row, config_field(row, (void *)(uintptr_t)next));
    bool same =
        (was == NULL && becomes == NULL) || (was != NULL && becomes != NULL && json_equal(was, becomes));
    json_decref(was);
    json_decref(becomes);
    return !same;
}

static char *value_text(const struct config_row *row, const void *holder)
{
    json_t *value = config_value_to_json(row, config_field(row, (void *)(uintptr_t)holder));
    char *text = NULL;
    if (value != NULL)
        text = is_secret(row) ? strdup("\"(secret)\"") : json_dumps(value, JSON_ENCODE_ANY);
    json_decref(value);
    return text;
}

/* `listener`: the key of the listener that holds both values; NULL: a key of a section. */
static void compare_row(struct config_differences *list, const struct config_row *row, const char *listener,
    const void *running, const void *next)
{
    if (!row_differs(row, running, next))
        return;
    char *path = listener == NULL ? strdup(row->path) : path_text(listener, config_row_key(row));
    add(list, path, value_text(row, running), value_text(row, next), effect_of(row));
}

static const struct config_listener *find(const struct config *config, const char *key)
{
    for (size_t i = 0; i < config->listener_count; i++)
        if (strcmp(config->listeners[i].key, key) == 0)
            return &config->listeners[i];
    return NULL;
}

static bool has_row(const struct config_listener *listener, const struct config_row *row)
{
    return (config_row_listeners(row) & (1u << listener->type)) != 0;
}

static void compare_listeners(
    struct config_differences *list, const struct config *running, const struct config *next)
{
    for (size_t i = 0; i < running->listener_count; i++) {
        const struct config_listener *was = &running->listeners[i];
        const struct config_listener *becomes = find(next, was->key);
        if (becomes == NULL)
            add(list, path_text(was->key, ""), strdup("\"present\""), NULL, CONFIG_EFFECT_RELOAD);
        for (size_t j = 0; becomes != NULL && j < config_table_size; j++)
            if (has_row(was, &config_table[j]))
                compare_row(list, &config_table[j], was->key, was, becomes);
    }
    for (size_t i = 0; i < next->listener_count; i++)
        if (find(running, next->listeners[i].key) == NULL)
            add(list, path_text(next->listeners[i].key, ""), NULL, strdup("\"present\""),
                CONFIG_EFFECT_RELOAD);
}

/* The list of a cluster's nodes, which no row of the table has; an object without it: a node alone. */
static json_t *cluster_json(const struct config *config)
{
    json_t *root = json_object();
    assert(root != NULL);
    config_cluster_give(&config->cluster, root);
    return root;
}

static bool cluster_differs(const struct config *running, const struct config *next)
{
    json_t *was = cluster_json(running), *becomes = cluster_json(next);
    bool differs = !json_equal(was, becomes);
    json_decref(was);
    json_decref(becomes);
    return differs;
}

static char *cluster_text(const struct config *config)
{
    json_t *root = cluster_json(config);
    json_t *cluster = json_object_get(root, "cluster");
    char *text = cluster != NULL ? json_dumps(cluster, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

void config_compare(
    const struct config *running, const struct config *next, struct config_differences *ret_differences)
{
    *ret_differences = (struct config_differences){0};
    for (size_t i = 0; i < config_table_size; i++)
        if (config_row_listeners(&config_table[i]) == 0)
            compare_row(ret_differences, &config_table[i], NULL, running, next);
    compare_listeners(ret_differences, running, next);
    if (cluster_differs(running, next))
        add(ret_differences, strdup("nodes"), cluster_text(running), cluster_text(next),
            CONFIG_EFFECT_RESTART);
}

/* Keeping what cannot change --------------------------------------------------------------------------------
 */

static void keep_row(const struct config_row *row, const void *running, void *next)
{
    struct config_errors errors = {0};
    const struct config_context context = {.file = "", .base = "/", .handed = true, .errors = &errors};
    if (effect_of(row) == CONFIG_EFFECT_RELOAD || !row_differs(row, running, next))
        return;
    json_t *value = config_value_to_json(row, config_field(row, (void *)(uintptr_t)running));
    config_value_done(row, config_field(row, next));
    bool good = value == NULL || config_value_parse(&context, row->path, row, value, config_field(row, next));
    assert(good); /* it was parsed from the like once */
    json_decref(value);
    config_errors_done(&errors);
}

static void keep_cluster(const struct config *running, struct config *next)
{
    if (!cluster_differs(running, next))
        return;
    char *path = next->cluster.path; /* where it stands in the file, for messages */
    next->cluster.path = NULL;
    config_cluster_done(&next->cluster);
    json_t *root = cluster_json(running);
    config_cluster_take(root, &next->cluster);
    json_decref(root);
    next->cluster.path = path;
}

void config_keep_running(const struct config *running, struct config *next)
{
    keep_cluster(running, next);
    for (size_t i = 0; i < config_table_size; i++) {
        const struct config_row *row = &config_table[i];
        if (config_row_listeners(row) == 0)
            keep_row(row, running, next);
        for (size_t j = 0; j < next->listener_count; j++) {
            const struct config_listener *was = find(running, next->listeners[j].key);
            if (was != NULL && has_row(was, row))
                keep_row(row, was, &next->listeners[j]);
        }
    }
}
