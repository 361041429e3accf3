/*
 * Prints the reference of all configuration keys from the table: as plain text for `shoald --help-config`, as
 * Markdown for the README, so that neither can differ from what the parser does.
 */
#include "shared/config.h"

#include "shared/config_table.h"
#include "shared/config_value.h"

#include <string.h>

#define TEXT_WIDTH 96

static bool row_in_section(const struct config_row *row, const struct config_section *section)
{
    size_t size = config_row_section_size(row);
    return strlen(section->name) == size && strncmp(row->path, section->name, size) == 0;
}

/* What stands in the reference where there is no default. */
static const char *default_text(const struct config_row *row)
{
    if (config_row_required(row))
        return "must be given";
    return row->default_json != NULL ? row->default_json : "none";
}

/* Prints words, wrapped, each line after four spaces. */
static void print_wrapped(FILE *to, const char *text)
{
    size_t column = 0;
    while (*text != '\0') {
        size_t size = strcspn(text, " ");
        if (column > 0 && column + 1 + size > TEXT_WIDTH) {
            fputc('\n', to);
            column = 0;
        }
        column += (size_t)fprintf(to, "%s%.*s", column == 0 ? "    " : " ", (int)size, text);
        text += size;
        text += strspn(text, " ");
    }
    fputc('\n', to);
}

static void print_row(FILE *to, const struct config_row *row)
{
    char allowed[CONFIG_ALLOWED_TEXT_MAX];
    char line[CONFIG_ALLOWED_TEXT_MAX + 64];
    config_value_allowed(row, allowed);
    fprintf(to, "\n  %s\n", row->path);
    print_wrapped(to, row->text);
    snprintf(line, sizeof line, "Allowed: %s.", allowed);
    print_wrapped(to, line);
    snprintf(line, sizeof line, config_row_required(row) ? "It %s." : "Default: %s.", default_text(row));
    print_wrapped(to, line);
}

void config_print_reference(FILE *to)
{
    fputs(
        "The configuration is one JSON object with the sections below; every key may be left out unless it\n"
        "must be given. A key that starts with \"//\" is a comment. Relative paths start from the parent of "
        "the\n"
        "file's folder if that folder is named conf, otherwise from the working directory. In sizes KB and\n"
        "KiB both mean 1024 bytes; durations take ms, s, m, h, d, w, and a bare number means seconds.\n"
        "listeners.* is every listener, listeners.tcp:* those on a port (tcp, ssl, ws, wss), "
        "listeners.ssl:*\n"
        "those with TLS (ssl, wss), listeners.ws:* those for WebSocket (ws, wss), listeners.unix:* Unix "
        "sockets.\n",
        to);
    for (const struct config_section *section = config_sections; section->name != NULL; section++) {
        fprintf(to, "\n%s: %s\n", section->name, section->text);
        for (size_t i = 0; i < config_table_size; i++)
            if (row_in_section(&config_table[i], section))
                print_row(to, &config_table[i]);
    }
}

/* A Markdown table's cell: bars would end it, asterisks would set it in italics. */
static void print_cell(FILE *to, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '|' || *text == '*' || *text == '_')
            fputc('\\', to);
        fputc(*text, to);
    }
}

void config_print_reference_markdown(FILE *to)
{
    for (const struct config_section *section = config_sections; section->name != NULL; section++) {
        fprintf(
            to, "%s### `%s`\n\n%s\n\n", section == config_sections ? "" : "\n", section->name, section->text);
        fputs("| key | default | allowed | meaning |\n|---|---|---|---|\n", to);
        for (size_t i = 0; i < config_table_size; i++) {
            const struct config_row *row = &config_table[i];
            char allowed[CONFIG_ALLOWED_TEXT_MAX];
            if (!row_in_section(row, section))
                continue;
            config_value_allowed(row, allowed);
            const char *quote = row->default_json != NULL && !config_row_required(row) ? "`" : "";
            fprintf(to, "| `%s` | %s%s%s | ", row->path, quote, default_text(row), quote);
            print_cell(to, allowed);
            fputs(" | ", to);
            print_cell(to, row->text);
            fputs(" |\n", to);
        }
    }
}
