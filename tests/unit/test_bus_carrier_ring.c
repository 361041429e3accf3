/*
 * The carrier that only wakes: nobody is woken who is awake, whoever sleeps is woken once, and between two
 * processes that publish and sleep at random no wake-up is ever missed.
 */
#include "cluster/bus.h"
#include "shared/bus_carrier_ring.h"
#include "tests/unit/fake_carrier.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cmocka.h>

#define WINDOW ((size_t)65536)
#define PEERS  2
#define TYPE   BUS_RECORD_ROUTE

/* How many records the two processes exchange, and after how long a missed wake-up is one. */
#define ROUNDS    20000
#define MISSED_MS 2000

struct process {
    struct event_base *base;
    struct bus *bus;
    struct bus_carrier *carrier;
    struct counters counters;
    unsigned woken;
    uint32_t heard;
};

static struct fake_lanes *lanes;
static int wakes[PEERS];

static void on_woken(void *context)
{
    struct process *it = context;
    it->woken++;
}

static enum status on_record(void *context, const struct bus_record *record)
{
    struct process *it = context;
    uint32_t number;
    if (record->body.size != sizeof number)
        return STATUS_PROTOCOL;
    memcpy(&number, record->body.data, sizeof number);
    assert_int_equal(number, it->heard);
    it->heard++;
    return STATUS_OK;
}

static struct publication_origin origin_of(unsigned self)
{
    return (struct publication_origin){.incarnation = 1, .slot = (uint16_t)self};
}

static void process_open(struct process *it, unsigned self)
{
    *it = (struct process){.base = event_base_new()};
    struct bus_settings settings = {.self = self,
        .peers = PEERS,
        .origin = origin_of(self),
        .lanes = lanes->of[self],
        .counters = &it->counters};
    assert_int_equal(bus_new(&settings, &it->bus), STATUS_OK);
    struct bus_carrier_ring_settings carrier = {
        .base = it->base, .own = wakes[self], .context = it, .woken = on_woken};
    for (unsigned peer = 0; peer < BUS_CARRIER_RING_PEERS; peer++)
        carrier.peers[peer] = peer < PEERS && peer != self ? wakes[peer] : -1;
    assert_int_equal(bus_carrier_ring_new(&carrier, &it->carrier), STATUS_OK);
    bus_set_carrier(it->bus, it->carrier);
    bus_set_handler(it->bus, TYPE, on_record, it);
}

static void process_close(struct process *it)
{
    it->carrier->ops->free(&it->carrier);
    bus_free(&it->bus);
    event_base_free(it->base);
}

static void say(struct process *it, unsigned peer, uint32_t number)
{
    uint8_t *to = bus_put(it->bus, peer, TYPE, sizeof number, BUS_ROOM_PUBLICATION);
    assert_non_null(to);
    memcpy(to, &number, sizeof number);
    bus_turn_end(it->bus);
}

static unsigned look(struct process *it)
{
    it->woken = 0;
    event_base_loop(it->base, EVLOOP_NONBLOCK);
    return it->woken;
}

static int set_up(void **state)
{
    (void)state;
    lanes = fake_lanes_new(PEERS, WINDOW);
    for (unsigned self = 0; self < PEERS; self++)
        wakes[self] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned self = 0; self < PEERS; self++)
        close(wakes[self]);
    fake_lanes_free(&lanes);
    return 0;
}

static void open_pair(struct process pair[PEERS])
{
    for (unsigned self = 0; self < PEERS; self++)
        process_open(&pair[self], self);
    for (unsigned self = 0; self < PEERS; self++)
        bus_peer_started(pair[self].bus, 1 - self, origin_of(1 - self));
}

static void close_pair(struct process pair[PEERS])
{
    for (unsigned self = 0; self < PEERS; self++)
        process_close(&pair[self]);
}

static void test_who_is_awake_is_not_woken(void **state)
{
    (void)state;
    struct process pair[PEERS];
    open_pair(pair);
    say(&pair[0], 1, 0);
    assert_int_equal(look(&pair[1]), 0);
    assert_false(bus_may_sleep(pair[1].bus)); /* there is something to read first */
    bus_drain(pair[1].bus);
    assert_int_equal(pair[1].heard, 1);
    close_pair(pair);
}

