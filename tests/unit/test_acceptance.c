/* acceptance: when a publication counts as accepted, who waits for a full lane, and what is lost, and
 * counted. */
#include "cluster/acceptance.h"
#include "shared/clock.h"
#include "tests/unit/fake_carrier.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define WINDOW     ((size_t)65536)
#define PEERS      3
#define COPIES_MAX ((size_t)1 << 20)
#define ALL        (uint64_t)6 /* as seen from process 0 */

struct process {
    struct bus *bus;
    struct acceptance *acceptance;
    struct fake_carrier carrier;
    struct counters counters;
    uint64_t incarnation;
    char delivered[4096]; /* "topic:size " */
    unsigned deliveries;
    bool intact;         /* all payloads were as they should be */
    char completed[512]; /* "ticket=result " */
    unsigned rooms, alarms;
    bool durable;
};

static struct fake_lanes *lanes;
static struct process processes[PEERS];
static int taker_a, taker_b; /* only their addresses count */

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 31 + i / 251);
}

static bool mixture_deliver(unsigned self, const struct publication_view *view);
static void mixture_complete(void *taker, uint64_t ticket, enum acceptance_result result);
static void mixture_room(void);
static bool mixing;

static struct bytes expected_shares;
static unsigned shared_deliveries;
static bool checking_shares;

static bool deliver_shares(unsigned peer, const struct publication_view *view)
{
    assert_int_equal(peer, 0);
    assert_true(bytes_equal(publication_shares(view), expected_shares));
    assert_int_equal(view->meta.shares_only, shared_deliveries % 2 == 1);
    assert_true(bytes_equal(view->properties, bytes_of_text("properties")));
    assert_int_equal(view->payload.size, shared_deliveries < 2 ? 7 : 100000);
    shared_deliveries++;
    return false;
}

static bool on_deliver(void *context, unsigned peer, const struct publication_view *view)
{
    struct process *it = context;
    if (checking_shares)
        return deliver_shares(peer, view);
    if (mixing)
        return mixture_deliver((unsigned)(it - processes), view);
    for (size_t i = 0; i < view->payload.size; i++)
        it->intact = it->intact && view->payload.data[i] == byte_at(i);
    size_t used = strlen(it->delivered);
    snprintf(it->delivered + used, sizeof it->delivered - used, "%.*s:%zu ", (int)view->topic.size,
        (const char *)view->topic.data, view->payload.size);
    it->deliveries++;
    return it->durable;
}

static void on_complete(void *context, void *taker, uint64_t ticket, enum acceptance_result result)
{
    struct process *it = context;
    if (mixing) {
        mixture_complete(taker, ticket, result);
        return;
    }
    assert_true(taker == &taker_a || taker == &taker_b);
    size_t used = strlen(it->completed);
    snprintf(it->completed + used, sizeof it->completed - used, "%u=%d ", (unsigned)ticket, (int)result);
}

static void on_room(void *context)
{
    ((struct process *)context)->rooms++;
    if (mixing)
        mixture_room();
}

static void on_alarm(void *context, unsigned peer, const char *text)
{
    (void)peer;
    (void)text;
    ((struct process *)context)->alarms++;
}

static struct publication_origin origin_of(unsigned self)
{
    return (struct publication_origin){.incarnation = processes[self].incarnation, .slot = (uint16_t)self};
}

static void process_start(unsigned self)
{
    struct process *it = &processes[self];
    it->incarnation++;
    it->intact = true;
    fake_carrier_init(&it->carrier);
    struct bus_settings bus = {.self = self,
        .peers = PEERS,
        .origin = origin_of(self),
        .lanes = lanes->of[self],
        .counters = &it->counters,
        .carrier = &it->carrier.carrier,
        .context = it,
        .alarm = on_alarm};
    assert_int_equal(bus_new(&bus, &it->bus), STATUS_OK);
    struct acceptance_settings acceptance = {.bus = it->bus,
        .stall_timeout_us = 5000000,
        .copies_max = COPIES_MAX,
        .context = it,
        .complete = on_complete,
        .room = on_room,
        .deliver = on_deliver};
    assert_int_equal(acceptance_new(&acceptance, &it->acceptance), STATUS_OK);
}

static void process_end(unsigned self)
{
    acceptance_free(&processes[self].acceptance);
    bus_free(&processes[self].bus);
    fake_carrier_drop(&processes[self].carrier);
}

static void introduce(unsigned a, unsigned b)
{
    bus_peer_started(processes[a].bus, b, origin_of(b));
    bus_peer_started(processes[b].bus, a, origin_of(a));
}

