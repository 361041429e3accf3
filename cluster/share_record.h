/*
 * What a publication says of shared groups on the bus: who was picked. Little-endian.
 *
 *   shares   u32 size of all, u64 incarnation of who picked, then picks
 *   pick     u8 slot, u8 hops, u64 incarnation of that slot's worker, u64 number, u16 filter size, u16 group
 * size, filter, group
 *
 * The same for all peers of a publication; each looks for its own slot. Pure encoding; what is read may be
 * hostile.
 */
#ifndef CLUSTER_SHARE_RECORD_H
#define CLUSTER_SHARE_RECORD_H

#include "cluster/record.h"
#include "shared/status.h"

/* How often a publication is handed on to another member at most (BUS rules 8). */
#define SHARE_HOPS_MAX 8

struct share_pick {
    uint64_t incarnation; /* whose members were meant */
    uint64_t number;      /* of the copy that is kept until it is settled (share_copies.h); 0: none is */
    struct bytes filter;
    struct bytes group;
    uint8_t slot;
    uint8_t hops; /* how often it was handed on */
};

#define SHARE_HEAD_SIZE 12u
#define SHARE_PICK_SIZE 22u /* beside filter and group */

uint8_t *share_record_begin(uint8_t *to, uint64_t incarnation);
uint8_t *share_record_write(uint8_t *to, const struct share_pick *pick);
/* The size, when all are written. */
void share_record_end(uint8_t *record, size_t size);

struct share_reader {
    struct record_reader picks;
    uint64_t incarnation; /* who picked */
};

enum status share_record_read(struct bytes shares, struct share_reader *ret_reader) CHECK_RESULT;
/* False: no more, or malformed from here on. Filter and group are valid ones. */
bool share_record_next(struct share_reader *reader, struct share_pick *ret_pick);

#endif
