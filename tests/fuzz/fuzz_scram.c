/*
 * SCRAM's messages of any content: nothing faults, nothing leaks, and nobody is let in. The layout of an
 * input stands in scram.hex; a «true» second message gets the server's nonce, so that it is looked at to its
 * end.
 */
#include "shared/scram.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t binding[SCRAM_BINDING_SIZE + 1] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/* Keys that are the hash of nothing known: no proof can be right. */
static bool find(void *context, struct bytes user, struct password_hash *ret_hash)
{
    (void)context;
    assert(user.data != NULL);
    *ret_hash = (struct password_hash){
        .kind = PASSWORD_SCRAM_SHA_256, .iterations = 4096, .salt_size = 16, .hash = {7}};
    return true;
}

/* `head`, then the nonce of the server's message, then a proof of the right form. */
static struct bytes complete(struct bytes head, struct bytes first, uint8_t *room)
{
    static const char proof[] = ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const uint8_t *comma = memchr(first.data, ',', first.size);
    size_t nonce = comma == NULL ? first.size : (size_t)(comma - first.data);
    memcpy(room, head.data, head.size);
    memcpy(room + head.size, first.data, nonce);
    memcpy(room + head.size + nonce, proof, sizeof proof - 1);
    return bytes_of(room, head.size + nonce + sizeof proof - 1);
}

static void run(const struct scram_settings *settings, struct scram *scram, struct bytes one,
    struct bytes two, bool completed)
{
    struct scram_exchange *exchange;
    struct bytes answer;
    assert(scram_start(scram, settings, &exchange) == STATUS_OK);
    enum status status = scram_step(exchange, one, &answer);
    assert(status != STATUS_OK && (status != STATUS_AGAIN || answer.size < 2 * SCRAM_MESSAGE_MAX));
    if (status == STATUS_AGAIN) {
        uint8_t *room = malloc(two.size + answer.size + 64);
        if (completed)
            two = complete(two, answer, room);
        status = scram_step(exchange, two, &answer);
        assert(status != STATUS_OK);
        free(room);
    }
    scram_end(&exchange);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct scram *scram;
    if (scram == NULL)
        assert(scram_new(&scram) == STATUS_OK);
    if (size < 2 || (size_t)data[1] + 2 > size)
        return 0;
    const struct scram_settings settings = {
        .plus = data[0] & 1, .binding = data[0] & 2 ? binding : NULL, .find = find};
    struct bytes one = bytes_of(data + 2, data[1]);
    /* On the heap of its own size, so that a read behind its end is seen. */
    uint8_t *copy = malloc(one.size > 0 ? one.size : 1);
    memcpy(copy, one.data, one.size);
    run(&settings, scram, bytes_of(copy, one.size), bytes_of(data + 2 + one.size, size - 2 - one.size),
        data[0] & 4);
    free(copy);
    return 0;
}
