/*
 * Whatever comes to a link's inbox, and whatever a node of the cluster says in a session: nothing faults, and
 * the landing's head never leaves its ring. In the clear, so that the fuzzer reaches what stands behind TLS.
 * The input is a row of messages: u8 how (an even number: as it is; odd: with a good head), u8 kind, u16
 * size, bytes.
 */
#include "cluster/wire.h"
#include "shared/bus_window.h"

#include <assert.h>
#include <stdio.h>
#include <unistd.h>

#define WINDOW ((size_t)65536)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct wire_node nodes[2] = {{.name = "n1", .id = 11}, {.name = "n2", .id = 12}};

static uint64_t on_random(void *context)
{
    (void)context;
    return 7;
}

static enum status on_send(void *context, unsigned node, struct bytes message)
{
    (void)context;
    (void)node;
    (void)message;
    return STATUS_OK;
}

static void on_log(void *context, enum log_level level, unsigned node, const char *text)
{
    (void)context;
    (void)level;
    (void)node;
    (void)text;
}

static void on_up(void *context, unsigned node, const struct wire_identity *who)
{
    (void)context;
    (void)node;
    (void)who;
}

static void on_down(void *context, unsigned node, const char *why)
{
    (void)context;
    (void)node;
    (void)why;
}

static void on_node(void *context, unsigned node)
{
    (void)context;
    (void)node;
}

static void on_restart(void *context, unsigned node, uint64_t offset)
{
    (void)context;
    bus_window_store((uint64_t *)(uintptr_t)nodes[node].landing.cursor, offset);
}

static void on_resend(void *context, unsigned node, uint64_t offset)
{
    (void)context;
    (void)node;
    (void)offset;
}

/* One mapping for both sides: the fuzzer is in one process. */
static struct bus_window make_window(void)
{
    struct bus_window window, other;
    int ring, cursor;
    if (bus_window_create(WINDOW, &ring, &cursor) != STATUS_OK ||
        bus_window_map_sender(ring, cursor, &window) != STATUS_OK ||
        bus_window_map_receiver(ring, cursor, &other) != STATUS_OK)
        __builtin_trap();
    window.cursor = other.cursor;
    close(ring);
    close(cursor);
    return window;
}

static void feed(struct wire *wire, const uint8_t *data, size_t size)
{
    static uint8_t message[70000];
    uint64_t now_us = 2000000;
    while (size >= 4) {
        bool headed = data[0] % 2 != 0;
        size_t part = get_u16_le(data + 2);
        if (part > size - 4)
            part = size - 4;
        size_t at = 0;
        if (headed) {
            memcpy(message, "W\1\0\0\x0b\0\x0c\0", 8);
            message[2] = (uint8_t)(1 + data[1] % 3);
            put_u64_le(message + 8, data[0] / 2 % 4);
            at = 16;
        }
        memcpy(message + at, data + 4, part);
        wire_receive(wire, bytes_of(message, at + part), now_us);
        wire_tick(wire, now_us);
        now_us += 20000;
        const struct bus_window *landing = &nodes[0].landing;
        assert(bus_window_load(landing->head) - bus_window_load(landing->cursor) <= landing->size);
        data += 4 + part;
        size -= 4 + part;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (nodes[0].window.ring == NULL) {
        for (unsigned i = 0; i < 2; i++) {
            nodes[i].window = make_window();
            nodes[i].landing = make_window();
        }
    }
    bus_window_store(nodes[0].landing.head, 0);
    bus_window_store(nodes[0].landing.cursor, 0);
    nodes[0].landing.taken[0][0].id = 0;
    struct wire_settings settings = {.cluster = "c",
        .count = 2,
        .self = 1,
        .nodes = nodes,
        .own = {.node = 2, .link = 3, .version = WIRE_VERSION},
        .random = on_random,
        .send = on_send,
        .log = on_log,
        .up = on_up,
        .down = on_down,
        .landed = on_node,
        .restart = on_restart,
        .resend = on_resend,
        .ready = on_node};
    struct wire *wire;
    if (wire_new(&settings, 1000000, &wire) != STATUS_OK)
        return 0;
    feed(wire, data, size);
    wire_free(&wire);
    return 0;
}
