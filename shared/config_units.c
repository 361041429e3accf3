/*
 * Parses and formats sizes and durations for the configuration and the import of foreign ones. Pure functions
 * of their text; no locale, no floating point, no silent overflow.
 */
#include "shared/config_units.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *text;
    uint64_t factor;
};

/* The first name of a factor is the one that is printed; largest last. */
static const struct unit size_units[] = {
    {"B", 1},
    {"", 1},
    {"KiB", 1024},
    {"KB", 1024},
    {"K", 1024},
    {"MiB", 1024ull * 1024},
    {"MB", 1024ull * 1024},
    {"M", 1024ull * 1024},
    {"GiB", 1024ull * 1024 * 1024},
    {"GB", 1024ull * 1024 * 1024},
    {"G", 1024ull * 1024 * 1024},
};

static const struct unit duration_units[] = {
    {"ms", 1},
    {"s", 1000},
    {"m", 60ull * 1000},
    {"h", 60ull * 60 * 1000},
    {"d", 24ull * 60 * 60 * 1000},
    {"w", 7ull * 24 * 60 * 60 * 1000},
};

#define LENGTH_OF(array) (sizeof(array) / sizeof *(array))

/* Digits from *from on; moves *from behind them. False: none, or more than 64 bits. */
static bool take_number(const char **from, uint64_t *ret_value)
{
    uint64_t value = 0;
    const char *at = *from;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return false;
    }
    if (at == *from)
        return false;
    *from = at;
    *ret_value = value;
    return true;
}

/* The factor of the unit written in `size` bytes, in any case; 0: no such unit. */
static uint64_t unit_factor(const struct unit *units, size_t count, const char *text, size_t size)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(units[i].text) == size && strncasecmp(units[i].text, text, size) == 0)
            return units[i].factor;
    return 0;
}

enum status config_size_parse(const char *text, uint64_t *ret_bytes)
{
    uint64_t number;
    if (!take_number(&text, &number))
        return STATUS_INVALID;
    text += strspn(text, " ");
    uint64_t factor = unit_factor(size_units, LENGTH_OF(size_units), text, strlen(text));
    if (factor == 0 || __builtin_mul_overflow(number, factor, &number))
        return STATUS_INVALID;
    *ret_bytes = number;
    return STATUS_OK;
}

enum status config_duration_parse(const char *text, uint64_t *ret_ms)
{
    uint64_t sum = 0;
    if (*text == '\0')
        return STATUS_INVALID;
    for (bool first = true; *text != '\0'; first = false) {
        uint64_t number;
        if (!take_number(&text, &number))
            return STATUS_INVALID;
        text += strspn(text, " ");
        size_t size = strcspn(text, "0123456789 ");
        bool bare = first && *text == '\0';
        uint64_t factor = bare ? 1000 : unit_factor(duration_units, LENGTH_OF(duration_units), text, size);
        if (factor == 0 || __builtin_mul_overflow(number, factor, &number) ||
            __builtin_add_overflow(sum, number, &sum))
            return STATUS_INVALID;
        text += size;
        text += strspn(text, " ");
    }
    *ret_ms = sum;
    return STATUS_OK;
}

static void format_units(const struct unit *units, size_t count, uint64_t value, char *to)
{
    const struct unit *best = &units[0];
    for (size_t i = 1; i < count && value != 0; i++)
        if (units[i].factor > best->factor && value % units[i].factor == 0)
            best = &units[i];
    snprintf(to, CONFIG_UNITS_TEXT_MAX, "%" PRIu64 "%s", value / best->factor, best->text);
}

void config_size_format(uint64_t bytes, char to[CONFIG_UNITS_TEXT_MAX])
{
    if (bytes == 0)
        snprintf(to, CONFIG_UNITS_TEXT_MAX, "0");
    else
        format_units(size_units, LENGTH_OF(size_units), bytes, to);
}

void config_duration_format(uint64_t ms, char to[CONFIG_UNITS_TEXT_MAX])
{
    if (ms == 0)
        snprintf(to, CONFIG_UNITS_TEXT_MAX, "0s");
    else
        /* weeks are read but not written: nobody thinks of 14d as 2w */
        format_units(duration_units, LENGTH_OF(duration_units) - 1, ms, to);
}
