/* claims: who owns a client, whom the next owner is told of, and what silent or dead registrars cost. */
#include "cluster/claims.h"
#include "shared/clock.h"
#include "tests/unit/fake_node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define WINDOW  ((size_t)65536)
#define WORKERS 3
#define NOBODY  BUS_PEERS_MAX

struct process {
    struct claims *claims;
    uint64_t owned; /* stamp of `client` here, 0: not owned */
    unsigned superseded_by, superseded;
};

static struct fake_node node;
static struct keyed_hash hash;
static struct process processes[WORKERS];
static char client[16]; /* the one client identifier of a test; its home slot is 2 */
static unsigned answers;
static unsigned alarms_expected;

static void on_alarm(void *context, unsigned peer, const char *text)
{
    (void)context;
    if (alarms_expected == 0)
        fail_msg("alarm about %u: %s", peer, text);
    alarms_expected--;
}

static void for_each_owned(void *context, struct claims_report *report)
{
    struct process *it = context;
    if (it->owned != 0)
        claims_report_add(report, bytes_of_text(client), it->owned);
}

static uint64_t on_owned(void *context, struct bytes client_id)
{
    assert_true(bytes_equal(client_id, bytes_of_text(client)));
    return ((struct process *)context)->owned;
}

static void on_superseded(void *context, struct bytes client_id, uint64_t stamp, unsigned owner)
{
    struct process *it = context;
    assert_true(bytes_equal(client_id, bytes_of_text(client)));
    assert_true(stamp > it->owned);
    it->superseded++;
    it->superseded_by = owner;
}

static bool on_late(void *context, struct bytes client_id, uint64_t stamp, unsigned previous)
{
    struct process *it = context;
    (void)client_id;
    (void)previous;
    if (it->owned != 0 && stamp > it->owned)
        it->owned = stamp;
    return it->owned != 0;
}

static void process_start(unsigned self)
{
    struct process *it = &processes[self];
    it->owned = 0;
    struct bus *bus = fake_peer_start(&node, self, it, on_alarm);
    struct claims_settings claims = {.bus = bus,
        .hash = &hash,
        .workers = WORKERS,
        .context = it,
        .for_each_owned = for_each_owned,
        .owned = on_owned,
        .superseded = on_superseded,
        .late = on_late};
    assert_int_equal(claims_new(&claims, &it->claims), STATUS_OK);
}

static void process_end(unsigned self)
{
    claims_free(&processes[self].claims);
    fake_peer_end(&node, self);
}

static int set_up(void **state)
{
    (void)state;
    memset(processes, 0, sizeof processes);
    answers = 0;
    keyed_hash_init_from(&hash, (const uint8_t[32]){1});
    fake_node_open(&node, WORKERS, WINDOW);
    for (unsigned self = 0; self < WORKERS; self++)
        process_start(self);
    fake_introduce_all(&node);
    for (unsigned self = 0; self < WORKERS; self++)
        claims_start(processes[self].claims);
    fake_turns(&node, 3);
    unsigned number = 0;
    do
        snprintf(client, sizeof client, "client-%u", number++);
    while (claims_home(processes[0].claims, bytes_of_text(client)) != 2);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned self = 0; self < WORKERS; self++)
        process_end(self);
    fake_node_close(&node);
    return 0;
}

static void on_answered(struct claim *claim)
{
    (void)claim;
    answers++;
}

/* As claims_claim(). Claims are static: a test that fails leaves its own on the list. */
static bool claim_begin(unsigned self, struct claim *claim)
{
    *claim = (struct claim){.client_id = bytes_of_text(client), .answered = on_answered};
    list_init(&claim->link);
    return claims_claim(processes[self].claims, claim);
}

