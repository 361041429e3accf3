/* Prints a node's state as tables for a person; --json prints the same untouched. */
#include "node/shoalctl.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value != NULL ? value : "-";
}

static json_int_t number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* A number, or "-" where there is none. */
static const char *number_text(const json_t *object, const char *key, char *to, size_t size)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value))
        return "-";
    snprintf(to, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    return to;
}

static const char *duration_text(const json_t *object, const char *key, char *to, size_t size)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value))
        return "-";
    json_int_t s = json_integer_value(value);
    if (s < 60)
        snprintf(to, size, "%" JSON_INTEGER_FORMAT " s", s);
    else if (s < 3600)
        snprintf(to, size, "%" JSON_INTEGER_FORMAT " min %" JSON_INTEGER_FORMAT " s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(to, size, "%" JSON_INTEGER_FORMAT " h %" JSON_INTEGER_FORMAT " min", s / 3600, s / 60 % 60);
    else
        snprintf(to, size, "%" JSON_INTEGER_FORMAT " d %" JSON_INTEGER_FORMAT " h", s / 86400, s / 3600 % 24);
    return to;
}

static void print_process(const json_t *process)
{
    char name[32], pid[24], uptime[48], restarts[24], connections[24], sessions[24], served[32] = "";
    if (json_is_integer(json_object_get(process, "slot")))
        snprintf(name, sizeof name, "%.20s %d", text(process, "role"), (int)number(process, "slot"));
    else
        snprintf(name, sizeof name, "%.20s", text(process, "role"));
    if (json_is_integer(json_object_get(process, "served_by")))
        snprintf(served, sizeof served, " (worker %d serves)", (int)number(process, "served_by"));
    printf("  %-10s %8s  %-14s %8s %11s %9s  %s%s\n", name, number_text(process, "pid", pid, sizeof pid),
        duration_text(process, "uptime_s", uptime, sizeof uptime),
        number_text(process, "restarts", restarts, sizeof restarts),
        number_text(process, "connections", connections, sizeof connections),
        number_text(process, "sessions", sessions, sizeof sessions), text(process, "state"), served);
}

static void print_processes(const json_t *status)
{
    printf("processes\n  %-10s %8s  %-14s %8s %11s %9s  state\n", "name", "pid", "up for", "restarts",
        "connections", "sessions");
    size_t i;
    const json_t *process;
    json_array_foreach(json_object_get(status, "processes"), i, process) print_process(process);
}

static void print_listeners(const json_t *status)
{
    printf("\nlisteners\n  %-16s %-24s %12s\n", "name", "address", "connections");
    size_t i;
    const json_t *listener;
    json_array_foreach(json_object_get(status, "listeners"), i, listener)
    {
        char connections[24];
        printf("  %-16s %-24s %12s  %s%s\n", text(listener, "name"), text(listener, "address"),
            number_text(listener, "connections", connections, sizeof connections),
            json_is_true(json_object_get(listener, "tls")) ? "TLS, " : "",
            json_is_true(json_object_get(listener, "anonymous")) ? "anonymous clients may connect"
                                                                 : "no anonymous clients");
    }
}

/* Totals, and per slot where there are several; only counters that ever moved. */
static void print_counters(const json_t *status)
{
    const json_t *slots = json_object_get(status, "slots");
    size_t count = json_array_size(slots);
    puts("\ncounters (total, then per worker; those at 0 are left out)");
    const char *name;
    const json_t *total;
    json_object_foreach(json_object_get(status, "counters"), name, total)
    {
        if (json_integer_value(total) == 0 || strcmp(name, "node_started_ms") == 0) /* a time, shown above */
            continue;
        printf("  %-26s %14" JSON_INTEGER_FORMAT, name, json_integer_value(total));
        for (size_t slot = 0; count > 1 && slot < count; slot++)
            printf(" %12" JSON_INTEGER_FORMAT, number(json_array_get(slots, slot), name));
        putchar('\n');
    }
}

static void print_lanes(const json_t *status)
{
    size_t i;
    const json_t *lane;
    bool titled = false;
    json_array_foreach(json_object_get(status, "lanes"), i, lane)
    {
        json_int_t waiting = number(lane, "waiting_bytes");
        if (waiting == 0)
            continue;
        if (!titled)
            puts("\nbus lanes with something waiting");
        titled = true;
        printf("  %d → %d: %" JSON_INTEGER_FORMAT " bytes\n", (int)number(lane, "from"),
            (int)number(lane, "to"), waiting);
    }
}

static void print_reload_state(const json_t *reload)
{
    printf("generation %" JSON_INTEGER_FORMAT ", reload %s", number(reload, "generation"),
        text(reload, "state"));
    if (json_is_string(json_object_get(reload, "last")))
        printf(", the last one %s at %s",
            json_is_array(json_object_get(reload, "failure")) ? "FAILED" : "done", text(reload, "last"));
    puts("");
    size_t i;
    const json_t *error;
    json_array_foreach(json_object_get(reload, "failure"), i, error)
        printf("  %s\n", json_string_value(error));
    puts("");
}

void shoalctl_print_status(const json_t *status)
{
    printf("node %s, shoald %s, configuration %s\n", text(status, "node"), text(status, "version"),
        text(status, "config"));
    print_reload_state(json_object_get(status, "reload"));
    print_processes(status);
    print_listeners(status);
    print_counters(status);
    print_lanes(status);
}

static void print_date(const json_t *object, const char *key)
{
    json_int_t value = number(object, key);
    char text_of[32] = "-";
    time_t time_s = (time_t)value;
    struct tm parts;
    if (value != 0 && gmtime_r(&time_s, &parts) != NULL)
        strftime(text_of, sizeof text_of, "%Y-%m-%d", &parts);
    printf(" %11s", text_of);
}

static void print_node(const json_t *node)
{
    static const char *const columns[] = {
        "round_trip_us", "routes", "frames_sent", "frames_received", "backlog_bytes", "lost", "sessions"};
    char value[24];
    printf("  %-16s %-22s %-12s", text(node, "name"), text(node, "address"), text(node, "state"));
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        printf(" %10s", number_text(node, columns[i], value, sizeof value));
    print_date(node, "certificate_ends_s");
    puts("");
    if (*text(node, "refusal") != '-' && *text(node, "refusal") != '\0')
        printf("    last trouble: %s\n", text(node, "refusal"));
}

bool shoalctl_print_cluster(const json_t *status)
{
    const json_t *cluster = json_object_get(status, "cluster"), *node;
    if (!json_is_object(cluster))
        return false;
    printf("cluster %s, seen by node %s\n  %-16s %-22s %-12s %10s %10s %10s %10s %10s %10s %10s %11s\n",
        text(cluster, "name"), text(status, "node"), "node", "address", "state", "rtt µs", "routes", "sent",
        "received", "backlog", "lost", "sessions", "cert. ends");
    size_t i;
    json_array_foreach(json_object_get(cluster, "nodes"), i, node) print_node(node);
    return true;
}
