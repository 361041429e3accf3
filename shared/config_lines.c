/*
 * Walks a JSON text along a path and counts lines. Runs only when something is wrong, so it starts from the
 * top each time. Keys with escapes are not matched: none of ours has any.
 */
#include "shared/config_lines.h"

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
