/*
 * Cluster files: what is said for all lies under what a node says itself, %n is its name, errors name the
 * place in the file, and children get the list of nodes. Works in a temporary folder of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shared/config.h"
#include "shared/config_cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUS   "\"bus\": {\"keyfile\": \"%n.key\", \"certfile\": \"%n.pem\", \"cacertfile\": \"ca.pem\"}"
#define NODE1 "{\"name\": \"n1\", \"bus\": \"127.0.0.1:4370\"}"
#define NODE2                                                                                                \
    "{\"name\": \"n2\", \"bus\": \"[::1]:4371\", \"mqtt\": {\"max_qos\": 1},\n"                              \
    " \"listeners\": {\"tcp:a\": {\"bind\": \"2\"}}}"
#define DEFAULTS                                                                                             \
    "\"defaults\": {\"node\": {\"workers\": 3},\n \"mqtt\": {\"max_qos\": 2, \"max_inflight\": 7},\n"        \
    " \"listeners\": {\"tcp:a\": {\"bind\": \"1\", \"backlog\": 9}}}"

#define NODES "\"nodes\": [" NODE1 ",\n" NODE2 "]}"

static char folder[64], file[128];

static void write_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *to = fopen(path, "w");
    assert_non_null(to);
    fputs(text, to);
    fclose(to);
}

static int set_up(void **state)
{
    (void)state;
    static const char *const names[] = {"n1.key", "n1.pem", "n2.key", "n2.pem", "ca.pem"};
    snprintf(folder, sizeof folder, "/tmp/test_config_cluster.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/cluster.json", folder);
    assert_int_equal(chdir(folder), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        write_file(names[i], "content\n");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static struct config *load_fine(const char *text, const char *node)
{
    struct config *config = NULL;
    struct config_errors errors = {0};
    write_file("cluster.json", text);
    enum status status = config_load_cluster(file, node, &config, &errors);
    config_errors_print(&errors, stderr);
    config_errors_done(&errors);
    assert_int_equal(status, STATUS_OK);
    return config;
}

static void expect_error(const char *text, const char *node, const char *part)
{
    struct config *config = NULL;
    struct config_errors errors = {0};
    bool found = false;
    write_file("cluster.json", text);
    assert_int_equal(config_load_cluster(file, node, &config, &errors), STATUS_INVALID);
    for (size_t i = 0; i < errors.count; i++)
        found |= strstr(errors.entries[i].text, part) != NULL;
    if (!found)
        config_errors_print(&errors, stderr);
    config_errors_done(&errors);
    assert_true(found);
}

static void node_lies_over_defaults(void **state)
{
    (void)state;
    const char *text = "{\"cluster\": \"c\",\n" BUS ",\n" DEFAULTS ",\n\"nodes\": [" NODE1 ",\n" NODE2 "]}";
    char path[128];
    struct config *config = load_fine(text, "n2");
    assert_string_equal(config->node.name, "n2");
    assert_int_equal(config->node.workers, 3);
    assert_int_equal(config->mqtt.max_qos, 1);
    assert_int_equal(config->mqtt.max_inflight, 7);
    assert_int_equal(config->listeners[0].bind.port, 2);
    assert_int_equal(config->listeners[0].backlog, 9);
    snprintf(path, sizeof path, "%s/n2.key", folder);
    assert_string_equal(config->bus.keyfile, path);
    snprintf(path, sizeof path, "%s/data/n2", folder);
    assert_string_equal(config->node.data_dir, path);
    assert_int_equal(config->cluster.count, 2);
    assert_int_equal(config->cluster.self, 1);
    assert_int_equal(config->cluster.nodes[1].bus.port, 4371);
    config_free(&config);
    config = load_fine(text, "n1");
    assert_int_equal(config->mqtt.max_qos, 2);
    assert_int_equal(config->listeners[0].bind.port, 1);
    config_free(&config);
}

static void errors_name_their_place(void **state)
{
    (void)state;
    expect_error("{\"cluster\": \"c\",\n" BUS ",\n\"defaults\": {\"mqtt\": {\"max_qoz\": 2}},\n" NODES, "n2",
        "cluster.json:3: defaults.mqtt.max_qoz: no such key; did you mean \"max_qos\"?");
    expect_error("{\"cluster\": \"c\",\n" BUS ",\n" DEFAULTS ",\n\"nodes\": [" NODE1
                 ",\n{\"name\": \"n2\", \"bus\": \"127.0.0.1:1\",\n\"mqtt\": {\"max_qos\": 4}}]}",
        "n2", ":8: nodes[1].mqtt.max_qos: found 4");
    const char *text = "{\"cluster\": \"c\",\n\"bus\": {\"keyfile\": \"no.key\"},\n" DEFAULTS ",\n" NODES;
    expect_error(text, "n1", ":2: bus.keyfile: found \"no.key\"");
    expect_error(text, "n1", "the key \"certfile\" is missing");
    expect_error(text, "n7", "found no node n7; allowed: --node with one of n1, n2");
    expect_error(text, NULL, "which of them is to run was not said");
    expect_error(
        "{\"cluster\": \"c\", \"nodes\": [" NODE1 ", " NODE1 "]}", "n1", "found \"n1\" a second time");
    expect_error("{\"cluster\": \"c\", \"node\": {}, \"nodes\": [" NODE1 "]}", "n1", "node: no such key");
    expect_error("{\"cluster\": \"c\", \"nodes\": [{\"name\": \"n1\", \"bus\": \"4370\"}]}", "n1",
        "nodes[0].bus: not an address with a port");
    expect_error("{\"cluster\": \"c\"}", "n1", "the list of nodes is missing");
}

static void places_on_the_bus_are_bounded(void **state)
{
    (void)state;
    expect_error("{\"cluster\": \"c\", " BUS ", \"defaults\": {\"node\": {\"workers\": 62}, \"listeners\": "
                 "{\"tcp:a\": {\"bind\": \"1\"}}}, \"nodes\": [" NODE1 ", " NODE2 "]}",
        "n1", "found 62; allowed in a cluster of 2 nodes: at most 61");
}

static void files_of_the_link_belong_to_a_cluster(void **state)
{
    (void)state;
    static const char text[] =
        "{\"listeners\": {\"tcp:a\": {\"bind\": \"1\"}}, \"bus\": {\"keyfile\": \"n1.key\"}}";
    struct config *config = NULL;
    struct config_errors errors = {0};
    assert_int_equal(config_load_text(text, sizeof text - 1, "x.json", &config, &errors), STATUS_INVALID);
    assert_non_null(strstr(errors.entries[0].text, "bus.keyfile: a node alone has no link"));
    config_errors_done(&errors);
}

static void children_get_the_list_of_nodes(void **state)
{
    (void)state;
    struct config *config =
        load_fine("{\"cluster\": \"c\",\n" BUS ",\n" DEFAULTS ",\n\"nodes\": [" NODE1 ",\n" NODE2 "]}", "n2");
    struct config *handed = NULL;
    struct config_errors errors = {0};
    char *text = config_to_json(config);
    assert_int_equal(config_load_handed(text, strlen(text), &handed, &errors), STATUS_OK);
    assert_int_equal(handed->cluster.count, 2);
    assert_int_equal(handed->cluster.self, 1);
    assert_string_equal(handed->cluster.name, "c");
    assert_string_equal(handed->cluster.nodes[0].name, "n1");
    assert_string_equal(handed->cluster.nodes[1].bus.text, "[::1]:4371");
    assert_int_equal(handed->cluster.nodes[1].id, config->cluster.nodes[1].id);
    assert_int_not_equal(handed->cluster.nodes[0].id, handed->cluster.nodes[1].id);
    free(text);
    config_free(&handed);
    config_free(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(node_lies_over_defaults),
        cmocka_unit_test(errors_name_their_place),
        cmocka_unit_test(places_on_the_bus_are_bounded),
        cmocka_unit_test(files_of_the_link_belong_to_a_cluster),
        cmocka_unit_test(children_get_the_list_of_nodes),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
