/* bus: every published record is applied once and in order, whatever carrier, deaths and damage do. */
#include "cluster/bus.h"
#include "shared/bus_window.h"
#include "shared/clock.h"
#include "tests/unit/fake_carrier.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/wait.h>

#include <cmocka.h>

#define WINDOW ((size_t)65536)
#define PEERS  3
#define TYPE   BUS_RECORD_ROUTE

struct process {
    struct bus *bus;
    struct fake_carrier carrier;
    struct counters counters;
    uint64_t incarnation;
    char heard[4096]; /* bodies of all records, each with its sender: "1:text " */
    unsigned alarms, out_of_step, room, started, died, applied;
    bool die; /* the handler ends the process */
};

static struct fake_lanes *lanes;
static struct process processes[PEERS];
static char quarantine[64];

static enum status on_record(void *context, const struct bus_record *record)
{
    struct process *it = context;
    if (it->die)
        _exit(7);
    size_t used = strlen(it->heard);
    snprintf(it->heard + used, sizeof it->heard - used, "%u:%.*s ", record->peer,
        record->body.size > 16 ? 1 : (int)record->body.size, (const char *)record->body.data);
    return STATUS_OK;
}

static void on_alarm(void *context, unsigned peer, const char *text)
{
    (void)peer;
    (void)text;
    ((struct process *)context)->alarms++;
}

static void on_out_of_step(void *context, unsigned peer)
{
    (void)peer;
    ((struct process *)context)->out_of_step++;
}

static void on_room(void *context, unsigned peer)
{
    (void)peer;
    ((struct process *)context)->room++;
}

static void on_started(void *context, unsigned peer)
{
    (void)peer;
    ((struct process *)context)->started++;
}

static void on_died(void *context, unsigned peer)
{
    (void)peer;
    ((struct process *)context)->died++;
}

static void on_turn_applied(void *context)
{
    ((struct process *)context)->applied++;
}

static struct publication_origin origin_of(unsigned self)
{
    return (struct publication_origin){.incarnation = processes[self].incarnation, .slot = (uint16_t)self};
}

/* A new incarnation of this slot, which knows of nobody yet. */
static void process_start(unsigned self)
{
    struct process *it = &processes[self];
    it->incarnation++;
    it->heard[0] = 0;
    fake_carrier_init(&it->carrier);
    struct bus_settings settings = {
        .self = self,
        .peers = PEERS,
        .origin = origin_of(self),
        .lanes = lanes->of[self],
        .counters = &it->counters,
        .quarantine = quarantine,
        .carrier = &it->carrier.carrier,
        .context = it,
        .alarm = on_alarm,
    };
    assert_int_equal(bus_new(&settings, &it->bus), STATUS_OK);
    bus_set_handler(it->bus, TYPE, on_record, it);
    bus_watch(it->bus, &(struct bus_watcher){.context = it,
                           .started = on_started,
                           .died = on_died,
                           .turn_applied = on_turn_applied,
                           .room = on_room,
                           .out_of_step = on_out_of_step});
}

/* The process is gone; what it had put and not published is lost. */
static void process_end(unsigned self)
{
    bus_free(&processes[self].bus);
    fake_carrier_drop(&processes[self].carrier);
}

static void introduce_all(void)
{
    for (unsigned self = 0; self < PEERS; self++) {
        for (unsigned peer = 0; peer < PEERS; peer++) {
            if (peer != self)
                bus_peer_started(processes[self].bus, peer, origin_of(peer));
        }
    }
}

static int set_up(void **state)
{
    (void)state;
    clock_set(1000000, 1700000000000000);
    memset(processes, 0, sizeof processes);
    lanes = fake_lanes_new(PEERS, WINDOW);
    for (unsigned self = 0; self < PEERS; self++)
        process_start(self);
    introduce_all();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned self = 0; self < PEERS; self++)
        process_end(self);
    fake_lanes_free(&lanes);
    clock_use_system();
    return 0;
}

static bool put_sized(unsigned from, unsigned to, const char *text, size_t size, enum bus_room room)
{
    uint8_t *at = bus_put(processes[from].bus, to, TYPE, size, room);
    if (at == NULL)
        return false;
    memset(at, 'x', size);
    memcpy(at, text, strlen(text));
    return true;
}

