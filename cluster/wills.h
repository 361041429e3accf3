/*
 * When a will is published, by whom, and once (BUS rules 7). Keeps the slot's will table, runs the delays,
 * publishes what a former incarnation (or a backed-off slot) left, asks the registrar whether the client is
 * back before it publishes a delayed one [MQTT-3.1.3-9], and drops doubles. Worker process; sits on
 * will_table.h and claims.h.
 *
 * An entry is cleared in the turn after the one in which its publication was taken, when it surely lies in
 * the windows: killed between, the next incarnation publishes it again, and receivers drop it by its identity
 * (publication_meta.publisher, .will).
 */
#ifndef CLUSTER_WILLS_H
#define CLUSTER_WILLS_H

#include "cluster/claims.h"
#include "cluster/will_table.h"
#include "shared/publication.h"

#define WILLS_PER_TURN 512   /* published per tick, so that the wills of 50,000 clients hold up nobody */
#define WILLS_SEEN_MAX 16384 /* identities remembered: many times what one killed turn can repeat */

struct wills;

struct wills_settings {
    struct bus *bus;
    struct claims *claims;
    struct will_table
        *table; /* the own slot's; borrowed; NULL: wills are kept in memory of this process only */
    void *context;
    /*
     * Publishes like a client's PUBLISH: retained, local sessions, peers' lanes (acceptance_offer).
     * Authorization was checked at CONNECT. STATUS_OK: taken, or dropped by a rule and counted; STATUS_AGAIN:
     * a window is full, offer again. The view lives for the call.
     */
    enum status (*publish)(void *context, struct publication_view *view) CHECK_RESULT;
    /* True if all that `publish` has taken before this turn lies wholly in the windows (no fragments are
       under way: acceptance_oldest_partial). NULL: always. */
    bool (*settled)(void *context);
};

enum status wills_new(const struct wills_settings *settings, struct wills **ret_wills) CHECK_RESULT;
/* Leaves the table as it is. */
void wills_free(struct wills **wills);

/* routes_ready(): what the own table holds of former incarnations is published, each after its delay. */
void wills_start(struct wills *wills);
/* The slot that `table` belongs to is backed off: publishes what it holds, too. Takes the table, closes it
   when nothing of it is left or wills_release_adopted() says so. */
void wills_adopt(struct wills *wills, struct will_table *table, unsigned slot);
/* The slot has a worker again: it does the rest itself. */
void wills_release_adopted(struct wills *wills, unsigned slot);

/* CONNECT with a will: in the table before CONNACK. STATUS_LIMIT: full, CONNACK 0x97. */
enum status wills_put(struct wills *wills, const struct will *will, will_handle *ret_handle) CHECK_RESULT;
/*
 * DISCONNECT 0, or the client is back in time: never published. `connection`: will->connection of the put; a
 * handle whose will was published meanwhile may belong to another by now.
 */
void wills_remove(struct wills *wills, will_handle handle, uint64_t connection);
/*
 * The connection ended without DISCONNECT 0 (or with 0x04): published now, or after its delay unless
 * wills_remove() comes first or the registrar says that the client is back. `now`: whatever its delay (the
 * session ends). Keep the handle at the session while there is a delay.
 */
void wills_end(struct wills *wills, will_handle handle, uint64_t connection, bool now);
/*
 * A publication with meta.will came from a peer (or is about to be delivered here): true if the same will was
 * seen before (drop it). Remembers it otherwise.
 */
bool wills_seen(struct wills *wills, const struct publication_meta *meta);

/* The same question without remembering: before it is published here. */
bool wills_known(const struct wills *wills, const struct publication_meta *meta);

/* Monotonic time at which bus_tick() has something to do for wills (UINT64_MAX: nothing). */
uint64_t wills_next_us(const struct wills *wills);
uint32_t wills_pending(const struct wills *wills); /* ended, not yet published */

#endif
