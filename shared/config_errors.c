/*
 * The growing list of what is wrong with a configuration. Filled by the parser and the checks, printed by the
 * program that asked; the library itself writes nowhere.
 */
#include "shared/config_context.h"
#include "shared/config_lines.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Takes `text`. A few hundred bytes at start-up: without memory for them nothing else would run either. */
static void errors_add(struct config_errors *errors, bool warning, char *text)
{
    assert(text != NULL);
    struct config_error *grown = realloc(errors->entries, (errors->count + 1) * sizeof *grown);
    assert(grown != NULL);
    errors->entries = grown;
    grown[errors->count++] = (struct config_error){.warning = warning, .text = text};
    if (warning)
        errors->warnings++;
}

static unsigned line_of(const struct config_context *context, const char *path)
{
    if (context->text == NULL || *path == '\0')
        return 0;
    return config_line_of(context->text, context->size, path);
}

/* Where a key of a node stands in a cluster file: with the node, or with what is said for all. */
static const char *full_path(
    const struct config_context *context, const char *path, char to[CONFIG_PATH_TEXT_MAX])
{
    if (context->node == NULL || *path == '\0')
        return path;
    snprintf(to, CONFIG_PATH_TEXT_MAX, "defaults.%s", path);
    if (line_of(context, to) != 0) {
        char own[CONFIG_PATH_TEXT_MAX];
        snprintf(own, sizeof own, "%s.%s", context->node, path);
        if (line_of(context, own) != 0)
            memcpy(to, own, sizeof own);
        return to;
    }
    if (strncmp(path, "bus.", 4) == 0 && line_of(context, path) != 0)
        return path;
    snprintf(to, CONFIG_PATH_TEXT_MAX, "%s.%s", context->node, path);
    return to;
}

/* FILE:LINE: PATH: text, leaving out what is not known. */
static void complain(const struct config_context *context, bool warning, unsigned line, const char *path,
    const char *format, va_list arguments)
{
    char line_text[16] = "";
    char *what = NULL;
    char *text = NULL;
    if (line != 0)
        snprintf(line_text, sizeof line_text, ":%u", line);
    if (vasprintf(&what, format, arguments) < 0)
        what = NULL;
    assert(what != NULL);
    if (asprintf(&text, "%s%s: %s%s%s", context->file, line_text, path, *path != '\0' ? ": " : "", what) < 0)
        text = NULL;
    free(what);
    errors_add(context->errors, warning, text);
}

static void complain_at(const struct config_context *context, bool warning, const char *path,
    const char *format, va_list arguments)
{
    char full[CONFIG_PATH_TEXT_MAX];
    path = full_path(context, path, full);
    unsigned line = line_of(context, path);
    if (line == 0 && context->node != NULL)
        line = line_of(context, context->node);
    complain(context, warning, line, path, format, arguments);
}

void config_complain(const struct config_context *context, const char *path, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain_at(context, false, path, format, arguments);
    va_end(arguments);
}

void config_warn(const struct config_context *context, const char *path, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain_at(context, true, path, format, arguments);
    va_end(arguments);
}

void config_complain_line(const struct config_context *context, unsigned line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain(context, false, line, "", format, arguments);
    va_end(arguments);
}

void config_warn_line(const struct config_context *context, unsigned line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain(context, true, line, "", format, arguments);
    va_end(arguments);
}

size_t config_errors_failures(const struct config_errors *errors)
{
    return errors->count - errors->warnings;
}

void config_errors_print(const struct config_errors *errors, FILE *to)
{
    for (size_t i = 0; i < errors->count; i++)
        fprintf(to, "%s%s\n", errors->entries[i].warning ? "warning: " : "error: ", errors->entries[i].text);
}

void config_errors_done(struct config_errors *errors)
{
    for (size_t i = 0; i < errors->count; i++)
        free(errors->entries[i].text);
    free(errors->entries);
    *errors = (struct config_errors){0};
}
