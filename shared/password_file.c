/* Mosquitto's password files: parsing, look-up, and the check of one password. Pure, any thread. */
#include "shared/password_file.h"

#include "shared/topic_name.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#define PROBLEM_MAX 256

struct entry {
    struct bytes user; /* into file->text */
    unsigned line;
    struct password_hash hash;
};

struct password_file {
    uint8_t *text; /* owned copy, for the names; hashes in it are wiped */
    size_t size;
    struct entry *entries; /* owned; sorted by user */
    size_t count, capacity;
    struct password_hash decoy;
};

struct parsing {
    struct password_file *file;
    text_problem *problem;
    void *context;
    unsigned line;
    bool failed;
};

static void complain(struct parsing *parsing, const char *text)
{
    parsing->failed = true;
    parsing->problem(parsing->context, parsing->line, text);
}

/* One line
 * ---------------------------------------------------------------------------------------------------- */

/* The part before the next '$', taken off *rest. */
static struct bytes take_part(struct bytes *rest)
{
    const uint8_t *dollar = rest->size > 0 ? memchr(rest->data, '$', rest->size) : NULL;
    struct bytes part = *rest;
    if (dollar == NULL) {
        *rest = BYTES_NONE;
        return part;
    }
    part.size = (size_t)(dollar - part.data);
    *rest = bytes_of(dollar + 1, rest->size - part.size - 1);
    return part;
}

/* Decodes base64 of at most `room` bytes; returns how many, 0: it is none, or too much. */
static uint32_t decode(struct bytes text, uint8_t *to, size_t room)
{
    uint8_t decoded[128];
    if (text.size == 0 || text.size % 4 != 0 || text.size / 4 * 3 > sizeof decoded)
        return 0;
    int size = EVP_DecodeBlock(decoded, text.data, (int)text.size);
    for (size_t i = text.size; size > 0 && i > text.size - 2 && text.data[i - 1] == '='; i--)
        size--;
    if (size <= 0 || (size_t)size > room)
        return 0;
    memcpy(to, decoded, (size_t)size);
    return (uint32_t)size;
}

/* Decimal, 1 to PASSWORD_ITERATIONS_MAX; 0: not that. */
static uint32_t decode_iterations(struct bytes text)
{
    uint64_t number = 0;
    if (text.size == 0 || text.size > 8)
        return 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return 0;
        number = number * 10 + (uint64_t)(text.data[i] - '0');
    }
    return number <= PASSWORD_ITERATIONS_MAX ? (uint32_t)number : 0;
}

/* NULL, or what is wrong with it. */
static const char *decode_hash(struct bytes text, struct password_hash *ret)
{
    memset(ret, 0, sizeof *ret);
    if (text.size == 0)
        return "no password hash behind the name and ':'";
    if (text.data[0] != '$')
        return "a password in the clear; allowed: hashes that begin with $7$ or $6$ (mosquitto_passwd -U "
               "FILE "
               "converts the whole file)";
    struct bytes rest = bytes_of(text.data + 1, text.size - 1);
    struct bytes kind = take_part(&rest);
    if (text_is(kind, "7"))
        ret->kind = PASSWORD_PBKDF2;
    else if (text_is(kind, "6"))
        ret->kind = PASSWORD_SHA512;
    else
        return "an unknown kind of hash; allowed: $7$ (mosquitto_passwd -H sha512-pbkdf2) or $6$ (-H sha512)";
    if (ret->kind == PASSWORD_PBKDF2 && (ret->iterations = decode_iterations(take_part(&rest))) == 0)
        return "no number of iterations from 1 to 10000000 behind $7$";
    ret->salt_size = decode(take_part(&rest), ret->salt, sizeof ret->salt);
    if (ret->salt_size == 0)
        return "no salt in base64 of 1 to 64 bytes";
    if (decode(take_part(&rest), ret->hash, sizeof ret->hash) != PASSWORD_HASH_SIZE || rest.data != NULL)
        return "no hash in base64 of 64 bytes at the end";
    return NULL;
}

static enum status add(struct password_file *file, const struct entry *entry)
{
    if (file->count == file->capacity) {
        size_t capacity = file->capacity == 0 ? 16 : file->capacity * 2;
        struct entry *entries = realloc(file->entries, capacity * sizeof *entries);
        if (entries == NULL)
            return STATUS_NO_MEMORY;
        file->entries = entries;
        file->capacity = capacity;
    }
    file->entries[file->count++] = *entry;
    return STATUS_OK;
}

static enum status parse_line(struct parsing *parsing, struct bytes line)
{
    const uint8_t *colon = memchr(line.data, ':', line.size);
    struct entry entry = {.line = parsing->line};
    if (colon == NULL) {
        complain(parsing, "no ':' between a name and its password hash");
        return STATUS_OK;
    }
    entry.user = bytes_of(line.data, (size_t)(colon - line.data));
    if (entry.user.size == 0 || entry.user.size > 65535 || !utf8_valid(entry.user)) {
        complain(parsing, "the name before ':' is empty, too long or no UTF-8");
        return STATUS_OK;
    }
    const char *wrong = decode_hash(bytes_of(colon + 1, line.size - entry.user.size - 1), &entry.hash);
    if (wrong != NULL) {
        complain(parsing, wrong);
        return STATUS_OK;
    }
    enum status status = add(parsing->file, &entry);
    OPENSSL_cleanse(&entry, sizeof entry);
    return status;
}

/* The whole
 * --------------------------------------------------------------------------------------------------- */

