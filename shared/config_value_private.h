/* What the files of config_value.h share: a value that is parsed, and a type's handlers. Nobody else includes
 * it. */
#ifndef SHARED_CONFIG_VALUE_PRIVATE_H
#define SHARED_CONFIG_VALUE_PRIVATE_H

#include "shared/config_value.h"

/* What a parser is given: everything about the value but the field. */
struct value {
    const struct config_context *context;
    const char *path;
    const struct config_row *row;
    const json_t *json;
};

struct type_handlers {
    bool (*parse)(const struct value *value, void *field);
    json_t *(*to_json)(const struct config_row *row, const void *field);
    void (*done)(void *field); /* NULL: owns nothing */
    void (*allowed)(const struct config_row *row, char *to, size_t room);
};

/* The handlers of types that only listeners have, or NULL: another type. */
const struct type_handlers *config_listener_type_handlers(enum config_type type);
/* The same of types that are about topics. */
const struct type_handlers *config_topic_type_handlers(enum config_type type);

/* "found 12; allowed: …". `detail`, when not NULL, is what is wrong with the value found. Returns false. */
bool config_value_refuse(const struct value *value, const char *detail);

/* Appends to a bounded text. */
void config_value_append(char *to, size_t room, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A heap copy. */
char *config_copy_text(const char *text);

/* Handlers of fields that are one string. */
json_t *config_string_to_json(const struct config_row *row, const void *field);
void config_string_done(void *field);

#endif
