/* Bytes written as hexadecimal text, for tests of encodings: spaces are passed over, 'text' stands for
 * itself. */
#ifndef TESTS_UNIT_HEX_H
#define TESTS_UNIT_HEX_H

#include "shared/bytes.h"

#include <stdlib.h>

static inline int hex_digit(char digit)
{
    return digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10;
}

/* A heap block of exactly the bytes' size, so that the sanitizer sees every read behind the end. The caller
 * frees ret.data. */
static inline struct bytes hex_bytes(const char *text)
{
    uint8_t *data = calloc(strlen(text) + 1, 1);
    size_t size = 0;
    while (*text != '\0') {
        if (*text == ' ') {
            text++;
        } else if (*text == '\'') {
            for (text++; *text != '\''; text++)
                data[size++] = (uint8_t)*text;
            text++;
        } else {
            data[size++] = (uint8_t)(hex_digit(text[0]) << 4 | hex_digit(text[1]));
            text += 2;
        }
    }
    uint8_t *exact = calloc(size > 0 ? size : 1, 1);
    memcpy(exact, data, size);
    free(data);
    return bytes_of(exact, size);
}

static inline void hex_free(struct bytes bytes)
{
    free((void *)(uintptr_t)bytes.data);
}

#endif
