/*
 * Makes one node's document out of a cluster file: `bus` and `defaults` below, the node's own part on top,
 * `%n` replaced; then it is parsed and checked like any other. What is wrong is told with the place where it
 * stands in the file (config_errors.c).
 */
#include "shared/config_cluster.h"

#include "shared/config_address.h"
#include "shared/config_context.h"
#include "shared/config_path.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_TEXT_MAX 1024

uint16_t config_cluster_id(const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *name != '\0'; name++)
        hash = (hash ^ (uint8_t)*name) * 16777619u;
    uint16_t id = (uint16_t)(hash ^ hash >> 16);
    return id == 0 ? 1 : id;
}

void config_cluster_done(struct config_cluster *cluster)
{
    for (size_t i = 0; i < cluster->count; i++) {
        free(cluster->nodes[i].name);
        free(cluster->nodes[i].bus.text);
    }
    free(cluster->nodes);
    free(cluster->name);
    free(cluster->path);
    *cluster = (struct config_cluster){0};
}

/* The list of nodes ------------------------------------------------------------------------------------- */

static bool is_name(const char *text)
{
    static const char characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t size = strlen(text);
    return size >= 1 && size <= CONFIG_NAME_MAX && strspn(text, characters) == size;
}

/* The name of the entry; NULL after complaining. */
static const char *entry_name(const struct config_context *context, const json_t *entry, size_t index)
{
    char path[64];
    const char *name = json_string_value(json_object_get(entry, "name"));
    if (name != NULL && is_name(name))
        return name;
    snprintf(path, sizeof path, "nodes[%zu].name", index);
    config_complain(context, path, "%s; allowed: 1 to %d letters, digits, '.', '_' or '-'",
        name == NULL ? "missing, or no string" : "not a name of a node", CONFIG_NAME_MAX);
    return NULL;
}

/* The address of the entry's link. False: complained. */
static bool entry_bus(
    const struct config_context *context, const json_t *entry, size_t index, struct config_bind *ret_bind)
{
    char path[64];
    const char *text = json_string_value(json_object_get(entry, "bus"));
    if (text != NULL && strchr(text, ':') != NULL && config_bind_parse(text, ret_bind) == STATUS_OK) {
        ret_bind->text = strdup(text);
        assert(ret_bind->text != NULL);
        return true;
    }
    snprintf(path, sizeof path, "nodes[%zu].bus", index);
    config_complain(context, path,
        "%s; allowed: address and port where the other nodes reach it, such as \"10.0.0.1:4370\" or "
        "\"[fd00::1]:4370\"",
        text == NULL ? "missing, or no string" : "not an address with a port");
    return false;
}

static void check_unlike(
    const struct config_context *context, const struct config_cluster *cluster, size_t index)
{
    char path[64];
    const struct config_cluster_node *node = &cluster->nodes[index];
    for (size_t i = 0; i < index; i++) {
        const struct config_cluster_node *other = &cluster->nodes[i];
        snprintf(path, sizeof path, "nodes[%zu].name", index);
        if (strcmp(node->name, other->name) == 0)
            config_complain(context, path, "found \"%s\" a second time; allowed: each name once", node->name);
        else if (node->id == other->id)
            config_complain(context, path,
                "found \"%s\", whose number on the bus happens to be that of \"%s\"; allowed: another name",
                node->name, other->name);
        snprintf(path, sizeof path, "nodes[%zu].bus", index);
        if (config_bind_overlaps(&node->bus, &other->bus))
            config_complain(context, path,
                "found \"%s\", which is that of node %s; allowed: an address of its own", node->bus.text,
                other->name);
    }
}

static void read_nodes(
    const struct config_context *context, const json_t *list, struct config_cluster *cluster)
{
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count == 0 || count > CONFIG_NODES_MAX) {
        config_complain(context, json_is_array(list) ? "nodes" : "",
            "%s; allowed: \"nodes\", a list of 1 to %d nodes",
            json_is_array(list) ? "no or too many nodes" : "the list of nodes is missing", CONFIG_NODES_MAX);
        return;
    }
    cluster->nodes = calloc(count, sizeof *cluster->nodes);
    assert(cluster->nodes != NULL);
    for (size_t i = 0; i < count; i++) {
        const json_t *entry = json_array_get(list, i);
        const char *name = entry_name(context, entry, i);
        struct config_bind bus;
        if (!entry_bus(context, entry, i, &bus))
            continue;
        if (name == NULL) {
            free(bus.text);
            continue;
        }
        struct config_cluster_node *node = &cluster->nodes[cluster->count];
        *node = (struct config_cluster_node){.name = strdup(name), .bus = bus, .id = config_cluster_id(name)};
        assert(node->name != NULL);
        check_unlike(context, cluster, cluster->count++);
    }
}

