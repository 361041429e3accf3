/*
 * Start and end of the master: a checklist of what is opened, in order, and one event loop until the last
 * child has gone. Each part logs its own failures or says what it was making; here they become an exit code.
 */
#include "node/master.h"

#include "node/master_private.h"
#include "shared/clock.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- configuration ---------------------------------------------------------------------------------------
 */

static void print_errors(const char *file, enum status status, const struct config_errors *errors)
{
    config_errors_print(errors, stderr);
    if (status != STATUS_OK && errors->count == errors->warnings)
        fprintf(stderr, "%s: cannot be read: %s\n", file, status_text(status));
}

int master_check(const struct config_source *source)
{
    struct generation *generation = NULL;
    struct config_errors errors = {0};
    enum status status = generation_load(source, NULL, &errors, &generation);
    print_errors(source->file, status, &errors);
    config_errors_done(&errors);
    if (status != STATUS_OK)
        return MASTER_EXIT_CONFIG;
    const struct config *config = generation->config;
    printf("%s: good: node %s, %u worker%s, %zu listener%s\n", source->file, config->node.name,
        (unsigned)config->node.workers, config->node.workers == 1 ? "" : "s", config->listener_count,
        config->listener_count == 1 ? "" : "s");
    generation_free(&generation);
    return MASTER_EXIT_OK;
}

/* ---- signals and commands ---------------------------------------------------------------------------------
 */

static void stop_node(struct master *master, const char *who)
{
    if (!master->children->stopping) {
        log_notice("%s: stops", who);
        master_children_stop(master->children);
        return;
    }
    log_warning("%s: told again, ends at once", who);
    master_children_kill(master->children);
}

static void on_stop_signal(evutil_socket_t number, short what, void *argument)
{
    (void)what;
    stop_node(argument, strsignal((int)number));
}

static void on_hangup(evutil_socket_t number, short what, void *argument)
{
    (void)number;
    (void)what;
    struct master *master = argument;
    if (!master->children->stopping)
        master_reload_begin(master->reload, "SIGHUP", 0);
}

static void on_child_signal(evutil_socket_t number, short what, void *argument)
{
    (void)number;
    (void)what;
    struct master *master = argument;
    master_children_reap(master->children);
}

static enum status open_signals(struct master *master)
{
    static const struct {
        int number;
        event_callback_fn callback;
    } table[MASTER_SIGNALS] = {
        {SIGTERM, on_stop_signal}, {SIGINT, on_stop_signal}, {SIGHUP, on_hangup}, {SIGCHLD, on_child_signal}};
    for (unsigned i = 0; i < MASTER_SIGNALS; i++) {
        master->signals[i] =
            event_new(master->base, table[i].number, EV_SIGNAL | EV_PERSIST, table[i].callback, master);
        if (master->signals[i] == NULL || event_add(master->signals[i], NULL) != 0)
            return STATUS_NO_MEMORY;
    }
    return STATUS_OK;
}

static char *answer_json(json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return text;
}

/* NULL: the report comes when it is over. */
static char *answer_reload(struct master *master, const json_t *request, uint64_t client)
{
    if (master->children->stopping)
        return strdup("{\"ok\":false,\"error\":\"the node stops\"}");
    if (json_is_true(json_object_get(request, "dry_run")))
        return answer_json(master_reload_try(master->reload));
    master_reload_begin(master->reload, "shoalctl reload", client);
    return NULL;
}

static char *answer(void *context, const char *command, const json_t *request, uint64_t client)
{
    struct master *master = context;
    if (strcmp(command, "stop") == 0) {
        if (!master->children->stopping)
            stop_node(master, "shoalctl stop");
        return strdup("{\"ok\":true}");
    }
    if (strcmp(command, "reload") == 0)
        return answer_reload(master, request, client);
    if (strcmp(command, "certs") == 0)
        return answer_json(master_certs(master));
    if (strcmp(command, "status") == 0)
        return answer_json(master_status(master));
    return strdup("{\"ok\":false,\"error\":\"no such command\"}");
}

static void on_files_changed(void *context)
{
    struct master *master = context;
    if (!master->children->stopping)
        master_reload_begin(master->reload, "files have changed", 0);
}

static void on_child_changed(void *context, struct master_child *child)
{
    struct master *master = context;
    master_reload_child_changed(master->reload, child);
}

static void on_child_switched(
    void *context, struct master_child *child, const struct control_message *message)
{
    struct master *master = context;
    master_reload_child_answered(master->reload, child, message);
}

