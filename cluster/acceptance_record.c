/* Encoding and checking of acceptance's record bodies. No state. */
#include "cluster/acceptance_record.h"

#include "cluster/acceptance.h"

/* Of a publication's u16 flags. */
enum {
    FLAG_QOS = 3, /* two bits */
    FLAG_RETAIN = 1 << 2,
    FLAG_ASK = 1 << 3,
    FLAG_ORIGIN = 1 << 4,
    FLAG_STAMP = 1 << 5,
    FLAG_EXPIRES = 1 << 6,
    FLAG_WILL = 1 << 7,
    FLAG_PROPERTIES = 1 << 8,
    FLAG_SHARES = 1 << 9,
    FLAG_SHARES_ONLY = 1 << 10, /* with FLAG_SHARES */
    FLAGS_ALL = (1 << 11) - 1,
};

#define FIXED_SIZE  20 /* flags, topic size, sequence, publisher */
#define ORIGIN_SIZE 12

static unsigned flags_of(const struct publication_view *view, uint64_t ask, bool same_origin)
{
    const struct publication_meta *meta = &view->meta;
    unsigned flags = meta->qos & FLAG_QOS;
    flags |= meta->retain ? FLAG_RETAIN : 0;
    flags |= ask != 0 ? FLAG_ASK : 0;
    flags |= same_origin ? 0 : FLAG_ORIGIN;
    flags |= meta->stamp != 0 ? FLAG_STAMP : 0;
    flags |= meta->expires_ms != 0 ? FLAG_EXPIRES : 0;
    flags |= meta->will != 0 ? FLAG_WILL : 0;
    flags |= view->properties.size != 0 ? FLAG_PROPERTIES : 0;
    if (view->shares != NULL)
        flags |= view->meta.shares_only ? FLAG_SHARES | FLAG_SHARES_ONLY : FLAG_SHARES;
    return flags;
}

/* Bytes that the optional members take. Most publications have none: one test. */
static size_t optional_size(unsigned flags)
{
    if ((flags & ~(unsigned)(FLAG_QOS | FLAG_RETAIN)) == 0)
        return 0;
    size_t size = (flags & FLAG_ORIGIN) != 0 ? ORIGIN_SIZE : 0;
    size += (flags & FLAG_PROPERTIES) != 0 ? sizeof(uint32_t) : 0;
    unsigned words = flags & (FLAG_ASK | FLAG_STAMP | FLAG_EXPIRES | FLAG_WILL);
    return size + (size_t)__builtin_popcount(words) * sizeof(uint64_t);
}

size_t acceptance_record_size(const struct publication_view *view, uint64_t ask, bool same_origin)
{
    return FIXED_SIZE + optional_size(flags_of(view, ask, same_origin)) + view->topic.size +
           view->properties.size + publication_shares(view).size + view->payload.size;
}

static uint8_t *write_u64(uint8_t *to, uint64_t value)
{
    put_u64_le(to, value);
    return to + sizeof value;
}

static uint8_t *write_bytes(uint8_t *to, struct bytes bytes)
{
    if (bytes.size > 0)
        memcpy(to, bytes.data, bytes.size);
    return to + bytes.size;
}

static uint8_t *write_origin(uint8_t *to, struct publication_origin origin)
{
    to = write_u64(to, origin.incarnation);
    put_u16_le(to, origin.node);
    put_u16_le(to + 2, origin.slot);
    return to + 4;
}

static uint8_t *write_optional(uint8_t *to, const struct publication_view *view, uint64_t ask, unsigned flags)
{
    if ((flags & FLAG_ASK) != 0)
        to = write_u64(to, ask);
    if ((flags & FLAG_ORIGIN) != 0)
        to = write_origin(to, view->meta.origin);
    if ((flags & FLAG_STAMP) != 0)
        to = write_u64(to, view->meta.stamp);
    if ((flags & FLAG_EXPIRES) != 0)
        to = write_u64(to, view->meta.expires_ms);
    if ((flags & FLAG_WILL) != 0)
        to = write_u64(to, view->meta.will);
    if ((flags & FLAG_PROPERTIES) != 0) {
        put_u32_le(to, (uint32_t)view->properties.size);
        to += sizeof(uint32_t);
    }
    return to;
}