static int set_up(void **state)
{
    (void)state;
    clock_set(1000000, 1700000000000000);
    memset(processes, 0, sizeof processes);
    lanes = fake_lanes_new(PEERS, WINDOW);
    for (unsigned self = 0; self < PEERS; self++)
        process_start(self);
    introduce(0, 1);
    introduce(0, 2);
    introduce(1, 2);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned self = 0; self < PEERS; self++) {
        assert_true(processes[self].intact);
        process_end(self);
    }
    fake_lanes_free(&lanes);
    clock_use_system();
    return 0;
}

static uint8_t payload[3 << 20];

static enum acceptance_result offer(const char *topic, size_t size, uint8_t qos, uint64_t peers,
    uint64_t durable, void *taker, uint64_t ticket)
{
    struct publication_view view = {.meta = {.publisher = 99, .qos = qos},
        .topic = bytes_of_text(topic),
        .payload = bytes_of(payload, size)};
    return acceptance_offer(processes[0].acceptance, &view, peers, durable, taker, ticket);
}

static void deliver(unsigned from)
{
    struct bus *to[PEERS];
    for (unsigned i = 0; i < PEERS; i++)
        to[i] = processes[i].bus;
    fake_carrier_deliver(&processes[from].carrier, to);
}

static void turn(unsigned from)
{
    bus_turn_end(processes[from].bus);
    deliver(from);
}

static void turns(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        for (unsigned self = 0; self < PEERS; self++) {
            turn(self);
            bus_poll(processes[self].bus);
        }
    }
}

/* Time goes on in ticks; `stopped` (a mask) do not run. */
static void pass_time(uint64_t ms, uint64_t stopped)
{
    for (uint64_t at = 0; at < ms; at += 50) {
        clock_set(clock_monotonic_us() + 50000, clock_real_us() + 50000);
        for (unsigned self = 0; self < PEERS; self++) {
            if ((stopped >> self & 1) != 0)
                continue;
            bus_tick(processes[self].bus);
            bus_turn_end(processes[self].bus);
        }
    }
}

static void assert_delivered(unsigned self, const char *expected)
{
    assert_string_equal(processes[self].delivered, expected);
    processes[self].delivered[0] = 0;
}

static void assert_completed(const char *expected)
{
    assert_string_equal(processes[0].completed, expected);
    processes[0].completed[0] = 0;
}

static void what_fits_is_accepted_at_once(void **state)
{
    (void)state;
    assert_int_equal(offer("a", 64, 0, ALL, 0, &taker_a, 1), ACCEPTANCE_DONE);
    assert_int_equal(offer("b", 0, 1, 1 << 1, 0, &taker_a, 2), ACCEPTANCE_DONE);
    assert_int_equal(offer("c", 5, 2, 1 << 2, 0, &taker_a, 3), ACCEPTANCE_DONE);
    assert_int_equal(offer("d", 5, 2, 0, 0, &taker_a, 4), ACCEPTANCE_DONE);
    turn(0);
    assert_delivered(1, "a:64 b:0 ");
    assert_delivered(2, "a:64 c:5 ");
    assert_completed("");
    assert_int_equal(processes[0].counters.bus_publications_sent, 4);
    assert_int_equal(processes[1].counters.bus_publications_received, 2);
}

static void everything_known_of_a_publication_travels(void **state)
{
    (void)state;
    struct publication_view view = {
        .meta = {.publisher = 7, .stamp = 8, .expires_ms = 9, .will = 10, .qos = 2, .retain = true},
        .topic = bytes_of_text("t/opic"),
        .properties = bytes_of_text("properties"),
        .payload = bytes_of_text("payload")};
    uint8_t encoded[256];
    view.meta.origin = (struct publication_origin){11, 12, 13};
    view.meta.sequence = 14;
    size_t size = acceptance_encoded_size(&view);
    assert_true(size <= sizeof encoded);
    acceptance_encode(encoded, &view);
    struct publication_view back;
    assert_int_equal(acceptance_decode(bytes_of(encoded, size), &back), STATUS_OK);
    assert_int_equal(back.meta.origin.incarnation, 11);
    assert_int_equal(back.meta.origin.node, 12);
    assert_int_equal(back.meta.origin.slot, 13);
    assert_int_equal(back.meta.sequence, 14);
    assert_int_equal(back.meta.publisher, 7);
    assert_int_equal(back.meta.stamp, 8);
    assert_int_equal(back.meta.expires_ms, 9);
    assert_int_equal(back.meta.will, 10);
    assert_int_equal(back.meta.qos, 2);
    assert_true(back.meta.retain);
    assert_true(bytes_equal(back.topic, view.topic));
    assert_true(bytes_equal(back.properties, view.properties));
    assert_true(bytes_equal(back.payload, view.payload));
    for (size_t cut = 0; cut < size - view.payload.size; cut++)
        assert_int_equal(acceptance_decode(bytes_of(encoded, cut), &back), STATUS_PROTOCOL);
}