/* Claims and owns; returns the stamp. The registrar runs. */
static uint64_t claim_granted(unsigned self, unsigned previous)
{
    static struct claim claim;
    unsigned before = answers;
    if (!claim_begin(self, &claim)) {
        fake_turns(&node, 3);
        assert_int_equal(answers, before + 1);
    }
    assert_int_equal(claim.outcome, CLAIM_GRANTED);
    assert_int_equal(claim.previous, previous);
    assert_true(claim.stamp > processes[self].owned);
    processes[self].owned = claim.stamp;
    return claim.stamp;
}

/* Whom the registrar names as the owner, and since when. */
static void assert_owner(unsigned owner, uint64_t stamp)
{
    static struct claim claim;
    claim = (struct claim){.client_id = bytes_of_text(client), .answered = on_answered};
    list_init(&claim.link);
    if (!claims_ask(processes[1].claims, &claim))
        fake_turns(&node, 3);
    assert_int_equal(claim.outcome, CLAIM_GRANTED);
    assert_int_equal(claim.previous, owner);
    assert_int_equal(claim.stamp, stamp);
}

static void a_claim_is_granted_to_the_first(void **state)
{
    (void)state;
    static struct claim claim;
    assert_owner(NOBODY, 0);
    assert_int_equal(claims_records(processes[2].claims), 0);
    answers = 0;
    assert_false(claim_begin(0, &claim));
    assert_int_equal(claims_next_us(processes[0].claims), clock_monotonic_us() + CLAIMS_TIMEOUT_US);
    fake_turns(&node, 2);
    assert_int_equal(answers, 1);
    assert_int_equal(claim.outcome, CLAIM_GRANTED);
    assert_int_equal(claim.previous, NOBODY);
    assert_int_equal(claims_next_us(processes[0].claims), UINT64_MAX);
    assert_int_equal(claims_records(processes[2].claims), 1);
    assert_owner(0, claim.stamp);
}

static void the_registrars_own_claim_is_answered_at_once(void **state)
{
    (void)state;
    static struct claim claim;
    assert_true(claim_begin(2, &claim));
    assert_int_equal(answers, 0);
    assert_int_equal(claim.outcome, CLAIM_GRANTED);
    assert_int_equal(claim.previous, NOBODY);
    assert_owner(2, claim.stamp);
}

static void a_second_claim_names_the_previous_owner_and_tells_it(void **state)
{
    (void)state;
    uint64_t first = claim_granted(0, NOBODY);
    uint64_t second = claim_granted(1, 0);
    assert_true(second > first);
    assert_int_equal(processes[0].superseded, 1);
    assert_int_equal(processes[0].superseded_by, 1);
    processes[0].owned = 0;
    claim_granted(1, 1);
    assert_int_equal(processes[1].superseded, 0);
    claim_granted(2, 1);
    fake_turns(&node, 1);
    assert_int_equal(processes[1].superseded, 1);
    assert_int_equal(processes[1].superseded_by, 2);
    assert_int_equal(claims_records(processes[2].claims), 1);
}

static void a_released_record_is_forgotten_but_not_by_an_older_release(void **state)
{
    (void)state;
    uint64_t first = claim_granted(0, NOBODY);
    uint64_t second = claim_granted(0, 0);
    claims_release(processes[0].claims, bytes_of_text(client), first);
    fake_turns(&node, 2);
    assert_owner(0, second);
    uint64_t third = claim_granted(1, 0);
    processes[0].owned = 0;
    claims_release(processes[0].claims, bytes_of_text(client), second);
    claims_release(processes[0].claims, bytes_of_text(client), third); /* not its own */
    fake_turns(&node, 2);
    assert_owner(1, third);
    processes[1].owned = 0;
    claims_release(processes[1].claims, bytes_of_text(client), third);
    fake_turns(&node, 2);
    assert_int_equal(claims_records(processes[2].claims), 0);
    assert_owner(NOBODY, 0);
    claim_granted(0, NOBODY);
}

