/*
 * The wire between links. A simulation by seed: three nodes in one process, a virtual clock, messages
 * delayed, lost with their connection, reordered between pairs; links and nodes that crash. Whatever happens,
 * each node finds what another wrote into its window in its landing, once, in order, and without a gap as
 * long as both nodes live. And with real certificates: who gets in, who does not, and what both sides say of
 * it. test_wire [--runs N] [--seed N]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/bus_lane_in.h"
#include "cluster/bus_lane_out.h"
#include "cluster/wire.h"
#include "tests/unit/tls_fixture.h"

#include <inttypes.h>
#include <string.h>

#define NODES      3
#define WINDOW     (64u << 10)
#define FIRST_PEER 5
#define TICK_US    10000
#define IN_FLIGHT  4096

struct flight { /* a message on its way */
    uint64_t at_us;
    unsigned from, to;
    size_t size;
    uint8_t *data;
};

struct node {
    unsigned index;
    struct world *world;
    struct wire *wire; /* NULL: the link is down */
    uint64_t life, link_life;
    int rings[NODES], cursors[NODES], landings[NODES], landing_cursors[NODES]; /* memfds: outlive the link */
    struct wire_node nodes[NODES];
    struct bus_lane_out out[NODES];
    struct bus_lane_in in[NODES];
    struct bus_window senders[NODES], readers[NODES];
    uint64_t written[NODES];   /* last number put for this node */
    uint64_t read[NODES];      /* last number read of this node */
    uint64_t read_life[NODES]; /* and its life then */
    bool up[NODES];
    uint64_t up_life[NODES];
    bool slow; /* reads nothing for now */
    bool refused[NODES];
};

struct world {
    uint64_t random, now_us, lives;
    struct node nodes[NODES];
    struct flight flights[IN_FLIGHT];
    unsigned flight_count;
    uint64_t order_us[NODES][NODES]; /* no message of a pair overtakes another */
    bool cut[NODES][NODES];
    SSL_CTX *tls[NODES];
    unsigned delivered, restarts, node_restarts, breaks;
    char logs[4096];
    bool silent;
};

