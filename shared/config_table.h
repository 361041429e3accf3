/*
 * The one table of all configuration keys: parsing, checking, defaults, the handed-over JSON, the reference
 * and the suggestions for misspelt keys are all made from it. A new key is a new row and a new field, nothing
 * else.
 */
#ifndef SHARED_CONFIG_TABLE_H
#define SHARED_CONFIG_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum config_type {             /* the field behind it */
    CONFIG_TYPE_BOOL,          /* bool */
    CONFIG_TYPE_INTEGER,       /* uint32_t */
    CONFIG_TYPE_REAL,          /* double */
    CONFIG_TYPE_SIZE,          /* size_t, bytes */
    CONFIG_TYPE_MS,            /* uint32_t, milliseconds */
    CONFIG_TYPE_SECONDS,       /* uint32_t, whole seconds */
    CONFIG_TYPE_STRING,        /* char *, owned, may be NULL */
    CONFIG_TYPE_NAME,          /* char *: letters, digits, '.', '_', '-' */
    CONFIG_TYPE_FILE,          /* char *, absolute: a file to read */
    CONFIG_TYPE_FOLDER,        /* char *, absolute: made when missing */
    CONFIG_TYPE_CHOICE,        /* an enum; one word of `choices` */
    CONFIG_TYPE_CHOICE_LIST,   /* uint32_t, mask of the words' values; not empty */
    CONFIG_TYPE_BIND,          /* struct config_bind */
    CONFIG_TYPE_ACCESS,        /* struct config_access */
    CONFIG_TYPE_SOCKET,        /* struct config_bind: the path of a Unix socket */
    CONFIG_TYPE_MODE,          /* uint32_t: permissions of a file, in octal */
    CONFIG_TYPE_URL_PATH,      /* char *: the path of a URL */
    CONFIG_TYPE_ORIGINS,       /* struct config_origins */
    CONFIG_TYPE_MOUNTPOINT,    /* char *: a prefix of topics, with placeholders */
    CONFIG_TYPE_SUBSCRIPTIONS, /* struct config_list of struct config_subscription */
    CONFIG_TYPE_REWRITE_RULES, /* struct config_list of struct config_rewrite_rule */
    CONFIG_TYPES,
};

struct config_choice {
    const char *word; /* NULL ends the list; "true" and "false" also stand for JSON's */
    uint32_t value;
};

#define CONFIG_REQUIRED "" /* no JSON value */

struct config_row {
    const char *path; /* "mqtt.max_qos"; "listeners.*.backlog"; "listeners.ssl:*.keyfile" */
    enum config_type type;
    size_t offset;                       /* in struct config; for listeners.* in struct config_listener */
    const char *default_json;            /* NULL: none; the field stays zero */
    double minimum, maximum;             /* of numbers, in the field's unit; of a string's length */
    const struct config_choice *choices; /* for an integer: words allowed besides numbers */
    const char *text;                    /* one or two sentences of documentation */
};

extern const struct config_row config_table[];
extern const size_t config_table_size;

/* What a section is for, in the order of the reference; ends with a NULL name. */
struct config_section {
    const char *name;
    const char *text;
};
extern const struct config_section config_sections[];

/* The types of listeners that have the row's key, as bits 1 << enum config_listener_type; 0: a key of a
   section of the node. */
uint32_t config_row_listeners(const struct config_row *row);

/* Must the key be given? */
bool config_row_required(const struct config_row *row);

/* Section ("mqtt", "listeners") and key ("max_qos") of a row. */
size_t config_row_section_size(const struct config_row *row); /* bytes of path that are the section */
const char *config_row_key(const struct config_row *row);     /* points into path */

#endif
