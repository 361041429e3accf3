/*
 * Builds a Shoal configuration from the directives of an emq.conf. Every converted value is tried against the
 * configuration's own table before it is taken, so that the result loads. Runs in shoalctl, touches no file.
 */
#include "shared/emq_import.h"

#include "shared/config_address.h"
#include "shared/config_path.h"
#include "shared/config_table.h"
#include "shared/config_value.h"
#include "shared/emq_directives.h"
#include "shared/emq_file.h"
#include "shared/emq_modules.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define ACCESS_MAX 255 /* rules of one listener; one more is ours */
#define WORD_MAX   64
#define OPTION_MAX (2 * WORD_MAX + 64)

struct import {
    struct config_context context;
    struct emq_file file;
    json_t *root;      /* owned */
    json_t *listeners; /* borrowed from root */
};

/* "listener.ssl.external.backlog": type "ssl", name "external", option "backlog" ("": the listener itself).
 */
struct listener_key {
    char type[WORD_MAX];
    char name[WORD_MAX];
    const char *option;
};

static bool split_listener_key(const char *key, struct listener_key *ret_key)
{
    int used = 0;
    struct listener_key split;
    if (sscanf(key, "listener.%63[^.].%63[^.]%n", split.type, split.name, &used) != 2 || used == 0)
        return false;
    split.option = key[used] == '.' ? key + used + 1 : "";
    *ret_key = split;
    return true;
}

static void warn(const struct import *import, const struct emq_directive *directive, const char *text)
{
    if (directive->line != 0)
        config_warn_line(&import->context, directive->line, "%s: %s", directive->key, text);
}

/* Values ----------------------------------------------------------------------------------------------------
 */

static const struct config_row *row_of(const char *path)
{
    for (size_t i = 0; i < config_table_size; i++)
        if (strcmp(config_table[i].path, path) == 0)
            return &config_table[i];
    return NULL;
}

/* Would the configuration take this value? Whether a file exists is not asked. */
static bool fits(const struct import *import, const struct config_row *row, const json_t *value)
{
    union {
        struct config config;
        struct config_listener listener;
    } scratch = {0};
    struct config_errors errors = {0};
    struct config_context context = import->context;
    context.errors = &errors;
    context.handed = true;
    void *field = config_field(row, &scratch);
    bool fine = config_value_parse(&context, row->path, row, value, field);
    if (fine)
        config_value_done(row, field);
    config_errors_done(&errors);
    return fine;
}

static bool fits_at(void *import, const char *path, const json_t *value)
{
    return fits(import, row_of(path), value);
}

/* Converts and sets a value in its object, or warns that it was left out. */
static void take_value(struct import *import, const struct emq_directive *directive,
    const struct emq_mapping *mapping, json_t *object)
{
    const struct config_row *row = row_of(mapping->path);
    assert(row != NULL);
    json_t *value = mapping->convert(&import->context, directive);
    if (value != NULL && fits(import, row, value)) {
        json_object_set_new(object, config_row_key(row), value);
        if (mapping->reason != NULL)
            warn(import, directive, mapping->reason);
        return;
    }
    json_decref(value);
    char allowed[CONFIG_ALLOWED_TEXT_MAX];
    char text[CONFIG_ALLOWED_TEXT_MAX + 256];
    config_value_allowed(row, allowed);
    snprintf(
        text, sizeof text, "found \"%.100s\", left out; %s allows %s", directive->value, row->path, allowed);
    warn(import, directive, text);
}

/* Listeners -------------------------------------------------------------------------------------------------
 */

/* The listener's object, made when `directive` is the one that opens it. NULL: there is none. */
static json_t *listener_object(struct import *import, const struct listener_key *key)
{
    char name[2 * WORD_MAX];
    snprintf(name, sizeof name, "%s:%s", key->type, key->name);
    return json_object_get(import->listeners, name);
}

/* The types that Shoal has under the same names. */
static bool is_converted(const char *type)
{
    static const char *const types[] = {"tcp", "ssl", "ws", "wss"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(type, types[i]) == 0)
            return true;
    return false;
}

