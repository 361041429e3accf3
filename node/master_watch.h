/*
 * Sees when files of the running configuration change on disk, also by the renaming of a link to their
 * folder, and says so once they have been quiet for a second ("reload": "watch"). Looks, twice a second,
 * instead of being told: the same for every file system and every way to replace a file. Master only.
 */
#ifndef NODE_MASTER_WATCH_H
#define NODE_MASTER_WATCH_H

#include "shared/config.h"
#include "shared/status.h"

#include <event2/event.h>

struct master_watch;

/* `changed` is called from the event loop. */
enum status master_watch_open(struct event_base *base, void (*changed)(void *context), void *context,
    struct master_watch **ret_watch) CHECK_RESULT;
void master_watch_close(struct master_watch **watch);
/* A reload begins: it reads the files as they are now, or newer, which will be seen. */
void master_watch_noted(struct master_watch *watch);
/* Watches the files of this configuration, if it says so. Borrows it until the next call. */
void master_watch_follow(struct master_watch *watch, const struct config *config);

#endif