/* Whole and in parts, beside everything else; and never but in a lane. */
static void picks_of_shared_groups_travel(void **state)
{
    (void)state;
    checking_shares = true;
    shared_deliveries = 0;
    expected_shares = bytes_of((const uint8_t *)"\x16\0\0\0whoever was picked", 22);
    for (unsigned i = 0; i < 4; i++) {
        struct publication_view view = {.meta = {.qos = 1, .shares_only = i % 2 == 1},
            .topic = bytes_of_text("t"),
            .properties = bytes_of_text("properties"),
            .payload = bytes_of(payload, i < 2 ? 7 : 100000),
            .shares = expected_shares.data};
        assert_int_equal(
            acceptance_offer(processes[0].acceptance, &view, 1 << 1, 0, NULL, 0), ACCEPTANCE_DONE);
        turns(20);
        uint8_t encoded[256];
        if (i >= 2)
            continue;
        acceptance_encode(encoded, &view);
        assert_int_equal(
            acceptance_decode(bytes_of(encoded, acceptance_encoded_size(&view)), &view), STATUS_PROTOCOL);
    }
    assert_int_equal(shared_deliveries, 4);
    checking_shares = false;
}

static void identity_counts_up_and_a_given_one_is_kept(void **state)
{
    (void)state;
    struct publication_view view = {.meta = {.qos = 1}, .topic = bytes_of_text("t")};
    assert_int_equal(acceptance_offer(processes[0].acceptance, &view, ALL, 0, NULL, 0), ACCEPTANCE_DONE);
    assert_int_equal(view.meta.sequence, 1);
    assert_int_equal(view.meta.origin.incarnation, 1);
    assert_int_equal(view.meta.origin.slot, 0);
    view.meta.origin.incarnation = 77;
    view.meta.sequence = 500;
    assert_int_equal(acceptance_offer(processes[0].acceptance, &view, ALL, 0, NULL, 0), ACCEPTANCE_DONE);
    assert_int_equal(view.meta.sequence, 500);
    turn(0);
    assert_delivered(1, "t:0 t:0 ");
}

static void durable_targets_are_waited_for(void **state)
{
    (void)state;
    processes[1].durable = true;
    assert_int_equal(offer("a", 10, 1, ALL, 1 << 1, &taker_a, 1), ACCEPTANCE_PENDING);
    assert_int_equal(offer("b", 10, 2, ALL, 1 << 1, &taker_b, 2), ACCEPTANCE_PENDING);
    assert_int_equal(offer("c", 10, 1, ALL, ALL, &taker_a, 3), ACCEPTANCE_PENDING);
    assert_int_equal(offer("d", 10, 1, ALL, ALL, NULL, 4), ACCEPTANCE_DONE);
    assert_int_equal(offer("e", 10, 1, 1 << 1, 1 << 1, &taker_a, 5), ACCEPTANCE_PENDING);
    turn(0);
    assert_delivered(1, "a:10 b:10 c:10 d:10 e:10 ");
    assert_completed("");
    turn(1);
    assert_completed("1=0 2=0 5=0 ");
    turn(2);
    assert_completed("3=0 ");
    assert_int_equal(processes[1].counters.bus_frames_sent, 1);
}

static void who_is_forgotten_is_not_called(void **state)
{
    (void)state;
    assert_int_equal(offer("a", 10, 1, 1 << 1, 1 << 1, &taker_a, 1), ACCEPTANCE_PENDING);
    assert_int_equal(offer("b", 10, 1, 1 << 1, 1 << 1, &taker_b, 2), ACCEPTANCE_PENDING);
    acceptance_forget(processes[0].acceptance, &taker_a);
    turns(1);
    assert_completed("2=0 ");
    assert_delivered(1, "a:10 b:10 ");
}

