/*
 * Walks the JSON document beside the table. Runs while a configuration is loaded or handed over, in the
 * master and its children. Knows the shape of the document (sections, listeners, comments) and no single key.
 */
#include "shared/config_parse.h"

#include "shared/config_suggest.h"
#include "shared/config_table.h"
#include "shared/config_value.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define KEY_LIST_MAX 1024 /* room for the names of a section's keys */

/* An object of the document, and where its values go. */
struct place {
    const char *path;     /* "mqtt", "listeners.ssl:external" */
    const char *section;  /* "mqtt"; NULL for a listener */
    uint32_t listener;    /* 1 << its type; 0 for a section */
    const json_t *object; /* NULL: absent */
    void *holder;
};

/* A key that starts so is a comment, whatever its value. */
static bool is_comment(const char *key)
{
    return key[0] == '/' && key[1] == '/';
}

static const char *json_type_text(const json_t *json)
{
    static const char *const texts[] = {[JSON_OBJECT] = "an object",
        [JSON_ARRAY] = "a list",
        [JSON_STRING] = "a string",
        [JSON_INTEGER] = "a number",
        [JSON_REAL] = "a number",
        [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",
        [JSON_NULL] = "null"};
    return texts[json_typeof(json)];
}

static bool in_section(const struct config_row *row, const char *section)
{
    size_t size = config_row_section_size(row);
    return strlen(section) == size && strncmp(row->path, section, size) == 0;
}

static bool belongs(const struct config_row *row, const struct place *place)
{
    uint32_t listeners = config_row_listeners(row);
    if (place->section != NULL)
        return listeners == 0 && in_section(row, place->section);
    return (listeners & place->listener) != 0;
}

static const struct config_row *row_at(const struct place *place, const char *key)
{
    for (size_t i = 0; i < config_table_size; i++)
        if (belongs(&config_table[i], place) && strcmp(config_row_key(&config_table[i]), key) == 0)
            return &config_table[i];
    return NULL;
}

/* Unknown keys ----------------------------------------------------------------------------------------------
 */

/* The row that was probably meant: a near name here, or the very name elsewhere. */
static const struct config_row *row_meant(const struct place *place, const char *key)
{
    const struct config_row *best = NULL;
    for (size_t i = 0; i < config_table_size; i++) {
        const struct config_row *row = &config_table[i];
        const char *name = config_row_key(row);
        if (belongs(row, place) && config_is_near(key, name) &&
            (best == NULL ||
                config_edit_distance(key, name) < config_edit_distance(key, config_row_key(best))))
            best = row;
    }
    for (size_t i = 0; best == NULL && i < config_table_size; i++)
        if (strcmp(config_row_key(&config_table[i]), key) == 0)
            best = &config_table[i];
    return best;
}

static void list_keys(const struct place *place, char to[KEY_LIST_MAX])
{
    size_t used = 0;
    to[0] = '\0';
    for (size_t i = 0; i < config_table_size && used < KEY_LIST_MAX; i++)
        if (belongs(&config_table[i], place))
            used += (size_t)snprintf(
                to + used, KEY_LIST_MAX - used, "%s%s", used ? ", " : "", config_row_key(&config_table[i]));
}

static void complain_unknown(const struct config_context *context, const struct place *place, const char *key)
{
    char path[CONFIG_PATH_TEXT_MAX];
    char keys[KEY_LIST_MAX];
    snprintf(path, sizeof path, "%s.%s", place->path, key);
    const struct config_row *meant = row_meant(place, key);
    if (meant == NULL) {
        list_keys(place, keys);
        config_complain(context, path, "no such key; allowed: %s", keys);
    } else if (belongs(meant, place)) {
        config_complain(context, path, "no such key; did you mean \"%s\"?", config_row_key(meant));
    } else {
        config_complain(context, path, "no such key here; did you mean %s?", meant->path);
    }
}

/* An object's keys ------------------------------------------------------------------------------------------
 */

static void parse_default(
    const struct config_context *context, const char *path, const struct config_row *row, void *field)
{
    if (row->default_json == NULL || config_row_required(row))
        return;
    json_t *value = json_loads(row->default_json, JSON_DECODE_ANY, NULL);
    assert(value != NULL);
    (void)config_value_parse(context, path, row, value, field); /* complains about a folder only */
    json_decref(value);
}

static void parse_row(
    const struct config_context *context, const struct place *place, const struct config_row *row)
{
    char path[CONFIG_PATH_TEXT_MAX];
    void *field = config_field(row, place->holder);
    const char *key = config_row_key(row);
    snprintf(path, sizeof path, "%s.%s", place->path, key);
    const json_t *value = json_object_get(place->object, key);
    if (value == NULL && config_row_required(row)) {
        char allowed[CONFIG_ALLOWED_TEXT_MAX];
        config_value_allowed(row, allowed);
        config_complain(context, place->path, "the key \"%s\" is missing; allowed: %s", key, allowed);
        return;
    }
    if (value != NULL && (config_value_parse(context, path, row, value, field) ||
                             row->type == CONFIG_TYPE_FILE || row->type == CONFIG_TYPE_FOLDER))
        return;
    parse_default(context, path, row, field); /* after an error, too: the checks of the whole go on with it */
}

static void parse_place(const struct config_context *context, const struct place *place)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)place->object, key, value)
    {
        if (!is_comment(key) && row_at(place, key) == NULL)
            complain_unknown(context, place, key);
    }
    for (size_t i = 0; i < config_table_size; i++)
        if (belongs(&config_table[i], place))
            parse_row(context, place, &config_table[i]);
}

