/* Password files: parsing and look-up, also of those who are not there. Pure, any thread. */
#include "shared/password_file.h"

#include "shared/topic_name.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
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
    size_t scram_count;
    struct password_hash decoy;
    uint32_t decoy_iterations, decoy_salt_size; /* of the made-up hashes for SCRAM */
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
    const char *wrong =
        password_hash_parse(bytes_of(colon + 1, line.size - entry.user.size - 1), &entry.hash);
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

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* Whoever fails does as much work of either kind as the costliest of the file, be it known or not. */
static void even_out(struct password_file *file)
{
    struct password_work most = {0};
    for (size_t i = 0; i < file->count; i++) {
        struct password_work work = password_hash_work(&file->entries[i].hash);
        most.sha512 = larger(most.sha512, work.sha512);
        most.sha256 = larger(most.sha256, work.sha256);
    }
    for (size_t i = 0; i < file->count; i++) {
        struct password_hash *hash = &file->entries[i].hash;
        struct password_work work = password_hash_work(hash);
        hash->more = (struct password_work){most.sha512 - work.sha512, most.sha256 - work.sha256};
    }
    file->decoy = (struct password_hash){.kind = PASSWORD_SHA512, .salt_size = 12, .more = most};
}

static int compare_numbers(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Iterations and size of the salt as most SCRAM hashes have them; with equally many the larger ones. */
static enum status choose_decoys(struct password_file *file)
{
    uint64_t *kinds = malloc((file->count + 1) * sizeof *kinds);
    size_t count = 0, best = 0, run = 0;
    if (kinds == NULL)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < file->count; i++) {
        const struct password_hash *hash = &file->entries[i].hash;
        if (hash->kind == PASSWORD_SCRAM_SHA_256)
            kinds[count++] = (uint64_t)hash->iterations << 32 | hash->salt_size;
    }
    if (count > 1)
        qsort(kinds, count, sizeof *kinds, compare_numbers);
    for (size_t i = 0; i < count; i++) {
        run = i > 0 && kinds[i] == kinds[i - 1] ? run + 1 : 1;
        if (run < best)
            continue;
        best = run;
        file->decoy_iterations = (uint32_t)(kinds[i] >> 32);
        file->decoy_salt_size = (uint32_t)kinds[i];
    }
    file->scram_count = count;
    free(kinds);
    if (count == 0) { /* an exchange may outlive the last of them */
        file->decoy_iterations = PASSWORD_SCRAM_ITERATIONS_MIN;
        file->decoy_salt_size = 16;
    }
    return STATUS_OK;
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
        even_out(file);
        if (status == STATUS_OK)
            status = choose_decoys(file);
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

size_t password_file_scram_count(const struct password_file *file)
{
    return file->scram_count;
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

/* Users of SCRAM
 * ------------------------------------------------------------------------------------------------ */

static void make_up(const uint8_t key[PASSWORD_DECOY_KEY_SIZE], const char *purpose, struct bytes user,
    uint8_t to[PASSWORD_HASH_SIZE])
{
    uint8_t own[PASSWORD_HASH_SIZE];
    const uint8_t *name = user.size > 0 ? user.data : (const uint8_t *)"";
    bool done = HMAC(EVP_sha512(), key, PASSWORD_DECOY_KEY_SIZE, (const uint8_t *)purpose, strlen(purpose),
                    own, NULL) != NULL &&
                HMAC(EVP_sha512(), own, sizeof own, name, user.size, to, NULL) != NULL;
    assert(done); /* fails for want of memory alone, and nobody may learn from that who exists */
}

bool password_file_scram(const struct password_file *file, const uint8_t key[PASSWORD_DECOY_KEY_SIZE],
    struct bytes user, struct password_hash *ret_hash)
{
    const struct password_hash *hash = password_file_find(file, user);
    bool known = hash != NULL && hash->kind == PASSWORD_SCRAM_SHA_256;
    struct password_hash decoy = {.kind = PASSWORD_SCRAM_SHA_256,
        .iterations = file->decoy_iterations,
        .salt_size = file->decoy_salt_size};
    make_up(key, "salt", user, decoy.salt);
    make_up(key, "keys", user, decoy.hash);
    *ret_hash = known ? *hash : decoy;
    return known;
}
