/* password_check: answers come by the event loop, cancelled ones never, and no more wait than may. */
#include "node/password_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

/* PBKDF2 of "secret" with 101 iterations (mosquitto_passwd). */
static const char line[] =
    "alice:$7$101$T1SphAunpqPiNdfe$6p3lbn2kA0FbG4mIfZlDIeA7ovehGK8Cx81g+j2dqQTXl3EGLc7x2CC"
    "22J0GjuJJt1qEUuLX/lli4ClyLaMZyg==";

struct fixture {
    struct event_base *base;
    struct password_checks *checks;
    struct password_file *file;
    const struct password_hash *hash;
    unsigned woken, good, bad;
};

static void on_problem(void *context, unsigned number, const char *text)
{
    (void)context;
    fail_msg("%u: %s", number, text);
}

static void on_woken(void *context)
{
    ((struct fixture *)context)->woken++;
}

static void on_checked(void *owner, bool good)
{
    struct fixture *it = owner;
    *(good ? &it->good : &it->bad) += 1;
}

static int set_up(void **state)
{
    struct fixture *it = calloc(1, sizeof *it);
    it->base = event_base_new();
    assert_int_equal(password_checks_new(it->base, 3, on_woken, it, &it->checks), STATUS_OK);
    assert_int_equal(password_file_parse(bytes_of_text(line), on_problem, NULL, &it->file), STATUS_OK);
    it->hash = password_file_find(it->file, bytes_of_text("alice"));
    *state = it;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *it = *state;
    password_checks_free(&it->checks);
    password_file_free(&it->file);
    event_base_free(it->base);
    free(it);
    return 0;
}

static struct password_check *start(
    struct fixture *it, const struct password_hash *hash, const char *password)
{
    struct password_check *check;
    assert_int_equal(
        password_check_start(it->checks, hash, bytes_of_text(password), on_checked, it, &check), STATUS_OK);
    return check;
}

static void answers_come_by_the_event_loop(void **state)
{
    struct fixture *it = *state;
    start(it, it->hash, "secret");
    start(it, it->hash, "wrong");
    start(it, it->hash, "");
    assert_int_equal(it->good + it->bad, 0);
    while (it->good + it->bad < 3)
        event_base_loop(it->base, EVLOOP_ONCE);
    assert_int_equal(it->good, 1);
    assert_true(it->woken > 0);
}

static void no_more_wait_than_may(void **state)
{
    struct fixture *it = *state;
    for (int i = 0; i < 3; i++)
        start(it, it->hash, "secret");
    struct password_check *check = NULL;
    assert_int_equal(
        password_check_start(it->checks, it->hash, bytes_of_text("x"), on_checked, it, &check), STATUS_LIMIT);
    assert_null(check);
    while (it->good < 3)
        event_base_loop(it->base, EVLOOP_ONCE);
    start(it, it->hash, "secret");
    while (it->good < 4)
        event_base_loop(it->base, EVLOOP_ONCE);
}

static void a_cancelled_check_is_not_answered(void **state)
{
    struct fixture *it = *state;
    struct password_hash slow = *it->hash;
    slow.iterations = 200000; /* long enough to find it running */
    struct password_check *running = start(it, &slow, "secret");
    struct password_check *waiting = start(it, &slow, "secret");
    password_check_cancel(it->checks, &waiting);
    assert_null(waiting);
    password_check_cancel(it->checks, &running);
    start(it, it->hash, "secret");
    while (it->good < 1)
        event_base_loop(it->base, EVLOOP_ONCE);
    assert_int_equal(it->bad, 0);
    assert_int_equal(it->good, 1);
}

static void the_end_waits_for_nobody(void **state)
{
    struct fixture *it = *state;
    struct password_hash endless = *it->hash;
    endless.iterations = PASSWORD_ITERATIONS_MAX;
    struct password_hash slow = *it->hash;
    slow.iterations = 100000;
    start(it, &slow, "secret");
    start(it, &endless, "secret"); /* is not begun any more once the first has ended */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers_come_by_the_event_loop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_more_wait_than_may, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_cancelled_check_is_not_answered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_waits_for_nobody, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
