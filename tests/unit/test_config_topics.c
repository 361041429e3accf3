/* Configuration values about topics: what is taken, what is refused and with which words, and that they come
 * through the hand-over unchanged. */
#include "shared/config.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mountpoints_are_whole_levels),
    };
    return cmocka_run_group_tests_name("config_topics", tests, NULL, NULL);
}
