/* XXH3 with a secret (xxHash 0.8). Any process. */
#include "shared/keyed_hash.h"

#include <openssl/evp.h>
#include <sys/random.h>
#include <xxhash.h>

enum status keyed_hash_init(struct keyed_hash *hash)
{
    uint8_t key[32];
    if (getrandom(key, sizeof key, 0) != (ssize_t)sizeof key)
        return STATUS_SYSTEM;
    keyed_hash_init_from(hash, key);
    return STATUS_OK;
}

void keyed_hash_init_from(struct keyed_hash *hash, const uint8_t key[32])
{
    /* 192 bytes out of SHA-512 in counter mode over the key: a secret needs high entropy in every byte. */
    for (uint8_t block = 0; block < KEYED_HASH_SECRET_SIZE / 64; block++) {
        uint8_t input[33];
        memcpy(input, key, 32);
        input[32] = block;
        EVP_Digest(input, sizeof input, hash->secret + block * 64, NULL, EVP_sha512(), NULL);
    }
}

uint64_t keyed_hash_of(const struct keyed_hash *hash, struct bytes bytes)
{
    return XXH3_64bits_withSecret(bytes.data, bytes.size, hash->secret, KEYED_HASH_SECRET_SIZE);
}
