/*
 * The retained messages of a worker as part of the full state that a new peer takes (cluster/routes.h): sent
 * as a stream of chunks in order, a page per turn and as the lane has room; a message may be larger than a
 * record. A node that is reachable again gets them from one worker of each other node, deletions included,
 * and the newest wins: so both sides of a split come to the same. Worker process. What comes in is checked
 * and bounded by the largest packet.
 *
 * Record: total size u32, offset u32, the bytes from there on; the whole is an encoded publication.
 */
#include "node/worker_context.h"

#include "shared/log.h"

#include <stdlib.h>

#define CHUNK_HEAD 8
#define CHUNK_MAX  16384
#define PAGE       64 /* messages per turn and peer */

struct retained_transfer {
    struct retained_walk *walk; /* out: NULL when none is under way */
    uint8_t *out;               /* the message that is being sent */
    uint32_t out_size, out_sent;
    uint8_t *in; /* the message that is coming in */
    uint32_t in_size, in_filled;
};

/* Sends on with the current message. False: no room now. */
static bool send_chunks(struct worker *worker, unsigned peer, struct retained_transfer *transfer)
{
    while (transfer->out_sent < transfer->out_size) {
        uint32_t left = transfer->out_size - transfer->out_sent;
        uint32_t size = left < CHUNK_MAX ? left : CHUNK_MAX;
        if (bus_full(worker->bus, UINT64_C(1) << peer, CHUNK_HEAD + size, BUS_ROOM_PUBLICATION))
            return false;
        uint8_t *to =
            bus_put(worker->bus, peer, BUS_RECORD_RETAINED, CHUNK_HEAD + size, BUS_ROOM_PUBLICATION);
        if (to == NULL)
            return false;
        put_u32_le(to, transfer->out_size);
        put_u32_le(to + 4, transfer->out_sent);
        memcpy(to + CHUNK_HEAD, transfer->out + transfer->out_sent, size);
        transfer->out_sent += size;
    }
    free(transfer->out);
    transfer->out = NULL;
    transfer->out_size = transfer->out_sent = 0;
    return true;
}

static void out_clear(struct retained_transfer *transfer)
{
    if (transfer->walk != NULL)
        retained_walk_free(&transfer->walk);
    free(transfer->out);
    transfer->out = NULL;
    transfer->out_size = transfer->out_sent = 0;
}

static bool take_message(struct retained_transfer *transfer, const struct publication *message)
{
    struct publication_view view = publication_view(message);
    size_t size = acceptance_encoded_size(&view);
    transfer->out = malloc(size);
    if (transfer->out == NULL)
        return false;
    acceptance_encode(transfer->out, &view);
    transfer->out_size = (uint32_t)size;
    return true;
}

static bool send_more(struct worker *worker, unsigned peer, bool first)
{
    struct retained_transfer *transfer = &worker->transfers[peer];
    if (first) {
        out_clear(transfer);
        transfer->walk = retained_walk_new_all(worker->retained);
    }
    if (transfer->walk == NULL)
        return true;
    for (unsigned i = 0; i < PAGE; i++) {
        if (!send_chunks(worker, peer, transfer))
            return false;
        struct retained_found found;
        bool more = true;
        while (retained_walk_next(transfer->walk, &found, 1, PAGE, &more) == 0) {
            if (!more) {
                out_clear(transfer);
                return true;
            }
        }
        if (!take_message(transfer, found.message))
            log_error("out of memory: worker %u does not get a retained message", peer);
    }
    return false;
}

bool retained_state_more(void *context, unsigned peer, bool first)
{
    struct worker *worker = context;
    /* The link keeps none. */
    return peer >= worker->child->workers || send_more(worker, peer, first);
}

/* The first of this node's workers that lives speaks for all: they have the same. */
static bool speaks_for_node(const struct worker *worker)
{
    return (bus_live_peers(worker->bus) & ((UINT64_C(1) << bus_self(worker->bus)) - 1)) == 0;
}

