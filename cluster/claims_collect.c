/*
 * Reports: a registrar that is new, or stands in for a dead slot, asks all live peers what they own before it
 * answers anybody; at most claim_timeout. Both sides. Worker process.
 */
#include "cluster/claims_private.h"

#include "shared/clock.h"

#include <stdlib.h>

static void request(struct claims *claims, unsigned peer, unsigned home);
static void ready(struct claims *claims, unsigned home);
static void forget_if_back(struct claims *claims, unsigned home);

/* What for_each_owned of the engine adds to. */
struct claims_report {
    struct claims *claims;
    unsigned peer;  /* to whom; self: straight into the records */
    uint64_t homes; /* home slots that are wanted */
    uint8_t *to;    /* in claims->page; NULL: nothing yet */
};

static void add(struct claims_report *report, struct bytes client_id, uint64_t stamp, uint64_t since_us);
static void report_owned(struct claims *claims, unsigned peer, uint64_t homes);
static void report_flush(struct claims_report *report);

void claims_report_add(struct claims_report *report, struct bytes client_id, uint64_t stamp)
{
    add(report, client_id, stamp, 0);
}

static void add(struct claims_report *report, struct bytes client_id, uint64_t stamp, uint64_t since_us)
{
    struct claims *claims = report->claims;
    if ((report->homes >> claims_home(claims, client_id) & 1) == 0)
        return;
    if (report->peer == bus_self(claims->bus)) {
        claims_handle_report(claims, report->peer, client_id, stamp, since_us);
        return;
    }
    size_t size = 8 + 8 + 2 + client_id.size;
    size_t page_size = (size_t)bus_window_of(claims->bus, report->peer) / 8;
    if (page_size > sizeof claims->page)
        page_size = sizeof claims->page;
    if (report->to != NULL && report->to + size > claims->page + page_size)
        report_flush(report);
    if (CLAIMS_HEAD_SIZE + size > page_size) { /* alone, however long */
        uint8_t *to = claims_begin(claims, report->peer, claims->scratch, CLAIMS_REPORT);
        to = record_write_u64(to, stamp);
        to = record_write_u64(to, since_us);
        claims_send(claims, report->peer, claims_write_id(to, client_id));
        return;
    }
    if (report->to == NULL)
        report->to = claims_begin(claims, report->peer, claims->page, CLAIMS_REPORT);
    report->to = record_write_u64(report->to, stamp);
    report->to = record_write_u64(report->to, since_us);
    report->to = claims_write_id(report->to, client_id);
}

bool claims_collected(struct claims *claims, unsigned home)
{
    if (claims->homes[home].state == HOME_UNKNOWN)
        claims_collect_begin(claims, home);
    return claims->homes[home].state == HOME_READY;
}

void claims_wait_for_reports(struct claims *claims, unsigned peer, uint8_t kind, uint64_t number,
    uint64_t begun_us, uint64_t since_us, struct bytes client_id)
{
    struct claims_pending *pending = malloc(sizeof *pending + client_id.size);
    if (pending == NULL)
        return; /* the claimant will not wait long */
    pending->peer = peer;
    pending->kind = kind;
    pending->number = number;
    pending->begun_us = begun_us;
    pending->since_us = since_us;
    pending->id_size = (uint16_t)client_id.size;
    memcpy(pending->id, client_id.data, client_id.size);
    unsigned home = claims_home(claims, client_id);
    list_append(&claims->homes[home].pending, &pending->link);
}

void claims_collect_begin(struct claims *claims, unsigned home)
{
    struct claims_home_slot *slot = &claims->homes[home];
    slot->state = HOME_COLLECTING;
    slot->number = ++claims->number;
    slot->deadline_us = clock_monotonic_us() + claims->timeout_us;
    slot->waiting = bus_live_peers(claims->bus);
    if (claims->workers < BUS_PEERS_MAX)
        slot->waiting &= (UINT64_C(1) << claims->workers) - 1;
    for (uint64_t left = slot->waiting; left != 0; left &= left - 1)
        request(claims, (unsigned)__builtin_ctzll(left), home);
    report_owned(claims, bus_self(claims->bus), UINT64_C(1) << home);
    if (slot->waiting == 0)
        ready(claims, home);
}

void claims_collect_peer_died(struct claims *claims, unsigned peer)
{
    claims_registrar_sweep_later(claims);
    for (unsigned home = 0; home < claims->workers; home++) {
        struct claims_home_slot *slot = &claims->homes[home];
        list_for_each(&slot->pending, element, following)
        {
            struct claims_pending *pending = list_entry(element, struct claims_pending, link);
            if (pending->peer != peer)
                continue;
            list_remove(&pending->link);
            free(pending);
        }
        slot->waiting &= ~(UINT64_C(1) << peer);
        if (slot->state == HOME_COLLECTING && slot->waiting == 0)
            ready(claims, home);
    }
}

