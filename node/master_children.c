/*
 * The life of the slots: start, ready, death, back-off, adoption, pings, stop. One setter changes a state.
 * All waiting is by timers; every decision is logged here.
 */
#include "node/master_children.h"

#include "node/child_private.h"
#include "shared/clock.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define SECOND_US         UINT64_C(1000000)
#define CRASHES_WINDOW_US (10 * SECOND_US) /* three crashes in this time are a loop */
#define QUICK_DEATH_US    (SECOND_US / 4)  /* a child that served for less has crashed, whatever ended it */
#define BACKOFF_MAX_S     30
#define TICK_S            1
#define SILENCE_MAX_US    (10 * SECOND_US) /* a child that answers no ping for this long is replaced */
#define TICK_GAP_US       (3 * SECOND_US)  /* the master itself stood still: nobody is to blame */
#define UNADOPT_WAIT_US   SECOND_US
/* The node stops within 5 s; a leak checker at the end of a child takes its time. */
#ifdef __SANITIZE_ADDRESS__
#define STOP_WAIT_US (15 * SECOND_US)
#else
#define STOP_WAIT_US (4 * SECOND_US + SECOND_US / 4)
#endif

static const char *const state_names[MASTER_CHILD_STATES] = {
    [MASTER_CHILD_DOWN] = "down",
    [MASTER_CHILD_STARTING] = "starting",
    [MASTER_CHILD_RUNNING] = "running",
    [MASTER_CHILD_BACKED_OFF] = "backed off",
    [MASTER_CHILD_RETURNING] = "returning",
    [MASTER_CHILD_ENDED] = "ended",
};

const char *master_child_state_name(enum master_child_state state)
{
    return state_names[state];
}

bool master_child_is_link(const struct master_child *child)
{
    return child->slot >= child->all->count;
}

static void child_enter(struct master_child *child, enum master_child_state state)
{
    log_debug("%s: %s, was %s", child->name, state_names[state], state_names[child->state]);
    child->state = state;
}

static void set_timer(struct event *timer, uint64_t us)
{
    const struct timeval delay = {
        .tv_sec = (time_t)(us / SECOND_US), .tv_usec = (suseconds_t)(us % SECOND_US)};
    event_add(timer, &delay);
}

static void tell_others(const struct master_child *about, enum control_type type, uint64_t incarnation)
{
    for (unsigned slot = 0; slot < about->all->total; slot++) {
        struct master_child *other = &about->all->table[slot];
        if (other != about && other->pid != 0)
            master_child_send_slot(other, type, about->slot, incarnation);
    }
}

/* ---- adoption -------------------------------------------------------------------------------------------
 */

/* The running sibling with the fewest slots adopted, then the fewest connections; NULL: there is none. */
static struct master_child *find_adopter(const struct master_child *child)
{
    struct master_children *all = child->all;
    struct master_child *best = NULL;
    uint64_t best_load = UINT64_MAX;
    for (unsigned slot = 0; slot < all->count; slot++) {
        struct master_child *other = &all->table[slot];
        if (other == child || other->state != MASTER_CHILD_RUNNING || other->killed_for != NULL)
            continue;
        uint64_t load = counters_page(all->memory->counters_base, slot)->connections & UINT32_MAX;
        for (unsigned i = 0; i < all->count; i++)
            load += all->table[i].adopter == slot ? UINT64_C(1) << 32 : 0;
        if (load < best_load) {
            best = other;
            best_load = load;
        }
    }
    return best;
}

static void find_adopter_for(struct master_child *child)
{
    if (child->state != MASTER_CHILD_BACKED_OFF || child->adopter != MASTER_NO_SLOT || child->all->stopping ||
        master_child_is_link(child))
        return;
    struct master_child *adopter = find_adopter(child);
    if (adopter == NULL) {
        log_warning("%s: no sibling can serve for it meanwhile", child->name);
        return;
    }
    child->adopter = adopter->slot;
    master_child_hand_slot(adopter, CONTROL_ADOPT, child->slot, child->all->listeners);
    log_notice("%s: worker %u serves its sockets meanwhile", child->name, adopter->slot);
}

/* ---- start ----------------------------------------------------------------------------------------------
 */

static bool is_alone(const struct master_child *child)
{
    for (unsigned slot = 0; slot < child->all->count; slot++) {
        if (slot != child->slot && child->all->table[slot].pid != 0)
            return false;
    }
    return true;
}

static void enter_backoff(struct master_child *child, const char *why)
{
    unsigned delay_s = child->backoff_level < 5 ? 1U << child->backoff_level : BACKOFF_MAX_S;
    if (is_alone(child))
        delay_s = 1; /* nobody could serve for it: the node as a whole does not stay away for long */
    child->backoff_level++;
    child_enter(child, MASTER_CHILD_BACKED_OFF);
    log_error("%s: %s, next start in %u s", child->name, why, delay_s);
    set_timer(child->timer, delay_s * SECOND_US);
    find_adopter_for(child);
}

