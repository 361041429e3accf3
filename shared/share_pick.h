/*
 * Who of a shared group gets a publication [MQTT 4.8.2]: the strategies. The worker that routes it picks a
 * slot, weighted by what the slots have announced; the slot's worker picks one of its own members. Members
 * with a connected client come before those without. Pure; worker process.
 */
#ifndef SHARED_SHARE_PICK_H
#define SHARED_SHARE_PICK_H

#include "shared/topic_index.h"

enum share_strategy {
    SHARE_ROUND_ROBIN,   /* in turn */
    SHARE_RANDOM,        /* any */
    SHARE_STICKY,        /* the same one as long as it is connected */
    SHARE_HASH_CLIENTID, /* the same one for the same publisher, as long as the members stay */
    SHARE_HASH_TOPIC,    /* the same one for the same topic, as long as the members stay */
    SHARE_LOCAL,         /* of the publisher's own worker if there is one, else in turn */
};

struct share_query {
    enum share_strategy strategy;
    unsigned self;  /* own slot */
    uint64_t value; /* SHARE_HASH_…: the hash; SHARE_RANDOM: a random number; else unused */
    uint64_t avoid; /* peers to be picked only if nobody else is connected: their lanes are full */
    bool connected; /* nobody but a connected member will do */
};

#define SHARE_NOBODY TOPIC_INDEX_PEERS_MAX

/*
 * The slot whose member gets it (query->self: a local one), or SHARE_NOBODY. Changes nothing, since what was
 * picked may still find no room: share_picked() then says that it is so.
 */
unsigned share_pick_slot(const struct topic_group *group, const struct share_query *query);
void share_picked(struct topic_group *group, const struct share_query *query, unsigned slot);

/* One of the local members, a connected one if there is any; NULL: there are none. Moves the cursor on. */
struct subscription *share_pick_member(struct topic_group *group, const struct share_query *query);

#endif
