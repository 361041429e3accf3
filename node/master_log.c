/*
 * Log lines from pipes to standard error. Standard error may be a terminal that is held, a pipe nobody reads,
 * a file, or a socket of the journal: it is written only when poll() says so and, where possible, through a
 * descriptor of our own that is non-blocking (setting O_NONBLOCK on the inherited one would change the
 * shell's).
 */
#include "node/master_log.h"

#include "shared/list.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define RETRY_US          20000
#define CLOSE_WAIT_MS     500
#define READS_A_TURN      16 /* of one pipe: a chatty child must not hold up the others */
#define BLOCKING_TTY_PART 256

struct master_log_source {
    struct list link; /* in master_log.sources */
    struct master_log *log;
    struct event *event; /* owned */
    int fd;              /* owned, reading end */
    char process[32];
    size_t size; /* of the unfinished line */
    char line[LOG_LINE_MAX + 1];
};

struct master_log {
    struct event_base *base; /* borrowed */
    enum log_format format;
    int sink;    /* owned unless it is STDERR_FILENO */
    size_t part; /* most bytes of one write */
    bool sink_is_socket;
    struct event *retry; /* owned; pending while the sink takes nothing */
    struct list sources;
    struct master_log_source *own; /* owned */
    int own_fd;                    /* owned, writing end */
    uint64_t dropped;
    uint64_t dropped_told;
    size_t begin, end; /* unwritten bytes are buffer[begin…end) */
    char buffer[MASTER_LOG_BUFFER];
};

/* ---- the sink -------------------------------------------------------------------------------------------
 */

static void open_sink(struct master_log *log)
{
    struct stat info;
    log->sink = STDERR_FILENO;
    log->part = PIPE_BUF; /* a pipe that polls writable takes this much */
    if (fstat(STDERR_FILENO, &info) != 0 || S_ISREG(info.st_mode))
        return; /* a file never blocks, and a second description would have its own offset */
    if (S_ISSOCK(info.st_mode)) {
        log->sink_is_socket = true;
        return;
    }
    int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd >= 0)
        log->sink = fd;
    else if (isatty(STDERR_FILENO))
        log->part = BLOCKING_TTY_PART;
}

static ssize_t write_sink(const struct master_log *log, const char *from, size_t size)
{
    struct pollfd ready = {.fd = log->sink, .events = POLLOUT};
    if (poll(&ready, 1, 0) <= 0) {
        errno = EAGAIN;
        return -1;
    }
    if (size > log->part)
        size = log->part;
    return log->sink_is_socket ? send(log->sink, from, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                               : write(log->sink, from, size);
}

static void tell_dropped(struct master_log *log)
{
    if (log->dropped == log->dropped_told || log->begin != log->end)
        return;
    uint64_t lines = log->dropped - log->dropped_told;
    log->dropped_told = log->dropped;
    log_warning("%llu log lines dropped, since standard error took none", (unsigned long long)lines);
}

/* Writes what the sink takes; true when nothing is left. */
static bool flush(struct master_log *log)
{
    while (log->begin < log->end) {
        ssize_t size = write_sink(log, log->buffer + log->begin, log->end - log->begin);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            log->begin = log->end; /* nobody will ever read it: a closed pipe, a full disk */
            log->dropped_told = ++log->dropped;
            break;
        }
        if (size < 0)
            return false;
        log->begin += (size_t)size;
    }
    log->begin = log->end = 0;
    return true;
}

static void flush_or_retry(struct master_log *log)
{
    if (flush(log)) {
        tell_dropped(log);
        return;
    }
    const struct timeval delay = {.tv_usec = RETRY_US};
    if (!event_pending(log->retry, EV_TIMEOUT, NULL))
        event_add(log->retry, &delay);
}

static void on_retry(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    flush_or_retry(argument);
}

static void put_line(struct master_log *log, const char *line, size_t size)
{
    if (MASTER_LOG_BUFFER - log->end < size && log->begin > 0) {
        memmove(log->buffer, log->buffer + log->begin, log->end - log->begin);
        log->end -= log->begin;
        log->begin = 0;
    }
    if (MASTER_LOG_BUFFER - log->end < size) {
        log->dropped++;
        return;
    }
    memcpy(log->buffer + log->end, line, size);
    log->end += size;
}

/* ---- the sources ----------------------------------------------------------------------------------------
 */

/* What log_write() made begins with its date or, as JSON, with a brace; all else a library or the kernel
 * printed. */
static bool is_log_line(const struct master_log *log, const char *line)
{
    return log->format == LOG_FORMAT_JSON ? line[0] == '{' : isdigit((unsigned char)line[0]) != 0;
}

