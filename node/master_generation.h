/*
 * A generation: a configuration with its certificates, keys and access files, read and validated as a whole,
 * and the sealed memfds by which the children get it. The node starts with the first; each reload makes the
 * next one, which the workers take over one by one (master_reload.h). Immutable once loaded. Master only.
 */
#ifndef NODE_MASTER_GENERATION_H
#define NODE_MASTER_GENERATION_H

#include "node/access_files.h"
#include "node/tls_material.h"
#include "shared/config.h"
#include "shared/config_difference.h"

#include <jansson.h>

struct control_message;

struct generation {
    uint64_t number;       /* 1 is that of the start */
    struct config *config; /* owned */
    int config_fd;         /* owned: config_to_json(), without passwords */
    int secrets_fd;        /* owned: tls_material_serialize() */
    int link_secrets_fd;   /* owned: tls_material_serialize_link(); -1: a node alone */
    int access_fd;         /* owned: access_files_load() */
    int revoked_fd;        /* owned: tls_material_serialize_revoked() */
    struct tls_material_past past;
    uint8_t access_digest[TLS_DIGEST_SIZE];
    struct access_summary users;           /* of the password file */
    json_t *certificates;                  /* owned: what `shoalctl certs` tells of each listener */
    struct config_differences differences; /* to the one that ran when this one was loaded */
};

/*
 * Reads and checks everything; what is to be said about it goes into `errors`, also on success. `running`:
 * what it will take over from (keys that need a restart keep its values, differences are noted); NULL: the
 * start. STATUS_INVALID: something is wrong.
 */
enum status generation_load(const struct config_source *source, const struct generation *running,
    struct config_errors *errors, struct generation **ret_generation) CHECK_RESULT;
/* Wipes and frees; accepts a pointer to NULL. */
void generation_free(struct generation **generation);

/* As JSON: what changes, with the values; certificates, whether each is another one than in `running`. New
 * references. */
json_t *generation_changes(const struct generation *generation, const struct generation *running);
json_t *generation_certificates(const struct generation *generation, const struct generation *running);

#endif
