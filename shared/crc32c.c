/*
 * CRC-32C. The crc32 instruction takes three cycles but can start one every cycle: three neighbouring blocks
 * are computed side by side and put together by tables that say what so many zero bytes do to a checksum.
 */
#include "shared/crc32c.h"

#include <stdbool.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* reflected */

/* Blocks of the three streams: long ones for frames of some kilobytes, short ones for the rest. */
#define BLOCK_LONG  ((size_t)1024)
#define BLOCK_SHORT ((size_t)128)

static struct {
    bool ready;
    bool instruction;            /* the processor has crc32 */
    uint32_t byte[8][256];       /* slicing by eight */
    uint32_t shift_long[4][256]; /* checksum after BLOCK_LONG zero bytes, by byte of the checksum */
    uint32_t shift_short[4][256];
} tables;

/* What `zeros` zero bytes make of a checksum; only for building tables. */
static uint32_t after_zeros(uint32_t crc, size_t zeros)
{
    while (zeros-- > 0)
        crc = tables.byte[0][crc & 0xff] ^ (crc >> 8);
    return crc;
}

static void build_shift(uint32_t shift[4][256], size_t zeros)
{
    uint32_t bit[32];
    for (unsigned i = 0; i < 32; i++)
        bit[i] = after_zeros(1u << i, zeros);
    for (unsigned byte = 0; byte < 4; byte++) {
        for (unsigned value = 0; value < 256; value++) {
            uint32_t sum = 0;
            for (unsigned i = 0; i < 8; i++) {
                if (value & (1u << i))
                    sum ^= bit[byte * 8 + i];
            }
            shift[byte][value] = sum;
        }
    }
}

static void build_tables(void)
{
    for (uint32_t value = 0; value < 256; value++) {
        uint32_t crc = value;
        for (unsigned i = 0; i < 8; i++)
            crc = (crc >> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
        tables.byte[0][value] = crc;
    }
    for (unsigned row = 1; row < 8; row++) {
        for (unsigned value = 0; value < 256; value++) {
            uint32_t before = tables.byte[row - 1][value];
            tables.byte[row][value] = tables.byte[0][before & 0xff] ^ (before >> 8);
        }
    }
#ifdef __x86_64__
    build_shift(tables.shift_long, BLOCK_LONG);
    build_shift(tables.shift_short, BLOCK_SHORT);
    tables.instruction = __builtin_cpu_supports("sse4.2");
#endif
    tables.ready = true;
}

static uint64_t load_64(const uint8_t *from)
{
    uint64_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t size)
{
    if (!tables.ready)
        build_tables();
    const uint8_t *from = data;
    crc = ~crc;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    for (; size >= 8; size -= 8, from += 8) {
        uint64_t word = load_64(from) ^ crc;
        crc = 0;
        for (unsigned i = 0; i < 8; i++)
            crc ^= tables.byte[7 - i][(word >> (8 * i)) & 0xff];
    }
#endif
    for (; size > 0; size--)
        crc = tables.byte[0][(crc ^ *from++) & 0xff] ^ (crc >> 8);
    return ~crc;
}

#ifdef __x86_64__
static uint32_t shifted(uint32_t shift[4][256], uint32_t crc)
{
    return shift[0][crc & 0xff] ^ shift[1][(crc >> 8) & 0xff] ^ shift[2][(crc >> 16) & 0xff] ^
           shift[3][crc >> 24];
}

/* Three neighbouring blocks of `block` bytes each. */
__attribute__((target("sse4.2"))) static uint32_t three_blocks(
    uint32_t crc, const uint8_t *from, size_t block, uint32_t shift[4][256])
{
    uint64_t first = crc, second = 0, third = 0;
    for (size_t i = 0; i < block; i += 8) {
        first = __builtin_ia32_crc32di(first, load_64(from + i));
        second = __builtin_ia32_crc32di(second, load_64(from + block + i));
        third = __builtin_ia32_crc32di(third, load_64(from + 2 * block + i));
    }
    uint32_t sum = shifted(shift, (uint32_t)first) ^ (uint32_t)second;
    return shifted(shift, sum) ^ (uint32_t)third;
}

__attribute__((target("sse4.2"))) static uint32_t by_instruction(
    uint32_t crc, const uint8_t *from, size_t size)
{
    crc = ~crc;
    for (; size >= 3 * BLOCK_LONG; size -= 3 * BLOCK_LONG, from += 3 * BLOCK_LONG)
        crc = three_blocks(crc, from, BLOCK_LONG, tables.shift_long);
    for (; size >= 3 * BLOCK_SHORT; size -= 3 * BLOCK_SHORT, from += 3 * BLOCK_SHORT)
        crc = three_blocks(crc, from, BLOCK_SHORT, tables.shift_short);
    uint64_t wide = crc;
    for (; size >= 8; size -= 8, from += 8)
        wide = __builtin_ia32_crc32di(wide, load_64(from));
    crc = (uint32_t)wide;
    for (; size > 0; size--)
        crc = __builtin_ia32_crc32qi(crc, *from++);
    return ~crc;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
    if (!tables.ready)
        build_tables();
#ifdef __x86_64__
    if (tables.instruction)
        return by_instruction(crc, data, size);
#endif
    return crc32c_portable(crc, data, size);
}
