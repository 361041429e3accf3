/* shoalctl: asks a running node for its state, stops it, converts configurations. A program of its own. */
#include "node/shoalctl.h"

#include "node/master_control.h"
#include "node/shoalctl_import.h"
#include "shared/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STOP_TIMEOUT_S 10

static const char help[] =
    "shoalctl " SHOAL_VERSION ": controls a Shoal node\n"
    "\n"
    "  shoalctl -c FILE status [--json]   processes, listeners, connections, counters, bus lanes\n"
    "  shoalctl -c FILE stop              stops the node and waits for its end\n"
    "  shoalctl import-emq FILE [-o OUT]  converts an EMQ 2.x emq.conf into a configuration of Shoal\n"
    "  shoalctl --version | --help\n"
    "\n"
    "FILE is the node's configuration, which says where its control socket is; for one node of a cluster\n"
    "write --cluster FILE --node NAME; --socket PATH names the socket itself. Only root and the node's user "
    "get an answer.\n"
    "\n"
    "Exit codes:\n"
    "  0  done\n"
    "  1  the configuration file cannot be read or not converted\n"
    "  2  the command line is wrong\n"
    "  3  no node runs there, or it does not answer\n"
    "  4  the node refused the command\n";

struct command_line {
    struct config_source source;
    const char *socket;
    const char *command;
    bool json;
};

static int usage_error(const char *text, const char *argument)
{
    fprintf(stderr, "shoalctl: %s%s\nTry shoalctl --help\n", text, argument);
    return SHOALCTL_EXIT_USAGE;
}

/* 0, or an exit code after printing what is wrong. */
static int parse(int count, char **arguments, struct command_line *ret_line)
{
    struct command_line line = {0};
    for (int i = 1; i < count; i++) {
        const char *argument = arguments[i];
        const char **value = NULL;
        if (strcmp(argument, "-c") == 0 || strcmp(argument, "--config") == 0)
            value = &line.source.file;
        else if (strcmp(argument, "--cluster") == 0)
            value = &line.source.file, line.source.cluster = true;
        else if (strcmp(argument, "--node") == 0)
            value = &line.source.node;
        else if (strcmp(argument, "--socket") == 0)
            value = &line.socket;
        if (value != NULL) {
            if (++i == count)
                return usage_error("something must follow ", argument);
            *value = arguments[i];
        } else if (strcmp(argument, "--json") == 0) {
            line.json = true;
        } else if (argument[0] == '-' || line.command != NULL) {
            return usage_error("unknown argument ", argument);
        } else {
            line.command = argument;
        }
    }
    if (line.command == NULL)
        return usage_error("no command: ", "status, stop or import-emq");
    if (strcmp(line.command, "status") != 0 && strcmp(line.command, "stop") != 0)
        return usage_error("unknown command ", line.command);
    if (line.source.file == NULL && line.socket == NULL)
        return usage_error("which node? ", "-c FILE, --cluster FILE --node NAME, or --socket PATH");
    *ret_line = line;
    return 0;
}

/* The path of the control socket, to free(); NULL after printing what is wrong. */
static char *socket_path(const struct command_line *line)
{
    if (line->socket != NULL)
        return strdup(line->socket);
    struct config_errors errors = {0};
    struct config *config = NULL;
    enum status status = config_load_source(&line->source, &config, &errors);
    if (status != STATUS_OK) {
        config_errors_print(&errors, stderr);
        fputs("shoalctl: the running node may still be reached with --socket run_dir/" MASTER_CONTROL_NAME
              "\n",
            stderr);
    }
    config_errors_done(&errors);
    if (status != STATUS_OK)
        return NULL;
    char *path = NULL;
    if (asprintf(&path, "%s/" MASTER_CONTROL_NAME, config->node.run_dir) < 0)
        path = NULL;
    config_free(&config);
    return path;
}

static void print_json(const json_t *answer)
{
    json_dumpf(answer, stdout, JSON_INDENT(2));
    putchar('\n');
}

static int wait_for_end(int fd)
{
    if (shoalctl_wait_end(fd, STOP_TIMEOUT_S) == STATUS_OK) {
        puts("stopped");
        return SHOALCTL_EXIT_OK;
    }
    fprintf(stderr, "shoalctl: the node did not end within %d s; its log says what it waits for\n",
        STOP_TIMEOUT_S);
    return SHOALCTL_EXIT_NO_ANSWER;
}

static int converse(const struct command_line *line, int fd)
{
    json_t *answer;
    if (shoalctl_ask(fd, line->command, &answer) != STATUS_OK)
        return SHOALCTL_EXIT_NO_ANSWER;
    int code = SHOALCTL_EXIT_OK;
    if (!json_is_true(json_object_get(answer, "ok"))) {
        const char *error = json_string_value(json_object_get(answer, "error"));
        fprintf(stderr, "shoalctl: the node refused: %s\n", error != NULL ? error : "no reason given");
        code = SHOALCTL_EXIT_REFUSED;
    } else if (strcmp(line->command, "stop") == 0) {
        code = wait_for_end(fd);
    } else if (line->json) {
        print_json(answer);
    } else {
        shoalctl_print_status(answer);
    }
    json_decref(answer);
    return code;
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], "import-emq") == 0)
        return shoalctl_import_emq(count - 1, arguments + 1);
    if (count == 2 && (strcmp(arguments[1], "--help") == 0 || strcmp(arguments[1], "-h") == 0)) {
        fputs(help, stdout);
        return SHOALCTL_EXIT_OK;
    }
    if (count == 2 && strcmp(arguments[1], "--version") == 0) {
        puts("shoalctl " SHOAL_VERSION);
        return SHOALCTL_EXIT_OK;
    }
    struct command_line line;
    int code = parse(count, arguments, &line);
    if (code != 0)
        return code;
    char *path = socket_path(&line);
    if (path == NULL)
        return SHOALCTL_EXIT_CONFIG;
    int fd;
    enum status status = shoalctl_connect(path, &fd);
    free(path);
    if (status != STATUS_OK)
        return SHOALCTL_EXIT_NO_ANSWER;
    code = converse(&line, fd);
    close(fd);
    return code;
}
