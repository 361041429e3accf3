/*
 * Types of configuration values: each is one row of handlers. Strict about JSON types (a quoted number is no
 * number), since what a person did not mean should not pass. No I/O but a look at the files that values name.
 */
#include "shared/config_value.h"

#include "shared/config_path.h"
#include "shared/config_units.h"
#include "shared/config_value_private.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define FOUND_TEXT_MAX 80 /* of a wrong value in a message */
#define FILE_NAME_MAX  4095

bool config_value_refuse(const struct value *value, const char *detail)
{
    char allowed[CONFIG_ALLOWED_TEXT_MAX];
    config_value_allowed(value->row, allowed);
    bool secret = strcmp(config_row_key(value->row), "password") == 0;
    char *found = secret ? NULL : json_dumps(value->json, JSON_ENCODE_ANY | JSON_COMPACT);
    config_complain(value->context, value->path, "found %.*s%s%s%s; allowed: %s", FOUND_TEXT_MAX,
        found ? found : "something else", found && strlen(found) > FOUND_TEXT_MAX ? "…" : "",
        detail ? ", " : "", detail ? detail : "", allowed);
    free(found);
    return false;
}

static const struct config_choice *choice_by_word(const struct config_choice *choices, const char *word)
{
    for (; choices != NULL && choices->word != NULL; choices++)
        if (strcmp(choices->word, word) == 0)
            return choices;
    return NULL;
}

static const char *word_by_value(const struct config_choice *choices, uint32_t value)
{
    for (; choices != NULL && choices->word != NULL; choices++)
        if (choices->value == value)
            return choices->word;
    return NULL;
}

void config_value_append(char *to, size_t room, const char *format, ...)
{
    size_t used = strlen(to);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(to + used, room - used, format, arguments);
    va_end(arguments);
}

/* "true" stands for JSON's true, not for the word in quotes. */
static bool is_json_word(const char *word)
{
    return strcmp(word, "true") == 0 || strcmp(word, "false") == 0;
}

static void append_words(const struct config_choice *choices, char *to, size_t room)
{
    for (const struct config_choice *choice = choices; choice->word != NULL; choice++) {
        const char *quote = is_json_word(choice->word) ? "" : "\"";
        const char *between = choice == choices ? "" : choice[1].word == NULL ? " or " : ", ";
        config_value_append(to, room, "%s%s%s%s", between, quote, choice->word, quote);
    }
}

/* bool ------------------------------------------------------------------------------------------------------
 */

static bool parse_bool(const struct value *value, void *field)
{
    if (!json_is_boolean(value->json))
        return config_value_refuse(value, NULL);
    *(bool *)field = json_is_true(value->json);
    return true;
}

static json_t *bool_to_json(const struct config_row *row, const void *field)
{
    (void)row;
    return json_boolean(*(const bool *)field);
}

static void bool_allowed(const struct config_row *row, char *to, size_t room)
{
    (void)row;
    config_value_append(to, room, "true or false");
}

/* Numbers ---------------------------------------------------------------------------------------------------
 */

static bool in_range(const struct config_row *row, double number)
{
    return number >= row->minimum && number <= row->maximum;
}

static bool parse_integer(const struct value *value, void *field)
{
    const struct config_choice *choice =
        json_is_string(value->json) ? choice_by_word(value->row->choices, json_string_value(value->json))
                                    : NULL;
    if (choice != NULL) {
        *(uint32_t *)field = choice->value;
        return true;
    }
    if (!json_is_integer(value->json) || !in_range(value->row, (double)json_integer_value(value->json)))
        return config_value_refuse(value, NULL);
    *(uint32_t *)field = (uint32_t)json_integer_value(value->json);
    return true;
}

static json_t *integer_to_json(const struct config_row *row, const void *field)
{
    uint32_t number = *(const uint32_t *)field;
    const char *word = word_by_value(row->choices, number);
    return word ? json_string(word) : json_integer(number);
}

