/*
 * shoald: reads the command line and becomes the master (in the foreground), a check of the configuration,
 * or, when the master exec'd it, a child.
 */
#include "node/child.h"
#include "node/child_private.h"
#include "node/master.h"
#include "shared/config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static const char help[] =
    "shoald " SHOAL_VERSION ": an MQTT broker node\n"
    "\n"
    "  shoald -c FILE             run the node in the foreground, log to standard error\n"
    "  shoald -c FILE --check     validate configuration, certificates and keys; bind nothing\n"
    "  shoald --cluster FILE --node NAME   run one node of a cluster (--check as well)\n"
    "  shoald --help-config       the reference of all configuration keys (--markdown: as tables)\n"
    "  shoald --version\n"
    "  shoald --help\n"
    "\n"
    "SIGTERM and SIGINT stop the node within 5 s, a second one at once. shoalctl(1) shows its state.\n"
    "\n"
    "Exit codes:\n"
    "  0  stopped in order, or --check found nothing wrong\n"
    "  1  the configuration, a certificate or a key is wrong; every error is printed\n"
    "  2  the command line is wrong\n"
    "  3  could not start: an address is in use, a folder cannot be made, another shoald runs, no memory\n"
    "  4  stopped, but a worker had to be killed: it was too slow, or a second signal came\n";

enum action {
    ACTION_RUN,
    ACTION_CHECK,
    ACTION_HELP,
    ACTION_HELP_CONFIG,
    ACTION_HELP_CONFIG_MARKDOWN,
    ACTION_VERSION
};

struct command_line {
    enum action action;
    struct config_source source;
};

/* Whatever is opened later must not get a number that means standard input, output or error. */
static void open_standard_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

static int usage_error(const char *text, const char *argument)
{
    fprintf(stderr, "shoald: %s%s\nTry shoald --help\n", text, argument);
    return MASTER_EXIT_USAGE;
}

/* 0, or an exit code after printing what is wrong. */
static int parse(int count, char **arguments, struct command_line *ret_line)
{
    static const struct {
        const char *option;
        enum action action;
    } options[] = {{"--check", ACTION_CHECK}, {"--help", ACTION_HELP}, {"-h", ACTION_HELP},
        {"--help-config", ACTION_HELP_CONFIG}, {"--markdown", ACTION_HELP_CONFIG_MARKDOWN},
        {"--version", ACTION_VERSION}};
    struct command_line line = {.action = ACTION_RUN};
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "-c") == 0 || strcmp(arguments[i], "--config") == 0) {
            if (++i == count)
                return usage_error("a file name must follow ", arguments[i - 1]);
            line.source = (struct config_source){.file = arguments[i], .node = line.source.node};
            continue;
        }
        if (strcmp(arguments[i], "--cluster") == 0) {
            if (++i == count)
                return usage_error("a file name must follow ", arguments[i - 1]);
            line.source =
                (struct config_source){.file = arguments[i], .cluster = true, .node = line.source.node};
            continue;
        }
        if (strcmp(arguments[i], "--node") == 0) {
            if (++i == count)
                return usage_error("the name of a node must follow ", arguments[i - 1]);
            line.source.node = arguments[i];
            continue;
        }
        size_t found = 0;
        while (found < sizeof options / sizeof *options && strcmp(options[found].option, arguments[i]) != 0)
            found++;
        if (found == sizeof options / sizeof *options)
            return usage_error("unknown argument ", arguments[i]);
        line.action = options[found].action;
    }
    if (line.source.file == NULL && (line.action == ACTION_RUN || line.action == ACTION_CHECK))
        return usage_error("no configuration: ", "-c FILE, or --cluster FILE --node NAME");
    if (line.source.node != NULL && !line.source.cluster)
        return usage_error("--node needs ", "--cluster FILE");
    *ret_line = line;
    return 0;
}

static int run(const struct command_line *line)
{
    switch (line->action) {
    case ACTION_RUN:
        return master_main(&line->source);
    case ACTION_CHECK:
        return master_check(&line->source);
    case ACTION_HELP:
        fputs(help, stdout);
        break;
    case ACTION_HELP_CONFIG:
        config_print_reference(stdout);
        break;
    case ACTION_HELP_CONFIG_MARKDOWN:
        config_print_reference_markdown(stdout);
        break;
    case ACTION_VERSION:
        puts("shoald " SHOAL_VERSION);
        break;
    }
    return MASTER_EXIT_OK;
}

/* shoald --child ROLE --slot N: only the master calls it so. */
static int run_child(int count, char **arguments)
{
    enum child_role role;
    if (count != 5 || strcmp(arguments[3], "--slot") != 0 || !child_role_from_name(arguments[2], &role))
        return usage_error("--child is for the master alone", "");
    unsigned slot = (unsigned)strtoul(arguments[4], NULL, 10);
    char name[16]; /* the kernel keeps 15 bytes; ps shows role and slot by the arguments */
    snprintf(name, sizeof name, "shoald-%.6s%u", child_role_name(role), slot % 100);
    prctl(PR_SET_NAME, name, 0, 0, 0);
    return child_main(role, slot);
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], "--child") == 0)
        return run_child(count, arguments);
    open_standard_descriptors();
    struct command_line line;
    int code = parse(count, arguments, &line);
    return code != 0 ? code : run(&line);
}
