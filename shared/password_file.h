/*
 * A password file: one `NAME:HASH` a line, HASH as mosquitto_passwd writes it or for SCRAM-SHA-256
 * (password_hash.h says which). Passwords in the clear are refused. Pure: no file, no logging; text in,
 * checked hashes out.
 */
#ifndef SHARED_PASSWORD_FILE_H
#define SHARED_PASSWORD_FILE_H

#include "shared/bytes.h"
#include "shared/password_hash.h"
#include "shared/status.h"
#include "shared/text_lines.h"

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
/* Of them, those whose hash serves SCRAM-SHA-256. */
size_t password_file_scram_count(const struct password_file *file);
/* The user's hash, or NULL. A password that does not fit takes as long with each hash of the file. */
const struct password_hash *password_file_find(const struct password_file *file, struct bytes user);
/* What to check an unknown user's password against, so that the answer takes as long as for a known one; it
   fits no password. */
const struct password_hash *password_file_decoy(const struct password_file *file);

#define PASSWORD_DECOY_KEY_SIZE 32
/*
 * What SCRAM-SHA-256 needs of a user. False: there is none such, or its hash is of another kind; *ret_hash is
 * made up then, out of the name and the key: for the same name always the same, of the kind that is
 * commonest in the file, and fitting no password. Takes as long either way.
 */
bool password_file_scram(const struct password_file *file, const uint8_t key[PASSWORD_DECOY_KEY_SIZE],
    struct bytes user, struct password_hash *ret_hash);

#endif
