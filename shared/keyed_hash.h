/*
 * The hash of every table that clients can fill: XXH3 with a random per-process (or per-node) secret, so that
 * nobody outside can choose collisions. A node's workers share the master's key where they must agree
 * (registrar slot, publisher identity).
 */
#ifndef SHARED_KEYED_HASH_H
#define SHARED_KEYED_HASH_H

#include "shared/bytes.h"
#include "shared/status.h"

#define KEYED_HASH_SECRET_SIZE 192

struct keyed_hash {
    uint8_t secret[KEYED_HASH_SECRET_SIZE];
};

/* Draws a random secret. STATUS_SYSTEM when the kernel gives no random bytes. */
enum status keyed_hash_init(struct keyed_hash *hash) CHECK_RESULT;

/* Derives the secret from 32 bytes of key, so that processes with the same key agree. */
void keyed_hash_init_from(struct keyed_hash *hash, const uint8_t key[32]);

uint64_t keyed_hash_of(const struct keyed_hash *hash, struct bytes bytes);

#endif
