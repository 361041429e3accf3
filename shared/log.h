/*
 * Log lines for the operator who reads them at 3 am: what happened, to whom, what to do. One call, one line.
 * Only node/ and the programs log; shared/ and cluster/ return errors. A child writes to a non-blocking pipe
 * to the master; a line that does not fit is dropped and counted, so that a blocked terminal blocks nobody.
 */
#ifndef SHARED_LOG_H
#define SHARED_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level {
    LOG_LEVEL_ERROR,   /* something is broken and stays so until somebody acts */
    LOG_LEVEL_WARNING, /* something went wrong and was dealt with */
    LOG_LEVEL_NOTICE,  /* life of the node: start, stop, reload, a child died */
    LOG_LEVEL_INFO,    /* life of clients: connects, refusals */
    LOG_LEVEL_DEBUG,   /* every decision */
};

enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* The longest line, with its end; longer texts are cut. At most PIPE_BUF, so that a pipe takes it whole. */
#define LOG_LINE_MAX 4000

/*
 * Sets where lines go (`fd`, borrowed, should be non-blocking), which are kept, their format and the name
 * that stands in each line ("master", "worker 0"; copied). Until called: text, notice and above, standard
 * error.
 */
void log_configure(int fd, enum log_level level, enum log_format format, const char *process);

/* Changes the level only. */
void log_set_level(enum log_level level);

/* True if a line of this level would be kept: guard for costly arguments. */
bool log_enabled(enum log_level level);

/* Writes one line. Control characters in the text are escaped: what a client sent cannot forge a line. */
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_write(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                                       \
    do {                                                                                                     \
        if (log_enabled(LOG_LEVEL_DEBUG))                                                                    \
            log_write(LOG_LEVEL_DEBUG, __VA_ARGS__);                                                         \
    } while (0)

/* Lines dropped by this process because the pipe was full. */
uint64_t log_dropped(void);

#endif
