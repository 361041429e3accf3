/*
 * Keys, certificates and CA files of all ssl listeners of a node: read and checked by the master (also by
 * `shoald --check`), handed to the workers as one block of bytes in a sealed memfd, and made into SSL_CTXs
 * there. Holds private keys in the clear: whatever is freed is wiped first, nothing of it is ever logged.
 * Opens files in the master only; never touches a socket.
 */
#ifndef NODE_TLS_MATERIAL_H
#define NODE_TLS_MATERIAL_H

#include "node/tls_material_read.h"
#include "shared/bytes.h"
#include "shared/config.h"
#include "shared/status.h"
#include "shared/tls_context.h"

struct tls_material;

/* What a running configuration leaves to the next one: which files are not new. */
struct tls_material_past {
    struct tls_known_files known;
};

/*
 * Master: reads and checks the files of every ssl listener. `past`: of the running configuration; NULL: the
 * start. A file that is wrong is an entry in `errors` (file, JSON path, plain words), all of them
 * at once: does not parse, key and certificate do not match, chain not linked, not yet valid or expired, CA
 * file empty, listener settings (ciphers) that OpenSSL refuses, a handshake in memory that fails in one of
 * the versions. Certificates that end within TLS_MATERIAL_WARN_DAYS are warnings, and so are those of files
 * that `past` had already and that have expired meanwhile. STATUS_INVALID: there was at least one error;
 * STATUS_SYSTEM: no random bytes, no memory.
 */
#define TLS_MATERIAL_WARN_DAYS 30
enum status tls_material_load(const struct config *config, const struct tls_material_past *past,
    struct tls_material **ret_material, struct config_errors *errors) CHECK_RESULT;
void tls_material_remember(const struct tls_material *material, struct tls_material_past *ret_past);
/* Wipes and frees; accepts a pointer to NULL. */
void tls_material_free(struct tls_material **material);

/* True if there is any ssl listener: without one the block is there all the same, and small. */
bool tls_material_any(const struct tls_material *material);

/* The files of the ssl listener of this name; NULL: there is none. */
const struct tls_files *tls_material_files(const struct tls_material *material, const char *listener);

/* Master: everything as one block (see tls_material.c for the format), to give to tls_material_wipe(). */
enum status tls_material_serialize(
    const struct tls_material *material, uint8_t **ret_block, size_t *ret_size) CHECK_RESULT;
/* Wipes and frees a block; nulls the pointer. */
/* The same of what the link has, and of nothing else. Only in a cluster. */
enum status tls_material_serialize_link(
    const struct tls_material *material, uint8_t **ret_block, size_t *ret_size) CHECK_RESULT;
/* Are the link's certificate and CAs those that `past` had? True without a link. */
bool tls_material_link_is_known(const struct tls_material *material, const struct tls_material_past *past);

/* What is revoked by listener, for tls_revoked_map(). */
enum status tls_material_serialize_revoked(
    const struct tls_material *material, uint8_t **ret_block, size_t *ret_size) CHECK_RESULT;
void tls_material_wipe(uint8_t **block, size_t size);

/*
 * Worker: the context of an ssl listener of `config` (index in config->listeners), out of the block. The
 * context copies what it needs: the block may go afterwards; `tickets` must outlive it. STATUS_PROTOCOL: the
 * block is not what serialize wrote; STATUS_INVALID as tls_context_new(). `error` (TLS_ERROR_SIZE bytes) says
 * what on any failure.
 */
enum status tls_material_context(struct bytes block, const struct config *config, size_t listener,
    struct tls_tickets *tickets, struct tls_revoked *revoked, SSL_CTX **ret_context,
    char *error) CHECK_RESULT;

/* Link: its key (PKCS#8 DER), chain and CAs (PEM), out of that block. STATUS_PROTOCOL as above. */
enum status tls_material_link(struct bytes block, struct bytes *ret_key, struct bytes *ret_chain,
    struct bytes *ret_authorities) CHECK_RESULT;

#endif