static void start_child(struct master_child *child)
{
    enum status status = master_spawn(child);
    if (status != STATUS_OK) {
        log_error("%s: cannot start it: %s", child->name,
            status == STATUS_SYSTEM ? strerror(errno) : status_text(status));
        enter_backoff(child, "could not be started");
        return;
    }
    child_enter(child, MASTER_CHILD_STARTING);
    tell_others(child, CONTROL_PEER_STARTED, child->incarnation);
}

/* Whoever served for it has let go or was told to: if this start fails, somebody has to adopt it anew. */
static void start_again(struct master_child *child)
{
    child->restarts++;
    child->adopter = MASTER_NO_SLOT;
    start_child(child);
}

/* The back-off is over: the adopter lets go first, so that nobody publishes the slot's wills twice. */
static void return_slot(struct master_child *child)
{
    if (child->adopter == MASTER_NO_SLOT) {
        start_again(child);
        return;
    }
    child_enter(child, MASTER_CHILD_RETURNING);
    set_timer(child->timer, UNADOPT_WAIT_US);
    master_child_send_slot(&child->all->table[child->adopter], CONTROL_UNADOPT, child->slot, 0);
}

static void on_timer(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct master_child *child = argument;
    if (child->all->stopping)
        return;
    if (child->state == MASTER_CHILD_BACKED_OFF)
        return_slot(child);
    else if (child->state == MASTER_CHILD_RETURNING)
        start_again(child); /* the adopter is silent: doubled wills are dropped by their identity */
}

void master_children_start(struct master_children *all)
{
    for (unsigned slot = 0; slot < all->total; slot++)
        start_child(&all->table[slot]);
}

/* ---- death ----------------------------------------------------------------------------------------------
 */

static void log_death(const struct master_child *child, int status)
{
    const char *name = child->name;
    int pid = (int)child->pid;
    bool expected = child->all->stopping;
    enum log_level level = expected ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR;
    if (child->killed_for != NULL)
        log_write(LOG_LEVEL_ERROR, "%s (pid %d) was killed: %s", name, pid, child->killed_for);
    else if (WIFSIGNALED(status))
        log_write(LOG_LEVEL_ERROR, "%s (pid %d) died by signal %d (%s)", name, pid, WTERMSIG(status),
            strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) == CHILD_EXIT_EXEC)
        log_error("%s: /proc/self/exe cannot be run: is /proc mounted?", name);
    else if (WEXITSTATUS(status) == CHILD_EXIT_LATE)
        log_warning("%s (pid %d) did not end in time and ended itself", name, pid);
    else
        log_write(level, "%s (pid %d) ended with status %d", name, pid, WEXITSTATUS(status));
}

/*
 * What speaks for a crash loop: an end of its own making, or one right after the start. A SIGKILL in the
 * middle of its work was somebody's wish, and there may be many.
 */
static bool is_crash(const struct master_child *child, int status, uint64_t now)
{
    if (child->ready_us == 0 || now - child->ready_us < QUICK_DEATH_US)
        return true;
    return child->killed_for == NULL && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Takes note of one more crash; true if it makes a loop. */
static bool is_crash_loop(struct master_child *child, uint64_t now)
{
    memmove(child->crashes_us + 1, child->crashes_us, sizeof child->crashes_us - sizeof *child->crashes_us);
    child->crashes_us[0] = now;
    child->unready_deaths = child->ready_us == 0 ? child->unready_deaths + 1 : 0;
    uint64_t oldest = child->crashes_us[MASTER_CRASHES_WATCHED - 1];
    if ((oldest != 0 && now - oldest <= CRASHES_WINDOW_US) || child->unready_deaths > 1)
        return true;
    /* After a back-off it must first serve for a while. */
    return child->backoff_level > 0 && (child->ready_us == 0 || now - child->ready_us < CRASHES_WINDOW_US);
}

static void decide_restart(struct master_child *child, int status)
{
    uint64_t now = clock_monotonic_us();
    bool crash = is_crash(child, status, now);
    if (crash && is_crash_loop(child, now)) {
        enter_backoff(child, "dies again and again");
        return;
    }
    if (!crash) {
        memset(child->crashes_us, 0, sizeof child->crashes_us);
        child->unready_deaths = 0;
    }
    child->backoff_level = 0;
    start_again(child);
}

/* Those that it had adopted need another sibling, or need not wait for it any more. */
static void release_adopted(struct master_children *all, unsigned adopter)
{
    for (unsigned slot = 0; slot < all->count; slot++) {
        struct master_child *child = &all->table[slot];
        if (child->adopter != adopter)
            continue;
        child->adopter = MASTER_NO_SLOT;
        if (child->state == MASTER_CHILD_RETURNING) {
            event_del(child->timer);
            start_again(child);
        } else {
            find_adopter_for(child);
        }
    }
}

static void check_ended(struct master_children *all)
{
    if (!all->stopping)
        return;
    for (unsigned slot = 0; slot < all->total; slot++) {
        if (all->table[slot].pid != 0)
            return;
    }
    event_del(all->deadline);
    all->ended(all->context);
}

static void bury(struct master_child *child, int status)
{
    struct master_children *all = child->all;
    master_log_remove(all->log, &child->log); /* its last lines come before the one on its death */
    log_death(child, status);
    control_channel_close(&child->channel);
    child->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_EXIT_LATE)
        all->forced = true;
    counters_reset_gauges(master_memory_counters_of(all->memory, child->slot));
    if (all->stopping) {
        child_enter(child, MASTER_CHILD_ENDED);
        check_ended(all);
        return;
    }
    child_enter(child, MASTER_CHILD_DOWN);
    if (!master_child_is_link(child)) /* the next one goes on where it stopped: the nodes behind it live */
        tell_others(child, CONTROL_PEER_DIED, 0);
    decide_restart(child, status);
    release_adopted(all, child->slot);
    all->changed(all->context, child);
}