static void a_silent_registrar_costs_the_claim_timeout_and_no_more(void **state)
{
    (void)state;
    static struct claim claim;
    node.stopped = 1 << 2;
    assert_false(claim_begin(0, &claim));
    fake_turns(&node, 2);
    fake_pass_time(&node, CLAIMS_TIMEOUT_US - 1);
    fake_turns(&node, 2);
    assert_int_equal(answers, 0);
    fake_pass_time(&node, 1);
    assert_int_equal(answers, 1);
    assert_int_equal(claim.outcome, CLAIM_UNANSWERED);
    assert_true(claim.stamp > 0);
    processes[0].owned = claim.stamp;
    fake_turns(&node, 1);
    node.stopped = 0; /* it hears of the owner after all */
    bus_drain(node.peers[2].bus);
    fake_turns(&node, 3);
    assert_int_equal(answers, 1);
    assert_owner(0, claim.stamp);
}

static void a_dead_registrars_claims_go_to_the_next(void **state)
{
    (void)state;
    static struct claim claim;
    uint64_t first = claim_granted(0, NOBODY);
    answers = 0;
    node.stopped = 1 << 2;
    assert_false(claim_begin(1, &claim));
    fake_turns(&node, 2);
    assert_int_equal(answers, 0);
    bus_peer_died(node.peers[0].bus, 2);
    bus_peer_died(node.peers[1].bus, 2);
    fake_turns(&node, 4); /* no time passes */
    assert_int_equal(answers, 1);
    assert_int_equal(claim.outcome, CLAIM_GRANTED);
    assert_int_equal(claim.previous, 0);
    assert_true(claim.stamp > first);
    assert_int_equal(claims_records(processes[0].claims), 1);
    assert_int_equal(processes[0].superseded_by, 1);
}

static void a_new_registrar_learns_from_reports_and_the_stand_in_forgets(void **state)
{
    (void)state;
    uint64_t first = claim_granted(0, NOBODY);
    process_end(2);
    node.stopped = 1 << 2;
    bus_peer_died(node.peers[0].bus, 2);
    bus_peer_died(node.peers[1].bus, 2);
    assert_owner(0, first);
    assert_int_equal(claims_records(processes[0].claims), 1);
    process_start(2);
    node.stopped = 0;
    fake_introduce(&node, 0, 2);
    fake_introduce(&node, 1, 2);
    claims_start(processes[2].claims);
    assert_int_equal(claims_records(processes[2].claims), 0);
    fake_turns(&node, 3);
    assert_int_equal(claims_records(processes[2].claims), 1);
    assert_int_equal(claims_records(processes[0].claims), 0);
    claim_granted(1, 0);
}

static void a_claim_waits_while_a_new_registrar_collects(void **state)
{
    (void)state;
    static struct claim claim;
    claim_granted(0, NOBODY);
    answers = 0;
    process_end(2);
    bus_peer_died(node.peers[0].bus, 2);
    bus_peer_died(node.peers[1].bus, 2);
    process_start(2);
    fake_introduce(&node, 0, 2);
    fake_introduce(&node, 1, 2);
    claims_start(processes[2].claims);
    assert_false(claim_begin(2, &claim)); /* nobody has reported yet */
    fake_turns(&node, 3);
    assert_int_equal(answers, 1);
    assert_int_equal(claim.outcome, CLAIM_GRANTED);
    assert_int_equal(claim.previous, 0);
}

/* Claims for a CONNECT that came so long ago. */
static struct claim claim_for_old(unsigned self, uint64_t age_us)
{
    struct claim claim = {.client_id = bytes_of_text(client),
        .answered = on_answered,
        .since_us = clock_monotonic_us() - age_us};
    list_init(&claim.link);
    if (!claims_claim(processes[self].claims, &claim))
        fake_turns(&node, 3);
    return claim;
}

