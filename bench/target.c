/* Finds the broker, starts the floor. */
#include "bench/target.h"
#include "bench/floor.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

static bool set_context(struct target *target, const struct options *options, const struct tls_files *files)
{
    if (!options->tls)
        return true;
    target->context = tls_client_context(files);
    if (target->context != NULL)
        return true;
    fprintf(stderr, "shoal-bench: TLS: %s\n", ERR_reason_error_string(ERR_get_error()));
    return false;
}

bool target_broker(struct target *target, const struct options *options)
{
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    memset(target, 0, sizeof *target);
    snprintf(port, sizeof port, "%u", options->port);
    int error = getaddrinfo(options->host, port, &hints, &found);
    if (error != 0) {
        fprintf(stderr, "shoal-bench: %s: %s\n", options->host, gai_strerror(error));
        return false;
    }
    memcpy(&target->address, found->ai_addr, found->ai_addrlen);
    target->address_size = found->ai_addrlen;
    freeaddrinfo(found);
    target->name = "broker";
    target->host = options->host;
    target->pid = options->broker_pid;
    return set_context(target, options, &options->files);
}

bool target_floor(struct target *target, const struct options *options)
{
    struct tls_files fresh = {0};
    struct tls_files client = {.version = options->files.version};
    uint16_t port = 0;
    memset(target, 0, sizeof *target);
    target->pid = floor_start(options->tls ? &fresh : NULL, &port);
    if (target->pid < 0) {
        perror("shoal-bench: the floor cannot be started");
        return false;
    }
    struct sockaddr_in *address = (void *)&target->address;
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address->sin_port = htons(port);
    target->address_size = sizeof *address;
    target->name = "floor";
    target->host = "localhost";
    target->started = true;
    return set_context(target, options, &client);
}

void target_done(struct target *target)
{
    if (target->started) {
        kill(target->pid, SIGKILL);
        waitpid(target->pid, NULL, 0);
    }
    SSL_CTX_free(target->context);
    memset(target, 0, sizeof *target);
}
