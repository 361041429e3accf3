/* The load checker's command line: --name NUMBER, from one table. */
#include "tests/load/options.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option {
    const char *name;
    size_t offset;
    uint32_t normal, most;
    const char *text;
} table[] = {
#define OPTION(name, field, normal, most, text)                                                              \
    {                                                                                                        \
        name, offsetof(struct options, field), normal, most, text                                            \
    }
    OPTION("--port", port, 1883, 65535, "port of a plain listener on 127.0.0.1"),
    OPTION("--tls-port", tls_port, 0, 65535, "port of a TLS listener: every other client takes it"),
    OPTION("--clients", clients, 200, 10000, "clients from the start"),
    OPTION("--watchers", watchers, 4, 8, "those of them that subscribe to everything and to the wills"),
    OPTION("--rate", rate, 4000, 10000000,
        "publications a second in all; 0: as many as the windows let through"),
    OPTION("--window", window, 8, 64, "unacknowledged publications of one client"),
    OPTION("--size", size, 100, 1000000, "bytes of a payload"),
    OPTION("--large-every", large_every, 1000, 1000000000, "every so many publications a large one; 0: none"),
    OPTION("--large-size", large_size, 200000, 1000000, "bytes of a large payload"),
    OPTION("--seconds", seconds, 10, 100000, "publishing ends then, or when «stop» comes by stdin"),
    OPTION("--patience", patience, 20, 1000, "seconds to wait for what is still owed"),
    OPTION("--persistent", persistent, 0, 100, "percent of the clients with persistent sessions"),
    OPTION("--joins", joins, 0, 10000, "clients that come later"),
    OPTION("--join-ms", join_ms, 50, 100000, "one of them every so many milliseconds"),
    OPTION("--movers", movers, 0, 10000,
        "persistent clients that connect again and again, the old connection open"),
    OPTION("--move-ms", move_ms, 100, 100000, "about so often"),
    OPTION("--moves", moves, 100, 1000000, "so many times"),
    OPTION(
        "--expect-sessions", expect_sessions, 0, 1, "a persistent session that is not there is a violation"),
    OPTION("--early", early, 5, 100, "percent of the moves that do not wait for CONNACK of the last one"),
    OPTION("--wills", wills, 1, 1, "clients have wills"),
    OPTION("--seed", seed, 1, UINT32_MAX, "of all random choices"),
#undef OPTION
};

#define OPTIONS (sizeof table / sizeof table[0])

static void help(void)
{
    fprintf(stderr, "shoal-load-check: many MQTT clients with exact books; a JSON summary on stdout.\n"
                    "Exit code: 0 nothing amiss, 1 violations, 2 wrong arguments.\n");
    for (size_t i = 0; i < OPTIONS; i++)
        fprintf(stderr, "  %-18s %s (%u)\n", table[i].name, table[i].text, table[i].normal);
}

static bool read_one(const char *name, const char *value, struct options *options)
{
    for (size_t i = 0; i < OPTIONS; i++) {
        if (strcmp(table[i].name, name) != 0)
            continue;
        char *end;
        unsigned long long number = strtoull(value, &end, 10);
        if (*value == 0 || *end != 0 || number > table[i].most)
            return false;
        uint32_t stored = (uint32_t)number;
        memcpy((char *)options + table[i].offset, &stored, sizeof stored);
        return true;
    }
    return false;
}

bool options_read(int count, char **words, struct options *ret_options)
{
    struct options options;
    for (size_t i = 0; i < OPTIONS; i++)
        memcpy((char *)&options + table[i].offset, &table[i].normal, sizeof(uint32_t));
    for (int i = 1; i < count; i += 2) {
        if (i + 1 >= count || !read_one(words[i], words[i + 1], &options)) {
            if (strcmp(words[i], "--help") != 0)
                fprintf(stderr, "shoal-load-check: %s: unknown, or its value is wrong\n", words[i]);
            help();
            return false;
        }
    }
    if (options.clients == 0 || options.window == 0 || options.watchers + options.movers > options.clients) {
        fprintf(stderr, "shoal-load-check: too few clients\n");
        return false;
    }
    *ret_options = options;
    return true;
}