static void a_peer_that_dies_is_not_waited_for(void **state)
{
    (void)state;
    assert_int_equal(offer("a", 10, 1, ALL, 1 << 1, &taker_a, 1), ACCEPTANCE_PENDING);
    assert_int_equal(offer("b", 10, 1, ALL, ALL, &taker_a, 2), ACCEPTANCE_PENDING);
    bus_turn_end(processes[0].bus);
    bus_peer_died(processes[0].bus, 1);
    assert_completed("1=0 ");
    deliver(0);
    turn(2);
    assert_completed("2=0 ");
    assert_int_equal(offer("c", 10, 1, 1 << 1, 1 << 1, &taker_a, 3), ACCEPTANCE_DONE);
}

static void a_silent_durable_peer_is_waited_for_no_longer_than_a_full_one(void **state)
{
    (void)state;
    assert_int_equal(offer("a", 10, 1, 1 << 1, 1 << 1, &taker_a, 1), ACCEPTANCE_PENDING);
    pass_time(4900, 1 << 1);
    assert_completed("");
    pass_time(150, 1 << 1);
    assert_completed("1=0 ");
    /* Once: not for each one again, until it answers. */
    assert_int_equal(offer("b", 10, 1, 1 << 1, 1 << 1, &taker_a, 2), ACCEPTANCE_DONE);
    turns(2);
    assert_completed("");
    assert_int_equal(offer("c", 10, 1, 1 << 1, 1 << 1, &taker_a, 3), ACCEPTANCE_PENDING);
    turns(1);
    assert_completed("3=0 ");
}

/* Fills lane 0→1 with acknowledged ones until a publisher is held up; returns how many went in. */
static unsigned fill(void)
{
    unsigned count = 0;
    while (offer("f", 1000, 1, 1 << 1, 0, &taker_a, 0) == ACCEPTANCE_DONE)
        count++;
    return count;
}

static void a_full_lane_drops_qos0_and_holds_up_the_others(void **state)
{
    (void)state;
    unsigned count = fill();
    assert_in_range(count, WINDOW / 1000 * 3 / 4, WINDOW / 1000);
    assert_int_equal(processes[0].counters.bus_stalls, 1);
    assert_int_equal(offer("q", 10, 0, ALL, 0, &taker_a, 0), ACCEPTANCE_DONE);
    assert_int_equal(processes[0].counters.bus_dropped_qos0, 1);
    struct bus_lane_figures figures;
    bus_figures(processes[0].bus, 1, &figures);
    assert_int_equal(figures.dropped_qos0, 1);
    /* All targets or none. */
    assert_int_equal(offer("n", 10, 1, ALL, 0, &taker_b, 0), ACCEPTANCE_STALLED);
    assert_int_equal(offer("o", 10, 1, 1 << 2, 0, &taker_b, 0), ACCEPTANCE_DONE);
    assert_true(bus_wants_poll(processes[0].bus));
    bus_poll(processes[0].bus);
    assert_int_equal(processes[0].rooms, 0);
    turn(0);
    assert_delivered(2, "q:10 o:10 ");
    bus_poll(processes[0].bus);
    assert_int_equal(processes[0].rooms, 1);
    assert_int_equal(processes[1].deliveries, count);
    assert_int_equal(offer("n", 10, 1, ALL, 0, &taker_b, 0), ACCEPTANCE_DONE);
}

static void nothing_passes_those_that_wait_for_room(void **state)
{
    (void)state;
    unsigned count = fill();
    bus_turn_end(processes[0].bus);
    fake_carrier_drop(&processes[0].carrier);
    assert_int_equal(offer("x", 1, 1, 1 << 1, 0, &taker_b, 0), ACCEPTANCE_STALLED);
    bus_drain(processes[1].bus);
    assert_int_equal(processes[1].deliveries, count);
    assert_int_equal(offer("x", 1, 1, 1 << 1, 0, &taker_b, 0), ACCEPTANCE_STALLED);
    bus_poll(processes[0].bus);
    assert_int_equal(offer("x", 1, 1, 1 << 1, 0, &taker_b, 0), ACCEPTANCE_DONE);
}