static uint64_t next_random(struct world *world)
{
    uint64_t z = world->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static bool chance(struct world *world, unsigned one_in)
{
    return next_random(world) % one_in == 0;
}

/* ---- hooks ----------------------------------------------------------------------------------------------
 */

static uint64_t on_random(void *context)
{
    return next_random(((struct node *)context)->world);
}

static enum status on_send(void *context, unsigned to, struct bytes message)
{
    struct node *node = context;
    struct world *world = node->world;
    if (world->cut[node->index][to] || chance(world, 50) || world->flight_count == IN_FLIGHT) {
        node->refused[to] = true;
        return STATUS_AGAIN;
    }
    uint64_t at_us = world->now_us + 100 + next_random(world) % 8000;
    if (at_us < world->order_us[node->index][to])
        at_us = world->order_us[node->index][to];
    world->order_us[node->index][to] = at_us;
    struct flight flight = {.at_us = at_us, .from = node->index, .to = to, .size = message.size};
    flight.data = malloc(message.size);
    assert_non_null(flight.data);
    memcpy(flight.data, message.data, message.size);
    world->flights[world->flight_count++] = flight;
    return STATUS_OK;
}

static void on_log(void *context, enum log_level level, unsigned about, const char *text)
{
    struct node *node = context;
    size_t used = strlen(node->world->logs);
    (void)level;
    snprintf(node->world->logs + used, sizeof node->world->logs - used, "[%u of %u] %s\n", node->index, about,
        text);
}

static void on_up(void *context, unsigned about, const struct wire_identity *who)
{
    struct node *node = context;
    node->up[about] = true;
    node->up_life[about] = who->node;
}

static void on_down(void *context, unsigned about, const char *why)
{
    struct node *node = context;
    (void)why;
    node->up[about] = false;
}

static void read_landing(struct node *node, unsigned from)
{
    struct bus_lane_in *lane = &node->in[from];
    static uint8_t scratch[BUS_FRAME_MAX];
    uint64_t head = 0;
    assert_true(bus_lane_in_head(lane, &head));
    for (;;) {
        struct bus_frame frame;
        enum status status = bus_lane_in_copy(lane, head, scratch, &frame);
        if (status == STATUS_NOT_FOUND)
            return;
        assert_int_equal(status, STATUS_OK);
        struct bytes rest = bytes_of(scratch + BUS_FRAME_HEADER_SIZE, frame.length - BUS_FRAME_HEADER_SIZE);
        struct bytes body;
        uint8_t type;
        while (bus_record_next(&rest, &type, &body) == STATUS_OK) {
            uint64_t life = get_u64_le(body.data), number = get_u64_le(body.data + 8);
            if (node->read_life[from] == life)
                assert_int_equal(number, node->read[from] + 1);
            node->read_life[from] = life;
            node->read[from] = number;
            node->world->delivered++;
        }
        bus_lane_in_pass(lane, frame.offset + bus_frame_stride(frame.length));
    }
}

static void on_landed(void *context, unsigned from)
{
    struct node *node = context;
    if (!node->slow)
        read_landing(node, from);
}

static void on_restart(void *context, unsigned from, uint64_t offset)
{
    struct node *node = context;
    read_landing(node, from);
    bus_lane_in_pass(&node->in[from], offset);
}

static void on_resend(void *context, unsigned to, uint64_t offset)
{
    ((struct node *)context)->out[to].sent = offset;
}

static void offer(struct node *node, unsigned to)
{
    struct bus_carrier *carrier = wire_carrier(node->wire);
    struct bus_lane_out *lane = &node->out[to];
    bus_lane_out_reload(lane);
    for (;;) {
        struct bytes run = bus_lane_out_run(lane);
        if (run.size == 0 || carrier->ops->send(carrier, FIRST_PEER + to, run) != STATUS_OK)
            return;
        lane->sent += run.size;
    }
}

static void on_ready(void *context, unsigned to)
{
    (void)context;
    (void)to; /* offered in every turn */
}

/* ---- lives ----------------------------------------------------------------------------------------------
 */

static void make_windows(struct node *node)
{
    for (unsigned i = 0; i < NODES; i++) {
        assert_int_equal(bus_window_create(WINDOW, &node->rings[i], &node->cursors[i]), STATUS_OK);
        assert_int_equal(bus_window_create(WINDOW, &node->landings[i], &node->landing_cursors[i]), STATUS_OK);
    }
}

static void drop_windows(struct node *node)
{
    for (unsigned i = 0; i < NODES; i++) {
        close(node->rings[i]);
        close(node->cursors[i]);
        close(node->landings[i]);
        close(node->landing_cursors[i]);
    }
}

static void link_start(struct node *node)
{
    struct world *world = node->world;
    static const char *const names[NODES] = {"n1", "n2", "n3"};
    node->link_life = ++world->lives;
    for (unsigned i = 0; i < NODES; i++) {
        struct wire_node *other = &node->nodes[i];
        *other = (struct wire_node){.name = names[i], .id = (uint16_t)(100 + i)};
        assert_int_equal(
            bus_window_map_receiver(node->rings[i], node->cursors[i], &other->window), STATUS_OK);
        assert_int_equal(
            bus_window_map_sender(node->landings[i], node->landing_cursors[i], &other->landing), STATUS_OK);
        node->out[i] = (struct bus_lane_out){0};
        node->in[i] = (struct bus_lane_in){0};
        assert_int_equal(
            bus_window_map_sender(node->rings[i], node->cursors[i], &node->out[i].window), STATUS_OK);
        assert_int_equal(
            bus_window_map_receiver(node->landings[i], node->landing_cursors[i], &node->in[i].window),
            STATUS_OK);
        bus_lane_out_start(&node->out[i]);
        assert_true(bus_lane_in_start(&node->in[i]));
        node->refused[i] = false;
    }
    struct wire_settings settings = {.cluster = "c",
        .tls = world->tls[node->index],
        .count = NODES,
        .self = node->index,
        .nodes = node->nodes,
        .first_peer = FIRST_PEER,
        .own = {.node = node->life, .link = node->link_life, .version = WIRE_VERSION},
        .random = on_random,
        .context = node,
        .send = on_send,
        .log = on_log,
        .up = on_up,
        .down = on_down,
        .landed = on_landed,
        .restart = on_restart,
        .resend = on_resend,
        .ready = on_ready};
    assert_int_equal(wire_new(&settings, world->now_us, &node->wire), STATUS_OK);
}

/* Nothing is said any more; the connections of both directions break with what was on them. */
static void forget_flights(struct world *world, unsigned a, unsigned b)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < world->flight_count; i++) {
        struct flight *flight = &world->flights[i];
        bool gone = (flight->from == a && flight->to == b) || (flight->from == b && flight->to == a);
        if (gone)
            free(flight->data);
        else
            world->flights[kept++] = *flight;
    }
    world->flight_count = kept;
}