static void a_claim_for_an_older_connection_leaves_the_newer_one_alone(void **state)
{
    (void)state;
    uint64_t first = claim_granted(1, NOBODY);
    struct claim old = claim_for_old(0, CLAIMS_CONCURRENT_US + 1);
    assert_int_equal(old.outcome, CLAIM_SUPERSEDED);
    fake_turns(&node, 2);
    assert_int_equal(processes[1].superseded, 0);
    assert_owner(1, first);
    old = claim_for_old(1, 900000); /* two of one worker that stood still, read in the wrong order */
    assert_int_equal(old.outcome, CLAIM_SUPERSEDED);
    assert_owner(1, first);
    struct claim concurrent = claim_for_old(0, CLAIMS_CONCURRENT_US);
    assert_int_equal(concurrent.outcome, CLAIM_GRANTED);
    assert_int_equal(concurrent.previous, 1);
    fake_turns(&node, 1);
    assert_int_equal(processes[1].superseded, 1);
}

static void a_registrar_that_stood_still_does_not_prefer_its_own_old_connection(void **state)
{
    (void)state;
    struct claim claim;
    node.stopped = 1 << 2;
    uint64_t begun_us = clock_monotonic_us();
    assert_false(claim_begin(0, &claim));
    fake_turns(&node, 2);
    fake_pass_time(&node, CLAIMS_TIMEOUT_US);
    assert_int_equal(claim.outcome, CLAIM_UNANSWERED);
    processes[0].owned = claim.stamp;
    fake_turns(&node, 1);
    fake_pass_time(&node, 3000000);
    node.stopped = 0;
    bus_drain(node.peers[2].bus);
    struct claim old = claim_for_old(2, clock_monotonic_us() - begun_us + CLAIMS_CONCURRENT_US + 1);
    assert_int_equal(old.outcome, CLAIM_SUPERSEDED);
    assert_owner(0, claim.stamp);
    assert_int_equal(processes[0].superseded, 0);
}

static void a_client_whose_owner_is_gone_is_served_however_old_its_connect_is(void **state)
{
    (void)state;
    claim_granted(1, NOBODY);
    bus_peer_died(node.peers[0].bus, 1);
    bus_peer_died(node.peers[2].bus, 1);
    struct claim old = claim_for_old(0, 900000);
    assert_int_equal(old.outcome, CLAIM_GRANTED);
    assert_int_equal(old.previous, NOBODY);
}

/* 2 has an older part than 0 and reports it last. Then 1, which has the client, does not want it any more. */
static void what_is_given_back_goes_to_the_newest_that_had_it(void **state)
{
    (void)state;
    static struct claim claim;
    uint64_t first = claim_granted(0, NOBODY);
    claim_granted(1, 0);
    claims_reclaim(processes[2].claims, bytes_of_text(client), first - 1);
    processes[1].owned = 0;
    assert_false(claim_begin(1, &claim));
    claims_cancel(processes[1].claims, &claim);
    fake_turns(&node, 4);
    assert_owner(0, first);
}

/* Two registrars that served at the same time have granted a claim each; the older owner asks the newer one.
 */
static void an_owner_that_asks_a_newer_one_is_superseded(void **state)
{
    (void)state;
    uint64_t first = claim_granted(0, NOBODY);
    claims_tell_newer(processes[1].claims, 0, bytes_of_text(client), first - 1);
    fake_turns(&node, 2);
    assert_int_equal(processes[0].superseded, 0);
    claims_tell_newer(processes[1].claims, 0, bytes_of_text(client), first + 1);
    fake_turns(&node, 2);
    assert_int_equal(processes[0].superseded, 1);
    assert_int_equal(processes[0].superseded_by, 1);
}

static enum status ignore(void *context, const struct bus_record *record)
{
    (void)context;
    (void)record;
    return STATUS_OK;
}