/* Listeners -------------------------------------------------------------------------------------------------
 */

static bool listener_type(const char *key, enum config_listener_type *ret_type)
{
    static const char characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    static const char *const types[CONFIG_LISTENER_TYPES] = {[CONFIG_LISTENER_TCP] = "tcp",
        [CONFIG_LISTENER_SSL] = "ssl",
        [CONFIG_LISTENER_WS] = "ws",
        [CONFIG_LISTENER_WSS] = "wss",
        [CONFIG_LISTENER_UNIX] = "unix"};
    size_t size = strcspn(key, ":");
    const char *name = key + size + 1;
    if (key[size] == '\0' || *name == '\0' || strlen(name) > CONFIG_NAME_MAX ||
        name[strspn(name, characters)] != '\0')
        return false;
    for (unsigned type = 0; type < CONFIG_LISTENER_TYPES; type++) {
        if (strlen(types[type]) == size && strncmp(key, types[type], size) == 0) {
            *ret_type = (enum config_listener_type)type;
            return true;
        }
    }
    return false;
}

static void parse_listener(
    const struct config_context *context, const char *key, const json_t *object, struct config *config)
{
    char path[CONFIG_PATH_TEXT_MAX];
    enum config_listener_type type;
    snprintf(path, sizeof path, "listeners.%s", key);
    if (!listener_type(key, &type)) {
        config_complain(context, path,
            "found \"%s\"; allowed: tcp:NAME, ssl:NAME, ws:NAME, wss:NAME or unix:NAME, the name of 1 to %d "
            "letters, digits, '_' or '-'",
            key, CONFIG_NAME_MAX);
        return;
    }
    if (!json_is_object(object)) {
        config_complain(
            context, path, "found %s; allowed: an object with the listener's keys", json_type_text(object));
        return;
    }
    struct config_listener *listener = &config->listeners[config->listener_count++];
    listener->key = strdup(key);
    assert(listener->key != NULL);
    listener->type = type;
    struct place place = {.path = path, .listener = 1u << type, .object = object, .holder = listener};
    parse_place(context, &place);
}

static void parse_listeners(const struct config_context *context, const json_t *object, struct config *config)
{
    const char *key;
    json_t *value;
    size_t count = 0;
    json_object_foreach((json_t *)object, key, value)
    {
        count += !is_comment(key);
    }
    if (count > CONFIG_LISTENERS_MAX) {
        config_complain(context, "listeners", "found %zu; allowed: at most %d", count, CONFIG_LISTENERS_MAX);
        return;
    }
    config->listeners = calloc(CONFIG_LISTENERS_MAX, sizeof *config->listeners);
    assert(config->listeners != NULL);
    json_object_foreach((json_t *)object, key, value)
    {
        if (!is_comment(key))
            parse_listener(context, key, value, config);
    }
}

