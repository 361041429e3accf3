/* Types of configuration values that are about topics. No I/O. */
#include "shared/config_value_private.h"

#include "shared/topic_template.h"

#include <string.h>

/* Mountpoints -----------------------------------------------------------------------------------------------
 */

static bool parse_mountpoint(const struct value *value, void *field)
{
    const char *text = json_string_value(value->json);
    if (text == NULL || strlen(text) != json_string_length(value->json) ||
        (double)strlen(text) > value->row->maximum || !topic_template_is_prefix(bytes_of_text(text)))
        return config_value_refuse(value, NULL);
    *(char **)field = config_copy_text(text);
    return true;
}

static void mountpoint_allowed(const struct config_row *row, char *to, size_t room)
{
    config_value_append(to, room,
        "whole levels of a topic, at most %.0f bytes, such as \"tenant1/\" or \"devices/%%c/\": \"/\" at the "
        "end, no "
        "+ or #, no $ at the start",
        row->maximum);
}

/* The types -------------------------------------------------------------------------------------------------
 */

const struct type_handlers *config_topic_type_handlers(enum config_type type)
{
    static const struct type_handlers types[CONFIG_TYPES] = {
        [CONFIG_TYPE_MOUNTPOINT] = {parse_mountpoint, config_string_to_json, config_string_done,
            mountpoint_allowed},
    };
    return types[type].parse != NULL ? &types[type] : NULL;
}
