/*
 * A password file in Mosquitto's format: one `NAME:$7$ITERATIONS$SALT$HASH` (PBKDF2 with SHA-512) or
 * `NAME:$6$SALT$HASH` (SHA-512 of password and salt) a line, salt and hash in base64, as mosquitto_passwd
 * writes it. Passwords in the clear are refused. Pure: no file, no logging; text in, checked hashes out.
 */
#ifndef SHARED_PASSWORD_FILE_H
#define SHARED_PASSWORD_FILE_H

#include "shared/bytes.h"
#include "shared/status.h"
#include "shared/text_lines.h"

#define PASSWORD_HASH_SIZE 64
#define PASSWORD_SALT_MAX  64
/* A hash of this many takes a core for several seconds: more is a mistake. */
#define PASSWORD_ITERATIONS_MAX 10000000u

enum password_kind { PASSWORD_SHA512 = 6, PASSWORD_PBKDF2 = 7 }; /* the number between the first two '$' */

struct password_hash {
    enum password_kind kind;
    uint32_t iterations; /* PASSWORD_PBKDF2 */
    uint32_t salt_size;
    uint8_t salt[PASSWORD_SALT_MAX];
    uint8_t hash[PASSWORD_HASH_SIZE];
};

struct password_file;

/*
 * Reads the text; each mistake is told to `problem`, all of them. STATUS_INVALID: there was one. The text is
 * not needed afterwards.
 */
enum status password_file_parse(
    struct bytes text, text_problem *problem, void *context, struct password_file **ret_file) CHECK_RESULT;
/* Wipes and frees; accepts a pointer to NULL. */
void password_file_free(struct password_file **file);

size_t password_file_count(const struct password_file *file);
/* The user's hash, or NULL. */
const struct password_hash *password_file_find(const struct password_file *file, struct bytes user);
/* What to check an unknown user's password against, so that the answer takes as long as for a known one; it
   fits no password by itself. */
const struct password_hash *password_file_decoy(const struct password_file *file);

/*
 * Is this the password? Takes from microseconds to seconds, by the iterations: not for an event loop. Touches
 * nothing but its arguments (any thread); compares in constant time.
 */
bool password_hash_fits(const struct password_hash *hash, struct bytes password);

#endif
