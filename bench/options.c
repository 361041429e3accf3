/* Command line of shoal-bench: getopt_long over one table that is also the help. */
#include "bench/options.h"

#include <getopt.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct option_row {
    const char *name;
    bool value;
    const char *text;
};

static const struct option_row rows[] = {
    {"host", true, "broker's host (127.0.0.1)"},
    {"port", true, "broker's port; without it only the floor is measured"},
    {"broker-pid", true, "its process: CPU and memory are those of the whole tree"},
    {"tls", false, "TLS"},
    {"cafile", true, "CA to verify the broker with"},
    {"cert", true, "client certificate"},
    {"key", true, "its key"},
    {"tls-version", true, "1.2 or 1.3"},
    {"mqtt", true, "4 (3.1.1, the default) or 5"},
    {"qos", true, "0, 1 or 2 (0)"},
    {"pairs", true, "p2p: pairs (10)"},
    {"subscribers", true, "fanout: subscribers (100)"},
    {"publishers", true, "fanin: publishers (50)"},
    {"size", true, "payload bytes, at least 24 (64)"},
    {"inflight", true, "messages in flight per publisher (64; fanin 16)"},
    {"rate", true, "publications a second in all, latency from the intended time (0: closed loop)"},
    {"connections", true, "handshake: clients at once (50); idle: in all (1000)"},
    {"seconds", true, "length of a measurement (3)"},
    {"rounds", true, "measurements of floor and broker in turn; medians count (3)"},
    {"resume", false, "handshake: resume the earlier TLS session"},
    {"no-floor", false, "leave the floor out"},
};

#define ROWS (sizeof rows / sizeof *rows)

void options_print(void)
{
    for (size_t i = 0; i < ROWS; i++)
        printf("  --%-14s %s%s\n", rows[i].name, rows[i].value ? "X  " : "   ", rows[i].text);
}

static bool set(struct options *options, const char *name, const char *value)
{
    uint32_t number = value == NULL ? 0 : (uint32_t)strtoul(value, NULL, 10);
    struct {
        const char *name;
        uint32_t *to;
    } numbers[] = {{"pairs", &options->pairs}, {"subscribers", &options->subscribers},
        {"publishers", &options->publishers}, {"size", &options->size}, {"inflight", &options->inflight},
        {"rate", &options->rate}, {"connections", &options->connections}, {"rounds", &options->rounds}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (strcmp(name, numbers[i].name) == 0) {
            *numbers[i].to = number;
            return true;
        }
    }
    if (strcmp(name, "host") == 0)
        options->host = value;
    else if (strcmp(name, "port") == 0)
        options->port = (uint16_t)number;
    else if (strcmp(name, "broker-pid") == 0)
        options->broker_pid = (pid_t)number;
    else if (strcmp(name, "tls") == 0)
        options->tls = true;
    else if (strcmp(name, "cafile") == 0)
        options->files.cafile = value;
    else if (strcmp(name, "cert") == 0)
        options->files.certfile = value;
    else if (strcmp(name, "key") == 0)
        options->files.keyfile = value;
    else if (strcmp(name, "tls-version") == 0)
        options->files.version = strcmp(value, "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
    else if (strcmp(name, "mqtt") == 0)
        options->version = number == 5 ? 5 : 4;
    else if (strcmp(name, "qos") == 0)
        options->qos = (uint8_t)number;
    else if (strcmp(name, "seconds") == 0)
        options->seconds = strtod(value, NULL);
    else if (strcmp(name, "resume") == 0)
        options->resume = true;
    else
        options->no_floor = true;
    return true;
}

static bool check(const struct options *options)
{
    if (options->qos <= 2 && options->size >= 24 && options->pairs > 0 && options->subscribers > 0 &&
        options->publishers > 0 && options->rounds > 0 && options->rounds <= 99 && options->seconds > 0 &&
        options->connections > 0)
        return true;
    fprintf(stderr,
        "shoal-bench: a value is out of range (qos 0-2, size from 24, rounds 1-99, counts above 0)\n");
    return false;
}

bool options_parse(int argc, char **argv, struct options *ret_options)
{
    *ret_options = (struct options){.host = "127.0.0.1",
        .version = 4,
        .pairs = 10,
        .subscribers = 100,
        .publishers = 50,
        .size = 64,
        .connections = 0,
        .seconds = 3,
        .rounds = 3};
    struct option table[ROWS + 1];
    memset(table, 0, sizeof table);
    for (size_t i = 0; i < ROWS; i++)
        table[i] = (struct option){rows[i].name, rows[i].value ? required_argument : no_argument, NULL, 1};
    int index = 0;
    int found;
    optind = 1;
    while ((found = getopt_long(argc, argv, "", table, &index)) != -1) {
        if (found != 1)
            return false;
        set(ret_options, rows[index].name, optarg);
    }
    if (optind < argc) {
        fprintf(stderr, "shoal-bench: what is «%s»?\n", argv[optind]);
        return false;
    }
    if (ret_options->connections == 0)
        ret_options->connections = strcmp(argv[0], "idle") == 0 ? 1000 : 50;
    if (ret_options->inflight == 0)
        ret_options->inflight = strcmp(argv[0], "fanin") == 0 ? 16 : 64;
    return check(ret_options);
}
