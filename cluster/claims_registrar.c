/*
 * The registrar's records: who owns a client, since which stamp, and who had it before. Newest stamp wins.
 * Worker process. Freed on release; those of dead owners are swept up some time after, a part per tick.
 */
#include "cluster/claims_private.h"

#include "shared/clock.h"

#include <stdlib.h>

/* A dead worker's clients are reported by whoever still has their sessions, before its records go. */
#define SWEEP_DELAY_US 2000000u
/* Records looked at per tick. */
#define SWEEP_BUDGET 20000u

static bool grant_claim(struct claims *claims, unsigned peer, struct bytes client_id, uint64_t hash,
    uint64_t since_us, struct claims_grant *ret_grant);
static bool given_up(const struct claims *claims, const struct claims_record *record, uint64_t since_us);
static void answer(struct claims *claims, unsigned peer, uint64_t number, const struct claims_grant *grant,
    struct bytes client_id);
static void tell_superseded(
    struct claims *claims, unsigned peer, struct bytes client_id, uint64_t stamp, unsigned owner);
static void tell_late(
    struct claims *claims, unsigned owner, struct bytes client_id, uint64_t stamp, unsigned previous);
static struct claims_record *record_find(struct claims *claims, struct bytes client_id, uint64_t hash);
static struct claims_record *record_new(struct claims *claims, struct bytes client_id, uint64_t hash);
static void record_free(struct claims *claims, struct claims_record *record);
static void set_owner(
    struct claims *claims, struct claims_record *record, unsigned peer, uint64_t stamp, uint64_t since_us);
static void push_prior(struct claims_record *record, unsigned peer, uint32_t generation, uint64_t stamp);
static void drop_prior(struct claims_prior **at);
static const struct claims_prior *find_prior(const struct claims *claims, struct claims_record *record);
static struct claims_prior *take_prior(const struct claims *claims, struct claims_record *record);
static bool owner_lives(const struct claims *claims, const struct claims_record *record);

void claims_handle(struct claims *claims, unsigned peer, uint8_t kind, uint64_t number, uint64_t begun_us,
    uint64_t since_us, struct bytes client_id)
{
    uint64_t now_us = clock_monotonic_us();
    if (now_us > begun_us && now_us - begun_us >= claims->timeout_us)
        return; /* we stood still: the claimant has gone on and has reported its own stamp behind this */
    uint64_t hash = claims_hash(claims, client_id);
    if (!claims_collected(claims, claims_home_of(claims, hash))) {
        claims_wait_for_reports(claims, peer, kind, number, begun_us, since_us, client_id);
        return;
    }
    struct claims_grant grant = {.outcome = CLAIM_GRANTED, .previous = CLAIMS_NOBODY, .prior = CLAIMS_NOBODY};
    if (kind == CLAIMS_ASK) {
        struct claims_record *record = record_find(claims, client_id, hash);
        if (record != NULL && owner_lives(claims, record)) {
            grant.previous = record->owner;
            grant.stamp = record->stamp;
        }
    } else if (!grant_claim(claims, peer, client_id, hash, since_us, &grant)) {
        return; /* no memory: the claimant will not wait long */
    }
    answer(claims, peer, number, &grant, client_id);
}

void claims_handle_release(
    struct claims *claims, unsigned peer, struct bytes client_id, uint64_t stamp, bool unwanted)
{
    struct claims_record *record = record_find(claims, client_id, claims_hash(claims, client_id));
    if (record == NULL || record->stamp != stamp || record->owner != peer)
        return;
    struct claims_prior *prior = unwanted ? take_prior(claims, record) : NULL;
    if (prior != NULL) {
        record->owner = prior->peer;
        record->owner_generation = prior->generation;
        record->stamp = prior->stamp;
        record->since_us = 0;
        free(prior);
        return;
    }
    record_free(claims, record);
}

