/*
 * The claimant: asks the registrar, waits, asks the next one if that dies, and goes on by itself after
 * claim_timeout. Also takes apart what comes by the bus. The records are in claims_registrar.c, reports in
 * claims_collect.c. Worker process; never logs.
 */
#include "cluster/claims_private.h"

#include "shared/clock.h"

#include <assert.h>
#include <stdlib.h>

static bool begin(struct claims *claims, struct claim *claim);
static void ask_registrar(struct claims *claims, struct claim *claim);
static struct claim *find_outstanding(struct claims *claims, uint64_t number);
static void take_off(struct claim *claim);
static void remember_cancelled(struct claims *claims, const struct claim *claim);
static void forget_ghosts(struct claims *claims, uint64_t now_us);
static bool ghost_answered(
    struct claims *claims, uint64_t number, struct bytes client_id, const struct claims_grant *grant);
static void finish(struct claim *claim, const struct claims_grant *grant);
static void time_out(struct claims *claims, uint64_t now_us);
static void go_on_alone(struct claims *claims, struct claim *claim);
static void claim_again(struct claims *claims);
static void give_back(struct claims *claims, struct bytes client_id, uint64_t stamp, bool unwanted);
static void remember_superseded(
    struct claims *claims, struct bytes client_id, uint64_t stamp, unsigned owner, bool owner_died);
static void forget_superseded(struct claims *claims, uint64_t now_us);
static void superseder_died(struct claims *claims, unsigned peer);
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

bool claims_claim(struct claims *claims, struct claim *claim)
{
    claim->asks = false;
    return begin(claims, claim);
}

bool claims_ask(struct claims *claims, struct claim *claim)
{
    claim->asks = true;
    return begin(claims, claim);
}

void claims_cancel(struct claims *claims, struct claim *claim)
{
    if (claim->id == 0)
        return;
    if (!claim->asks)
        remember_cancelled(claims, claim);
    take_off(claim);
}

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

void claims_release(struct claims *claims, struct bytes client_id, uint64_t stamp)
{
    give_back(claims, client_id, stamp, false);
}

uint64_t claims_owned(const struct claims *claims, struct bytes client_id)
{
    return claims->engine.owned(claims->engine.context, client_id);
}