void acceptance_record_write(uint8_t *to, const struct publication_view *view, uint64_t ask, bool same_origin)
{
    unsigned flags = flags_of(view, ask, same_origin);
    put_u16_le(to, (uint16_t)flags);
    put_u16_le(to + 2, (uint16_t)view->topic.size);
    put_u64_le(to + 4, view->meta.sequence);
    put_u64_le(to + 12, view->meta.publisher);
    to = write_optional(to + FIXED_SIZE, view, ask, flags);
    to = write_bytes(to, view->topic);
    to = write_bytes(to, view->properties);
    to = write_bytes(to, publication_shares(view));
    write_bytes(to, view->payload);
}

static uint64_t read_u64(const uint8_t **from)
{
    uint64_t value = get_u64_le(*from);
    *from += sizeof value;
    return value;
}

static struct publication_origin read_origin(const uint8_t **from)
{
    struct publication_origin origin = {
        .incarnation = read_u64(from), .node = get_u16_le(*from), .slot = get_u16_le(*from + 2)};
    *from += 4;
    return origin;
}

/* Reads the optional members, which are known to be there whole; returns the size of the properties. */
static size_t read_optional(
    const uint8_t **from, unsigned flags, struct publication_meta *meta, uint64_t *ret_ask)
{
    *ret_ask = (flags & FLAG_ASK) != 0 ? read_u64(from) : 0;
    if ((flags & FLAG_ORIGIN) != 0)
        meta->origin = read_origin(from);
    meta->stamp = (flags & FLAG_STAMP) != 0 ? read_u64(from) : 0;
    meta->expires_ms = (flags & FLAG_EXPIRES) != 0 ? read_u64(from) : 0;
    meta->will = (flags & FLAG_WILL) != 0 ? read_u64(from) : 0;
    if ((flags & FLAG_PROPERTIES) == 0)
        return 0;
    size_t size = get_u32_le(*from);
    *from += sizeof(uint32_t);
    return size;
}

/* How much the picks take that begin here; SIZE_MAX: they are not all there. */
static size_t shares_size(const uint8_t *from, size_t left)
{
    if (left < sizeof(uint32_t))
        return SIZE_MAX;
    size_t size = get_u32_le(from);
    return size < sizeof(uint32_t) || size > left ? SIZE_MAX : size;
}

enum status acceptance_record_read(struct bytes body, const struct publication_origin *origin,
    struct publication_view *ret_view, uint64_t *ret_ask)
{
    if (body.size < FIXED_SIZE)
        return STATUS_PROTOCOL;
    const uint8_t *from = body.data, *end = body.data + body.size;
    unsigned flags = get_u16_le(from);
    size_t topic_size = get_u16_le(from + 2);
    if ((flags & ~(unsigned)FLAGS_ALL) != 0 || (flags & FLAG_QOS) > 2 || topic_size == 0 ||
        (flags & (FLAG_SHARES | FLAG_SHARES_ONLY)) == FLAG_SHARES_ONLY ||
        (origin == NULL && (flags & FLAG_ORIGIN) == 0) || body.size < FIXED_SIZE + optional_size(flags))
        return STATUS_PROTOCOL;
    struct publication_meta meta = {
        .sequence = get_u64_le(from + 4),
        .publisher = get_u64_le(from + 12),
        .qos = flags & FLAG_QOS,
        .retain = (flags & FLAG_RETAIN) != 0,
        .shares_only = (flags & FLAG_SHARES_ONLY) != 0,
    };
    if (origin != NULL)
        meta.origin = *origin;
    from += FIXED_SIZE;
    uint64_t ask;
    size_t properties_size = read_optional(&from, flags, &meta, &ask);
    size_t left = (size_t)(end - from);
    if (topic_size > left || properties_size > left - topic_size)
        return STATUS_PROTOCOL;
    const uint8_t *shares = from + topic_size + properties_size;
    size_t picks = (flags & FLAG_SHARES) != 0 ? shares_size(shares, (size_t)(end - shares)) : 0;
    if (picks == SIZE_MAX)
        return STATUS_PROTOCOL;
    ret_view->meta = meta;
    ret_view->topic = bytes_of(from, topic_size);
    ret_view->properties = bytes_of(from + topic_size, properties_size);
    ret_view->shares = picks > 0 ? shares : NULL;
    ret_view->payload = bytes_of(shares + picks, (size_t)(end - shares) - picks);
    *ret_ask = ask;
    return STATUS_OK;
}

