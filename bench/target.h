/* Whom a scenario is run against: the broker, or the floor that shoal-bench starts beside it. */
#ifndef BENCH_TARGET_H
#define BENCH_TARGET_H

#include "bench/options.h"

#include <netinet/in.h>
#include <openssl/types.h>
#include <sys/socket.h>

struct target {
    const char *name;
    const char *host;
    struct sockaddr_storage address;
    socklen_t address_size;
    SSL_CTX *context; /* owned; NULL: plain */
    pid_t pid;        /* of the process tree to measure; 0: none */
    bool started;     /* by us: ended by target_done() */
};

/* False: a message was printed. */
bool target_broker(struct target *target, const struct options *options);
bool target_floor(struct target *target, const struct options *options);
void target_done(struct target *target);

#endif
