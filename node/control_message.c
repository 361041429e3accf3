/*
 * One table says which fields and how many descriptors each control message has; encoder and decoder walk it.
 * Master and children. Must never trust a size that came over the socket.
 */
#include "node/control_message.h"

#include <assert.h>
#include <stddef.h>

#define HEADER_SIZE 4 /* version, type, size of the body (16 bits) */

enum field_kind { FIELD_END, FIELD_U16, FIELD_U32, FIELD_U64, FIELD_KEY };

struct field {
    enum field_kind kind;
    size_t offset;
};

#define U16(name)                                                                                            \
    {                                                                                                        \
        FIELD_U16, offsetof(struct control_message, name)                                                    \
    }
#define U32(name)                                                                                            \
    {                                                                                                        \
        FIELD_U32, offsetof(struct control_message, name)                                                    \
    }
#define U64(name)                                                                                            \
    {                                                                                                        \
        FIELD_U64, offsetof(struct control_message, name)                                                    \
    }
#define KEY(name)                                                                                            \
    {                                                                                                        \
        FIELD_KEY, offsetof(struct control_message, name)                                                    \
    }

static const struct message_shape {
    const char *name;
    unsigned descriptors_min;
    unsigned descriptors_max;
    struct field fields[10];
} shapes[CONTROL_TYPES] = {
    [CONTROL_START] = {"START", START_FD_COUNT, START_FD_COUNT,
        {U16(role), U16(slot), U16(workers), U16(listeners), U16(drop), U32(uid), U32(gid), U64(incarnation),
            KEY(node_key)}},
    [CONTROL_OWN_SLOT] = {"OWN_SLOT", SLOT_FD_FIRST_SOCKET, CONTROL_DESCRIPTORS_MAX, {U16(slot)}},
    [CONTROL_LANE] = {"LANE", LANE_FD_COUNT, LANE_FD_COUNT, {U16(slot)}},
    [CONTROL_BEGIN] = {"BEGIN", 0, 0, {{FIELD_END, 0}}},
    [CONTROL_PEER_STARTED] = {"PEER_STARTED", 0, 0, {U16(slot), U64(incarnation)}},
    [CONTROL_PEER_DIED] = {"PEER_DIED", 0, 0, {U16(slot)}},
    [CONTROL_ADOPT] = {"ADOPT", SLOT_FD_FIRST_SOCKET, CONTROL_DESCRIPTORS_MAX, {U16(slot)}},
    [CONTROL_UNADOPT] = {"UNADOPT", 0, 0, {U16(slot)}},
    [CONTROL_PING] = {"PING", 0, 0, {U64(number)}},
    [CONTROL_STOP] = {"STOP", 0, 0, {{FIELD_END, 0}}},
    [CONTROL_READY] = {"READY", 0, 0, {{FIELD_END, 0}}},
    [CONTROL_PONG] = {"PONG", 0, 0, {U64(number)}},
    [CONTROL_UNADOPTED] = {"UNADOPTED", 0, 0, {U16(slot)}},
};

static size_t field_size(enum field_kind kind)
{
    static const size_t sizes[] = {
        [FIELD_END] = 0, [FIELD_U16] = 2, [FIELD_U32] = 4, [FIELD_U64] = 8, [FIELD_KEY] = 32};
    return sizes[kind];
}

static const struct message_shape *shape_of(unsigned type)
{
    return type < CONTROL_TYPES && shapes[type].name != NULL ? &shapes[type] : NULL;
}

const char *control_type_name(enum control_type type)
{
    const struct message_shape *shape = shape_of((unsigned)type);
    return shape == NULL ? "unknown" : shape->name;
}

static void put_field(const struct control_message *message, const struct field *field, uint8_t *to)
{
    const char *from = (const char *)message + field->offset;
    switch (field->kind) {
    case FIELD_U16:
        put_u16_le(to, *(const uint16_t *)(const void *)from);
        break;
    case FIELD_U32:
        put_u32_le(to, *(const uint32_t *)(const void *)from);
        break;
    case FIELD_U64:
        put_u64_le(to, *(const uint64_t *)(const void *)from);
        break;
    case FIELD_KEY:
        memcpy(to, from, field_size(FIELD_KEY));
        break;
    case FIELD_END:
        break;
    }
}

static void get_field(struct control_message *message, const struct field *field, const uint8_t *from)
{
    char *to = (char *)message + field->offset;
    switch (field->kind) {
    case FIELD_U16:
        *(uint16_t *)(void *)to = get_u16_le(from);
        break;
    case FIELD_U32:
        *(uint32_t *)(void *)to = get_u32_le(from);
        break;
    case FIELD_U64:
        *(uint64_t *)(void *)to = get_u64_le(from);
        break;
    case FIELD_KEY:
        memcpy(to, from, field_size(FIELD_KEY));
        break;
    case FIELD_END:
        break;
    }
}

size_t control_encode(const struct control_message *message, uint8_t to[CONTROL_SIZE_MAX])
{
    const struct message_shape *shape = shape_of((unsigned)message->type);
    assert(shape != NULL);
    assert(message->descriptor_count >= shape->descriptors_min);
    assert(message->descriptor_count <= shape->descriptors_max);
    size_t size = HEADER_SIZE;
    for (const struct field *field = shape->fields; field->kind != FIELD_END; field++) {
        assert(size + field_size(field->kind) <= CONTROL_SIZE_MAX);
        put_field(message, field, to + size);
        size += field_size(field->kind);
    }
    to[0] = CONTROL_VERSION;
    to[1] = (uint8_t)message->type;
    put_u16_le(to + 2, (uint16_t)(size - HEADER_SIZE));
    return size;
}

enum status control_decode(struct bytes bytes, const int *descriptors, unsigned descriptor_count,
    struct control_message *ret_message)
{
    if (bytes.size < HEADER_SIZE || bytes.data[0] != CONTROL_VERSION)
        return STATUS_PROTOCOL;
    const struct message_shape *shape = shape_of(bytes.data[1]);
    if (shape == NULL || get_u16_le(bytes.data + 2) != bytes.size - HEADER_SIZE)
        return STATUS_PROTOCOL;
    if (descriptor_count < shape->descriptors_min || descriptor_count > shape->descriptors_max)
        return STATUS_PROTOCOL;
    struct control_message message = {
        .type = (enum control_type)bytes.data[1], .descriptor_count = descriptor_count};
    size_t at = HEADER_SIZE;
    for (const struct field *field = shape->fields; field->kind != FIELD_END; field++) {
        if (bytes.size - at < field_size(field->kind))
            return STATUS_PROTOCOL;
        get_field(&message, field, bytes.data + at);
        at += field_size(field->kind);
    }
    if (at != bytes.size)
        return STATUS_PROTOCOL;
    if (descriptor_count > 0)
        memcpy(message.descriptors, descriptors, descriptor_count * sizeof *descriptors);
    *ret_message = message;
    return STATUS_OK;
}
