/* Lists of objects in the configuration, by tables of their members. No I/O. */
#include "shared/config_value_list.h"

#include "shared/config.h"
#include "shared/config_path.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void *member_at(const struct config_member *member, const void *item)
{
    return (char *)item + member->offset;
}

static const struct config_member *member_named(const struct config_list_type *type, const char *key)
{
    for (size_t i = 0; i < type->member_count; i++)
        if (strcmp(type->members[i].key, key) == 0)
            return &type->members[i];
    return NULL;
}

/* Complains under "section.key[3].member". Returns false. */
static bool refuse(const struct value *value, const char *key, const json_t *json, const char *detail)
{
    char path[CONFIG_PATH_TEXT_MAX];
    struct value wrong = *value;
    snprintf(path, sizeof path, "%s.%s", value->path, key);
    wrong.path = path;
    wrong.json = json;
    return config_value_refuse(&wrong, detail);
}

static bool missing(const struct value *value, const char *key)
{
    char detail[64];
    snprintf(detail, sizeof detail, "without the key \"%s\"", key);
    return config_value_refuse(value, detail);
}

static bool set_text(const struct config_member *member, const json_t *json, void *to)
{
    size_t size = json_string_length(json);
    if (!json_is_string(json) || size == 0 || size > member->maximum ||
        strlen(json_string_value(json)) != size)
        return false;
    *(char **)to = config_copy_text(json_string_value(json));
    return true;
}

static bool set_word(const struct config_member *member, const json_t *json, void *to)
{
    const char *word = json_string_value(json);
    for (const struct config_choice *choice = member->choices; word != NULL && choice->word != NULL;
         choice++) {
        if (strcmp(choice->word, word) != 0)
            continue;
        *(uint32_t *)to = choice->value; /* an enum whose values are not negative has this type */
        return true;
    }
    return false;
}

static bool set_member(const struct config_member *member, const json_t *json, void *to)
{
    switch (member->kind) {
    case CONFIG_MEMBER_TEXT:
        return set_text(member, json, to);
    case CONFIG_MEMBER_FLAG:
        *(bool *)to = json_is_true(json);
        return json_is_boolean(json);
    case CONFIG_MEMBER_NUMBER:
        if (!json_is_integer(json) || json_integer_value(json) < 0 ||
            json_integer_value(json) > member->maximum)
            return false;
        *(uint32_t *)to = (uint32_t)json_integer_value(json);
        return true;
    case CONFIG_MEMBER_WORD:
        return set_word(member, json, to);
    }
    return false;
}

static void item_done(const struct config_list_type *type, void *item)
{
    for (size_t i = 0; i < type->member_count; i++)
        if (type->members[i].kind == CONFIG_MEMBER_TEXT)
            config_string_done(member_at(&type->members[i], item));
}

/* Fills a zeroed item. */
static bool parse_item(const struct value *value, const struct config_list_type *type, void *item)
{
    if (!json_is_object(value->json))
        return config_value_refuse(value, NULL);
    bool fine = true;
    const char *key;
    json_t *json;
    json_object_foreach((json_t *)value->json, key, json)
    {
        const struct config_member *member = member_named(type, key);
        if (strncmp(key, "//", 2) == 0)
            continue; /* a comment */
        if (member == NULL)
            fine = refuse(value, key, json, "no such key");
        else if (!set_member(member, json, member_at(member, item)))
            fine = refuse(value, key, json, NULL);
    }
    for (size_t i = 0; i < type->member_count; i++)
        if (type->members[i].required && json_object_get(value->json, type->members[i].key) == NULL)
            fine = missing(value, type->members[i].key);
    const char *wrong_key = NULL;
    const char *wrong = fine ? type->check(item, &wrong_key) : NULL;
    return wrong == NULL ? fine : refuse(value, wrong_key, json_object_get(value->json, wrong_key), wrong);
}

bool config_list_parse(const struct value *value, const struct config_list_type *type, void *field)
{
    size_t count = json_array_size(value->json);
    if (!json_is_array(value->json) || count > type->items_max)
        return config_value_refuse(value, NULL);
    struct config_list list = {.items = calloc(count + 1, type->item_size), .count = count};
    assert(list.items != NULL);
    bool fine = true;
    for (size_t i = 0; i < count; i++) {
        char path[CONFIG_PATH_TEXT_MAX];
        struct value item = *value;
        snprintf(path, sizeof path, "%s[%zu]", value->path, i);
        item.path = path;
        item.json = json_array_get(value->json, i);
        fine &= parse_item(&item, type, (char *)list.items + i * type->item_size);
    }
    if (fine)
        *(struct config_list *)field = list;
    else
        config_list_done(type, &list);
    return fine;
}

static json_t *member_to_json(const struct config_member *member, const void *at)
{
    switch (member->kind) {
    case CONFIG_MEMBER_TEXT:
        return *(char *const *)at == NULL ? NULL : json_string(*(char *const *)at);
    case CONFIG_MEMBER_FLAG:
        return json_boolean(*(const bool *)at);
    case CONFIG_MEMBER_NUMBER:
        return json_integer(*(const uint32_t *)at);
    case CONFIG_MEMBER_WORD:
        for (const struct config_choice *choice = member->choices; choice->word != NULL; choice++)
            if (choice->value == *(const uint32_t *)at)
                return json_string(choice->word);
    }
    return NULL;
}

json_t *config_list_to_json(const struct config_list_type *type, const void *field)
{
    const struct config_list *list = field;
    if (list->count == 0)
        return NULL;
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++) {
        json_t *object = json_object();
        for (size_t k = 0; k < type->member_count; k++) {
            const struct config_member *member = &type->members[k];
            json_t *json =
                member_to_json(member, member_at(member, (char *)list->items + i * type->item_size));
            if (json != NULL)
                json_object_set_new(object, member->key, json);
        }
        json_array_append_new(array, object);
    }
    return array;
}

void config_list_done(const struct config_list_type *type, void *field)
{
    struct config_list *list = field;
    for (size_t i = 0; i < list->count; i++)
        item_done(type, (char *)list->items + i * type->item_size);
    free(list->items);
    *list = (struct config_list){0};
}
