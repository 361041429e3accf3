/* bus_window: sealed files, mapped twice, each side writes only what is its own, and they outlive a process.
 */
#include "shared/bus_window.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE ((size_t)65536)

struct lane {
    int ring, cursor, ring_readonly, cursor_readonly;
};

static struct lane lane_make(void)
{
    struct lane lane;
    assert_int_equal(bus_window_create(SIZE, &lane.ring, &lane.cursor), STATUS_OK);
    assert_int_equal(bus_window_reopen_readonly(lane.ring, &lane.ring_readonly), STATUS_OK);
    assert_int_equal(bus_window_reopen_readonly(lane.cursor, &lane.cursor_readonly), STATUS_OK);
    return lane;
}

static void lane_close(struct lane *lane)
{
    close(lane->ring);
    close(lane->cursor);
    close(lane->ring_readonly);
    close(lane->cursor_readonly);
}

static void sizes_are_checked(void **state)
{
    (void)state;
    int ring, cursor;
    assert_int_equal(bus_window_create(0, &ring, &cursor), STATUS_INVALID);
    assert_int_equal(bus_window_create(65537, &ring, &cursor), STATUS_INVALID);
    assert_int_equal(bus_window_create(2048, &ring, &cursor), STATUS_INVALID);
    assert_int_equal(bus_window_round(1 << 20), 1 << 20);
    assert_int_equal(bus_window_round((1 << 20) - 1), 1 << 19);
    assert_int_equal(bus_window_round(1), BUS_WINDOW_MIN);
}

static void files_are_sealed_and_close_on_exec(void **state)
{
    (void)state;
    struct lane lane = lane_make();
    assert_int_equal(ftruncate(lane.ring, 0), -1);
    assert_int_equal(ftruncate(lane.cursor, 1 << 20), -1);
    assert_true(fcntl(lane.ring, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(lane.ring_readonly, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(fcntl(lane.ring_readonly, F_GETFL) & O_ACCMODE, O_RDONLY);
    lane_close(&lane);
}

static void a_frame_across_the_end_is_contiguous(void **state)
{
    (void)state;
    struct lane lane = lane_make();
    struct bus_window sender, receiver;
    assert_int_equal(bus_window_map_sender(lane.ring, lane.cursor_readonly, &sender), STATUS_OK);
    assert_int_equal(bus_window_map_receiver(lane.ring_readonly, lane.cursor, &receiver), STATUS_OK);
    assert_int_equal(sender.size, SIZE);
    uint64_t offset = 5 * SIZE - 3;
    memcpy(bus_window_at(&sender, offset), "wrapped", 7);
    bus_window_store(sender.head, offset + 7);
    assert_int_equal(bus_window_load(receiver.head), offset + 7);
    assert_memory_equal(bus_window_at(&receiver, offset), "wrapped", 7);
    assert_memory_equal(bus_window_at(&receiver, 0), "pped", 4);
    bus_window_store(receiver.cursor, 42);
    assert_int_equal(bus_window_load(sender.cursor), 42);
    bus_window_unmap(&sender);
    bus_window_unmap(&receiver);
    bus_window_unmap(&receiver);
    lane_close(&lane);
}

static void the_other_side_cannot_be_mapped_for_writing(void **state)
{
    (void)state;
    struct lane lane = lane_make();
    struct bus_window window;
    assert_int_equal(bus_window_map_sender(lane.ring_readonly, lane.cursor_readonly, &window), STATUS_SYSTEM);
    assert_int_equal(errno, EACCES);
    assert_int_equal(
        bus_window_map_receiver(lane.ring_readonly, lane.cursor_readonly, &window), STATUS_SYSTEM);
    lane_close(&lane);
}

static void an_unsealed_file_is_refused(void **state)
{
    (void)state;
    struct lane lane = lane_make();
    struct bus_window window;
    int fd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(fd, (off_t)(8192 + SIZE)), 0);
    assert_int_equal(bus_window_map_receiver(fd, lane.cursor, &window), STATUS_INVALID);
    close(fd);
    lane_close(&lane);
}

static void content_survives_the_process_that_wrote_it(void **state)
{
    (void)state;
    struct lane lane = lane_make();
    pid_t child = fork();
    if (child == 0) {
        struct bus_window sender;
        if (bus_window_map_sender(lane.ring, lane.cursor_readonly, &sender) != STATUS_OK)
            _exit(1);
        memcpy(bus_window_at(&sender, 0), "kept", 4);
        bus_window_store(sender.head, 4);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    struct bus_window receiver;
    assert_int_equal(bus_window_map_receiver(lane.ring_readonly, lane.cursor, &receiver), STATUS_OK);
    assert_int_equal(bus_window_load(receiver.head), 4);
    assert_memory_equal(bus_window_at(&receiver, 0), "kept", 4);
    bus_window_unmap(&receiver);
    lane_close(&lane);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(files_are_sealed_and_close_on_exec),
        cmocka_unit_test(a_frame_across_the_end_is_contiguous),
        cmocka_unit_test(the_other_side_cannot_be_mapped_for_writing),
        cmocka_unit_test(an_unsealed_file_is_refused),
        cmocka_unit_test(content_survives_the_process_that_wrote_it),
    };
    return cmocka_run_group_tests_name("bus_window", tests, NULL, NULL);
}
