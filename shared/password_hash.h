/*
 * What is kept of a user's password, and the check of one password against it: PBKDF2 with SHA-512 or salted
 * SHA-512 as mosquitto_passwd writes them, or the two keys of SCRAM-SHA-256 (RFC 7677), which serve SCRAM and
 * the check of a password alike. Pure, any thread; no logging.
 */
#ifndef SHARED_PASSWORD_HASH_H
#define SHARED_PASSWORD_HASH_H

#include "shared/bytes.h"

#define PASSWORD_HASH_SIZE 64
#define PASSWORD_SALT_MAX  64
/* Of SCRAM-SHA-256: its StoredKey and its ServerKey. */
#define PASSWORD_KEY_SIZE 32
/* A hash of this many takes a core for several seconds: more is a mistake. */
#define PASSWORD_ITERATIONS_MAX 10000000u
/* Clients of SCRAM-SHA-256 may refuse fewer [RFC 7677, 4]. */
#define PASSWORD_SCRAM_ITERATIONS_MIN 4096u

enum password_kind {
    PASSWORD_SHA512 = 6, /* the number between the first two '$' */
    PASSWORD_PBKDF2 = 7,
    PASSWORD_SCRAM_SHA_256,
};

/* What a check costs: rounds of PBKDF2, by the hash that they use. */
struct password_work {
    uint32_t sha512, sha256;
};

struct password_hash {
    enum password_kind kind;
    uint32_t iterations; /* not of PASSWORD_SHA512 */
    uint32_t salt_size;
    uint8_t salt[PASSWORD_SALT_MAX];
    uint8_t hash[PASSWORD_HASH_SIZE]; /* PASSWORD_SCRAM_SHA_256: StoredKey, then ServerKey */
    struct password_work more;        /* is done besides when a password does not fit */
};

/*
 * Reads `$7$ITERATIONS$SALT$HASH`, `$6$SALT$HASH` or `{SCRAM-SHA-256}ITERATIONS,SALT,STOREDKEY,SERVERKEY`,
 * all in base64. NULL, or what is wrong with it; that never quotes the text.
 */
const char *password_hash_parse(struct bytes text, struct password_hash *ret);

/* What the check of one password against it costs, `more` aside. */
struct password_work password_hash_work(const struct password_hash *hash);

/*
 * Is this the password? Takes from microseconds to seconds, by the iterations: not for an event loop. Touches
 * nothing but its arguments (any thread); compares in constant time. The answer «no» takes `more` besides.
 */
bool password_hash_fits(const struct password_hash *hash, struct bytes password);

/* Longest text of the next, its NUL included. */
#define PASSWORD_SCRAM_TEXT_MAX 256
/*
 * Makes the hash part of a SCRAM-SHA-256 line with a new salt. `*ret_wrong` says why it cannot: a password
 * that is empty or no text, or no random bytes. False then.
 */
bool password_scram_make(
    struct bytes password, uint32_t iterations, char to[PASSWORD_SCRAM_TEXT_MAX], const char **ret_wrong);

#endif
