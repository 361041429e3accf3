/* shoalctl's end of the control socket. Never waits without a limit: a stopped master must not hang the
 * operator. */
#include "node/shoalctl.h"

#include "node/master_control.h"
#include "shared/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MAX ((size_t)16 << 20)

/* A socket address holds 107 bytes, a path may be longer: its folder is opened and named by number. */
static enum status make_address(const char *path, struct sockaddr_un *address, int *ret_folder)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    char *folder = slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (folder == NULL)
        return STATUS_NO_MEMORY;
    int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0)
        return STATUS_SYSTEM;
    address->sun_family = AF_UNIX;
    int size = snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", fd, name);
    if (size < 0 || (size_t)size >= sizeof address->sun_path) {
        close(fd);
        errno = ENAMETOOLONG;
        return STATUS_SYSTEM;
    }
    *ret_folder = fd;
    return STATUS_OK;
}

static void print_connect_error(const char *path, int error)
{
    const char *hint = "";
    if (error == ENOENT || error == ECONNREFUSED)
        hint = ": no node runs there";
    else if (error == EACCES)
        hint = ": only root and the node's user may ask";
    else if (error == EAGAIN)
        hint = ": the master does not accept; it is stopped or overwhelmed";
    fprintf(stderr, "shoalctl: cannot connect to %s: %s%s\n", path, strerror(error), hint);
}

enum status shoalctl_connect(const char *path, int *ret_fd)
{
    struct sockaddr_un address = {0};
    int folder = -1;
    int fd = -1;
    enum status status = make_address(path, &address, &folder);
    if (status == STATUS_OK) {
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
            status = STATUS_SYSTEM;
    }
    int error = errno;
    if (folder >= 0)
        close(folder);
    if (status != STATUS_OK) {
        print_connect_error(path, error);
        if (fd >= 0)
            close(fd);
        return status;
    }
    *ret_fd = fd;
    return STATUS_OK;
}

/* Waits for one of `events`; false when the time is over. */
static bool wait_until(int fd, short events, uint64_t deadline_us)
{
    for (;;) {
        uint64_t now = clock_monotonic_us();
        struct pollfd entry = {.fd = fd, .events = events};
        int left_ms = now >= deadline_us ? 0 : (int)((deadline_us - now + 999) / 1000);
        int ready = poll(&entry, 1, left_ms);
        if (ready > 0)
            return true;
        if (ready == 0 || errno != EINTR)
            return false;
    }
}

static enum status send_request(int fd, const json_t *request, uint64_t deadline_us)
{
    char line[MASTER_CONTROL_REQUEST];
    size_t size = json_dumpb(request, line, sizeof line - 1, JSON_COMPACT);
    if (size == 0 || size >= sizeof line)
        return STATUS_LIMIT;
    line[size++] = '\n';
    if (!wait_until(fd, POLLOUT, deadline_us))
        return STATUS_AGAIN;
    return send(fd, line, size, MSG_NOSIGNAL) == (ssize_t)size ? STATUS_OK : STATUS_SYSTEM;
}

/* One line, to free(). */
static enum status receive_line(int fd, uint64_t deadline_us, char **ret_line)
{
    size_t size = 0, room = 65536;
    char *line = malloc(room);
    enum status status = line == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    while (status == STATUS_OK) {
        if (size == room) {
            char *larger = room < ANSWER_MAX ? realloc(line, room * 2) : NULL;
            if (larger == NULL) {
                status = STATUS_LIMIT;
                break;
            }
            line = larger;
            room *= 2;
        }
        if (!wait_until(fd, POLLIN, deadline_us)) {
            status = STATUS_AGAIN;
            break;
        }
        ssize_t got = recv(fd, line + size, room - size, 0);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0) {
            status = got == 0 ? STATUS_CLOSED : STATUS_SYSTEM;
            break;
        }
        size += (size_t)got;
        if (line[size - 1] == '\n') {
            line[size - 1] = '\0';
            *ret_line = line;
            return STATUS_OK;
        }
    }
    free(line);
    return status;
}

enum status shoalctl_ask(int fd, const json_t *request, unsigned timeout_s, json_t **ret_answer)
{
    uint64_t deadline_us = clock_monotonic_us() + timeout_s * UINT64_C(1000000);
    char *line = NULL;
    enum status status = send_request(fd, request, deadline_us);
    if (status == STATUS_OK)
        status = receive_line(fd, deadline_us, &line);
    if (status == STATUS_AGAIN)
        fprintf(stderr,
            "shoalctl: no answer within %u s: the master is stopped (SIGSTOP, debugger) or hangs\n",
            timeout_s);
    else if (status == STATUS_CLOSED)
        fputs("shoalctl: the node closed the connection: only root and its user may ask\n", stderr);
    else if (status != STATUS_OK)
        fprintf(stderr, "shoalctl: cannot ask the node: %s\n",
            status == STATUS_SYSTEM ? strerror(errno) : status_text(status));
    if (status != STATUS_OK)
        return status;
    json_t *answer = json_loads(line, 0, NULL);
    free(line);
    if (answer == NULL) {
        fputs("shoalctl: what the node answered is not JSON\n", stderr);
        return STATUS_PROTOCOL;
    }
    *ret_answer = answer;
    return STATUS_OK;
}

/* The master's process, readable when that has ended; -1: gone already. */
static int open_process(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.pid <= 0)
        return -1;
    return (int)syscall(SYS_pidfd_open, peer.pid, 0);
}

enum status shoalctl_wait_end(int fd, unsigned timeout_s)
{
    uint64_t deadline_us = clock_monotonic_us() + timeout_s * UINT64_C(1000000);
    int process = open_process(fd);
    bool ended = process < 0 || wait_until(process, POLLIN, deadline_us);
    if (process >= 0)
        close(process);
    return ended ? STATUS_OK : STATUS_AGAIN;
}
