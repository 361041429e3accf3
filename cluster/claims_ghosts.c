/*
 * Claims that were given up before they were answered, or handed on: the registrar has granted them all the
 * same, and sends the next owner here. He is told who had the client before. Worker process.
 */
#include "cluster/claims_private.h"

#include "shared/clock.h"

#include <stdlib.h>

static struct claims_ghost *ghost_new(struct claims *claims, struct bytes client_id);

enum claim_trace claims_trace(const struct claims *claims, struct bytes client_id, uint64_t before,
    unsigned *ret_previous, uint64_t *ret_stamp)
{
    size_t bucket = claims_hash(claims, client_id) % CLAIMS_BUCKETS;
    enum claim_trace trace = CLAIM_TRACE_NONE;
    uint64_t now_us = clock_monotonic_us();
    list_for_each(&claims->ghost_buckets[bucket], element, following)
    {
        const struct claims_ghost *ghost = list_entry(element, struct claims_ghost, bucket);
        if (!bytes_equal(bytes_of(ghost->id, ghost->id_size), client_id))
            continue;
        if (!ghost->answered && now_us < ghost->late_us)
            return CLAIM_TRACE_WAITING;
        if (!ghost->answered)
            continue;
        if (ghost->previous == bus_self(claims->bus) || ghost->previous == CLAIMS_NOBODY)
            continue; /* what it replaced is told by the one before it, or by the session here */
        if (ghost->stamp >= before || (trace == CLAIM_TRACE_GIVEN_UP && ghost->stamp < *ret_stamp))
            continue;
        *ret_previous = ghost->previous;
        *ret_stamp = ghost->stamp;
        trace = CLAIM_TRACE_GIVEN_UP;
    }
    list_for_each(&claims->client_buckets[bucket], element, following)
    {
        const struct claim *claim = list_entry(element, struct claim, client_bucket);
        if (!claim->asks && bytes_equal(claim->client_id, client_id))
            return CLAIM_TRACE_WAITING;
    }
    return trace;
}

void claims_ghost_add(struct claims *claims, const struct claim *claim)
{
    struct claims_ghost *ghost = ghost_new(claims, claim->client_id);
    if (ghost == NULL)
        return;
    ghost->number = claim->id;
    ghost->late_us = claim->begun_us + claims->timeout_us;
}

void claims_handed_on(struct claims *claims, struct bytes client_id, uint64_t stamp, unsigned previous)
{
    struct claims_ghost *ghost = ghost_new(claims, client_id);
    if (ghost == NULL)
        return;
    ghost->answered = true;
    ghost->stamp = stamp;
    ghost->previous = previous;
}

bool claims_ghost_answered(
    struct claims *claims, uint64_t number, struct bytes client_id, const struct claims_grant *grant)
{
    size_t bucket = claims_hash(claims, client_id) % CLAIMS_BUCKETS;
    list_for_each(&claims->ghost_buckets[bucket], element, following)
    {
        struct claims_ghost *ghost = list_entry(element, struct claims_ghost, bucket);
        if (!bytes_equal(bytes_of(ghost->id, ghost->id_size), client_id))
            continue;
        /* Unasked: what the registrar found out about a claim that was given back meanwhile. */
        if (number == 0 && ghost->answered && ghost->stamp == grant->stamp &&
            claims_owned(claims, client_id) != grant->stamp)
            return true;
        if (number == 0 || ghost->number != number)
            continue;
        ghost->answered = true;
        ghost->previous = grant->previous;
        ghost->stamp = grant->stamp;
        return true;
    }
    return false;
}

void claims_ghosts_forget(struct claims *claims, uint64_t now_us)
{
    list_for_each(&claims->ghosts, element, following)
    {
        struct claims_ghost *ghost = list_entry(element, struct claims_ghost, link);
        if (ghost->until_us > now_us)
            return;
        list_remove(&ghost->link);
        list_remove(&ghost->bucket);
        free(ghost);
    }
}

/* Without memory it is not remembered: the next owner gets what it finds. */
static struct claims_ghost *ghost_new(struct claims *claims, struct bytes client_id)
{
    struct claims_ghost *ghost = calloc(1, sizeof *ghost + client_id.size);
    if (ghost == NULL)
        return NULL;
    ghost->until_us = clock_monotonic_us() + CLAIMS_GHOST_US;
    ghost->previous = CLAIMS_NOBODY;
    ghost->id_size = (uint16_t)client_id.size;
    memcpy(ghost->id, client_id.data, client_id.size);
    list_append(&claims->ghosts, &ghost->link);
    list_append(&claims->ghost_buckets[claims_hash(claims, client_id) % CLAIMS_BUCKETS], &ghost->bucket);
    return ghost;
}
