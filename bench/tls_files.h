/* Where certificates come from: files that the user names, or a P-256 pair that is made in memory for the
 * floor. */
#ifndef BENCH_TLS_FILES_H
#define BENCH_TLS_FILES_H

#include <openssl/types.h>
#include <stdbool.h>

struct tls_files {
    const char *cafile;   /* NULL: the server is not verified */
    const char *certfile; /* NULL: none */
    const char *keyfile;
    bool insecure; /* the name is not checked */
    int version;   /* 0, or TLS1_2_VERSION / TLS1_3_VERSION */
};

/* A client's context, or NULL (the error queue says why). */
SSL_CTX *tls_client_context(const struct tls_files *files);
/* A server's context: certificate and key from files, or fresh ones in memory. */
SSL_CTX *tls_server_context(const struct tls_files *files);

#endif