static int compare_names(struct bytes a, struct bytes b)
{
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int compare_entries(const void *a_pointer, const void *b_pointer)
{
    const struct entry *a = a_pointer, *b = b_pointer;
    int order = compare_names(a->user, b->user);
    return order != 0 ? order : (a->line > b->line) - (a->line < b->line);
}

static void complain_of_doubles(struct parsing *parsing)
{
    const struct password_file *file = parsing->file;
    for (size_t i = 1; i < file->count; i++) {
        if (!bytes_equal(file->entries[i].user, file->entries[i - 1].user))
            continue;
        char text[PROBLEM_MAX];
        snprintf(text, sizeof text, "the user \"%.*s%s\" stands in line %u already",
            (int)(file->entries[i].user.size < 100 ? file->entries[i].user.size : 100),
            (const char *)file->entries[i].user.data, file->entries[i].user.size > 100 ? "…" : "",
            file->entries[i - 1].line);
        parsing->line = file->entries[i].line;
        complain(parsing, text);
    }
}

/* As costly as the costliest of the file, and no known password's hash. */
static void make_decoy(struct password_file *file)
{
    struct password_hash *decoy = &file->decoy;
    *decoy = (struct password_hash){.kind = PASSWORD_SHA512, .salt_size = 12};
    for (size_t i = 0; i < file->count; i++) {
        const struct password_hash *hash = &file->entries[i].hash;
        if (hash->kind != PASSWORD_PBKDF2)
            continue;
        decoy->kind = PASSWORD_PBKDF2;
        if (hash->iterations > decoy->iterations)
            decoy->iterations = hash->iterations;
    }
}

/* Only names are needed of the text from here on. */
static void wipe_hashes(struct password_file *file)
{
    uint8_t *at = file->text, *end = file->text + file->size;
    while (at < end) {
        uint8_t *line_end = memchr(at, '\n', (size_t)(end - at));
        if (line_end == NULL)
            line_end = end;
        uint8_t *colon = memchr(at, ':', (size_t)(line_end - at));
        if (colon != NULL)
            OPENSSL_cleanse(colon, (size_t)(line_end - colon));
        at = line_end < end ? line_end + 1 : end;
    }
}

enum status password_file_parse(
    struct bytes text, text_problem *problem, void *context, struct password_file **ret_file)
{
    struct password_file *file = calloc(1, sizeof *file);
    if (file != NULL)
        file->text = malloc(text.size + 1);
    enum status status = file == NULL || file->text == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK) {
        if (text.size > 0)
            memcpy(file->text, text.data, text.size);
        file->size = text.size;
        struct parsing parsing = {.file = file, .problem = problem, .context = context};
        struct text_lines lines = {.rest = bytes_of(file->text, file->size)};
        struct bytes line;
        while (status == STATUS_OK && text_lines_next(&lines, &line)) {
            parsing.line = lines.number;
            status = parse_line(&parsing, line);
        }
        if (file->count > 1)
            qsort(file->entries, file->count, sizeof *file->entries, compare_entries);
        complain_of_doubles(&parsing);
        wipe_hashes(file);
        make_decoy(file);
        if (status == STATUS_OK && parsing.failed)
            status = STATUS_INVALID;
    }
    if (status != STATUS_OK) {
        password_file_free(&file);
        return status;
    }
    *ret_file = file;
    return STATUS_OK;
}

void password_file_free(struct password_file **file_pointer)
{
    struct password_file *file = *file_pointer;
    *file_pointer = NULL;
    if (file == NULL)
        return;
    if (file->entries != NULL)
        OPENSSL_cleanse(file->entries, file->count * sizeof *file->entries);
    if (file->text != NULL)
        OPENSSL_cleanse(file->text, file->size);
    free(file->entries);
    free(file->text);
    free(file);
}

size_t password_file_count(const struct password_file *file)
{
    return file->count;
}

const struct password_hash *password_file_find(const struct password_file *file, struct bytes user)
{
    size_t low = 0, high = file->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_names(user, file->entries[middle].user);
        if (order == 0)
            return &file->entries[middle].hash;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const struct password_hash *password_file_decoy(const struct password_file *file)
{
    return &file->decoy;
}

/* One password
 * ------------------------------------------------------------------------------------------------ */

static bool hash_sha512(
    const struct password_hash *hash, struct bytes password, uint8_t to[PASSWORD_HASH_SIZE])
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool done = context != NULL && EVP_DigestInit_ex(context, EVP_sha512(), NULL) == 1 &&
                EVP_DigestUpdate(context, password.data, password.size) == 1 &&
                EVP_DigestUpdate(context, hash->salt, hash->salt_size) == 1 &&
                EVP_DigestFinal_ex(context, to, NULL) == 1;
    EVP_MD_CTX_free(context);
    return done;
}

bool password_hash_fits(const struct password_hash *hash, struct bytes password)
{
    uint8_t made[PASSWORD_HASH_SIZE];
    const char *text = password.size > 0 ? (const char *)password.data : "";
    bool done = hash->kind == PASSWORD_PBKDF2
                    ? PKCS5_PBKDF2_HMAC(text, (int)password.size, hash->salt, (int)hash->salt_size,
                          (int)hash->iterations, EVP_sha512(), sizeof made, made) == 1
                    : hash_sha512(hash, bytes_of(text, password.size), made);
    bool fits = done && CRYPTO_memcmp(made, hash->hash, sizeof made) == 0;
    OPENSSL_cleanse(made, sizeof made);
    return fits;
}
