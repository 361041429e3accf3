/*
 * Makes a child process: fork and exec of our own file, so that not a byte of the master's heap reaches it,
 * then the messages of its start-up. Between fork and exec only calls that are safe in a signal handler.
 */
#include "node/master_children.h"

#include "node/child_private.h"
#include "shared/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

extern char **environ;

/* ---- sending --------------------------------------------------------------------------------------------
 */

void master_child_kill(struct master_child *child, const char *why)
{
    if (child->pid == 0 || child->killed_for != NULL)
        return;
    child->killed_for = why;
    kill(child->pid, SIGKILL); /* reaped by SIGCHLD */
}

void master_child_send(struct master_child *child, const struct control_message *message)
{
    enum status status = control_channel_send(&child->channel, message);
    if (status == STATUS_OK || status == STATUS_CLOSED) /* closed: it is about to be reaped */
        return;
    log_error("%s: cannot send %s: %s", child->name, control_type_name(message->type), status_text(status));
    master_child_kill(child, "it does not read its control socket");
}

void master_child_send_slot(
    struct master_child *child, enum control_type type, unsigned slot, uint64_t incarnation)
{
    const struct control_message message = {.type = type, .slot = (uint16_t)slot, .incarnation = incarnation};
    master_child_send(child, &message);
}

void master_child_hand_slot(struct master_child *child, enum control_type type, unsigned slot,
    const struct master_listeners *listeners)
{
    struct control_message message = {.type = type, .slot = (uint16_t)slot};
    message.descriptor_count = SLOT_FD_FIRST_SOCKET + listeners->count;
    master_listeners_places(listeners, message.places);
    message.descriptors[SLOT_FD_WILL_TABLE] = child->all->memory->will_tables[slot];
    message.descriptors[SLOT_FD_DELAYED_TABLE] = child->all->memory->delayed_tables[slot];
    for (unsigned i = 0; i < listeners->count; i++)
        message.descriptors[SLOT_FD_FIRST_SOCKET + i] = master_listeners_socket(listeners, i, slot);
    master_child_send(child, &message);
}

/* ---- what a child gets before it runs --------------------------------------------------------------------
 */

static void send_start(struct master_child *child)
{
    const struct master_children *all = child->all;
    struct control_message message = {.type = CONTROL_START,
        .role = master_child_is_link(child) ? CHILD_ROLE_LINK : CHILD_ROLE_WORKER,
        .slot = (uint16_t)child->slot,
        .workers = (uint16_t)all->count,
        .listeners = (uint16_t)all->listeners->count,
        .nodes = (uint16_t)all->memory->nodes,
        .life = all->life,
        .drop = all->folders->drop ? 1 : 0,
        .uid = all->folders->uid,
        .gid = all->folders->gid,
        .incarnation = child->incarnation,
        .number = all->generation->number,
        .descriptor_count = START_FD_COUNT};
    master_listeners_places(all->listeners, message.places);
    memcpy(message.node_key, all->node_key, sizeof message.node_key);
    memcpy(message.decoy_key, all->decoy_key, sizeof message.decoy_key);
    message.descriptors[START_FD_RUN_DIR] = all->folders->run_dir;
    message.descriptors[START_FD_LOCK] = all->folders->lock;
    message.descriptors[START_FD_CONFIG] = all->generation->config_fd;
    message.descriptors[START_FD_SECRETS] =
        master_child_is_link(child) ? all->generation->link_secrets_fd : all->generation->secrets_fd;
    message.descriptors[START_FD_ACCESS] = all->generation->access_fd;
    message.descriptors[START_FD_REVOKED] = all->generation->revoked_fd;
    message.descriptors[START_FD_COUNTERS] = all->memory->counters;
    message.descriptors[START_FD_WAKE] = all->memory->wakes[child->slot];
    master_child_send(child, &message);
}

static void send_lanes(struct master_child *child)
{
    for (unsigned peer = 0; peer < child->all->total; peer++) {
        if (peer == child->slot)
            continue;
        struct control_message message = {.type = CONTROL_LANE, .slot = (uint16_t)peer};
        master_memory_lane(child->all->memory, child->slot, peer, &message);
        master_child_send(child, &message);
    }
}

static void send_route_tables(struct master_child *child)
{
    for (unsigned slot = 0; slot < child->all->count; slot++) {
        const struct master_route_table *table = &child->all->memory->route_tables[slot];
        const struct control_message message = {.type = CONTROL_ROUTE_TABLE,
            .slot = (uint16_t)slot,
            .descriptor_count = 1,
            .descriptors = {slot == child->slot ? table->own : table->read_only}};
        master_child_send(child, &message);
    }
}

static void send_node_lane(struct master_child *child, unsigned slot, unsigned node)
{
    const struct master_memory *memory = child->all->memory;
    struct control_message message = {
        .type = CONTROL_NODE_LANE, .slot = (uint16_t)slot, .peer = (uint16_t)(memory->peers + node)};
    master_memory_node_lane(memory, slot, node, master_child_is_link(child), &message);
    master_child_send(child, &message);
}

