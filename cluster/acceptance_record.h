/*
 * The bodies of acceptance's records: a publication, a fragment of a large one, completions. Little-endian.
 *
 *   publication   u16 flags, u16 topic size, u64 sequence, u64 publisher, [u64 ask],
 *                 [origin: u64 incarnation, u16 node, u16 slot], [u64 stamp], [u64 expires_ms], [u64 will],
 *                 [u32 properties size], topic, properties, [picks: share_record.h], payload (the rest)
 *   fragment      u64 transfer, u32 total, u32 at, bytes (of a publication body)
 *   completion    u8 kind, u64 incarnation of who asked, then ranges {u64 first, u32 count}
 *
 * Pure encoding; what is read may be hostile. For acceptance*.c alone.
 */
#ifndef CLUSTER_ACCEPTANCE_RECORD_H
#define CLUSTER_ACCEPTANCE_RECORD_H

#include "shared/publication.h"

/* The origin is left out when it is that of the frame around the record. */
#define ACCEPTANCE_SAME_ORIGIN true

/* `ask`: number under which the receiver's completion is awaited; 0: it is not. */
size_t acceptance_record_size(const struct publication_view *view, uint64_t ask, bool same_origin);
void acceptance_record_write(
    uint8_t *to, const struct publication_view *view, uint64_t ask, bool same_origin);
/* `origin` stands for one that was left out; NULL: it must be there. */
enum status acceptance_record_read(struct bytes body, const struct publication_origin *origin,
    struct publication_view *ret_view, uint64_t *ret_ask) CHECK_RESULT;

struct acceptance_fragment {
    uint64_t transfer; /* number of the transfer, grows per sender incarnation */
    uint32_t total;    /* bytes of the whole publication body */
    uint32_t at;       /* where these bytes belong */
    struct bytes bytes;
};

#define ACCEPTANCE_FRAGMENT_HEADER_SIZE 16

/* The bytes follow behind the header. */
void acceptance_fragment_write(uint8_t *to, const struct acceptance_fragment *fragment);
enum status acceptance_fragment_read(
    struct bytes body, struct acceptance_fragment *ret_fragment) CHECK_RESULT;

enum acceptance_completion_kind {
    ACCEPTANCE_TAKEN = 1,     /* these asks are answered */
    ACCEPTANCE_FORGOTTEN = 2, /* the lane was corrupt: whatever was asked before will not be answered */
};

struct acceptance_range {
    uint64_t first;
    uint32_t count;
};

#define ACCEPTANCE_COMPLETION_HEADER_SIZE 9
#define ACCEPTANCE_RANGE_SIZE             12

void acceptance_completion_write(uint8_t *to, enum acceptance_completion_kind kind, uint64_t incarnation);
void acceptance_range_write(uint8_t *to, struct acceptance_range range);
/* *ret_ranges: the encoded ranges, a multiple of their size. */
enum status acceptance_completion_read(struct bytes body, enum acceptance_completion_kind *ret_kind,
    uint64_t *ret_incarnation, struct bytes *ret_ranges) CHECK_RESULT;
struct acceptance_range acceptance_range_read(const uint8_t *from);

#endif