static void break_connection(struct world *world, unsigned a, unsigned b)
{
    world->breaks++;
    forget_flights(world, a, b);
    if (world->nodes[a].wire != NULL && chance(world, 2)) /* a hint, not a promise */
        wire_broken(world->nodes[a].wire, b, world->now_us);
    if (world->nodes[b].wire != NULL && chance(world, 2))
        wire_broken(world->nodes[b].wire, a, world->now_us);
}

static void link_stop(struct node *node)
{
    wire_free(&node->wire);
    for (unsigned i = 0; i < NODES; i++) {
        bus_window_unmap(&node->nodes[i].window);
        bus_window_unmap(&node->nodes[i].landing);
        bus_window_unmap(&node->out[i].window);
        bus_window_unmap(&node->in[i].window);
        if (i != node->index)
            break_connection(node->world, node->index, i);
    }
}

static void node_start(struct node *node)
{
    node->life = ++node->world->lives;
    make_windows(node);
    memset(node->written, 0, sizeof node->written);
    memset(node->read_life, 0, sizeof node->read_life);
    memset(node->up, 0, sizeof node->up);
    node->slow = false;
    link_start(node);
}

static void node_stop(struct node *node)
{
    link_stop(node);
    drop_windows(node);
}

/* ---- time -----------------------------------------------------------------------------------------------
 */

static void write_some(struct node *node, unsigned to)
{
    struct bus_lane_out *lane = &node->out[to];
    struct publication_origin origin = {.node = node->nodes[node->index].id, .incarnation = node->link_life};
    for (uint64_t count = next_random(node->world) % 4; count > 0; count--) {
        size_t size = 16 + (chance(node->world, 10) ? next_random(node->world) % 20000
                                                    : next_random(node->world) % 100);
        bus_lane_out_reload(lane);
        if (!bus_lane_out_fits(lane, size, lane->window.size))
            break;
        uint8_t *body = bus_lane_out_put(lane, origin, 1, size);
        memset(body, 7, size);
        put_u64_le(body, node->life);
        put_u64_le(body + 8, ++node->written[to]);
    }
    if (lane->open)
        bus_lane_out_close(lane, origin);
    bus_lane_out_publish(lane);
    offer(node, to);
}

static void deliver_due(struct world *world)
{
    for (;;) {
        unsigned best = world->flight_count;
        for (unsigned i = 0; i < world->flight_count; i++) {
            if (world->flights[i].at_us <= world->now_us &&
                (best == world->flight_count || world->flights[i].at_us < world->flights[best].at_us))
                best = i;
        }
        if (best == world->flight_count)
            return;
        struct flight flight = world->flights[best];
        memmove(world->flights + best, world->flights + best + 1,
            (world->flight_count - best - 1) * sizeof *world->flights);
        world->flight_count--;
        struct node *node = &world->nodes[flight.to];
        if (node->wire != NULL)
            wire_receive(node->wire, bytes_of(flight.data, flight.size), world->now_us);
        free(flight.data);
    }
}