void claims_handle_report(
    struct claims *claims, unsigned peer, struct bytes client_id, uint64_t stamp, uint64_t since_us)
{
    bus_stamp_heard(claims->bus, stamp);
    uint64_t hash = claims_hash(claims, client_id);
    (void)claims_collected(claims, claims_home_of(claims, hash)); /* a stand-in begins to ask the others */
    struct claims_record *record = record_find(claims, client_id, hash);
    if (record == NULL) {
        record = record_new(claims, client_id, hash);
        if (record != NULL)
            set_owner(claims, record, peer, stamp, since_us);
        return;
    }
    if (record->owner == peer || !owner_lives(claims, record)) {
        bool older = record->owner == peer && owner_lives(claims, record) && stamp < record->stamp;
        if (!older)
            set_owner(claims, record, peer, stamp, since_us);
        return;
    }
    /* Two owners. Equal stamps were given by nobody; the greater slot wins. */
    unsigned other = record->owner;
    bool wins = stamp > record->stamp || (stamp == record->stamp && peer > other);
    if (wins) {
        push_prior(record, record->owner, record->owner_generation, record->stamp);
        set_owner(claims, record, peer, stamp, since_us);
    } else {
        push_prior(record, (uint8_t)peer, claims->generations[peer], stamp);
    }
    unsigned loser = wins ? other : peer;
    uint64_t newest = record->stamp;
    unsigned owner = record->owner;
    tell_superseded(claims, loser, client_id, newest, owner);
    tell_late(claims, owner, client_id, newest, loser);
}

/*
 * Some records per tick, from the last down: see pointer_bag.h. What goes: records of dead owners, and those
 * of home slots for which we no longer stand in.
 */
void claims_registrar_tick(struct claims *claims, uint64_t now_us)
{
    if (claims->sweep_at == 0 && now_us >= claims->sweep_due_us) {
        claims->sweep_due_us = UINT64_MAX;
        claims->sweep_at = claims->records.count;
    }
    if (claims->sweep_at > claims->records.count)
        claims->sweep_at = claims->records.count;
    for (unsigned budget = SWEEP_BUDGET; claims->sweep_at > 0 && budget > 0; budget--) {
        struct claims_record *record = pointer_bag_at(&claims->records, --claims->sweep_at);
        unsigned home = claims_home_of(claims, record->hash);
        if (!owner_lives(claims, record) || claims->homes[home].state == HOME_UNKNOWN)
            record_free(claims, record);
    }
}

void claims_registrar_sweep_later(struct claims *claims)
{
    claims->sweep_due_us = clock_monotonic_us() + SWEEP_DELAY_US;
}

void claims_registrar_forget_home(struct claims *claims, unsigned home)
{
    for (uint32_t at = claims->records.count; at > 0; at--) {
        struct claims_record *record = pointer_bag_at(&claims->records, at - 1);
        if (claims_home_of(claims, record->hash) == home)
            record_free(claims, record);
    }
}

void claims_registrar_done(struct claims *claims)
{
    while (claims->records.count > 0)
        record_free(claims, pointer_bag_at(&claims->records, claims->records.count - 1));
    pointer_bag_done(&claims->records);
    hash_table_done(&claims->table);
}

size_t claims_records(const struct claims *claims)
{
    return claims->records.count;
}

size_t claims_memory(const struct claims *claims)
{
    return claims->records_size + hash_table_memory(&claims->table) + pointer_bag_memory(&claims->records);
}

