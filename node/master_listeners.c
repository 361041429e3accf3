/*
 * Opens the listening sockets. The first socket of a listener is bound without SO_REUSEPORT, which it gets
 * afterwards: otherwise a second program with that option would silently share our clients instead of one of
 * the two failing. Options that accepted sockets inherit are set here, which saves the workers a call each.
 */
#include "node/master_listeners.h"

#include "node/descriptor.h"
#include "node/master_socket_file.h"
#include "shared/config_address.h"
#include "shared/config_context.h"
#include "shared/counters.h"
#include "shared/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A peer that is silent for tcp_keepalive is given up this many probes later. */
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_PROBES     3

/* The sockets of one address. */
struct master_listener {
    unsigned references; /* sets that have it */
    unsigned workers;
    uint8_t place;
    char *bind_text; /* owned, as all below */
    bool is_unix;
    struct config_bind bind; /* without its text */
    struct master_socket_file file;
    int sockets[]; /* [slot]; -1: not open */
};

struct bind_address {
    struct sockaddr_storage address;
    socklen_t size;
    bool both_families;
};

static bool set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

static void set_inherited_options(int fd, const struct config_listener *listener)
{
    /* None of them is worth refusing to start: the system clamps or ignores what it does not like. */
    if (listener->nodelay)
        set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (listener->sndbuf > 0)
        set_option(fd, SOL_SOCKET, SO_SNDBUF, (int)listener->sndbuf);
    if (listener->recbuf > 0)
        set_option(fd, SOL_SOCKET, SO_RCVBUF, (int)listener->recbuf);
    if (listener->tcp_keepalive_s > 0) {
        set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)listener->tcp_keepalive_s);
        set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
        set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
    }
    if (listener->tcp_user_timeout_ms > 0)
        set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)listener->tcp_user_timeout_ms);
}

static enum status open_socket(
    const struct config_listener *listener, const struct bind_address *where, bool first, int *ret_fd)
{
    int fd = socket(where->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return STATUS_SYSTEM;
    set_inherited_options(fd, listener);
    bool good = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (where->address.ss_family == AF_INET6)
        good = good && set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, where->both_families ? 0 : 1);
    if (!first)
        good = good && set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    good = good && bind(fd, (const struct sockaddr *)&where->address, where->size) == 0;
    if (first)
        good = good && set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    good = good && listen(fd, (int)listener->backlog) == 0;
    if (!good) {
        int error = errno;
        close(fd);
        errno = error;
        return STATUS_SYSTEM;
    }
    *ret_fd = fd;
    return STATUS_OK;
}

static void use_ipv4(struct bind_address *where, uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_ANY)};
    memset(&where->address, 0, sizeof where->address);
    memcpy(&where->address, &address, sizeof address);
    where->size = sizeof address;
}

/* `alone`: nobody else may listen there, not even we. */
static enum status open_first(
    const struct config_listener *listener, struct bind_address *where, bool alone, int *ret_fd)
{
    enum status status = open_socket(listener, where, alone, ret_fd);
    if (status != STATUS_OK && where->both_families && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) {
        use_ipv4(where, listener->bind.port); /* a kernel without IPv6 */
        status = open_socket(listener, where, alone, ret_fd);
    }
    return status;
}

static enum status open_listener(
    const struct config_listener *listener, unsigned workers, bool alone, int *sockets)
{
    struct bind_address where = {.address = listener->bind.address,
        .size = listener->bind.address_size,
        .both_families = listener->bind.both_families};
    enum status status = open_first(listener, &where, alone, &sockets[0]);
    if (status != STATUS_OK)
        return status;
    /* Port 0 has become a real one that the others must share. */
    where.size = sizeof where.address;
    if (getsockname(sockets[0], (struct sockaddr *)&where.address, &where.size) != 0)
        return STATUS_SYSTEM;
    for (unsigned slot = 1; slot < workers && status == STATUS_OK; slot++)
        status = open_socket(listener, &where, false, &sockets[slot]);
    return status;
}

