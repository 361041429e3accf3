/*
 * The roll: one worker at a time, whoever is not on the target generation and serves. Each event (an answer,
 * a death, a new process that is ready, the deadline) looks at the table of workers anew, so that it does not
 * matter which of them was replaced meanwhile.
 */
#include "node/master_reload.h"

#include "node/master_private.h"
#include "shared/clock.h"
#include "shared/tls_summary.h"

#include <stdlib.h>
#include <string.h>

/* One worker's time to prove and switch, or to get ready; silence alone gets it killed after 10 s. */
#define WORKER_WAIT_S 20
/* Dying once in the middle of a switch may be anybody's doing, twice is the generation's. */
#define DEATHS_MAX 2
/* Of those that wait for a report. */
#define WAITING_MAX 16

enum reload_state { RELOAD_IDLE, RELOAD_ROLLING, RELOAD_TURNING_BACK };

struct reload_queue { /* who waits for a report */
    uint64_t clients[WAITING_MAX];
    unsigned count;
};

struct master_reload {
    struct master *master; /* borrowed */
    enum reload_state state;
    const char *who;                   /* static: who asked for the present one */
    struct master_listeners listeners; /* owned: of the next one, with what it shares with the running ones */
    struct generation *next;           /* owned; NULL: none is under way */
    struct config_errors errors;       /* of the present one */
    struct master_child *asked;        /* borrowed: was sent the target and has not answered */
    unsigned deaths;                   /* of asked ones, in this roll */
    struct event *deadline;            /* owned */
    struct event *again;               /* owned: begins the one that waits */
    struct reload_queue waiting;       /* for the present one */
    struct reload_queue later;         /* for the one after it */
    const char *later_who;             /* static; NULL: none is wanted after the present one */
    uint64_t numbers;           /* the last generation's number given out: none twice, also of failed ones */
    uint64_t succeeded, failed; /* since the start */
    uint64_t last_ms;           /* when the last one ended, real time; 0: never */
    json_t *failure;            /* owned: the errors of the last one, if that failed; NULL: it did not */
};

static void advance(struct master_reload *reload);

/* ---- reports ---------------------------------------------------------------------------------------------
 */

static json_t *texts(const struct config_errors *errors, bool warnings)
{
    json_t *array = json_array();
    for (size_t i = 0; i < errors->count; i++)
        if (errors->entries[i].warning == warnings)
            json_array_append_new(array, json_string(errors->entries[i].text));
    return array;
}

static json_t *report(
    const struct master *master, const struct generation *next, const struct config_errors *errors)
{
    json_t *object = json_object();
    json_t *problems = texts(errors, false);
    json_object_set_new(object, "ok", json_true());
    json_object_set_new(object, "good", json_boolean(json_array_size(problems) == 0));
    json_object_set_new(object, "errors", problems);
    json_object_set_new(object, "warnings", texts(errors, true));
    json_object_set_new(object, "generation", json_integer((json_int_t)master->running->number));
    if (next != NULL) {
        json_object_set_new(object, "changes", generation_changes(next, master->running));
        json_object_set_new(object, "certificates", generation_certificates(next, master->running));
    }
    return object;
}

static void answer_waiting(struct master_reload *reload, json_t *answer)
{
    char *text = json_dumps(answer, JSON_COMPACT);
    for (unsigned i = 0; i < reload->waiting.count; i++)
        master_control_answer(reload->master->control, reload->waiting.clients[i], text);
    reload->waiting.count = 0;
    free(text);
    json_decref(answer);
}

json_t *master_reload_status(const struct master_reload *reload)
{
    static const char *const names[] = {
        [RELOAD_IDLE] = "idle", [RELOAD_ROLLING] = "rolling", [RELOAD_TURNING_BACK] = "turning back"};
    char when[TLS_DATE_TEXT_SIZE];
    json_t *object = json_pack("{s:I, s:s, s:I, s:I}", "generation",
        (json_int_t)reload->master->running->number, "state", names[reload->state], "succeeded",
        (json_int_t)reload->succeeded, "failed", (json_int_t)reload->failed);
    json_object_set_new(object, "last",
        reload->last_ms == 0 ? json_null()
                             : json_string(tls_date_text((int64_t)(reload->last_ms / 1000), when)));
    json_object_set_new(
        object, "failure", reload->failure == NULL ? json_null() : json_incref(reload->failure));
    return object;
}