void claims_collect_peer_started(struct claims *claims)
{
    for (unsigned home = 0; home < claims->workers; home++)
        forget_if_back(claims, home);
}

void claims_collect_again(struct claims *claims, unsigned peer)
{
    for (unsigned home = 0; home < claims->workers; home++) {
        if (claims->homes[home].state != HOME_UNKNOWN)
            request(claims, peer, home);
    }
}

void claims_collect_tick(struct claims *claims, uint64_t now_us)
{
    for (unsigned home = 0; home < claims->workers; home++) {
        if (claims->homes[home].state == HOME_COLLECTING && claims->homes[home].deadline_us <= now_us)
            ready(claims, home);
    }
}

void claims_collect_done(struct claims *claims)
{
    for (unsigned home = 0; home < BUS_PEERS_MAX; home++) {
        list_for_each(&claims->homes[home].pending, element, following)
            free(list_entry(element, struct claims_pending, link));
    }
}

void claims_report(struct claims *claims, struct bytes client_id, uint64_t stamp, uint64_t since_us)
{
    unsigned home = claims_home(claims, client_id);
    struct claims_report report = {
        .claims = claims, .peer = claims_registrar_of(claims, home), .homes = UINT64_C(1) << home};
    add(&report, client_id, stamp, since_us);
    report_flush(&report);
}

void claims_report_all(struct claims *claims, unsigned peer)
{
    uint64_t homes = 0;
    for (unsigned home = 0; home < claims->workers; home++) {
        if (claims_registrar_of(claims, home) == peer)
            homes |= UINT64_C(1) << home;
    }
    if (homes != 0)
        report_owned(claims, peer, homes);
}

enum status claims_on_report_request(struct claims *claims, unsigned peer, struct record_reader *reader)
{
    unsigned home = record_read_u8(reader);
    uint64_t number = record_read_u64(reader);
    if (!record_read_end(reader) || home >= claims->workers)
        return STATUS_PROTOCOL;
    report_owned(claims, peer, UINT64_C(1) << home);
    uint8_t *to = claims_begin(claims, peer, claims->scratch, CLAIMS_REPORT_END);
    to = record_write_u8(to, (uint8_t)home);
    claims_send(claims, peer, record_write_u64(to, number));
    return STATUS_OK;
}

enum status claims_on_report_end(struct claims *claims, unsigned peer, struct record_reader *reader)
{
    unsigned home = record_read_u8(reader);
    uint64_t number = record_read_u64(reader);
    if (!record_read_end(reader) || home >= claims->workers)
        return STATUS_PROTOCOL;
    struct claims_home_slot *slot = &claims->homes[home];
    if (slot->number != number)
        return STATUS_OK; /* of an earlier request */
    slot->waiting &= ~(UINT64_C(1) << peer);
    if (slot->state == HOME_COLLECTING && slot->waiting == 0)
        ready(claims, home);
    return STATUS_OK;
}

static void request(struct claims *claims, unsigned peer, unsigned home)
{
    uint8_t *to = claims_begin(claims, peer, claims->scratch, CLAIMS_REPORT_REQUEST);
    to = record_write_u8(to, (uint8_t)home);
    claims_send(claims, peer, record_write_u64(to, claims->homes[home].number));
}

/* Answers all who waited, in the order in which they came. */
static void ready(struct claims *claims, unsigned home)
{
    struct claims_home_slot *slot = &claims->homes[home];
    slot->state = HOME_READY;
    struct list pending;
    list_init(&pending);
    list_splice(&pending, &slot->pending);
    list_for_each(&pending, element, following)
    {
        struct claims_pending *it = list_entry(element, struct claims_pending, link);
        list_remove(&it->link);
        claims_handle(claims, it->peer, it->kind, it->number, it->begun_us, it->since_us,
            bytes_of(it->id, it->id_size));
        free(it);
    }
    forget_if_back(claims, home);
}

/* The slot that we stood in for is back: what we know of its clients will be out of date soon. */
static void forget_if_back(struct claims *claims, unsigned home)
{
    struct claims_home_slot *slot = &claims->homes[home];
    if (slot->state != HOME_READY || claims_registrar_of(claims, home) == bus_self(claims->bus))
        return;
    slot->state = HOME_UNKNOWN;
    claims_registrar_forget_home(claims, home);
}

static void report_owned(struct claims *claims, unsigned peer, uint64_t homes)
{
    struct claims_report report = {.claims = claims, .peer = peer, .homes = homes};
    claims->engine.for_each_owned(claims->engine.context, &report);
    report_flush(&report);
}

static void report_flush(struct claims_report *report)
{
    struct claims *claims = report->claims;
    if (report->to == NULL)
        return;
    struct bytes body = bytes_of(claims->page, (size_t)(report->to - claims->page));
    outbox_put(&claims->outbox, report->peer, BUS_RECORD_CLAIM, body, BUS_ROOM_PUBLICATION);
    report->to = NULL;
}