static void integer_allowed(const struct config_row *row, char *to, size_t room)
{
    config_value_append(to, room, "a whole number from %.0f to %.0f", row->minimum, row->maximum);
    if (row->choices != NULL) {
        config_value_append(to, room, ", or ");
        append_words(row->choices, to, room);
    }
}

static bool parse_real(const struct value *value, void *field)
{
    if (!json_is_number(value->json) || !in_range(value->row, json_number_value(value->json)))
        return config_value_refuse(value, NULL);
    *(double *)field = json_number_value(value->json);
    return true;
}

static json_t *real_to_json(const struct config_row *row, const void *field)
{
    (void)row;
    return json_real(*(const double *)field);
}

static void real_allowed(const struct config_row *row, char *to, size_t room)
{
    config_value_append(to, room, "a number from %g to %g", row->minimum, row->maximum);
}

/* Sizes and durations ---------------------------------------------------------------------------------------
 */

static bool parse_size(const struct value *value, void *field)
{
    uint64_t bytes;
    if (json_is_integer(value->json) && json_integer_value(value->json) >= 0)
        bytes = (uint64_t)json_integer_value(value->json);
    else if (!json_is_string(value->json) ||
             config_size_parse(json_string_value(value->json), &bytes) != STATUS_OK)
        return config_value_refuse(value, NULL);
    if (!in_range(value->row, (double)bytes))
        return config_value_refuse(value, NULL);
    *(size_t *)field = bytes;
    return true;
}

static json_t *size_to_json(const struct config_row *row, const void *field)
{
    (void)row;
    return json_integer((json_int_t) * (const size_t *)field);
}

static void size_allowed(const struct config_row *row, char *to, size_t room)
{
    char least[CONFIG_UNITS_TEXT_MAX];
    char most[CONFIG_UNITS_TEXT_MAX];
    config_size_format((uint64_t)row->minimum, least);
    config_size_format((uint64_t)row->maximum, most);
    config_value_append(to, room, "a size from %s to %s, such as 65536, \"64KiB\" or \"1MB\"", least, most);
}

/* Milliseconds of a JSON value: a string with units, or a number of seconds. */
static bool duration_ms(const json_t *json, uint64_t *ret_ms)
{
    if (json_is_string(json))
        return config_duration_parse(json_string_value(json), ret_ms) == STATUS_OK;
    double seconds = json_number_value(json);
    if (!json_is_number(json) || !(seconds >= 0 && seconds < 1e12))
        return false;
    *ret_ms = (uint64_t)(seconds * 1000 + 0.5);
    return true;
}

static bool parse_ms(const struct value *value, void *field)
{
    uint64_t ms;
    if (!duration_ms(value->json, &ms) || !in_range(value->row, (double)ms))
        return config_value_refuse(value, NULL);
    *(uint32_t *)field = (uint32_t)ms;
    return true;
}

static bool parse_seconds(const struct value *value, void *field)
{
    uint64_t ms;
    if (!duration_ms(value->json, &ms))
        return config_value_refuse(value, NULL);
    if (ms % 1000 != 0)
        return config_value_refuse(value, "not a whole number of seconds");
    uint64_t seconds = ms / 1000;
    if (!in_range(value->row, (double)seconds))
        return config_value_refuse(value, NULL);
    *(uint32_t *)field = (uint32_t)seconds;
    return true;
}

static json_t *duration_to_json(uint64_t ms)
{
    char text[CONFIG_UNITS_TEXT_MAX];
    config_duration_format(ms, text);
    return json_string(text);
}

static json_t *ms_to_json(const struct config_row *row, const void *field)
{
    (void)row;
    return duration_to_json(*(const uint32_t *)field);
}

static json_t *seconds_to_json(const struct config_row *row, const void *field)
{
    (void)row;
    return duration_to_json(*(const uint32_t *)field * 1000ull);
}

static void append_duration_range(double least_ms, double most_ms, const char *example, char *to, size_t room)
{
    char least[CONFIG_UNITS_TEXT_MAX];
    char most[CONFIG_UNITS_TEXT_MAX];
    config_duration_format((uint64_t)least_ms, least);
    config_duration_format((uint64_t)most_ms, most);
    config_value_append(to, room, "a duration from %s to %s, such as %s", least, most, example);
}

