/*
 * Which subscriptions and which bus peers want a topic: the heart of routing.
 * Pure data structure: no I/O, no clock. Worker process.
 *
 * One struct topic_filter exists per distinct filter that has a local subscription or a peer's route. Exact
 * filters are found with one keyed-hash look-up; filters with wildcards live in a tree by level. A match
 * costs by the number of filters that match and of levels, not by the number of filters there are. [MQTT-4.7]
 *
 * `$share/GROUP/FILTER` subscriptions hang below FILTER's node as groups (struct topic_group), each with its
 * members; the index keeps them apart from ordinary subscriptions, the caller picks a member. [MQTT-4.8.2]
 */
#ifndef SHARED_TOPIC_INDEX_H
#define SHARED_TOPIC_INDEX_H

#include "shared/bytes.h"
#include "shared/keyed_hash.h"
#include "shared/status.h"

#define TOPIC_INDEX_PEERS_MAX 64 /* bus peers are bits of a uint64_t */

struct topic_filter;
struct topic_group;

/* Embedded in its owner (a session's subscription); in the index between insert and remove. */
struct subscription {
    struct topic_filter *filter; /* borrowed from the index; NULL while not inserted */
    struct topic_group *group;   /* the shared group below the filter; NULL: an ordinary subscription */
    void *subscriber;            /* the owner's, e.g. struct session */
    uint32_t position;           /* in filter's (or group's) array; the index keeps it */
    uint32_t identifier;         /* Subscription Identifier, 0: none [MQTT-3.8.2.1.2] */
    uint8_t qos;                 /* maximum QoS granted */
    bool no_local;
    bool retain_as_published;
    uint8_t retain_handling;
    bool check_read; /* the owner's: it may not get all that the filter matches */
    bool inherited;  /* the owner's: the session had it at another worker already */
};

/* Hot: read directly by the router. Written by the index only, but for `owner_data`. */
struct topic_filter {
    uint64_t peers; /* bit i: bus peer i announced this filter */
    uint64_t
        durable_peers; /* subset: a durable session there matches, so that PUBACK waits for its completion */
    struct subscription **subscriptions; /* ordinary local subscriptions, in no order */
    uint32_t count;
    uint32_t capacity;
    struct topic_group *groups; /* singly linked by `next`, NULL: none */
    void *owner_data;           /* free for the routes module (own announcement); an entry with owner_data set
                                   stays alive even with no subscription and no peer */
    struct topic_index_node *node; /* private to the index: its place in the tree, NULL for an exact filter */
};

struct topic_group {
    struct topic_group *next;
    struct topic_filter *filter;
    struct subscription **members; /* local members, those with a connected client first */
    uint32_t count;
    uint32_t connected; /* how many of them have one */
    uint32_t capacity;
    uint32_t holds;              /* who keeps a pointer: topic_index_hold_group() */
    uint64_t peers;              /* peers that have members of this group for this filter */
    uint64_t away_peers;         /* subset: none of those is connected */
    uint64_t durable_peers;      /* subset of `peers`: a durable session is among them */
    uint32_t *peer_members;      /* [TOPIC_INDEX_PEERS_MAX] members per peer, NULL while no peer has any */
    uint64_t hash;               /* keyed, of filter and name: the same in all workers */
    void *owner_data;            /* as in topic_filter, for the group's announcement */
    struct subscription *sticky; /* strategies' own (shared/share_pick.h): a connected local member or NULL */
    uint32_t sticky_slot;
    uint32_t cursor;       /* over all members */
    uint32_t local_cursor; /* over own ones */
    char name[];           /* NUL-terminated group name */
};

struct topic_index;

struct topic_index *topic_index_new(const struct keyed_hash *hash);
void topic_index_free(struct topic_index **index);

/*
 * Finds or makes the entry of a valid filter (without the `$share/GROUP/` prefix). An entry without
 * subscription, group, peer or owner_data disappears at the next topic_index_release().
 */
enum status topic_index_acquire(
    struct topic_index *index, struct bytes filter, struct topic_filter **ret_filter) CHECK_RESULT;
