/* The node's log: whole lines from every process, whatever standard error does. */
#include "node/master_log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Standard error of this process is a pipe during a test; what was there before comes back afterwards. */
struct fixture {
    int before;
    int reader;
    struct event_base *base;
    struct master_log *log;
    size_t size;
    char text[2 * MASTER_LOG_BUFFER];
};

static struct fixture fixture;

static int set_up(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    fixture.before = dup(STDERR_FILENO);
    assert_true(dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
    close(ends[1]);
    fixture.reader = ends[0];
    fixture.size = 0;
    fixture.base = event_base_new();
    assert_non_null(fixture.base);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    master_log_close(&fixture.log);
    event_base_free(fixture.base);
    dup2(fixture.before, STDERR_FILENO);
    close(fixture.before);
    close(fixture.reader);
    return 0;
}

static void open_log(enum log_format format)
{
    assert_int_equal(master_log_open(fixture.base, LOG_LEVEL_NOTICE, format, &fixture.log), STATUS_OK);
}

static void turn(void)
{
    event_base_loop(fixture.base, EVLOOP_NONBLOCK);
    event_base_loop(fixture.base, EVLOOP_NONBLOCK);
}

/* Everything that came out so far. */
static const char *output(void)
{
    ssize_t size;
    while ((size = read(
                fixture.reader, fixture.text + fixture.size, sizeof fixture.text - 1 - fixture.size)) > 0)
        fixture.size += (size_t)size;
    fixture.text[fixture.size] = '\0';
    return fixture.text;
}

static void put(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void lines_come_whole(void **state)
{
    (void)state;
    open_log(LOG_FORMAT_TEXT);
    int a, b;
    struct master_log_source *one, *two;
    assert_int_equal(master_log_add(fixture.log, "worker 0", &a, &one), STATUS_OK);
    assert_int_equal(master_log_add(fixture.log, "worker 1", &b, &two), STATUS_OK);
    put(a, "2026 half of");
    put(b, "2026 a line of the other\n2026 and more\n");
    turn();
    put(a, " a line\n");
    log_notice("from the master");
    turn();
    const char *text = output();
    assert_non_null(strstr(text, "2026 half of a line\n"));
    assert_non_null(strstr(text, "2026 a line of the other\n2026 and more\n"));
    assert_non_null(strstr(text, "notice master: from the master\n"));
    put(a, "2026 last words without an end");
    close(a);
    master_log_remove(fixture.log, &one);
    assert_null(one);
    assert_non_null(strstr(output(), "2026 last words without an end\n"));
    close(b);
    master_log_remove(fixture.log, &two);
}

static void foreign_output_is_wrapped(void **state)
{
    (void)state;
    open_log(LOG_FORMAT_JSON);
    int fd;
    struct master_log_source *source;
    assert_int_equal(master_log_add(fixture.log, "worker 3", &fd, &source), STATUS_OK);
    put(fd, "shoald: session.c:12: Assertion `x > 0' failed.\n\n{\"process\":\"worker 3\"}\n");
    turn();
    turn();
    const char *text = output();
    assert_non_null(
        strstr(text, "\"message\":\"worker 3 printed: shoald: session.c:12: Assertion `x > 0' failed.\"}"));
    assert_non_null(strstr(text, "{\"process\":\"worker 3\"}\n"));
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1)
        assert_int_equal(*line, '{');
    close(fd);
    master_log_remove(fixture.log, &source);
}

static void blocked_output_drops_and_counts(void **state)
{
    (void)state;
    open_log(LOG_FORMAT_TEXT);
    int fd;
    struct master_log_source *source;
    assert_int_equal(master_log_add(fixture.log, "worker 0", &fd, &source), STATUS_OK);
    char line[201];
    memset(line, '7', sizeof line - 2);
    line[199] = '\n';
    line[200] = '\0';
    unsigned written = 0;
    while (master_log_dropped(fixture.log) < 100) {
        assert_true(written < 100000);
        for (unsigned i = 0; i < 20; i++, written++)
            put(fd, line);
        turn();
    }
    /* Somebody reads again: everything kept comes, in whole lines, and the loss is told. */
    for (unsigned i = 0; i < 1000 && strstr(output(), "log lines dropped") == NULL; i++) {
        event_base_loop(fixture.base, EVLOOP_ONCE);
        turn();
    }
    const char *text = output();
    char told[80];
    snprintf(
        told, sizeof told, "warning master: %u log lines dropped", (unsigned)master_log_dropped(fixture.log));
    assert_non_null(strstr(text, told));
    unsigned lines = 0;
    for (const char *at = text; (at = strstr(at, line)) != NULL; at += 200)
        lines++;
    assert_int_equal(lines + (unsigned)master_log_dropped(fixture.log), written);
    close(fd);
    master_log_remove(fixture.log, &source);
}

static void closed_output_harms_nobody(void **state)
{
    (void)state;
    open_log(LOG_FORMAT_TEXT);
    close(fixture.reader);
    for (unsigned i = 0; i < 10; i++) {
        log_notice("nobody reads this");
        turn();
    }
    assert_true(master_log_dropped(fixture.log) > 0);
    fixture.reader = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void endless_line_is_cut(void **state)
{
    (void)state;
    open_log(LOG_FORMAT_TEXT);
    int fd;
    struct master_log_source *source;
    assert_int_equal(master_log_add(fixture.log, "worker 0", &fd, &source), STATUS_OK);
    char text[3 * LOG_LINE_MAX];
    memset(text, '9', sizeof text);
    assert_int_equal(write(fd, text, sizeof text), sizeof text);
    turn();
    const char *got = output();
    assert_int_equal(strlen(got), 3 * (LOG_LINE_MAX + 1));
    assert_int_equal(got[LOG_LINE_MAX], '\n');
    close(fd);
    master_log_remove(fixture.log, &source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_come_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(foreign_output_is_wrapped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(blocked_output_drops_and_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(closed_output_harms_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(endless_line_is_cut, set_up, tear_down),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
