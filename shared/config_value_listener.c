/*
 * Types of configuration values that listeners have: addresses, access rules, sockets, and what browsers
 * send. No I/O.
 */
#include "shared/config_value_private.h"

#include "shared/config_address.h"
#include "shared/config_path.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BIND_TEXT_MAX    80
#define ACCESS_RULES_MAX 256
#define ORIGINS_MAX      256
#define ORIGIN_MAX       255 /* bytes */

/* Addresses -------------------------------------------------------------------------------------------------
 */

static bool parse_bind(const struct value *value, void *field)
{
    char text[BIND_TEXT_MAX] = "";
    if (json_is_integer(value->json)) /* a bare port is as clear without quotes */
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value->json));
    else if (json_is_string(value->json) && json_string_length(value->json) < sizeof text)
        snprintf(text, sizeof text, "%s", json_string_value(value->json));
    struct config_bind bind = {0};
    if (config_bind_parse(text, &bind) != STATUS_OK)
        return config_value_refuse(value, NULL);
    bind.text = config_copy_text(text);
    *(struct config_bind *)field = bind;
    return true;
}

static json_t *bind_to_json(const struct config_row *row, const void *field)
{
    (void)row;
    return json_string(((const struct config_bind *)field)->text);
}

static void bind_done(void *field)
{
    struct config_bind *bind = field;
    free(bind->text);
    bind->text = NULL;
}

static void bind_allowed(const struct config_row *row, char *to, size_t room)
{
    (void)row;
    config_value_append(to, room,
        "a port (\"8883\": IPv4 and IPv6) or a numeric address and port (\"127.0.0.1:1883\", "
        "\"[::1]:8883\")");
}

static bool parse_access(const struct value *value, void *field)
{
    size_t count = json_array_size(value->json);
    if (count == 0 || count > ACCESS_RULES_MAX)
        return config_value_refuse(value, NULL);
    struct config_access access = {.rules = calloc(count, sizeof *access.rules), .count = count};
    assert(access.rules != NULL);
    bool fine = true;
    for (size_t i = 0; i < count; i++) {
        char path[CONFIG_PATH_TEXT_MAX];
        snprintf(path, sizeof path, "%s[%zu]", value->path, i);
        struct value item = *value;
        item.path = path;
        item.json = json_array_get(value->json, i);
        const char *text = json_string_value(item.json);
        if (text == NULL || config_access_rule_parse(text, &access.rules[i]) != STATUS_OK)
            fine = config_value_refuse(&item, NULL);
    }
    if (fine)
        *(struct config_access *)field = access;
    else
        free(access.rules);
    return fine;
}

static json_t *access_to_json(const struct config_row *row, const void *field)
{
    (void)row;
    const struct config_access *access = field;
    json_t *list = json_array();
    for (size_t i = 0; i < access->count; i++) {
        char text[CONFIG_ACCESS_RULE_TEXT_MAX];
        config_access_rule_format(&access->rules[i], text);
        json_array_append_new(list, json_string(text));
    }
    return list;
}

static void access_done(void *field)
{
    struct config_access *access = field;
    free(access->rules);
    *access = (struct config_access){0};
}

static void access_allowed(const struct config_row *row, char *to, size_t room)
{
    (void)row;
    config_value_append(to, room,
        "a list of 1 to %d rules such as \"allow all\", \"deny 10.0.0.0/8\" or \"allow ::1\" (no address "
        "bits "
        "behind the prefix)",
        ACCESS_RULES_MAX);
}

/* Unix sockets ----------------------------------------------------------------------------------------------
 */

static bool parse_socket(const struct value *value, void *field)
{
    const char *text = json_string_value(value->json);
    if (text == NULL || *text == '\0')
        return config_value_refuse(value, NULL);
    struct config_bind bind = {0};
    char *path = config_path_join(value->context->base, text);
    assert(path != NULL);
    if (config_bind_set_socket(path, &bind) != STATUS_OK) {
        char detail[64];
        snprintf(detail, sizeof detail, "which has %zu bytes when absolute", strlen(path));
        free(path);
        return config_value_refuse(value, detail);
    }
    bind.text = path;
    *(struct config_bind *)field = bind;
    return true;
}

static void socket_allowed(const struct config_row *row, char *to, size_t room)
{
    (void)row;
    config_value_append(to, room, "a path of at most 107 bytes when absolute");
}

/* Octal as people write it, in quotes: JSON has no octal numbers. */
static bool parse_mode(const struct value *value, void *field)
{
    const char *text = json_string_value(value->json);
    size_t digits = text != NULL ? strspn(text, "01234567") : 0;
    if (digits < 3 || digits > 4 || text[digits] != '\0')
        return config_value_refuse(value, NULL);
    unsigned long mode = strtoul(text, NULL, 8);
    if ((double)mode > value->row->maximum)
        return config_value_refuse(value, NULL);
    *(uint32_t *)field = (uint32_t)mode;
    return true;
}

