/*
 * A child's side of the control socket while it runs: answers pings, passes on what happens to its siblings,
 * and ends the child when the master says so or is gone. Never waits for the master.
 */
#include "node/child.h"

#include "node/child_private.h"
#include "node/event_memory.h"
#include "shared/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void send_to_master(struct child *child, struct control_message message)
{
    enum status status = control_channel_send(&child->private->channel, &message);
    if (status != STATUS_OK && status != STATUS_CLOSED) /* closed: on_closed tells */
        log_warning("cannot send %s to the master: %s", control_type_name(message.type), status_text(status));
}

static void stop(struct child *child, enum child_stop reason)
{
    struct child_private *private = child->private;
    child_set_deadline(reason == CHILD_STOP_SHUTDOWN ? CHILD_STOP_SHUTDOWN_MS : CHILD_STOP_MASTER_GONE_MS);
    if (private->stopping)
        return;
    private->stopping = true;
    if (child->handlers.stop != NULL)
        child->handlers.stop(child->handlers.context, reason);
    else
        child_end(child);
}

static void on_ping(struct child *child, uint64_t number)
{
    child->counters->log_dropped = child->private->log_dropped_before + log_dropped();
    send_to_master(child, (struct control_message){.type = CONTROL_PONG, .number = number});
}

enum status child_note_peer(struct child *child, const struct control_message *message)
{
    if (message->slot >= child->peers || message->slot == child->slot)
        return STATUS_PROTOCOL;
    child->private->peer_incarnations[message->slot] =
        message->type == CONTROL_PEER_STARTED ? message->incarnation : 0;
    return STATUS_OK;
}

static enum status on_peer(struct child *child, const struct control_message *message)
{
    enum status status = child_note_peer(child, message);
    if (status != STATUS_OK || child->private->first_turn != NULL)
        return status; /* the first turn will report it */
    struct child_handlers *handlers = &child->handlers;
    if (message->type == CONTROL_PEER_DIED && handlers->peer_died != NULL)
        handlers->peer_died(handlers->context, message->slot);
    if (message->type == CONTROL_PEER_STARTED && handlers->peer_started != NULL)
        handlers->peer_started(handlers->context, message->slot, message->incarnation);
    return STATUS_OK;
}

static enum status on_adopt(struct child *child, const struct control_message *message)
{
    struct child_slot *adopted = calloc(1, sizeof *adopted);
    if (adopted == NULL)
        return STATUS_NO_MEMORY;
    enum status status = child_slot_take(child, message, adopted);
    if (status == STATUS_OK &&
        (adopted->slot == child->slot || child->private->adopted[adopted->slot] != NULL))
        status = STATUS_PROTOCOL;
    if (status != STATUS_OK) {
        free(adopted);
        return status;
    }
    child->private->adopted[adopted->slot] = adopted;
    if (child->handlers.adopt != NULL)
        child->handlers.adopt(child->handlers.context, adopted);
    return STATUS_OK;
}

static void drop_adopted(struct child *child, unsigned slot)
{
    struct child_slot *adopted = child->private->adopted[slot];
    child->private->adopted[slot] = NULL;
    child_slot_close(adopted);
    free(adopted);
}

static enum status on_unadopt(struct child *child, unsigned slot)
{
    if (slot >= child->workers)
        return STATUS_PROTOCOL;
    if (child->private->adopted[slot] != NULL) {
        if (child->handlers.unadopt != NULL)
            child->handlers.unadopt(child->handlers.context, child->private->adopted[slot]);
        drop_adopted(child, slot);
    }
    send_to_master(child, (struct control_message){.type = CONTROL_UNADOPTED, .slot = (uint16_t)slot});
    return STATUS_OK;
}

/* The role begins to prepare it; one that it prepares already is out of date. */
static enum status on_generation(struct child *child, const struct control_message *message)
{
    struct child_private *private = child->private;
    struct child_generation next;
    const char *what = NULL;
    enum status status =
        child_generation_take(message->number, message->places, message->descriptors[GENERATION_FD_CONFIG],
            message->descriptors[GENERATION_FD_SECRETS], message->descriptors[GENERATION_FD_ACCESS],
            message->descriptors[GENERATION_FD_REVOKED], &next, &what);
    control_close_descriptors(message);
    if (status != STATUS_OK || child->handlers.generation == NULL) {
        struct control_message answer = {.type = CONTROL_REFUSED, .number = message->number};
        snprintf(answer.text, sizeof answer.text, "cannot %s: %s", what != NULL ? what : "switch",
            status_text(status));
        send_to_master(child, answer);
        return STATUS_OK;
    }
    struct child_generation outdated = private->next;
    private->next = next;
    child->handlers.generation(child->handlers.context, &private->next);
    child_generation_done(&outdated);
    return STATUS_OK;
}

static void prune_sockets(struct child *child)
{
    const uint8_t *places = child->private->current.places;
    child_slot_prune(&child->own, places);
    for (unsigned slot = 0; slot < CHILD_SLOTS_MAX; slot++)
        if (child->private->adopted[slot] != NULL)
            child_slot_prune(child->private->adopted[slot], places);
}

void child_generation_switched(struct child *child, const char *refused)
{
    struct child_private *private = child->private;
    struct control_message answer = {
        .type = refused == NULL ? CONTROL_SWITCHED : CONTROL_REFUSED, .number = private->next.number};
    if (refused == NULL) {
        child_generation_done(&private->current);
        private->current = private->next;
        child_forget_secrets(child);
        child->config = private->current.config;
        prune_sockets(child);
        log_set_level(child->config->log.level);
        tls_tickets_set_lifetime(child->tickets, child->config->tickets.lifetime_s);
        private->next = (struct child_generation){0};
    } else {
        snprintf(answer.text, sizeof answer.text, "%s", refused);
        child_generation_done(&private->next);
    }
    send_to_master(child, answer);
}

