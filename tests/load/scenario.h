/*
 * What the clients of the load checker do: connect, subscribe, publish to each other, come back when their
 * connection dies, join later, move about. One process, one thread; time is monotonic, in microseconds.
 */
#ifndef TESTS_LOAD_SCENARIO_H
#define TESTS_LOAD_SCENARIO_H

#include "tests/load/books.h"
#include "tests/load/client.h"
#include "tests/load/options.h"

/* A client and how it was served on its present connection. */
struct member {
    struct client *client;
    uint64_t reopen_us; /* when to open a connection; 0: it has one */
    uint64_t move_us;   /* a mover's next move */
    uint32_t moves;
    bool early;                                                  /* the next one does not wait for CONNACK */
    bool subscribed;                                             /* in this session */
    uint64_t connect_us, suback_us, exchange_us, exchange_at_us; /* the longest exchange and when it began */
};

struct loss { /* a connection that ended against our will */
    uint64_t at_us, opened_us;
    uint32_t client, connection;
    uint16_t port;
    int reason;
    const char *why;
    bool connected;
    bool overtaken; /* by a connection that its own client had opened a moment before */
};

struct scenario {
    struct options options;
    struct client_loop loop;
    struct books *books;
    struct member *members;
    uint32_t count; /* clients so far */
    struct loss *losses;
    uint32_t loss_count, loss_capacity;
    uint64_t start_us, last_arrival_us;
    uint64_t exchange_us, connect_us, suback_us; /* the longest of all, connections that died included */
    uint64_t moved, published;
    uint64_t random;
    bool publishing;
};

/* False with a message: nothing can be started. */
bool scenario_open(struct scenario *scenario, const struct options *options);
/* Runs until all is over: everything is connected, published, arrived or given up. */
void scenario_run(struct scenario *scenario);
/* Clients say goodbye; frees all. */
void scenario_close(struct scenario *scenario);

/* report.c: the summary; true: no violation. Closes the books. */
bool report(struct scenario *scenario);

#endif