void master_use_generation(
    struct master *master, struct generation *generation, struct master_listeners *listeners)
{
    const struct master_listeners former = master->listeners;
    master->running = generation;
    master->children->generation = generation;
    master->listeners = *listeners;
    *listeners = former;
    master_listeners_apply(&master->listeners);
    master_tickets_configure(master->tickets, &generation->config->tickets);
    master_watch_follow(master->watch, generation->config);
    log_set_level(generation->config->log.level);
}

static void on_ended(void *context)
{
    struct master *master = context;
    event_base_loopexit(master->base, NULL);
}

/* ---- start ------------------------------------------------------------------------------------------------
 */

/* Whatever started us may have left us with blocked signals and low limits. */
static void set_up_process(void)
{
    sigset_t no_signal;
    sigemptyset(&no_signal);
    sigprocmask(SIG_SETMASK, &no_signal, NULL);
    signal(SIGPIPE, SIG_IGN);
    /* Lanes and sockets take descriptors by the square of the workers. */
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core); /* a core of the master holds private keys */
#ifndef __SANITIZE_ADDRESS__
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}

static enum status open_loop(struct master *master)
{
    struct event_config *settings = event_config_new();
    if (settings == NULL)
        return STATUS_NO_MEMORY;
    event_config_set_flag(settings, EVENT_BASE_FLAG_NOLOCK);
    master->base = event_base_new_with_config(settings);
    event_config_free(settings);
    if (master->base == NULL)
        return STATUS_SYSTEM;
    const struct config_log *log = &master->running->config->log;
    return master_log_open(master->base, log->level, log->format, &master->log);
}

static enum status open_children(struct master *master, const uint8_t decoy_key[MASTER_KEY_SIZE])
{
    struct master_children settings = {.base = master->base,
        .generation = master->running,
        .folders = &master->folders,
        .memory = &master->memory,
        .listeners = &master->listeners,
        .tickets = master->tickets,
        .log = master->log,
        .context = master,
        .ended = on_ended,
        .changed = on_child_changed,
        .switched = on_child_switched};
    if (getrandom(settings.node_key, sizeof settings.node_key, 0) != (ssize_t)sizeof settings.node_key)
        return STATUS_SYSTEM;
    memcpy(settings.decoy_key, decoy_key, sizeof settings.decoy_key);
    return master_children_open(&settings, &master->children);
}

static enum status open_control(struct master *master)
{
    const struct master_control_settings settings = {
        .base = master->base, .folders = &master->folders, .context = master, .answer = answer};
    return master_control_open(&settings, &master->control);
}

static void log_failed(const char *what, enum status status)
{
    int error = status == STATUS_SYSTEM ? errno : 0;
    log_error("cannot make %s: %s%s", what, error != 0 ? strerror(error) : status_text(status),
        error == EMFILE ? ": raise the limit of open files (ulimit -Hn, LimitNOFILE=)" : "");
}

/* Everything up to the first child. What failed is logged. */
static enum status open_node(struct master *master)
{
    const struct config *config = master->running->config;
    const char *what = NULL;
    uint8_t decoy_key[MASTER_KEY_SIZE];
    enum status status = master_folders_open(config, &master->folders);
    if (status == STATUS_OK) /* kept over restarts, so that what is made up with it stays the same */
        status = master_folders_key(config, &master->folders, "decoy.key", decoy_key);
    if (status != STATUS_OK)
        return status;
    status = master_memory_open(config, &master->memory, &what);
    if (status != STATUS_OK) {
        log_failed(what, status);
        return status;
    }
    status = master_listeners_open(
        config, master->folders.uid, master->folders.gid, NULL, 0, NULL, &master->listeners);
    if (status != STATUS_OK)
        return status;
    what = "the keys of session tickets";
    status = master_tickets_open(master->base, &config->tickets, &master->tickets);
    if (status == STATUS_OK) {
        what = "the table of workers";
        status = open_children(master, decoy_key);
    }
    if (status == STATUS_OK)
        master_tickets_serve(master->tickets, master->children);
    if (status == STATUS_OK) {
        what = "what reloads";
        status = master_reload_open(master, &master->reload);
    }
    if (status == STATUS_OK) {
        what = "what watches files and dates";
        status = master_watch_open(master->base, on_files_changed, master, &master->watch);
    }
    if (status == STATUS_OK)
        status = master_certificates_open(master, &master->certificates);
    if (status == STATUS_OK)
        master_watch_follow(master->watch, config);
    if (status == STATUS_OK) {
        what = "the control socket in run_dir";
        status = open_control(master);
    }
    if (status == STATUS_OK) {
        what = "the signal handlers";
        status = open_signals(master);
    }
    if (status != STATUS_OK)
        log_failed(what, status);
    return status;
}

