/*
 * A generation as a child gets it: three sealed memfds become a configuration and two mapped blocks. The
 * child module owns one that is in use and, while its role prepares the switch, the next one. Any child.
 */
#ifndef NODE_CHILD_GENERATION_H
#define NODE_CHILD_GENERATION_H

#include "shared/bytes.h"
#include "shared/config.h"
#include "shared/status.h"
#include "shared/tls_revoked.h"

struct child_generation {
    uint64_t number;
    struct config *config;                /* owned */
    uint8_t places[CONFIG_LISTENERS_MAX]; /* of its listeners: by them their sockets are known */
    struct bytes secrets; /* what tls_material_serialize() made; mapped read-only, locked, never dumped; gone
                             after child_generation_forget() */
    struct tls_revoked *revoked; /* shared; contexts share it, too */
    struct bytes access; /* what access_files_load() made; read-only, never dumped; gone as well then */
};

/* Reads and maps; the descriptors stay the caller's. On failure nothing is left; *ret_what says what failed.
 */
enum status child_generation_take(uint64_t number, const uint8_t places[CONFIG_LISTENERS_MAX], int config,
    int secrets, int access, int revoked, struct child_generation *ret_generation,
    const char **ret_what) CHECK_RESULT;
/* Unmaps key material and access files. */
void child_generation_forget(struct child_generation *generation);
/* The same, and frees the configuration. Accepts a zeroed one. */
void child_generation_done(struct child_generation *generation);

#endif
