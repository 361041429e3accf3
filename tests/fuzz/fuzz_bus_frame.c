/*
 * Whatever stands in a peer's ring or in a carrier's message: nothing faults. The input's first byte says how
 * it reaches the process: as a message, as ring content behind a given head, or as the body of a record in a
 * sound frame (so that the decoders of acceptance are reached behind the checksum).
 */
#include "cluster/acceptance.h"
#include "cluster/share_copies.h"
#include "cluster/share_record.h"
#include "shared/bus_window.h"
#include "shared/clock.h"
#include "tests/unit/fake_carrier.h"

#include <stdio.h>

#define WINDOW ((size_t)65536)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct process {
    struct bus *bus;
    struct acceptance *acceptance;
    struct topic_index *index;
    struct share_copies *copies;
    struct fake_carrier carrier;
    struct counters counters;
};

static volatile uint64_t sink;

static uint64_t sum(struct bytes bytes)
{
    uint64_t total = 0;
    for (size_t i = 0; i < bytes.size; i++)
        total += bytes.data[i];
    return total;
}

static bool on_deliver(void *context, unsigned peer, const struct publication_view *view)
{
    (void)context;
    (void)peer;
    sink += sum(view->topic) + sum(view->properties) + sum(view->payload) + sum(publication_shares(view));
    struct share_reader reader;
    struct share_pick pick;
    if (share_record_read(publication_shares(view), &reader) == STATUS_OK) {
        while (share_record_next(&reader, &pick))
            sink += sum(pick.filter) + sum(pick.group) + pick.slot + pick.number;
    }
    return view->meta.retain;
}

static void on_complete(void *context, void *taker, uint64_t ticket, enum acceptance_result result)
{
    (void)context;
    (void)taker;
    sink += ticket + (uint64_t)result;
}

static void on_room(void *context)
{
    (void)context;
}

static void on_orphaned(
    void *context, struct topic_group *group, unsigned hops, struct publication *publication, bool alive)
{
    (void)context;
    sink += group->hash + hops + publication->payload_size + alive;
}

static void process_start(struct process *it, struct fake_lanes *lanes, unsigned self)
{
    fake_carrier_init(&it->carrier);
    struct bus_settings bus = {.self = self,
        .peers = 2,
        .origin = {.incarnation = self + 1, .slot = (uint16_t)self},
        .lanes = lanes->of[self],
        .counters = &it->counters,
        .carrier = &it->carrier.carrier};
    struct acceptance_settings acceptance = {.stall_timeout_us = 5000000,
        .copies_max = 1 << 16,
        .complete = on_complete,
        .room = on_room,
        .deliver = on_deliver};
    if (bus_new(&bus, &it->bus) != STATUS_OK)
        abort();
    acceptance.bus = it->bus;
    if (acceptance_new(&acceptance, &it->acceptance) != STATUS_OK)
        abort();
    static const struct keyed_hash hash;
    it->index = topic_index_new(&hash);
    struct share_copies_settings copies = {
        .bus = it->bus, .index = it->index, .bytes_max = 1 << 16, .orphaned = on_orphaned};
    if (it->index == NULL || share_copies_new(&copies, &it->copies) != STATUS_OK)
        abort();
    bus_peer_started(it->bus, 1 - self, (struct publication_origin){2 - self, 0, (uint16_t)(1 - self)});
}

static void process_end(struct process *it)
{
    share_copies_free(&it->copies);
    acceptance_free(&it->acceptance);
    bus_free(&it->bus);
    topic_index_free(&it->index);
    fake_carrier_drop(&it->carrier);
}

/* The receiver has something pending, so that completions find something to complete. */
static void offer(struct process *it, void *taker)
{
    struct publication_view view = {
        .meta = {.qos = 1}, .topic = bytes_of_text("t"), .payload = bytes_of_text("payload")};
    if (acceptance_offer(it->acceptance, &view, 1, 1, taker, 1) == ACCEPTANCE_REFUSED)
        abort();
    struct topic_filter *filter;
    struct topic_group *group;
    struct publication *copy = publication_new(&view);
    if (copy == NULL || topic_index_acquire(it->index, view.topic, &filter) != STATUS_OK ||
        topic_index_group(it->index, filter, bytes_of_text("g"), &group) != STATUS_OK)
        abort();
    for (unsigned i = 0; i < 3; i++)
        share_copies_keep(it->copies, 0, share_copies_number(it->copies, 0), group, i, copy);
    publication_unref(&copy);
}

/* Records {u8 type, u16 size, body} from the input, put by the sender itself. */
static void put_records(struct process *sender, const uint8_t *data, size_t size)
{
    static const enum bus_record_type types[] = {BUS_RECORD_PUBLICATION, BUS_RECORD_FRAGMENT,
        BUS_RECORD_COMPLETION, BUS_RECORD_WILL, BUS_RECORD_SHARE_SETTLED};
    while (size >= 3) {
        size_t body = get_u16_le(data + 1);
        if (body > size - 3)
            body = size - 3;
        uint8_t *to = bus_put(sender->bus, 1, types[data[0] % 5], body, BUS_ROOM_CONTROL);
        if (to == NULL)
            return;
        memcpy(to, data + 3, body);
        data += 3 + body;
        size -= 3 + body;
    }
}

static void write_ring(struct fake_lanes *lanes, const uint8_t *data, size_t size)
{
    struct bus_window window;
    if (bus_window_map_sender(lanes->of[0][1].out_ring, lanes->of[0][1].out_cursor, &window) != STATUS_OK)
        abort();
    if (size > 4) {
        size_t length = size - 4 < WINDOW ? size - 4 : WINDOW;
        memcpy(window.ring, data + 4, length);
        bus_window_store(window.head, get_u32_le(data) % (2 * WINDOW));
    }
    bus_window_unmap(&window);
}

static void run(struct process *sender, struct process *receiver, struct fake_lanes *lanes,
    const uint8_t *data, size_t size)
{
    switch (data[0] % 3) {
    case 0:
        bus_receive(receiver->bus, bytes_of(data + 1, size - 1));
        break;
    case 1:
        write_ring(lanes, data + 1, size - 1);
        break;
    default:
        put_records(sender, data + 1, size - 1);
        bus_turn_end(sender->bus);
    }
    bus_drain(receiver->bus);
    bus_turn_end(receiver->bus);
    bus_tick(receiver->bus);
    bus_peer_died(receiver->bus, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    int taker;
    struct process sender = {0}, receiver = {0};
    struct fake_lanes *lanes = fake_lanes_new(2, WINDOW);
    clock_set(1000000, 1700000000000000);
    process_start(&sender, lanes, 0);
    process_start(&receiver, lanes, 1);
    offer(&receiver, &taker);
    run(&sender, &receiver, lanes, data, size);
    process_end(&sender);
    process_end(&receiver);
    fake_lanes_free(&lanes);
    /* The decoder for records that travel elsewhere. */
    struct publication_view view;
    if (acceptance_decode(bytes_of(data + 1, size - 1), &view) == STATUS_OK)
        on_deliver(NULL, 0, &view);
    return 0;
}