static void step(struct world *world, bool writes)
{
    world->now_us += 1000;
    deliver_due(world);
    for (unsigned i = 0; i < NODES; i++) {
        struct node *node = &world->nodes[i];
        if (node->wire == NULL)
            continue;
        for (unsigned k = 0; k < NODES; k++) {
            if (k == i)
                continue;
            if (node->refused[k] && !world->cut[i][k]) {
                node->refused[k] = false;
                wire_writable(node->wire, k, world->now_us);
            }
            if (!node->slow)
                read_landing(node, k);
            if (writes && chance(world, 3))
                write_some(node, k);
            else
                offer(node, k);
        }
        if (world->now_us % TICK_US == 0)
            wire_tick(node->wire, world->now_us);
        wire_turn_end(node->wire, world->now_us);
    }
}

static void disturb(struct world *world)
{
    unsigned a = (unsigned)(next_random(world) % NODES),
             b = (a + 1 + (unsigned)(next_random(world) % 2)) % NODES;
    struct node *node = &world->nodes[a];
    switch (next_random(world) % 6) {
    case 0:
        break_connection(world, a, b);
        break;
    case 1: /* cut for a while, both ways or one */
        world->cut[a][b] = true;
        world->cut[b][a] = chance(world, 2);
        break_connection(world, a, b);
        break;
    case 2:
        if (node->wire != NULL) {
            world->restarts++;
            link_stop(node);
        }
        break;
    case 3:
        if (node->wire != NULL && chance(world, 3)) {
            world->node_restarts++;
            node_stop(node);
            node_start(node);
        }
        break;
    case 4:
        node->slow = !node->slow;
        break;
    default:
        memset(world->cut, 0, sizeof world->cut);
        for (unsigned i = 0; i < NODES; i++) {
            world->nodes[i].slow = false;
            if (world->nodes[i].wire == NULL)
                link_start(&world->nodes[i]);
        }
    }
}

static void check_all_arrived(struct world *world)
{
    for (unsigned i = 0; i < NODES; i++) {
        for (unsigned k = 0; k < NODES; k++) {
            const struct node *from = &world->nodes[i], *to = &world->nodes[k];
            if (i == k)
                continue;
            if (!from->up[k] || from->up_life[k] != to->life)
                fail_msg("node %u does not see node %u at the end:\n%s", i, k, world->logs);
            const struct bus_window *window = &from->nodes[k].window;
            assert_int_equal(bus_window_load(window->cursor), bus_window_load(window->head));
            if (from->written[k] == 0 || to->read_life[i] == 0) /* all of it went to an earlier life */
                continue;
            assert_int_equal(to->read_life[i], from->life);
            assert_int_equal(to->read[i], from->written[k]);
        }
    }
}

static void world_start(struct world *world, uint64_t seed)
{
    *world = (struct world){.random = seed, .now_us = 1000000, .lives = 10};
    for (unsigned i = 0; i < NODES; i++) {
        world->nodes[i].index = i;
        world->nodes[i].world = world;
    }
}

static void world_end(struct world *world)
{
    for (unsigned i = 0; i < NODES; i++)
        node_stop(&world->nodes[i]);
    for (unsigned i = 0; i < world->flight_count; i++)
        free(world->flights[i].data);
}

static struct world world;

static void run_seed(uint64_t seed)
{
    world_start(&world, seed);
    for (unsigned i = 0; i < NODES; i++)
        node_start(&world.nodes[i]);
    for (unsigned i = 0; i < 4000; i++) {
        step(&world, true);
        if (chance(&world, 150))
            disturb(&world);
        if (i % 128 == 0)
            world.logs[0] = '\0';
    }
    memset(world.cut, 0, sizeof world.cut);
    for (unsigned i = 0; i < NODES; i++) {
        world.nodes[i].slow = false;
        if (world.nodes[i].wire == NULL)
            link_start(&world.nodes[i]);
    }
    for (unsigned i = 0; i < 6000; i++)
        step(&world, false);
    check_all_arrived(&world);
    world_end(&world);
}

static unsigned runs = 40;
static uint64_t first_seed = 1;

