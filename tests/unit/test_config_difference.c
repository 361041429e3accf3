/*
 * config_difference: every changed key is named with both values, and what cannot change while the node runs
 * keeps its value.
 */
#include "shared/config_difference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define START "{\"node\": {\"name\": \"n1\", \"workers\": 2, \"data_dir\": \"/tmp/x\"},"
#define SSL(name, file)                                                                                      \
    "\"ssl:" name "\": {\"bind\": \"127.0.0.1:8883\", \"keyfile\": \"/k\", \"certfile\": \"" file "\"}"
#define TCP(name, port) "\"tcp:" name "\": {\"bind\": \"127.0.0.1:" port "\"}"

static struct config *load(const char *text)
{
    struct config_errors errors = {0};
    struct config *config = NULL;
    if (config_load_handed(text, strlen(text), &config, &errors) != STATUS_OK) {
        config_errors_print(&errors, stderr);
        fail();
    }
    config_errors_done(&errors);
    return config;
}

static const struct config_difference *entry(const struct config_differences *list, const char *path)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->entries[i].path, path) == 0)
            return &list->entries[i];
    fail_msg("%s is not among the differences", path);
    return NULL;
}

static void nothing_differs_from_itself(void **state)
{
    (void)state;
    struct config *config = load(START "\"listeners\": {" SSL("a", "/c") "," TCP("b", "1") "}}");
    struct config_differences list;
    config_compare(config, config, &list);
    assert_int_equal(list.count, 0);
    config_differences_done(&list);
    config_free(&config);
}

static void names_what_changes_and_how(void **state)
{
    (void)state;
    struct config *running = load(START "\"listeners\": {" SSL("a", "/c") "," TCP("gone", "1") "}}");
    struct config *next = load(START
        "\"bus\": {\"window\": \"512KiB\"}, \"listeners\": {" TCP("new", "2") "," SSL("a", "/other") "}}");
    struct config_differences list;
    config_compare(running, next, &list);
    assert_int_equal(list.count, 4);
    const struct config_difference *file = entry(&list, "listeners.ssl:a.certfile");
    assert_string_equal(file->was, "\"/c\"");
    assert_string_equal(file->becomes, "\"/other\"");
    assert_int_equal(file->effect, CONFIG_EFFECT_RELOAD);
    assert_string_equal(entry(&list, "bus.window")->becomes, "524288");
    assert_int_equal(entry(&list, "bus.window")->effect, CONFIG_EFFECT_RESTART);
    assert_null(entry(&list, "listeners.tcp:gone")->becomes);
    assert_null(entry(&list, "listeners.tcp:new")->was);
    config_differences_done(&list);
    config_free(&running);
    config_free(&next);
}

static void secrets_are_not_shown(void **state)
{
    (void)state;
    struct config *running = load(START "\"listeners\": {" SSL("a", "/c") "}}");
    struct config *next =
        load(START "\"listeners\": {\"ssl:a\": {\"bind\": \"127.0.0.1:8883\", \"keyfile\": \"/k\", "
                   "\"certfile\": \"/c\", \"password\": \"geheim\"}}}");
    struct config_differences list;
    config_compare(running, next, &list);
    assert_int_equal(list.count, 1);
    assert_null(list.entries[0].was);
    assert_string_equal(list.entries[0].becomes, "\"(secret)\"");
    config_differences_done(&list);
    config_free(&running);
    config_free(&next);
}

static void what_cannot_change_keeps_its_value(void **state)
{
    (void)state;
    struct config *running = load(
        START "\"bus\": {\"window\": \"512KiB\"}, \"listeners\": {" SSL("a", "/c") "," TCP("b", "1") "}}");
    struct config *next = load(
        "{\"node\": {\"name\": \"other\", \"workers\": 3, \"data_dir\": \"/tmp/y\"}, \"listeners\": {" TCP(
            "b", "1") "," SSL("a", "/new") "}}");
    config_keep_running(running, next);
    assert_string_equal(next->node.name, "n1");
    assert_int_equal(next->node.workers, 2);
    assert_string_equal(next->node.data_dir, "/tmp/x");
    assert_int_equal(next->bus.window, 524288);
    assert_string_equal(next->listeners[1].tls.certfile, "/new");
    struct config_differences list;
    config_compare(running, next, &list);
    assert_int_equal(list.count, 1); /* the certificate alone */
    config_differences_done(&list);
    config_free(&running);
    config_free(&next);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_differs_from_itself),
        cmocka_unit_test(names_what_changes_and_how),
        cmocka_unit_test(secrets_are_not_shown),
        cmocka_unit_test(what_cannot_change_keeps_its_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