bool retained_state_turn(struct worker *worker)
{
    if (worker->retained_due == 0 || !worker->ready || worker->held || !speaks_for_node(worker))
        return false;
    bool more = false;
    bus_for_each_peer(worker->retained_due, peer)
    {
        uint64_t bit = UINT64_C(1) << peer;
        bool first = (worker->retained_begun & bit) == 0;
        worker->retained_begun |= bit;
        if (send_more(worker, peer, first))
            worker->retained_due &= ~bit;
        else if (bus_full(worker->bus, bit, CHUNK_HEAD + CHUNK_MAX, BUS_ROOM_PUBLICATION) == 0)
            more = true; /* a page is out, the next one in the next turn */
    }
    return more;
}

static void in_clear(struct retained_transfer *transfer)
{
    free(transfer->in);
    transfer->in = NULL;
    transfer->in_size = transfer->in_filled = 0;
}

static enum status keep(struct worker *worker, struct bytes encoded)
{
    struct publication_view view;
    enum status status = acceptance_decode(encoded, &view);
    if (status != STATUS_OK || !view.meta.retain)
        return STATUS_PROTOCOL;
    struct publication *message = publication_new(&view);
    if (message == NULL)
        return STATUS_NO_MEMORY;
    bus_stamp_heard(worker->bus, view.meta.stamp);
    status = retained_put(worker->retained, message);
    publication_unref(&message);
    retained_count_anew(worker);
    return status == STATUS_EXISTS ? STATUS_OK : status;
}

static enum status on_chunk(void *context, const struct bus_record *record)
{
    struct worker *worker = context;
    struct retained_transfer *transfer = &worker->transfers[record->peer];
    if (record->body.size <= CHUNK_HEAD)
        return STATUS_PROTOCOL;
    uint32_t total = get_u32_le(record->body.data);
    uint32_t offset = get_u32_le(record->body.data + 4);
    size_t size = record->body.size - CHUNK_HEAD;
    if (offset == 0) {
        in_clear(transfer);
        if (total > worker->config->mqtt.max_packet_size + 1024)
            return STATUS_PROTOCOL;
        transfer->in = malloc(total);
        transfer->in_size = transfer->in == NULL ? 0 : total;
    }
    if (transfer->in == NULL || total != transfer->in_size || offset != transfer->in_filled ||
        size > total - offset) {
        in_clear(transfer);
        return STATUS_PROTOCOL;
    }
    memcpy(transfer->in + offset, record->body.data + CHUNK_HEAD, size);
    transfer->in_filled += (uint32_t)size;
    if (transfer->in_filled < total)
        return STATUS_OK;
    enum status status = keep(worker, bytes_of(transfer->in, total));
    in_clear(transfer);
    return status;
}

static void on_node_started(void *context, unsigned peer)
{
    struct worker *worker = context;
    if (peer < worker->child->peers)
        return;
    worker->retained_due |= UINT64_C(1) << peer;
    worker->retained_begun &= ~(UINT64_C(1) << peer);
}

static void on_peer_gone(void *context, unsigned peer)
{
    struct worker *worker = context;
    worker->retained_due &= ~(UINT64_C(1) << peer);
    out_clear(&worker->transfers[peer]);
    in_clear(&worker->transfers[peer]);
}

enum status retained_state_open(struct worker *worker)
{
    worker->transfers = calloc(CHILD_SLOTS_MAX, sizeof *worker->transfers);
    if (worker->transfers == NULL)
        return STATUS_NO_MEMORY;
    bus_set_handler(worker->bus, BUS_RECORD_RETAINED, on_chunk, worker);
    bus_watch(
        worker->bus, &(struct bus_watcher){
                         .context = worker, .far = true, .started = on_node_started, .died = on_peer_gone});
    return STATUS_OK;
}

void retained_state_done(struct worker *worker)
{
    for (unsigned i = 0; worker->transfers != NULL && i < CHILD_SLOTS_MAX; i++) {
        out_clear(&worker->transfers[i]);
        in_clear(&worker->transfers[i]);
    }
    free(worker->transfers);
    worker->transfers = NULL;
}
