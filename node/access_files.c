/*
 * The block, little-endian: magic "SACC", then password file and access file, each as a byte (1: configured),
 * length (4) and bytes. Nothing else.
 */
#include "node/access_files.h"

#include "shared/config_context.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_MAGIC   0x43434153u        /* "SACC" */
#define FILE_SIZE_MAX ((size_t)64 << 20) /* some hundred thousand users */

struct text {
    uint8_t *data; /* owned */
    size_t size;
};

static void text_wipe(struct text *text)
{
    if (text->data != NULL)
        OPENSSL_cleanse(text->data, text->size);
    free(text->data);
    *text = (struct text){0};
}

/* Reading (master)
 * -------------------------------------------------------------------------------------------- */

static bool read_all(int fd, struct text *text)
{
    size_t done = 0;
    while (done < text->size) {
        ssize_t got = read(fd, text->data + done, text->size - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        done += (size_t)got;
    }
    text->size = done; /* it may have become shorter meanwhile */
    return true;
}

/* False: complained. `secret`: a file that everybody may read is worth a warning. */
static bool read_text(const struct config_context *context, bool secret, struct text *ret)
{
    struct stat info;
    int fd = open(context->file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        config_complain(context, "", "%s; allowed: a readable file",
            fd < 0 || !S_ISREG(info.st_mode) ? strerror(fd < 0 ? errno : EINVAL) : strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    struct text text = {.size = (size_t)info.st_size};
    bool good = text.size <= FILE_SIZE_MAX;
    if (!good)
        config_complain(context, "", "larger than %zu bytes", FILE_SIZE_MAX);
    else if ((text.data = malloc(text.size + 1)) == NULL || !read_all(fd, &text))
        config_complain(context, "", "cannot be read: out of memory");
    else if (secret && (info.st_mode & S_IROTH))
        config_warn(context, "", "everybody may read it; better: chmod 600");
    close(fd);
    *ret = text;
    return good && text.data != NULL;
}

static void on_problem(void *context, unsigned line, const char *text)
{
    config_complain_line(context, line, "%s", text);
}

/* Users of whom nobody can log in are probably a surprise. */
static void warn_of_useless_users(
    const struct config_context *context, uint32_t methods, const struct access_summary *summary)
{
    if (summary->users == 0)
        config_warn(context, "", "has no user: nobody can log in by password");
    else if (summary->scram_users == 0 && !(methods & CONFIG_AUTH_PASSWORD))
        config_warn(context, "",
            "has no user whose line begins with {SCRAM-SHA-256}, and auth.methods takes nothing else: nobody "
            "can log in");
}

static enum status check_passwords(const struct config *config, const struct config_context *context,
    const struct text *text, struct access_summary *ret_summary)
{
    struct password_file *passwords = NULL;
    enum status status =
        password_file_parse(bytes_of(text->data, text->size), on_problem, (void *)context, &passwords);
    if (status != STATUS_OK)
        return status;
    ret_summary->users = password_file_count(passwords);
    ret_summary->scram_users = password_file_scram_count(passwords);
    warn_of_useless_users(context, config->auth.methods, ret_summary);
    password_file_free(&passwords);
    return STATUS_OK;
}

/* Can a client's name be trusted? */
static bool names_are_proven(const struct config *config)
{
    if (config->auth.password_file != NULL)
        return true;
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_tls *tls = &config->listeners[i].tls;
        if (config_listener_allows_anonymous(config, &config->listeners[i]) &&
            !(tls->peer_cert_as_username != CONFIG_PEER_CERT_NONE && tls->fail_if_no_peer_cert))
            return false;
    }
    return true;
}

static enum status check_acl(
    const struct config *config, const struct config_context *context, const struct text *text)
{
    struct acl *acl = NULL;
    enum status status = acl_parse(bytes_of(text->data, text->size), on_problem, (void *)context, &acl);
    if (status == STATUS_OK && acl_has_users(acl) && !names_are_proven(config))
        config_warn(context, "",
            "gives rights to users, but without auth.password_file clients may call themselves what they "
            "like");
    acl_free(&acl);
    return status;
}

static enum status serialize(
    const struct text *passwords, const struct text *acl, uint8_t **ret_block, size_t *ret_size)
{
    const struct text *texts[] = {passwords, acl};
    size_t size = 4 + 2 * 5 + passwords->size + acl->size;
    uint8_t *block = malloc(size), *to = block;
    if (block == NULL)
        return STATUS_NO_MEMORY;
    put_u32_le(to, BLOCK_MAGIC);
    to += 4;
    for (size_t i = 0; i < 2; i++) {
        to[0] = texts[i]->data != NULL;
        put_u32_le(to + 1, (uint32_t)texts[i]->size);
        to += 5;
        if (texts[i]->size > 0)
            memcpy(to, texts[i]->data, texts[i]->size);
        to += texts[i]->size;
    }
    *ret_block = block;
    *ret_size = size;
    return STATUS_OK;
}

enum status access_files_load(const struct config *config, uint8_t **ret_block, size_t *ret_size,
    struct access_summary *ret_summary, struct config_errors *errors)
{
    struct access_summary summary = {0};
    struct text passwords = {0}, acl = {0};
    struct config_context context = {.errors = errors, .file = config->auth.password_file};
    enum status status = STATUS_OK;
    if (context.file != NULL)
        status = read_text(&context, true, &passwords)
                     ? check_passwords(config, &context, &passwords, &summary)
                     : STATUS_INVALID;
    context.file = config->auth.acl_file;
    if (context.file != NULL) { /* also after mistakes in the other: all at once */
        enum status other =
            read_text(&context, false, &acl) ? check_acl(config, &context, &acl) : STATUS_INVALID;
        status = status == STATUS_OK ? other : status;
    }
    if (status == STATUS_OK)
        status = serialize(&passwords, &acl, ret_block, ret_size);
    text_wipe(&passwords);
    text_wipe(&acl);
    if (status == STATUS_OK)
        *ret_summary = summary;
    return status;
}

void access_files_wipe(uint8_t **block, size_t size)
{
    struct text text = {.data = *block, .size = size};
    text_wipe(&text);
    *block = NULL;
}

/* Opening (worker)
 * -------------------------------------------------------------------------------------------- */

static void on_late_problem(void *context, unsigned line, const char *text)
{
    (void)context;
    (void)line;
    (void)text;
}

/* Takes one file off the front; *ret_there: it is configured. */
static bool take_file(struct bytes *rest, struct bytes *ret_text, bool *ret_there)
{
    if (rest->size < 5)
        return false;
    size_t size = get_u32_le(rest->data + 1);
    if (rest->size - 5 < size)
        return false;
    *ret_there = rest->data[0] != 0;
    *ret_text = bytes_of(rest->data + 5, size);
    *rest = bytes_of(rest->data + 5 + size, rest->size - 5 - size);
    return true;
}

enum status access_files_open(struct bytes block, struct access_files *ret_files)
{
    struct bytes rest, passwords, acl;
    bool has_passwords, has_acl;
    if (block.size < 4 || get_u32_le(block.data) != BLOCK_MAGIC)
        return STATUS_PROTOCOL;
    rest = bytes_of(block.data + 4, block.size - 4);
    if (!take_file(&rest, &passwords, &has_passwords) || !take_file(&rest, &acl, &has_acl) || rest.size > 0)
        return STATUS_PROTOCOL;
    struct access_files files = {0};
    enum status status = STATUS_OK;
    if (has_passwords)
        status = password_file_parse(passwords, on_late_problem, NULL, &files.passwords);
    if (status == STATUS_OK && has_acl)
        status = acl_parse(acl, on_late_problem, NULL, &files.acl);
    if (status != STATUS_OK) {
        access_files_close(&files);
        return status == STATUS_INVALID ? STATUS_PROTOCOL : status;
    }
    *ret_files = files;
    return STATUS_OK;
}

void access_files_close(struct access_files *files)
{
    password_file_free(&files->passwords);
    acl_free(&files->acl);
}
