/*
 * What is larger than a record travels in parts; what the engine writes grows in a writer; which identities a
 * late part has seen. For session_move*.c. Pure but for the lane.
 */
#include "cluster/session_move_private.h"

#include <stdlib.h>

struct move_identity {
    struct publication_origin origin;
    uint64_t sequence;
};

void session_move_write(struct session_move_writer *writer, struct bytes bytes)
{
    if (writer->failed || bytes.size == 0)
        return;
    if (writer->size + bytes.size > writer->capacity) {
        size_t capacity = (writer->size + bytes.size) * 2;
        uint8_t *grown = realloc(writer->data, capacity < 256 ? 256 : capacity);
        if (grown == NULL) {
            writer->failed = true;
            return;
        }
        writer->data = grown;
        writer->capacity = capacity < 256 ? 256 : capacity;
    }
    memcpy(writer->data + writer->size, bytes.data, bytes.size);
    writer->size += bytes.size;
}

void session_move_write_u8(struct session_move_writer *writer, uint8_t value)
{
    session_move_write(writer, bytes_of(&value, 1));
}

void session_move_write_u16(struct session_move_writer *writer, uint16_t value)
{
    uint8_t encoded[2];
    put_u16_le(encoded, value);
    session_move_write(writer, bytes_of(encoded, sizeof encoded));
}

void session_move_write_u32(struct session_move_writer *writer, uint32_t value)
{
    uint8_t encoded[4];
    put_u32_le(encoded, value);
    session_move_write(writer, bytes_of(encoded, sizeof encoded));
}

void session_move_write_u64(struct session_move_writer *writer, uint64_t value)
{
    uint8_t encoded[8];
    put_u64_le(encoded, value);
    session_move_write(writer, bytes_of(encoded, sizeof encoded));
}

/* Spreads numbers that no client chooses over a hash table. */
uint64_t moves_mix(uint64_t value, uint64_t salt)
{
    uint64_t mixed = (value ^ salt * UINT64_C(0xff51afd7ed558ccd)) * UINT64_C(0x9e3779b97f4a7c15);
    return mixed ^ mixed >> 32;
}

enum status parts_add(struct move_parts *parts, struct record_reader *reader, size_t max)
{
    uint32_t total = record_read_u32(reader);
    uint32_t position = record_read_u32(reader);
    struct bytes part = reader->rest;
    if (reader->failed || total > max || position > total || part.size > total - position)
        return STATUS_PROTOCOL;
    if (position == 0) {
        parts_done(parts);
        parts->data = malloc(total > 0 ? total : 1);
        if (parts->data == NULL)
            return STATUS_NO_MEMORY;
        parts->total = total;
    }
    if (parts->data == NULL || total != parts->total || position != parts->size)
        return STATUS_PROTOCOL;
    if (part.size > 0)
        memcpy(parts->data + position, part.data, part.size);
    parts->size += (uint32_t)part.size;
    return parts->size == parts->total ? STATUS_OK : STATUS_AGAIN;
}

size_t moves_part_max(const struct session_moves *moves, unsigned peer)
{
    size_t eighth = (size_t)bus_window_of(moves->bus, peer) / 8;
    return eighth < MOVE_PART_MAX ? eighth : MOVE_PART_MAX;
}

void parts_done(struct move_parts *parts)
{
    free(parts->data);
    *parts = (struct move_parts){0};
}

bool parts_put(struct session_moves *moves, unsigned peer, enum move_kind kind, uint64_t id,
    struct bytes whole, uint32_t *sent, size_t *budget)
{
    size_t part_max = moves_part_max(moves, peer);
    do {
        size_t size = whole.size - *sent;
        if (size > part_max)
            size = part_max;
        if (*budget < size ||
            bus_full(moves->bus, move_bit(peer), MOVE_PART_HEAD + size, BUS_ROOM_PUBLICATION) != 0)
            return false;
        uint8_t *to = bus_put(moves->bus, peer, BUS_RECORD_MOVE, MOVE_PART_HEAD + size, BUS_ROOM_PUBLICATION);
        if (to == NULL)
            return false;
        to = moves_begin(moves, peer, to, kind, id);
        to = record_write_u32(to, (uint32_t)whole.size);
        to = record_write_u32(to, *sent);
        record_write_bytes(to, bytes_of(whole.data + *sent, size));
        *sent += (uint32_t)size;
        *budget -= size;
    } while (*sent < whole.size);
    return true;
}

struct move_origin *origin_find(const struct move_origins *origins, unsigned peer, uint64_t incarnation)
{
    for (unsigned i = 0; i < origins->count; i++) {
        struct move_origin *origin = &origins->items[i];
        if (origin->peer == peer && origin->incarnation == incarnation)
            return origin;
    }
    return NULL;
}

