/*
 * Clients of the control socket: one request line in, one answer line out, in the master's event loop. Knows
 * the protocol, not the commands.
 */
#include "node/master_control.h"

#include "shared/list.h"
#include "shared/log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define NAME_BEFORE      MASTER_CONTROL_NAME ".new"
#define CLIENT_TIMEOUT_S 15 /* for a request, and for each write to make progress */

struct control_client {
    struct list link; /* in master_control.clients */
    struct master_control *control;
    uint64_t number;
    bool deferred;       /* its answer comes later: reads no further request */
    int fd;              /* owned */
    struct event *read;  /* owned */
    struct event *write; /* owned */
    char *answer;        /* owned; NULL: reads */
    size_t answer_size, answer_sent;
    size_t request_size;
    char request[MASTER_CONTROL_REQUEST];
};

struct master_control {
    struct master_control_settings settings;
    int fd;               /* owned */
    struct event *accept; /* owned */
    struct list clients;
    unsigned client_count;
    uint64_t numbers; /* given to clients so far */
};

static const struct timeval client_timeout = {.tv_sec = CLIENT_TIMEOUT_S};

/* ---- clients ---------------------------------------------------------------------------------------------
 */

static void close_client(struct control_client *client)
{
    list_remove(&client->link);
    client->control->client_count--;
    if (client->read != NULL)
        event_free(client->read);
    if (client->write != NULL)
        event_free(client->write);
    close(client->fd);
    free(client->answer);
    free(client);
}

/* NULL: no memory, or it comes later (client->deferred). */
static char *answer_text(struct control_client *client, const char *line)
{
    const struct master_control_settings *settings = &client->control->settings;
    json_error_t error;
    json_t *request = json_loads(line, JSON_REJECT_DUPLICATES, &error);
    const char *command = json_string_value(json_object_get(request, "command"));
    char *text = NULL;
    if (command == NULL) {
        text = strdup("{\"ok\":false,\"error\":\"no such command\"}");
    } else {
        client->deferred = true; /* from inside the call it may be answered already */
        text = settings->answer(settings->context, command, request, client->number);
        client->deferred = client->deferred && text == NULL;
    }
    json_decref(request);
    return text;
}

static enum status set_answer(struct control_client *client, const char *text)
{
    size_t size = strlen(text);
    char *answer = malloc(size + 1);
    if (answer == NULL)
        return STATUS_NO_MEMORY;
    memcpy(answer, text, size);
    answer[size] = '\n';
    client->answer = answer;
    client->answer_size = size + 1;
    client->answer_sent = 0;
    return STATUS_OK;
}

/* Makes the answer to the first line in the request buffer. STATUS_AGAIN: the line is not complete, or the
 * answer comes later. */
static enum status take_request(struct control_client *client)
{
    char *end = memchr(client->request, '\n', client->request_size);
    if (end == NULL) /* no request of ours fills the buffer */
        return client->request_size < sizeof client->request ? STATUS_AGAIN : STATUS_LIMIT;
    *end = '\0';
    char *text = answer_text(client, client->request);
    client->request_size -= (size_t)(end - client->request) + 1;
    memmove(client->request, end + 1, client->request_size);
    if (client->answer != NULL) /* answered by master_control_answer() meanwhile */
        return STATUS_OK;
    if (text == NULL)
        return client->deferred ? STATUS_AGAIN : STATUS_NO_MEMORY;
    enum status status = set_answer(client, text);
    free(text);
    return status;
}

static enum status send_answer(struct control_client *client)
{
    while (client->answer_sent < client->answer_size) {
        ssize_t size = send(client->fd, client->answer + client->answer_sent,
            client->answer_size - client->answer_sent, MSG_NOSIGNAL);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return errno == EAGAIN ? STATUS_AGAIN : STATUS_SYSTEM;
        client->answer_sent += (size_t)size;
    }
    free(client->answer);
    client->answer = NULL;
    return STATUS_OK;
}

/* Answers whatever lines are there, then waits for more, or for room. May close the client. */
static void serve(struct control_client *client)
{
    enum status status;
    do {
        status = client->deferred ? STATUS_AGAIN : STATUS_OK;
        if (status == STATUS_OK && client->answer == NULL)
            status = take_request(client);
        if (status == STATUS_OK)
            status = send_answer(client);
    } while (status == STATUS_OK);
    if (status != STATUS_AGAIN) {
        close_client(client);
    } else if (client->answer != NULL) {
        event_del(client->read);
        event_add(client->write, &client_timeout);
    } else {
        event_del(client->write);
        event_del(client->read); /* forgets its time-out */
        event_add(client->read, client->deferred ? NULL : &client_timeout);
    }
}