static bool has_tls(const char *name)
{
    return strncmp(name, "ssl:", 4) == 0 || strncmp(name, "wss:", 4) == 0;
}

/* EMQ's name of an option of the listener "ssl:external": "listener.ssl.external.OPTION". */
static void option_key(const char *name, const char *option, char to[OPTION_MAX])
{
    size_t type = strcspn(name, ":");
    snprintf(to, OPTION_MAX, "listener.%.*s.%s.%s", (int)type, name, name + type + 1, option);
}

/* Listeners first, whatever the order of the file, so that their options find them. */
static void open_listeners(struct import *import)
{
    for (size_t i = 0; i < import->file.count; i++) {
        const struct emq_directive *directive = &import->file.directives[i];
        struct listener_key key;
        if (!split_listener_key(directive->key, &key) || *key.option != '\0' || !is_converted(key.type))
            continue;
        char name[2 * WORD_MAX];
        snprintf(name, sizeof name, "%s:%s", key.type, key.name);
        json_t *object = json_object();
        take_value(import, directive, emq_mapping_of(directive->key), object);
        if (json_object_size(object) > 0)
            json_object_set_new(import->listeners, name, object);
        else
            json_decref(object);
    }
}

/* What EMQ does when the file says nothing, where Shoal does otherwise. */
static void imply_listener_defaults(struct import *import)
{
    const char *name;
    json_t *object;
    json_object_foreach(import->listeners, name, object)
    {
        if (json_object_get(object, "max_connections") == NULL)
            json_object_set_new(object, "max_connections", json_integer(1024));
        if (has_tls(name) && json_object_get(object, "honor_cipher_order") == NULL)
            json_object_set_new(object, "honor_cipher_order", json_false());
    }
}

static int compare_access(const void *a, const void *b)
{
    const struct emq_directive *left = a;
    const struct emq_directive *right = b;
    long difference =
        strtol(strrchr(left->key, '.') + 1, NULL, 10) - strtol(strrchr(right->key, '.') + 1, NULL, 10);
    return difference < 0 ? -1 : difference > 0;
}

/* The rules of one listener in the order of their numbers. What no rule fits, EMQ lets in. */
static void take_access(struct import *import, const char *name, json_t *object)
{
    char pattern[OPTION_MAX];
    struct emq_directive found[ACCESS_MAX]; /* borrows the texts */
    size_t count = 0;
    option_key(name, "access.*", pattern);
    for (size_t i = 0; i < import->file.count; i++) {
        if (!emq_key_matches(import->file.directives[i].key, pattern))
            continue;
        if (count < ACCESS_MAX)
            found[count++] = import->file.directives[i];
        else
            warn(import, &import->file.directives[i], "left out, too many rules");
    }
    qsort(found, count, sizeof *found, compare_access);
    json_t *rules = json_array();
    for (size_t i = 0; i < count; i++) {
        struct config_access_rule rule;
        char text[CONFIG_ACCESS_RULE_TEXT_MAX];
        if (config_access_rule_parse_masked(found[i].value, &rule) != STATUS_OK) {
            warn(import, &found[i], "no rule such as \"allow all\" or \"deny 10.0.0.0/8\", left out");
            continue;
        }
        config_access_rule_format(&rule, text);
        json_array_append_new(rules, json_string(text));
    }
    const char *last = json_string_value(json_array_get(rules, json_array_size(rules) - 1));
    if (last != NULL && strstr(last, " all") == NULL)
        json_array_append_new(rules, json_string("allow all"));
    if (last != NULL)
        json_object_set(object, "access", rules);
    json_decref(rules);
}

/* What is no error in EMQ although it has no effect. */
static void drop(struct import *import, const char *name, json_t *object, const char *option, const char *why)
{
    char key[OPTION_MAX];
    option_key(name, option, key);
    const struct emq_directive *directive = emq_file_find(&import->file, key);
    bool said = directive != NULL && !json_is_false(json_object_get(object, option));
    if (json_object_del(object, option) == 0 && said)
        warn(import, directive, why);
}