static void check_keys(const struct config_context *context, const json_t *root)
{
    static const char *const keys[] = {"cluster", "bus", "defaults", "nodes"};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)root, key, value)
    {
        size_t i = 0;
        while (i < sizeof keys / sizeof *keys && strcmp(keys[i], key) != 0)
            i++;
        if (i == sizeof keys / sizeof *keys && strncmp(key, "//", 2) != 0)
            config_complain(
                context, key, "no such key; allowed in a cluster file: cluster, bus, defaults, nodes");
    }
    if (json_object_get(root, "bus") != NULL && !json_is_object(json_object_get(root, "bus")))
        config_complain(context, "bus", "allowed: an object with the keys of the section bus");
    if (json_object_get(root, "defaults") != NULL && !json_is_object(json_object_get(root, "defaults")))
        config_complain(context, "defaults", "allowed: an object with sections of a node's configuration");
}

/* Which entry the node is; complains, with the names that there are. */
static bool find_self(const struct config_context *context, const char *node, const json_t *list,
    struct config_cluster *cluster)
{
    char names[NAMES_TEXT_MAX] = "";
    for (size_t i = 0; i < cluster->count; i++) {
        if (node != NULL && strcmp(cluster->nodes[i].name, node) == 0) {
            cluster->self = i;
            size_t at = 0; /* entries that were wrong are not in our list */
            while (json_string_value(json_object_get(json_array_get(list, at), "name")) == NULL ||
                   strcmp(json_string_value(json_object_get(json_array_get(list, at), "name")), node) != 0)
                at++;
            if (asprintf(&cluster->path, "nodes[%zu]", at) < 0)
                abort();
            return true;
        }
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i > 0 ? ", " : "",
            cluster->nodes[i].name);
    }
    if (cluster->count > 0)
        config_complain(context, "nodes", "%s%s; allowed: --node with one of %s",
            node == NULL ? "which of them is to run was not said" : "found no node ",
            node == NULL ? "" : node, names);
    return false;
}

/* The node's document -------------------------------------------------------------------------------------
 */

static json_t *put_name(const char *text, const char *name)
{
    size_t room = strlen(text) + 1;
    for (const char *at = text; (at = strstr(at, "%n")) != NULL; at += 2)
        room += strlen(name);
    char *made = malloc(room), *to = made;
    assert(made != NULL);
    for (const char *at = text; *at != '\0';) {
        if (strncmp(at, "%n", 2) == 0) {
            to = stpcpy(to, name);
            at += 2;
        } else {
            *to++ = *at++;
        }
    }
    *to = '\0';
    json_t *json = json_string(made);
    free(made);
    return json;
}

/* A copy in which `%n` is the node's name, in every string. The caller's reference. */
static json_t *with_name(const json_t *json, const char *name)
{
    const char *key;
    json_t *value, *made;
    size_t index;
    switch (json_typeof(json)) {
    case JSON_STRING:
        return put_name(json_string_value(json), name);
    case JSON_ARRAY:
        made = json_array();
        json_array_foreach((json_t *)json, index, value) json_array_append_new(made, with_name(value, name));
        return made;
    case JSON_OBJECT:
        made = json_object();
        json_object_foreach((json_t *)json, key, value)
        {
            json_object_set_new(made, key, with_name(value, name));
        }
        return made;
    default:
        return json_deep_copy(json);
    }
}

/* node.name is the entry's; folders are the node's own, also where several run on one machine. */
static void name_node(json_t *document, const char *name)
{
    json_t *section = json_object_get(document, "node");
    if (section == NULL) {
        section = json_object();
        json_object_set_new(document, "node", section);
    }
    if (!json_is_object(section))
        return; /* the parser complains */
    json_object_set_new(section, "name", json_string(name));
    if (json_object_get(section, "data_dir") == NULL)
        json_object_set_new(section, "data_dir", put_name("data/%n", name));
}

static json_t *merge(const json_t *root, const json_t *entry, const char *name)
{
    json_t *layers = json_object();
    const json_t *bus = json_object_get(root, "bus"), *defaults = json_object_get(root, "defaults");
    if (json_is_object(bus))
        json_object_set_new(layers, "bus", json_deep_copy(bus));
    if (json_is_object(defaults)) {
        json_t *copy = json_deep_copy(defaults);
        json_object_update_recursive(layers, copy);
        json_decref(copy);
    }
    json_t *own = json_deep_copy(entry);
    json_object_del(own, "name");
    json_object_del(own, "bus");
    json_object_update_recursive(layers, own);
    json_decref(own);
    json_t *document = with_name(layers, name);
    json_decref(layers);
    name_node(document, name);
    return document;
}

