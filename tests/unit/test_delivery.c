/* delivery: the queue is a FIFO that counts its bytes; the window finds by packet identifier, keeps the order
   of sending, passes holes, and goes round the circle of identifiers without ever giving 0. */
#include "node/delivery.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct delivery make(const char *payload, uint8_t qos)
{
    struct publication_view view = {.topic = bytes_of_text("t"), .payload = bytes_of_text(payload)};
    return (struct delivery){.publication = publication_new(&view), .qos = qos};
}

static uint16_t add(struct inflight_window *window)
{
    struct delivery delivery = make("x", 1);
    struct delivery *slot;
    assert_int_equal(inflight_add(window, &delivery, &slot), STATUS_OK);
    return slot->packet_id;
}

static void queue_keeps_order_and_counts_bytes(void **state)
{
    (void)state;
    struct delivery_queue queue = {0};
    for (int i = 0; i < 100; i++) {
        char text[8];
        snprintf(text, sizeof text, "%03d", i);
        struct delivery delivery = make(text, 1);
        assert_int_equal(delivery_queue_push(&queue, &delivery), STATUS_OK);
        if (i % 3 == 0) {
            struct delivery first = *delivery_queue_first(&queue);
            delivery_queue_pop(&queue);
            delivery_clear(&first);
        }
    }
    assert_int_equal(queue.count, 66);
    assert_int_equal(queue.bytes, 66 * (sizeof(struct publication) + 4));
    int previous = -1;
    while (queue.count > 40) {
        struct delivery first = *delivery_queue_first(&queue);
        struct publication_view view = publication_view(first.publication);
        int number = atoi((const char[]){
            (char)view.payload.data[0], (char)view.payload.data[1], (char)view.payload.data[2], 0});
        assert_true(number > previous);
        previous = number;
        delivery_queue_pop(&queue);
        delivery_clear(&first);
    }
    delivery_queue_clear(&queue);
    assert_int_equal(queue.bytes, 0);
}

static void window_releases_in_any_order(void **state)
{
    (void)state;
    struct inflight_window window;
    inflight_init(&window);
    for (int i = 0; i < 20; i++)
        assert_int_equal(add(&window), i + 1);
    assert_null(inflight_find(&window, 0));
    assert_null(inflight_find(&window, 21));
    inflight_release(&window, inflight_find(&window, 2));
    assert_null(inflight_find(&window, 2));
    assert_int_equal(window.span, 20);
    inflight_release(&window, inflight_find(&window, 1));
    assert_int_equal(window.span, 18);
    assert_int_equal(window.count, 18);
    assert_int_equal(inflight_at(&window, 0)->packet_id, 3);
    inflight_clear(&window);
    assert_int_equal(add(&window), 21);
    inflight_clear(&window);
}

static void window_goes_round_without_zero(void **state)
{
    (void)state;
    struct inflight_window window;
    inflight_init(&window);
    uint16_t previous = 0;
    for (int i = 0; i < 140000; i++) {
        uint16_t id = add(&window);
        assert_int_not_equal(id, 0);
        assert_int_equal(id, previous == 65535 ? 1 : previous + 1);
        previous = id;
        if (window.count > 10)
            inflight_release(&window, inflight_at(&window, 0));
    }
    assert_int_equal(window.span, 10);
    inflight_clear(&window);
}

static void one_that_is_never_acknowledged_stops_its_window_only(void **state)
{
    (void)state;
    struct inflight_window window;
    inflight_init(&window);
    uint16_t stuck = add(&window);
    while (inflight_has_room(&window, 10, SIZE_MAX)) {
        uint16_t id = add(&window);
        inflight_release(&window, inflight_find(&window, id));
    }
    assert_int_equal(window.count, 1);
    assert_int_equal(window.span, INFLIGHT_SPAN_MAX);
    inflight_release(&window, inflight_find(&window, stuck));
    assert_int_equal(window.span, 0);
    assert_true(inflight_has_room(&window, 10, SIZE_MAX));
    inflight_clear(&window);
}

static void window_is_restored_with_its_identifiers(void **state)
{
    (void)state;
    struct inflight_window window;
    inflight_init(&window);
    uint16_t ids[] = {65530, 65534, 3, 9};
    for (int i = 0; i < 4; i++) {
        struct delivery delivery = make("x", 2);
        delivery.packet_id = ids[i];
        delivery.state = DELIVERY_PUBLISHED;
        assert_int_equal(inflight_restore(&window, &delivery), STATUS_OK);
    }
    assert_int_equal(window.count, 4);
    struct delivery backwards = make("x", 2);
    backwards.packet_id = 2;
    assert_int_equal(inflight_restore(&window, &backwards), STATUS_PROTOCOL);
    delivery_clear(&backwards);
    assert_non_null(inflight_find(&window, 3));
    assert_null(inflight_find(&window, 65535));
    assert_int_equal(add(&window), 10);
    inflight_release(&window, inflight_find(&window, 65530));
    assert_int_equal(inflight_at(&window, 0)->packet_id, 65534);
    inflight_clear(&window);
}

static void window_counts_bytes(void **state)
{
    (void)state;
    struct inflight_window window;
    inflight_init(&window);
    add(&window);
    uint16_t second = add(&window);
    size_t bytes = window.bytes;
    assert_true(inflight_has_room(&window, 10, bytes + 1));
    assert_false(inflight_has_room(&window, 10, bytes));
    inflight_received(&window, inflight_find(&window, second));
    assert_int_equal(inflight_find(&window, second)->state, DELIVERY_RELEASED);
    assert_int_equal(window.bytes, bytes / 2);
    inflight_release(&window, inflight_find(&window, second));
    inflight_release(&window, inflight_at(&window, 0));
    assert_int_equal(window.bytes, 0);
    inflight_clear(&window);
}

static void walk_from_an_identifier_skips_what_is_acknowledged(void **state)
{
    (void)state;
    struct inflight_window window;
    inflight_init(&window);
    assert_null(inflight_from(&window, 1));
    window.next_id = 65533;
    for (int i = 0; i < 6; i++)
        add(&window); /* 65533 65534 65535 1 2 3 */
    assert_int_equal(inflight_id_after(65535), 1);
    inflight_release(&window, inflight_find(&window, 65535));
    inflight_release(&window, inflight_find(&window, 1));
    assert_int_equal(inflight_from(&window, 65533)->packet_id, 65533);
    assert_int_equal(inflight_from(&window, 65535)->packet_id, 2);
    assert_null(inflight_from(&window, 4));
    inflight_release(&window, inflight_find(&window, 65533));
    inflight_release(&window, inflight_find(&window, 65534));
    assert_int_equal(inflight_from(&window, 65533)->packet_id, 2); /* lies before the window now */
    inflight_clear(&window);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queue_keeps_order_and_counts_bytes),
        cmocka_unit_test(window_releases_in_any_order),
        cmocka_unit_test(window_goes_round_without_zero),
        cmocka_unit_test(one_that_is_never_acknowledged_stops_its_window_only),
        cmocka_unit_test(window_is_restored_with_its_identifiers),
        cmocka_unit_test(window_counts_bytes),
        cmocka_unit_test(walk_from_an_identifier_skips_what_is_acknowledged),
    };
    return cmocka_run_group_tests_name("delivery", tests, NULL, NULL);
}