static void tell_failure(const struct config *config, const struct config_listener *listener, int error,
    const char *reason, struct config_errors *errors)
{
    char what[160] = "";
    if (listener->type == CONFIG_LISTENER_UNIX)
        snprintf(what, sizeof what, "%s", reason != NULL ? "" : ": see the permissions of its folder");
    else if (error == EADDRINUSE)
        snprintf(what, sizeof what,
            ": see which program has it with ss -ltnp 'sport = :%u', stop that or change the bind",
            listener->bind.port);
    else if (error == EACCES)
        snprintf(what, sizeof what, ": ports this low need root or CAP_NET_BIND_SERVICE");
    else if (error == EADDRNOTAVAIL)
        snprintf(what, sizeof what, ": no interface of this machine has that address, see ip address");
    if (reason == NULL)
        reason = strerror(error);
    if (errors == NULL) {
        log_error("listener %s cannot listen on %s: %s%s", listener->key, listener->bind.text, reason, what);
        return;
    }
    const struct config_context context = {
        .file = config->file, .node = config->cluster.path, .errors = errors};
    char path[CONFIG_PATH_TEXT_MAX];
    snprintf(path, sizeof path, "listeners.%s.bind", listener->key);
    config_complain(&context, path, "cannot listen on %s: %s%s", listener->bind.text, reason, what);
}

/* One socket, shared: each slot has a descriptor of it. */
static enum status open_unix(const struct config_listener *listener, uid_t uid, gid_t gid, unsigned workers,
    int *sockets, struct master_socket_file *ret_file, const char **ret_error)
{
    enum status status = master_socket_file_open(listener, uid, gid, ret_file, &sockets[0], ret_error);
    if (status != STATUS_OK)
        return status;
    if (listener->sndbuf > 0)
        set_option(sockets[0], SOL_SOCKET, SO_SNDBUF, (int)listener->sndbuf);
    for (unsigned slot = 1; slot < workers; slot++) {
        sockets[slot] = fcntl(sockets[0], F_DUPFD_CLOEXEC, 0);
        if (sockets[slot] < 0)
            return STATUS_SYSTEM;
    }
    return STATUS_OK;
}

static void listener_unref(struct master_listener **listener_pointer)
{
    struct master_listener *listener = *listener_pointer;
    *listener_pointer = NULL;
    if (listener == NULL || --listener->references > 0)
        return;
    const struct config_listener as_configured = {.bind = {.text = listener->bind_text}};
    master_socket_file_remove(&as_configured, &listener->file);
    for (unsigned slot = 0; slot < listener->workers; slot++)
        descriptor_close(&listener->sockets[slot]);
    free(listener->bind_text);
    free(listener);
}

static struct master_listener *listener_new(
    const struct config_listener *config, unsigned workers, uint8_t place)
{
    struct master_listener *listener = calloc(1, sizeof *listener + workers * sizeof listener->sockets[0]);
    char *text = strdup(config->bind.text);
    if (listener == NULL || text == NULL) {
        free(listener);
        free(text);
        return NULL;
    }
    listener->references = 1;
    listener->workers = workers;
    listener->place = place;
    listener->bind_text = text;
    listener->is_unix = config->type == CONFIG_LISTENER_UNIX;
    listener->bind = config->bind;
    listener->bind.text = NULL;
    for (unsigned slot = 0; slot < workers; slot++)
        listener->sockets[slot] = -1;
    return listener;
}

/* Who has that very address. */
static struct master_listener *find_same(
    const struct master_listeners *running, const struct config_listener *config)
{
    bool is_unix = config->type == CONFIG_LISTENER_UNIX;
    for (unsigned i = 0; running != NULL && i < running->count; i++) {
        struct master_listener *other = running->shared[i];
        if (other->is_unix == is_unix && strcmp(other->bind_text, config->bind.text) == 0)
            return other;
    }
    return NULL;
}

static bool overlaps_any(const struct master_listeners *running, const struct config_listener *config)
{
    for (unsigned i = 0; running != NULL && i < running->count; i++)
        if (config_bind_overlaps(&running->shared[i]->bind, &config->bind))
            return true;
    return false;
}

struct opening { /* what one call of master_listeners_open() knows */
    uid_t uid;
    gid_t gid;
    const struct master_listeners *running;
    uint64_t busy; /* places that are taken */
    struct config_errors *errors;
};