struct move_origin *origin_get(struct move_origins *origins, unsigned peer, uint64_t incarnation)
{
    struct move_origin *origin = origin_find(origins, peer, incarnation);
    if (origin != NULL)
        return origin;
    if (origins->count == origins->capacity) {
        unsigned capacity = origins->capacity * 2 + 8;
        struct move_origin *grown = realloc(origins->items, capacity * sizeof *grown);
        if (grown == NULL)
            return NULL;
        origins->items = grown;
        origins->capacity = capacity;
    }
    origin = &origins->items[origins->count++];
    *origin = (struct move_origin){.peer = peer, .incarnation = incarnation};
    return origin;
}

void origins_done(struct move_origins *origins)
{
    free(origins->items);
    *origins = (struct move_origins){0};
}

static uint64_t identity_hash(const struct publication_meta *meta)
{
    return moves_mix(meta->sequence, meta->origin.incarnation + meta->origin.slot);
}

static bool same_identity(const void *value, const void *key)
{
    const struct move_identity *identity = value;
    const struct publication_meta *meta = key;
    return identity->sequence == meta->sequence && identity->origin.incarnation == meta->origin.incarnation &&
           identity->origin.slot == meta->origin.slot && identity->origin.node == meta->origin.node;
}

bool seen_has(const struct hash_table *seen, const struct publication_meta *meta)
{
    return hash_table_find(seen, identity_hash(meta), same_identity, meta) != NULL;
}

/* Beyond its bound or without memory a double may get through: better than a loss. */
bool seen_add(struct hash_table *seen, const struct publication_meta *meta)
{
    if (seen_has(seen, meta))
        return true;
    struct move_identity *identity = NULL;
    if (seen->count < MOVE_SEEN_MAX)
        identity = malloc(sizeof *identity);
    if (identity == NULL)
        return false;
    *identity = (struct move_identity){meta->origin, meta->sequence};
    if (hash_table_insert(seen, identity_hash(meta), identity) != STATUS_OK)
        free(identity);
    return false;
}

static struct move_identity *identity_at(const struct hash_slot *slots, size_t mask, size_t at)
{
    if (slots == NULL || at > mask || slots[at].value == NULL || slots[at].value == hash_table_moved)
        return NULL;
    return slots[at].value;
}

/* By number over both arrays of the table. */
static struct move_identity *seen_at(const struct hash_table *seen, size_t at)
{
    size_t slots = seen->slots != NULL ? seen->mask + 1 : 0;
    if (at < slots)
        return identity_at(seen->slots, seen->mask, at);
    return identity_at(seen->old, seen->old_mask, at - slots);
}

static size_t seen_slots(const struct hash_table *seen)
{
    return (seen->slots != NULL ? seen->mask + 1 : 0) + (seen->old != NULL ? seen->old_mask + 1 : 0);
}

static struct publication_meta identity_meta(const struct move_identity *identity)
{
    return (struct publication_meta){.origin = identity->origin, .sequence = identity->sequence};
}

void seen_move(struct hash_table *to, struct hash_table *from)
{
    if (to->count == 0) {
        seen_done(to);
        *to = *from;
        *from = (struct hash_table){0};
        return;
    }
    size_t slots = seen_slots(from);
    for (size_t at = 0; at < slots; at++) {
        const struct move_identity *identity = seen_at(from, at);
        if (identity == NULL)
            continue;
        struct publication_meta meta = identity_meta(identity);
        (void)seen_add(to, &meta);
    }
    seen_done(from);
}

size_t seen_write(const struct hash_table *seen, size_t *at, uint8_t *to, size_t size)
{
    uint8_t *begin = to;
    size_t slots = seen_slots(seen);
    for (; *at < slots && (size_t)(to - begin) + MOVE_IDENTITY <= size; ++*at) {
        const struct move_identity *identity = seen_at(seen, *at);
        if (identity == NULL)
            continue;
        to = record_write_u64(to, identity->origin.incarnation);
        to = record_write_u16(to, identity->origin.node);
        to = record_write_u16(to, identity->origin.slot);
        to = record_write_u64(to, identity->sequence);
    }
    if (*at == slots)
        *at = 0;
    return (size_t)(to - begin);
}

enum status seen_read(struct hash_table *seen, struct record_reader *reader)
{
    while (reader->rest.size > 0 && !reader->failed) {
        struct publication_meta meta = {.origin.incarnation = record_read_u64(reader)};
        meta.origin.node = record_read_u16(reader);
        meta.origin.slot = record_read_u16(reader);
        meta.sequence = record_read_u64(reader);
        if (!reader->failed)
            (void)seen_add(seen, &meta);
    }
    return reader->failed ? STATUS_PROTOCOL : STATUS_OK;
}

static void free_slots(struct hash_slot *slots, size_t mask)
{
    for (size_t at = 0; slots != NULL && at <= mask; at++) {
        if (slots[at].value != NULL && slots[at].value != hash_table_moved)
            free(slots[at].value);
    }
}

void seen_done(struct hash_table *seen)
{
    free_slots(seen->slots, seen->mask);
    free_slots(seen->old, seen->old_mask);
    hash_table_done(seen);
}
