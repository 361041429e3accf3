/*
 * shoal-bench: loads an MQTT broker and the floor beside it in turn, and says what a message costs: CPU of
 * the broker's whole process tree per delivered message, and the same as a multiple of the floor's in the
 * same run.
 */
#include "bench/connections.h"
#include "bench/floor.h"
#include "bench/options.h"
#include "bench/traffic.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUNDS_MAX 99

struct samples { /* one figure over the rounds */
    double values[ROUNDS_MAX];
    unsigned count;
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(struct samples *samples)
{
    if (samples->count == 0)
        return 0;
    qsort(samples->values, samples->count, sizeof(double), compare);
    return samples->values[samples->count / 2];
}

struct figures { /* of one target */
    struct samples cpu_us, per_second;
};

struct run {
    const struct options *options;
    int kind; /* enum traffic_kind, or -1: handshake */
    struct target targets[2];
    struct figures figures[2];
    unsigned targets_count;
};

static bool round_of_traffic(struct run *run, unsigned which)
{
    static struct traffic_result result;
    struct target *target = &run->targets[which];
    if (!traffic_run((enum traffic_kind)run->kind, run->options, target, &result))
        return false;
    double messages = (double)result.delivered;
    double cpu_us = result.delivered == 0 ? 0 : (double)result.broker_cpu_us / messages;
    printf("%-7s %9.0f msg/s  %7.3f us CPU/msg  (tool %5.3f, %3.0f %% of a core)  latency p50 %5llu p99 "
           "%6llu max %7llu us"
           "  lost %lld  doubled %llu  gaps %llu\n",
        target->name, messages / result.seconds, cpu_us, (double)result.own_cpu_us / messages,
        (double)result.own_cpu_us / result.seconds / 1e4,
        (unsigned long long)histogram_quantile(&result.latency_us, 0.5),
        (unsigned long long)histogram_quantile(&result.latency_us, 0.99),
        (unsigned long long)result.latency_us.max, (long long)(result.expected - result.received),
        (unsigned long long)result.doubled, (unsigned long long)result.gaps);
    run->figures[which].cpu_us.values[run->figures[which].cpu_us.count++] = cpu_us;
    run->figures[which].per_second.values[run->figures[which].per_second.count++] = messages / result.seconds;
    return true;
}

static bool round_of_handshakes(struct run *run, unsigned which)
{
    static struct handshake_result result;
    struct target *target = &run->targets[which];
    if (!handshake_run(run->options, target, &result))
        return false;
    double done = (double)result.done;
    double cpu_us = result.done == 0 ? 0 : (double)result.broker_cpu_us / done;
    printf("%-7s %8.0f connections/s  %7.1f us CPU each  (tool %6.1f)  resumed %llu of %llu  CONNACK after "
           "p50 %llu "
           "p99 %llu us\n",
        target->name, done / result.seconds, cpu_us, (double)result.own_cpu_us / done,
        (unsigned long long)result.resumed, (unsigned long long)result.done,
        (unsigned long long)histogram_quantile(&result.latency_us, 0.5),
        (unsigned long long)histogram_quantile(&result.latency_us, 0.99));
    run->figures[which].cpu_us.values[run->figures[which].cpu_us.count++] = cpu_us;
    run->figures[which].per_second.values[run->figures[which].per_second.count++] = done / result.seconds;
    return true;
}

static bool open_targets(struct run *run)
{
    if (!run->options->no_floor && !target_floor(&run->targets[run->targets_count++], run->options))
        return false;
    return run->options->port == 0 || target_broker(&run->targets[run->targets_count++], run->options);
}

static int run_rounds(const struct options *options, int kind)
{
    struct run run = {.options = options, .kind = kind};
    bool good = open_targets(&run);
    for (unsigned round = 0; good && round < options->rounds; round++) {
        for (unsigned i = 0; good && i < run.targets_count; i++)
            good = kind < 0 ? round_of_handshakes(&run, i) : round_of_traffic(&run, i);
    }
    double base = good && !options->no_floor ? median(&run.figures[0].cpu_us) : 0;
    for (unsigned i = 0; good && i < run.targets_count; i++) {
        double cpu_us = median(&run.figures[i].cpu_us);
        printf("median  %-7s %9.0f /s  %7.3f us CPU each", run.targets[i].name,
            median(&run.figures[i].per_second), cpu_us);
        if (base > 0)
            printf("  = %.2f x floor", cpu_us / base);
        printf("\n");
    }
    for (unsigned i = 0; i < run.targets_count; i++)
        target_done(&run.targets[i]);
    return good ? 0 : 1;
}

static int run_idle(const struct options *options)
{
    struct target target;
    struct idle_result result;
    if (options->port != 0 && options->broker_pid == 0) {
        fprintf(stderr, "shoal-bench: idle needs --broker-pid: it measures memory\n");
        return 2;
    }
    bool good = options->port == 0 ? target_floor(&target, options) : target_broker(&target, options);
    if (good)
        good = idle_run(options, &target, &result);
    if (good)
        printf("%s: %u connections held: %.0f bytes PSS and %.0f private each, %.2f %% of a core\n"
               "memory: %.1f MB before, %.1f MB with them, %.1f MB 5 s after they left (%.2f x)\n",
            target.name, result.connections,
            (double)(result.pss_held - result.pss_before) / result.connections,
            (double)(result.private_held - result.private_before) / result.connections,
            result.cpu_share * 100, (double)result.private_before / 1e6, (double)result.private_held / 1e6,
            (double)result.private_after / 1e6, (double)result.private_after / (double)result.private_before);
    target_done(&target);
    return good ? 0 : 1;
}

/* The relay alone, on --port, for other load generators. */
static int run_floor(const struct options *options)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    inet_pton(AF_INET, options->host, &address.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0) {
        fprintf(stderr, "shoal-bench: floor: %s:%u: %s\n", options->host, options->port, strerror(errno));
        return 3;
    }
    floor_run(fd, options->tls ? &options->files : NULL);
    return 0;
}

static int usage(int code)
{
    printf("shoal-bench SCENARIO [options]\n"
           "  p2p        pairs of a publisher and a subscriber\n"
           "  fanout     one publisher, many subscribers\n"
           "  fanin      many publishers, one subscriber\n"
           "  handshake  connect, CONNECT, disconnect, again\n"
           "  idle       hold connections; memory\n"
           "  floor      serve as the relay without logic on --port until killed\n"
           "Each but the last runs the floor and the broker in turn. Options:\n");
    options_print();
    return code;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return usage(2);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
        return usage(0);
    if (strcmp(argv[1], "--version") == 0) {
        printf("shoal-bench " SHOAL_VERSION "\n");
        return 0;
    }
    struct options options;
    if (!options_parse(argc - 1, argv + 1, &options))
        return 2;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    static const struct {
        const char *name;
        int kind;
    } scenarios[] = {
        {"p2p", TRAFFIC_P2P}, {"fanout", TRAFFIC_FANOUT}, {"fanin", TRAFFIC_FANIN}, {"handshake", -1}};
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        if (strcmp(argv[1], scenarios[i].name) == 0)
            return run_rounds(&options, scenarios[i].kind);
    }
    if (strcmp(argv[1], "idle") == 0)
        return run_idle(&options);
    if (strcmp(argv[1], "floor") == 0)
        return run_floor(&options);
    return usage(2);
}
