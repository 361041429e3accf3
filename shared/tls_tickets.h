/*
 * The keys of session tickets: the newest one whose time has come encrypts, each decrypts as long as tickets
 * of it may be about. The master makes and rotates them and sends them to all workers, so that a client
 * resumes on any of them. They are never written anywhere: locked memory, left out of core dumps, wiped when
 * their time is over.
 */
#ifndef SHARED_TLS_TICKETS_H
#define SHARED_TLS_TICKETS_H

#include "shared/bytes.h"
#include "shared/status.h"

#include <openssl/types.h>

#define TLS_TICKET_KEY_SIZE    80 /* 16 name, 32 HMAC-SHA-256, 32 AES-256 */
#define TLS_TICKET_KEYS_MAX    32 /* alive at a time; a lifetime holds no more than 30 rotations */
#define TLS_TICKET_KEY_AHEAD_S 2  /* a key is there on all workers before one of them uses it */

struct tls_tickets;

/* `lifetime_s`: how long a ticket is good for. */
enum status tls_tickets_new(uint32_t lifetime_s, struct tls_tickets **ret_tickets) CHECK_RESULT;
/* Wipes; contexts that use it must be gone. Accepts a pointer to NULL. */
void tls_tickets_free(struct tls_tickets **tickets);

/* A key that encrypts from `from_s` (real time, seconds) on, not before any that is there. Those whose time
   is over are wiped. */
void tls_tickets_add(struct tls_tickets *tickets, const uint8_t key[TLS_TICKET_KEY_SIZE], uint64_t from_s);
void tls_tickets_set_lifetime(struct tls_tickets *tickets, uint32_t lifetime_s);
/* Makes a key out of random bytes. */
enum status tls_tickets_make_key(uint8_t ret_key[TLS_TICKET_KEY_SIZE]) CHECK_RESULT;

/* The keys that are alive, oldest first; to send them on. */
unsigned tls_tickets_count(const struct tls_tickets *tickets);
const uint8_t *tls_tickets_key(const struct tls_tickets *tickets, unsigned index, uint64_t *ret_from_s);

/* Has the context's tickets made and read with these keys. STATUS_NO_MEMORY. */
enum status tls_tickets_use(struct tls_tickets *tickets, SSL_CTX *context) CHECK_RESULT;

#endif