/* The lanes to other nodes: a worker's own, all of them for the link, which has the windows as well. */
static void send_cluster(struct master_child *child)
{
    const struct master_memory *memory = child->all->memory;
    for (unsigned node = 0; node < memory->nodes; node++) {
        if (node == memory->self)
            continue;
        if (!master_child_is_link(child)) {
            send_node_lane(child, child->slot, node);
            continue;
        }
        for (unsigned slot = 0; slot < memory->workers; slot++)
            send_node_lane(child, slot, node);
        struct control_message message = {
            .type = CONTROL_NODE_WINDOW, .peer = (uint16_t)(memory->peers + node)};
        master_memory_node_window(memory, node, &message);
        master_child_send(child, &message);
    }
}

static void send_peers(struct master_child *child)
{
    for (unsigned peer = 0; peer < child->all->total; peer++) {
        const struct master_child *other = &child->all->table[peer];
        if (other != child && other->pid != 0)
            master_child_send_slot(child, CONTROL_PEER_STARTED, peer, other->incarnation);
    }
}

/* ---- fork and exec ---------------------------------------------------------------------------------------
 */

/* What a child ignores from its first instruction on: the master tells it to stop, not the terminal. */
static void ignore_signals(void)
{
    static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGQUIT};
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

__attribute__((noreturn)) static void become_child(char *const arguments[], int null, int log, int control)
{
    /* The numbers up to 2 are never anything else in the master (main.c sees to it); 3 may be: it comes last.
     */
    if (dup2(null, CHILD_FD_NULL) < 0 || dup2(log, CHILD_FD_OUTPUT) < 0 || dup2(log, CHILD_FD_LOG) < 0)
        _exit(CHILD_EXIT_EXEC);
    if (control == CHILD_FD_CONTROL ? fcntl(control, F_SETFD, 0) < 0 : dup2(control, CHILD_FD_CONTROL) < 0)
        _exit(CHILD_EXIT_EXEC);
    close_range(CHILD_FD_FIRST_OTHER, ~0U, 0);
    ignore_signals();
    execve("/proc/self/exe", arguments, environ);
    _exit(CHILD_EXIT_EXEC);
}

static enum status fork_child(const struct master_child *child, int log, int control, pid_t *ret_pid)
{
    char title[32], slot[16], role_option[] = "--child", slot_option[] = "--slot";
    char worker[] = "worker", link[] = "link", *role = master_child_is_link(child) ? link : worker;
    snprintf(title, sizeof title, "shoald: %s", child->name); /* what ps shows first */
    snprintf(slot, sizeof slot, "%u", child->slot);
    char *const arguments[] = {title, role_option, role, slot_option, slot, NULL};
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0)
        return STATUS_SYSTEM;
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before); /* no handler of the master may run in the child */
    pid_t pid = fork();
    if (pid == 0)
        become_child(arguments, null, log, control);
    int error = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(null);
    errno = error;
    if (pid < 0)
        return STATUS_SYSTEM;
    *ret_pid = pid;
    return STATUS_OK;
}

static void on_message(void *context, const struct control_message *message)
{
    master_child_message(context, message);
}

static void on_closed(void *context, enum status why)
{
    struct master_child *child = context;
    if (why == STATUS_CLOSED)
        return; /* it is ending: SIGCHLD follows, or its silence gets it killed */
    log_error("%s: its control socket: %s", child->name, status_text(why));
    master_child_kill(child, "it broke the control protocol");
}

static enum status open_channel(struct master_child *child, int fd)
{
    child->channel.context = child;
    child->channel.on_message = on_message;
    child->channel.on_closed = on_closed;
    return control_channel_open(&child->channel, fd, child->all->base);
}

/* Process, channel and log; on failure nothing is left. */
static enum status make_process(struct master_child *child)
{
    int ends[2], log;
    char title[32];
    snprintf(title, sizeof title, "%s", child->name);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return STATUS_SYSTEM;
    enum status status = master_log_add(child->all->log, title, &log, &child->log);
    if (status != STATUS_OK) {
        close(ends[0]);
        close(ends[1]);
        return status;
    }
    pid_t pid = 0;
    status = open_channel(child, ends[0]);
    if (status == STATUS_OK)
        status = fork_child(child, log, ends[1], &pid);
    int error = errno;
    close(ends[1]);
    close(log);
    if (status != STATUS_OK) {
        control_channel_close(&child->channel);
        master_log_remove(child->all->log, &child->log);
        errno = error;
        return status;
    }
    child->pid = pid;
    return STATUS_OK;
}

enum status master_spawn(struct master_child *child)
{
    uint64_t incarnation;
    const struct master_memory *memory = child->all->memory;
    enum status status = master_folders_incarnation(child->all->folders, &incarnation);
    if (status != STATUS_OK)
        return status;
    if (memory->nodes > 0)
        incarnation = incarnation << MASTER_NODE_BITS | memory->self;
    status = make_process(child);
    if (status != STATUS_OK)
        return status;
    child->incarnation = incarnation;
    child->generation = child->all->generation->number;
    child->started_us = child->answered_us = clock_monotonic_us();
    child->ready_us = 0;
    child->ping_open = false;
    child->killed_for = NULL;
    send_start(child);
    if (!master_child_is_link(child)) {
        master_child_hand_slot(child, CONTROL_OWN_SLOT, child->slot, child->all->listeners);
        master_tickets_send(child->all->tickets, child);
    }
    send_lanes(child);
    send_route_tables(child);
    send_cluster(child);
    send_peers(child);
    master_child_send_slot(child, CONTROL_BEGIN, 0, 0);
    return STATUS_OK;
}