static void windows_arrive_whatever_breaks(void **state)
{
    (void)state;
    unsigned delivered = 0, restarts = 0, nodes = 0, breaks = 0;
    for (uint64_t seed = first_seed; seed < first_seed + runs; seed++) {
        printf("seed %" PRIu64 "\r", seed);
        fflush(stdout);
        run_seed(seed);
        delivered += world.delivered;
        restarts += world.restarts;
        nodes += world.node_restarts;
        breaks += world.breaks;
    }
    printf("%u runs: %u records; %u links killed, %u nodes started anew, %u connections broken\n", runs,
        delivered, restarts, nodes, breaks);
    assert_true(runs < 10 || (delivered > 10000 && restarts > 10 && nodes > 3));
}

/* ---- certificates -----------------------------------------------------------------------------------------
 */

static SSL_CTX *context_of(const struct fixture_identity *own, const struct fixture_identity *authority)
{
    char text[WIRE_TEXT_SIZE] = "";
    SSL_CTX *context = NULL;
    struct bytes key = fixture_key_der(own->key), chain = fixture_pem(own->certificate, NULL, NULL);
    struct bytes authorities = fixture_pem(authority->certificate, NULL, NULL);
    if (wire_context_new(key, chain, authorities, &context, text) != STATUS_OK)
        fail_msg("%s", text);
    free((void *)(uintptr_t)key.data);
    free((void *)(uintptr_t)chain.data);
    free((void *)(uintptr_t)authorities.data);
    return context;
}

/* Nodes 0 and 1 with these certificates, for a second and a half; node 2 stays away. */
static void run_two(const struct fixture_identity *first, const struct fixture_identity *second,
    const struct fixture_identity *trusted_by_first, const struct fixture_identity *trusted_by_second)
{
    world_start(&world, 7);
    world.tls[0] = context_of(first, trusted_by_first);
    world.tls[1] = context_of(second, trusted_by_second);
    for (unsigned i = 0; i < NODES; i++) {
        world.nodes[i].life = ++world.lives;
        make_windows(&world.nodes[i]);
    }
    world.cut[0][2] = world.cut[1][2] = true;
    link_start(&world.nodes[0]);
    link_start(&world.nodes[1]);
    for (unsigned i = 0; i < 1500; i++)
        step(&world, world.nodes[0].up[1] && world.nodes[1].up[0] && i < 1000);
}

static void end_two(void)
{
    link_stop(&world.nodes[0]);
    link_stop(&world.nodes[1]);
    for (unsigned i = 0; i < NODES; i++)
        drop_windows(&world.nodes[i]);
    for (unsigned i = 0; i < world.flight_count; i++)
        free(world.flights[i].data);
    SSL_CTX_free(world.tls[0]);
    SSL_CTX_free(world.tls[1]);
}

static void expect_log(const char *text)
{
    if (strstr(world.logs, text) == NULL)
        fail_msg("no \"%s\" in:\n%s", text, world.logs);
}

static struct fixture_identity authority, stranger, n1, n2;

static int make_identities(void **state)
{
    (void)state;
    authority = fixture_issue((struct fixture_wish){.cn = "cluster CA", .ca = true});
    stranger = fixture_issue((struct fixture_wish){.cn = "other CA", .ca = true});
    n1 = fixture_issue((struct fixture_wish){.cn = "n1", .issuer = &authority});
    n2 = fixture_issue((struct fixture_wish){.cn = "n2", .issuer = &authority});
    return 0;
}

static int drop_identities(void **state)
{
    (void)state;
    fixture_done(&authority);
    fixture_done(&stranger);
    fixture_done(&n1);
    fixture_done(&n2);
    return 0;
}

static void nodes_of_the_cluster_get_in(void **state)
{
    (void)state;
    run_two(&n1, &n2, &authority, &authority);
    if (!world.nodes[0].up[1] || !world.nodes[1].up[0])
        fail_msg("not up:\n%s", world.logs);
    assert_true(world.delivered > 300);
    assert_int_equal(world.nodes[1].read[0], world.nodes[0].written[1]);
    assert_int_equal(world.nodes[0].read[1], world.nodes[1].written[0]);
    end_two();
}