void claims_reclaim(struct claims *claims, struct bytes client_id, uint64_t stamp)
{
    claims_report(claims, client_id, stamp, 0);
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

void claims_answered(struct claims *claims, unsigned registrar, uint64_t number,
    const struct claims_grant *grant, struct bytes client_id)
{
    bus_stamp_heard(claims->bus, grant->stamp);
    struct claim *claim = number != 0 ? find_outstanding(claims, number) : NULL;
    if (claim != NULL && !bytes_equal(claim->client_id, client_id))
        return; /* hostile */
    if (claim == NULL && grant->outcome == CLAIM_SUPERSEDED)
        (void)ghost_answered(claims, number, client_id, grant);
    if ((claim != NULL && claim->asks) || grant->outcome == CLAIM_SUPERSEDED) {
        if (claim != NULL)
            finish(claim, grant);
        return;
    }
    struct claims_grant result = *grant;
    /* The record names us by an earlier claim that nobody wanted in the end, not by the session that is here.
     */
    unsigned self = bus_self(claims->bus);
    bool own = result.previous == self &&
               claims->engine.owned(claims->engine.context, client_id) == result.previous_stamp;
    if (result.previous == self && !own && result.prior != CLAIMS_NOBODY)
        result.previous = result.prior;
    if (!claims_is_live(claims, result.previous))
        result.previous = CLAIMS_NOBODY;
    if (claim != NULL) {
        finish(claim, &result);
    } else if (grant->outcome == CLAIM_GRANTED) {
        /* A session that is ours all the time takes the stamp. One that was another's meanwhile must not
           become the newest by a claim that nobody wants any more. */
        bool cancelled = ghost_answered(claims, number, client_id, &result);
        if ((cancelled && !own) ||
            !claims->engine.late(claims->engine.context, client_id, result.stamp, result.previous)) {
            give_back(claims, client_id, result.stamp, true);
            uint64_t owned = claims_owned(claims, client_id);
            if (owned != 0) /* an older one: somebody may have to fetch it */
                claims_report(claims, client_id, owned, 0);
            return;
        }
    }
    /* The stand-in answered, and the home slot is back: it must know. */
    if (claims_registrar_of(claims, claims_home(claims, client_id)) != registrar)
        claims_report(claims, client_id, result.stamp, 0);
}

uint64_t claims_incarnation(const struct claims *claims, unsigned peer)
{
    if (peer == bus_self(claims->bus))
        return bus_origin(claims->bus).incarnation;
    return bus_peer_origin(claims->bus, peer).incarnation;
}

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

static bool begin(struct claims *claims, struct claim *claim)
{
    assert(claim->client_id.size >= 1 && claim->client_id.size <= CLAIMS_CLIENT_ID_MAX);
    claim->begun_us = clock_monotonic_us();
    if (claim->since_us == 0)
        claim->since_us = claim->begun_us;
    claim->id = ++claims->number;
    list_append(&claims->outstanding, &claim->link);
    list_init(&claim->bucket);
    list_append(&claims->buckets[claim->id % CLAIMS_BUCKETS], &claim->bucket);
    list_init(&claim->client_bucket);
    size_t client = claims_hash(claims, claim->client_id) % CLAIMS_BUCKETS;
    list_append(&claims->client_buckets[client], &claim->client_bucket);
    /* Answered in this very call: the caller gets the result, not the callback. */
    void (*answered)(struct claim *) = claim->answered;
    claim->answered = NULL;
    ask_registrar(claims, claim);
    claim->answered = answered;
    return claim->id == 0;
}

static void ask_registrar(struct claims *claims, struct claim *claim)
{
    uint64_t hash = claims_hash(claims, claim->client_id);
    uint8_t kind = claim->asks ? CLAIMS_ASK : CLAIMS_CLAIM;
    claim->registrar = claims_registrar_of(claims, claims_home_of(claims, hash));
    if (claim->registrar == bus_self(claims->bus)) {
        claims_handle(
            claims, claim->registrar, kind, claim->id, claim->begun_us, claim->since_us, claim->client_id);
        return;
    }
    uint8_t *to = claims_begin(claims, claim->registrar, claims->scratch, kind);
    to = record_write_u64(to, claim->id);
    to = record_write_u64(to, claim->begun_us);
    to = record_write_u64(to, claim->since_us);
    claims_send(claims, claim->registrar, claims_write_id(to, claim->client_id));
}

static struct claim *find_outstanding(struct claims *claims, uint64_t number)
{
    list_for_each(&claims->buckets[number % CLAIMS_BUCKETS], element, following)
    {
        struct claim *claim = list_entry(element, struct claim, bucket);
        if (claim->id == number)
            return claim;
    }
    return NULL;
}

static void take_off(struct claim *claim)
{
    claim->id = 0;
    list_remove(&claim->link);
    list_remove(&claim->bucket);
    list_remove(&claim->client_bucket);
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

static void remember_cancelled(struct claims *claims, const struct claim *claim)
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

static bool ghost_answered(
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

static void forget_ghosts(struct claims *claims, uint64_t now_us)
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

/* The claim may be freed by its callback. */
static void finish(struct claim *claim, const struct claims_grant *grant)
{
    take_off(claim);
    claim->outcome = grant->outcome;
    claim->stamp = grant->stamp;
    claim->previous = grant->previous;
    if (claim->answered != NULL)
        claim->answered(claim);
}

/* Nobody waits longer than this for who does not answer. */
static void time_out(struct claims *claims, uint64_t now_us)
{
    while (!list_empty(&claims->outstanding)) {
        struct claim *claim = list_entry(claims->outstanding.next, struct claim, link);
        if (claim->begun_us + claims->timeout_us > now_us)
            return;
        go_on_alone(claims, claim);
    }
}

/*
 * Those that a dead registrar has not answered. At the end of the turn, when all that the master has to say
 * is known: perhaps the next incarnation is there already. Begins anew after each that was answered at once:
 * its callback may have cancelled any other.
 */
static void claim_again(struct claims *claims)
{
    claims->ask_again = false;
    struct list *at = claims->outstanding.next;
    while (at != &claims->outstanding) {
        struct claim *claim = list_entry(at, struct claim, link);
        uint64_t number = claim->id;
        if (claim->registrar == CLAIMS_NOBODY) {
            ask_registrar(claims, claim);
            if (find_outstanding(claims, number) == NULL) {
                at = claims->outstanding.next;
                continue;
            }
        }
        at = at->next;
    }
}

/* The report goes out when the engine has the session: what it brings to light comes by `late`. */
static void go_on_alone(struct claims *claims, struct claim *claim)
{
    struct claims_grant grant = {.outcome = CLAIM_UNANSWERED, .previous = CLAIMS_NOBODY};
    if (claim->asks) {
        finish(claim, &grant);
        return;
    }
    grant.stamp = bus_stamp(claims->bus);
    struct bytes client_id = claim->client_id;
    uint64_t since_us = claim->since_us;
    uint8_t *copy = malloc(client_id.size);
    if (copy != NULL)
        memcpy(copy, client_id.data, client_id.size);
    finish(claim, &grant);
    if (copy != NULL)
        claims_report(claims, bytes_of(copy, client_id.size), grant.stamp, since_us);
    free(copy);
}

static void give_back(struct claims *claims, struct bytes client_id, uint64_t stamp, bool unwanted)
{
    unsigned registrar = claims_registrar_of(claims, claims_home(claims, client_id));
    if (registrar == bus_self(claims->bus)) {
        claims_handle_release(claims, registrar, client_id, stamp, unwanted);
        return;
    }
    uint8_t *to = claims_begin(claims, registrar, claims->scratch, CLAIMS_RELEASE);
    to = record_write_u64(to, stamp);
    to = record_write_u8(to, unwanted);
    claims_send(claims, registrar, claims_write_id(to, client_id));
}

/*
 * Those whose new owner died before it asked for the session, and those whom nobody has asked for in all this
 * time, are reported anew. In a list of its own meanwhile, since a report may find us superseded once more.
 */
static void forget_superseded(struct claims *claims, uint64_t now_us)
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

static void superseder_died(struct claims *claims, unsigned peer)
{
    list_for_each(&claims->superseded, element, following)
    {
        struct claims_superseded *it = list_entry(element, struct claims_superseded, link);
        it->owner_died |= it->owner == peer;
    }
}

/* What comes by the bus.
 * ---------------------------------------------------------------------------------------- */

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
    superseder_died(claims, peer);
    claims_collect_peer_died(claims, peer);
    list_for_each(&claims->outstanding, element, following)
    {
        struct claim *claim = list_entry(element, struct claim, link);
        if (claim->registrar == peer) {
            claim->registrar = CLAIMS_NOBODY;
            claims->ask_again = true;
        }
    }
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
        claim_again(claims);
    outbox_pump_all(&claims->outbox);
}

static void on_tick(void *context)
{
    struct claims *claims = context;
    uint64_t now_us = clock_monotonic_us();
    /* We may have stood still: what was answered meanwhile counts before time-outs do. */
    bus_drain_if_stale(claims->bus, now_us);
    time_out(claims, now_us);
    claims_collect_tick(claims, now_us);
    claims_registrar_tick(claims, now_us);
    forget_superseded(claims, now_us);
    forget_ghosts(claims, now_us);
    for (uint64_t lost = claims->outbox.lost; lost != 0; lost &= lost - 1) {
        unsigned peer = (unsigned)__builtin_ctzll(lost);
        if (!outbox_empty(&claims->outbox, peer))
            continue;
        claims->outbox.lost &= ~(UINT64_C(1) << peer);
        claims_report_all(claims, peer);
    }
}
