/* bus_carrier_nanomsg: messages arrive in order, a full peer refuses and says when it has room, peers come
 * back; and the bus over it, with a receiver that is killed again and again. */
#include "cluster/bus.h"
#include "shared/bus_carrier_nanomsg.h"
#include "shared/clock.h"
#include "tests/unit/fake_carrier.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

/* nanomsg 1.1.5 forgets its endpoint when a bind is refused. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:nn_bipc_create";
}

static struct event_base *base;

struct end {
    struct bus_carrier *carrier;
    unsigned received;
    unsigned next; /* expected number */
    bool in_order;
    uint64_t ready; /* peers */
};

static void on_receive(void *context, struct bytes message)
{
    struct end *end = context;
    uint32_t number = get_u32_le(message.data);
    end->in_order = end->in_order && number == end->next;
    end->next = number + 1;
    end->received++;
}

static void on_ready(void *context, unsigned peer)
{
    ((struct end *)context)->ready |= (uint64_t)1 << peer;
}

static void end_open(struct end *end, unsigned self)
{
    *end = (struct end){.in_order = true};
    struct bus_carrier_nanomsg_settings settings = {
        .base = base, .self = self, .peers = 3, .context = end, .receive = on_receive, .ready = on_ready};
    assert_int_equal(bus_carrier_nanomsg_new(&settings, &end->carrier), STATUS_OK);
}

static void end_close(struct end *end)
{
    end->carrier->ops->free(&end->carrier);
}

static enum status send_number(struct end *end, unsigned peer, uint32_t number, size_t size)
{
    static uint8_t message[BUS_FRAME_MAX];
    put_u32_le(message, number);
    return end->carrier->ops->send(end->carrier, peer, bytes_of(message, size));
}

/* Runs the loop until the condition holds; at most ten seconds. */
#define UNTIL(condition)                                                                                     \
    do {                                                                                                     \
        uint64_t deadline_us = clock_monotonic_us() + 10000000;                                              \
        while (!(condition)) {                                                                               \
            assert_true(clock_monotonic_us() < deadline_us);                                                 \
            event_base_loop(base, EVLOOP_NONBLOCK);                                                          \
        }                                                                                                    \
    } while (0)

static void messages_arrive_in_order(void **state)
{
    (void)state;
    struct end a, b;
    end_open(&a, 0);
    end_open(&b, 1);
    UNTIL(send_number(&a, 1, 0, 100) == STATUS_OK);
    for (uint32_t i = 1; i < 1000; i++)
        UNTIL(send_number(&a, 1, i, 8 + i % 3000) == STATUS_OK);
    UNTIL(b.received == 1000);
    assert_true(b.in_order);
    assert_int_equal(send_number(&a, 5, 0, 8), STATUS_NOT_FOUND);
    end_close(&a);
    end_close(&b);
}

static void a_full_peer_refuses_until_it_has_room(void **state)
{
    (void)state;
    struct end a, b;
    end_open(&a, 0);
    end_open(&b, 1);
    UNTIL(send_number(&a, 1, 0, BUS_FRAME_MAX) == STATUS_OK);
    uint32_t sent = 1;
    /* Nobody runs the loop: the kernel's buffers fill. nanomsg's own thread moves some: wait it out. */
    for (unsigned tries = 0; tries < 5; tries++) {
        while (send_number(&a, 1, sent, BUS_FRAME_MAX) == STATUS_OK)
            sent++;
        usleep(10000);
    }
    assert_in_range(sent, 2, 100);
    a.ready = 0;
    UNTIL(a.ready == 2 && b.received == sent);
    assert_true(b.in_order);
    assert_int_equal(send_number(&a, 1, sent, 8), STATUS_OK);
    UNTIL(b.received == sent + 1);
    end_close(&a);
    end_close(&b);
}

static void a_peer_that_comes_back_is_found(void **state)
{
    (void)state;
    struct end a, b;
    end_open(&a, 0);
    assert_int_equal(send_number(&a, 1, 0, 8), STATUS_AGAIN);
    for (unsigned round = 0; round < 3; round++) {
        a.ready = 0;
        end_open(&b, 1);
        b.next = round;
        if (send_number(&a, 1, round, 8) != STATUS_OK) {
            UNTIL(a.ready == 2);
            UNTIL(send_number(&a, 1, round, 8) == STATUS_OK);
        }
        UNTIL(b.received == 1);
        assert_true(b.in_order);
        end_close(&b);
        /* Until the break is seen, messages are accepted and lost. */
        UNTIL(send_number(&a, 1, 0, 8) == STATUS_AGAIN);
    }
    end_close(&a);
}

static void a_second_process_with_the_slot_is_an_error(void **state)
{
    (void)state;
    struct end a;
    end_open(&a, 0);
    struct bus_carrier *carrier;
    struct bus_carrier_nanomsg_settings settings = {.base = base, .self = 0, .receive = on_receive};
    assert_int_equal(bus_carrier_nanomsg_new(&settings, &carrier), STATUS_SYSTEM);
    assert_true(strlen(bus_carrier_nanomsg_error()) > 0);
    end_close(&a);
}

/* The bus over it: what the receiver has applied, in memory that outlives it. ------------------------ */

#define NUMBERS  200000
#define PER_TURN 100

struct shared {
    uint32_t next;  /* number that must come next */
    uint32_t wrong; /* gaps, or more repeated than the frame that was applied when it was killed */
    uint64_t incarnation;
    uint64_t applied; /* records */
};

static struct shared *shared;

struct node {
    struct bus *bus;
    struct bus_carrier *carrier;
    struct counters counters;
    struct event *ticks;
};

static void node_receive(void *context, struct bytes message)
{
    bus_receive(((struct node *)context)->bus, message);
}