/* How users prove who they are: ", users log in by password or SCRAM-SHA-256", or "". */
static void describe_login(const struct config *config, const struct config_listener *listener,
    const struct access_summary *users, char *to, size_t room)
{
    uint32_t methods = config_listener_methods(config, listener);
    if (users->scram_users == 0)
        methods &= CONFIG_AUTH_PASSWORD;
    static const struct {
        uint32_t method;
        const char *text;
    } texts[] = {{CONFIG_AUTH_PASSWORD, "password"}, {CONFIG_AUTH_SCRAM_SHA_256, "SCRAM-SHA-256"},
        {CONFIG_AUTH_SCRAM_SHA_256_PLUS, "SCRAM-SHA-256-PLUS"}};
    to[0] = '\0';
    size_t used = 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (!(methods & texts[i].method))
            continue;
        used += (size_t)snprintf(
            to + used, room - used, "%s%s", used == 0 ? ", users log in by " : " or ", texts[i].text);
    }
}

/* Who can connect to a listener, in words. */
static void describe_access(const struct config *config, const struct config_listener *listener,
    const struct access_summary *users, char *to, size_t room)
{
    const struct config_tls *tls = &listener->tls;
    bool by_certificate = tls->peer_cert_as_username != CONFIG_PEER_CERT_NONE;
    char login[96];
    describe_login(config, listener, users, login, sizeof login);
    snprintf(to, room, "anonymous clients %s%s%s%s%s",
        config_listener_allows_anonymous(config, listener) ? "may connect" : "are refused", login,
        by_certificate ? ", a client certificate is a login" : "",
        tls->fail_if_no_peer_cert ? ", a client certificate is required" : "",
        listener->proxy_protocol ? ", behind a proxy that announces them" : "");
}

static void log_start(const struct master *master)
{
    const struct config *config = master->running->config;
    log_notice("shoald " SHOAL_VERSION ", node %s, %u workers, configuration %s", config->node.name,
        (unsigned)config->node.workers, config->file);
    for (unsigned i = 0; i < master->listeners.count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        char address[MASTER_ADDRESS_SIZE], access[256];
        master_listeners_address(&master->listeners, i, address);
        describe_access(config, listener, &master->running->users, access, sizeof access);
        log_notice("listener %s on %s%s, %s", listener->key, address,
            listener->bind.both_families && address[0] == '[' ? " (IPv4 and IPv6)" : "", access);
    }
    if (config->auth.acl_file != NULL)
        log_notice("clients may publish and read what %s says", config->auth.acl_file);
    else
        log_notice("clients may publish and read everything: no auth.acl_file");
}

/* ---- the whole --------------------------------------------------------------------------------------------
 */

static void close_node(struct master *master)
{
    master_children_close(&master->children);
    master_watch_close(&master->watch);
    master_certificates_close(&master->certificates);
    master_reload_close(&master->reload);
    master_tickets_close(&master->tickets);
    master_listeners_close(&master->listeners);
    master_control_close(&master->control);
    master_memory_close(&master->memory);
    master_folders_close(&master->folders);
    for (unsigned i = 0; i < MASTER_SIGNALS; i++) {
        if (master->signals[i] != NULL)
            event_free(master->signals[i]);
    }
    master_log_close(&master->log);
    if (master->base != NULL)
        event_base_free(master->base);
    generation_free(&master->running);
    libevent_global_shutdown();
}

/* From the first open to the last close, with a configuration that holds. */
static int run_node(struct master *master, const struct config_errors *warnings)
{
    enum status status = open_loop(master);
    for (size_t i = 0; i < warnings->count; i++)
        log_warning("%s", warnings->entries[i].text);
    if (status == STATUS_OK)
        status = open_node(master);
    int code = MASTER_EXIT_START;
    if (status == STATUS_OK) {
        log_start(master);
        master_memory_own_counters(&master->memory)->node_started_ms = master->started_us / 1000;
        master_children_start(master->children);
        event_base_dispatch(master->base);
        code = master->children->forced ? MASTER_EXIT_FORCED : MASTER_EXIT_OK;
        log_notice(
            "stopped%s", code == MASTER_EXIT_FORCED ? ", but not all workers ended by themselves" : "");
    }
    close_node(master);
    return code;
}

int master_main(const struct config_source *source)
{
    struct master master = {.source = *source,
        .folders = {.run_dir = -1, .data_dir = -1, .lock = -1, .state = -1},
        .memory = {.counters = -1},
        .started_us = clock_monotonic_us()};
    struct config_errors errors = {0};
    set_up_process();
    enum status status = generation_load(source, NULL, &errors, &master.running);
    int code = MASTER_EXIT_CONFIG;
    if (status == STATUS_OK) {
        code = run_node(&master, &errors);
    } else {
        print_errors(source->file, status, &errors);
    }
    config_errors_done(&errors);
    return code;
}