/* ---- the end of a reload ---------------------------------------------------------------------------------
 */

static void note_outcome(struct master_reload *reload, bool good)
{
    struct counters *counters = master_memory_own_counters(&reload->master->memory);
    reload->last_ms = clock_real_us() / 1000;
    json_decref(reload->failure);
    reload->failure = good ? NULL : texts(&reload->errors, false);
    counters->reloads_failed += good ? 0 : 1;
    counters->reloads += good ? 1 : 0;
    counters->reload_failing = good ? 0 : 1;
    reload->succeeded += good ? 1 : 0;
    reload->failed += good ? 0 : 1;
}

static void finish(struct master_reload *reload)
{
    event_del(reload->deadline);
    master_listeners_close(&reload->listeners);
    generation_free(&reload->next);
    config_errors_done(&reload->errors);
    reload->asked = NULL;
    reload->deaths = 0;
    reload->state = RELOAD_IDLE;
    if (reload->later_who != NULL && !reload->master->children->stopping)
        event_active(reload->again, EV_TIMEOUT, 0);
}

/* One entry for the whole: every error in it. */
static void log_failure(const struct master_reload *reload)
{
    size_t failures = reload->errors.count - reload->errors.warnings;
    char text[LOG_LINE_MAX / 2] = "";
    size_t used = 0;
    for (size_t i = 0; i < reload->errors.count && used < sizeof text; i++)
        if (!reload->errors.entries[i].warning)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used > 0 ? " | " : "",
                reload->errors.entries[i].text);
    log_error("%s: reload failed, generation %llu goes on unchanged; %zu error%s: %s", reload->who,
        (unsigned long long)reload->master->running->number, failures, failures == 1 ? "" : "s", text);
}

static void fail(struct master_reload *reload)
{
    log_failure(reload);
    note_outcome(reload, false);
    answer_waiting(reload, report(reload->master, reload->next, &reload->errors));
    finish(reload);
}

static void log_changes(const struct generation *next)
{
    for (size_t i = 0; i < next->differences.count; i++) {
        const struct config_difference *difference = &next->differences.entries[i];
        if (difference->effect == CONFIG_EFFECT_RELOAD)
            log_notice("reload: %s is %s, was %s", difference->path,
                difference->becomes != NULL ? difference->becomes : "absent",
                difference->was != NULL ? difference->was : "absent");
    }
}

/* Who serves for a backed-off slot gets that one's new sockets, too. */
static void hand_to_adopters(struct master_reload *reload)
{
    struct master_children *children = reload->master->children;
    for (unsigned slot = 0; slot < children->count; slot++) {
        const struct master_child *child = &children->table[slot];
        if (child->adopter != MASTER_NO_SLOT)
            master_child_hand_slot(
                &children->table[child->adopter], CONTROL_SOCKETS, slot, &reload->master->listeners);
    }
}

/* All serve with it: it is the one that runs. */
static void commit(struct master_reload *reload)
{
    struct master *master = reload->master;
    json_t *answer = report(master, reload->next, &reload->errors);
    struct generation *former = master->running;
    log_changes(reload->next);
    master_use_generation(master, reload->next, &reload->listeners);
    reload->next = former; /* goes with finish(), as what its listeners alone had */
    hand_to_adopters(reload);
    note_outcome(reload, true);
    json_object_set_new(answer, "generation", json_integer((json_int_t)master->running->number));
    log_notice("%s: reloaded, all workers serve with generation %llu", reload->who,
        (unsigned long long)master->running->number);
    answer_waiting(reload, answer);
    finish(reload);
}

