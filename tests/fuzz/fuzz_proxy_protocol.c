/*
 * PROXY protocol headers: whatever the bytes, nothing faults, what is accepted lies within the input, and the
 * same header cut short is never accepted. Seeds: proxy_protocol.hex.
 */
#include "shared/proxy_protocol.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum status parse(struct bytes input, struct proxy_header *ret_header)
{
    const char *error = NULL;
    enum status status = proxy_protocol_parse(input, ret_header, &error);
    assert(status == STATUS_OK || status == STATUS_AGAIN || error != NULL);
    assert(status != STATUS_AGAIN || input.size < PROXY_HEADER_MAX);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header header, shorter;
    char text[PEER_TEXT_SIZE];
    uint8_t *copy = malloc(size > 0 ? size : 1);
    assert(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    if (parse(bytes_of(copy, size), &header) == STATUS_OK) {
        assert(header.size > 0 && header.size <= size && header.size <= PROXY_HEADER_MAX);
        const uint8_t *name = header.common_name.data;
        assert(header.common_name.size == 0 ||
               (name >= copy && name + header.common_name.size <= copy + header.size));
        assert(strlen(peer_address_text(&header.address, text)) < sizeof text);
        assert(parse(bytes_of(copy, header.size - 1), &shorter) == STATUS_AGAIN);
    }
    free(copy);
    return 0;
}