static void after_the_stall_timeout_publications_are_lost_and_counted(void **state)
{
    (void)state;
    unsigned accepted = fill();
    processes[0].carrier.refuse = 1 << 1;
    pass_time(4900, 1 << 1);
    assert_int_equal(processes[0].rooms, 0);
    assert_int_equal(offer("l", 10, 1, ALL, 0, &taker_a, 0), ACCEPTANCE_STALLED);
    pass_time(150, 1 << 1);
    assert_int_equal(processes[0].rooms, 1);
    assert_int_equal(processes[0].alarms, 1);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(offer("l", 1000, 1, ALL, 0, &taker_a, 0), ACCEPTANCE_DONE);
        accepted++;
    }
    assert_int_equal(offer("d", 1000, 1, ALL, 1 << 1, &taker_a, 0), ACCEPTANCE_REFUSED);
    assert_int_equal(offer("large", 50000, 1, 1 << 1, 0, &taker_a, 0), ACCEPTANCE_DONE);
    accepted++;
    pass_time(6000, 1 << 1);
    assert_int_equal(processes[0].alarms, 1);
    assert_true(processes[0].counters.bus_dropped_acknowledged > 0);

    /* It runs again. */
    processes[0].carrier.refuse = 0;
    pass_time(200, 0);
    turns(2);
    assert_int_equal(accepted - processes[1].deliveries, processes[0].counters.bus_dropped_acknowledged);
    pass_time(100, 0);
    assert_true(fill() > 10);
    assert_int_equal(processes[0].alarms, 1);
}

static void a_peer_that_dies_holds_nobody_up(void **state)
{
    (void)state;
    fill();
    bus_peer_died(processes[0].bus, 1);
    assert_int_equal(processes[0].rooms, 1);
    assert_int_equal(offer("a", 10, 1, ALL, 0, &taker_a, 0), ACCEPTANCE_DONE);
    assert_int_equal(processes[0].counters.bus_dropped_acknowledged, 0);
}

static void large_ones_arrive_whole(void **state)
{
    (void)state;
    assert_int_equal(offer("large", 300000, 1, ALL, 1 << 1, &taker_a, 1), ACCEPTANCE_PENDING);
    assert_int_equal(acceptance_oldest_partial(processes[0].acceptance, 1), 1);
    assert_int_equal(offer("larger", 500000, 2, 1 << 2, 0, &taker_b, 2), ACCEPTANCE_PENDING);
    assert_int_equal(acceptance_oldest_partial(processes[0].acceptance, 2), 1);
    turns(40);
    assert_delivered(1, "large:300000 ");
    assert_delivered(2, "large:300000 larger:500000 ");
    assert_completed("1=0 2=0 ");
    assert_int_equal(acceptance_oldest_partial(processes[0].acceptance, 1), UINT64_MAX);
    assert_int_equal(offer("zero", 100000, 0, ALL, 0, &taker_a, 3), ACCEPTANCE_DONE);
    assert_int_equal(offer("nobody", 100000, 1, ALL, 0, NULL, 3), ACCEPTANCE_DONE);
    turns(20);
    assert_delivered(1, "zero:100000 nobody:100000 ");
    assert_completed("");
}

static void small_ones_pass_large_ones_of_others(void **state)
{
    (void)state;
    assert_int_equal(offer("large", 400000, 1, 1 << 1, 0, &taker_a, 1), ACCEPTANCE_PENDING);
    turns(2);
    assert_int_equal(offer("small", 10, 1, 1 << 1, 0, &taker_b, 2), ACCEPTANCE_DONE);
    turns(1);
    assert_delivered(1, "small:10 ");
    turns(30);
    assert_delivered(1, "large:400000 ");
}

static void one_clients_publications_stay_in_order(void **state)
{
    (void)state;
    assert_int_equal(offer("large", 200000, 1, 1 << 1, 0, &taker_a, 1), ACCEPTANCE_PENDING);
    assert_int_equal(offer("next", 10, 1, ALL, 0, &taker_a, 2), ACCEPTANCE_STALLED);
    assert_int_equal(offer("zero", 10, 0, 1 << 1, 0, &taker_a, 3), ACCEPTANCE_DONE);
    assert_int_equal(offer("other", 10, 1, 1 << 2, 0, &taker_a, 4), ACCEPTANCE_DONE);
    turns(30);
    assert_completed("1=0 ");
    assert_int_equal(processes[0].rooms, 1);
    assert_delivered(1, "large:200000 zero:10 ");
    assert_int_equal(offer("next", 10, 1, ALL, 0, &taker_a, 2), ACCEPTANCE_DONE);
}

static void several_large_ones_travel_side_by_side(void **state)
{
    (void)state;
    assert_int_equal(offer("long", 700000, 1, 1 << 1, 0, &taker_a, 1), ACCEPTANCE_PENDING);
    assert_int_equal(offer("short", 70000, 1, 1 << 1, 0, &taker_b, 2), ACCEPTANCE_PENDING);
    turns(100);
    assert_delivered(1, "short:70000 long:700000 ");
    assert_completed("2=0 1=0 ");
}

