/* The strategies of shared groups: weights by slot, a place among them, a member at that place. Pure. */
#include "shared/share_pick.h"

/* Who may be picked now, by slot. */
struct weights {
    uint64_t slots;
    bool away; /* all members count, connected or not */
    uint64_t total;
};

static uint64_t bit_of(unsigned slot)
{
    return UINT64_C(1) << slot;
}

static uint32_t weight_of(const struct topic_group *group, const struct weights *weights,
    const struct share_query *query, unsigned slot)
{
    if (slot != query->self)
        return group->peer_members[slot];
    return weights->away ? group->count : group->connected;
}

/* The peers of the mask, and our own members. */
static struct weights weigh(
    const struct topic_group *group, const struct share_query *query, uint64_t peers, bool away)
{
    struct weights weights = {.slots = peers & ~bit_of(query->self), .away = away};
    if ((away ? group->count : group->connected) > 0)
        weights.slots |= bit_of(query->self);
    for (uint64_t left = weights.slots; left != 0; left &= left - 1)
        weights.total += weight_of(group, &weights, query, (unsigned)__builtin_ctzll(left));
    return weights;
}

/* Connected ones that can be reached, connected ones, all. */
static struct weights candidates(const struct topic_group *group, const struct share_query *query)
{
    uint64_t connected = group->peers & ~group->away_peers;
    struct weights weights = weigh(group, query, connected & ~query->avoid, false);
    if (weights.total == 0)
        weights = weigh(group, query, connected, false);
    if (weights.total == 0 && !query->connected)
        weights = weigh(group, query, group->peers, true);
    return weights;
}

/* The slot at a place among all; `first`: whose members have the first places. */
static unsigned slot_at(const struct topic_group *group, const struct weights *weights,
    const struct share_query *query, uint64_t place, unsigned first)
{
    unsigned slot = first;
    for (;; slot = (slot + 1) % TOPIC_INDEX_PEERS_MAX) {
        if ((weights->slots & bit_of(slot)) == 0)
            continue;
        uint32_t weight = weight_of(group, weights, query, slot);
        if (place < weight)
            return slot;
        place -= weight;
    }
}

static unsigned sticky_slot(const struct topic_group *group, const struct weights *weights)
{
    if (group->sticky_slot > 0 && (weights->slots & bit_of(group->sticky_slot - 1)) != 0)
        return group->sticky_slot - 1;
    return (unsigned)__builtin_ctzll(weights->slots); /* the same at all workers */
}

unsigned share_pick_slot(const struct topic_group *group, const struct share_query *query)
{
    struct weights weights = candidates(group, query);
    if (weights.total == 0)
        return SHARE_NOBODY;
    switch (query->strategy) {
    case SHARE_STICKY:
        return sticky_slot(group, &weights);
    case SHARE_RANDOM:
    case SHARE_HASH_CLIENTID:
    case SHARE_HASH_TOPIC: /* in the order of slots, so that all workers pick the same */
        return slot_at(group, &weights, query, query->value % weights.total, 0);
    case SHARE_LOCAL:
        if ((weights.slots & bit_of(query->self)) != 0)
            return query->self;
        break;
    case SHARE_ROUND_ROBIN:
        break;
    }
    return slot_at(group, &weights, query, group->cursor % weights.total, query->self);
}

void share_picked(struct topic_group *group, const struct share_query *query, unsigned slot)
{
    group->cursor++;
    if (query->strategy == SHARE_STICKY)
        group->sticky_slot = slot + 1;
}

/* Which of them is told by other bits than those that told the slot. */
static uint32_t hashed_index(uint64_t value, uint32_t count)
{
    return (uint32_t)((value * UINT64_C(0x9e3779b97f4a7c15) >> 32) % count);
}

struct subscription *share_pick_member(struct topic_group *group, const struct share_query *query)
{
    uint32_t count = group->connected > 0 ? group->connected : group->count;
    if (count == 0)
        return NULL;
    switch (query->strategy) {
    case SHARE_STICKY:
        if (group->connected == 0)
            break;
        if (group->sticky == NULL)
            group->sticky = group->members[0];
        return group->sticky;
    case SHARE_RANDOM:
    case SHARE_HASH_CLIENTID:
    case SHARE_HASH_TOPIC:
        return group->members[hashed_index(query->value, count)];
    case SHARE_LOCAL:
    case SHARE_ROUND_ROBIN:
        break;
    }
    return group->members[group->local_cursor++ % count];
}
