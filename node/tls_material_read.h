/*
 * Reads and checks the files of one ssl listener: private key, certificate with chain, CA file. Master only
 * (also `shoald --check`). What is wrong goes into the errors of the configuration; nothing of a secret does.
 */
#ifndef NODE_TLS_MATERIAL_READ_H
#define NODE_TLS_MATERIAL_READ_H

#include "shared/bytes.h"
#include "shared/config_context.h"

struct tls_files {            /* owned by who asked; all from the heap */
    struct bytes key;         /* PKCS#8 DER, in the clear */
    struct bytes chain;       /* PEM as in the file */
    struct bytes authorities; /* PEM as in the file; BYTES_NONE without cacertfile */
    struct bytes revoked;     /* tls_revoked_make()'s table; BYTES_NONE without crlfile */
};

/* SHA-256 of the files that the running configuration was made of: what is known is not new. */
#define TLS_DIGEST_SIZE 32
struct tls_known_files {
    size_t count;
    uint8_t digests[3 * (CONFIG_LISTENERS_MAX + 1)][TLS_DIGEST_SIZE];
};
bool tls_files_digest(struct bytes content, uint8_t ret_digest[TLS_DIGEST_SIZE]);

/*
 * STATUS_OK: read, checked and proven by a handshake in memory. STATUS_INVALID: `context->errors` has got
 * what is wrong, and *ret_files is untouched. A file of `known` (NULL: none) that has expired meanwhile is
 * a warning: it does not become worse by a reload. A listener that
 * lacks key or certificate since its configuration is wrong has only the rest looked at.
 */
enum status tls_files_read(const struct config_context *context, const struct config_listener *listener,
    const struct tls_known_files *known, struct tls_files *ret_files) CHECK_RESULT;

/* A listener of this key stands for the link: messages name the section `bus`. */
#define TLS_FILES_LINK "bus"

/* Complains if the certificate does not name this node. */
enum status tls_files_check_name(const struct config_context *context, const struct config_listener *listener,
    const struct tls_files *files, const char *node) CHECK_RESULT;

/* Wipes and frees. */
void tls_files_done(struct tls_files *files);

/* The settings of a listener's context, borrowing from all three. */
struct tls_settings;
struct tls_revoked;
struct tls_tickets;
struct tls_settings tls_settings_of(const struct config_listener *listener, const struct tls_files *files,
    struct tls_tickets *tickets, struct tls_revoked *revoked);

#endif
