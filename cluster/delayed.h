/*
 * Publications that wait for their time, in a table that outlives the worker: when each is published, and
 * once. Worker process; sits on block_table.h; no clock but shared/clock.h, never logs.
 *
 * As with wills (wills.h), an entry is cleared in a turn after the one in which its publication was taken,
 * when that surely lies in the windows: killed between, the slot's next incarnation publishes it again, and
 * receivers drop it by its identity (publication_meta.publisher, .will).
 */
#ifndef CLUSTER_DELAYED_H
#define CLUSTER_DELAYED_H

#include "cluster/block_table.h"
#include "cluster/bus.h"
#include "shared/publication.h"

#define DELAYED_PER_TURN    512 /* published per turn, so that many of one moment hold up nobody */
#define DELAYED_TABLE_MAGIC UINT64_C(0x31796c6465646873) /* "shdeldy1" */

struct delayed;

struct delayed_settings {
    struct bus *bus;
    struct block_table *table; /* the own slot's; borrowed */
    void *context;
    /* Publishes like a client's PUBLISH, doubles and what has expired aside. STATUS_OK: taken, or dropped by
       a rule and counted; STATUS_AGAIN: a window is full, offer again. The view lives for the call. */
    enum status (*publish)(void *context, struct publication_view *view) CHECK_RESULT;
    /* True if all that `publish` has taken before this turn lies wholly in the windows (no fragments). */
    bool (*settled)(void *context);
};

enum status delayed_new(const struct delayed_settings *settings, struct delayed **ret_delayed) CHECK_RESULT;
/* Leaves the table as it is. */
void delayed_free(struct delayed **delayed);

/* The routes are in: what the own table holds of former incarnations is published, each at its time. */
void delayed_start(struct delayed *delayed);
/* The slot that `table` belongs to is backed off: publishes what it holds, too. Takes the table, closes it
   with delayed_release_adopted(): the slot has a worker again, which does the rest itself. */
void delayed_adopt(struct delayed *delayed, struct block_table *table, unsigned slot);
void delayed_release_adopted(struct delayed *delayed, unsigned slot);

/* Keeps it (a copy) for so many seconds; `meta.expires_ms` goes on meanwhile. When this returns STATUS_OK,
   SIGKILL of this process does not lose it. STATUS_LIMIT: the table is full. */
enum status delayed_put(
    struct delayed *delayed, const struct publication_view *view, uint32_t delay_s) CHECK_RESULT;

/* Those in the own table: waiting, or published and not yet cleared. */
uint32_t delayed_count(const struct delayed *delayed);

#endif