static void test_who_sleeps_is_woken_once(void **state)
{
    (void)state;
    struct process pair[PEERS];
    open_pair(pair);
    assert_true(bus_may_sleep(pair[1].bus));
    say(&pair[0], 1, 0);
    assert_int_equal(look(&pair[1]), 1);
    say(&pair[0], 1, 1); /* it has been woken already, and has not read yet */
    assert_int_equal(look(&pair[1]), 0);
    bus_woken(pair[1].bus);
    bus_drain(pair[1].bus);
    assert_int_equal(pair[1].heard, 2);
    say(&pair[0], 1, 2);
    assert_int_equal(look(&pair[1]), 0);
    bus_drain(pair[1].bus);
    assert_true(bus_may_sleep(pair[1].bus));
    say(&pair[0], 1, 3);
    assert_int_equal(look(&pair[1]), 1);
    close_pair(pair);
}

static void test_frame_of_a_peer_that_is_not_announced_does_not_keep_awake(void **state)
{
    (void)state;
    struct process pair[PEERS];
    for (unsigned self = 0; self < PEERS; self++)
        process_open(&pair[self], self);
    bus_peer_started(pair[0].bus, 1, origin_of(1));
    say(&pair[0], 1, 0);
    bus_drain(pair[1].bus);
    assert_int_equal(pair[1].heard, 0);
    assert_true(bus_may_sleep(pair[1].bus));
    bus_peer_started(pair[1].bus, 0, origin_of(0));
    assert_int_equal(pair[1].heard, 1);
    close_pair(pair);
}

static void test_process_that_died_asleep_is_followed_by_one_that_can_be_woken(void **state)
{
    (void)state;
    struct process pair[PEERS];
    open_pair(pair);
    assert_true(bus_may_sleep(pair[1].bus));
    say(&pair[0], 1, 0);
    bus_drain(pair[1].bus);
    process_close(&pair[1]);
    process_open(&pair[1], 1);
    bus_peer_started(pair[1].bus, 0, origin_of(0));
    look(&pair[1]);
    pair[1].heard = 1;
    assert_true(bus_may_sleep(pair[1].bus));
    say(&pair[0], 1, 1);
    assert_int_equal(look(&pair[1]), 1);
    close_pair(pair);
}

static void test_corrupt_head_does_not_keep_awake(void **state)
{
    (void)state;
    struct process pair[PEERS];
    open_pair(pair);
    uint64_t nonsense = 3;
    assert_int_equal(pwrite(lanes->of[0][1].out_ring, &nonsense, sizeof nonsense, 0), sizeof nonsense);
    assert_false(bus_may_sleep(pair[1].bus));
    bus_drain(pair[1].bus);
    assert_true(bus_may_sleep(pair[1].bus));
    close_pair(pair);
}

/* Sleeps as a worker does, without a tick that would heal a missed wake-up. False: missed. */
static bool sleep_until_woken(struct process *it, int wake)
{
    if (bus_may_sleep(it->bus)) {
        struct pollfd wait = {.fd = wake, .events = POLLIN};
        if (poll(&wait, 1, MISSED_MS) == 0)
            return false;
        uint64_t count;
        ssize_t size = read(wake, &count, sizeof count);
        (void)size;
        bus_woken(it->bus);
    }
    bus_drain(it->bus);
    return true;
}

/* Each answers the other's record, after a pause that is now and then long enough for both to sleep. */
static void answer(struct process *it, unsigned peer, uint32_t due, uint32_t *said)
{
    while (*said < due && *said < ROUNDS) {
        for (volatile unsigned i = 0; i < (*said * 7919u) % 256; i++)
            ;
        say(it, peer, (*said)++);
    }
}

static int play(unsigned self, bool begins)
{
    struct process it;
    process_open(&it, self);
    bus_peer_started(it.bus, 1 - self, origin_of(1 - self));
    uint32_t said = 0;
    for (;;) {
        answer(&it, 1 - self, begins ? it.heard + 1 : it.heard, &said);
        if (it.heard == ROUNDS)
            break;
        if (!sleep_until_woken(&it, wakes[self])) {
            fprintf(stderr, "process %u: missed a wake-up, heard %u, said %u\n", self, it.heard, said);
            return 1;
        }
    }
    process_close(&it);
    return 0;
}

static void test_no_wake_up_is_missed_between_two_processes(void **state)
{
    (void)state;
    pid_t other = fork();
    if (other == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(play(1, false));
    }
    int mine = play(0, true);
    int status = 0;
    assert_int_equal(waitpid(other, &status, 0), other);
    assert_int_equal(mine, 0);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_is_awake_is_not_woken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_sleeps_is_woken_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_frame_of_a_peer_that_is_not_announced_does_not_keep_awake, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_process_that_died_asleep_is_followed_by_one_that_can_be_woken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_corrupt_head_does_not_keep_awake, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_wake_up_is_missed_between_two_processes, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
