/*
 * What one slot's worker has announced (routes.h), in a memfd that its siblings can read when it does not
 * answer (BUS rules 4): so a worker that starts beside a stopped one knows what that one wants, be there
 * anybody else who could tell or not. Made by the master; written by the slot's worker alone, before it
 * announces; read by any worker, at any moment, whatever the writer is in the midst of. Holds entries in the
 * order of announcing, of which later ones count; what they mean is the business of routes.h. Worker process.
 */
#ifndef CLUSTER_ROUTE_TABLE_H
#define CLUSTER_ROUTE_TABLE_H

#include "shared/bytes.h"
#include "shared/status.h"

/* Of a slot; touched pages only are paid. Half of it holds some millions of filters. */
#define ROUTE_TABLE_SIZE ((size_t)256 << 20)

struct route_table;

/* A sealed, zeroed memfd of `size` bytes, close-on-exec: a table of nobody. Master. */
enum status route_table_create(size_t size, int *ret_fd) CHECK_RESULT;
/* Maps it for writing (the descriptor may be closed then); empty, and of this incarnation from now on.
   STATUS_INVALID: not such a table. */
enum status route_table_open(int fd, uint64_t incarnation, struct route_table **ret_table) CHECK_RESULT;
void route_table_close(struct route_table **table);

/* Room for the next entry of `size` bytes, which counts after route_table_added(). NULL: everything that
   still counts is to be written anew. */
uint8_t *route_table_room(struct route_table *table, size_t size);
void route_table_added(struct route_table *table, size_t size);
/*
 * Writing anew: _rewrite() begins, _room() and _added() as ever but unseen, _rewritten() puts it in the place
 * of what there was, in one store. If it does not fit (_room() is NULL), route_table_give_up(): nobody reads
 * it any more.
 */
void route_table_rewrite(struct route_table *table);
void route_table_rewritten(struct route_table *table);
void route_table_give_up(struct route_table *table);

/* A copy of the entries, freed by the caller. STATUS_NOT_FOUND: the table is not of this incarnation (which
   has not opened it yet, or has given up). STATUS_AGAIN: it is being written anew again and again. */
enum status route_table_read(
    int fd, uint64_t incarnation, uint8_t **ret_entries, size_t *ret_size) CHECK_RESULT;

#endif
