/*
 * The server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677, 9266), by libgsasl: messages in,
 * messages out, at the end a user who has proved to know the password. Needs the user's StoredKey and
 * ServerKey only, hence some HMACs and nothing slow. Pure but for random nonces: no socket, no clock, no
 * logging. One thread.
 */
#ifndef SHARED_SCRAM_H
#define SHARED_SCRAM_H

#include "shared/bytes.h"
#include "shared/password_hash.h"
#include "shared/status.h"

/* A client's message is some hundred bytes; its nonce and name are sent back or kept. */
#define SCRAM_MESSAGE_MAX 4096
/* The value of the channel binding tls-exporter [RFC 9266, 2]. */
#define SCRAM_BINDING_SIZE 32

struct scram;          /* libgsasl's part that all exchanges of a process share */
struct scram_exchange; /* one authentication */

enum status scram_new(struct scram **ret_scram) CHECK_RESULT;
/* After the last exchange. Accepts a pointer to NULL. */
void scram_free(struct scram **scram);

struct scram_settings {
    bool plus;              /* SCRAM-SHA-256-PLUS: the client must bind to the TLS connection */
    const uint8_t *binding; /* SCRAM_BINDING_SIZE bytes, for the call alone; NULL: PLUS is not to be had here,
                               so that a client may say that it would have bound */
    /* Fills in the hash of the user, true; or one made up for who cannot log in, false. Asked before the
       first answer and again before the last: the hash may have changed meanwhile. */
    bool (*find)(void *context, struct bytes user, struct password_hash *ret_hash);
    void *context;
};

enum status scram_start(struct scram *scram, const struct scram_settings *settings,
    struct scram_exchange **ret_exchange) CHECK_RESULT;
/* Wipes and frees at any time; accepts a pointer to NULL. */
void scram_end(struct scram_exchange **exchange);

/*
 * One message of the client (empty: it leaves the first word to us). `*ret_answer` is set with STATUS_OK and
 * STATUS_AGAIN, belongs to the exchange until the next call, and may be empty.
 * STATUS_AGAIN: send the answer and wait for the next message.
 * STATUS_OK: authenticated, and the answer proves to the client that we know it.
 * STATUS_REFUSED: not authenticated; for an unknown user as for a wrong password, and as fast.
 * STATUS_PROTOCOL: the message is none of SCRAM. STATUS_NO_MEMORY. After each of these: scram_end().
 */
enum status scram_step(
    struct scram_exchange *exchange, struct bytes message, struct bytes *ret_answer) CHECK_RESULT;

/* Who says to be it: UTF-8, not empty, valid until scram_end(); BYTES_NONE before the first message. */
struct bytes scram_user(const struct scram_exchange *exchange);

#endif
