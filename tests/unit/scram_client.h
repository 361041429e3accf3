/*
 * The client's side of SCRAM-SHA-256, made of OpenSSL's hashes alone, for tests of the server's side: keys of
 * a password, proof and signature for given messages, and the messages themselves.
 */
#ifndef TESTS_SCRAM_CLIENT_H
#define TESTS_SCRAM_CLIENT_H

#include "shared/bytes.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCRAM_TEXT 2048

struct scram_client {
    const char *header; /* gs2: "n,," */
    const char *binding;
    size_t binding_size;
    const char *password;
    char bare[SCRAM_TEXT];     /* client-first-message-bare */
    char final[SCRAM_TEXT];    /* client-final-message */
    char expected[SCRAM_TEXT]; /* what the server must answer to it */
};

static inline void scram_hmac(const uint8_t key[32], const char *text, uint8_t to[32])
{
    HMAC(EVP_sha256(), key, 32, (const uint8_t *)text, strlen(text), to, NULL);
}

static inline void scram_base64(const uint8_t *data, size_t size, char *to)
{
    EVP_EncodeBlock((unsigned char *)to, data, (int)size);
}

/* ClientProof and ServerSignature, in base64, out of the whole of RFC 5802's chapter 3. */
static inline void scram_proof(const char *password, const uint8_t *salt, size_t salt_size, int iterations,
    const char *auth_message, char proof[45], char signature[45])
{
    uint8_t salted[32], client[32], stored[32], server[32], made[32];
    PKCS5_PBKDF2_HMAC(
        password, (int)strlen(password), salt, (int)salt_size, iterations, EVP_sha256(), 32, salted);
    scram_hmac(salted, "Client Key", client);
    SHA256(client, 32, stored);
    scram_hmac(stored, auth_message, made);
    for (size_t i = 0; i < 32; i++)
        made[i] ^= client[i];
    scram_base64(made, 32, proof);
    scram_hmac(salted, "Server Key", server);
    scram_hmac(server, auth_message, made);
    scram_base64(made, 32, signature);
}

/* The first message, for `user` as it stands in it. */
static inline const char *scram_client_first(
    struct scram_client *client, const char *user, char to[SCRAM_TEXT])
{
    snprintf(client->bare, sizeof client->bare, "n=%s,r=rOprNGfwEbeRWgbNEkqO", user);
    snprintf(to, SCRAM_TEXT, "%s%.1000s", client->header, client->bare);
    return to;
}

/* Answers the server's first message: sets `final` and `expected`. False: it is none. */
static inline bool scram_client_answer(struct scram_client *client, struct bytes message)
{
    char first[SCRAM_TEXT], nonce[512], salt_text[128], channel[512], without[SCRAM_TEXT],
        auth[3 * SCRAM_TEXT];
    char proof[45], signature[45], bound[512];
    uint8_t salt[96];
    int iterations;
    snprintf(first, sizeof first, "%.*s", (int)message.size, (const char *)message.data);
    if (sscanf(first, "r=%511[^,],s=%127[^,],i=%d", nonce, salt_text, &iterations) != 3)
        return false;
    int size = EVP_DecodeBlock(salt, (const unsigned char *)salt_text, (int)strlen(salt_text));
    for (size_t i = strlen(salt_text); i > 0 && salt_text[i - 1] == '='; i--)
        size--;
    size_t header = strlen(client->header);
    memcpy(bound, client->header, header);
    if (client->binding_size > 0)
        memcpy(bound + header, client->binding, client->binding_size);
    scram_base64((const uint8_t *)bound, header + client->binding_size, channel);
    snprintf(without, sizeof without, "c=%s,r=%s", channel, nonce);
    snprintf(auth, sizeof auth, "%s,%s,%s", client->bare, first, without);
    scram_proof(client->password, salt, (size_t)size, iterations, auth, proof, signature);
    snprintf(client->final, sizeof client->final, "%.1900s,p=%s", without, proof);
    snprintf(client->expected, sizeof client->expected, "v=%s", signature);
    return true;
}

#endif
