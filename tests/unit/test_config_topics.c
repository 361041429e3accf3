/* Configuration values about topics: what is taken, what is refused and with which words, and that they come
 * through the hand-over unchanged. */
#include "shared/config.h"
#include "shared/topic_rewrite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TCP(keys)      "\"listeners\": {\"tcp:a\": {\"bind\": \"127.0.0.1:1883\"" keys "}}"
#define LISTENER(keys) "{" TCP(", " keys) "}"
#define WITH(section)  "{" TCP("") ", " section "}"

static struct config *load_fine(const char *text)
{
    struct config *config = NULL;
    struct config_errors errors = {0};
    enum status status = config_load_text(text, strlen(text), "/tmp/conf/t.json", &config, &errors);
    config_errors_print(&errors, stderr);
    assert_int_equal(status, STATUS_OK);
    config_errors_done(&errors);
    return config;
}

/* The same, once more through the JSON that the master hands to its children. */
static struct config *hand_over(struct config *config)
{
    struct config *handed = NULL;
    struct config_errors errors = {0};
    char *json = config_to_json(config);
    assert_non_null(json);
    assert_int_equal(config_load_handed(json, strlen(json), &handed, &errors), STATUS_OK);
    free(json);
    config_free(&config);
    config_errors_done(&errors);
    return handed;
}

static void assert_refused(const char *text, const char *part)
{
    struct config *config = NULL;
    struct config_errors errors = {0};
    assert_int_equal(
        config_load_text(text, strlen(text), "/tmp/conf/t.json", &config, &errors), STATUS_INVALID);
    bool found = false;
    for (size_t i = 0; i < errors.count; i++)
        found |= strstr(errors.entries[i].text, part) != NULL;
    if (!found) {
        config_errors_print(&errors, stderr);
        fail_msg("no error with «%s»", part);
    }
    config_errors_done(&errors);
}

static void mountpoints_are_whole_levels(void **state)
{
    (void)state;
    struct config *config = load_fine(LISTENER("\"mountpoint\": \"devices/%c/%u/\""));
    config = hand_over(config);
    assert_string_equal(config->listeners[0].mountpoint, "devices/%c/%u/");
    config_free(&config);
    config = load_fine(LISTENER("\"nodelay\": true"));
    assert_null(config->listeners[0].mountpoint);
    config_free(&config);
    static const char *const wrong[] = {"\"\"", "\"a\"", "\"a/+/\"", "\"a/#\"", "\"$SYS/\"", "\"%c\"", "7"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[256];
        snprintf(text, sizeof text, LISTENER("\"mountpoint\": %s"), wrong[i]);
        assert_refused(text, "listeners.tcp:a.mountpoint");
    }
}

static void subscriptions_are_objects_with_a_filter(void **state)
{
    (void)state;
    struct config *config = load_fine(WITH(
        "\"auto_subscribe\": {\"topics\": [{\"topic\": \"d/%c/#\", \"qos\": 1, \"no_local\": true, "
        "\"retain_as_published\": true, \"retain_handling\": 2}, {\"//\": \"all\", \"topic\": \"all\"}]}"));
    config = hand_over(config);
    const struct config_subscription *items = config->auto_subscribe.topics.items;
    assert_int_equal(config->auto_subscribe.topics.count, 2);
    assert_string_equal(items[0].topic, "d/%c/#");
    assert_int_equal(items[0].qos, 1);
    assert_int_equal(items[0].retain_handling, 2);
    assert_true(items[0].no_local && items[0].retain_as_published);
    assert_string_equal(items[1].topic, "all");
    assert_int_equal(items[1].qos + items[1].retain_handling, 0);
    assert_false(items[1].no_local || items[1].retain_as_published);
    config_free(&config);
    static const char *const wrong[][2] = {
        {"{}", "auto_subscribe.topics: found {}"},
        {"[7]", "auto_subscribe.topics[0]: found 7"},
        {"[{\"topic\": \"a\"}, {\"qos\": 1}]",
            "auto_subscribe.topics[1]: found {\"qos\":1}, without the key"},
        {"[{\"topic\": \"a/#/b\"}]", "topics[0].topic: found \"a/#/b\", which is no topic filter"},
        {"[{\"topic\": \"%c+\"}]", "topics[0].topic"},
        {"[{\"topic\": \"a\", \"qos\": 3}]", "topics[0].qos: found 3"},
        {"[{\"topic\": \"a\", \"rh\": 1}]", "topics[0].rh: found 1, no such key"},
        {"[{\"topic\": \"a\", \"no_local\": 1}]", "topics[0].no_local"},
        {"[{\"topic\": \"$share/g/a\", \"no_local\": true}]", "shared subscriptions"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[256];
        snprintf(text, sizeof text, WITH("\"auto_subscribe\": {\"topics\": %s}"), wrong[i][0]);
        assert_refused(text, wrong[i][1]);
    }
}

#define RULE(action, source, re, dest)                                                                       \
    "[{\"action\": \"" action "\", \"source_topic\": \"" source "\", \"re\": \"" re                          \
    "\", \"dest_topic\": \"" dest "\"}]"

static void rules_are_checked_as_a_whole(void **state)
{
    (void)state;
    struct config *config = load_fine(WITH(
        "\"rewrite\": {\"rules\": [{\"action\": \"all\", \"source_topic\": \"x/#\", \"re\": \"^x/(.+)$\", "
        "\"dest_topic\": \"z/%c/$1\"}, {\"action\": \"publish\", \"source_topic\": \"a\", \"re\": \"a\", "
        "\"dest_topic\": \"b\"}]}"));
    config = hand_over(config);
    const struct config_rewrite_rule *items = config->rewrite.rules.items;
    assert_int_equal(config->rewrite.rules.count, 2);
    assert_int_equal(items[0].actions, TOPIC_REWRITE_PUBLISH | TOPIC_REWRITE_SUBSCRIBE);
    assert_int_equal(items[1].actions, TOPIC_REWRITE_PUBLISH);
    assert_string_equal(items[0].source_topic, "x/#");
    assert_string_equal(items[0].re, "^x/(.+)$");
    assert_string_equal(items[0].dest_topic, "z/%c/$1");
    config_free(&config);
    static const char *const wrong[][2] = {
        {RULE("pub", "a", "a", "b"), "rewrite.rules[0].action: found \"pub\""},
        {RULE("all", "a/#/b", "a", "b"), "rules[0].source_topic"},
        {RULE("all", "$share/g/a", "a", "b"), "rules[0].source_topic"},
        {RULE("all", "a", "(a", "b"), "missing closing parenthesis"},
        {RULE("all", "a", "a", "$1"), "rules[0].re: found \"a\", it has 0 groups"},
        {RULE("all", "a", "a", "%h"), "rules[0].dest_topic"},
        {RULE("all", "a", "a", ""), "rules[0].dest_topic"},
        {"[{\"action\": \"all\", \"re\": \"a\"}]", "without the key \"source_topic\""},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[512];
        snprintf(text, sizeof text, WITH("\"rewrite\": {\"rules\": %s}"), wrong[i][0]);
        assert_refused(text, wrong[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mountpoints_are_whole_levels),
        cmocka_unit_test(subscriptions_are_objects_with_a_filter),
        cmocka_unit_test(rules_are_checked_as_a_whole),
    };
    return cmocka_run_group_tests_name("config_topics", tests, NULL, NULL);
}