static void turn_back(struct master_reload *reload, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void turn_back(struct master_reload *reload, const char *format, ...)
{
    const struct config_context context = {.file = reload->next->config->file, .errors = &reload->errors};
    char text[CONTROL_TEXT_MAX + 100];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    config_complain(&context, "", "%s", text);
    if (reload->asked != NULL)
        reload->asked->generation = 0; /* nobody knows which */
    reload->asked = NULL;
    reload->state = RELOAD_TURNING_BACK;
    advance(reload);
}

/* ---- the roll --------------------------------------------------------------------------------------------
 */

static const struct generation *target_of(const struct master_reload *reload)
{
    return reload->state == RELOAD_ROLLING ? reload->next : reload->master->running;
}

static void arm_deadline(struct master_reload *reload)
{
    const struct timeval wait = {.tv_sec = WORKER_WAIT_S};
    event_add(reload->deadline, &wait);
}

/* First the sockets that it has not, then the order to switch: until it does, it accepts from none of them.
 */
static void ask(struct master_reload *reload, struct master_child *child)
{
    const struct generation *target = target_of(reload);
    const struct master_listeners *listeners =
        reload->state == RELOAD_ROLLING ? &reload->listeners : &reload->master->listeners;
    master_child_hand_slot(child, CONTROL_SOCKETS, child->slot, listeners);
    struct control_message message = {
        .type = CONTROL_GENERATION, .number = target->number, .descriptor_count = GENERATION_FD_COUNT};
    message.descriptors[GENERATION_FD_CONFIG] = target->config_fd;
    message.descriptors[GENERATION_FD_SECRETS] = target->secrets_fd;
    message.descriptors[GENERATION_FD_ACCESS] = target->access_fd;
    message.descriptors[GENERATION_FD_REVOKED] = target->revoked_fd;
    master_listeners_places(listeners, message.places);
    reload->asked = child;
    arm_deadline(reload);
    master_child_send(child, &message);
}

/* The first worker that has a process and is not there yet; NULL: none. */
static struct master_child *find_next(const struct master_reload *reload)
{
    struct master_children *children = reload->master->children;
    uint64_t number = target_of(reload)->number;
    for (unsigned slot = 0; slot < children->count; slot++) {
        struct master_child *child = &children->table[slot];
        if (child->pid != 0 && child->killed_for == NULL && child->generation != number)
            return child;
    }
    return NULL;
}

/* Whatever happened: is there somebody to ask, to wait for, or is it over? */
static void advance(struct master_reload *reload)
{
    if (reload->state == RELOAD_IDLE || reload->asked != NULL)
        return;
    struct master_child *child = find_next(reload);
    if (child != NULL && child->state == MASTER_CHILD_RUNNING)
        ask(reload, child);
    else if (child != NULL)
        arm_deadline(reload); /* it is starting: READY or its death comes next */
    else if (reload->state == RELOAD_ROLLING)
        commit(reload);
    else
        fail(reload);
}

void master_reload_child_changed(struct master_reload *reload, struct master_child *child)
{
    if (reload->state == RELOAD_IDLE || reload->master->children->stopping)
        return;
    if (reload->asked == child && child->state != MASTER_CHILD_RUNNING) {
        reload->asked = NULL;
        if (reload->state == RELOAD_ROLLING && ++reload->deaths >= DEATHS_MAX) {
            turn_back(reload, "worker %u died while it switched, and not for the first time", child->slot);
            return;
        }
    }
    advance(reload);
}

void master_reload_child_answered(
    struct master_reload *reload, struct master_child *child, const struct control_message *message)
{
    if (reload->asked != child || message->number != target_of(reload)->number)
        return; /* too late: it was asked for another one since */
    reload->asked = NULL;
    if (message->type == CONTROL_SWITCHED) {
        child->generation = message->number;
        log_info("worker %u serves with generation %llu", child->slot, (unsigned long long)message->number);
        advance(reload);
    } else if (reload->state == RELOAD_ROLLING) {
        turn_back(reload, "worker %u refuses: %s", child->slot, message->text);
    } else {
        master_child_kill(child, "it cannot go back to the generation that it had");
        advance(reload);
    }
}

static void on_deadline(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct master_reload *reload = argument;
    struct master_child *child = reload->asked != NULL ? reload->asked : find_next(reload);
    if (reload->state == RELOAD_ROLLING && child != NULL)
        turn_back(reload, "worker %u did not %s within %d s", child->slot,
            reload->asked != NULL ? "answer" : "get ready", WORKER_WAIT_S);
    else if (child != NULL) { /* stopped for good, or so: its successor starts with what runs */
        reload->asked = NULL;
        master_child_kill(child, "it did not go back to the generation that runs");
        advance(reload);
    }
}

/* ---- beginning -------------------------------------------------------------------------------------------
 */

static void add_waiting(struct master_reload *reload, struct reload_queue *queue, uint64_t client)
{
    static const char busy[] = "{\"ok\":false,\"error\":\"too many wait for a reload\"}";
    if (client == 0)
        return;
    if (queue->count < WAITING_MAX)
        queue->clients[queue->count++] = client;
    else
        master_control_answer(reload->master->control, client, busy);
}

/* Where connections are counted, also of listeners that are gone. */
static uint64_t busy_places(const struct master *master)
{
    uint64_t busy = 0;
    for (unsigned place = 0; place < COUNTERS_LISTENERS_MAX; place++)
        if (counters_listener_sum(master->memory.counters_base, master->children->count, place) != 0)
            busy |= UINT64_C(1) << place;
    return busy;
}

/* Before any worker was asked. */
static void refuse(struct master_reload *reload, enum status status)
{
    const struct config_context context = {.file = reload->master->source.file, .errors = &reload->errors};
    if (config_errors_failures(&reload->errors) == 0)
        config_complain(&context, "", "cannot be loaded: %s", status_text(status));
    fail(reload);
}

static void start(struct master_reload *reload, const char *who)
{
    struct master *master = reload->master;
    reload->who = who;
    master_watch_noted(master->watch);
    enum status status = generation_load(&master->source, master->running, &reload->errors, &reload->next);
    for (size_t i = 0; i < reload->errors.count; i++)
        if (reload->errors.entries[i].warning)
            log_warning("%s", reload->errors.entries[i].text);
    if (status != STATUS_OK) {
        refuse(reload, status);
        return;
    }
    reload->next->number = ++reload->numbers;
    status = master_listeners_open(reload->next->config, master->folders.uid, master->folders.gid,
        &master->listeners, busy_places(master), &reload->errors, &reload->listeners);
    if (status != STATUS_OK) {
        refuse(reload, status);
        return;
    }
    log_notice("%s: generation %llu is good, the workers switch to it one by one", who,
        (unsigned long long)reload->next->number);
    reload->state = RELOAD_ROLLING;
    advance(reload);
}

void master_reload_begin(struct master_reload *reload, const char *who, uint64_t client)
{
    if (reload->state != RELOAD_IDLE || reload->later_who != NULL) {
        add_waiting(reload, &reload->later, client);
        reload->later_who = who;
        return;
    }
    add_waiting(reload, &reload->waiting, client);
    start(reload, who);
}

static void on_again(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct master_reload *reload = argument;
    const char *who = reload->later_who;
    reload->waiting = reload->later;
    reload->later = (struct reload_queue){.count = 0};
    reload->later_who = NULL;
    start(reload, who);
}

json_t *master_reload_try(struct master_reload *reload)
{
    struct master *master = reload->master;
    struct config_errors errors = {0};
    struct generation *next = NULL;
    enum status status = generation_load(&master->source, master->running, &errors, &next);
    const struct config_context context = {.file = master->source.file, .errors = &errors};
    if (status != STATUS_OK && config_errors_failures(&errors) == 0)
        config_complain(&context, "", "cannot be loaded: %s", status_text(status));
    json_t *answer = report(master, next, &errors);
    generation_free(&next);
    config_errors_done(&errors);
    return answer;
}

enum status master_reload_open(struct master *master, struct master_reload **ret_reload)
{
    struct master_reload *reload = calloc(1, sizeof *reload);
    if (reload == NULL)
        return STATUS_NO_MEMORY;
    reload->master = master;
    reload->numbers = master->running->number;
    reload->deadline = event_new(master->base, -1, 0, on_deadline, reload);
    reload->again = event_new(master->base, -1, 0, on_again, reload);
    if (reload->deadline == NULL || reload->again == NULL) {
        master_reload_close(&reload);
        return STATUS_NO_MEMORY;
    }
    *ret_reload = reload;
    return STATUS_OK;
}

void master_reload_close(struct master_reload **reload_pointer)
{
    struct master_reload *reload = *reload_pointer;
    if (reload == NULL)
        return;
    if (reload->deadline != NULL)
        event_free(reload->deadline);
    if (reload->again != NULL)
        event_free(reload->again);
    master_listeners_close(&reload->listeners);
    generation_free(&reload->next);
    config_errors_done(&reload->errors);
    json_decref(reload->failure);
    free(reload);
    *reload_pointer = NULL;
}