void master_control_answer(struct master_control *control, uint64_t number, const char *text)
{
    list_for_each(&control->clients, link, next)
    {
        struct control_client *client = list_entry(link, struct control_client, link);
        if (client->number != number || !client->deferred)
            continue;
        client->deferred = false;
        /* Served from the loop: this may be called while its request is looked at. */
        if (text != NULL && set_answer(client, text) == STATUS_OK)
            event_active(client->write, EV_WRITE, 0);
        else
            event_active(client->read, EV_TIMEOUT, 0);
        return;
    }
}

static void on_client_read(evutil_socket_t fd, short what, void *argument)
{
    struct control_client *client = argument;
    ssize_t size = 0;
    if ((what & EV_TIMEOUT) == 0)
        size =
            read(fd, client->request + client->request_size, sizeof client->request - client->request_size);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0) {
        close_client(client);
        return;
    }
    client->request_size += (size_t)size;
    serve(client);
}

static void on_client_write(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    struct control_client *client = argument;
    if ((what & EV_TIMEOUT) != 0)
        close_client(client);
    else
        serve(client);
}

static bool may_ask(const struct master_control *control, int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return false;
    if (peer.uid == 0 || peer.uid == control->settings.folders->uid || peer.uid == geteuid())
        return true;
    log_warning("control socket: process %d of uid %u may not ask", (int)peer.pid, (unsigned)peer.uid);
    return false;
}

static void open_client(struct master_control *control, int fd)
{
    struct control_client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        close(fd);
        return;
    }
    client->control = control;
    client->number = ++control->numbers;
    client->fd = fd;
    list_append(&control->clients, &client->link);
    control->client_count++;
    client->read = event_new(control->settings.base, fd, EV_READ | EV_PERSIST, on_client_read, client);
    client->write = event_new(control->settings.base, fd, EV_WRITE | EV_PERSIST, on_client_write, client);
    if (client->read == NULL || client->write == NULL || event_add(client->read, &client_timeout) != 0)
        close_client(client);
}

static void on_accept(evutil_socket_t listener, short what, void *argument)
{
    (void)what;
    struct master_control *control = argument;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (control->client_count >= MASTER_CONTROL_CLIENTS || !may_ask(control, fd))
        close(fd);
    else
        open_client(control, fd);
}

/* ---- the socket -------------------------------------------------------------------------------------------
 */

/*
 * By way of the open folder: whatever was done to its path meanwhile, the socket lands in it, and short
 * enough. It gets its name when it listens: where there is a name, there is an answer.
 */
static enum status bind_in_folder(int fd, const struct master_folders *folders)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int folder = folders->run_dir;
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" NAME_BEFORE, folder);
    if (unlinkat(folder, NAME_BEFORE, 0) != 0 && errno != ENOENT)
        return STATUS_SYSTEM;
    mode_t before = umask(0177);
    int bound = bind(fd, (const struct sockaddr *)&address, sizeof address);
    umask(before);
    if (bound != 0)
        return STATUS_SYSTEM;
    if (folders->drop && fchownat(folder, NAME_BEFORE, folders->uid, folders->gid, AT_SYMLINK_NOFOLLOW) != 0)
        return STATUS_SYSTEM;
    if (listen(fd, MASTER_CONTROL_CLIENTS) != 0)
        return STATUS_SYSTEM;
    return renameat(folder, NAME_BEFORE, folder, MASTER_CONTROL_NAME) == 0 ? STATUS_OK : STATUS_SYSTEM;
}

enum status master_control_open(
    const struct master_control_settings *settings, struct master_control **ret_control)
{
    struct master_control *control = calloc(1, sizeof *control);
    if (control == NULL)
        return STATUS_NO_MEMORY;
    control->settings = *settings;
    list_init(&control->clients);
    control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    enum status status = control->fd < 0 ? STATUS_SYSTEM : bind_in_folder(control->fd, settings->folders);
    if (status == STATUS_OK) {
        control->accept = event_new(settings->base, control->fd, EV_READ | EV_PERSIST, on_accept, control);
        if (control->accept == NULL || event_add(control->accept, NULL) != 0)
            status = STATUS_NO_MEMORY;
    }
    if (status != STATUS_OK) {
        int error = errno;
        master_control_close(&control);
        errno = error;
        return status;
    }
    *ret_control = control;
    return STATUS_OK;
}

void master_control_close(struct master_control **control_pointer)
{
    struct master_control *control = *control_pointer;
    if (control == NULL)
        return;
    list_for_each(&control->clients, link, next)
    {
        close_client(list_entry(link, struct control_client, link));
    }
    if (control->accept != NULL)
        event_free(control->accept);
    if (control->fd >= 0) {
        close(control->fd);
        unlinkat(control->settings.folders->run_dir, MASTER_CONTROL_NAME, 0);
    }
    free(control);
    *control_pointer = NULL;
}