/* Stamps the claim later than what stands, whatever the clocks say. */
static bool grant_claim(struct claims *claims, unsigned peer, struct bytes client_id, uint64_t hash,
    uint64_t since_us, struct claims_grant *ret_grant)
{
    struct claims_record *record = record_find(claims, client_id, hash);
    struct claims_grant grant = {.outcome = CLAIM_GRANTED, .previous = CLAIMS_NOBODY, .prior = CLAIMS_NOBODY};
    if (record == NULL) {
        record = record_new(claims, client_id, hash);
        if (record == NULL)
            return false;
    } else {
        bus_stamp_heard(claims->bus, record->stamp);
    }
    if (given_up(claims, record, since_us)) {
        grant.outcome = CLAIM_SUPERSEDED;
        grant.stamp = record->stamp;
        *ret_grant = grant;
        return true;
    }
    bool lives = owner_lives(claims, record);
    const struct claims_prior *prior = find_prior(claims, record);
    if (prior != NULL)
        grant.prior = prior->peer;
    grant.previous = lives ? record->owner : grant.prior;
    grant.previous_stamp = lives ? record->stamp : prior != NULL ? prior->stamp : 0;
    grant.stamp = bus_stamp(claims->bus);
    unsigned superseded = lives && record->owner != peer ? record->owner : CLAIMS_NOBODY;
    if (superseded != CLAIMS_NOBODY)
        push_prior(record, record->owner, record->owner_generation, record->stamp);
    set_owner(claims, record, peer, grant.stamp, since_us);
    if (superseded != CLAIMS_NOBODY)
        tell_superseded(claims, superseded, client_id, grant.stamp, peer);
    *ret_grant = grant;
    return true;
}

/* The owner serves a connection that the client opened after this one. */
static bool given_up(const struct claims *claims, const struct claims_record *record, uint64_t since_us)
{
    return owner_lives(claims, record) && record->since_us > since_us + CLAIMS_CONCURRENT_US;
}

static void answer(struct claims *claims, unsigned peer, uint64_t number, const struct claims_grant *grant,
    struct bytes client_id)
{
    if (peer == bus_self(claims->bus)) {
        claims_answered(claims, peer, number, grant, client_id);
        return;
    }
    uint8_t *to = claims_begin(claims, peer, claims->scratch, CLAIMS_ANSWER);
    to = record_write_u64(to, number);
    to = record_write_u8(to, (uint8_t)grant->outcome);
    to = record_write_u64(to, grant->stamp);
    to = record_write_u8(to, (uint8_t)grant->previous);
    to = record_write_u8(to, (uint8_t)grant->prior);
    to = record_write_u64(to, grant->previous_stamp);
    claims_send(claims, peer, claims_write_id(to, client_id));
}

static void tell_superseded(
    struct claims *claims, unsigned peer, struct bytes client_id, uint64_t stamp, unsigned owner)
{
    if (peer == bus_self(claims->bus)) {
        claims_superseded(claims, client_id, stamp, owner, claims_incarnation(claims, owner));
        return;
    }
    uint8_t *to = claims_begin(claims, peer, claims->scratch, CLAIMS_SUPERSEDED);
    to = record_write_u64(to, stamp);
    to = record_write_u8(to, (uint8_t)owner);
    to = record_write_u64(to, claims_incarnation(claims, owner));
    claims_send(claims, peer, claims_write_id(to, client_id));
}

/* The owner went on without knowing who had the client before. */
static void tell_late(
    struct claims *claims, unsigned owner, struct bytes client_id, uint64_t stamp, unsigned previous)
{
    struct claims_grant grant = {
        .outcome = CLAIM_GRANTED, .stamp = stamp, .previous = previous, .prior = CLAIMS_NOBODY};
    answer(claims, owner, 0, &grant, client_id);
}

struct record_key {
    struct bytes client_id;
};

static bool is_record(const void *value, const void *key)
{
    const struct claims_record *record = value;
    const struct record_key *wanted = key;
    return bytes_equal(bytes_of(record->id, record->id_size), wanted->client_id);
}

static struct claims_record *record_find(struct claims *claims, struct bytes client_id, uint64_t hash)
{
    struct record_key key = {client_id};
    return hash_table_find(&claims->table, hash, is_record, &key);
}