static void finish_line(struct master_log_source *source)
{
    if (source->size == 0)
        return;
    if (source == source->log->own || is_log_line(source->log, source->line)) {
        source->line[source->size++] = '\n';
        put_line(source->log, source->line, source->size);
    } else {
        log_error("%s printed: %.*s", source->process, (int)source->size, source->line);
    }
    source->size = 0;
}

static void take_bytes(struct master_log_source *source, const char *from, size_t size)
{
    while (size > 0) {
        const char *newline = memchr(from, '\n', size);
        size_t line = newline != NULL ? (size_t)(newline - from) : size;
        size_t room = LOG_LINE_MAX - source->size;
        size_t part = line < room ? line : room;
        memcpy(source->line + source->size, from, part);
        source->size += part;
        from += part;
        size -= part;
        if (size > 0 && *from == '\n') {
            finish_line(source);
            from++;
            size--;
        } else if (source->size == LOG_LINE_MAX) {
            finish_line(source); /* not a line of ours: cut */
        }
    }
}

static void read_source(struct master_log_source *source, unsigned reads)
{
    char bytes[8192];
    for (unsigned i = 0; i < reads; i++) {
        ssize_t size = read(source->fd, bytes, sizeof bytes);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            break;
        if (size == 0) {
            event_del(source->event); /* the child is gone; its reaping removes the source */
            break;
        }
        take_bytes(source, bytes, (size_t)size);
    }
}

static void on_source(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct master_log_source *source = argument;
    read_source(source, READS_A_TURN);
    flush_or_retry(source->log);
}

static void free_source(struct master_log_source *source)
{
    list_remove(&source->link);
    if (source->event != NULL)
        event_free(source->event);
    close(source->fd);
    free(source);
}

enum status master_log_add(
    struct master_log *log, const char *process, int *ret_fd, struct master_log_source **ret_source)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return STATUS_SYSTEM;
    struct master_log_source *source = calloc(1, sizeof *source);
    if (source == NULL) {
        close(ends[0]);
        close(ends[1]);
        return STATUS_NO_MEMORY;
    }
    source->log = log;
    source->fd = ends[0];
    snprintf(source->process, sizeof source->process, "%s", process);
    list_append(&log->sources, &source->link);
    source->event = event_new(log->base, ends[0], EV_READ | EV_PERSIST, on_source, source);
    if (source->event == NULL || event_add(source->event, NULL) != 0) {
        free_source(source);
        close(ends[1]);
        return STATUS_NO_MEMORY;
    }
    *ret_fd = ends[1];
    *ret_source = source;
    return STATUS_OK;
}

void master_log_remove(struct master_log *log, struct master_log_source **source)
{
    if (*source == NULL)
        return;
    read_source(*source, UINT_MAX);
    finish_line(*source);
    free_source(*source);
    *source = NULL;
    flush_or_retry(log);
}

/* ---- the log --------------------------------------------------------------------------------------------
 */

enum status master_log_open(
    struct event_base *base, enum log_level level, enum log_format format, struct master_log **ret_log)
{
    struct master_log *log = calloc(1, sizeof *log);
    if (log == NULL)
        return STATUS_NO_MEMORY;
    log->base = base;
    log->format = format;
    list_init(&log->sources);
    open_sink(log);
    log->retry = event_new(base, -1, 0, on_retry, log);
    enum status status = log->retry == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK)
        status = master_log_add(log, "master", &log->own_fd, &log->own);
    if (status != STATUS_OK) {
        if (log->retry != NULL)
            event_free(log->retry);
        if (log->sink != STDERR_FILENO)
            close(log->sink);
        free(log);
        return status;
    }
    log_configure(log->own_fd, level, format, "master");
    *ret_log = log;
    return STATUS_OK;
}

void master_log_close(struct master_log **log_pointer)
{
    struct master_log *log = *log_pointer;
    if (log == NULL)
        return;
    list_for_each(&log->sources, link, next)
    {
        struct master_log_source *source = list_entry(link, struct master_log_source, link);
        if (source != log->own)
            master_log_remove(log, &source);
    }
    close(log->own_fd);
    master_log_remove(log, &log->own);
    for (int waited = 0; !flush(log) && waited < CLOSE_WAIT_MS; waited += RETRY_US / 1000)
        poll(NULL, 0, RETRY_US / 1000);
    event_free(log->retry);
    if (log->sink != STDERR_FILENO)
        close(log->sink);
    log_configure(STDERR_FILENO, LOG_LEVEL_NOTICE, log->format, "master");
    free(log);
    *log_pointer = NULL;
}

uint64_t master_log_dropped(const struct master_log *log)
{
    return log->dropped;
}
