/* session_move: what the old owner has comes to the new one in order and once, or the client hears why not.
 */
#include "cluster/session_move.h"
#include "shared/clock.h"
#include "shared/topic_index.h"
#include "tests/unit/fake_carrier.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define WINDOW   ((size_t)65536)
#define PEERS    3
#define A        0u /* the old owner */
#define B        1u /* the new one */
#define P        2u /* publishes */
#define DEADLINE 2000000u
#define CLIENT   bytes_of_text("client")

/* Of its one client. The new owner's queue and the old one's are of text: "state", then payloads. */
struct session {
    bool here;
    const char *state;
    struct publication *queue[16];
    unsigned first, count;
    char got[256];
    struct session_move_in *in;
    struct session_move_out *out;
};

struct process {
    struct bus *bus;
    struct topic_index *index;
    struct routes *routes;
    struct session_moves *moves;
    struct fake_carrier carrier;
    struct counters counters;
    struct session session;
    struct session parked; /* an older one, aside */
    int outcome;           /* of the move; -1: none yet */
    unsigned answers;      /* how often it was told */
    unsigned taken, discarded, outs_done, ins_done, taken_back;
};

static struct fake_lanes *lanes;
static struct keyed_hash hash;
static struct process processes[PEERS];

static void *take_out(
    void *context, struct bytes client_id, uint64_t stamp, bool discard, struct session_move_out *out)
{
    struct process *it = context;
    (void)stamp;
    if (!it->session.here || !bytes_equal(client_id, CLIENT))
        return NULL;
    it->session.here = false;
    if (discard) {
        it->discarded++;
        return NULL;
    }
    it->taken++;
    it->session.out = out;
    return &it->session;
}

static enum status export_state(void *context, void *pointer, struct session_move_writer *writer)
{
    (void)context;
    session_move_write(writer, bytes_of_text(((struct session *)pointer)->state));
    return STATUS_OK;
}

static struct publication *next(void *context, void *pointer, struct bytes *ret_note)
{
    struct session *session = pointer;
    (void)context;
    if (session->first == session->count)
        return NULL;
    struct publication *publication = session->queue[session->first++];
    *ret_note = bytes_of_text(publication_view(publication).payload.data[0] == '*' ? "*" : "n");
    return publication;
}

static uint32_t queue_length(void *context, void *pointer)
{
    (void)context;
    return ((struct session *)pointer)->count - ((struct session *)pointer)->first;
}

static void out_done(void *context, void *pointer)
{
    ((struct process *)context)->outs_done++;
    ((struct session *)pointer)->out = NULL;
}

static void taken_back(void *context, void *pointer)
{
    ((struct process *)context)->taken_back++;
    ((struct session *)pointer)->out = NULL;
    ((struct session *)pointer)->here = true;
}

static void got(struct session *session, struct bytes text)
{
    size_t used = strlen(session->got);
    snprintf(
        session->got + used, sizeof session->got - used, "%.*s ", (int)text.size, (const char *)text.data);
}

static enum status import_state(void *context, void *pointer, struct bytes state, bool late)
{
    (void)context, (void)late;
    got(pointer, state);
    return STATUS_OK;
}

static void answered(void *context, void *pointer, enum session_move_outcome outcome)
{
    (void)pointer;
    ((struct process *)context)->outcome = (int)outcome;
    ((struct process *)context)->answers++;
}

static void forwarded(void *context, void *pointer, const struct publication_view *view, struct bytes note)
{
    (void)context;
    assert_int_equal(note.size, 1);
    got(pointer, view->payload);
}

static void release(void *context, void *pointer, struct publication *publication, struct bytes note)
{
    struct publication_view view = publication_view(publication);
    forwarded(context, pointer, &view, note);
}

static void held_dropped(void *context, void *pointer, const struct publication_view *view)
{
    (void)context, (void)pointer, (void)view;
    fail();
}