void master_children_reap(struct master_children *all)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid <= 0)
            return;
        for (unsigned slot = 0; slot < all->total; slot++) {
            if (all->table[slot].pid == pid)
                bury(&all->table[slot], status);
        }
    }
}

/* ---- messages and pings -----------------------------------------------------------------------------------
 */

bool master_children_all_serve(const struct master_children *all)
{
    for (unsigned slot = 0; slot < all->count; slot++) {
        if (all->table[slot].state != MASTER_CHILD_RUNNING)
            return false;
    }
    return true;
}

static void tell_all_ready(struct master_children *all)
{
    if (all->all_ready_told || !master_children_all_serve(all))
        return;
    all->all_ready_told = true;
    log_notice("ready: all %u workers serve", all->count);
}

static void on_ready(struct master_child *child)
{
    if (child->state != MASTER_CHILD_STARTING)
        return;
    child->ready_us = clock_monotonic_us();
    child_enter(child, MASTER_CHILD_RUNNING);
    log_notice("%s (pid %d) serves, %llu ms after its start", child->name, (int)child->pid,
        (unsigned long long)(child->ready_us - child->started_us) / 1000);
    for (unsigned slot = 0; slot < child->all->count; slot++)
        find_adopter_for(&child->all->table[slot]);
    tell_all_ready(child->all);
    child->all->changed(child->all->context, child);
}

static void on_unadopted(const struct master_child *adopter, unsigned slot)
{
    if (slot >= adopter->all->count)
        return;
    struct master_child *child = &adopter->all->table[slot];
    if (child->state != MASTER_CHILD_RETURNING || child->adopter != adopter->slot || child->all->stopping)
        return;
    event_del(child->timer);
    start_again(child);
}

static void on_node_status(struct master_child *child, const struct control_message *message)
{
    const struct master_memory *memory = child->all->memory;
    unsigned node = (unsigned)message->peer - memory->peers;
    if (message->peer < memory->peers || node >= memory->nodes)
        return;
    json_decref(child->all->nodes[node]);
    child->all->nodes[node] = json_loads(message->text, 0, NULL); /* NULL if it was cut */
}

void master_child_message(struct master_child *child, const struct control_message *message)
{
    child->answered_us = clock_monotonic_us();
    switch (message->type) {
    case CONTROL_READY:
        on_ready(child);
        break;
    case CONTROL_PONG:
        child->ping_open = child->ping_open && message->number != child->ping_number;
        break;
    case CONTROL_UNADOPTED:
        on_unadopted(child, message->slot);
        break;
    case CONTROL_NODE_STATUS:
        on_node_status(child, message);
        break;
    case CONTROL_SWITCHED:
    case CONTROL_REFUSED:
        child->all->switched(child->all->context, child, message);
        break;
    default:
        log_error("%s: sent %s, which no child may", child->name, control_type_name(message->type));
        control_close_descriptors(message);
        master_child_kill(child, "it broke the control protocol");
    }
}

static void ping(struct master_child *child, uint64_t now)
{
    if (child->ping_open && now - child->answered_us > SILENCE_MAX_US) {
        master_child_kill(child, "it did not answer for 10 s");
        return;
    }
    if (child->ping_open)
        return;
    child->ping_open = true;
    child->ping_number++;
    child->answered_us = now; /* the silence begins with a question */
    const struct control_message message = {.type = CONTROL_PING, .number = child->ping_number};
    master_child_send(child, &message);
}