static struct claims_record *record_new(struct claims *claims, struct bytes client_id, uint64_t hash)
{
    struct claims_record *record = calloc(1, offsetof(struct claims_record, id) + client_id.size);
    if (record == NULL)
        return NULL;
    record->hash = hash;
    record->owner = CLAIMS_NOBODY;
    record->id_size = (uint16_t)client_id.size;
    memcpy(record->id, client_id.data, client_id.size);
    if (pointer_bag_add(&claims->records, record, &record->position) != STATUS_OK) {
        free(record);
        return NULL;
    }
    if (hash_table_insert(&claims->table, hash, record) != STATUS_OK) {
        (void)pointer_bag_remove(&claims->records, record->position); /* it was the last */
        free(record);
        return NULL;
    }
    claims->records_size += sizeof *record + client_id.size;
    return record;
}

static void record_free(struct claims *claims, struct claims_record *record)
{
    hash_table_remove(&claims->table, record->hash, record);
    struct claims_record *moved = pointer_bag_remove(&claims->records, record->position);
    if (moved != NULL)
        moved->position = record->position;
    claims->records_size -= sizeof *record + record->id_size;
    while (record->priors != NULL)
        drop_prior(&record->priors);
    free(record);
}

/* What is known of a stamp is not forgotten when it is reported again. */
static void set_owner(
    struct claims *claims, struct claims_record *record, unsigned peer, uint64_t stamp, uint64_t since_us)
{
    if (since_us != 0 || record->owner != peer || record->stamp != stamp)
        record->since_us = since_us;
    record->owner = (uint8_t)peer;
    record->owner_generation = claims->generations[peer];
    record->stamp = stamp;
}

static bool has_prior(const struct claims_record *record, unsigned peer, uint64_t stamp)
{
    for (const struct claims_prior *prior = record->priors; prior != NULL; prior = prior->next) {
        if (prior->peer == peer && prior->stamp == stamp)
            return true;
    }
    return false;
}

/* In the order of stamps, whatever the order of reports. Without memory it is forgotten: its own report, when
 * the owner dies, brings it back. */
static void push_prior(struct claims_record *record, unsigned peer, uint32_t generation, uint64_t stamp)
{
    struct claims_prior *prior = has_prior(record, peer, stamp) ? NULL : malloc(sizeof *prior);
    if (prior == NULL)
        return;
    struct claims_prior **at = &record->priors;
    while (*at != NULL && (*at)->stamp > stamp)
        at = &(*at)->next;
    *prior =
        (struct claims_prior){.next = *at, .stamp = stamp, .generation = generation, .peer = (uint8_t)peer};
    *at = prior;
    at = &record->priors;
    for (unsigned kept = 0; *at != NULL; kept++) {
        if (kept >= CLAIMS_PRIORS_MAX)
            drop_prior(at);
        else
            at = &(*at)->next;
    }
}

static void drop_prior(struct claims_prior **at)
{
    struct claims_prior *prior = *at;
    *at = prior->next;
    free(prior);
}

/* The last one that lives and is not the owner itself; the dead are dropped. */
static struct claims_prior **prior_at(const struct claims *claims, struct claims_record *record)
{
    struct claims_prior **at = &record->priors;
    while (*at != NULL) {
        struct claims_prior *prior = *at;
        if (!claims_is_live(claims, prior->peer) || prior->generation != claims->generations[prior->peer])
            drop_prior(at);
        else if (prior->peer == record->owner && owner_lives(claims, record))
            at = &prior->next;
        else
            return at;
    }
    return NULL;
}

static const struct claims_prior *find_prior(const struct claims *claims, struct claims_record *record)
{
    struct claims_prior **at = prior_at(claims, record);
    return at != NULL ? *at : NULL;
}

/* The caller frees it. */
static struct claims_prior *take_prior(const struct claims *claims, struct claims_record *record)
{
    struct claims_prior **at = prior_at(claims, record);
    if (at == NULL)
        return NULL;
    struct claims_prior *prior = *at;
    *at = prior->next;
    return prior;
}

static bool owner_lives(const struct claims *claims, const struct claims_record *record)
{
    return claims_is_live(claims, record->owner) &&
           record->owner_generation == claims->generations[record->owner];
}
