/*
 * Configuration values that are lists of objects: each object becomes one item of an array of structs, by a
 * table of its members. What they share; inside the configuration modules only. No I/O.
 */
#ifndef SHARED_CONFIG_VALUE_LIST_H
#define SHARED_CONFIG_VALUE_LIST_H

#include "shared/config_value_private.h"

enum config_member_kind {
    CONFIG_MEMBER_TEXT,   /* char *, owned */
    CONFIG_MEMBER_FLAG,   /* bool; absent: false */
    CONFIG_MEMBER_NUMBER, /* uint32_t up to `maximum`; absent: 0 */
    CONFIG_MEMBER_WORD,   /* an enum; one word of `choices`; absent: 0 */
};

struct config_member {
    const char *key;
    enum config_member_kind kind;
    size_t offset; /* in the item */
    bool required;
    uint32_t maximum;                    /* of a number; of a text's bytes */
    const struct config_choice *choices; /* of a word */
};

struct config_list_type {
    const struct config_member *members;
    size_t member_count;
    size_t item_size;
    size_t items_max;
    /* What is wrong with an item whose members are all right by themselves, and with which; NULL: nothing. */
    const char *(*check)(const void *item, const char **ret_key);
};

/* The field is a struct config_list. */
bool config_list_parse(const struct value *value, const struct config_list_type *type, void *field);
json_t *config_list_to_json(const struct config_list_type *type, const void *field);
void config_list_done(const struct config_list_type *type, void *field);

#endif