static void node_ready(void *context, unsigned peer)
{
    bus_carrier_ready(((struct node *)context)->bus, peer);
}

static void node_tick(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    bus_tick(((struct node *)context)->bus);
}

static enum status on_number(void *context, const struct bus_record *record)
{
    (void)context;
    uint32_t number = get_u32_le(record->body.data);
    if (number > shared->next || shared->next - number > PER_TURN)
        shared->wrong++;
    shared->next = number + 1;
    shared->applied++;
    return STATUS_OK;
}

static void node_open(struct node *node, struct fake_lanes *lanes, unsigned self, uint64_t incarnation)
{
    memset(node, 0, sizeof *node);
    base = event_base_new();
    struct bus_settings bus = {.self = self,
        .peers = 2,
        .origin = {.incarnation = incarnation, .slot = (uint16_t)self},
        .lanes = lanes->of[self],
        .counters = &node->counters};
    assert_int_equal(bus_new(&bus, &node->bus), STATUS_OK);
    struct bus_carrier_nanomsg_settings carrier = {.base = base,
        .self = self,
        .peers = 3,
        .context = node,
        .receive = node_receive,
        .ready = node_ready};
    assert_int_equal(bus_carrier_nanomsg_new(&carrier, &node->carrier), STATUS_OK);
    bus_set_carrier(node->bus, node->carrier);
    bus_set_handler(node->bus, BUS_RECORD_ROUTE, on_number, node);
    node->ticks = event_new(base, -1, EV_PERSIST, node_tick, node);
    event_add(node->ticks, &(struct timeval){.tv_usec = 50000});
}

static void receiver_run(struct fake_lanes *lanes)
{
    struct node node;
    node_open(&node, lanes, 1, 100 + shared->incarnation);
    bus_peer_started(node.bus, 0, (struct publication_origin){.incarnation = 1});
    bus_drain(node.bus);
    event_base_dispatch(base);
    _exit(0);
}

static pid_t receiver_start(struct fake_lanes *lanes)
{
    shared->incarnation++;
    pid_t child = fork();
    if (child == 0)
        receiver_run(lanes);
    return child;
}

static void sender_run(struct fake_lanes *lanes)
{
    struct node node;
    node_open(&node, lanes, 0, 1);
    bus_peer_started(node.bus, 1, (struct publication_origin){.incarnation = 100, .slot = 1});
    uint32_t number = 0;
    while (number < NUMBERS) {
        for (unsigned i = 0; i < PER_TURN && number < NUMBERS; i++) {
            if (bus_full(node.bus, 2, 64, BUS_ROOM_PUBLICATION) != 0)
                break;
            put_u32_le(bus_put(node.bus, 1, BUS_RECORD_ROUTE, 64, BUS_ROOM_PUBLICATION), number++);
        }
        bus_turn_end(node.bus);
        event_base_loop(base, EVLOOP_NONBLOCK);
        if (bus_full(node.bus, 2, 64, BUS_ROOM_PUBLICATION) != 0)
            usleep(200);
    }
    /* Sends what the carrier had refused; the rest is in the ring. */
    for (unsigned i = 0; i < 10; i++) {
        event_base_loop(base, EVLOOP_NONBLOCK);
        usleep(1000);
    }
    _exit(0);
}

static pid_t sender_start(struct fake_lanes *lanes)
{
    pid_t child = fork();
    if (child == 0)
        sender_run(lanes);
    return child;
}

static void a_receiver_killed_again_and_again_applies_all_in_order(void **state)
{
    (void)state;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct fake_lanes *lanes = fake_lanes_new(2, (size_t)1 << 20);
    pid_t receiver = receiver_start(lanes), sender = sender_start(lanes);
    for (unsigned kills = 0; kills < 10; kills++) {
        usleep(15000 + kills * 3000);
        kill(receiver, SIGKILL);
        waitpid(receiver, NULL, 0);
        receiver = receiver_start(lanes);
    }
    int status;
    waitpid(sender, &status, 0);
    assert_int_equal(status, 0);
    uint64_t deadline_us = clock_monotonic_us() + 10000000;
    while (__atomic_load_n(&shared->next, __ATOMIC_ACQUIRE) < NUMBERS && clock_monotonic_us() < deadline_us)
        usleep(1000);
    kill(receiver, SIGKILL);
    waitpid(receiver, NULL, 0);
    assert_int_equal(shared->next, NUMBERS);
    assert_int_equal(shared->wrong, 0);
    fake_lanes_free(&lanes);
    munmap(shared, sizeof *shared);
}

static int remove_inboxes(void **state)
{
    (void)state;
    unlink("w0.inbox");
    unlink("w1.inbox");
    return 0;
}

int main(void)
{
    char folder[] = "/tmp/shoal-test-XXXXXX";
    if (mkdtemp(folder) == NULL || chdir(folder) != 0)
        return 1;
    /* First the one that forks: nanomsg must not have run in the parent. */
    const struct CMUnitTest first[] = {
        cmocka_unit_test_teardown(a_receiver_killed_again_and_again_applies_all_in_order, remove_inboxes),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(messages_arrive_in_order, remove_inboxes),
        cmocka_unit_test_teardown(a_full_peer_refuses_until_it_has_room, remove_inboxes),
        cmocka_unit_test_teardown(a_peer_that_comes_back_is_found, remove_inboxes),
        cmocka_unit_test_teardown(a_second_process_with_the_slot_is_an_error, remove_inboxes),
    };
    int failed = cmocka_run_group_tests_name("bus over nanomsg", first, NULL, NULL);
    base = event_base_new();
    failed += cmocka_run_group_tests_name("bus_carrier_nanomsg", tests, NULL, NULL);
    event_base_free(base);
    if (chdir("/") != 0 || rmdir(folder) != 0)
        return 1;
    return failed;
}
