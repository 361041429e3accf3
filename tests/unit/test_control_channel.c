/* The control socket: descriptors arrive, order is kept through a full socket, bad messages leak nothing. */
#include "node/control_channel.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct ends {
    struct event_base *base;
    struct control_channel channel; /* on one end */
    int other;                      /* the other end */
    unsigned messages, closed;
    enum status why;
    struct control_message last;
};

static void on_message(void *context, const struct control_message *message)
{
    struct ends *ends = context;
    ends->messages++;
    ends->last = *message;
}

static void on_closed(void *context, enum status why)
{
    struct ends *ends = context;
    ends->closed++;
    ends->why = why;
}

static struct ends open_ends(void)
{
    int pair[2];
    struct ends ends = {.base = event_base_new()};
    assert_non_null(ends.base);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    ends.channel.fd = pair[0];
    ends.other = pair[1];
    return ends;
}

static void start(struct ends *ends)
{
    ends->channel.context = ends;
    ends->channel.on_message = on_message;
    ends->channel.on_closed = on_closed;
    assert_int_equal(control_channel_open(&ends->channel, ends->channel.fd, ends->base), STATUS_OK);
}

static void close_ends(struct ends *ends)
{
    control_channel_close(&ends->channel);
    control_channel_close(&ends->channel); /* harmless */
    if (ends->other >= 0)
        close(ends->other);
    event_base_free(ends->base);
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

static void descriptors_arrive_close_on_exec(void **state)
{
    (void)state;
    struct ends ends = open_ends();
    start(&ends);
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    const struct control_message sent = {.type = CONTROL_LANE,
        .slot = 3,
        .descriptor_count = LANE_FD_COUNT,
        .descriptors = {pipes[0], pipes[1], pipes[0], pipes[1]}};
    assert_int_equal(control_send(ends.other, &sent), STATUS_OK);
    event_base_loop(ends.base, EVLOOP_NONBLOCK);
    assert_int_equal(ends.messages, 1);
    assert_int_equal(ends.last.slot, 3);
    char byte = 'x';
    assert_int_equal(write(ends.last.descriptors[LANE_FD_OUT_CURSOR], &byte, 1), 1);
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    for (unsigned i = 0; i < LANE_FD_COUNT; i++)
        assert_int_equal(fcntl(ends.last.descriptors[i], F_GETFD), FD_CLOEXEC);
    control_close_descriptors(&ends.last);
    close(pipes[0]);
    close(pipes[1]);
    close_ends(&ends);
}

static void order_is_kept_through_a_full_socket(void **state)
{
    (void)state;
    struct ends ends = open_ends();
    start(&ends);
    struct control_message message = {.type = CONTROL_PING};
    while (ends.channel.queued < 100) {
        message.number++;
        assert_int_equal(control_channel_send(&ends.channel, &message), STATUS_OK);
    }
    uint64_t sent = message.number, expected = 1;
    while (expected <= sent) {
        struct control_message got;
        enum status status = control_receive(ends.other, &got);
        if (status == STATUS_AGAIN) {
            event_base_loop(ends.base, EVLOOP_ONCE);
            continue;
        }
        assert_int_equal(status, STATUS_OK);
        assert_true(got.number == expected);
        expected++;
    }
    assert_int_equal(ends.channel.queued, 0);
    close_ends(&ends);
}

static void queue_is_bounded(void **state)
{
    (void)state;
    struct ends ends = open_ends();
    start(&ends);
    const struct control_message message = {.type = CONTROL_PING};
    enum status status = STATUS_OK;
    for (unsigned i = 0; status == STATUS_OK; i++) {
        assert_true(i < 100000);
        status = control_channel_send(&ends.channel, &message);
    }
    assert_int_equal(status, STATUS_LIMIT);
    assert_int_equal(ends.channel.queued, CONTROL_QUEUE_MAX);
    close_ends(&ends);
}

static void garbage_closes_and_leaks_nothing(void **state)
{
    (void)state;
    struct ends ends = open_ends();
    start(&ends);
    unsigned before = open_descriptors();
    /* A well-formed ping with a descriptor that it may not have. */
    struct control_message lane = {.type = CONTROL_LANE,
        .descriptor_count = LANE_FD_COUNT,
        .descriptors = {ends.other, ends.other, ends.other, ends.other}};
    assert_int_equal(control_send(ends.other, &lane), STATUS_OK);
    event_base_loop(ends.base, EVLOOP_NONBLOCK);
    assert_int_equal(ends.messages, 1);
    control_close_descriptors(&ends.last);
    assert_int_equal(send(ends.other, "garbage", 7, 0), 7);
    assert_int_equal(send(ends.other, "garbage", 7, 0), 7);
    event_base_loop(ends.base, EVLOOP_NONBLOCK);
    event_base_loop(ends.base, EVLOOP_NONBLOCK);
    assert_int_equal(ends.closed, 1);
    assert_int_equal(ends.why, STATUS_PROTOCOL);
    assert_int_equal(open_descriptors(), before);
    close_ends(&ends);
}

/* control_send() itself would assert: the bytes of a PING with a descriptor are made by hand. */
static void unexpected_descriptor_is_closed(void **state)
{
    (void)state;
    struct ends ends = open_ends();
    unsigned before = open_descriptors();
    uint8_t bytes[CONTROL_SIZE_MAX];
    const struct control_message ping = {.type = CONTROL_PING};
    struct iovec part = {.iov_base = bytes, .iov_len = control_encode(&ping, bytes)};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } buffer = {0};
    struct msghdr header = {.msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = buffer.bytes,
        .msg_controllen = sizeof buffer.bytes};
    buffer.header = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(&buffer.header), &ends.other, sizeof(int));
    assert_true(sendmsg(ends.other, &header, 0) > 0);
    struct control_message got;
    assert_int_equal(control_receive(ends.channel.fd, &got), STATUS_PROTOCOL);
    assert_int_equal(open_descriptors(), before);
    start(&ends);
    close_ends(&ends);
}

