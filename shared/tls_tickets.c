/* A ring of keys, and OpenSSL's callback for them. Master (keys alone) and workers. */
#include "shared/tls_tickets.h"

#include "shared/clock.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/mman.h>

#define NAME_SIZE 16
#define IV_SIZE   16

struct ticket_key {
    uint8_t bytes[TLS_TICKET_KEY_SIZE];
    uint64_t from_s;
};

struct tls_tickets { /* in pages of its own */
    uint32_t lifetime_s;
    unsigned count;
    struct ticket_key keys[TLS_TICKET_KEYS_MAX]; /* oldest first */
};

enum status tls_tickets_new(uint32_t lifetime_s, struct tls_tickets **ret_tickets)
{
    void *pages =
        mmap(NULL, sizeof(struct tls_tickets), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return STATUS_NO_MEMORY;
    madvise(pages, sizeof(struct tls_tickets), MADV_DONTDUMP);
    (void)mlock(
        pages, sizeof(struct tls_tickets)); /* the limit may forbid it: whoever maps key material says so */
    struct tls_tickets *tickets = pages;
    tickets->lifetime_s = lifetime_s;
    *ret_tickets = tickets;
    return STATUS_OK;
}

void tls_tickets_free(struct tls_tickets **tickets)
{
    if (*tickets == NULL)
        return;
    OPENSSL_cleanse(*tickets, sizeof **tickets);
    munmap(*tickets, sizeof **tickets);
    *tickets = NULL;
}

static uint64_t now_s(void)
{
    return clock_real_us() / 1000000;
}

static void drop_oldest(struct tls_tickets *tickets)
{
    memmove(tickets->keys, tickets->keys + 1, (tickets->count - 1) * sizeof *tickets->keys);
    tickets->count--;
    OPENSSL_cleanse(&tickets->keys[tickets->count], sizeof *tickets->keys);
}

/* Its successor has been in use for longer than a ticket is good for. */
static bool is_over(const struct tls_tickets *tickets, unsigned index, uint64_t now)
{
    return index + 1 < tickets->count && tickets->keys[index + 1].from_s + tickets->lifetime_s < now;
}

void tls_tickets_add(struct tls_tickets *tickets, const uint8_t key[TLS_TICKET_KEY_SIZE], uint64_t from_s)
{
    while (tickets->count > 0 && (is_over(tickets, 0, now_s()) || tickets->count == TLS_TICKET_KEYS_MAX))
        drop_oldest(tickets);
    struct ticket_key *added = &tickets->keys[tickets->count++];
    memcpy(added->bytes, key, TLS_TICKET_KEY_SIZE);
    added->from_s = from_s;
}

void tls_tickets_set_lifetime(struct tls_tickets *tickets, uint32_t lifetime_s)
{
    tickets->lifetime_s = lifetime_s;
}

enum status tls_tickets_make_key(uint8_t ret_key[TLS_TICKET_KEY_SIZE])
{
    bool made = RAND_priv_bytes(ret_key, TLS_TICKET_KEY_SIZE) == 1;
    ERR_clear_error();
    return made ? STATUS_OK : STATUS_SYSTEM;
}

unsigned tls_tickets_count(const struct tls_tickets *tickets)
{
    return tickets->count;
}

const uint8_t *tls_tickets_key(const struct tls_tickets *tickets, unsigned index, uint64_t *ret_from_s)
{
    *ret_from_s = tickets->keys[index].from_s;
    return tickets->keys[index].bytes;
}

/* OpenSSL's side
 * ------------------------------------------------------------------------------------------------- */

/* The newest whose time has come; NULL: none. */
static const struct ticket_key *key_in_use(const struct tls_tickets *tickets)
{
    for (unsigned i = tickets->count; i > 0; i--)
        if (tickets->keys[i - 1].from_s <= now_s())
            return &tickets->keys[i - 1];
    return NULL;
}

static const struct ticket_key *find_key(
    const struct tls_tickets *tickets, const unsigned char name[NAME_SIZE])
{
    for (unsigned i = tickets->count; i > 0; i--)
        if (memcmp(tickets->keys[i - 1].bytes, name, NAME_SIZE) == 0)
            return is_over(tickets, i - 1, now_s()) ? NULL : &tickets->keys[i - 1];
    return NULL;
}

static bool set_up(const struct ticket_key *key, const unsigned char *iv, EVP_CIPHER_CTX *cipher,
    EVP_MAC_CTX *mac, int encrypts)
{
    uint8_t hmac[32];
    char digest[] = "SHA256";
    memcpy(hmac, key->bytes + NAME_SIZE, sizeof hmac);
    OSSL_PARAM parameters[] = {OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, hmac, sizeof hmac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
    bool good =
        EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->bytes + NAME_SIZE + 32, iv, encrypts) == 1 &&
        EVP_MAC_CTX_set_params(mac, parameters) == 1;
    OPENSSL_cleanse(hmac, sizeof hmac);
    return good;
}

static int ring_index(void)
{
    static int index = -1; /* one thread a process */
    if (index < 0)
        index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    return index;
}

/*
 * 0: no ticket, or none that we can read: a full handshake. 2 on reading: the client gets a new ticket. In
 * TLS 1.3 it always does, or every second reconnect would be a full handshake; in TLS 1.2 its ticket serves
 * on while the key is in use.
 */
static int on_ticket_key(SSL *ssl, unsigned char name[NAME_SIZE], unsigned char iv[IV_SIZE],
    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypts)
{
    const struct tls_tickets *tickets = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), ring_index());
    const struct ticket_key *key = NULL;
    if (tickets != NULL)
        key = encrypts ? key_in_use(tickets) : find_key(tickets, name);
    if (key == NULL)
        return 0;
    if (encrypts) {
        memcpy(name, key->bytes, NAME_SIZE);
        if (RAND_bytes(iv, IV_SIZE) != 1)
            return -1;
    }
    if (!set_up(key, iv, cipher, mac, encrypts))
        return -1;
    return encrypts || (key == key_in_use(tickets) && SSL_version(ssl) < TLS1_3_VERSION) ? 1 : 2;
}

enum status tls_tickets_use(struct tls_tickets *tickets, SSL_CTX *context)
{
    if (SSL_CTX_set_ex_data(context, ring_index(), tickets) != 1 ||
        SSL_CTX_set_tlsext_ticket_key_evp_cb(context, on_ticket_key) != 1)
        return STATUS_NO_MEMORY;
    SSL_CTX_set_timeout(context, (long)tickets->lifetime_s);
    return STATUS_OK;
}