static void another_ca_is_refused_on_both_sides(void **state)
{
    (void)state;
    struct fixture_identity rogue = fixture_issue((struct fixture_wish){.cn = "n2", .issuer = &stranger});
    run_two(&n1, &rogue, &authority, &stranger);
    assert_false(world.nodes[0].up[1] || world.nodes[1].up[0]);
    expect_log("[0 of 1] its certificate is refused: no CA of this cluster signed it");
    expect_log("[1 of 0] it refuses our certificate or us: tlsv1 alert unknown ca");
    end_two();
    /* The same the other way round: here the one who asks is the rogue. */
    fixture_done(&rogue);
    rogue = fixture_issue((struct fixture_wish){.cn = "n1", .issuer = &stranger});
    run_two(&rogue, &n2, &authority, &authority);
    assert_false(world.nodes[0].up[1] || world.nodes[1].up[0]);
    expect_log("[1 of 0] its certificate is refused: no CA of this cluster signed it");
    expect_log("[0 of 1] it refuses our certificate or us: tlsv1 alert unknown ca");
    end_two();
    fixture_done(&rogue);
}

static void expired_certificate_is_refused(void **state)
{
    (void)state;
    struct fixture_identity old = fixture_issue(
        (struct fixture_wish){.cn = "n1", .issuer = &authority, .from_days = -20, .until_days = -1});
    run_two(&old, &n2, &authority, &authority);
    assert_false(world.nodes[0].up[1] || world.nodes[1].up[0]);
    expect_log("[1 of 0] its certificate is refused: certificate has expired");
    expect_log("[0 of 1] it refuses our certificate or us: ");
    expect_log("certificate expired");
    end_two();
    fixture_done(&old);
}

static void foreign_name_is_refused(void **state)
{
    (void)state;
    struct fixture_identity other = fixture_issue((struct fixture_wish){.cn = "n7", .issuer = &authority});
    run_two(&other, &n2, &authority, &authority);
    assert_false(world.nodes[0].up[1] || world.nodes[1].up[0]);
    expect_log("[1 of 0] its certificate names CN n7, not n1: it is refused");
    expect_log("[0 of 1] n2 refuses us: your certificate names CN n7, not n1");
    end_two();
    fixture_done(&other);
}

static void garbage_is_harmless(void **state)
{
    (void)state;
    run_two(&n1, &n2, &authority, &authority);
    uint8_t message[300];
    unsigned before = world.delivered;
    for (unsigned i = 0; i < 3000; i++) {
        for (size_t k = 0; k < sizeof message; k++)
            message[k] = (uint8_t)next_random(&world);
        size_t size = next_random(&world) % sizeof message;
        if (i % 4 != 0) { /* a head that is good */
            message[0] = 'W';
            message[1] = 1;
            message[2] = (uint8_t)(1 + i % 3);
            message[3] = 0;
            put_u16_le(message + 4, 100);
            put_u16_le(message + 6, 101);
        }
        wire_receive(world.nodes[1].wire, bytes_of(message, size), world.now_us);
        if (i % 10 == 0)
            step(&world, true);
    }
    struct wire_figures figures;
    wire_figures(world.nodes[1].wire, 0, &figures);
    assert_true(wire_strangers(world.nodes[1].wire) > 500);
    assert_true(figures.up && figures.session);
    assert_int_equal(figures.sessions, 1); /* the one that there was is undisturbed */
    assert_true(world.delivered > before + 100);
    end_two();
}

int main(int count, char **arguments)
{
    for (int i = 1; i + 1 < count; i += 2) {
        if (strcmp(arguments[i], "--runs") == 0)
            runs = (unsigned)strtoul(arguments[i + 1], NULL, 10);
        if (strcmp(arguments[i], "--seed") == 0) {
            first_seed = strtoull(arguments[i + 1], NULL, 10);
            runs = 1;
        }
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_arrive_whatever_breaks),
        cmocka_unit_test(nodes_of_the_cluster_get_in),
        cmocka_unit_test(another_ca_is_refused_on_both_sides),
        cmocka_unit_test(expired_certificate_is_refused),
        cmocka_unit_test(foreign_name_is_refused),
        cmocka_unit_test(garbage_is_harmless),
    };
    return cmocka_run_group_tests(tests, make_identities, drop_identities);
}
