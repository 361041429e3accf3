/* Hashes of passwords: read, checked, made. Pure, any thread: OpenSSL's hashes, libgsasl's SASLprep. */
#include "shared/password_hash.h"

#include <gsasl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdio.h>

#define SCRAM_PREFIX "{SCRAM-SHA-256}"
#define NEW_SALT     16

/* Reading
 * ----------------------------------------------------------------------------------------------------- */

/* The part before the next separator, taken off *rest. */
static struct bytes take_part(struct bytes *rest, char separator)
{
    const uint8_t *end = rest->size > 0 ? memchr(rest->data, separator, rest->size) : NULL;
    struct bytes part = *rest;
    if (end == NULL) {
        *rest = BYTES_NONE;
        return part;
    }
    part.size = (size_t)(end - part.data);
    *rest = bytes_of(end + 1, rest->size - part.size - 1);
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

/* ITERATIONS,SALT,STOREDKEY,SERVERKEY */
static const char *parse_scram(struct bytes rest, struct password_hash *ret)
{
    ret->kind = PASSWORD_SCRAM_SHA_256;
    ret->iterations = decode_iterations(take_part(&rest, ','));
    if (ret->iterations < PASSWORD_SCRAM_ITERATIONS_MIN)
        return "no number of iterations from 4096 to 10000000 behind {SCRAM-SHA-256}";
    ret->salt_size = decode(take_part(&rest, ','), ret->salt, sizeof ret->salt);
    if (ret->salt_size == 0)
        return "no salt in base64 of 1 to 64 bytes";
    struct bytes stored = take_part(&rest, ','), server = take_part(&rest, ',');
    if (rest.data != NULL)
        return "something behind StoredKey and ServerKey; a salted password (gsasl --verbose) is as good as "
               "the password and does not belong here";
    if (decode(stored, ret->hash, PASSWORD_KEY_SIZE) != PASSWORD_KEY_SIZE ||
        decode(server, ret->hash + PASSWORD_KEY_SIZE, PASSWORD_KEY_SIZE) != PASSWORD_KEY_SIZE)
        return "no StoredKey and ServerKey in base64 of 32 bytes each at the end";
    return NULL;
}

const char *password_hash_parse(struct bytes text, struct password_hash *ret)
{
    const size_t prefix = strlen(SCRAM_PREFIX);
    memset(ret, 0, sizeof *ret);
    if (text.size == 0)
        return "no password hash behind the name and ':'";
    if (text.size >= prefix && memcmp(text.data, SCRAM_PREFIX, prefix) == 0)
        return parse_scram(bytes_of(text.data + prefix, text.size - prefix), ret);
    if (text.data[0] != '$')
        return "a password in the clear; allowed: hashes that begin with $7$, $6$ (mosquitto_passwd -U FILE "
               "converts the whole file) or {SCRAM-SHA-256} (shoalctl hash-password)";
    struct bytes rest = bytes_of(text.data + 1, text.size - 1);
    struct bytes kind = take_part(&rest, '$');
    if (bytes_equal(kind, bytes_of_text("7")))
        ret->kind = PASSWORD_PBKDF2;
    else if (bytes_equal(kind, bytes_of_text("6")))
        ret->kind = PASSWORD_SHA512;
    else
        return "an unknown kind of hash; allowed: $7$ (mosquitto_passwd -H sha512-pbkdf2), $6$ (-H sha512) "
               "or {SCRAM-SHA-256}";
    if (ret->kind == PASSWORD_PBKDF2 && (ret->iterations = decode_iterations(take_part(&rest, '$'))) == 0)
        return "no number of iterations from 1 to 10000000 behind $7$";
    ret->salt_size = decode(take_part(&rest, '$'), ret->salt, sizeof ret->salt);
    if (ret->salt_size == 0)
        return "no salt in base64 of 1 to 64 bytes";
    if (decode(take_part(&rest, '$'), ret->hash, sizeof ret->hash) != PASSWORD_HASH_SIZE || rest.data != NULL)
        return "no hash in base64 of 64 bytes at the end";
    return NULL;
}

/* Hashing
 * ----------------------------------------------------------------------------------------------------- */

struct password_work password_hash_work(const struct password_hash *hash)
{
    return (struct password_work){
        .sha512 = hash->kind == PASSWORD_PBKDF2 ? hash->iterations : 0,
        .sha256 = hash->kind == PASSWORD_SCRAM_SHA_256 ? hash->iterations : 0,
    };
}

static bool pbkdf2(const EVP_MD *digest, size_t size, struct bytes password, struct bytes salt,
    uint32_t iterations, uint8_t *to)
{
    const char *text = password.size > 0 ? (const char *)password.data : "";
    return PKCS5_PBKDF2_HMAC(text, (int)password.size, salt.data, (int)salt.size, (int)iterations, digest,
               (int)size, to) == 1;
}

static void do_more(const struct password_work *work)
{
    static const struct bytes salt = {(const uint8_t *)"salt", 4};
    uint8_t made[PASSWORD_HASH_SIZE];
    if (work->sha512 > 0)
        (void)pbkdf2(EVP_sha512(), PASSWORD_HASH_SIZE, BYTES_NONE, salt, work->sha512, made);
    if (work->sha256 > 0)
        (void)pbkdf2(EVP_sha256(), PASSWORD_KEY_SIZE, BYTES_NONE, salt, work->sha256, made);
}

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

static bool hmac_of_text(
    const uint8_t key[PASSWORD_KEY_SIZE], const char *text, uint8_t to[PASSWORD_KEY_SIZE])
{
    return HMAC(EVP_sha256(), key, PASSWORD_KEY_SIZE, (const uint8_t *)text, strlen(text), to, NULL) != NULL;
}

/* StoredKey, then ServerKey, of a normalized password [RFC 5802, 3]. */
static bool scram_keys(
    struct bytes password, struct bytes salt, uint32_t iterations, uint8_t to[PASSWORD_HASH_SIZE])
{
    uint8_t salted[PASSWORD_KEY_SIZE], client[PASSWORD_KEY_SIZE];
    bool done = pbkdf2(EVP_sha256(), sizeof salted, password, salt, iterations, salted) &&
                hmac_of_text(salted, "Client Key", client) && SHA256(client, sizeof client, to) != NULL &&
                hmac_of_text(salted, "Server Key", to + PASSWORD_KEY_SIZE);
    OPENSSL_cleanse(salted, sizeof salted);
    OPENSSL_cleanse(client, sizeof client);
    return done;
}

/* Normalized as SCRAM's clients do it, to free with prepared_free(); NULL: it is no text that can be. */
static char *prepare(struct bytes password, Gsasl_saslprep_flags flags)
{
    char *copy = calloc(1, password.size + 1), *prepared = NULL;
    if (copy == NULL || (password.size > 0 && memchr(password.data, '\0', password.size) != NULL)) {
        free(copy);
        return NULL;
    }
    if (password.size > 0)
        memcpy(copy, password.data, password.size);
    if (gsasl_saslprep(copy, flags, &prepared, NULL) != GSASL_OK)
        prepared = NULL;
    OPENSSL_cleanse(copy, password.size);
    free(copy);
    return prepared;
}

static void prepared_free(char *prepared)
{
    if (prepared == NULL)
        return;
    OPENSSL_cleanse(prepared, strlen(prepared));
    gsasl_free(prepared);
}

/* What cannot be normalized counts as it is: some makers of such lines do so, too. But a NUL never fits: HMAC
   fills keys up with NULs, so that those at the end would not count. */
static bool hash_scram(
    const struct password_hash *hash, struct bytes password, uint8_t to[PASSWORD_HASH_SIZE])
{
    char *prepared = prepare(password, GSASL_ALLOW_UNASSIGNED);
    bool done = scram_keys(prepared == NULL ? password : bytes_of_text(prepared),
        bytes_of(hash->salt, hash->salt_size), hash->iterations, to);
    prepared_free(prepared);
    return done && memchr(password.data, '\0', password.size) == NULL;
}

bool password_hash_fits(const struct password_hash *hash, struct bytes password)
{
    uint8_t made[PASSWORD_HASH_SIZE];
    bool done = false;
    if (password.size == 0)
        password = bytes_of("", 0);
    switch (hash->kind) {
    case PASSWORD_SHA512:
        done = hash_sha512(hash, password, made);
        break;
    case PASSWORD_PBKDF2:
        done = pbkdf2(EVP_sha512(), sizeof made, password, bytes_of(hash->salt, hash->salt_size),
            hash->iterations, made);
        break;
    case PASSWORD_SCRAM_SHA_256:
        done = hash_scram(hash, password, made);
        break;
    }
    bool fits = done && CRYPTO_memcmp(made, hash->hash, sizeof made) == 0;
    OPENSSL_cleanse(made, sizeof made);
    if (!fits)
        do_more(&hash->more);
    return fits;
}

/* Making
 * ------------------------------------------------------------------------------------------------------ */

bool password_scram_make(
    struct bytes password, uint32_t iterations, char to[PASSWORD_SCRAM_TEXT_MAX], const char **ret_wrong)
{
    uint8_t salt[NEW_SALT], keys[PASSWORD_HASH_SIZE];
    uint8_t texts[3][48]; /* base64 of 32 bytes and NUL */
    char *prepared = prepare(password, 0);
    bool done = false;
    if (prepared == NULL || prepared[0] == '\0')
        *ret_wrong = "the password is empty, or no text that SASLprep (RFC 4013) allows";
    else if (RAND_bytes(salt, sizeof salt) != 1 ||
             !scram_keys(bytes_of_text(prepared), bytes_of(salt, sizeof salt), iterations, keys))
        *ret_wrong = "no random bytes, or no memory";
    else
        done = true;
    prepared_free(prepared);
    if (!done)
        return false;
    EVP_EncodeBlock(texts[0], salt, sizeof salt);
    EVP_EncodeBlock(texts[1], keys, PASSWORD_KEY_SIZE);
    EVP_EncodeBlock(texts[2], keys + PASSWORD_KEY_SIZE, PASSWORD_KEY_SIZE);
    OPENSSL_cleanse(keys, sizeof keys);
    snprintf(to, PASSWORD_SCRAM_TEXT_MAX, SCRAM_PREFIX "%u,%s,%s,%s", iterations, (const char *)texts[0],
        (const char *)texts[1], (const char *)texts[2]);
    return true;
}