static void large_ones_on_their_way_are_bounded(void **state)
{
    (void)state;
    assert_int_equal(offer("a", COPIES_MAX * 2, 1, 1 << 1, 0, &taker_a, 1), ACCEPTANCE_PENDING);
    assert_int_equal(offer("b", 10000, 1, 1 << 1, 0, &taker_b, 2), ACCEPTANCE_STALLED);
    assert_int_equal(offer("b", 10000, 1, 1 << 2, 0, &taker_b, 2), ACCEPTANCE_PENDING);
    assert_int_equal(offer("z", 10000, 0, 1 << 1, 0, &taker_b, 2), ACCEPTANCE_DONE);
    assert_int_equal(processes[0].counters.bus_dropped_qos0, 1);
    turns(200);
    char expected[64];
    snprintf(expected, sizeof expected, "a:%zu ", COPIES_MAX * 2);
    assert_delivered(1, expected);
    assert_true(processes[0].rooms > 0);
    assert_completed("2=0 1=0 ");
}

static void half_a_publication_is_dropped_with_its_sender(void **state)
{
    (void)state;
    assert_int_equal(offer("half", 400000, 1, 1 << 1, 0, &taker_a, 1), ACCEPTANCE_PENDING);
    turns(2);
    process_end(0);
    bus_peer_died(processes[1].bus, 0);
    process_start(0);
    introduce(0, 1);
    assert_int_equal(offer("whole", 100000, 1, 1 << 1, 0, &taker_a, 1), ACCEPTANCE_PENDING);
    turns(20);
    assert_delivered(1, "whole:100000 ");
}

static void the_rest_of_one_whose_beginning_is_gone_is_ignored(void **state)
{
    (void)state;
    assert_int_equal(offer("half", 100000, 1, ALL, 0, &taker_a, 1), ACCEPTANCE_PENDING);
    turns(1);
    process_end(1);
    bus_peer_died(processes[0].bus, 1);
    process_start(1);
    introduce(0, 1);
    turns(20);
    assert_delivered(1, "");
    assert_delivered(2, "half:100000 ");
    assert_completed("1=0 ");
}

static void a_large_one_to_a_stopped_peer_ends_with_the_stall_timeout(void **state)
{
    (void)state;
    processes[0].carrier.refuse = 1 << 1;
    assert_int_equal(offer("large", 400000, 1, ALL, 0, &taker_a, 1), ACCEPTANCE_PENDING);
    assert_int_equal(offer("kept", 200000, 1, 1 << 1, 1 << 1, &taker_b, 2), ACCEPTANCE_PENDING);
    for (unsigned i = 0; i < 98; i++) {
        pass_time(50, 1 << 1);
        deliver(0);
    }
    assert_delivered(2, "large:400000 ");
    assert_completed("");
    pass_time(200, 1 << 1);
    assert_completed(
        "1=0 2=3 "); /* 5 s after they had to wait, not after the last fragment that found room */
    assert_int_equal(processes[0].counters.bus_dropped_acknowledged, 1);
    assert_int_equal(processes[0].alarms, 1);
    processes[0].carrier.refuse = 0;
    pass_time(300, 0);
    turns(20);
    pass_time(300, 0);
    assert_int_equal(offer("again", 300000, 1, 1 << 1, 0, &taker_a, 3), ACCEPTANCE_PENDING);
    turns(40);
    assert_delivered(1, "again:300000 ");
}

static void completions_wait_for_room_and_are_not_lost(void **state)
{
    (void)state;
    /* The way back is full of control records. */
    while (bus_full(processes[1].bus, 1, 200, BUS_ROOM_CONTROL) == 0)
        memset(bus_put(processes[1].bus, 0, BUS_RECORD_WILL, 200, BUS_ROOM_CONTROL), 0, 200);
    bus_publish(processes[1].bus);
    for (unsigned i = 0; i < 60; i++)
        assert_int_equal(offer("a", 10, 1, ALL, i % 2 ? ALL : 1 << 1, &taker_a, i), ACCEPTANCE_PENDING);
    turn(0);
    bus_turn_end(processes[1].bus);
    fake_carrier_drop(&processes[1].carrier);
    turn(2);
    assert_completed("");
    bus_drain(processes[0].bus);
    turns(2);
    assert_int_equal(processes[1].counters.bus_out_of_step, 0);
    assert_int_equal(strncmp(processes[0].completed, "0=0 ", 4), 0);
    assert_int_equal(processes[1].deliveries, 60);
    unsigned completions = 0;
    for (const char *at = processes[0].completed; *at != 0; at++)
        completions += *at == ' ';
    assert_int_equal(completions, 60);
}