/* Fills the lane of a stopped process, but for `left` bytes; 0: until it is out of step. */
static void fill(unsigned from, unsigned to, size_t left)
{
    bus_set_handler(node.peers[to].bus, BUS_RECORD_RETAINED, ignore, NULL);
    for (size_t size = 4000; size > 0; size /= 2) {
        while (bus_full(node.peers[from].bus, UINT64_C(1) << to, size + left, BUS_ROOM_CONTROL) == 0) {
            uint8_t *at = bus_put(node.peers[from].bus, to, BUS_RECORD_RETAINED, size, BUS_ROOM_CONTROL);
            assert_non_null(at);
            memset(at, 0, size);
        }
    }
    if (left == 0)
        assert_null(bus_put(node.peers[from].bus, to, BUS_RECORD_RETAINED, 4000, BUS_ROOM_CONTROL));
}

static bool out_of_step(unsigned from, unsigned to)
{
    struct bus_lane_figures figures;
    bus_figures(node.peers[from].bus, to, &figures);
    return figures.out_of_step;
}

static void a_claim_without_room_waits_and_puts_nobody_out_of_step(void **state)
{
    (void)state;
    struct claim claim;
    node.stopped = 1 << 2;
    fill(0, 2, 200);
    assert_false(claim_begin(0, &claim));
    fake_turns(&node, 2);
    assert_false(out_of_step(0, 2));
    node.stopped = 0;
    bus_drain(node.peers[2].bus);
    for (unsigned i = 0; i < 5; i++) {
        bus_poll(node.peers[0].bus);
        fake_turns(&node, 1);
    }
    assert_int_equal(answers, 1);
    assert_int_equal(claim.outcome, CLAIM_GRANTED);
    assert_owner(0, claim.stamp);
}

static void a_registrar_out_of_step_learns_whom_it_was_not_told_of(void **state)
{
    (void)state;
    struct claim claim;
    node.stopped = 1 << 2;
    alarms_expected = 1;
    fill(0, 2, 0);
    assert_true(out_of_step(0, 2));
    assert_int_equal(bus_behind(node.peers[2].bus), 1 << 0);
    assert_false(claim_begin(0, &claim));
    fake_turns(&node, 1);
    fake_pass_time(&node, CLAIMS_TIMEOUT_US);
    assert_int_equal(claim.outcome, CLAIM_UNANSWERED);
    processes[0].owned = claim.stamp;
    fake_turns(&node, 1);
    node.stopped = 0;
    bus_drain(node.peers[2].bus);
    assert_int_equal(claims_records(processes[2].claims), 0);
    for (unsigned i = 0; i < 5; i++) {
        bus_poll(node.peers[0].bus);
        fake_turns(&node, 1);
    }
    assert_false(out_of_step(0, 2));
    assert_owner(0, claim.stamp);
    claim_granted(1, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_claim_is_granted_to_the_first),
        TEST(the_registrars_own_claim_is_answered_at_once),
        TEST(a_second_claim_names_the_previous_owner_and_tells_it),
        TEST(a_released_record_is_forgotten_but_not_by_an_older_release),
        TEST(a_silent_registrar_costs_the_claim_timeout_and_no_more),
        TEST(a_dead_registrars_claims_go_to_the_next),
        TEST(a_new_registrar_learns_from_reports_and_the_stand_in_forgets),
        TEST(a_claim_waits_while_a_new_registrar_collects),
        TEST(a_claim_for_an_older_connection_leaves_the_newer_one_alone),
        TEST(a_registrar_that_stood_still_does_not_prefer_its_own_old_connection),
        TEST(a_claim_without_room_waits_and_puts_nobody_out_of_step),
        TEST(a_registrar_out_of_step_learns_whom_it_was_not_told_of),
        TEST(a_client_whose_owner_is_gone_is_served_however_old_its_connect_is),
        TEST(what_is_given_back_goes_to_the_newest_that_had_it),
        TEST(an_owner_that_asks_a_newer_one_is_superseded),
    };
    return cmocka_run_group_tests_name("claims", tests, NULL, NULL);
}