static enum status load_node(struct config_context *context, const json_t *root, const char *node,
    struct config_cluster *cluster, struct config **ret_config)
{
    if (!json_is_object(root)) {
        config_complain(context, "", "allowed: an object with cluster, bus, defaults and nodes");
        return STATUS_INVALID;
    }
    const char *name = json_string_value(json_object_get(root, "cluster"));
    const json_t *list = json_object_get(root, "nodes");
    check_keys(context, root);
    if (name == NULL || !is_name(name))
        config_complain(context, "cluster",
            "missing, or no name; allowed: the cluster's name, 1 to %d letters, digits, '.', '_' or '-'",
            CONFIG_NAME_MAX);
    else
        cluster->name = strdup(name);
    read_nodes(context, list, cluster);
    if (!find_self(context, node, list, cluster))
        return STATUS_INVALID;
    size_t index = (size_t)strtoul(cluster->path + strlen("nodes["), NULL, 10);
    json_t *document = merge(root, json_array_get(list, index), node);
    char *path = strdup(cluster->path);
    assert(path != NULL);
    context->node = path;
    enum status status = config_build(context, document, cluster, ret_config);
    context->node = NULL;
    free(path);
    json_decref(document);
    return status;
}

enum status config_load_cluster(
    const char *path, const char *node, struct config **ret_config, struct config_errors *errors)
{
    enum status status = STATUS_SYSTEM;
    char *file = config_path_absolute(path), *text = NULL;
    char *base = file != NULL ? config_path_base(file, "conf") : NULL;
    if (base != NULL) {
        struct config_context context = {.file = file, .base = base, .errors = errors};
        struct config_cluster cluster = {0};
        struct config *config = NULL;
        text = config_read_file(&context, &context.size);
        json_t *root = text != NULL ? config_decode(&context, text, context.size) : NULL;
        context.text = text;
        status = root != NULL ? load_node(&context, root, node, &cluster, &config) : STATUS_INVALID;
        config_cluster_done(&cluster);
        json_decref(root);
        if (status == STATUS_OK)
            *ret_config = config;
    }
    free(text);
    free(base);
    free(file);
    return status;
}

enum status config_load_source(
    const struct config_source *source, struct config **ret_config, struct config_errors *errors)
{
    if (source->cluster)
        return config_load_cluster(source->file, source->node, ret_config, errors);
    return config_load(source->file, ret_config, errors);
}

/* Handed over ---------------------------------------------------------------------------------------------
 */

void config_cluster_give(const struct config_cluster *cluster, json_t *root)
{
    if (cluster->count == 0 || root == NULL)
        return;
    json_t *nodes = json_array();
    for (size_t i = 0; i < cluster->count; i++)
        json_array_append_new(nodes,
            json_pack("{s:s, s:s}", "name", cluster->nodes[i].name, "bus", cluster->nodes[i].bus.text));
    json_object_set_new(root, "cluster",
        json_pack(
            "{s:s, s:I, s:o}", "name", cluster->name, "self", (json_int_t)cluster->self, "nodes", nodes));
}

void config_cluster_take(json_t *root, struct config_cluster *ret_cluster)
{
    const json_t *given = json_object_get(root, "cluster");
    if (!json_is_object(given))
        return;
    const json_t *list = json_object_get(given, "nodes");
    struct config_cluster cluster = {.name = strdup(json_string_value(json_object_get(given, "name"))),
        .self = (size_t)json_integer_value(json_object_get(given, "self")),
        .count = json_array_size(list)};
    cluster.nodes = calloc(cluster.count, sizeof *cluster.nodes);
    assert(cluster.name != NULL && cluster.nodes != NULL);
    for (size_t i = 0; i < cluster.count; i++) {
        const json_t *entry = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        const char *bus = json_string_value(json_object_get(entry, "bus"));
        struct config_cluster_node *node = &cluster.nodes[i];
        enum status status = config_bind_parse(bus, &node->bus);
        assert(status == STATUS_OK); /* the master has checked it */
        (void)status;
        node->bus.text = strdup(bus);
        node->name = strdup(name);
        node->id = config_cluster_id(name);
        assert(node->name != NULL && node->bus.text != NULL);
    }
    json_object_del(root, "cluster");
    *ret_cluster = cluster;
}
