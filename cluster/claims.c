/*
 * Claims: life of the module, who is whose registrar, and what comes by the bus. The claimant is in
 * claims_claimant.c, the records in claims_registrar.c, reports in claims_collect.c. Worker process; never
 * logs.
 */
#include "cluster/claims_private.h"

#include "shared/clock.h"

#include <assert.h>
#include <stdlib.h>

static enum status on_record(void *context, const struct bus_record *record);
static void on_started(void *context, unsigned peer);
static void on_died(void *context, unsigned peer);
static void on_room(void *context, unsigned peer);
static void on_out_of_step(void *context, unsigned peer);
static void on_turn_ending(void *context);
static void on_tick(void *context);

enum status claims_new(const struct claims_settings *settings, struct claims **ret_claims)
{
    assert(settings->workers >= 1 && settings->workers <= BUS_PEERS_MAX);
    struct claims *claims = calloc(1, sizeof *claims);
    if (claims == NULL)
        return STATUS_NO_MEMORY;
    claims->bus = settings->bus;
    claims->hash = settings->hash;
    claims->workers = settings->workers;
    claims->timeout_us = settings->timeout_us != 0 ? settings->timeout_us : CLAIMS_TIMEOUT_US;
    claims->engine = *settings;
    claims->sweep_due_us = UINT64_MAX;
    outbox_init(&claims->outbox, claims->bus);
    list_init(&claims->outstanding);
    list_init(&claims->superseded);
    list_init(&claims->ghosts);
    for (unsigned i = 0; i < CLAIMS_BUCKETS; i++) {
        list_init(&claims->buckets[i]);
        list_init(&claims->client_buckets[i]);
        list_init(&claims->ghost_buckets[i]);
        list_init(&claims->superseded_buckets[i]);
    }
    for (unsigned i = 0; i < BUS_PEERS_MAX; i++)
        list_init(&claims->homes[i].pending);
    bus_set_handler(claims->bus, BUS_RECORD_CLAIM, on_record, claims);
    bus_watch(claims->bus, &(struct bus_watcher){.context = claims,
                               .started = on_started,
                               .died = on_died,
                               .room = on_room,
                               .out_of_step = on_out_of_step,
                               .turn_ending = on_turn_ending,
                               .tick = on_tick});
    *ret_claims = claims;
    return STATUS_OK;
}

void claims_free(struct claims **claims)
{
    struct claims *it = *claims;
    *claims = NULL;
    if (it == NULL)
        return;
    list_for_each(&it->outstanding, element, following)
    {
        struct claim *claim = list_entry(element, struct claim, link);
        list_remove(&claim->link);
        list_remove(&claim->bucket);
        list_remove(&claim->client_bucket);
    }
    list_for_each(&it->ghosts, element, following) free(list_entry(element, struct claims_ghost, link));
    list_for_each(&it->superseded, element, following)
        free(list_entry(element, struct claims_superseded, link));
    claims_collect_done(it);
    claims_registrar_done(it);
    outbox_done(&it->outbox);
    free(it);
}

void claims_start(struct claims *claims)
{
    if (bus_self(claims->bus) < claims->workers)
        claims_collect_begin(claims, bus_self(claims->bus));
}

uint64_t claims_next_us(const struct claims *claims)
{
    uint64_t next_us = UINT64_MAX;
    if (!list_empty(&claims->outstanding))
        next_us = list_entry(claims->outstanding.next, struct claim, link)->begun_us + claims->timeout_us;
    for (unsigned home = 0; home < claims->workers; home++) {
        const struct claims_home_slot *slot = &claims->homes[home];
        if (slot->state == HOME_COLLECTING && slot->deadline_us < next_us)
            next_us = slot->deadline_us;
    }
    return next_us;
}

uint64_t claims_owned(const struct claims *claims, struct bytes client_id)
{
    return claims->engine.owned(claims->engine.context, client_id);
}

unsigned claims_home(const struct claims *claims, struct bytes client_id)
{
    return claims_home_of(claims, claims_hash(claims, client_id));
}