static void a_corrupt_lane_leaves_nobody_waiting(void **state)
{
    (void)state;
    assert_int_equal(offer("a", 10, 1, ALL, 1 << 1, &taker_a, 1), ACCEPTANCE_PENDING);
    bus_turn_end(processes[0].bus);
    fake_carrier_drop(&processes[0].carrier);
    struct bus_window window;
    assert_int_equal(
        bus_window_map_sender(lanes->of[0][1].out_ring, lanes->of[0][1].out_cursor, &window), STATUS_OK);
    window.ring[40] ^= 1;
    bus_window_unmap(&window);
    bus_drain(processes[1].bus);
    turns(1);
    assert_delivered(1, "");
    assert_completed("1=0 ");
}

/* A mixture of everything that may happen, by seed. ----------------------------------------------------- */

enum { TAKERS = 5, TICKETS = 100000 };

struct mixture_taker {
    uint32_t next[3]; /* number of the next publication, by QoS */
    bool keeps;       /* an offer was STALLED: nothing else is read */
    size_t kept_size;
    uint8_t kept_qos;
    uint64_t kept_peers, kept_durable;
};

static struct {
    uint32_t random;
    struct mixture_taker takers[TAKERS];
    uint32_t last[PEERS][TAKERS][3]; /* as delivered, + 1 */
    uint64_t accepted[PEERS];        /* QoS 1 and 2, by target */
    uint64_t delivered[PEERS];
    uint64_t stopped; /* processes */
    unsigned pending;
    uint64_t tickets;
    uint8_t ticket_durable[TICKETS]; /* 1: waits for process 1 as durable; 2: no more */
} mixture;

static uint32_t dice(uint32_t sides)
{
    mixture.random ^= mixture.random << 13;
    mixture.random ^= mixture.random >> 17;
    mixture.random ^= mixture.random << 5;
    return mixture.random % sides;
}

static bool mixture_deliver(unsigned self, const struct publication_view *view)
{
    const uint8_t *from = view->payload.data;
    uint32_t number = get_u32_le(from + 2);
    assert_int_equal(from[1], view->meta.qos);
    assert_int_equal(get_u32_le(from + 6), view->payload.size);
    for (size_t i = 10; i < view->payload.size; i++)
        processes[self].intact = processes[self].intact && from[i] == byte_at(i);
    uint32_t *last = &mixture.last[self][from[0]][from[1]];
    assert_true(number >= *last); /* in order, none twice */
    *last = number + 1;
    mixture.delivered[self] += from[1] != 0;
    return true;
}

static void mixture_complete(void *taker, uint64_t ticket, enum acceptance_result result)
{
    (void)taker;
    assert_true(ticket < mixture.tickets && mixture.ticket_durable[ticket] < 2);
    if (result == ACCEPTANCE_REFUSED) {
        assert_int_equal(mixture.ticket_durable[ticket], 1);
        mixture.accepted[1]--;
    }
    mixture.ticket_durable[ticket] = 2;
    mixture.pending--;
}

static void mixture_offer(unsigned index)
{
    struct mixture_taker *taker = &mixture.takers[index];
    uint8_t qos = taker->kept_qos;
    payload[0] = (uint8_t)index;
    payload[1] = qos;
    put_u32_le(payload + 2, taker->next[qos]);
    put_u32_le(payload + 6, (uint32_t)taker->kept_size);
    uint64_t ticket = mixture.tickets++;
    mixture.ticket_durable[ticket] = (uint8_t)taker->kept_durable >> 1;
    enum acceptance_result result =
        offer("t", taker->kept_size, qos, taker->kept_peers, taker->kept_durable, taker, ticket);
    taker->keeps = result == ACCEPTANCE_STALLED;
    if (result != ACCEPTANCE_PENDING)
        mixture.ticket_durable[ticket] = 2;
    mixture.pending += result == ACCEPTANCE_PENDING;
    if (result == ACCEPTANCE_STALLED)
        return;
    taker->next[qos]++;
    for (unsigned peer = 1; peer < PEERS; peer++) {
        if (qos != 0 && result != ACCEPTANCE_REFUSED && (taker->kept_peers >> peer & 1) != 0)
            mixture.accepted[peer]++;
    }
}