static void put(unsigned from, unsigned to, const char *text)
{
    assert_true(put_sized(from, to, text, strlen(text), BUS_ROOM_CONTROL));
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

static void pass_time(uint64_t ms)
{
    clock_set(clock_monotonic_us() + ms * 1000, clock_real_us() + ms * 1000);
}

static void assert_heard(unsigned self, const char *expected)
{
    assert_string_equal(processes[self].heard, expected);
    processes[self].heard[0] = 0;
}

static void records_arrive_in_order_one_message_a_turn(void **state)
{
    (void)state;
    put(0, 1, "a");
    put(0, 2, "b");
    put(0, 1, "c");
    assert_true(bus_unpublished(processes[0].bus));
    assert_heard(1, "");
    turn(0);
    assert_false(bus_unpublished(processes[0].bus));
    assert_heard(1, "0:a 0:c ");
    assert_heard(2, "0:b ");
    assert_int_equal(processes[0].carrier.sent, 2);
    assert_int_equal(processes[0].counters.bus_frames_sent, 2);
    assert_int_equal(processes[1].applied, 1);
    assert_int_equal(processes[1].counters.bus_gaps, 0);
    turn(0);
    assert_int_equal(processes[0].carrier.sent, 2);
}

static void a_turn_larger_than_a_frame_takes_several(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        assert_true(put_sized(0, 1, "big", 17000, BUS_ROOM_CONTROL));
    turn(0);
    assert_heard(1, "0:b 0:b 0:b ");
    for (unsigned i = 0; i < 100; i++) {
        assert_true(put_sized(0, 1, "more", 5000 + i * 7, BUS_ROOM_PUBLICATION));
        assert_true(put_sized(0, 1, "and", 20000 + i, BUS_ROOM_PUBLICATION));
        turn(0);
        assert_heard(1, "0:m 0:a ");
    }
}

static void a_repeated_message_is_dropped(void **state)
{
    (void)state;
    put(0, 1, "a");
    bus_turn_end(processes[0].bus);
    struct fake_message *message = fake_carrier_take(&processes[0].carrier);
    bus_receive(processes[1].bus, bytes_of(message->data, message->size));
    bus_receive(processes[1].bus, bytes_of(message->data, message->size));
    free(message);
    assert_heard(1, "0:a ");
}

static void a_gap_is_read_from_the_ring_at_once(void **state)
{
    (void)state;
    processes[0].carrier.lose = 1 << 1;
    put(0, 1, "a");
    turn(0);
    processes[0].carrier.lose = 0;
    put(0, 1, "b");
    turn(0);
    assert_heard(1, "0:a 0:b ");
    assert_int_equal(processes[1].counters.bus_gaps, 1);
}

static void a_lost_last_message_is_read_after_100_ms(void **state)
{
    (void)state;
    processes[0].carrier.lose = 1 << 1;
    put(0, 1, "a");
    turn(0);
    bus_tick(processes[1].bus);
    pass_time(99);
    bus_tick(processes[1].bus);
    assert_heard(1, "");
    pass_time(1);
    bus_tick(processes[1].bus);
    assert_heard(1, "0:a ");
}

static void a_stopped_process_drains_before_it_reads_on(void **state)
{
    (void)state;
    bus_drain(processes[1].bus);
    put(0, 1, "a");
    bus_publish(processes[0].bus);
    pass_time(499);
    bus_drain_if_stale(processes[1].bus, clock_monotonic_us());
    assert_heard(1, "");
    pass_time(1);
    bus_drain_if_stale(processes[1].bus, clock_monotonic_us());
    assert_heard(1, "0:a ");
}

static void what_the_carrier_refused_is_sent_from_the_ring_later(void **state)
{
    (void)state;
    processes[0].carrier.refuse = 1 << 1;
    put(0, 1, "a");
    turn(0);
    put(0, 1, "b");
    turn(0);
    put(0, 2, "c");
    turn(0);
    assert_heard(1, "");
    assert_heard(2, "0:c ");
    processes[0].carrier.refuse = 0;
    bus_carrier_ready(processes[0].bus, 1);
    assert_int_equal(processes[0].carrier.sent, 2);
    deliver(0);
    assert_heard(1, "0:a 0:b ");
    put(0, 1, "d");
    turn(0);
    assert_heard(1, "0:d ");
}

static void what_was_applied_meanwhile_is_not_sent_again(void **state)
{
    (void)state;
    processes[0].carrier.refuse = 1 << 1;
    for (unsigned i = 0; i < 40; i++) {
        assert_true(put_sized(0, 1, "a", 20000, BUS_ROOM_CONTROL));
        bus_turn_end(processes[0].bus);
        bus_drain(processes[1].bus);
        assert_heard(1, "0:a ");
    }
    processes[0].carrier.refuse = 0;
    bus_tick(processes[0].bus);
    /* The last one only, at most: all else is known to be applied. */
    assert_true(processes[0].carrier.sent <= 1);
    deliver(0);
    assert_heard(1, "");
}

static void published_records_survive_their_sender(void **state)
{
    (void)state;
    put(0, 1, "kept");
    bus_publish(processes[0].bus);
    put(0, 1, "torn");
    process_end(0);
    bus_peer_died(processes[1].bus, 0);
    assert_heard(1, "0:kept ");
    assert_int_equal(processes[1].died, 1);
    assert_int_equal(bus_live_peers(processes[1].bus), 1 << 2);
    assert_null(bus_put(processes[1].bus, 0, TYPE, 1, BUS_ROOM_CONTROL));

    process_start(0);
    bus_peer_started(processes[1].bus, 0, origin_of(0));
    bus_peer_started(processes[0].bus, 1, origin_of(1));
    put(0, 1, "next");
    turn(0);
    assert_heard(1, "0:next ");
}

static void a_new_incarnation_reads_what_its_predecessor_had_not(void **state)
{
    (void)state;
    put(0, 1, "a");
    turn(0);
    assert_heard(1, "0:a ");
    process_end(1);
    put(0, 1, "b");
    turn(0);
    bus_peer_died(processes[0].bus, 1);
    process_start(1);
    bus_peer_started(processes[1].bus, 0, origin_of(0));
    assert_heard(1, "0:b ");
    bus_drain(processes[1].bus);
    assert_heard(1, "");
}

static void what_a_dead_one_left_for_our_predecessor_is_passed_over(void **state)
{
    (void)state;
    process_end(1);
    put(0, 1, "old");
    turn(0);
    process_end(0);
    process_start(1); /* nobody tells it of 0, which is dead */
    bus_drain(processes[1].bus);
    assert_heard(1, "");
    process_start(0);
    bus_peer_started(processes[0].bus, 1, origin_of(1));
    put(0, 1, "new");
    turn(0);
    bus_peer_started(processes[1].bus, 0, origin_of(0));
    assert_heard(1, "0:new ");
}

static void frames_of_an_unannounced_incarnation_wait(void **state)
{
    (void)state;
    put(0, 1, "old");
    bus_publish(processes[0].bus);
    process_end(0);
    process_start(0);
    bus_peer_started(processes[0].bus, 1, origin_of(1));
    put(0, 1, "new");
    turn(0);
    bus_drain(processes[1].bus);
    assert_heard(1, "0:old ");
    bus_peer_died(processes[1].bus, 0);
    bus_drain(processes[1].bus);
    assert_heard(1, "");
    bus_peer_started(processes[1].bus, 0, origin_of(0));
    assert_heard(1, "0:new ");
    assert_int_equal(bus_peer_origin(processes[1].bus, 0).incarnation, 2);
}

/* Fills the lane 0→1 with publications and returns how many fitted. */
static unsigned fill(size_t size)
{
    unsigned count = 0;
    while (bus_full(processes[0].bus, 1 << 1, size, BUS_ROOM_PUBLICATION) == 0) {
        assert_true(put_sized(0, 1, "p", size, BUS_ROOM_PUBLICATION));
        count++;
    }
    return count;
}

static void publications_leave_an_eighth_for_control(void **state)
{
    (void)state;
    assert_int_equal(bus_full(processes[0].bus, 6, 1000, BUS_ROOM_PUBLICATION), 0);
    assert_false(bus_wants_poll(processes[0].bus));
    unsigned count = fill(1000);
    assert_in_range(count * 1000, WINDOW * 3 / 4, WINDOW * 7 / 8);
    assert_null(bus_put(processes[0].bus, 1, TYPE, 1000, BUS_ROOM_PUBLICATION));
    assert_int_equal(bus_full(processes[0].bus, 6, 1000, BUS_ROOM_PUBLICATION), 1 << 1);
    assert_int_equal(bus_full(processes[0].bus, 6, 1000, BUS_ROOM_CONTROL), 0);
    put(0, 1, "c");
    assert_true(bus_wants_poll(processes[0].bus));
    bus_poll(processes[0].bus);
    assert_int_equal(processes[0].room, 0);
    turn(0);
    bus_poll(processes[0].bus);
    assert_int_equal(processes[0].room, 1);
    assert_int_equal(processes[0].out_of_step, 0);
    assert_false(bus_wants_poll(processes[0].bus));
    assert_int_equal(bus_full(processes[0].bus, 6, 1000, BUS_ROOM_PUBLICATION), 0);
}

static void a_control_record_without_room_puts_the_peer_out_of_step(void **state)
{
    (void)state;
    unsigned before = 0;
    assert_int_equal(bus_behind(processes[1].bus), 0);
    while (put_sized(0, 1, "c", 1000, BUS_ROOM_CONTROL))
        before++;
    assert_int_equal(bus_behind(processes[1].bus), 1 << 0);
    assert_in_range(before * 1000, WINDOW * 7 / 8, WINDOW);
    assert_int_equal(processes[0].alarms, 1);
    assert_int_equal(processes[0].counters.bus_out_of_step, 1);
    assert_false(put_sized(0, 1, "c", 1, BUS_ROOM_CONTROL));
    assert_int_equal(bus_full(processes[0].bus, 6, 1, BUS_ROOM_PUBLICATION), 1 << 1);
    struct bus_lane_figures figures;
    bus_figures(processes[0].bus, 1, &figures);
    assert_true(figures.out_of_step);
    bus_poll(processes[0].bus);
    assert_int_equal(processes[0].out_of_step, 0);
    turn(0);
    assert_false(put_sized(0, 1, "c", 1, BUS_ROOM_CONTROL));
    assert_int_equal(bus_behind(processes[1].bus), 1 << 0);
    bus_tick(processes[0].bus);
    assert_int_equal(bus_behind(processes[1].bus), 0);
    assert_int_equal(processes[0].out_of_step, 1);
    assert_int_equal(processes[0].room, 1);
    processes[1].heard[0] = 0;
    put(0, 1, "state");
    turn(0);
    assert_heard(1, "0:state ");
}

static void a_full_lane_holds_up_no_other(void **state)
{
    (void)state;
    fill(3000);
    bus_turn_end(processes[0].bus);
    fake_carrier_drop(&processes[0].carrier);
    put(0, 2, "free");
    turn(0);
    assert_heard(2, "0:free ");
}

/* Runs the receiver in a child that ends while it applies. */
static void die_applying(unsigned self)
{
    process_end(self);
    processes[self].incarnation++;
    pid_t child = fork();
    if (child == 0) {
        processes[self].incarnation--;
        process_start(self);
        processes[self].die = true;
        bus_peer_started(processes[self].bus, 0, origin_of(0));
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 7);
    process_start(self);
    bus_set_handler(processes[self].bus, TYPE, on_record, &processes[self]);
}

static void a_frame_that_kills_twice_is_set_aside(void **state)
{
    (void)state;
    put(0, 1, "poison");
    turn(2);
    bus_turn_end(processes[0].bus);
    fake_carrier_drop(&processes[0].carrier);
    put(0, 1, "good");
    bus_turn_end(processes[0].bus);
    fake_carrier_drop(&processes[0].carrier);
    die_applying(1);
    die_applying(1);
    assert_int_equal(processes[1].alarms, 0);
    bus_peer_started(processes[1].bus, 0, origin_of(0));
    assert_heard(1, "0:good ");
    assert_int_equal(processes[1].alarms, 1);
    char path[128];
    snprintf(path, sizeof path, "%s/lane-0-1-0.frame", quarantine);
    assert_int_equal(access(path, R_OK), 0);
    assert_int_equal(unlink(path), 0);
}

static void a_frame_that_kills_once_is_applied(void **state)
{
    (void)state;
    put(0, 1, "innocent");
    bus_turn_end(processes[0].bus);
    die_applying(1);
    bus_peer_started(processes[1].bus, 0, origin_of(0));
    assert_heard(1, "0:innocent ");
    put(0, 1, "next");
    turn(0);
    assert_heard(1, "0:next ");
}

/* The sender's own mapping of lane 0→1, to do damage with. */
static struct bus_window damage_map(void)
{
    struct bus_window window;
    assert_int_equal(
        bus_window_map_sender(lanes->of[0][1].out_ring, lanes->of[0][1].out_cursor, &window), STATUS_OK);
    return window;
}

static void a_corrupt_frame_in_the_ring_skips_the_lane(void **state)
{
    (void)state;
    put(0, 1, "bad");
    bus_turn_end(processes[0].bus);
    fake_carrier_drop(&processes[0].carrier);
    struct bus_window window = damage_map();
    window.ring[BUS_FRAME_HEADER_SIZE + 5] ^= 1;
    bus_drain(processes[1].bus);
    assert_heard(1, "");
    assert_int_equal(processes[1].alarms, 1);
    assert_int_equal(processes[1].out_of_step, 1);
    assert_int_equal(processes[1].counters.bus_frames_bad, 1);
    put(0, 1, "good");
    turn(0);
    assert_heard(1, "0:good ");
    bus_window_unmap(&window);
}

static void a_corrupt_message_is_read_from_the_ring(void **state)
{
    (void)state;
    put(0, 1, "good");
    bus_turn_end(processes[0].bus);
    struct fake_message *message = fake_carrier_take(&processes[0].carrier);
    message->data[message->size / 2 + 1] ^= 1;
    bus_receive(processes[1].bus, bytes_of(message->data, message->size));
    free(message);
    bus_tick(processes[1].bus);
    pass_time(100);
    bus_tick(processes[1].bus);
    assert_heard(1, "0:good ");
    assert_int_equal(processes[1].alarms, 0);
}

static void a_corrupt_head_skips_the_lane(void **state)
{
    (void)state;
    struct bus_window window = damage_map();
    *window.head = 3 * WINDOW + 1;
    bus_drain(processes[1].bus);
    assert_int_equal(processes[1].out_of_step, 1);
    put(0, 1, "lost"); /* the head is sane again, but below the cursor: corrupt once more */
    turn(0);
    put(0, 1, "good");
    turn(0);
    assert_heard(1, "0:good ");
    assert_int_equal(processes[1].out_of_step, 2);
    bus_window_unmap(&window);
}

static void a_corrupt_cursor_of_the_peer_holds_the_lane_until_it_heals(void **state)
{
    (void)state;
    struct bus_window window;
    assert_int_equal(
        bus_window_map_receiver(lanes->of[1][0].in_ring, lanes->of[1][0].in_cursor, &window), STATUS_OK);
    *window.cursor = 1234567;
    while (put_sized(0, 1, "c", 1000, BUS_ROOM_CONTROL))
        ;
    assert_int_equal(processes[0].counters.bus_out_of_step, 1);
    bus_tick(processes[0].bus);
    assert_int_equal(processes[0].out_of_step, 0);
    turn(0);
    bus_tick(processes[1].bus);
    bus_tick(processes[0].bus);
    assert_int_equal(processes[0].out_of_step, 1);
    processes[1].heard[0] = 0;
    put(0, 1, "good");
    turn(0);
    assert_heard(1, "0:good ");
    bus_window_unmap(&window);
}

static void hostile_content_never_faults(void **state)
{
    (void)state;
    struct bus_window window = damage_map();
    uint32_t random = 42;
    for (unsigned round = 0; round < 20000; round++) {
        put(0, 1, "some text");
        put(0, 1, "more");
        bus_publish(processes[0].bus);
        uint64_t head = *window.head;
        unsigned hits = round % 4;
        for (unsigned i = 0; i < hits; i++) {
            random = random * 1664525 + 1013904223;
            *bus_window_at(&window, head - 1 - (random >> 16) % 64) = (uint8_t)(random >> 8);
        }
        if (round % 16 == 15)
            *window.head += (random >> 12) % 128;
        bus_drain(processes[1].bus);
        processes[1].heard[0] = 0;
        *window.head = head;
        bus_drain(processes[1].bus);
        bus_full(processes[0].bus, 1 << 1, 1, BUS_ROOM_CONTROL);
        bus_poll(processes[0].bus);
    }
    put(0, 1, "end");
    turn(0);
    bus_window_unmap(&window);
}

static void hostile_messages_never_fault(void **state)
{
    (void)state;
    put(0, 1, "some text");
    put(0, 1, "more");
    bus_turn_end(processes[0].bus);
    struct fake_message *message = fake_carrier_take(&processes[0].carrier);
    uint8_t *copy = malloc(message->size);
    uint32_t random = 7;
    for (unsigned round = 0; round < 20000; round++) {
        memcpy(copy, message->data, message->size);
        for (unsigned i = 0; i <= round % 3; i++) {
            random = random * 1664525 + 1013904223;
            copy[(random >> 16) % message->size] = (uint8_t)(random >> 8);
        }
        bus_receive(processes[1].bus, bytes_of(copy, (random >> 4) % (message->size + 1)));
        processes[1].heard[0] = 0;
    }
    free(copy);
    free(message);
}

static void stamps_grow_whatever_the_clock_does(void **state)
{
    (void)state;
    struct bus *bus = processes[0].bus;
    uint64_t first = bus_stamp(bus);
    assert_int_equal(first >> 16, 1700000000000);
    assert_true(bus_stamp(bus) > first);
    bus_stamp_heard(bus, first + (5000ull << 16));
    assert_true(bus_stamp(bus) > first + (5000ull << 16));
    clock_set(2000000, 1600000000000000);
    uint64_t later = bus_stamp(bus);
    assert_true(later > first + (5000ull << 16));
    bus_stamp_heard(bus, UINT64_MAX);
    assert_true(bus_stamp(bus) > later);
    clock_set(3000000, 1800000000000000);
    assert_int_not_equal(bus_stamp(bus), bus_stamp(processes[1].bus));
    assert_int_equal(bus_next_sequence(bus), 1);
    assert_int_equal(bus_next_sequence(bus), 2);
}

/* A mixture of everything that may happen, by seed. ----------------------------------------------------- */

struct mixture {
    uint32_t random;
    uint32_t next_put;     /* number of the next record 0→1 */
    uint32_t published;    /* numbers below survive */
    uint32_t next_applied; /* number that must come next */
};

static struct mixture mixture;

static uint32_t dice(uint32_t sides)
{
    mixture.random ^= mixture.random << 13;
    mixture.random ^= mixture.random >> 17;
    mixture.random ^= mixture.random << 5;
    return mixture.random % sides;
}

static enum status on_numbered(void *context, const struct bus_record *record)
{
    (void)context;
    assert_int_equal(get_u32_le(record->body.data), mixture.next_applied);
    assert_true(mixture.next_applied < mixture.published);
    mixture.next_applied++;
    return STATUS_OK;
}

static void mixture_put(void)
{
    for (uint32_t count = dice(20); count > 0; count--) {
        size_t size = 4 + (dice(8) == 0 ? dice(9000) : dice(200));
        if (bus_full(processes[0].bus, 1 << 1, size, BUS_ROOM_PUBLICATION) != 0)
            break;
        put_u32_le(bus_put(processes[0].bus, 1, TYPE, size, BUS_ROOM_PUBLICATION), mixture.next_put++);
    }
}

/* Delivers, loses, repeats and swaps what is on its way. */
static void mixture_deliver(void)
{
    struct fake_message *message, *kept = NULL;
    while ((message = fake_carrier_take(&processes[0].carrier)) != NULL) {
        uint32_t fate = dice(10);
        for (uint32_t times = fate == 0 ? 0 : fate == 1 ? 2 : 1; times > 0; times--)
            bus_receive(processes[1].bus, bytes_of(message->data, message->size));
        free(kept);
        kept = message;
        if (fate == 2 && kept->size > 0)
            bus_receive(processes[1].bus, bytes_of(kept->data, dice((uint32_t)kept->size)));
    }
    free(kept);
}

static void mixture_restart_sender(void)
{
    process_end(0);
    mixture.next_put = mixture.published; /* what was torn is put again by its successor */
    process_start(0);
    if (dice(2) == 0)
        bus_drain(processes[1].bus);
    bus_peer_started(processes[0].bus, 1, origin_of(1));
    bus_peer_died(processes[1].bus, 0);
    assert_int_equal(mixture.next_applied, mixture.published);
    bus_peer_started(processes[1].bus, 0, origin_of(0));
}

static void mixture_restart_receiver(void)
{
    process_end(1);
    process_start(1);
    bus_set_handler(processes[1].bus, TYPE, on_numbered, NULL);
    bus_peer_died(processes[0].bus, 1);
    mixture.published = mixture.next_put;
    bus_peer_started(processes[0].bus, 1, origin_of(1));
    bus_peer_started(processes[1].bus, 0, origin_of(0));
}

static void mixture_step(void)
{
    switch (dice(12)) {
    case 0:
        processes[0].carrier.refuse ^= 1 << 1;
        break;
    case 1:
        pass_time(dice(120));
        bus_tick(processes[dice(2)].bus);
        break;
    case 2:
        bus_publish(processes[0].bus);
        mixture.published = mixture.next_put;
        break;
    case 3:
        if (dice(10) == 0)
            mixture_restart_sender();
        break;
    case 4:
        if (dice(10) == 0)
            mixture_restart_receiver();
        break;
    case 5:
        bus_carrier_ready(processes[0].bus, 1);
        break;
    default:
        mixture_put();
        mixture.published = mixture.next_put;
        bus_turn_end(processes[0].bus);
        if (dice(3) != 0)
            mixture_deliver();
        if (dice(4) == 0)
            mixture_put();
    }
}

static void any_mixture_applies_each_record_once_and_in_order(void **state)
{
    for (uint32_t seed = 1; seed <= 100; seed++) {
        mixture = (struct mixture){.random = seed * 2654435761u};
        bus_set_handler(processes[1].bus, TYPE, on_numbered, NULL);
        for (unsigned step = 0; step < 1000; step++)
            mixture_step();
        mixture.published = mixture.next_put;
        bus_turn_end(processes[0].bus);
        bus_drain(processes[1].bus);
        if (mixture.next_applied != mixture.next_put || processes[1].alarms > 0)
            fail_msg("seed %u", seed);
        tear_down(state);
        set_up(state);
    }
}

int main(void)
{
    snprintf(quarantine, sizeof quarantine, "/tmp/shoal-test-XXXXXX");
    if (mkdtemp(quarantine) == NULL)
        return 1;
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(records_arrive_in_order_one_message_a_turn),
        TEST(a_turn_larger_than_a_frame_takes_several),
        TEST(a_repeated_message_is_dropped),
        TEST(a_gap_is_read_from_the_ring_at_once),
        TEST(a_lost_last_message_is_read_after_100_ms),
        TEST(a_stopped_process_drains_before_it_reads_on),
        TEST(what_the_carrier_refused_is_sent_from_the_ring_later),
        TEST(what_was_applied_meanwhile_is_not_sent_again),
        TEST(published_records_survive_their_sender),
        TEST(a_new_incarnation_reads_what_its_predecessor_had_not),
        TEST(what_a_dead_one_left_for_our_predecessor_is_passed_over),
        TEST(frames_of_an_unannounced_incarnation_wait),
        TEST(publications_leave_an_eighth_for_control),
        TEST(a_control_record_without_room_puts_the_peer_out_of_step),
        TEST(a_full_lane_holds_up_no_other),
        TEST(a_frame_that_kills_twice_is_set_aside),
        TEST(a_frame_that_kills_once_is_applied),
        TEST(a_corrupt_frame_in_the_ring_skips_the_lane),
        TEST(a_corrupt_message_is_read_from_the_ring),
        TEST(a_corrupt_head_skips_the_lane),
        TEST(a_corrupt_cursor_of_the_peer_holds_the_lane_until_it_heals),
        TEST(hostile_content_never_faults),
        TEST(hostile_messages_never_fault),
        TEST(stamps_grow_whatever_the_clock_does),
        TEST(any_mixture_applies_each_record_once_and_in_order),
    };
    int failed = cmocka_run_group_tests_name("bus", tests, NULL, NULL);
    rmdir(quarantine);
    return failed;
}