/* The most clients at a time: in the master's page, which outlives workers. */
static void note_clients(struct master_children *all)
{
    struct counters sum;
    struct counters *own = master_memory_own_counters(all->memory);
    counters_sum(all->memory->counters_base, all->memory->pages, &sum);
    if (sum.clients > own->clients_maximum)
        own->clients_maximum = sum.clients;
}

static void on_tick(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct master_children *all = argument;
    uint64_t now = clock_monotonic_us();
    if (all->stopping)
        return; /* who is silent now is killed by the deadline of the stop */
    bool stood_still = now - all->tick_us > TICK_GAP_US;
    all->tick_us = now;
    note_clients(all);
    if (stood_still)
        log_notice("the master itself was not running for a while; no worker is blamed for silence");
    for (unsigned slot = 0; slot < all->total; slot++) {
        struct master_child *child = &all->table[slot];
        if (child->pid == 0)
            continue;
        if (stood_still)
            child->answered_us = now;
        ping(child, now);
    }
}

/* ---- stop ------------------------------------------------------------------------------------------------
 */

static void on_stop_deadline(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct master_children *all = argument;
    all->forced = true;
    for (unsigned slot = 0; slot < all->total; slot++)
        master_child_kill(&all->table[slot], "it did not stop in time");
}

void master_children_stop(struct master_children *all)
{
    all->stopping = true;
    set_timer(all->deadline, STOP_WAIT_US);
    for (unsigned slot = 0; slot < all->total; slot++) {
        struct master_child *child = &all->table[slot];
        event_del(child->timer);
        if (child->pid == 0)
            child_enter(child, MASTER_CHILD_ENDED);
        else
            master_child_send_slot(child, CONTROL_STOP, 0, 0);
    }
    check_ended(all);
}

void master_children_kill(struct master_children *all)
{
    all->forced = true;
    for (unsigned slot = 0; slot < all->total; slot++)
        master_child_kill(&all->table[slot], "the node was told twice to stop");
}

/* ---- the table -------------------------------------------------------------------------------------------
 */

static enum status init_table(struct master_children *all)
{
    all->table = calloc(all->total, sizeof *all->table);
    all->tick = event_new(all->base, -1, EV_PERSIST, on_tick, all);
    all->deadline = event_new(all->base, -1, 0, on_stop_deadline, all);
    if (all->table == NULL || all->tick == NULL || all->deadline == NULL)
        return STATUS_NO_MEMORY;
    for (unsigned slot = 0; slot < all->total; slot++) {
        struct master_child *child = &all->table[slot];
        child->all = all;
        child->slot = slot;
        snprintf(child->name, sizeof child->name, slot < all->count ? "worker %u" : "link", slot);
        child->adopter = MASTER_NO_SLOT;
        child->timer = event_new(all->base, -1, 0, on_timer, child);
        if (child->timer == NULL)
            return STATUS_NO_MEMORY;
    }
    const struct timeval second = {.tv_sec = TICK_S};
    all->tick_us = clock_monotonic_us();
    return event_add(all->tick, &second) == 0 ? STATUS_OK : STATUS_NO_MEMORY;
}

enum status master_children_open(
    const struct master_children *settings, struct master_children **ret_children)
{
    struct master_children *all = malloc(sizeof *all);
    if (all == NULL)
        return STATUS_NO_MEMORY;
    *all = *settings;
    all->count = settings->generation->config->node.workers;
    all->total = settings->memory->peers;
    enum status status = master_folders_incarnation(all->folders, &all->life);
    if (status == STATUS_OK)
        status = init_table(all);
    if (all->memory->nodes > 0) /* lives of nodes never meet */
        all->life = all->life << MASTER_NODE_BITS | all->memory->self;
    if (status != STATUS_OK)
        master_children_close(&all);
    else
        *ret_children = all;
    return status;
}

void master_children_close(struct master_children **children)
{
    struct master_children *all = *children;
    if (all == NULL)
        return;
    for (unsigned slot = 0; all->table != NULL && slot < all->total; slot++) {
        struct master_child *child = &all->table[slot];
        if (child->pid != 0) {
            kill(child->pid, SIGKILL);
            waitpid(child->pid, NULL, 0);
        }
        control_channel_close(&child->channel);
        master_log_remove(all->log, &child->log);
        if (child->timer != NULL)
            event_free(child->timer);
    }
    if (all->tick != NULL)
        event_free(all->tick);
    if (all->deadline != NULL)
        event_free(all->deadline);
    for (unsigned node = 0; node < CHILD_NODES_MAX; node++)
        json_decref(all->nodes[node]);
    free(all->table);
    free(all);
    *children = NULL;
}
