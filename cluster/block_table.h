/*
 * Entries in a memfd that outlives its worker: byte strings under 64-bit identities, one table per slot, for
 * what its next incarnation must find (wills, delayed publications). Made by the master, mapped by the slot's
 * worker and, while the slot is backed off, by the sibling that adopts it. Holds after SIGKILL at any store:
 * an entry's state word is written last, and clearing it is one store. Only the slot's worker puts; both may
 * clear.
 */
#ifndef CLUSTER_BLOCK_TABLE_H
#define CLUSTER_BLOCK_TABLE_H

#include "shared/bytes.h"
#include "shared/status.h"

#define BLOCK_SIZE 256u /* bytes; an entry of 220 bytes takes one */

typedef uint32_t block_handle; /* 0: none */

struct block_table;

/* A sealed, zeroed memfd of `size` bytes, close-on-exec: an empty table. Master. */
enum status block_table_create(const char *name, size_t size, int *ret_fd) CHECK_RESULT;
/* Maps it (the descriptor may be closed then) and finds the entries there are. What is damaged is counted and
   its space used again. `magic`, not 0, stands for what the entries are. STATUS_INVALID: not such a table. */
enum status block_table_open(int fd, uint64_t magic, struct block_table **ret_table) CHECK_RESULT;
void block_table_close(struct block_table **table);

/* `identity`, not 0, is told from others of the same handle by it; `word` may be changed in place.
   STATUS_LIMIT: full. */
enum status block_table_put(struct block_table *table, uint64_t identity, uint64_t word, struct bytes content,
    block_handle *ret_handle) CHECK_RESULT;
void block_table_set_word(struct block_table *table, block_handle handle, uint64_t word);
/* Clears the entry, if it is still the one with that identity. */
void block_table_remove(struct block_table *table, block_handle handle, uint64_t identity);

struct block_buffer { /* grown with realloc, owned by the caller */
    uint8_t *data;
    size_t capacity;
};
struct block_entry {
    uint64_t identity;
    uint64_t word;
    struct bytes content; /* in the buffer */
};
/* A copy of the entry. STATUS_NOT_FOUND: cleared meanwhile. */
enum status block_table_get(const struct block_table *table, block_handle handle, struct block_buffer *buffer,
    struct block_entry *ret_entry) CHECK_RESULT;
/* The next entry behind `after` (0: the first), 0: none. */
block_handle block_table_next(const struct block_table *table, block_handle after);

uint32_t block_table_count(const struct block_table *table);   /* entries */
uint32_t block_table_damaged(const struct block_table *table); /* found at block_table_open() */
size_t block_table_free_blocks(const struct block_table *table);

#endif