static void in_done(void *context, void *pointer, struct session_move_in *next_move)
{
    ((struct process *)context)->ins_done++;
    ((struct session *)pointer)->in = next_move;
}

static void on_alarm(void *context, unsigned peer, const char *text)
{
    (void)context, (void)peer;
    fail_msg("%s", text);
}

static bool picked(struct bytes note)
{
    return note.data[0] == '*';
}

static const struct session_moves_ops ops = {.take_out = take_out,
    .picked = picked,
    .export_state = export_state,
    .next = next,
    .queue_length = queue_length,
    .out_done = out_done,
    .taken_back = taken_back,
    .import_state = import_state,
    .answered = answered,
    .forwarded = forwarded,
    .release = release,
    .held_dropped = held_dropped,
    .in_done = in_done};

static struct publication_origin origin_of(unsigned self)
{
    return (struct publication_origin){.incarnation = 1 + self, .slot = (uint16_t)self};
}

static void process_start(unsigned self)
{
    struct process *it = &processes[self];
    it->outcome = -1;
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
    it->index = topic_index_new(&hash);
    struct routes_settings routes = {.bus = it->bus, .index = it->index, .counters = &it->counters};
    assert_int_equal(routes_new(&routes, &it->routes), STATUS_OK);
    struct session_moves_settings moves = {.bus = it->bus, .routes = it->routes, .ops = &ops, .context = it};
    assert_int_equal(session_moves_new(&moves, &it->moves), STATUS_OK);
}

static void process_end(unsigned self)
{
    struct process *it = &processes[self];
    if (it->bus == NULL)
        return;
    session_moves_free(&it->moves);
    routes_free(&it->routes);
    bus_free(&it->bus);
    topic_index_free(&it->index);
    while (it->session.first < it->session.count)
        publication_unref(&it->session.queue[it->session.first++]);
    fake_carrier_drop(&it->carrier);
}

static void turn(unsigned from)
{
    struct bus *to[PEERS];
    for (unsigned i = 0; i < PEERS; i++)
        to[i] = processes[i].bus;
    if (processes[from].bus == NULL)
        return;
    bus_poll(processes[from].bus);
    bus_turn_end(processes[from].bus);
    fake_carrier_deliver(&processes[from].carrier, to);
}

static void turns(void)
{
    for (unsigned i = 0; i < 20 * PEERS; i++)
        turn(i % PEERS);
}

