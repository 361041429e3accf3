/*
 * Reads the lines of an emq.conf into directives. For the import tool and its tests; a strange line costs a
 * warning, never the import.
 */
#include "shared/emq_file.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char blanks[] = " \t\r";

static void add(struct emq_file *file, unsigned line, char *key, char *value)
{
    struct emq_directive *grown = realloc(file->directives, (file->count + 1) * sizeof *grown);
    assert(grown != NULL && key != NULL && value != NULL);
    file->directives = grown;
    grown[file->count++] = (struct emq_directive){.line = line, .key = key, .value = value};
}

/* Moves the run's start and end past blanks. */
static void trim(const char **start, const char **end)
{
    while (*start < *end && strchr(blanks, **start) != NULL)
        (*start)++;
    while (*end > *start && strchr(blanks, (*end)[-1]) != NULL)
        (*end)--;
}

/* Where a comment starts: a # at the start of the line or after a blank; a file's name may hold one. */
static const char *find_comment(const char *start, const char *end)
{
    for (const char *at = start; at < end; at++)
        if (*at == '#' && (at == start || strchr(blanks, at[-1]) != NULL))
            return at;
    return end;
}

static void parse_line(const struct config_context *context, unsigned line, const char *start,
    const char *end, struct emq_file *file)
{
    end = find_comment(start, end);
    trim(&start, &end);
    if (start == end)
        return;
    const char *equals = memchr(start, '=', (size_t)(end - start));
    const char *key_end = equals;
    if (equals == NULL || equals == start) {
        config_warn_line(context, line, "no «key = value», left out");
        return;
    }
    trim(&start, &key_end);
    const char *value = equals + 1;
    trim(&value, &end);
    add(file, line, strndup(start, (size_t)(key_end - start)), strndup(value, (size_t)(end - value)));
}

/* Of a key given more than once only the last stays. */
static void drop_repeated(const struct config_context *context, struct emq_file *file)
{
    size_t kept = 0;
    for (size_t i = 0; i < file->count; i++) {
        struct emq_directive *directive = &file->directives[i];
        size_t later = file->count - 1;
        while (later > i && strcmp(file->directives[later].key, directive->key) != 0)
            later--;
        if (later == i) {
            file->directives[kept++] = *directive;
            continue;
        }
        config_warn_line(context, directive->line, "%s: given again on line %u, which counts", directive->key,
            file->directives[later].line);
        free(directive->key);
        free(directive->value);
    }
    file->count = kept;
}

void emq_file_parse(
    const struct config_context *context, const char *text, size_t size, struct emq_file *ret_file)
{
    struct emq_file file = {0};
    const char *end = text + size;
    for (unsigned line = 1; text < end; line++) {
        const char *line_end = memchr(text, '\n', (size_t)(end - text));
        if (line_end == NULL)
            line_end = end;
        parse_line(context, line, text, line_end, &file);
        text = line_end < end ? line_end + 1 : end;
    }
    drop_repeated(context, &file);
    *ret_file = file;
}

void emq_file_done(struct emq_file *file)
{
    for (size_t i = 0; i < file->count; i++) {
        free(file->directives[i].key);
        free(file->directives[i].value);
    }
    free(file->directives);
    *file = (struct emq_file){0};
}

void emq_file_imply(struct emq_file *file, const char *key, const char *value)
{
    add(file, 0, strdup(key), strdup(value));
}

const struct emq_directive *emq_file_find(const struct emq_file *file, const char *key)
{
    for (size_t i = 0; i < file->count; i++)
        if (strcmp(file->directives[i].key, key) == 0)
            return &file->directives[i];
    return NULL;
}

bool emq_key_matches(const char *key, const char *pattern)
{
    while (*pattern != '\0') {
        size_t pattern_size = strcspn(pattern, ".");
        size_t key_size = strcspn(key, ".");
        if (pattern_size == 2 && strncmp(pattern, "**", 2) == 0)
            return true;
        bool any = pattern_size == 1 && *pattern == '*' && key_size > 0;
        if (!any && (pattern_size != key_size || strncmp(pattern, key, key_size) != 0))
            return false;
        pattern += pattern_size + (pattern[pattern_size] == '.');
        key += key_size;
        if (*key == '.')
            key++;
        else if (*pattern != '\0')
            return strcmp(pattern, "**") == 0;
    }
    return *key == '\0';
}
