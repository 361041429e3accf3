/*
 * One table says which fields and how many descriptors each control message has; encoder and decoder walk it.
 * Master and children. Must never trust a size that came over the socket.
 */
#include "node/control_message.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#define HEADER_SIZE 4 /* version, type, size of the body (16 bits) */

enum field_kind { FIELD_END, FIELD_U16, FIELD_U32, FIELD_U64, FIELD_KEY, FIELD_TICKET_KEY, FIELD_TEXT };

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

_Static_assert(sizeof(((struct control_message *)0)->places) == 32, "is of the kind KEY");
#define PLACES KEY(places)
#define TICKET_KEY(name)                                                                                     \
    {                                                                                                        \
        FIELD_TICKET_KEY, offsetof(struct control_message, name)                                             \
    }
#define TEXT(name)                                                                                           \
    {                                                                                                        \
        FIELD_TEXT, offsetof(struct control_message, name)                                                   \
    }

static const struct message_shape {
    const char *name;
    unsigned descriptors_min;
    unsigned descriptors_max;
    struct field fields[20];
} shapes[CONTROL_TYPES] = {
    [CONTROL_START] = {"START", START_FD_COUNT, START_FD_COUNT,
        {U16(role), U16(slot), U16(workers), U16(listeners), U16(nodes), U64(life), U16(drop), U32(uid),
            U32(gid), U64(incarnation), U64(number), KEY(node_key), KEY(decoy_key), PLACES}},
    [CONTROL_OWN_SLOT] = {"OWN_SLOT", SLOT_FD_FIRST_SOCKET, CONTROL_DESCRIPTORS_MAX, {U16(slot), PLACES}},
    [CONTROL_LANE] = {"LANE", LANE_FD_COUNT, LANE_FD_COUNT, {U16(slot)}},
    [CONTROL_NODE_LANE] = {"NODE_LANE", NODE_LANE_FD_COUNT, NODE_LANE_FD_COUNT, {U16(slot), U16(peer)}},
    [CONTROL_NODE_WINDOW] = {"NODE_WINDOW", NODE_WINDOW_FD_COUNT, NODE_WINDOW_FD_COUNT, {U16(peer)}},
    [CONTROL_BEGIN] = {"BEGIN", 0, 0, {{FIELD_END, 0}}},
    [CONTROL_ROUTE_TABLE] = {"ROUTE_TABLE", 1, 1, {U16(slot)}},
    [CONTROL_PEER_STARTED] = {"PEER_STARTED", 0, 0, {U16(slot), U64(incarnation)}},
    [CONTROL_PEER_DIED] = {"PEER_DIED", 0, 0, {U16(slot)}},
    [CONTROL_ADOPT] = {"ADOPT", SLOT_FD_FIRST_SOCKET, CONTROL_DESCRIPTORS_MAX, {U16(slot), PLACES}},
    [CONTROL_UNADOPT] = {"UNADOPT", 0, 0, {U16(slot)}},
    [CONTROL_PING] = {"PING", 0, 0, {U64(number)}},
    [CONTROL_STOP] = {"STOP", 0, 0, {{FIELD_END, 0}}},
    [CONTROL_GENERATION] = {"GENERATION", GENERATION_FD_COUNT, GENERATION_FD_COUNT, {U64(number), PLACES}},
    [CONTROL_SOCKETS] = {"SOCKETS", SLOT_FD_FIRST_SOCKET, CONTROL_DESCRIPTORS_MAX, {U16(slot), PLACES}},
    [CONTROL_TICKET_KEY] = {"TICKET_KEY", 0, 0, {U64(number), TICKET_KEY(ticket_key)}},
    [CONTROL_READY] = {"READY", 0, 0, {{FIELD_END, 0}}},
    [CONTROL_PONG] = {"PONG", 0, 0, {U64(number)}},
    [CONTROL_UNADOPTED] = {"UNADOPTED", 0, 0, {U16(slot)}},
    [CONTROL_SWITCHED] = {"SWITCHED", 0, 0, {U64(number)}},
    [CONTROL_NODE_STATUS] = {"NODE_STATUS", 0, 0, {U16(peer), TEXT(text)}},
    [CONTROL_REFUSED] = {"REFUSED", 0, 0, {U64(number), TEXT(text)}},
};

/* The least that it takes: a text is its length, then its bytes. */
static size_t field_size(enum field_kind kind)
{
    static const size_t sizes[] = {[FIELD_END] = 0,
        [FIELD_U16] = 2,
        [FIELD_U32] = 4,
        [FIELD_U64] = 8,
        [FIELD_KEY] = 32,
        [FIELD_TICKET_KEY] = TLS_TICKET_KEY_SIZE,
        [FIELD_TEXT] = 2};
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

/* Returns the bytes used. */
static size_t put_field(const struct control_message *message, const struct field *field, uint8_t *to)
{
    const char *from = (const char *)message + field->offset;
    size_t length;
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
    case FIELD_TICKET_KEY:
        memcpy(to, from, field_size(field->kind));
        break;
    case FIELD_TEXT:
        length = strnlen(from, CONTROL_TEXT_MAX - 1);
        put_u16_le(to, (uint16_t)length);
        memcpy(to + 2, from, length);
        return 2 + length;
    case FIELD_END:
        break;
    }
    return field_size(field->kind);
}

/* Takes it off the front; false if it is not all there. */
static bool get_field(struct control_message *message, const struct field *field, struct bytes *rest)
{
    char *to = (char *)message + field->offset;
    const uint8_t *from = rest->data;
    size_t size = field_size(field->kind);
    if (rest->size < size)
        return false;
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
    case FIELD_TICKET_KEY:
        memcpy(to, from, field_size(field->kind));
        break;
    case FIELD_TEXT:
        size += get_u16_le(from);
        if (rest->size < size || size - 2 >= CONTROL_TEXT_MAX || memchr(from + 2, '\0', size - 2) != NULL)
            return false;
        memcpy(to, from + 2, size - 2); /* the rest of the message is zero */
        break;
    case FIELD_END:
        break;
    }
    *rest = bytes_of(from + size, rest->size - size);
    return true;
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
        size += put_field(message, field, to + size);
    }
    assert(size <= CONTROL_SIZE_MAX);
    to[0] = CONTROL_VERSION;
    to[1] = (uint8_t)message->type;
    put_u16_le(to + 2, (uint16_t)(size - HEADER_SIZE));
    return size;
}

bool control_is_news(struct bytes bytes)
{
    unsigned type = bytes.size >= 2 && bytes.data[0] == CONTROL_VERSION ? bytes.data[1] : 0;
    return type == CONTROL_PEER_STARTED || type == CONTROL_PEER_DIED || type == CONTROL_PING ||
           type == CONTROL_TICKET_KEY;
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
    struct bytes rest = bytes_of(bytes.data + HEADER_SIZE, bytes.size - HEADER_SIZE);
    for (const struct field *field = shape->fields; field->kind != FIELD_END; field++) {
        if (!get_field(&message, field, &rest))
            return STATUS_PROTOCOL;
    }
    if (rest.size > 0)
        return STATUS_PROTOCOL;
    if (descriptor_count > 0)
        memcpy(message.descriptors, descriptors, descriptor_count * sizeof *descriptors);
    *ret_message = message;
    return STATUS_OK;
}