uint64_t claims_hash(const struct claims *claims, struct bytes client_id)
{
    return keyed_hash_of(claims->hash, client_id);
}

/* The high half: the low bits choose the slot in the registrar's own table. */
unsigned claims_home_of(const struct claims *claims, uint64_t hash)
{
    return (unsigned)((hash >> 32) % claims->workers);
}

/* The first live slot from the home slot on; we ourselves are live. */
unsigned claims_registrar_of(const struct claims *claims, unsigned home)
{
    unsigned slot = home;
    while (!claims_is_live(claims, slot))
        slot = (slot + 1) % claims->workers;
    return slot;
}

bool claims_is_live(const struct claims *claims, unsigned peer)
{
    if (peer == bus_self(claims->bus))
        return true;
    return peer < BUS_PEERS_MAX && (bus_live_peers(claims->bus) >> peer & 1) != 0;
}

uint64_t claims_incarnation(const struct claims *claims, unsigned peer)
{
    if (peer == bus_self(claims->bus))
        return bus_origin(claims->bus).incarnation;
    return bus_peer_origin(claims->bus, peer).incarnation;
}

uint8_t *claims_begin(struct claims *claims, unsigned peer, uint8_t *to, enum claims_kind kind)
{
    to = record_write_u8(to, (uint8_t)kind);
    return record_write_u64(to, bus_peer_origin(claims->bus, peer).incarnation);
}

uint8_t *claims_write_id(uint8_t *to, struct bytes client_id)
{
    to = record_write_u16(to, (uint16_t)client_id.size);
    return record_write_bytes(to, client_id);
}

/* What stands in scratch up to `end`. */
void claims_send(struct claims *claims, unsigned peer, const uint8_t *end)
{
    struct bytes body = bytes_of(claims->scratch, (size_t)(end - claims->scratch));
    outbox_put(&claims->outbox, peer, BUS_RECORD_CLAIM, body, BUS_ROOM_CONTROL);
}

static struct bytes read_id(struct record_reader *reader)
{
    uint16_t size = record_read_u16(reader);
    if (size == 0 || size > CLAIMS_CLIENT_ID_MAX)
        reader->failed = true;
    return record_read_bytes(reader, size);
}

static enum status on_claim(struct claims *claims, unsigned peer, uint8_t kind, struct record_reader *reader)
{
    uint64_t number = record_read_u64(reader);
    uint64_t begun_us = record_read_u64(reader);
    uint64_t since_us = record_read_u64(reader);
    struct bytes client_id = read_id(reader);
    if (!record_read_end(reader))
        return STATUS_PROTOCOL;
    claims_handle(claims, peer, kind, number, begun_us, since_us, client_id);
    return STATUS_OK;
}

static enum status on_answer(struct claims *claims, unsigned peer, struct record_reader *reader)
{
    uint64_t number = record_read_u64(reader);
    uint8_t outcome = record_read_u8(reader);
    struct claims_grant grant = {.outcome = (enum claim_outcome)outcome};
    grant.stamp = record_read_u64(reader);
    grant.previous = record_read_u8(reader);
    grant.prior = record_read_u8(reader);
    grant.previous_stamp = record_read_u64(reader);
    struct bytes client_id = read_id(reader);
    if (!record_read_end(reader) || outcome > CLAIM_SUPERSEDED)
        return STATUS_PROTOCOL;
    claims_answered(claims, peer, number, &grant, client_id);
    return STATUS_OK;
}

static enum status on_release(struct claims *claims, unsigned peer, struct record_reader *reader)
{
    uint64_t stamp = record_read_u64(reader);
    bool unwanted = record_read_u8(reader) != 0;
    struct bytes client_id = read_id(reader);
    if (!record_read_end(reader))
        return STATUS_PROTOCOL;
    claims_handle_release(claims, peer, client_id, stamp, unwanted);
    return STATUS_OK;
}

