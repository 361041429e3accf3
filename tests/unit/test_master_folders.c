/* Incarnations never come twice; locks keep two masters apart; nobody leads the master to another file. */
#include "node/master_folders.h"

#include "shared/clock.h"
#include "shared/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char folder[64];
    char data_dir[80];
    char run_dir[80];
    char user[8];
    struct config config;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/shoal-folders-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(fixture->data_dir, sizeof fixture->data_dir, "%s/a/data", fixture->folder);
    snprintf(fixture->run_dir, sizeof fixture->run_dir, "%s/a/data/run", fixture->folder);
    snprintf(fixture->user, sizeof fixture->user, "nobody");
    fixture->config.file = fixture->folder;
    fixture->config.node.data_dir = fixture->data_dir;
    fixture->config.node.run_dir = fixture->run_dir;
    fixture->config.node.user = fixture->user;
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", fixture->folder);
    assert_int_equal(system(command), 0);
    free(fixture);
    clock_use_system();
    return 0;
}

static void in_data_dir(const struct fixture *fixture, const char *name, char path[120])
{
    snprintf(path, 120, "%s/%s", fixture->data_dir, name);
}

static void folders_are_private(void **state)
{
    struct fixture *fixture = *state;
    struct master_folders folders;
    assert_int_equal(master_folders_open(&fixture->config, &folders), STATUS_OK);
    struct stat info;
    assert_int_equal(stat(fixture->data_dir, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    assert_int_equal(info.st_uid, folders.uid);
    assert_int_equal(stat(fixture->run_dir, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    assert_true(folders.drop == (geteuid() == 0));
    assert_int_equal(fcntl(folders.lock, F_GETFL) & O_ACCMODE, O_RDONLY);
    master_folders_close(&folders);
    master_folders_close(&folders); /* harmless */
}

static void second_master_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct master_folders first, second;
    assert_int_equal(master_folders_open(&fixture->config, &first), STATUS_OK);
    assert_int_equal(master_folders_open(&fixture->config, &second), STATUS_REFUSED);
    master_folders_close(&first);
    assert_int_equal(master_folders_open(&fixture->config, &second), STATUS_OK);
    master_folders_close(&second);
}

static void incarnations_never_come_twice(void **state)
{
    struct fixture *fixture = *state;
    uint64_t last = 0;
    /* The clock goes back by a year, stands still, and jumps: over restarts, too. */
    const uint64_t reals[] = {UINT64_C(1700000000000000), UINT64_C(1668000000000000),
        UINT64_C(1668000000000000), UINT64_C(1700000000000001), UINT64_C(1900000000000000), 1};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        clock_set(1, reals[i]);
        struct master_folders folders;
        assert_int_equal(master_folders_open(&fixture->config, &folders), STATUS_OK);
        for (unsigned round = 0; round < 1000; round++) {
            uint64_t incarnation;
            assert_int_equal(master_folders_incarnation(&folders, &incarnation), STATUS_OK);
            assert_true(incarnation > last);
            last = incarnation;
        }
        folders.incarnation_next = folders.incarnation_reserved; /* as after a million starts */
        uint64_t incarnation;
        assert_int_equal(master_folders_incarnation(&folders, &incarnation), STATUS_OK);
        assert_true(incarnation > last && incarnation < folders.incarnation_reserved);
        last = incarnation;
        master_folders_close(&folders);
    }
}

static void links_are_not_followed(void **state)
{
    struct fixture *fixture = *state;
    struct master_folders folders;
    char path[120], victim[120];
    assert_int_equal(master_folders_open(&fixture->config, &folders), STATUS_OK);
    master_folders_close(&folders);
    in_data_dir(fixture, "master.state", path);
    in_data_dir(fixture, "victim", victim);
    assert_int_equal(rename(path, victim), 0);
    assert_int_equal(symlink(victim, path), 0);
    assert_int_equal(master_folders_open(&fixture->config, &folders), STATUS_SYSTEM);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(link(victim, path), 0);
    assert_int_equal(master_folders_open(&fixture->config, &folders), STATUS_SYSTEM);
    assert_int_equal(unlink(victim), 0);
    assert_int_equal(master_folders_open(&fixture->config, &folders), STATUS_OK);
    master_folders_close(&folders);
}

static void foreign_folder_is_left_alone(void **state)
{
    struct fixture *fixture = *state;
    char parent[80], path[120];
    snprintf(parent, sizeof parent, "%s/a", fixture->folder);
    assert_int_equal(mkdir(parent, 0755), 0);
    assert_int_equal(mkdir(fixture->data_dir, 0755), 0);
    in_data_dir(fixture, "letter", path);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    close(fd);
    struct master_folders folders;
    assert_int_equal(master_folders_open(&fixture->config, &folders), STATUS_REFUSED);
    struct stat info;
    assert_int_equal(stat(fixture->data_dir, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0755);
    assert_int_equal(info.st_uid, geteuid());
}

static void keys_outlive_restarts(void **state)
{
    struct fixture *fixture = *state;
    const struct config *config = &fixture->config;
    struct master_folders folders;
    uint8_t first[MASTER_KEY_SIZE], again[MASTER_KEY_SIZE], other[MASTER_KEY_SIZE];
    char path[120];
    struct stat info;
    assert_int_equal(master_folders_open(config, &folders), STATUS_OK);
    assert_int_equal(master_folders_key(config, &folders, "one.key", first), STATUS_OK);
    assert_int_equal(master_folders_key(config, &folders, "two.key", other), STATUS_OK);
    assert_memory_not_equal(first, other, sizeof first);
    master_folders_close(&folders);
    assert_int_equal(master_folders_open(config, &folders), STATUS_OK);
    assert_int_equal(master_folders_key(config, &folders, "one.key", again), STATUS_OK);
    assert_memory_equal(first, again, sizeof first);
    in_data_dir(fixture, "one.key", path);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(info.st_uid, folders.uid);
    assert_int_equal(truncate(path, 5), 0);
    assert_int_equal(master_folders_key(config, &folders, "one.key", again), STATUS_REFUSED);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/dev/zero", path), 0);
    assert_int_equal(master_folders_key(config, &folders, "one.key", again), STATUS_SYSTEM);
    assert_memory_equal(first, again, sizeof first);
    master_folders_close(&folders);
}

int main(void)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    log_configure(null, LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "test"); /* the refusals here are wanted */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(folders_are_private, set_up, tear_down),
        cmocka_unit_test_setup_teardown(second_master_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(incarnations_never_come_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(links_are_not_followed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_outlive_restarts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(foreign_folder_is_left_alone, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
