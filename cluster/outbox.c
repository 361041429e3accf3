/* Control records that wait for room in a lane. Worker process; never blocks, never marks a peer out of step.
 */
#include "cluster/outbox.h"

#include <stdlib.h>

struct outbox_record {
    struct list link;
    enum bus_record_type type;
    enum bus_room room;
    uint32_t size;
    uint8_t body[];
};

static bool put_now(
    struct outbox *outbox, unsigned peer, enum bus_record_type type, struct bytes body, enum bus_room room)
{
    uint64_t bit = UINT64_C(1) << peer;
    if (bus_full(outbox->bus, bit, body.size + OUTBOX_SLACK, room) != 0)
        return false;
    uint8_t *to = bus_put(outbox->bus, peer, type, body.size, room);
    if (to == NULL)
        return false;
    memcpy(to, body.data, body.size);
    return true;
}

void outbox_init(struct outbox *outbox, struct bus *bus)
{
    *outbox = (struct outbox){.bus = bus};
    for (unsigned peer = 0; peer < BUS_PEERS_MAX; peer++)
        list_init(&outbox->waiting[peer]);
}

void outbox_done(struct outbox *outbox)
{
    for (unsigned peer = 0; peer < BUS_PEERS_MAX; peer++)
        outbox_drop(outbox, peer);
}

void outbox_put(
    struct outbox *outbox, unsigned peer, enum bus_record_type type, struct bytes body, enum bus_room room)
{
    uint64_t bit = UINT64_C(1) << peer;
    if ((bus_live_peers(outbox->bus) & bit) == 0)
        return;
    if (list_empty(&outbox->waiting[peer]) && put_now(outbox, peer, type, body, room))
        return;
    struct outbox_record *record = NULL;
    if (outbox->size[peer] + sizeof *record + body.size <= OUTBOX_MAX)
        record = malloc(sizeof *record + body.size);
    if (record == NULL) {
        outbox->lost |= bit;
        return;
    }
    record->type = type;
    record->room = room;
    record->size = (uint32_t)body.size;
    memcpy(record->body, body.data, body.size);
    outbox->size[peer] += sizeof *record + body.size;
    list_append(&outbox->waiting[peer], &record->link);
}

void outbox_pump(struct outbox *outbox, unsigned peer)
{
    while (!list_empty(&outbox->waiting[peer])) {
        struct outbox_record *record = list_entry(outbox->waiting[peer].next, struct outbox_record, link);
        if (!put_now(outbox, peer, record->type, bytes_of(record->body, record->size), record->room))
            return;
        outbox->size[peer] -= sizeof *record + record->size;
        list_remove(&record->link);
        free(record);
    }
}

void outbox_pump_all(struct outbox *outbox)
{
    for (uint64_t live = bus_live_peers(outbox->bus); live != 0; live &= live - 1)
        outbox_pump(outbox, (unsigned)__builtin_ctzll(live));
}

void outbox_drop(struct outbox *outbox, unsigned peer)
{
    list_for_each(&outbox->waiting[peer], element, following)
    {
        list_remove(element);
        free(list_entry(element, struct outbox_record, link));
    }
    outbox->size[peer] = 0;
    outbox->lost &= ~(UINT64_C(1) << peer);
}

bool outbox_empty(const struct outbox *outbox, unsigned peer)
{
    return list_empty(&outbox->waiting[peer]);
}
