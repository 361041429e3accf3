/*
 * The opening handshake of WebSocket: whatever the request, nothing faults, what is accepted lies within the
 * input and is accepted with anything behind it, and answers fit their room. Seeds: websocket_upgrade.hex.
 */
#include "shared/websocket_upgrade.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const origins[] = {"https://example.com"};

static void check(struct bytes input, const struct websocket_rules *rules)
{
    struct websocket_upgrade upgrade;
    struct websocket_refusal refusal = {0, NULL};
    char answer[WEBSOCKET_ANSWER_MAX];
    enum status status = websocket_upgrade_parse(input, rules, &upgrade, &refusal);
    switch (status) {
    case STATUS_OK:
        assert(upgrade.size >= 4 && upgrade.size <= input.size && upgrade.size <= WEBSOCKET_UPGRADE_MAX);
        assert(memcmp(input.data + upgrade.size - 4, "\r\n\r\n", 4) == 0);
        assert(strlen(upgrade.accept) == 28);
        assert(websocket_upgrade_answer(&upgrade, answer) < sizeof answer);
        break;
    case STATUS_AGAIN:
        assert(input.size < WEBSOCKET_UPGRADE_MAX);
        break;
    default:
        assert(status == STATUS_REFUSED && refusal.text != NULL);
        assert(websocket_upgrade_refuse(&refusal, answer) < sizeof answer);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct websocket_rules open = {.path = "/mqtt"};
    const struct websocket_rules strict = {.path = "/mqtt", .origins = origins, .origin_count = 1};
    uint8_t *copy = malloc(size > 0 ? size : 1);
    assert(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    check(bytes_of(copy, size), &open);
    check(bytes_of(copy, size), &strict);
    check(bytes_of(copy, size / 2), &open);
    free(copy);
    return 0;
}
