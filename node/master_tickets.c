/* Rotation by a timer; a key that cannot be made is tried again soon, and the former one serves on. Master
 * only. */
#include "node/master_tickets.h"

#include "node/master_children.h"
#include "shared/clock.h"
#include "shared/tls_tickets.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

struct master_tickets {
    struct tls_tickets *keys;         /* owned */
    struct event *timer;              /* owned; the next rotation */
    struct master_children *children; /* borrowed; NULL: none yet */
    uint32_t rotation_s;
};

static void arm(struct master_tickets *tickets)
{
    const struct timeval wait = {.tv_sec = (time_t)tickets->rotation_s};
    event_add(tickets->timer, &wait);
}

static void send_key(struct master_child *child, const uint8_t *key, uint64_t from_s)
{
    struct control_message message = {.type = CONTROL_TICKET_KEY, .number = from_s};
    memcpy(message.ticket_key, key, sizeof message.ticket_key);
    master_child_send(child, &message);
    OPENSSL_cleanse(&message, sizeof message);
}

static void send_to_all(const struct master_tickets *tickets, const uint8_t *key, uint64_t from_s)
{
    struct master_children *children = tickets->children;
    for (unsigned slot = 0; children != NULL && slot < children->count; slot++)
        if (children->table[slot].pid != 0)
            send_key(&children->table[slot], key, from_s);
}

static enum status make_key(struct master_tickets *tickets, unsigned ahead_s)
{
    uint8_t key[TLS_TICKET_KEY_SIZE];
    enum status status = tls_tickets_make_key(key);
    if (status != STATUS_OK)
        return status;
    uint64_t from_s = clock_real_us() / 1000000 + ahead_s;
    tls_tickets_add(tickets->keys, key, from_s);
    send_to_all(tickets, key, from_s);
    OPENSSL_cleanse(key, sizeof key);
    return STATUS_OK;
}

static void on_rotation(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct master_tickets *tickets = argument;
    if (make_key(tickets, TLS_TICKET_KEY_AHEAD_S) == STATUS_OK)
        log_debug("session tickets: a new key");
    else
        log_error("session tickets: no random bytes for a new key, the former one serves on");
    arm(tickets);
}

enum status master_tickets_open(
    struct event_base *base, const struct config_tickets *config, struct master_tickets **ret_tickets)
{
    struct master_tickets *tickets = calloc(1, sizeof *tickets);
    if (tickets == NULL)
        return STATUS_NO_MEMORY;
    tickets->rotation_s = config->rotation_s;
    tickets->timer = event_new(base, -1, 0, on_rotation, tickets);
    enum status status = tickets->timer == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK)
        status = tls_tickets_new(config->lifetime_s, &tickets->keys);
    if (status == STATUS_OK)
        status = make_key(tickets, 0);
    if (status != STATUS_OK) {
        master_tickets_close(&tickets);
        return status;
    }
    arm(tickets);
    *ret_tickets = tickets;
    return STATUS_OK;
}

void master_tickets_close(struct master_tickets **tickets_pointer)
{
    struct master_tickets *tickets = *tickets_pointer;
    if (tickets == NULL)
        return;
    if (tickets->timer != NULL)
        event_free(tickets->timer);
    tls_tickets_free(&tickets->keys);
    free(tickets);
    *tickets_pointer = NULL;
}

void master_tickets_serve(struct master_tickets *tickets, struct master_children *children)
{
    tickets->children = children;
}

void master_tickets_configure(struct master_tickets *tickets, const struct config_tickets *config)
{
    tls_tickets_set_lifetime(tickets->keys, config->lifetime_s);
    if (tickets->rotation_s == config->rotation_s)
        return;
    tickets->rotation_s = config->rotation_s;
    arm(tickets);
}

void master_tickets_send(const struct master_tickets *tickets, struct master_child *child)
{
    for (unsigned i = 0; i < tls_tickets_count(tickets->keys); i++) {
        uint64_t from_s;
        const uint8_t *key = tls_tickets_key(tickets->keys, i, &from_s);
        send_key(child, key, from_s);
    }
}