size_t acceptance_encoded_size(const struct publication_view *view)
{
    return acceptance_record_size(view, 0, !ACCEPTANCE_SAME_ORIGIN);
}

void acceptance_encode(uint8_t *to, const struct publication_view *view)
{
    acceptance_record_write(to, view, 0, !ACCEPTANCE_SAME_ORIGIN);
}

enum status acceptance_decode(struct bytes body, struct publication_view *ret_view)
{
    uint64_t ask;
    struct publication_view view;
    enum status status = acceptance_record_read(body, NULL, &view, &ask);
    if (status != STATUS_OK)
        return status;
    if (ask != 0 || view.shares != NULL)
        return STATUS_PROTOCOL; /* only a lane asks, or picks */
    *ret_view = view;
    return STATUS_OK;
}

void acceptance_fragment_write(uint8_t *to, const struct acceptance_fragment *fragment)
{
    put_u64_le(to, fragment->transfer);
    put_u32_le(to + 8, fragment->total);
    put_u32_le(to + 12, fragment->at);
    write_bytes(to + ACCEPTANCE_FRAGMENT_HEADER_SIZE, fragment->bytes);
}

enum status acceptance_fragment_read(struct bytes body, struct acceptance_fragment *ret_fragment)
{
    if (body.size <= ACCEPTANCE_FRAGMENT_HEADER_SIZE)
        return STATUS_PROTOCOL;
    struct acceptance_fragment fragment = {
        .transfer = get_u64_le(body.data),
        .total = get_u32_le(body.data + 8),
        .at = get_u32_le(body.data + 12),
        .bytes = bytes_of(
            body.data + ACCEPTANCE_FRAGMENT_HEADER_SIZE, body.size - ACCEPTANCE_FRAGMENT_HEADER_SIZE),
    };
    if (fragment.at > fragment.total || fragment.bytes.size > fragment.total - fragment.at)
        return STATUS_PROTOCOL;
    *ret_fragment = fragment;
    return STATUS_OK;
}

void acceptance_completion_write(uint8_t *to, enum acceptance_completion_kind kind, uint64_t incarnation)
{
    to[0] = (uint8_t)kind;
    put_u64_le(to + 1, incarnation);
}

void acceptance_range_write(uint8_t *to, struct acceptance_range range)
{
    put_u64_le(to, range.first);
    put_u32_le(to + 8, range.count);
}

enum status acceptance_completion_read(struct bytes body, enum acceptance_completion_kind *ret_kind,
    uint64_t *ret_incarnation, struct bytes *ret_ranges)
{
    if (body.size < ACCEPTANCE_COMPLETION_HEADER_SIZE)
        return STATUS_PROTOCOL;
    uint8_t kind = body.data[0];
    size_t left = body.size - ACCEPTANCE_COMPLETION_HEADER_SIZE;
    if ((kind != ACCEPTANCE_TAKEN && kind != ACCEPTANCE_FORGOTTEN) || left % ACCEPTANCE_RANGE_SIZE != 0)
        return STATUS_PROTOCOL;
    *ret_kind = (enum acceptance_completion_kind)kind;
    *ret_incarnation = get_u64_le(body.data + 1);
    *ret_ranges = bytes_of(body.data + ACCEPTANCE_COMPLETION_HEADER_SIZE, left);
    return STATUS_OK;
}

struct acceptance_range acceptance_range_read(const uint8_t *from)
{
    return (struct acceptance_range){get_u64_le(from), get_u32_le(from + 8)};
}