/* The entry if there is one, else NULL. */
struct topic_filter *topic_index_find(const struct topic_index *index, struct bytes filter);
/* Frees empty groups of the entry, and the entry if nothing holds it. */
void topic_index_release(struct topic_index *index, struct topic_filter *filter);
/* Finds or makes a group below a filter's entry. */
enum status topic_index_group(struct topic_index *index, struct topic_filter *filter, struct bytes name,
    struct topic_group **ret_group) CHECK_RESULT;
/* The group if there is one, else NULL. */
struct topic_group *topic_index_find_group(const struct topic_filter *filter, struct bytes name);
/* A held group and its filter stay, members or not; each hold is let go of once. */
void topic_index_hold_group(struct topic_group *group);
void topic_index_unhold_group(struct topic_index *index, struct topic_group *group);

/* Inserts; `group` NULL for an ordinary subscription. O(1). Order among subscriptions is not kept. */
enum status topic_index_insert(struct topic_index *index, struct topic_filter *filter,
    struct topic_group *group, struct subscription *subscription) CHECK_RESULT;
/* Removes in O(1), whatever the number of subscriptions of the filter; releases the entry if it is empty. */
void topic_index_remove(struct topic_index *index, struct subscription *subscription);
/* A group's member has a connected client now, or none any more (as when it was inserted). O(1). */
void topic_index_set_connected(struct subscription *member, bool connected);

/*
 * Sets or clears a peer's interest. Clearing does not release: the caller still has the pointer and calls
 * topic_index_release() when it is done with it. The same for a group's 0 members. How a peer's members are
 * (away, durable) is said after their number.
 */
void topic_index_set_peer(
    struct topic_index *index, struct topic_filter *filter, unsigned peer, bool durable);
void topic_index_clear_peer(struct topic_index *index, struct topic_filter *filter, unsigned peer);
enum status topic_index_set_group_peer(
    struct topic_index *index, struct topic_group *group, unsigned peer, uint32_t members) CHECK_RESULT;
void topic_index_set_group_state(struct topic_group *group, unsigned peer, bool away, bool durable);
/* Clears one peer everywhere (it died) and releases. Cost: by the number of entries in the index. */
void topic_index_drop_peer(struct topic_index *index, unsigned peer);

/* A match: the filters whose entries match, in no order; valid until the index changes or matches again. */
struct topic_match {
    struct topic_filter **filters; /* owned by the index, reused by the next match */
    uint32_t count;
};

/*
 * All entries whose filter matches a valid topic name. Filters that begin with a wildcard do not match topics
 * that begin with '$' [MQTT-4.7.2-1]. Allocates nothing: room was made when the filters came. Hot.
 */
struct topic_match topic_index_match(struct topic_index *index, struct bytes topic);

/* The filter's text, NUL-terminated, into `to` (at most 65536 bytes); returns its length. */
size_t topic_filter_text(const struct topic_filter *filter, char *to, size_t size);

/* The same where it stands. */
struct bytes topic_filter_bytes(const struct topic_filter *filter);

/* Visits every entry; the visitor must not change the index. */
void topic_index_visit(
    struct topic_index *index, void (*visit)(void *context, struct topic_filter *filter), void *context);

/*
 * The same in pages, between which the index may change: an entry that is there from the first page to the
 * last is visited once or more, never not at all. (Entries made meanwhile may be missed.) The first cursor is
 * TOPIC_INDEX_CURSOR_START; each call visits at most `budget` entries and returns the next call's cursor, 0
 * after the last page. The cursor is a plain value: a walk needs no end.
 */
#define TOPIC_INDEX_CURSOR_START UINT32_MAX
uint32_t topic_index_visit_page(struct topic_index *index, uint32_t cursor, uint32_t budget,
    void (*visit)(void *context, struct topic_filter *filter), void *context) CHECK_RESULT;
/* topic_index_drop_peer() in such pages. The peer must not announce anew before the last page. */
uint32_t topic_index_drop_peer_page(
    struct topic_index *index, unsigned peer, uint32_t cursor, uint32_t budget) CHECK_RESULT;

/* Entries there are, and bytes of heap that the index takes. */
size_t topic_index_entries(const struct topic_index *index);
size_t topic_index_memory(const struct topic_index *index);

#endif