/* For the own slot, or one that is adopted (or was, until a moment ago). */
static enum status on_sockets(struct child *child, const struct control_message *message)
{
    if (message->slot >= child->workers)
        return STATUS_PROTOCOL;
    struct child_slot *slot =
        message->slot == child->slot ? &child->own : child->private->adopted[message->slot];
    if (slot == NULL) {
        control_close_descriptors(message);
        return STATUS_OK;
    }
    enum status status = child_slot_add(slot, message);
    if (status != STATUS_OK)
        return status;
    close(message->descriptors[SLOT_FD_WILL_TABLE]); /* it has them */
    close(message->descriptors[SLOT_FD_DELAYED_TABLE]);
    if (child->handlers.sockets != NULL)
        child->handlers.sockets(child->handlers.context, slot);
    return STATUS_OK;
}

static enum status dispatch(struct child *child, const struct control_message *message)
{
    switch (message->type) {
    case CONTROL_PING:
        on_ping(child, message->number);
        return STATUS_OK;
    case CONTROL_STOP:
        stop(child, CHILD_STOP_SHUTDOWN);
        return STATUS_OK;
    case CONTROL_PEER_STARTED:
    case CONTROL_PEER_DIED:
        return on_peer(child, message);
    case CONTROL_TICKET_KEY:
        tls_tickets_add(child->tickets, message->ticket_key, message->number);
        return STATUS_OK;
    case CONTROL_SOCKETS:
        return on_sockets(child, message);
    case CONTROL_GENERATION:
        return on_generation(child, message);
    case CONTROL_ADOPT:
        return on_adopt(child, message);
    case CONTROL_UNADOPT:
        return on_unadopt(child, message->slot);
    default:
        return STATUS_PROTOCOL;
    }
}

static void on_message(void *context, const struct control_message *message)
{
    struct child *child = context;
    enum status status = dispatch(child, message);
    if (status == STATUS_OK)
        return;
    control_close_descriptors(message);
    log_error("control message %s from the master: %s; ends", control_type_name(message->type),
        status_text(status));
    stop(child, CHILD_STOP_MASTER_GONE);
}

static void on_closed(void *context, enum status why)
{
    struct child *child = context;
    log_notice("the master is gone (%s): says goodbye and ends", status_text(why));
    stop(child, CHILD_STOP_MASTER_GONE);
}

/* The role has set its handlers by now: tell it who ran before it did. */
static void on_first_turn(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct child *child = argument;
    event_free(child->private->first_turn);
    child->private->first_turn = NULL;
    for (unsigned peer = 0; peer < child->peers; peer++) {
        uint64_t incarnation = child->private->peer_incarnations[peer];
        if (incarnation != 0 && child->handlers.peer_started != NULL)
            child->handlers.peer_started(child->handlers.context, peer, incarnation);
    }
}

static struct event_base *make_base(void)
{
    event_memory_use();
    struct event_config *settings = event_config_new();
    if (settings == NULL)
        return NULL;
    event_config_set_flag(settings, EVENT_BASE_FLAG_NOLOCK);
    struct event_base *base = event_base_new_with_config(settings);
    event_config_free(settings);
    return base;
}

enum status child_loop_open(struct child *child)
{
    struct child_private *private = child->private;
    child->base = make_base();
    if (child->base == NULL)
        return STATUS_SYSTEM;
    private->channel.context = child;
    private->channel.on_message = on_message;
    private->channel.on_closed = on_closed;
    if (evutil_make_socket_nonblocking(CHILD_FD_CONTROL) != 0)
        return STATUS_SYSTEM;
    enum status status = control_channel_open(&private->channel, CHILD_FD_CONTROL, child->base);
    if (status != STATUS_OK)
        return status;
    private->first_turn = event_new(child->base, -1, 0, on_first_turn, child);
    if (private->first_turn == NULL)
        return STATUS_NO_MEMORY;
    event_active(private->first_turn, EV_TIMEOUT, 0);
    return STATUS_OK;
}

void child_loop_close(struct child *child)
{
    for (unsigned slot = 0; slot < CHILD_SLOTS_MAX; slot++) {
        if (child->private->adopted[slot] != NULL)
            drop_adopted(child, slot);
    }
    control_channel_close(&child->private->channel);
    if (child->private->first_turn != NULL)
        event_free(child->private->first_turn);
    if (child->base != NULL)
        event_base_free(child->base);
    child->base = NULL;
}

void child_ready(struct child *child)
{
    send_to_master(child, (struct control_message){.type = CONTROL_READY});
}

void child_tell_node(struct child *child, unsigned peer, const char *json)
{
    struct control_message message = {.type = CONTROL_NODE_STATUS, .peer = (uint16_t)peer};
    snprintf(message.text, sizeof message.text, "%s", json);
    send_to_master(child, message);
}

void child_hear(struct child *child)
{
    control_channel_hear(&child->private->channel);
}

void child_run(struct child *child)
{
    while (!child->private->ended) {
        bool sleeps = child->handlers.may_sleep == NULL || child->handlers.may_sleep(child->handlers.context);
        event_base_loop(child->base, sleeps ? EVLOOP_ONCE : EVLOOP_NONBLOCK);
        if (child->handlers.turn != NULL)
            child->handlers.turn(child->handlers.context);
    }
}

void child_end(struct child *child)
{
    child->private->ended = true;
    event_base_loopbreak(child->base);
}
