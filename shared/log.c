/* Formats and writes log lines, one write() each, never blocking on a non-blocking descriptor. Any process.
 */
#include "shared/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static struct {
    int fd;
    enum log_level level;
    enum log_format format;
    char process[32];
    uint64_t dropped;
} logger = {.fd = STDERR_FILENO, .level = LOG_LEVEL_NOTICE, .format = LOG_FORMAT_TEXT, .process = "shoal"};

static const char *const level_names[] = {"error", "warning", "notice", "info", "debug"};

void log_configure(int fd, enum log_level level, enum log_format format, const char *process)
{
    logger.fd = fd;
    logger.level = level;
    logger.format = format;
    snprintf(logger.process, sizeof logger.process, "%s", process);
}

void log_set_level(enum log_level level)
{
    logger.level = level;
}

bool log_enabled(enum log_level level)
{
    return level <= logger.level;
}

uint64_t log_dropped(void)
{
    return logger.dropped;
}

/* Copies text with control characters (and, for JSON, quotes and backslashes) escaped; returns the new end.
 */
static char *put_escaped(char *to, const char *end, const char *text, bool json)
{
    for (; *text != '\0' && to < end; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f || (json && (c == '"' || c == '\\'))) {
            if (end - to < 7)
                break;
            if (json && (c == '"' || c == '\\')) {
                *to++ = '\\';
                *to++ = (char)c;
            } else {
                to += snprintf(to, 7, json ? "\\u%04x" : "\\x%02x", c);
            }
        } else {
            *to++ = (char)c;
        }
    }
    return to;
}

void log_write(enum log_level level, const char *format, ...)
{
    if (!log_enabled(level))
        return;
    char text[LOG_LINE_MAX / 2];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);

    struct timeval now;
    struct tm utc;
    gettimeofday(&now, NULL);
    gmtime_r(&now.tv_sec, &utc);
    char time_text[40];
    size_t length = strftime(time_text, sizeof time_text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(time_text + length, sizeof time_text - length, ".%03dZ", (int)(now.tv_usec / 1000));

    char line[LOG_LINE_MAX + 1];
    bool json = logger.format == LOG_FORMAT_JSON;
    int prefix = snprintf(line, sizeof line,
        json ? "{\"time\":\"%s\",\"level\":\"%s\",\"process\":\"%s\",\"message\":\"" : "%s %s %s: ",
        time_text, level_names[level], logger.process);
    char *to = put_escaped(line + prefix, line + LOG_LINE_MAX - 4, text, json);
    if (json) {
        *to++ = '"';
        *to++ = '}';
    }
    *to++ = '\n';
    ssize_t written = write(logger.fd, line, (size_t)(to - line));
    if (written != to - line)
        logger.dropped++;
}
