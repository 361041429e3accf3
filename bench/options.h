/* What the command line asks for. One table in options.c is the parser and the help. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "bench/tls_files.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct options {
    const char *host;
    uint16_t port;    /* 0: no broker, the floor alone */
    pid_t broker_pid; /* 0: no CPU figures of the broker */
    bool tls;
    struct tls_files files;
    uint8_t version; /* 4 or 5 */
    uint8_t qos;
    uint32_t pairs;       /* p2p */
    uint32_t subscribers; /* fanout */
    uint32_t publishers;  /* fanin */
    uint32_t size;        /* bytes of payload */
    uint32_t inflight;    /* per publisher */
    uint32_t rate;        /* publications a second in all, open loop; 0: as fast as it goes */
    uint32_t connections; /* handshake: at once; idle: in all */
    double seconds;
    uint32_t rounds;
    bool resume;   /* handshake: with the earlier session */
    bool no_floor; /* do not run the floor beside */
};

/* Parses what stands behind the scenario's name. False: a message was printed. */
bool options_parse(int argc, char **argv, struct options *ret_options);
void options_print(void);

#endif