static bool says(const json_t *object, const char *key, const char *word)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value != NULL && strcmp(value, word) == 0;
}

/* Keys about certificates, where there are none: without verify_peer, or without TLS and PROXY header. */
static void drop_without_effect(struct import *import, const char *name, json_t *object)
{
    static const char verify[] = "left out, it has no effect without verify = verify_peer";
    if (has_tls(name)) {
        if (says(object, "verify", "verify_peer"))
            return;
        drop(import, name, object, "fail_if_no_peer_cert", verify);
        drop(import, name, object, "peer_cert_as_username", verify);
    } else if (!json_is_true(json_object_get(object, "proxy_protocol"))) {
        drop(import, name, object, "peer_cert_as_username",
            "left out, it has no effect without proxy_protocol = on");
    } else if (!says(object, "peer_cert_as_username", "cn")) {
        drop(import, name, object, "peer_cert_as_username", "left out, a PROXY header has only the cn");
    }
}

static void finish_listeners(struct import *import)
{
    const char *name;
    json_t *object;
    imply_listener_defaults(import);
    json_object_foreach(import->listeners, name, object)
    {
        take_access(import, name, object);
        drop_without_effect(import, name, object);
    }
}

/* A setting of the node in EMQ that each listener has in Shoal. */
static void take_for_all_listeners(
    struct import *import, const struct emq_directive *directive, const struct emq_mapping *mapping)
{
    const char *name;
    json_t *object;
    json_object_foreach(import->listeners, name, object)
    {
        take_value(import, directive, mapping, object);
    }
}

/* Directives ------------------------------------------------------------------------------------------------
 */

static void take_listener_option(
    struct import *import, const struct emq_directive *directive, const struct emq_mapping *mapping)
{
    struct listener_key key;
    if (!split_listener_key(directive->key, &key) || *key.option == '\0')
        return; /* open_listeners() has taken it */
    json_t *object = listener_object(import, &key);
    if (object != NULL)
        take_value(import, directive, mapping, object);
    else
        warn(import, directive, "left out, the file opens no such listener");
}

static void take_without_counterpart(
    struct import *import, const struct emq_directive *directive, const struct emq_mapping *mapping)
{
    if (mapping->harmless == NULL || strcmp(mapping->harmless, directive->value) != 0)
        warn(import, directive, mapping->reason);
}

static void take_directive(struct import *import, const struct emq_directive *directive)
{
    const struct emq_mapping *mapping = emq_mapping_of(directive->key);
    struct listener_key key;
    if (emq_key_matches(directive->key, "listener.*.*.access.*") &&
        split_listener_key(directive->key, &key) && is_converted(key.type))
        return; /* take_access() does, in order */
    if (emq_is_module(directive->key))
        return; /* emq_take_modules() does, in order */
    if (mapping == NULL) {
        warn(import, directive, "no such directive is known, left out");
    } else if (mapping->path == NULL) {
        take_without_counterpart(import, directive, mapping);
    } else if (strncmp(directive->key, "listener.", 9) == 0) {
        take_listener_option(import, directive, mapping);
    } else if (strncmp(mapping->path, "listeners.", 10) == 0) {
        take_for_all_listeners(import, directive, mapping);
    } else {
        char section[WORD_MAX];
        snprintf(section, sizeof section, "%.*s", (int)strcspn(mapping->path, "."), mapping->path);
        take_value(import, directive, mapping, json_object_get(import->root, section));
    }
}