/* Sections --------------------------------------------------------------------------------------------------
 */

static const struct config_section *section_named(const char *name)
{
    for (const struct config_section *section = config_sections; section->name != NULL; section++)
        if (strcmp(section->name, name) == 0)
            return section;
    return NULL;
}

static void complain_section(const struct config_context *context, const char *name)
{
    const struct config_section *section = config_sections;
    while (section->name != NULL && !config_is_near(name, section->name))
        section++;
    if (section->name != NULL) {
        config_complain(context, name, "no such section; did you mean \"%s\"?", section->name);
        return;
    }
    char names[KEY_LIST_MAX] = "";
    for (section = config_sections; section->name != NULL; section++)
        snprintf(
            names + strlen(names), sizeof names - strlen(names), "%s%s", *names ? ", " : "", section->name);
    config_complain(context, name, "no such section; allowed: %s", names);
}

/* Complains about keys of the document that are no sections, and sections that are no objects. */
static void check_sections(const struct config_context *context, const json_t *root)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)root, key, value)
    {
        if (is_comment(key))
            continue;
        if (section_named(key) == NULL)
            complain_section(context, key);
        else if (!json_is_object(value))
            config_complain(context, key, "found %s; allowed: an object", json_type_text(value));
    }
}

void config_parse(const struct config_context *context, const json_t *root, struct config *config)
{
    if (!json_is_object(root)) {
        config_complain(context, "", "found %s; allowed: an object with sections", json_type_text(root));
        return;
    }
    check_sections(context, root);
    for (const struct config_section *section = config_sections; section->name != NULL; section++) {
        const json_t *object = json_object_get(root, section->name);
        if (!json_is_object(object))
            object = NULL;
        if (strcmp(section->name, "listeners") == 0) {
            parse_listeners(context, object, config);
            continue;
        }
        struct place place = {
            .path = section->name, .section = section->name, .object = object, .holder = config};
        parse_place(context, &place);
    }
}

/* Back again, and the end -----------------------------------------------------------------------------------
 */

static json_t *unparse_place(const struct place *place)
{
    json_t *object = json_object();
    for (size_t i = 0; i < config_table_size; i++) {
        const struct config_row *row = &config_table[i];
        if (!belongs(row, place))
            continue;
        json_t *value = config_value_to_json(row, config_field(row, place->holder));
        if (value != NULL)
            json_object_set_new(object, config_row_key(row), value);
    }
    return object;
}

static struct place listener_place(struct config_listener *listener)
{
    return (struct place){.path = "", .listener = 1u << listener->type, .holder = listener};
}

json_t *config_unparse(const struct config *config)
{
    json_t *root = json_object();
    for (const struct config_section *section = config_sections; section->name != NULL; section++) {
        json_t *object;
        if (strcmp(section->name, "listeners") == 0) {
            object = json_object();
            for (size_t i = 0; i < config->listener_count; i++) {
                struct place place = listener_place(&config->listeners[i]);
                json_object_set_new(object, config->listeners[i].key, unparse_place(&place));
            }
        } else {
            struct place place = {.path = "", .section = section->name, .holder = (struct config *)config};
            object = unparse_place(&place);
        }
        json_object_set_new(root, section->name, object);
    }
    return root;
}

void config_parse_done(struct config *config)
{
    for (size_t i = 0; i < config_table_size; i++) {
        const struct config_row *row = &config_table[i];
        uint32_t listeners = config_row_listeners(row);
        if (listeners == 0)
            config_value_done(row, config_field(row, config));
        for (size_t j = 0; j < config->listener_count; j++)
            if (listeners & (1u << config->listeners[j].type))
                config_value_done(row, config_field(row, &config->listeners[j]));
    }
    for (size_t j = 0; j < config->listener_count; j++)
        free(config->listeners[j].key);
    free(config->listeners);
}
