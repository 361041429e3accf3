/*
 * Who may connect and do what, as files: password_file and acl_file are read and checked by the master (also
 * by `shoald --check`; they may be readable by root alone), handed to the workers as one block of bytes in a
 * sealed memfd, and parsed again there. Holds password hashes: whatever is freed is wiped first, nothing of
 * them is ever logged. Opens files in the master only.
 */
#ifndef NODE_ACCESS_FILES_H
#define NODE_ACCESS_FILES_H

#include "shared/acl.h"
#include "shared/bytes.h"
#include "shared/config.h"
#include "shared/password_file.h"

struct access_files { /* NULL: none configured */
    struct password_file *passwords;
    struct acl *acl;
};

/* What the master itself has to say of them. */
struct access_summary {
    size_t users;
    size_t scram_users; /* of them, those who can log in by SCRAM-SHA-256 */
};

/*
 * Master: reads and checks the files that the configuration names. Every mistake is an entry in `errors` with
 * file and line. `*ret_block` is for access_files_wipe(). STATUS_INVALID: there was a mistake.
 */
enum status access_files_load(const struct config *config, uint8_t **ret_block, size_t *ret_size,
    struct access_summary *ret_summary, struct config_errors *errors) CHECK_RESULT;
/* Wipes and frees a block; nulls the pointer. */
void access_files_wipe(uint8_t **block, size_t size);

/* Worker: out of the block, which may go afterwards. STATUS_PROTOCOL: it is not what load made. */
enum status access_files_open(struct bytes block, struct access_files *ret_files) CHECK_RESULT;
void access_files_close(struct access_files *files);

#endif