/* After a pause: who lives is known before anything else of the loop; the rest keeps its place in it. */
static void news_is_heard_before_the_loop(void **state)
{
    (void)state;
    struct ends ends = open_ends();
    start(&ends);
    unsigned before = open_descriptors();
    const struct control_message messages[] = {{.type = CONTROL_PING, .number = 1},
        {.type = CONTROL_PEER_DIED, .slot = 2}, {.type = CONTROL_PEER_STARTED, .slot = 2, .incarnation = 7},
        {.type = CONTROL_LANE,
            .descriptor_count = LANE_FD_COUNT,
            .descriptors = {ends.other, ends.other, ends.other, ends.other}},
        {.type = CONTROL_PEER_DIED, .slot = 3}};
    for (unsigned i = 0; i < sizeof messages / sizeof *messages; i++)
        assert_int_equal(control_send(ends.other, &messages[i]), STATUS_OK);
    control_channel_hear(&ends.channel);
    assert_int_equal(ends.messages, 3);
    assert_int_equal(ends.last.type, CONTROL_PEER_STARTED);
    assert_true(ends.last.incarnation == 7);
    assert_int_equal(open_descriptors(), before);
    control_channel_hear(&ends.channel);
    assert_int_equal(ends.messages, 3);
    struct control_message lane;
    assert_int_equal(control_receive(ends.channel.fd, &lane), STATUS_OK);
    assert_int_equal(lane.type, CONTROL_LANE);
    control_close_descriptors(&lane);
    event_base_loop(ends.base, EVLOOP_NONBLOCK);
    assert_int_equal(ends.messages, 4);
    assert_int_equal(ends.last.slot, 3);
    close(ends.other);
    ends.other = -1;
    control_channel_hear(&ends.channel); /* the loop tells of it */
    assert_int_equal(ends.closed, 0);
    event_base_loop(ends.base, EVLOOP_NONBLOCK);
    assert_int_equal(ends.closed, 1);
    control_channel_hear(&ends.channel);
    close_ends(&ends);
}

static void end_of_file_is_told_once(void **state)
{
    (void)state;
    struct ends ends = open_ends();
    start(&ends);
    close(ends.other);
    ends.other = -1;
    event_base_loop(ends.base, EVLOOP_NONBLOCK);
    event_base_loop(ends.base, EVLOOP_NONBLOCK);
    assert_int_equal(ends.closed, 1);
    assert_int_equal(ends.why, STATUS_CLOSED);
    const struct control_message message = {.type = CONTROL_READY};
    assert_int_equal(control_channel_send(&ends.channel, &message), STATUS_CLOSED);
    close_ends(&ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(descriptors_arrive_close_on_exec),
        cmocka_unit_test(order_is_kept_through_a_full_socket),
        cmocka_unit_test(queue_is_bounded),
        cmocka_unit_test(garbage_closes_and_leaks_nothing),
        cmocka_unit_test(unexpected_descriptor_is_closed),
        cmocka_unit_test(news_is_heard_before_the_loop),
        cmocka_unit_test(end_of_file_is_told_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
