/*
 * The wills of one slot's connections, in a memfd that outlives the worker (BUS rules 7): a block table,
 * with all that holds for one.
 */
#ifndef CLUSTER_WILL_TABLE_H
#define CLUSTER_WILL_TABLE_H

#include "cluster/block_table.h"

#define WILL_BLOCK_SIZE    BLOCK_SIZE /* a will of 40 bytes of topic and payload takes one */
#define WILL_TABLE_DEFAULT 16777216u  /* bytes a slot: 60,000 small wills; touched pages only are paid */

#define WILL_NO_EXPIRY UINT32_MAX

struct will {
    uint64_t connection; /* identity of the connection: the stamp of its claim; never 0 */
    uint64_t publisher;  /* keyed hash of the client identifier, as in publication_meta */
    uint64_t ended_us;   /* real time when the connection ended, 0: it has not (as far as the table knows) */
    uint32_t delay_s;    /* Will Delay Interval, at most what the session outlives its connection */
    uint32_t expiry_s;   /* Message Expiry Interval from publishing on; WILL_NO_EXPIRY: none */
    uint8_t qos;
    bool retain;
    struct bytes client_id;
    struct bytes topic;
    struct bytes properties; /* as publication_view's */
    struct bytes payload;
};

typedef block_handle will_handle;

struct will_table;

/* A sealed, zeroed memfd of `size` bytes, close-on-exec: an empty table. Master. */
enum status will_table_create(size_t size, int *ret_fd) CHECK_RESULT;
/* Maps it (the descriptor may be closed then) and finds the entries there are. What is damaged is counted and
   its space used again. STATUS_INVALID: not such a table. */
enum status will_table_open(int fd, struct will_table **ret_table) CHECK_RESULT;
void will_table_close(struct will_table **table);

/* STATUS_LIMIT: full (CONNACK 0x97); STATUS_INVALID: a part is longer than 65,535 bytes or connection is 0.
 */
enum status will_table_put(
    struct will_table *table, const struct will *will, will_handle *ret_handle) CHECK_RESULT;
/* The connection ended without DISCONNECT: from this real time on the delay runs. */
void will_table_ended(struct will_table *table, will_handle handle, uint64_t real_us);
/* Clears the entry (if it is still the one with that connection). */
void will_table_remove(struct will_table *table, will_handle handle, uint64_t connection);
/* A copy of the entry; the bytes of *ret_will lie in `buffer`. STATUS_NOT_FOUND: cleared meanwhile. */
enum status will_table_get(const struct will_table *table, will_handle handle, struct block_buffer *buffer,
    struct will *ret_will) CHECK_RESULT;
/* The next entry behind `after` (0: the first), 0: none. */
will_handle will_table_next(const struct will_table *table, will_handle after);

uint32_t will_table_count(const struct will_table *table);   /* entries */
uint32_t will_table_damaged(const struct will_table *table); /* found at will_table_open() */
size_t will_table_free_blocks(const struct will_table *table);

#endif