static enum status on_superseded(struct claims *claims, struct record_reader *reader)
{
    uint64_t stamp = record_read_u64(reader);
    unsigned owner = record_read_u8(reader);
    uint64_t incarnation = record_read_u64(reader);
    struct bytes client_id = read_id(reader);
    if (!record_read_end(reader) || owner >= claims->workers)
        return STATUS_PROTOCOL;
    claims_superseded(claims, client_id, stamp, owner, incarnation);
    return STATUS_OK;
}

static enum status on_report(struct claims *claims, unsigned peer, struct record_reader *reader)
{
    while (!reader->failed && reader->rest.size > 0) {
        uint64_t stamp = record_read_u64(reader);
        uint64_t since_us = record_read_u64(reader);
        struct bytes client_id = read_id(reader);
        if (!reader->failed)
            claims_handle_report(claims, peer, client_id, stamp, since_us);
    }
    return reader->failed ? STATUS_PROTOCOL : STATUS_OK;
}

static enum status on_record(void *context, const struct bus_record *record)
{
    struct claims *claims = context;
    struct record_reader reader = record_read(record->body);
    uint8_t kind = record_read_u8(&reader);
    uint64_t incarnation = record_read_u64(&reader);
    if (reader.failed)
        return STATUS_PROTOCOL;
    if (incarnation != bus_origin(claims->bus).incarnation ||
        record->origin.incarnation != bus_peer_origin(claims->bus, record->peer).incarnation)
        return STATUS_OK; /* between the dead */
    switch (kind) {
    case CLAIMS_CLAIM:
    case CLAIMS_ASK:
        return on_claim(claims, record->peer, kind, &reader);
    case CLAIMS_ANSWER:
        return on_answer(claims, record->peer, &reader);
    case CLAIMS_RELEASE:
        return on_release(claims, record->peer, &reader);
    case CLAIMS_SUPERSEDED:
        return on_superseded(claims, &reader);
    case CLAIMS_REPORT_REQUEST:
        return claims_on_report_request(claims, record->peer, &reader);
    case CLAIMS_REPORT:
        return on_report(claims, record->peer, &reader);
    case CLAIMS_REPORT_END:
        return claims_on_report_end(claims, record->peer, &reader);
    default:
        return STATUS_PROTOCOL;
    }
}

static void on_started(void *context, unsigned peer)
{
    struct claims *claims = context;
    claims->generations[peer]++;
    outbox_drop(&claims->outbox, peer);
    claims_collect_peer_started(claims);
}

static void on_died(void *context, unsigned peer)
{
    struct claims *claims = context;
    claims->generations[peer]++;
    outbox_drop(&claims->outbox, peer);
    claims_superseder_died(claims, peer);
    claims_collect_peer_died(claims, peer);
    claims_registrar_died(claims, peer);
}

static void on_room(void *context, unsigned peer)
{
    struct claims *claims = context;
    outbox_pump(&claims->outbox, peer);
}

/* Reports may have been lost on the way, or requests for them: both are made again. */
static void on_out_of_step(void *context, unsigned peer)
{
    struct claims *claims = context;
    claims_report_all(claims, peer);
    claims_collect_again(claims, peer);
}

static void on_turn_ending(void *context)
{
    struct claims *claims = context;
    if (claims->ask_again)
        claims_claim_again(claims);
    outbox_pump_all(&claims->outbox);
}

static void on_tick(void *context)
{
    struct claims *claims = context;
    uint64_t now_us = clock_monotonic_us();
    /* We may have stood still: what was answered meanwhile counts before time-outs do. */
    bus_drain_if_stale(claims->bus, now_us);
    claims_time_out(claims, now_us);
    claims_collect_tick(claims, now_us);
    claims_registrar_tick(claims, now_us);
    claims_superseded_forget(claims, now_us);
    claims_ghosts_forget(claims, now_us);
    for (uint64_t lost = claims->outbox.lost; lost != 0; lost &= lost - 1) {
        unsigned peer = (unsigned)__builtin_ctzll(lost);
        if (!outbox_empty(&claims->outbox, peer))
            continue;
        claims->outbox.lost &= ~(UINT64_C(1) << peer);
        claims_report_all(claims, peer);
    }
}