static json_t *mode_to_json(const struct config_row *row, const void *field)
{
    (void)row;
    char text[16];
    snprintf(text, sizeof text, "%04o", (unsigned)*(const uint32_t *)field);
    return json_string(text);
}

static void mode_allowed(const struct config_row *row, char *to, size_t room)
{
    (void)row;
    config_value_append(to, room, "permissions in octal, such as \"0660\" or \"0666\"");
}

/* WebSocket -------------------------------------------------------------------------------------------------
 */

/* Printable ASCII without those of `but`. */
static bool is_plain(const char *text, const char *but)
{
    for (; *text != '\0'; text++)
        if (*text <= ' ' || *text > '~' || strchr(but, *text) != NULL)
            return false;
    return true;
}

static bool parse_url_path(const struct value *value, void *field)
{
    const char *text = json_string_value(value->json);
    if (text == NULL || text[0] != '/' || strlen(text) > (size_t)value->row->maximum ||
        !is_plain(text, "?#\"\\"))
        return config_value_refuse(value, NULL);
    *(char **)field = config_copy_text(text);
    return true;
}

static void url_path_allowed(const struct config_row *row, char *to, size_t room)
{
    config_value_append(
        to, room, "the path of a URL of 1 to %.0f bytes, such as \"/mqtt\", without query", row->maximum);
}

/* "https://example.com", "http://[::1]:8080": as browsers send it, without path; "null" for pages from
 * nowhere. */
static bool is_origin(const char *text)
{
    if (strcmp(text, "null") == 0)
        return true;
    const char *host = strstr(text, "://");
    return host != NULL && host > text && host[3] != '\0' && strlen(text) <= ORIGIN_MAX &&
           is_plain(text, "?#\"\\*") && strchr(host + 3, '/') == NULL;
}

static void origins_done(void *field)
{
    struct config_origins *origins = field;
    for (size_t i = 0; i < origins->count; i++)
        free(origins->items[i]);
    free(origins->items);
    *origins = (struct config_origins){0};
}

static bool parse_origins(const struct value *value, void *field)
{
    size_t count = json_array_size(value->json);
    if (count == 0 || count > ORIGINS_MAX)
        return config_value_refuse(value, NULL);
    struct config_origins origins = {.items = calloc(count, sizeof *origins.items)};
    assert(origins.items != NULL);
    bool fine = true;
    for (size_t i = 0; i < count; i++) {
        char path[CONFIG_PATH_TEXT_MAX];
        snprintf(path, sizeof path, "%s[%zu]", value->path, i);
        struct value item = *value;
        item.path = path;
        item.json = json_array_get(value->json, i);
        const char *text = json_string_value(item.json);
        if (text != NULL && is_origin(text))
            origins.items[origins.count++] = config_copy_text(text);
        else
            fine = config_value_refuse(&item, NULL);
    }
    if (fine)
        *(struct config_origins *)field = origins;
    else
        origins_done(&origins);
    return fine;
}

static json_t *origins_to_json(const struct config_row *row, const void *field)
{
    (void)row;
    const struct config_origins *origins = field;
    if (origins->count == 0)
        return NULL;
    json_t *list = json_array();
    for (size_t i = 0; i < origins->count; i++)
        json_array_append_new(list, json_string(origins->items[i]));
    return list;
}

static void origins_allowed(const struct config_row *row, char *to, size_t room)
{
    (void)row;
    config_value_append(to, room,
        "a list of 1 to %d origins such as \"https://example.com\" or \"http://localhost:8080\" (no path, no "
        "final slash), or \"null\"",
        ORIGINS_MAX);
}

/* The types -------------------------------------------------------------------------------------------------
 */

const struct type_handlers *config_listener_type_handlers(enum config_type type)
{
    static const struct type_handlers types[CONFIG_TYPES] = {
        [CONFIG_TYPE_BIND] = {parse_bind, bind_to_json, bind_done, bind_allowed},
        [CONFIG_TYPE_ACCESS] = {parse_access, access_to_json, access_done, access_allowed},
        [CONFIG_TYPE_SOCKET] = {parse_socket, bind_to_json, bind_done, socket_allowed},
        [CONFIG_TYPE_MODE] = {parse_mode, mode_to_json, NULL, mode_allowed},
        [CONFIG_TYPE_URL_PATH] = {parse_url_path, config_string_to_json, config_string_done,
            url_path_allowed},
        [CONFIG_TYPE_ORIGINS] = {parse_origins, origins_to_json, origins_done, origins_allowed},
    };
    return types[type].parse != NULL ? &types[type] : NULL;
}