static void mixture_publish(unsigned index)
{
    struct mixture_taker *taker = &mixture.takers[index];
    if (taker->keeps || mixture.tickets + 100 >= TICKETS)
        return;
    taker->kept_qos = (uint8_t)dice(3);
    taker->kept_size = 10 + (dice(30) == 0 ? dice(200000) : dice(3000));
    taker->kept_peers = 2 * (1 + dice(3));
    taker->kept_durable = dice(4) == 0 ? taker->kept_peers & 2 : 0;
    mixture_offer(index);
}

static void mixture_room(void)
{
    for (unsigned i = 0; i < TAKERS; i++) {
        if (mixture.takers[i].keeps)
            mixture_offer(i);
    }
}

static void mixture_run_process(unsigned self)
{
    if ((mixture.stopped >> self & 1) != 0)
        return;
    bus_drain(processes[self].bus);
    bus_turn_end(processes[self].bus);
    fake_carrier_drop(&processes[self].carrier);
}

static void mixture_step(void)
{
    uint32_t fate = dice(40);
    if (fate == 0)
        mixture.stopped = dice(3) == 0 ? 2 * dice(4) : 0;
    if (fate < 6)
        pass_time(50 * (1 + dice(mixture.stopped != 0 ? 40 : 4)), mixture.stopped);
    for (unsigned i = 0; i < TAKERS; i++) {
        for (uint32_t count = dice(3); count > 0; count--)
            mixture_publish(i);
    }
    bus_turn_end(processes[0].bus);
    if (dice(5) == 0)
        fake_carrier_drop(&processes[0].carrier);
    mixture_run_process(1 + dice(2));
    bus_drain(processes[0].bus);
    bus_poll(processes[0].bus);
}

static void mixture_finish(uint32_t seed)
{
    mixture.stopped = 0;
    for (unsigned i = 0; i < 400; i++) {
        pass_time(50, 0);
        mixture_run_process(1);
        mixture_run_process(2);
        bus_drain(processes[0].bus);
    }
    uint64_t lost = 0, missing = 0;
    for (unsigned peer = 1; peer < PEERS; peer++) {
        struct bus_lane_figures figures;
        bus_figures(processes[0].bus, peer, &figures);
        lost += figures.lost_acknowledged;
        missing += mixture.accepted[peer] - mixture.delivered[peer];
    }
    for (unsigned i = 0; i < TAKERS; i++)
        assert_false(mixture.takers[i].keeps);
    if (lost != missing || mixture.pending != 0 || processes[0].counters.bus_dropped_acknowledged != lost)
        fail_msg("seed %u: %u lost, %u missing, %u pending", seed, (unsigned)lost, (unsigned)missing,
            mixture.pending);
}

static void acknowledged_minus_delivered_equals_the_counters(void **state)
{
    mixing = true;
    for (uint32_t seed = 1; seed <= 20; seed++) {
        memset(&mixture, 0, sizeof mixture);
        mixture.random = seed * 2654435761u;
        for (unsigned step = 0; step < 2000; step++)
            mixture_step();
        mixture_finish(seed);
        tear_down(state);
        set_up(state);
    }
    mixing = false;
}

int main(void)
{
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = byte_at(i);
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_fits_is_accepted_at_once),
        TEST(everything_known_of_a_publication_travels),
        TEST(picks_of_shared_groups_travel),
        TEST(identity_counts_up_and_a_given_one_is_kept),
        TEST(durable_targets_are_waited_for),
        TEST(who_is_forgotten_is_not_called),
        TEST(a_peer_that_dies_is_not_waited_for),
        TEST(a_silent_durable_peer_is_waited_for_no_longer_than_a_full_one),
        TEST(a_full_lane_drops_qos0_and_holds_up_the_others),
        TEST(nothing_passes_those_that_wait_for_room),
        TEST(after_the_stall_timeout_publications_are_lost_and_counted),
        TEST(a_peer_that_dies_holds_nobody_up),
        TEST(large_ones_arrive_whole),
        TEST(small_ones_pass_large_ones_of_others),
        TEST(one_clients_publications_stay_in_order),
        TEST(several_large_ones_travel_side_by_side),
        TEST(large_ones_on_their_way_are_bounded),
        TEST(half_a_publication_is_dropped_with_its_sender),
        TEST(the_rest_of_one_whose_beginning_is_gone_is_ignored),
        TEST(a_large_one_to_a_stopped_peer_ends_with_the_stall_timeout),
        TEST(completions_wait_for_room_and_are_not_lost),
        TEST(a_corrupt_lane_leaves_nobody_waiting),
        TEST(acknowledged_minus_delivered_equals_the_counters),
    };
    return cmocka_run_group_tests_name("acceptance", tests, NULL, NULL);
}
