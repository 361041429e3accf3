/*
 * Clients of ours that another worker has claimed: whatever gets lost on the way to it, the registrar hears
 * of them once more. Worker process.
 */
#include "cluster/claims_private.h"

#include "shared/clock.h"

#include <stdlib.h>

static void remember_superseded(
    struct claims *claims, struct bytes client_id, uint64_t stamp, unsigned owner, bool owner_died);

void claims_superseded(
    struct claims *claims, struct bytes client_id, uint64_t stamp, unsigned owner, uint64_t incarnation)
{
    bus_stamp_heard(claims->bus, stamp);
    uint64_t own = claims->engine.owned(claims->engine.context, client_id);
    if (own == 0 || own >= stamp)
        return;
    bool died = !claims_is_live(claims, owner) || claims_incarnation(claims, owner) != incarnation;
    remember_superseded(claims, client_id, own, owner, died);
    claims->engine.superseded(claims->engine.context, client_id, stamp, owner);
}

void claims_tell_newer(struct claims *claims, unsigned peer, struct bytes client_id, uint64_t stamp)
{
    unsigned self = bus_self(claims->bus);
    uint8_t *to = claims_begin(claims, peer, claims->scratch, CLAIMS_SUPERSEDED);
    to = record_write_u64(to, stamp);
    to = record_write_u8(to, (uint8_t)self);
    to = record_write_u64(to, claims_incarnation(claims, self));
    claims_send(claims, peer, claims_write_id(to, client_id));
}

static struct claims_superseded *find_superseded(struct claims *claims, struct bytes client_id, size_t bucket)
{
    list_for_each(&claims->superseded_buckets[bucket], element, following)
    {
        struct claims_superseded *it = list_entry(element, struct claims_superseded, bucket);
        if (bytes_equal(bytes_of(it->id, it->id_size), client_id))
            return it;
    }
    return NULL;
}

/* Without memory it is not: only a lost message matters then. */
static void remember_superseded(
    struct claims *claims, struct bytes client_id, uint64_t stamp, unsigned owner, bool owner_died)
{
    size_t bucket = claims_hash(claims, client_id) % CLAIMS_BUCKETS;
    struct claims_superseded *it = find_superseded(claims, client_id, bucket);
    if (it == NULL) {
        it = malloc(sizeof *it + client_id.size);
        if (it == NULL)
            return;
        it->until_us = clock_monotonic_us() + CLAIMS_SUPERSEDED_US;
        it->id_size = (uint16_t)client_id.size;
        memcpy(it->id, client_id.data, client_id.size);
        list_append(&claims->superseded, &it->link);
        list_append(&claims->superseded_buckets[bucket], &it->bucket);
    }
    it->stamp = stamp;
    it->owner = owner;
    it->owner_died = owner_died;
}

/*
 * Those whose new owner died before it asked for the session, and those whom nobody has asked for in all this
 * time, are reported anew. In a list of its own meanwhile, since a report may find us superseded once more.
 */
void claims_superseded_forget(struct claims *claims, uint64_t now_us)
{
    struct list due;
    list_init(&due);
    list_for_each(&claims->superseded, element, following)
    {
        struct claims_superseded *it = list_entry(element, struct claims_superseded, link);
        if (!it->owner_died && it->until_us > now_us)
            continue;
        list_remove(&it->link);
        list_remove(&it->bucket);
        list_append(&due, &it->link);
    }
    while (!list_empty(&due)) {
        struct claims_superseded *it = list_entry(due.next, struct claims_superseded, link);
        struct bytes client_id = bytes_of(it->id, it->id_size);
        if (claims_owned(claims, client_id) == it->stamp)
            claims_report(claims, client_id, it->stamp, 0);
        list_remove(&it->link);
        free(it);
    }
}

void claims_superseder_died(struct claims *claims, unsigned peer)
{
    list_for_each(&claims->superseded, element, following)
    {
        struct claims_superseded *it = list_entry(element, struct claims_superseded, link);
        it->owner_died |= it->owner == peer;
    }
}
