/*
 * The claimant: asks the registrar, waits, asks the next one if that dies, and goes on by itself after
 * claim_timeout. Worker process.
 */
#include "cluster/claims_private.h"

#include "shared/clock.h"

#include <assert.h>
#include <stdlib.h>

static bool begin(struct claims *claims, struct claim *claim);
static void ask_registrar(struct claims *claims, struct claim *claim);
static void finish(struct claim *claim, const struct claims_grant *grant);
static void take_off(struct claim *claim);
static struct claim *find_outstanding(struct claims *claims, uint64_t number);
static void go_on_alone(struct claims *claims, struct claim *claim);
static void give_back(struct claims *claims, struct bytes client_id, uint64_t stamp, bool unwanted);

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

void claims_cancel(struct claims *claims, struct claim *claim)
{
    if (claim->id == 0)
        return;
    if (!claim->asks)
        claims_ghost_add(claims, claim);
    take_off(claim);
}

void claims_release(struct claims *claims, struct bytes client_id, uint64_t stamp)
{
    give_back(claims, client_id, stamp, false);
}

void claims_reclaim(struct claims *claims, struct bytes client_id, uint64_t stamp)
{
    claims_report(claims, client_id, stamp, 0);
}

void claims_answered(struct claims *claims, unsigned registrar, uint64_t number,
    const struct claims_grant *grant, struct bytes client_id)
{
    bus_stamp_heard(claims->bus, grant->stamp);
    struct claim *claim = number != 0 ? find_outstanding(claims, number) : NULL;
    if (claim != NULL && !bytes_equal(claim->client_id, client_id))
        return; /* hostile */
    if (claim == NULL && grant->outcome == CLAIM_SUPERSEDED)
        (void)claims_ghost_answered(claims, number, client_id, grant);
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
        bool cancelled = claims_ghost_answered(claims, number, client_id, &result);
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

static void take_off(struct claim *claim)
{
    claim->id = 0;
    list_remove(&claim->link);
    list_remove(&claim->bucket);
    list_remove(&claim->client_bucket);
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

/* Nobody waits longer than this for who does not answer. */
void claims_time_out(struct claims *claims, uint64_t now_us)
{
    while (!list_empty(&claims->outstanding)) {
        struct claim *claim = list_entry(claims->outstanding.next, struct claim, link);
        if (claim->begun_us + claims->timeout_us > now_us)
            return;
        go_on_alone(claims, claim);
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

/* Who has not been answered asks the next one, at the end of the turn. */
void claims_registrar_died(struct claims *claims, unsigned peer)
{
    list_for_each(&claims->outstanding, element, following)
    {
        struct claim *claim = list_entry(element, struct claim, link);
        if (claim->registrar == peer) {
            claim->registrar = CLAIMS_NOBODY;
            claims->ask_again = true;
        }
    }
}

/*
 * Those that a dead registrar has not answered. At the end of the turn, when all that the master has to say
 * is known: perhaps the next incarnation is there already. Begins anew after each that was answered at once:
 * its callback may have cancelled any other.
 */
void claims_claim_again(struct claims *claims)
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
