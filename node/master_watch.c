/* A fingerprint of what stat() says of all files, compared with the one that was known and with the last. */
#include "node/master_watch.h"

#include "shared/clock.h"
#include "shared/config_files.h"

#include <stdlib.h>
#include <sys/stat.h>

#define LOOK_US  500000
#define QUIET_US 1000000

struct master_watch {
    const struct config *config; /* borrowed; NULL: not followed yet */
    struct event *timer;         /* owned */
    uint64_t known;              /* of the files that were loaded, or tried */
    uint64_t paths;              /* which files these are */
    uint64_t last;               /* at the last look */
    uint64_t since_us;           /* that it is so */
    void (*changed)(void *context);
    void *context;
};

static void mix(uint64_t *hash, uint64_t value)
{
    *hash = (*hash ^ value) * UINT64_C(1099511628211); /* FNV-1a by words */
    *hash ^= *hash >> 29;
}

static void add_file(void *context, const char *path)
{
    uint64_t *hash = context;
    struct stat info = {0};
    bool there = stat(path, &info) == 0;
    const uint64_t words[] = {there, info.st_dev, info.st_ino, (uint64_t)info.st_size,
        (uint64_t)info.st_mtim.tv_sec, (uint64_t)info.st_mtim.tv_nsec, (uint64_t)info.st_ctim.tv_sec,
        (uint64_t)info.st_ctim.tv_nsec};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        mix(hash, words[i]);
}

static uint64_t look(const struct config *config)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    config_for_each_file(config, add_file, &hash);
    return hash;
}

static void add_path(void *context, const char *path)
{
    for (; *path != '\0'; path++)
        mix(context, (unsigned char)*path);
    mix(context, 256);
}

static uint64_t paths_of(const struct config *config)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    config_for_each_file(config, add_path, &hash);
    return hash;
}

static void on_look(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct master_watch *watch = argument;
    uint64_t now = clock_monotonic_us(), seen = look(watch->config);
    if (seen != watch->last) {
        watch->last = seen;
        watch->since_us = now;
    }
    if (seen == watch->known || now - watch->since_us < QUIET_US)
        return;
    watch->known = seen; /* whatever becomes of it: it is tried once */
    watch->changed(watch->context);
}

enum status master_watch_open(
    struct event_base *base, void (*changed)(void *context), void *context, struct master_watch **ret_watch)
{
    struct master_watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL)
        return STATUS_NO_MEMORY;
    watch->changed = changed;
    watch->context = context;
    watch->timer = event_new(base, -1, EV_PERSIST, on_look, watch);
    if (watch->timer == NULL) {
        master_watch_close(&watch);
        return STATUS_NO_MEMORY;
    }
    *ret_watch = watch;
    return STATUS_OK;
}

void master_watch_close(struct master_watch **watch)
{
    if (*watch == NULL)
        return;
    if ((*watch)->timer != NULL)
        event_free((*watch)->timer);
    free(*watch);
    *watch = NULL;
}

void master_watch_noted(struct master_watch *watch)
{
    if (watch->config != NULL)
        watch->known = look(watch->config);
}

void master_watch_follow(struct master_watch *watch, const struct config *config)
{
    const struct timeval interval = {.tv_usec = LOOK_US};
    uint64_t paths = paths_of(config);
    watch->config = config;
    if (paths != watch->paths) {
        watch->paths = paths;
        watch->known = watch->last = look(config);
    }
    event_del(watch->timer);
    if (config->node.reload == CONFIG_RELOAD_WATCH)
        event_add(watch->timer, &interval);
}
