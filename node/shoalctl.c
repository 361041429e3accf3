/* shoalctl: asks a running node for its state, stops it, converts configurations, hashes passwords. A program
   of its own. */
#include "node/shoalctl.h"

#include "node/master_control.h"
#include "node/shoalctl_import.h"
#include "node/shoalctl_password.h"
#include "shared/config.h"
#include "shared/config_path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STOP_TIMEOUT_S 10
/* A worker may take 20 s to switch (a stopped one), and again to go back. */
#define RELOAD_TIMEOUT_S 120
#define ANSWER_TIMEOUT_S 5

static const char help[] =
    "shoalctl " SHOAL_VERSION ": controls a Shoal node\n"
    "\n"
    "  shoalctl -c FILE status [--json]   processes, listeners, connections, counters, bus lanes\n"
    "  shoalctl -c FILE stop              stops the node and waits for its end\n"
    "  shoalctl --cluster FILE --node NAME cluster status [--json]   the other nodes, as this one sees them\n"
    "  shoalctl -c FILE certs [--json]    certificates in use: for whom, by whom, how many days are left\n"
    "  shoalctl -c FILE reload [--json]   reads configuration and certificates anew, worker by worker\n"
    "  shoalctl -c FILE reload --dry-run  what that would change, and what is wrong; changes nothing\n"
    "  shoalctl import-emq FILE [-o OUT]  converts an EMQ 2.x emq.conf into a configuration of Shoal\n"
    "  shoalctl hash-password USER [--iterations N]\n"
    "                                     reads a password, prints the user's line for auth.password_file\n"
    "  shoalctl --version | --help\n"
    "\n"
    "FILE is the node's configuration, which says where its control socket is; for one node of a cluster\n"
    "write --cluster FILE --node NAME; --socket PATH names the socket itself. Only root and the node's user "
    "get an answer.\n"
    "\n"
    "Exit codes:\n"
    "  0  done\n"
    "  1  the configuration file cannot be read or not converted, or no password\n"
    "  2  the command line is wrong\n"
    "  3  no node runs there, or it does not answer\n"
    "  4  the node refused the command, or a reload failed (the node goes on unchanged)\n";

struct command_line {
    struct config_source source;
    const char *socket;
    const char *command;
    bool cluster; /* of the cluster */
    bool json;
    bool dry_run;
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
        } else if (strcmp(argument, "--dry-run") == 0) {
            line.dry_run = true;
        } else if (line.command != NULL && strcmp(line.command, "cluster") == 0 &&
                   strcmp(argument, "status") == 0) {
            line.command = "status";
            line.cluster = true;
        } else if (argument[0] == '-' || line.command != NULL) {
            return usage_error("unknown argument ", argument);
        } else {
            line.command = argument;
        }
    }
    if (line.command == NULL)
        return usage_error(
            "no command: ", "status, cluster status, reload, stop, import-emq or hash-password");
    bool reload = strcmp(line.command, "reload") == 0;
    if (!reload && strcmp(line.command, "status") != 0 && strcmp(line.command, "certs") != 0 &&
        strcmp(line.command, "stop") != 0)
        return usage_error("unknown command ", line.command);
    if (line.dry_run && !reload)
        return usage_error("--dry-run is for ", "reload");
    if (line.source.file == NULL && line.socket == NULL)
        return usage_error("which node? ", "-c FILE, --cluster FILE --node NAME, or --socket PATH");
    *ret_line = line;
    return 0;
}

/* Where the socket is by a configuration that is broken elsewhere, to free(); NULL: it cannot be told. */
static char *socket_path_of_broken(const char *name)
{
    char *file = config_path_absolute(name);
    char *base = file != NULL ? config_path_base(file, "conf") : NULL;
    json_t *root = file != NULL ? json_load_file(file, JSON_REJECT_DUPLICATES, NULL) : NULL;
    const json_t *node = json_object_get(root, "node");
    const char *run_dir = json_string_value(json_object_get(node, "run_dir"));
    const char *data_dir = json_string_value(json_object_get(node, "data_dir"));
    char *folder = NULL, *path = NULL;
    if (base != NULL && (run_dir != NULL || data_dir != NULL))
        folder = config_path_join(base, run_dir != NULL ? run_dir : data_dir);
    if (folder != NULL &&
        asprintf(&path, "%s%s/" MASTER_CONTROL_NAME, folder, run_dir != NULL ? "" : "/run") < 0)
        path = NULL;
    free(folder);
    json_decref(root);
    free(base);
    free(file);
    return path;
}

/* The path of the control socket, to free(); NULL after printing what is wrong. */
static char *socket_path(const struct command_line *line)
{
    if (line->socket != NULL)
        return strdup(line->socket);
    struct config_errors errors = {0};
    struct config *config = NULL;
    char *path = NULL;
    enum status status = config_load_source(&line->source, &config, &errors);
    if (status == STATUS_OK && asprintf(&path, "%s/" MASTER_CONTROL_NAME, config->node.run_dir) < 0)
        path = NULL;
    if (status != STATUS_OK && !line->source.cluster)
        path = socket_path_of_broken(line->source.file); /* the node itself will say what is wrong */
    if (path == NULL) {
        config_errors_print(&errors, stderr);
        fputs("shoalctl: the running node may still be reached with --socket run_dir/" MASTER_CONTROL_NAME
              "\n",
            stderr);
    }
    config_errors_done(&errors);
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

/* What the node answered to a command that it took. */
static int show(const struct command_line *line, int fd, const json_t *answer)
{
    bool reload = strcmp(line->command, "reload") == 0;
    if (strcmp(line->command, "stop") == 0)
        return wait_for_end(fd);
    if (line->json) {
        print_json(answer);
        return reload && !json_is_true(json_object_get(answer, "good")) ? SHOALCTL_EXIT_REFUSED
                                                                        : SHOALCTL_EXIT_OK;
    }
    if (reload)
        return shoalctl_print_reload(answer, line->dry_run);
    if (!line->cluster) {
        if (strcmp(line->command, "certs") == 0)
            shoalctl_print_certs(answer);
        else
            shoalctl_print_status(answer);
        return SHOALCTL_EXIT_OK;
    }
    if (shoalctl_print_cluster(answer))
        return SHOALCTL_EXIT_OK;
    fputs("shoalctl: the node is alone: it was started with -c, not --cluster\n", stderr);
    return SHOALCTL_EXIT_REFUSED;
}

static int converse(const struct command_line *line, int fd)
{
    json_t *answer;
    json_t *request = json_pack("{s:s, s:b}", "command", line->command, "dry_run", line->dry_run);
    bool reload = strcmp(line->command, "reload") == 0;
    enum status status = shoalctl_ask(fd, request, reload ? RELOAD_TIMEOUT_S : ANSWER_TIMEOUT_S, &answer);
    json_decref(request);
    if (status != STATUS_OK)
        return SHOALCTL_EXIT_NO_ANSWER;
    int code;
    if (json_is_true(json_object_get(answer, "ok"))) {
        code = show(line, fd, answer);
    } else {
        const char *error = json_string_value(json_object_get(answer, "error"));
        fprintf(stderr, "shoalctl: the node refused: %s\n", error != NULL ? error : "no reason given");
        code = SHOALCTL_EXIT_REFUSED;
    }
    json_decref(answer);
    return code;
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], "import-emq") == 0)
        return shoalctl_import_emq(count - 1, arguments + 1);
    if (count > 1 && strcmp(arguments[1], "hash-password") == 0)
        return shoalctl_hash_password(count - 1, arguments + 1);
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
