/*
 * The start-up of a child as a checklist: take the descriptors, drop privileges, read the configuration, run
 * the role. Runs in every child before its role; must never hold anything that its role does not need.
 */
#include "node/child.h"

#include "node/child_private.h"
#include "node/descriptor.h"
#include "node/link.h"
#include "node/worker.h"
#include "shared/log.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define START_TIMEOUT_MS 10000

static const struct role {
    const char *name;
    int (*run)(struct child *child);
} roles[] = {
    [CHILD_ROLE_WORKER] = {"worker", worker_main},
    [CHILD_ROLE_LINK] = {"link", link_main},
};

const char *child_role_name(enum child_role role)
{
    return roles[role].name;
}

bool child_role_from_name(const char *name, enum child_role *ret_role)
{
    for (unsigned i = 1; i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(roles[i].name, name) == 0) {
            *ret_role = (enum child_role)i;
            return true;
        }
    }
    return false;
}

/* ---- signals --------------------------------------------------------------------------------------------
 */

/* A role that is stuck in its loop still ends in time. */
static void on_deadline(int number)
{
    (void)number;
    static const char text[] = "did not end in time: exits by itself\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(CHILD_EXIT_LATE);
    _exit(CHILD_EXIT_LATE);
}

void child_set_deadline(unsigned ms)
{
    const struct itimerval deadline = {
        .it_value = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000) * 1000}};
    setitimer(ITIMER_REAL, &deadline, NULL);
}

/* The kernel's word that the master is gone: comes even when the loop does not turn. */
static void on_master_death(int number)
{
    (void)number;
    child_set_deadline(CHILD_STOP_MASTER_GONE_MS);
}

static void set_up_signals(void)
{
    static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGQUIT, SIGUSR2};
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    struct sigaction action = {.sa_handler = on_deadline, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    action.sa_handler = on_master_death;
    sigaction(SIGUSR1, &action, NULL);
}

/* ---- taking what the master sends -----------------------------------------------------------------------
 */

static enum status receive_before(int fd, struct control_message *ret_message)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int ready;
    do
        ready = poll(&wait, 1, START_TIMEOUT_MS);
    while (ready < 0 && errno == EINTR);
    if (ready <= 0)
        return ready == 0 ? STATUS_CLOSED : STATUS_SYSTEM;
    return control_receive(fd, ret_message);
}

static bool start_fits(const struct child *child, const struct control_message *start)
{
    unsigned slots = child->role == CHILD_ROLE_LINK ? start->workers + 1u : start->workers;
    unsigned places = start->workers + (start->nodes > 0 ? 1u + start->nodes : 0u);
    return start->type == CONTROL_START && start->role == child->role && start->slot == child->slot &&
           start->workers >= 1 && places <= CHILD_SLOTS_MAX && start->slot < slots &&
           start->nodes <= CHILD_NODES_MAX &&
           (child->role != CHILD_ROLE_LINK || (start->nodes > 0 && start->slot == start->workers));
}

static enum status make_link(struct child *child)
{
    child->link = malloc(sizeof *child->link);
    if (child->link == NULL)
        return STATUS_NO_MEMORY;
    memset(child->link, 0xff, sizeof *child->link); /* -1 everywhere */
    return STATUS_OK;
}

static enum status take_start(struct child *child, struct control_message *start)
{
    enum status status = receive_before(CHILD_FD_CONTROL, start);
    if (status != STATUS_OK)
        return status;
    if (!start_fits(child, start))
        return STATUS_PROTOCOL;
    child->workers = start->workers;
    child->nodes = start->nodes;
    child->peers = start->workers + (start->nodes > 0 ? 1u : 0u);
    child->life = start->life;
    child->incarnation = start->incarnation;
    memcpy(child->node_key, start->node_key, sizeof child->node_key);
    memcpy(child->decoy_key, start->decoy_key, sizeof child->decoy_key);
    return child->role == CHILD_ROLE_LINK ? make_link(child) : STATUS_OK;
}

static bool has_place(const struct child_slot *slot, uint8_t place)
{
    for (unsigned i = 0; i < slot->socket_count; i++)
        if (slot->sockets[i].place == place)
            return true;
    return false;
}