static void ms_allowed(const struct config_row *row, char *to, size_t room)
{
    append_duration_range(row->minimum, row->maximum, "\"500ms\", \"30s\" or 30", to, room);
}

static void seconds_allowed(const struct config_row *row, char *to, size_t room)
{
    append_duration_range(row->minimum * 1000, row->maximum * 1000, "\"30s\", \"2h\" or 30", to, room);
}

/* Strings and paths -----------------------------------------------------------------------------------------
 */

char *config_copy_text(const char *text)
{
    char *copy = strdup(text);
    assert(copy != NULL);
    return copy;
}

static bool parse_string(const struct value *value, void *field)
{
    if (!json_is_string(value->json) || !in_range(value->row, (double)json_string_length(value->json)))
        return config_value_refuse(value, NULL);
    *(char **)field = config_copy_text(json_string_value(value->json));
    return true;
}

json_t *config_string_to_json(const struct config_row *row, const void *field)
{
    (void)row;
    const char *text = *(char *const *)field;
    return text ? json_string(text) : NULL;
}

void config_string_done(void *field)
{
    free(*(char **)field);
    *(char **)field = NULL;
}

static void string_allowed(const struct config_row *row, char *to, size_t room)
{
    config_value_append(to, room, "a string of %.0f to %.0f bytes", row->minimum, row->maximum);
}

static bool parse_name(const struct value *value, void *field)
{
    static const char characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const char *text = json_string_value(value->json);
    if (text != NULL && text[strspn(text, characters)] != '\0')
        return config_value_refuse(value, NULL);
    return parse_string(value, field);
}

static void name_allowed(const struct config_row *row, char *to, size_t room)
{
    config_value_append(
        to, room, "%.0f to %.0f letters, digits, '.', '_' or '-'", row->minimum, row->maximum);
}

/*
 * Sets the field to the absolute path. `unfit` says what is wrong with it, or NULL. An unfit path is set all
 * the same, so that the checks of the whole do not call it missing.
 */
static bool parse_path(const struct value *value, const char *(*unfit)(const char *path), void *field)
{
    const char *text = json_string_value(value->json);
    if (text == NULL || *text == '\0' || strlen(text) > FILE_NAME_MAX)
        return config_value_refuse(value, NULL);
    char *path = config_path_join(value->context->base, text);
    assert(path != NULL);
    *(char **)field = path;
    const char *reason = value->context->handed ? NULL : unfit(path);
    if (reason == NULL)
        return true;
    char detail[FILE_NAME_MAX + 256];
    snprintf(detail, sizeof detail, "which is %s: %s", path, reason);
    return config_value_refuse(value, detail);
}

static bool parse_file(const struct value *value, void *field)
{
    return parse_path(value, config_path_unreadable, field);
}

static bool parse_folder(const struct value *value, void *field)
{
    return parse_path(value, config_path_not_folder, field);
}

static void file_allowed(const struct config_row *row, char *to, size_t room)
{
    (void)row;
    config_value_append(to, room, "the path of a readable file");
}

static void folder_allowed(const struct config_row *row, char *to, size_t room)
{
    (void)row;
    config_value_append(to, room, "the path of a folder");
}

/* Choices ---------------------------------------------------------------------------------------------------
 */

static const struct config_choice *choice_of(const struct config_row *row, const json_t *json)
{
    const char *word = json_string_value(json);
    if (json_is_boolean(json))
        return choice_by_word(row->choices, json_is_true(json) ? "true" : "false");
    return word != NULL && !is_json_word(word) ? choice_by_word(row->choices, word) : NULL;
}

static bool parse_choice(const struct value *value, void *field)
{
    const struct config_choice *choice = choice_of(value->row, value->json);
    if (choice == NULL)
        return config_value_refuse(value, NULL);
    *(uint32_t *)field = choice->value; /* an enum whose values are not negative has this type */
    return true;
}

