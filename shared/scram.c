/*
 * libgsasl does the messages and the proofs; it asks for what it needs by a callback, as text in base64. What
 * it leaves to its user is here: who is known, authorization identities, sizes, and forgetting the keys.
 */
#include "shared/scram.h"

#include "shared/topic_name.h"

#include <gsasl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#define BASE64_SIZE(bytes) (((bytes) + 2) / 3 * 4 + 1) /* NUL included */

struct scram {
    Gsasl *library; /* owned */
};

struct scram_exchange {
    Gsasl_session *session; /* owned */
    bool (*find)(void *context, struct bytes user, struct password_hash *ret_hash);
    void *context;
    bool asked; /* `hash` and `known` hold what find said */
    bool known;
    bool bound; /* `binding` is there */
    bool ended;
    struct password_hash hash;
    uint8_t binding[SCRAM_BINDING_SIZE];
    char *answer; /* owned; of the last step */
};

/* What libgsasl asks for
 * -------------------------------------------------------------------------------------- */

static int give_base64(Gsasl_session *session, Gsasl_property property, const uint8_t *data, size_t size)
{
    char text[BASE64_SIZE(PASSWORD_SALT_MAX)];
    EVP_EncodeBlock((unsigned char *)text, data, (int)size);
    int result = gsasl_property_set(session, property, text);
    OPENSSL_cleanse(text, sizeof text);
    return result;
}

static int give_iterations(Gsasl_session *session, uint32_t iterations)
{
    char text[16];
    snprintf(text, sizeof text, "%u", iterations);
    return gsasl_property_set(session, GSASL_SCRAM_ITER, text);
}

static void ask(struct scram_exchange *exchange)
{
    if (exchange->asked)
        return;
    exchange->asked = true;
    exchange->known = exchange->find(exchange->context, scram_user(exchange), &exchange->hash);
}

static int on_property(Gsasl *library, Gsasl_session *session, Gsasl_property property)
{
    (void)library;
    struct scram_exchange *exchange = gsasl_session_hook_get(session);
    const struct password_hash *hash = &exchange->hash;
    switch (property) {
    case GSASL_CB_TLS_EXPORTER:
        return exchange->bound ? give_base64(session, property, exchange->binding, SCRAM_BINDING_SIZE)
                               : GSASL_NO_CALLBACK;
    case GSASL_SCRAM_ITER:
        ask(exchange);
        return give_iterations(session, hash->iterations);
    case GSASL_SCRAM_SALT:
        ask(exchange);
        return give_base64(session, property, hash->salt, hash->salt_size);
    case GSASL_SCRAM_STOREDKEY:
        return give_base64(session, property, hash->hash, PASSWORD_KEY_SIZE);
    case GSASL_SCRAM_SERVERKEY:
        return give_base64(session, property, hash->hash + PASSWORD_KEY_SIZE, PASSWORD_KEY_SIZE);
    default:
        return GSASL_NO_CALLBACK;
    }
}

enum status scram_new(struct scram **ret_scram)
{
    struct scram *scram = calloc(1, sizeof *scram);
    if (scram == NULL || gsasl_init(&scram->library) != GSASL_OK) {
        free(scram);
        return STATUS_NO_MEMORY;
    }
    gsasl_callback_set(scram->library, on_property);
    *ret_scram = scram;
    return STATUS_OK;
}

void scram_free(struct scram **scram)
{
    if (*scram == NULL)
        return;
    gsasl_done((*scram)->library);
    free(*scram);
    *scram = NULL;
}

/* One exchange
 * ------------------------------------------------------------------------------------------------- */

enum status scram_start(
    struct scram *scram, const struct scram_settings *settings, struct scram_exchange **ret_exchange)
{
    struct scram_exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL ||
        gsasl_server_start(scram->library, settings->plus ? "SCRAM-SHA-256-PLUS" : "SCRAM-SHA-256",
            &exchange->session) != GSASL_OK) {
        free(exchange);
        return STATUS_NO_MEMORY; /* both mechanisms are part of every libgsasl 2 */
    }
    gsasl_session_hook_set(exchange->session, exchange);
    exchange->find = settings->find;
    exchange->context = settings->context;
    exchange->bound = settings->binding != NULL;
    if (exchange->bound)
        memcpy(exchange->binding, settings->binding, SCRAM_BINDING_SIZE);
    *ret_exchange = exchange;
    return STATUS_OK;
}

/* libgsasl frees its texts as they are. */
static void wipe_property(Gsasl_session *session, Gsasl_property property)
{
    const char *text = gsasl_property_fast(session, property);
    if (text != NULL)
        OPENSSL_cleanse((char *)(uintptr_t)text, strlen(text));
}

void scram_end(struct scram_exchange **exchange_pointer)
{
    struct scram_exchange *exchange = *exchange_pointer;
    *exchange_pointer = NULL;
    if (exchange == NULL)
        return;
    wipe_property(exchange->session, GSASL_SCRAM_STOREDKEY);
    wipe_property(exchange->session, GSASL_SCRAM_SERVERKEY);
    gsasl_finish(exchange->session);
    gsasl_free(exchange->answer);
    OPENSSL_cleanse(exchange, sizeof *exchange);
    free(exchange);
}

struct bytes scram_user(const struct scram_exchange *exchange)
{
    return bytes_of_text(gsasl_property_fast(exchange->session, GSASL_AUTHID));
}

/* The user is there still, with the keys that it was asked to prove. */
static bool still_holds(const struct scram_exchange *exchange)
{
    struct password_hash now;
    bool holds = exchange->find(exchange->context, scram_user(exchange), &now) &&
                 CRYPTO_memcmp(now.hash, exchange->hash.hash, sizeof now.hash) == 0;
    OPENSSL_cleanse(&now, sizeof now);
    return holds;
}

/* The proof is right; is it one that counts? Nobody speaks for others here. */
static bool may_be(const struct scram_exchange *exchange)
{
    const char *other = gsasl_property_fast(exchange->session, GSASL_AUTHZID);
    struct bytes user = scram_user(exchange);
    return exchange->known && user.size > 0 && utf8_valid(user) &&
           (other == NULL || bytes_equal(bytes_of_text(other), user)) && still_holds(exchange);
}

static enum status status_of(const struct scram_exchange *exchange, int result)
{
    switch (result) {
    case GSASL_NEEDS_MORE:
        return STATUS_AGAIN;
    case GSASL_OK:
        return may_be(exchange) ? STATUS_OK : STATUS_REFUSED;
    case GSASL_MALLOC_ERROR:
    case GSASL_CRYPTO_ERROR:
        return STATUS_NO_MEMORY;
    case GSASL_AUTHENTICATION_ERROR:
        return STATUS_REFUSED;
    default:
        return STATUS_PROTOCOL;
    }
}

enum status scram_step(struct scram_exchange *exchange, struct bytes message, struct bytes *ret_answer)
{
    size_t size = 0;
    gsasl_free(exchange->answer);
    exchange->answer = NULL;
    /* UTF-8 by definition; and a NUL, which that leaves out as well, would be the end for half of libgsasl.
     */
    if (exchange->ended || message.size > SCRAM_MESSAGE_MAX || !utf8_valid(message))
        return STATUS_PROTOCOL;
    int result = gsasl_step(exchange->session, message.size > 0 ? (const char *)message.data : "",
        message.size, &exchange->answer, &size);
    enum status status = status_of(exchange, result);
    exchange->ended = status != STATUS_AGAIN;
    if (status == STATUS_OK || status == STATUS_AGAIN)
        *ret_answer = bytes_of(exchange->answer, size);
    return status;
}