enum status child_slot_add(struct child_slot *slot, const struct control_message *message)
{
    unsigned count = message->descriptor_count - SLOT_FD_FIRST_SOCKET;
    for (unsigned i = 0; i < count; i++)
        if (message->places[i] >= COUNTERS_LISTENERS_MAX)
            return STATUS_PROTOCOL;
    for (unsigned i = 0; i < count; i++) {
        int fd = message->descriptors[SLOT_FD_FIRST_SOCKET + i];
        if (has_place(slot, message->places[i])) /* at most one socket a place, so they fit */
            close(fd);
        else
            slot->sockets[slot->socket_count++] =
                (struct child_socket){.place = message->places[i], .fd = fd};
    }
    return STATUS_OK;
}

void child_slot_prune(struct child_slot *slot, const uint8_t places[CONFIG_LISTENERS_MAX])
{
    unsigned kept = 0;
    for (unsigned i = 0; i < slot->socket_count; i++) {
        if (memchr(places, slot->sockets[i].place, CONFIG_LISTENERS_MAX) != NULL)
            slot->sockets[kept++] = slot->sockets[i];
        else
            descriptor_close(&slot->sockets[i].fd);
    }
    slot->socket_count = kept;
}

enum status child_slot_take(
    const struct child *child, const struct control_message *message, struct child_slot *ret_slot)
{
    if (message->slot >= child->workers)
        return STATUS_PROTOCOL;
    struct child_slot slot = {.slot = message->slot,
        .will_table = message->descriptors[SLOT_FD_WILL_TABLE],
        .delayed_table = message->descriptors[SLOT_FD_DELAYED_TABLE]};
    enum status status = child_slot_add(&slot, message);
    if (status == STATUS_OK)
        *ret_slot = slot;
    return status;
}

void child_slot_close(struct child_slot *slot)
{
    for (unsigned i = 0; i < slot->socket_count; i++)
        descriptor_close(&slot->sockets[i].fd);
    descriptor_close(&slot->will_table);
    descriptor_close(&slot->delayed_table);
}

static enum status take_lane(struct child *child, const struct control_message *message)
{
    if (message->slot >= child->peers || message->slot == child->slot)
        return STATUS_PROTOCOL;
    child->lanes[message->slot] =
        (struct bus_lane_descriptors){.out_ring = message->descriptors[LANE_FD_OUT_RING],
            .out_cursor = message->descriptors[LANE_FD_OUT_CURSOR],
            .in_ring = message->descriptors[LANE_FD_IN_RING],
            .in_cursor = message->descriptors[LANE_FD_IN_CURSOR]};
    child->wake_peers[message->slot] = message->descriptors[LANE_FD_WAKE];
    return STATUS_OK;
}

static enum status take_route_table(struct child *child, const struct control_message *message)
{
    if (message->slot >= child->workers)
        return STATUS_PROTOCOL;
    child->route_tables[message->slot] = message->descriptors[0];
    return STATUS_OK;
}

static enum status take_node_lane(struct child *child, const struct control_message *message)
{
    unsigned node = message->peer - child->peers;
    if (message->peer < child->peers || node >= child->nodes || message->slot >= child->workers)
        return STATUS_PROTOCOL;
    int ring = message->descriptors[NODE_LANE_FD_RING], cursor = message->descriptors[NODE_LANE_FD_CURSOR];
    if (child->role == CHILD_ROLE_LINK) {
        child->link->lanes[message->slot][node].ring = ring;
        child->link->lanes[message->slot][node].cursor = cursor;
    } else {
        child->lanes[message->peer] = (struct bus_lane_descriptors){
            .out_ring = ring, .out_cursor = cursor, .in_ring = -1, .in_cursor = -1};
        /* The link reads it. */
        child->wake_peers[message->peer] = fcntl(child->wake_peers[child->workers], F_DUPFD_CLOEXEC, 0);
    }
    return STATUS_OK;
}

static enum status take_node_window(struct child *child, const struct control_message *message)
{
    unsigned node = message->peer - child->peers;
    if (child->role != CHILD_ROLE_LINK || message->peer < child->peers || node >= child->nodes)
        return STATUS_PROTOCOL;
    child->link->windows[node].ring = message->descriptors[NODE_WINDOW_FD_RING];
    child->link->windows[node].cursor = message->descriptors[NODE_WINDOW_FD_CURSOR];
    child->link->windows[node].landing = message->descriptors[NODE_WINDOW_FD_LANDING];
    child->link->windows[node].landing_cursor = message->descriptors[NODE_WINDOW_FD_LANDING_CURSOR];
    return STATUS_OK;
}

