/*
 * Sizes and durations as people write them: "64KiB", "1MB", "30s", "1h30m". KB and KiB both mean 1024 bytes
 * (as EMQ's did): what is a limit here is a power of two somewhere below. Pure text, no state, any process.
 */
#ifndef SHARED_CONFIG_UNITS_H
#define SHARED_CONFIG_UNITS_H

#include "shared/status.h"

#include <stddef.h>
#include <stdint.h>

/* Room for a formatted value with its end. */
#define CONFIG_UNITS_TEXT_MAX 32

/* "1048576", "1024KB", "1MiB", "1M": a whole number, then B, K, M or G (KB, KiB), in any case.
 * STATUS_INVALID. */
enum status config_size_parse(const char *text, uint64_t *ret_bytes) CHECK_RESULT;

/* "500ms", "30s", "1h30m", "7d", "2w"; a bare number means seconds. STATUS_INVALID. */
enum status config_duration_parse(const char *text, uint64_t *ret_ms) CHECK_RESULT;

/* In the largest unit that leaves a whole number, so that parsing it gives the same value. */
void config_size_format(uint64_t bytes, char to[CONFIG_UNITS_TEXT_MAX]);
void config_duration_format(uint64_t ms, char to[CONFIG_UNITS_TEXT_MAX]);

#endif
