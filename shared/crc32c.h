/*
 * CRC-32C (Castagnoli), the check of bus frames: the processor's instruction over three streams at once where
 * there is one (x86-64 with SSE 4.2), tables elsewhere. Any process.
 */
#ifndef SHARED_CRC32C_H
#define SHARED_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues a checksum over more bytes; start with 0. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);

/* The same by tables alone, for comparison in tests. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t size);

#endif