static enum status take_one(struct child *child, const struct control_message *message)
{
    switch (message->type) {
    case CONTROL_OWN_SLOT:
        return child_slot_take(child, message, &child->own);
    case CONTROL_LANE:
        return take_lane(child, message);
    case CONTROL_ROUTE_TABLE:
        return take_route_table(child, message);
    case CONTROL_NODE_LANE:
        return take_node_lane(child, message);
    case CONTROL_NODE_WINDOW:
        return take_node_window(child, message);
    case CONTROL_TICKET_KEY:
        tls_tickets_add(child->tickets, message->ticket_key, message->number);
        return STATUS_OK;
    case CONTROL_PEER_STARTED:
    case CONTROL_PEER_DIED:
        return child_note_peer(child, message);
    default:
        return STATUS_PROTOCOL;
    }
}

/* Everything up to BEGIN. */
static enum status take_rest(struct child *child)
{
    for (;;) {
        struct control_message message;
        enum status status = receive_before(CHILD_FD_CONTROL, &message);
        if (status != STATUS_OK)
            return status;
        if (message.type == CONTROL_BEGIN)
            return STATUS_OK;
        status = take_one(child, &message);
        if (status != STATUS_OK)
            return status;
    }
}

/* ---- privileges -----------------------------------------------------------------------------------------
 */

