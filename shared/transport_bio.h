/*
 * Ciphertext between OpenSSL and the sockets of one worker: a pair of buffers and a single BIO that all TLS
 * connections share. For the time of one call the scratch belongs to one transport (transport_bio_begin …
 * transport_bio_end); what could not be used or sent by the end of it is moved to that transport's own blocks
 * (transport->input, ->output), which exist only while they hold something.
 */
#ifndef SHARED_TRANSPORT_BIO_H
#define SHARED_TRANSPORT_BIO_H

#include "shared/transport.h"

#include <openssl/bio.h>
#include <openssl/ssl.h>

/* One recv() of ciphertext at most. */
#define TRANSPORT_IN_SIZE ((size_t)64 * 1024)
/* Plaintext that goes into one record, and what a record is larger than that at most (header, explicit nonce
   or padding, tag), with room for a key update or alert beside it. */
#define TRANSPORT_RECORD_SIZE     ((size_t)16384)
#define TRANSPORT_RECORD_OVERHEAD ((size_t)512)
/* Five records for one send(). */
#define TRANSPORT_OUT_SIZE (5 * (TRANSPORT_RECORD_SIZE + TRANSPORT_RECORD_OVERHEAD))

/* Bytes kept for one connection (ciphertext, mostly), in their own block. */
struct transport_rest {
    size_t start; /* bytes of data that are done with */
    size_t size;  /* bytes of data, those included */
    uint8_t data[];
};

/* Copies bytes to the end of a block, which is made or grown. STATUS_NO_MEMORY. */
enum status transport_rest_keep(struct transport_rest **block, const uint8_t *from, size_t size) CHECK_RESULT;

/* What replaces a connection's session and context after its handshake: see transport_settle.c. */
struct transport_settled {
    const SSL_METHOD *method; /* of a protocol version; NULL: not yet made */
    SSL_CTX *context;         /* owned */
    SSL_SESSION *session;     /* owned */
};

struct transport_scratch {
    BIO_METHOD *method;                  /* owned */
    BIO *bio;                            /* owned; every SSL of the worker holds a reference */
    struct transport *current;           /* borrowed between begin and end; else NULL */
    size_t in_limit;                     /* the current call may recv() this much; 0 when it has done so */
    size_t in_start, in_size;            /* ciphertext in `in` not yet given to OpenSSL: start … size */
    size_t out_size;                     /* ciphertext in `out` not yet sent */
    bool in_ended;                       /* recv() answered 0 */
    int in_error;                        /* errno of a recv() that failed, not EAGAIN */
    struct transport_settled settled[2]; /* TLS 1.2 and 1.3, in the order in which they are first seen */
    struct tls_failure failure;          /* of the worker's last failed call */
    uint8_t in[TRANSPORT_IN_SIZE];
    uint8_t out[TRANSPORT_OUT_SIZE];
};

/* The scratch is this transport's until transport_bio_end(); `in_limit` bytes may be received, unless there
   is input kept from before, which comes first. */
void transport_bio_begin(struct transport *transport, size_t in_limit);

/* Receives into the empty or begun `in`, once, as far as in_limit allows. True if there is anything to read.
 */
bool transport_bio_receive(struct transport_scratch *scratch);

/*
 * Sends `out`, after what the transport has kept, with one send(); keeps what the kernel does not take.
 * STATUS_OK: all sent. STATUS_AGAIN: some was kept. STATUS_SYSTEM, STATUS_NO_MEMORY; STATUS_LIMIT: more than
 * TRANSPORT_KEPT_MAX would be kept: the peer makes us talk and does not listen.
 */
#define TRANSPORT_KEPT_MAX ((size_t)256 * 1024)
enum status transport_bio_send(struct transport_scratch *scratch) CHECK_RESULT;

/* Sends only what the transport has kept. */
enum status transport_bio_send_kept(struct transport *transport) CHECK_RESULT;

/* Moves what is left of `in` to the transport and lets go of the scratch. STATUS_NO_MEMORY. */
enum status transport_bio_end(struct transport_scratch *scratch) CHECK_RESULT;

/* Frees what transport_settle() has made. */
void transport_settle_done(struct transport_scratch *scratch);

#endif