static enum status open_new(struct opening *opening, const struct config *whole,
    const struct config_listener *config, unsigned workers, struct master_listener **ret_listener)
{
    unsigned place = 0;
    while (place < COUNTERS_LISTENERS_MAX && (opening->busy >> place & 1) != 0)
        place++;
    struct master_listener *listener =
        place == COUNTERS_LISTENERS_MAX ? NULL : listener_new(config, workers, (uint8_t)place);
    if (listener == NULL)
        return STATUS_NO_MEMORY;
    const char *reason = NULL;
    bool alone = !overlaps_any(opening->running, config);
    enum status status = listener->is_unix ? open_unix(config, opening->uid, opening->gid, workers,
                                                 listener->sockets, &listener->file, &reason)
                                           : open_listener(config, workers, alone, listener->sockets);
    if (status != STATUS_OK) {
        tell_failure(whole, config, errno, reason, opening->errors);
        listener_unref(&listener);
        return status;
    }
    opening->busy |= UINT64_C(1) << place;
    *ret_listener = listener;
    return STATUS_OK;
}

enum status master_listeners_open(const struct config *config, uid_t uid, gid_t gid,
    const struct master_listeners *running, uint64_t busy, struct config_errors *errors,
    struct master_listeners *ret_listeners)
{
    struct opening opening = {.uid = uid, .gid = gid, .running = running, .busy = busy, .errors = errors};
    struct master_listeners listeners = {
        .config = config, .workers = config->node.workers, .count = (unsigned)config->listener_count};
    listeners.shared = calloc((size_t)listeners.count + 1, sizeof *listeners.shared);
    enum status result = listeners.shared == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    for (unsigned i = 0; running != NULL && i < running->count; i++)
        opening.busy |= UINT64_C(1) << running->shared[i]->place;
    for (unsigned i = 0; listeners.shared != NULL && i < listeners.count; i++) {
        listeners.shared[i] = find_same(running, &config->listeners[i]);
        if (listeners.shared[i] != NULL) {
            listeners.shared[i]->references++;
            continue;
        }
        enum status status =
            open_new(&opening, config, &config->listeners[i], listeners.workers, &listeners.shared[i]);
        result = result == STATUS_OK ? status : result; /* and on: all of them at once */
    }
    if (result != STATUS_OK) {
        master_listeners_close(&listeners);
        return result;
    }
    *ret_listeners = listeners;
    return STATUS_OK;
}

void master_listeners_close(struct master_listeners *listeners)
{
    for (unsigned i = 0; listeners->shared != NULL && i < listeners->count; i++)
        listener_unref(&listeners->shared[i]);
    free(listeners->shared);
    listeners->shared = NULL;
    listeners->count = 0;
}

void master_listeners_apply(const struct master_listeners *listeners)
{
    for (unsigned i = 0; i < listeners->count; i++) {
        const struct config_listener *config = &listeners->config->listeners[i];
        const struct master_listener *listener = listeners->shared[i];
        for (unsigned slot = 0; slot < listeners->workers; slot++)
            if (listen(listener->sockets[slot], (int)config->backlog) != 0)
                log_warning("listener %s: its backlog stays as it was: %s", config->key, strerror(errno));
        if (listener->is_unix && master_socket_file_mode(config, &listener->file) != STATUS_OK)
            log_warning(
                "listener %s: the mode of its file stays as it was: %s", config->key, strerror(errno));
    }
}

void master_listeners_places(const struct master_listeners *listeners, uint8_t places[CONFIG_LISTENERS_MAX])
{
    memset(places, MASTER_NO_PLACE, CONFIG_LISTENERS_MAX);
    for (unsigned i = 0; i < listeners->count; i++)
        places[i] = listeners->shared[i]->place;
}

int master_listeners_socket(const struct master_listeners *listeners, unsigned listener, unsigned slot)
{
    return listeners->shared[listener]->sockets[slot];
}

void master_listeners_address(
    const struct master_listeners *listeners, unsigned listener, char text[MASTER_ADDRESS_SIZE])
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned port = 0;
    if (listeners->config->listeners[listener].type == CONFIG_LISTENER_UNIX) {
        snprintf(text, MASTER_ADDRESS_SIZE, "%s", listeners->config->listeners[listener].bind.text);
        return;
    }
    (void)getsockname(master_listeners_socket(listeners, listener, 0), (struct sockaddr *)&address, &size);
    if (address.ss_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, &address, sizeof v6);
        inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof host);
        port = ntohs(v6.sin6_port);
    } else if (address.ss_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, &address, sizeof v4);
        inet_ntop(AF_INET, &v4.sin_addr, host, sizeof host);
        port = ntohs(v4.sin_port);
    }
    snprintf(text, MASTER_ADDRESS_SIZE, address.ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u", host, port);
}