static enum status drop_privileges(const struct control_message *start)
{
    if (start->drop != 0) {
        gid_t gid = start->gid;
        uid_t uid = start->uid;
        if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
            return STATUS_SYSTEM;
        if (uid != 0 && setuid(0) == 0)
            return STATUS_REFUSED; /* it must not be possible to come back */
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return STATUS_SYSTEM;
    /* The leak checker of sanitizer builds traces its own process, which dumpable 0 forbids. */
    if (prctl(PR_SET_DUMPABLE, CHILD_DUMPABLE, 0, 0, 0) != 0)
        return STATUS_SYSTEM;
    /* Changing credentials clears this, hence here. */
    return prctl(PR_SET_PDEATHSIG, SIGUSR1, 0, 0, 0) == 0 ? STATUS_OK : STATUS_SYSTEM;
}

static void set_limits(void)
{
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none); /* a core holds keys and clients' data */
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* ---- configuration, secrets, counters --------------------------------------------------------------------
 */

static enum status take_generation(
    struct child *child, const struct control_message *message, const char **ret_what)
{
    struct child_generation *current = &child->private->current;
    enum status status = child_generation_take(message->number, message->places,
        message->descriptors[START_FD_CONFIG], message->descriptors[START_FD_SECRETS],
        message->descriptors[START_FD_ACCESS], message->descriptors[START_FD_REVOKED], current, ret_what);
    child->config = current->config;
    child->places = current->places;
    if (status == STATUS_OK)
        tls_tickets_set_lifetime(child->tickets, child->config->tickets.lifetime_s);
    child->secrets = current->secrets;
    child->access = current->access;
    child->revoked = current->revoked;
    return status;
}

void child_forget_secrets(struct child *child)
{
    child_generation_forget(&child->private->current);
    child->secrets = child->access = BYTES_NONE;
    child->revoked = NULL;
}

static enum status map_counters(struct child *child, int fd)
{
    child->counters_pages = child->workers + 1 + (child->nodes > 0 ? 1 : 0);
    enum status status = counters_map(fd, child->counters_pages, &child->counters_base);
    if (status != STATUS_OK)
        return status;
    /* The page behind the workers' is the master's. */
    unsigned page = child->role == CHILD_ROLE_LINK ? child->slot + 1 : child->slot;
    child->counters = counters_page(child->counters_base, page);
    counters_reset_gauges(child->counters);
    child->private->log_dropped_before = child->counters->log_dropped;
    return STATUS_OK;
}

/* ---- the checklist --------------------------------------------------------------------------------------
 */

struct step {
    const char *text;
    enum status status;
};

static struct step start(struct child *child, struct control_message *message)
{
    enum status status;
    const char *what = NULL;
    if ((status = take_start(child, message)) != STATUS_OK)
        return (struct step){"take its first message from the master", status};
    child->private->lock = message->descriptors[START_FD_LOCK];
    child->wake = message->descriptors[START_FD_WAKE];
    set_limits();
    if (fchdir(message->descriptors[START_FD_RUN_DIR]) != 0)
        return (struct step){"enter run_dir", STATUS_SYSTEM};
    if ((status = drop_privileges(message)) != STATUS_OK)
        return (struct step){"drop its privileges", status};
    if ((status = take_rest(child)) != STATUS_OK)
        return (struct step){"take its descriptors from the master", status};
    if ((status = take_generation(child, message, &what)) != STATUS_OK)
        return (struct step){what, status};
    log_configure(CHILD_FD_LOG, child->config->log.level, child->config->log.format, child->private->title);
    if ((status = map_counters(child, message->descriptors[START_FD_COUNTERS])) != STATUS_OK)
        return (struct step){"map the counters", status};
    if ((status = child_loop_open(child)) != STATUS_OK)
        return (struct step){"make its event loop", status};
    return (struct step){NULL, STATUS_OK};
}

static void link_close(struct child *child)
{
    for (unsigned node = 0; child->link != NULL && node < CHILD_NODES_MAX; node++) {
        for (unsigned slot = 0; slot < CHILD_SLOTS_MAX; slot++) {
            descriptor_close(&child->link->lanes[slot][node].ring);
            descriptor_close(&child->link->lanes[slot][node].cursor);
        }
        descriptor_close(&child->link->windows[node].ring);
        descriptor_close(&child->link->windows[node].cursor);
        descriptor_close(&child->link->windows[node].landing);
        descriptor_close(&child->link->windows[node].landing_cursor);
    }
    free(child->link);
    child->link = NULL;
}

static void finish(struct child *child)
{
    child_loop_close(child);
    child_generation_done(&child->private->next);
    child_generation_done(&child->private->current);
    tls_tickets_free(&child->tickets);
    child_slot_close(&child->own);
    for (unsigned peer = 0; peer < CHILD_SLOTS_MAX; peer++) {
        struct bus_lane_descriptors *lane = &child->lanes[peer];
        descriptor_close(&lane->out_ring);
        descriptor_close(&lane->out_cursor);
        descriptor_close(&lane->in_ring);
        descriptor_close(&lane->in_cursor);
        descriptor_close(&child->route_tables[peer]);
        descriptor_close(&child->wake_peers[peer]);
    }
    link_close(child);
    if (child->counters_base != NULL)
        munmap(child->counters_base, (size_t)child->counters_pages * COUNTERS_PAGE_SIZE);
    free(child->private);
    free(child);
}

static struct child *child_new(enum child_role role, unsigned slot)
{
    struct child *child = calloc(1, sizeof *child);
    struct child_private *private = calloc(1, sizeof *private);
    if (child == NULL || private == NULL || tls_tickets_new(0, &child->tickets) != STATUS_OK)
        abort(); /* fixed and small */
    child->private = private;
    child->role = role;
    child->slot = slot;
    child->own.will_table = child->own.delayed_table = -1;
    child->wake = -1;
    for (unsigned peer = 0; peer < CHILD_SLOTS_MAX; peer++) {
        child->lanes[peer] = (struct bus_lane_descriptors){-1, -1, -1, -1};
        child->route_tables[peer] = -1;
        child->wake_peers[peer] = -1;
    }
    snprintf(private->title, sizeof private->title, role == CHILD_ROLE_LINK ? "link" : "worker %u", slot);
    return child;
}

int child_main(enum child_role role, unsigned slot)
{
    set_up_signals();
    struct child *child = child_new(role, slot);
    log_configure(CHILD_FD_LOG, LOG_LEVEL_NOTICE, LOG_FORMAT_TEXT, child->private->title);
    struct control_message message = {0};
    struct step failed = start(child, &message);
    /* Mapped or entered by now; two stay open until this process ends. */
    for (unsigned i = 0; i < message.descriptor_count; i++) {
        if (i != START_FD_LOCK && i != START_FD_WAKE)
            close(message.descriptors[i]);
    }
    int code;
    if (failed.text == NULL) {
        code = roles[role].run(child);
        child_set_deadline(0); /* from here on the master watches alone */
    } else if (failed.status == STATUS_CLOSED) {
        code = EXIT_SUCCESS; /* the master went away meanwhile */
    } else {
        log_error("cannot %s: %s%s%s", failed.text, status_text(failed.status),
            failed.status == STATUS_SYSTEM ? ": " : "",
            failed.status == STATUS_SYSTEM ? strerror(errno) : "");
        code = CHILD_EXIT_START;
    }
    finish(child);
    return code;
}
