/* Encoding and checking of the picks of a publication. No state. */
#include "cluster/share_record.h"

#include "shared/topic_name.h"

uint8_t *share_record_begin(uint8_t *to, uint64_t incarnation)
{
    to = record_write_u32(to, 0);
    return record_write_u64(to, incarnation);
}

void share_record_end(uint8_t *record, size_t size)
{
    put_u32_le(record, (uint32_t)size);
}

uint8_t *share_record_write(uint8_t *to, const struct share_pick *pick)
{
    to = record_write_u8(to, pick->slot);
    to = record_write_u8(to, pick->hops);
    to = record_write_u64(to, pick->incarnation);
    to = record_write_u64(to, pick->number);
    to = record_write_u16(to, (uint16_t)pick->filter.size);
    to = record_write_u16(to, (uint16_t)pick->group.size);
    to = record_write_bytes(to, pick->filter);
    return record_write_bytes(to, pick->group);
}

enum status share_record_read(struct bytes shares, struct share_reader *ret_reader)
{
    struct record_reader reader = record_read(shares);
    bool whole = record_read_u32(&reader) == shares.size;
    uint64_t incarnation = record_read_u64(&reader);
    if (reader.failed || !whole)
        return STATUS_PROTOCOL;
    *ret_reader = (struct share_reader){.picks = reader, .incarnation = incarnation};
    return STATUS_OK;
}

bool share_record_next(struct share_reader *reader, struct share_pick *ret_pick)
{
    struct record_reader *picks = &reader->picks;
    if (picks->failed || picks->rest.size == 0)
        return false;
    struct share_pick pick = {.slot = record_read_u8(picks), .hops = record_read_u8(picks)};
    pick.incarnation = record_read_u64(picks);
    pick.number = record_read_u64(picks);
    uint16_t filter_size = record_read_u16(picks);
    uint16_t group_size = record_read_u16(picks);
    pick.filter = record_read_bytes(picks, filter_size);
    pick.group = record_read_bytes(picks, group_size);
    picks->failed = picks->failed || pick.hops > SHARE_HOPS_MAX || pick.group.size == 0 ||
                    !topic_filter_valid(pick.filter);
    if (picks->failed)
        return false;
    *ret_pick = pick;
    return true;
}
