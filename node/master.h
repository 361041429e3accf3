/*
 * The master process: validates the configuration, opens folders, memory and listening sockets, supervises
 * the children, answers shoalctl. Never speaks MQTT, never uses nanomsg, never starts a thread, never blocks.
 */
#ifndef NODE_MASTER_H
#define NODE_MASTER_H

#include "shared/config.h"

/* Exit codes of shoald; `shoald --help` documents them. */
enum master_exit {
    MASTER_EXIT_OK = 0,     /* stopped in order, or the check found nothing wrong */
    MASTER_EXIT_CONFIG = 1, /* the configuration, a certificate or a key is wrong */
    MASTER_EXIT_USAGE = 2,  /* the command line is wrong */
    MASTER_EXIT_START = 3,  /* could not start: an address in use, a folder, another shoald, no memory */
    MASTER_EXIT_FORCED = 4, /* stopped, but a worker had to be killed: a second signal, or out of time */
};

/* Runs the node in the foreground; returns the exit code. */
int master_main(const struct config_source *source);

/* Validates configuration, certificates and keys, and nothing else: binds no socket, writes no file. */
int master_check(const struct config_source *source);

#endif
