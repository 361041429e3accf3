/* The load checker's command line. */
#ifndef TESTS_LOAD_OPTIONS_H
#define TESTS_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct options {
    uint32_t port, tls_port; /* tls_port 0: none; both: every other client takes TLS */
    uint32_t clients;        /* from the start */
    uint32_t watchers;       /* those of them that get everything and the wills */
    uint32_t rate;           /* publications a second in all; 0: as many as the windows let through */
    uint32_t window;         /* unacknowledged publications of one client */
    uint32_t size;           /* bytes of a payload */
    uint32_t large_every;    /* every so many, one of large_size; 0: none */
    uint32_t large_size;
    uint32_t seconds;         /* publishing ends then, or when «stop» comes by stdin */
    uint32_t patience;        /* s to wait for what is still owed */
    uint32_t persistent;      /* percent of the clients whose sessions outlive connections */
    uint32_t joins, join_ms;  /* clients that come later, one every join_ms */
    uint32_t movers;          /* the last so many of `clients`: persistent, open a new connection … */
    uint32_t move_ms;         /* … about every move_ms, */
    uint32_t moves;           /* so often, the old connection still open */
    uint32_t early;           /* percent of moves that do not wait for CONNACK of the last one */
    uint32_t expect_sessions; /* 1: a persistent session that is not there is a violation */
    uint32_t wills;           /* 1: clients have wills */
    uint32_t seed;
};

/* Fills the options; false: an argument was wrong or help was asked for, and said so. */
bool options_read(int count, char **words, struct options *ret_options);

#endif