/* EMQ's defaults where Shoal's are others, as directives that nobody wrote. */
static void imply_defaults(struct import *import)
{
    static const char *const defaults[][3] = {
        {"mqtt.max_packet_size", "64KB", NULL},
        {"mqtt.session.max_inflight", "100", NULL},
        {"mqtt.session.max_awaiting_rel", "0", NULL},
        {"mqtt.session.max_subscriptions", "0", NULL},
        {"mqtt.mqueue.max_length", "0", "mqtt.queue.max_length"},
        {"mqtt.mqueue.store_qos0", "true", "mqtt.queue.qos0"},
        {"mqtt.broker.sys_interval", "60", NULL},
        {"mqtt.client.idle_timeout", "30s", "mqtt.client_idle_timeout"},
    };
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        if (emq_file_find(&import->file, defaults[i][0]) == NULL &&
            (defaults[i][2] == NULL || emq_file_find(&import->file, defaults[i][2]) == NULL))
            emq_file_imply(&import->file, defaults[i][0], defaults[i][1]);
    /* No directive says so: a full queue loses its oldest message. */
    json_object_set_new(json_object_get(import->root, "mqtt"), "queue_full", json_string("drop_oldest"));
    if (emq_file_find(&import->file, "mqtt.allow_anonymous") == NULL) {
        emq_file_imply(&import->file, "mqtt.allow_anonymous", "true");
        config_warn_line(&import->context, 0,
            "mqtt.allow_anonymous is not given: as in EMQ 2's own file, clients without credentials are let "
            "in; set "
            "auth.allow_anonymous to false to demand them");
    }
}

/* A message of the largest size must fit into a session's queue. */
static void fit_queue(json_t *mqtt)
{
    size_t packet = 0;
    size_t queue = 0;
    const struct config_row *row = row_of("mqtt.max_queued_bytes");
    struct config_errors errors = {0};
    struct config_context context = {.file = "", .base = "/", .handed = true, .errors = &errors};
    json_t *standard = json_loads(row->default_json, JSON_DECODE_ANY, NULL);
    const json_t *largest = json_object_get(mqtt, "max_packet_size");
    if (config_value_parse(&context, "", row, standard, &queue) &&
        config_value_parse(&context, "", row_of("mqtt.max_packet_size"), largest, &packet) && packet > queue)
        json_object_set(mqtt, "max_queued_bytes", (json_t *)largest);
    json_decref(standard);
    config_errors_done(&errors);
}

static void import_begin(struct import *import)
{
    const char *slash = strrchr(import->context.file, '/');
    import->root = json_object();
    char comment[WORD_MAX + 256];
    snprintf(comment, sizeof comment, "Converted from %.200s by shoalctl import-emq.",
        slash ? slash + 1 : import->context.file);
    json_object_set_new(import->root, "//", json_string(comment));
    for (const struct config_section *section = config_sections; section->name != NULL; section++)
        json_object_set_new(import->root, section->name, json_object());
    import->listeners = json_object_get(import->root, "listeners");
}

static char *import_end(struct import *import)
{
    for (const struct config_section *section = config_sections; section->name != NULL; section++)
        if (json_object_size(json_object_get(import->root, section->name)) == 0)
            json_object_del(import->root, section->name);
    char *text = json_dumps(import->root, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    json_decref(import->root);
    return text;
}

static char *import_text(struct import *import, const char *text, size_t size)
{
    emq_file_parse(&import->context, text, size, &import->file);
    import_begin(import);
    imply_defaults(import);
    open_listeners(import);
    for (size_t i = 0; i < import->file.count; i++)
        take_directive(import, &import->file.directives[i]);
    finish_listeners(import);
    emq_take_modules(&import->context, &import->file, import->root, fits_at, import);
    fit_queue(json_object_get(import->root, "mqtt"));
    if (json_object_size(import->listeners) == 0)
        config_warn_line(&import->context, 0, "no listener that Shoal has: the result needs one to be valid");
    char *json = import_end(import);
    emq_file_done(&import->file);
    return json;
}

enum status emq_import(
    const char *text, size_t size, const char *name, char **ret_json, struct config_errors *warnings)
{
    enum status status = STATUS_SYSTEM;
    char *file = config_path_absolute(name);
    char *base = file ? config_path_base(file, "etc") : NULL;
    if (base != NULL) {
        struct import import = {.context = {.file = name, .base = base, .errors = warnings}};
        char *json = import_text(&import, text, size);
        status = json ? STATUS_OK : STATUS_NO_MEMORY;
        if (json != NULL)
            *ret_json = json;
    }
    free(base);
    free(file);
    return status;
}
