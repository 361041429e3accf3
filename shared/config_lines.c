/*
 * Walks a JSON text along a path, or as a whole, and counts lines. Finding a line starts from the top each
 * time, since something is wrong then; keys with escapes are not matched there: none of ours has any.
 */
#include "shared/config_lines.h"

#include "shared/config_context.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 64

struct cursor {
    const char *at;
    const char *end;
    unsigned line;
};

static void skip_space(struct cursor *cursor)
{
    for (; cursor->at < cursor->end && strchr(" \t\r\n", *cursor->at) != NULL; cursor->at++)
        if (*cursor->at == '\n')
            cursor->line++;
}

static bool take(struct cursor *cursor, char c)
{
    skip_space(cursor);
    if (cursor->at >= cursor->end || *cursor->at != c)
        return false;
    cursor->at++;
    return true;
}

/* A string; *ret_text is what stands between its quotes, escapes and all. */
static bool take_string(struct cursor *cursor, const char **ret_text, size_t *ret_size)
{
    if (!take(cursor, '"'))
        return false;
    *ret_text = cursor->at;
    for (; cursor->at < cursor->end && *cursor->at != '"'; cursor->at++)
        if (*cursor->at == '\\' && ++cursor->at >= cursor->end)
            return false;
    if (cursor->at >= cursor->end)
        return false;
    *ret_size = (size_t)(cursor->at++ - *ret_text);
    return true;
}

/* If `path` starts with this key, what follows it ("" at the end of the path); otherwise NULL. */
static const char *path_after_key(const char *path, const char *key, size_t size)
{
    if (path == NULL || strncmp(path, key, size) != 0)
        return NULL;
    path += size;
    if (*path == '.')
        return path + 1;
    return *path == '\0' || *path == '[' ? path : NULL;
}

static const char *path_after_index(const char *path, unsigned index)
{
    if (path == NULL || *path != '[')
        return NULL;
    char *end;
    unsigned long wanted = strtoul(path + 1, &end, 10);
    if (wanted != index || *end != ']')
        return NULL;
    return end[1] == '.' ? end + 2 : end + 1;
}

/* Walks over one value; `path` (NULL: not in here) is what remains to find. True: found, *line is set. */
static bool walk(struct cursor *cursor, const char *path, unsigned depth, unsigned *line);

static bool walk_object(struct cursor *cursor, const char *path, unsigned depth, unsigned *line)
{
    const char *key;
    size_t size;
    while (take_string(cursor, &key, &size)) {
        const char *rest = path_after_key(path, key, size);
        if (rest != NULL && *rest == '\0') {
            *line = cursor->line;
            return true;
        }
        if (!take(cursor, ':'))
            return false;
        if (walk(cursor, rest, depth + 1, line))
            return true;
        if (!take(cursor, ','))
            break;
    }
    (void)take(cursor, '}');
    return false;
}

static bool walk_array(struct cursor *cursor, const char *path, unsigned depth, unsigned *line)
{
    for (unsigned index = 0; !take(cursor, ']'); index++) {
        const char *rest = path_after_index(path, index);
        if (cursor->at >= cursor->end)
            return false;
        if (rest != NULL && *rest == '\0') {
            *line = cursor->line;
            return true;
        }
        if (walk(cursor, rest, depth + 1, line))
            return true;
        if (!take(cursor, ',') && (cursor->at >= cursor->end || *cursor->at != ']'))
            return false;
    }
    return false;
}

static bool walk(struct cursor *cursor, const char *path, unsigned depth, unsigned *line)
{
    const char *text;
    size_t size;
    if (depth > DEPTH_MAX)
        return false;
    if (take(cursor, '{'))
        return walk_object(cursor, path, depth, line);
    if (take(cursor, '['))
        return walk_array(cursor, path, depth, line);
    if (take_string(cursor, &text, &size))
        return false;
    while (cursor->at < cursor->end && strchr(",]} \t\r\n", *cursor->at) == NULL)
        cursor->at++;
    return false;
}

unsigned config_line_of(const char *text, size_t size, const char *path)
{
    struct cursor cursor = {.at = text, .end = text + size, .line = 1};
    unsigned line = 0;
    (void)walk(&cursor, path, 0, &line);
    return line;
}

/* Keys that stand twice ------------------------------------------------------------------------------------
 */

struct search {
    struct cursor cursor;
    config_repeated found;
    void *context;
};

static void search_value(struct search *search, const char *path, unsigned depth);

/* A key as jansson reads it, escapes and all; owned. */
static json_t *decode_key(const char *key, size_t size)
{
    json_t *decoded = json_loadb(key - 1, size + 2, JSON_DECODE_ANY, NULL);
    return json_is_string(decoded) ? decoded : NULL;
}

/* `lines`: the keys of this object so far, each with its line. */
static void note_key(struct search *search, json_t *lines, const char *path, const char *key, unsigned line)
{
    const json_t *first = json_object_get(lines, key);
    if (strncmp(key, "//", 2) == 0)
        return;
    if (first != NULL)
        search->found(search->context, path, line, (unsigned)json_integer_value(first));
    else
        json_object_set_new(lines, key, json_integer(line));
}

static void search_object(struct search *search, const char *path, unsigned depth)
{
    const char *key;
    size_t size;
    json_t *lines = json_object();
    assert(lines != NULL);
    while (take_string(&search->cursor, &key, &size)) {
        char below[CONFIG_PATH_TEXT_MAX];
        unsigned line = search->cursor.line;
        json_t *decoded = decode_key(key, size);
        if (decoded == NULL || !take(&search->cursor, ':')) {
            json_decref(decoded);
            break;
        }
        const char *name = json_string_value(decoded);
        snprintf(below, sizeof below, "%s%s%s", path, *path != '\0' ? "." : "", name);
        note_key(search, lines, below, name, line);
        search_value(search, below, depth + 1);
        json_decref(decoded);
        if (!take(&search->cursor, ','))
            break;
    }
    json_decref(lines);
    (void)take(&search->cursor, '}');
}

static void search_array(struct search *search, const char *path, unsigned depth)
{
    for (unsigned index = 0; !take(&search->cursor, ']'); index++) {
        char below[CONFIG_PATH_TEXT_MAX];
        const char *before = search->cursor.at;
        snprintf(below, sizeof below, "%s[%u]", path, index);
        search_value(search, below, depth + 1);
        (void)take(&search->cursor, ',');
        if (search->cursor.at == before)
            return; /* not what jansson would have accepted */
    }
}

static void search_value(struct search *search, const char *path, unsigned depth)
{
    struct cursor *cursor = &search->cursor;
    const char *text;
    size_t size;
    if (depth > DEPTH_MAX)
        return;
    if (take(cursor, '{'))
        search_object(search, path, depth);
    else if (take(cursor, '['))
        search_array(search, path, depth);
    else if (!take_string(cursor, &text, &size))
        while (cursor->at < cursor->end && strchr(",]} \t\r\n", *cursor->at) == NULL)
            cursor->at++;
}

void config_find_repeated(const char *text, size_t size, config_repeated found, void *context)
{
    struct search search = {
        .cursor = {.at = text, .end = text + size, .line = 1}, .found = found, .context = context};
    search_value(&search, "", 0);
}