static int set_up(void **state)
{
    (void)state;
    clock_set(1000000, 1700000000000000);
    memset(processes, 0, sizeof processes);
    assert_int_equal(keyed_hash_init(&hash), STATUS_OK);
    lanes = fake_lanes_new(PEERS, WINDOW);
    for (unsigned self = 0; self < PEERS; self++)
        process_start(self);
    for (unsigned i = 0; i < PEERS * PEERS; i++) {
        if (i / PEERS != i % PEERS)
            bus_peer_started(processes[i / PEERS].bus, i % PEERS, origin_of(i % PEERS));
    }
    for (unsigned self = 0; self < PEERS; self++)
        routes_start(processes[self].routes);
    turns();
    processes[A].session = (struct session){.here = true, .state = "state"};
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

/* What P publishes next reaches `owner`; `inherited`: it is what the session wanted before it moved, too. */
static enum session_move_verdict publish_for(
    unsigned owner, const char *text, uint64_t sequence, bool inherited)
{
    struct process *it = &processes[owner];
    struct session *session = &it->session;
    struct publication_view view = {
        .meta = {.origin = origin_of(P), .sequence = sequence, .publisher = 9, .qos = 1},
        .topic = bytes_of_text("t"),
        .payload = bytes_of_text(text)};
    session_moves_heard(it->moves, P, &view.meta);
    enum session_move_verdict verdict = SESSION_MOVE_DELIVER;
    if (session->in != NULL || session->out != NULL)
        verdict = session_move_verdict(session->in, session->out, P, &view.meta, inherited);
    struct publication *publication = publication_new(&view);
    if (verdict == SESSION_MOVE_HOLD)
        session_move_hold(session->in, P, publication, bytes_of_text("n"));
    else if (verdict == SESSION_MOVE_DELIVER && owner == A)
        session->queue[session->count++] = publication_ref(publication);
    else if (verdict == SESSION_MOVE_DELIVER)
        got(session, view.payload);
    publication_unref(&publication);
    return verdict;
}

static enum session_move_verdict publish(unsigned owner, const char *text, uint64_t sequence)
{
    return publish_for(owner, text, sequence, true);
}

/* The session was picked at A, as the member of a group: no verdict is asked for. */
static void pick(const char *text, uint64_t sequence)
{
    struct session *session = &processes[A].session;
    struct publication_view view = {
        .meta = {.origin = origin_of(P), .sequence = sequence, .publisher = 9, .qos = 1},
        .topic = bytes_of_text("t"),
        .payload = bytes_of_text(text)};
    session->queue[session->count++] = publication_new(&view);
    if (session->out != NULL)
        session_move_wake(session->out);
}

static uint64_t sequence(void)
{
    return bus_next_sequence(processes[P].bus);
}

static void move(void)
{
    struct process *it = &processes[B];
    it->session.here = true;
    it->session.in = session_move_in(
        it->moves, &it->session, CLIENT, bus_stamp(it->bus), A, clock_monotonic_us() + DEADLINE, false, NULL);
    assert_non_null(it->session.in);
}

static void assert_over(enum session_move_outcome outcome, const char *content)
{
    assert_int_equal(processes[B].outcome, outcome);
    assert_int_equal(processes[B].answers, 1);
    assert_string_equal(processes[B].session.got, content);
    assert_null(processes[B].session.in);
    assert_int_equal(session_moves_count(processes[B].moves), 0);
    if (processes[A].bus != NULL)
        assert_int_equal(session_moves_count(processes[A].moves), 0);
}

static void state_and_queue_arrive_in_order(void **state)
{
    (void)state;
    publish(A, "one", sequence());
    publish(A, "two", sequence());
    publish(A, "three", sequence());
    move();
    turns();
    assert_over(SESSION_MOVE_FOUND, "state one two three ");
    assert_int_equal(processes[A].taken, 1);
    assert_int_equal(processes[A].outs_done, 1);
    assert_int_equal(processes[A].taken_back, 0);
    assert_int_equal(processes[B].ins_done, 1);
}

static void a_discard_ends_the_session_and_nothing_moves(void **state)
{
    (void)state;
    publish(A, "one", sequence());
    session_move_discard(processes[B].moves, CLIENT, bus_stamp(processes[B].bus), A);
    turns();
    assert_int_equal(processes[A].discarded, 1);
    assert_int_equal(processes[A].taken, 0);
    assert_int_equal(processes[B].answers, 0);
    assert_string_equal(processes[B].session.got, "");
    assert_int_equal(session_moves_count(processes[A].moves), 0);
}

static void an_owner_without_the_session_answers_nothing(void **state)
{
    (void)state;
    processes[A].session.here = false;
    move();
    turns();
    assert_over(SESSION_MOVE_NOTHING, "");
}

static void a_silent_owner_costs_until_the_deadline(void **state)
{
    (void)state;
    move();
    turn(B);
    clock_set(1000000 + DEADLINE - 1, 1700000000000000 + DEADLINE - 1);
    bus_tick(processes[B].bus);
    assert_int_equal(processes[B].answers, 0);
    assert_int_equal(session_moves_next_us(processes[B].moves), 1000000 + DEADLINE);
    clock_set(1000000 + DEADLINE, 1700000000000000 + DEADLINE);
    bus_tick(processes[B].bus);
    assert_int_equal(processes[B].outcome, SESSION_MOVE_SILENT);
    assert_string_equal(processes[B].session.got, "");
    /* It speaks after all: its part comes late, and the client is not answered again. */
    turns();
    assert_over(SESSION_MOVE_SILENT, "state ");
}

static void a_dead_owner_is_lost(void **state)
{
    (void)state;
    publish(A, "one", sequence());
    move();
    turn(B);
    process_end(A);
    bus_peer_died(processes[B].bus, A);
    bus_peer_died(processes[P].bus, A);
    turns();
    assert_over(SESSION_MOVE_LOST, "");
}

static void a_publication_that_came_both_ways_is_delivered_once(void **state)
{
    (void)state;
    publish(A, "old", sequence());
    move();
    turn(B);
    turn(A);
    uint64_t before = sequence();
    assert_int_equal(publish(A, "both", before), SESSION_MOVE_DELIVER);
    turn(B); /* has imported; what P's mark says is not under way yet */
    assert_string_equal(processes[B].session.got, "state ");
    assert_int_equal(publish(B, "both", before), SESSION_MOVE_HOLD);
    turn(P); /* its marks arrive */
    uint64_t after = sequence();
    assert_int_equal(publish(A, "new", after), SESSION_MOVE_DROP);
    assert_int_equal(publish(B, "new", after), SESSION_MOVE_HOLD);
    turns();
    assert_int_equal(publish(B, "newer", sequence()), SESSION_MOVE_DELIVER);
    assert_over(SESSION_MOVE_FOUND, "state old both new newer ");
}

/* Two groups of it want the same publication, and it is picked at A still after P's mark. */
static void what_it_was_picked_for_comes_as_often_as_it_was(void **state)
{
    (void)state;
    uint64_t same = sequence();
    publish(A, "plain", same);
    pick("*one", same);
    pick("*two", same);
    move();
    turn(B);
    turn(A);
    turn(B);
    turn(P); /* its marks arrive */
    pick("*late", sequence());
    turns();
    assert_over(SESSION_MOVE_FOUND, "state plain *one *two *late ");
}

/* The client has subscribed at the new owner before P heard of the move: the old one knows nothing of it. */
static void what_only_a_new_subscription_wants_does_not_wait_for_the_old_owner(void **state)
{
    (void)state;
    move();
    turn(B);
    turn(A);
    turn(B); /* has imported */
    uint64_t before = sequence();
    assert_int_equal(publish_for(B, "new", before, false), SESSION_MOVE_DELIVER);
    uint64_t again = sequence(); /* given up there and made anew here: it comes both ways */
    assert_int_equal(publish(A, "both", again), SESSION_MOVE_DELIVER);
    assert_int_equal(publish_for(B, "both", again, false), SESSION_MOVE_DELIVER);
    turns();
    assert_over(SESSION_MOVE_FOUND, "state new both ");
}

/* A only waits for P, which has it, when the new owner's client begins anew. */
static void a_discard_goes_where_the_session_is(void **state)
{
    (void)state;
    struct process *a = &processes[A], *b = &processes[B];
    processes[P].session = (struct session){.here = true, .state = "older"};
    a->session.in = session_move_in(
        a->moves, &a->session, CLIENT, bus_stamp(a->bus), P, clock_monotonic_us() + DEADLINE, false, NULL);
    turn(A);
    bus_stamp_heard(b->bus, bus_stamp(a->bus));
    move();
    turn(B);
    session_move_cancel(b->moves, &b->session.in);
    turns();
    assert_int_equal(b->answers, 0);
    assert_int_equal(processes[P].discarded, 1);
    assert_false(processes[P].session.here);
    for (unsigned self = 0; self < PEERS; self++)
        assert_int_equal(session_moves_count(processes[self].moves), 0);
}

/* The silent one may have told the client meanwhile that there is no session. */
static void what_is_parked_behind_a_silent_owner_is_a_late_part(void **state)
{
    (void)state;
    struct process *it = &processes[B];
    it->parked.state = "parked";
    it->parked.out = session_move_park(it->moves, &it->parked, CLIENT, bus_stamp(it->bus), A);
    assert_non_null(it->parked.out);
    move();
    turn(B);
    clock_set(1000000 + DEADLINE, 1700000000000000 + DEADLINE);
    bus_tick(it->bus);
    turn(B);
    assert_int_equal(it->outcome, SESSION_MOVE_SILENT);
    assert_string_equal(it->session.got, "");
    turns();
    assert_over(SESSION_MOVE_SILENT, "state parked ");
}

/* P has the new owner's routes, but its mark is not here yet: what it sent there is all that there is. */
static void what_a_dead_owner_did_not_pass_on_is_not_dropped(void **state)
{
    (void)state;
    uint64_t there = sequence();
    publish(A, "acknowledged", there);
    processes[A].session.first = processes[A].session.count; /* its client had it */
    publication_unref(&processes[A].session.queue[0]);
    move();
    turn(B);
    turn(A);
    uint64_t before = sequence();
    turn(B);
    assert_int_equal(publish(B, "acknowledged", there), SESSION_MOVE_HOLD);
    assert_int_equal(publish(B, "only here", before), SESSION_MOVE_HOLD);
    process_end(A);
    processes[A].bus = NULL;
    bus_peer_died(processes[B].bus, A);
    bus_peer_died(processes[P].bus, A);
    turns();
    assert_over(SESSION_MOVE_FOUND, "state only here ");
}

static enum status ignore(void *context, const struct bus_record *record)
{
    (void)context;
    (void)record;
    return STATUS_OK;
}

static void a_mark_without_room_waits_and_the_move_for_it(void **state)
{
    (void)state;
    const size_t left = 500; /* for what must have room; a mark leaves that free */
    bus_set_handler(processes[A].bus, BUS_RECORD_RETAINED, ignore, NULL);
    processes[P].carrier.refuse = 1 << A; /* A does not take what P has for it */
    for (size_t size = 4000; size > 0; size /= 2) {
        while (bus_full(processes[P].bus, 1 << A, size + left, BUS_ROOM_CONTROL) == 0)
            memset(bus_put(processes[P].bus, A, BUS_RECORD_RETAINED, size, BUS_ROOM_CONTROL), 0, size);
    }
    publish(A, "old", sequence());
    move();
    turns();
    assert_string_equal(processes[B].session.got, "state old ");
    assert_int_equal(processes[A].outs_done, 0); /* it still forwards */
    assert_int_equal(publish(A, "both", sequence()), SESSION_MOVE_DELIVER);
    assert_int_equal(publish(B, "both", bus_next_sequence(processes[P].bus) - 1), SESSION_MOVE_HOLD);
    struct bus_lane_figures figures;
    bus_figures(processes[P].bus, A, &figures);
    assert_false(figures.out_of_step);
    processes[P].carrier.refuse = 0;
    bus_drain(processes[A].bus);
    turns();
    bus_drain(processes[A].bus); /* the mark */
    turns();
    assert_over(SESSION_MOVE_FOUND, "state old both ");
    assert_int_equal(processes[A].outs_done, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(state_and_queue_arrive_in_order),
        TEST(a_discard_ends_the_session_and_nothing_moves),
        TEST(an_owner_without_the_session_answers_nothing),
        TEST(a_silent_owner_costs_until_the_deadline),
        TEST(a_dead_owner_is_lost),
        TEST(a_publication_that_came_both_ways_is_delivered_once),
        TEST(what_it_was_picked_for_comes_as_often_as_it_was),
        TEST(what_only_a_new_subscription_wants_does_not_wait_for_the_old_owner),
        TEST(a_discard_goes_where_the_session_is),
        TEST(what_is_parked_behind_a_silent_owner_is_a_late_part),
        TEST(what_a_dead_owner_did_not_pass_on_is_not_dropped),
        TEST(a_mark_without_room_waits_and_the_move_for_it),
    };
    return cmocka_run_group_tests_name("session_move", tests, NULL, NULL);
}