static json_t *choice_to_json(const struct config_row *row, const void *field)
{
    const char *word = word_by_value(row->choices, *(const uint32_t *)field);
    assert(word != NULL);
    return is_json_word(word) ? json_boolean(strcmp(word, "true") == 0) : json_string(word);
}

static void choice_allowed(const struct config_row *row, char *to, size_t room)
{
    append_words(row->choices, to, room);
}

static bool parse_choice_list(const struct value *value, void *field)
{
    uint32_t mask = 0;
    size_t index;
    json_t *item;
    json_array_foreach((json_t *)value->json, index, item)
    {
        const struct config_choice *choice = choice_of(value->row, item);
        if (choice == NULL)
            return config_value_refuse(value, NULL);
        if (mask & choice->value)
            return config_value_refuse(value, "one of them twice");
        mask |= choice->value;
    }
    if (mask == 0)
        return config_value_refuse(value, NULL);
    *(uint32_t *)field = mask;
    return true;
}

static json_t *choice_list_to_json(const struct config_row *row, const void *field)
{
    json_t *list = json_array();
    for (const struct config_choice *choice = row->choices; choice->word != NULL; choice++)
        if (*(const uint32_t *)field & choice->value)
            json_array_append_new(list, json_string(choice->word));
    return list;
}

static void choice_list_allowed(const struct config_row *row, char *to, size_t room)
{
    config_value_append(to, room, "a list of at least one of ");
    append_words(row->choices, to, room);
}

/* The types -------------------------------------------------------------------------------------------------
 */

static const struct type_handlers types[] = {
    [CONFIG_TYPE_BOOL] = {parse_bool, bool_to_json, NULL, bool_allowed},
    [CONFIG_TYPE_INTEGER] = {parse_integer, integer_to_json, NULL, integer_allowed},
    [CONFIG_TYPE_REAL] = {parse_real, real_to_json, NULL, real_allowed},
    [CONFIG_TYPE_SIZE] = {parse_size, size_to_json, NULL, size_allowed},
    [CONFIG_TYPE_MS] = {parse_ms, ms_to_json, NULL, ms_allowed},
    [CONFIG_TYPE_SECONDS] = {parse_seconds, seconds_to_json, NULL, seconds_allowed},
    [CONFIG_TYPE_STRING] = {parse_string, config_string_to_json, config_string_done, string_allowed},
    [CONFIG_TYPE_NAME] = {parse_name, config_string_to_json, config_string_done, name_allowed},
    [CONFIG_TYPE_FILE] = {parse_file, config_string_to_json, config_string_done, file_allowed},
    [CONFIG_TYPE_FOLDER] = {parse_folder, config_string_to_json, config_string_done, folder_allowed},
    [CONFIG_TYPE_CHOICE] = {parse_choice, choice_to_json, NULL, choice_allowed},
    [CONFIG_TYPE_CHOICE_LIST] = {parse_choice_list, choice_list_to_json, NULL, choice_list_allowed},
};

static const struct type_handlers *handlers_of(const struct config_row *row)
{
    const struct type_handlers *handlers = config_listener_type_handlers(row->type);
    if (handlers == NULL)
        handlers = config_topic_type_handlers(row->type);
    return handlers != NULL ? handlers : &types[row->type];
}

void *config_field(const struct config_row *row, void *holder)
{
    return (char *)holder + row->offset;
}

bool config_value_parse(const struct config_context *context, const char *path, const struct config_row *row,
    const json_t *json, void *field)
{
    struct value value = {.context = context, .path = path, .row = row, .json = json};
    return handlers_of(row)->parse(&value, field);
}

json_t *config_value_to_json(const struct config_row *row, const void *field)
{
    return handlers_of(row)->to_json(row, field);
}

void config_value_done(const struct config_row *row, void *field)
{
    if (handlers_of(row)->done != NULL)
        handlers_of(row)->done(field);
}

void config_value_allowed(const struct config_row *row, char to[CONFIG_ALLOWED_TEXT_MAX])
{
    to[0] = '\0';
    handlers_of(row)->allowed(row, to, CONFIG_ALLOWED_TEXT_MAX);
}
