/* Password and access files of any content: nothing faults, and what was parsed can be asked. The first byte
   chooses the kind of file. */
#include "shared/acl.h"
#include "shared/password_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile size_t sink;

static void on_problem(void *context, unsigned line, const char *text)
{
    (void)context;
    sink += line + strlen(text);
}

static void try_passwords(struct bytes text)
{
    struct password_file *file;
    if (password_file_parse(text, on_problem, NULL, &file) != STATUS_OK)
        return;
    sink += password_file_count(file);
    const struct password_hash *hash = password_file_find(file, bytes_of_text("a"));
    if (hash != NULL && hash->iterations <= 10)
        sink += password_hash_fits(hash, text);
    static const uint8_t key[PASSWORD_DECOY_KEY_SIZE] = {1};
    struct password_hash made;
    if (password_file_scram_count(file) > 0)
        sink += password_file_scram(file, key, text, &made) + made.salt[0];
    password_file_free(&file);
}

static void try_acl(struct bytes text)
{
    struct acl *acl;
    if (acl_parse(text, on_problem, NULL, &acl) != STATUS_OK)
        return;
    static const char *const users[] = {"a", "a+", NULL};
    for (size_t i = 0; i < 3; i++) {
        struct acl_rights *rights = acl_rights_new(acl, bytes_of_text(users[i]), bytes_of_text("id/x"));
        if (rights == NULL)
            continue;
        sink += acl_allows(rights, ACL_READ, bytes_of_text("a/b"));
        sink += acl_allows(rights, ACL_WRITE, bytes_of_text("$a/b/"));
        sink += (size_t)acl_readable(rights, bytes_of_text("a/+/#"));
        acl_rights_free(&rights);
    }
    acl_free(&acl);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] & 1)
        try_passwords(bytes_of(data + 1, size - 1));
    else
        try_acl(bytes_of(data + 1, size - 1));
    return 0;
}
