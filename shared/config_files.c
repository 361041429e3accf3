/* Walks the table for rows that are files: a new one is among them without a word here. Pure. */
#include "shared/config_files.h"

#include "shared/config_table.h"
#include "shared/config_value.h"

static void visit_row(const struct config_row *row, const void *holder,
    void (*visit)(void *context, const char *path), void *context)
{
    const char *path = *(char *const *)config_field(row, (void *)(uintptr_t)holder);
    if (path != NULL)
        visit(context, path);
}

void config_for_each_file(
    const struct config *config, void (*visit)(void *context, const char *path), void *context)
{
    visit(context, config->file);
    for (size_t i = 0; i < config_table_size; i++) {
        const struct config_row *row = &config_table[i];
        uint32_t listeners = config_row_listeners(row);
        if (row->type != CONFIG_TYPE_FILE)
            continue;
        if (listeners == 0)
            visit_row(row, config, visit, context);
        for (size_t j = 0; j < config->listener_count; j++)
            if (listeners & (1u << config->listeners[j].type))
                visit_row(row, &config->listeners[j], visit, context);
    }
}
