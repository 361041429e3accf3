/*
 * Reading an MQTT body field by field: a cursor that never passes the end, and the one place where a fault is
 * made. Private to mqtt_decode*.c and mqtt_properties.c. Pure. Every reader answers false when the body is
 * too short, and then the caller reports a malformed packet.
 */
#ifndef SHARED_MQTT_CURSOR_H
#define SHARED_MQTT_CURSOR_H

#include "shared/mqtt_packet.h"
#include "shared/topic_name.h"

#define LIKELY(condition)   __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

struct mqtt_cursor {
    const uint8_t *at; /* at <= end */
    const uint8_t *end;
};

/* Out of the hot paths' way. */
static __attribute__((cold, noinline, unused)) enum status mqtt_fault_set(
    struct mqtt_fault *ret_fault, enum mqtt_reason reason, const char *text)
{
    *ret_fault = (struct mqtt_fault){reason, text};
    return STATUS_PROTOCOL;
}

static inline struct mqtt_cursor mqtt_cursor_of(struct bytes bytes)
{
    return (struct mqtt_cursor){bytes.data, bytes.size > 0 ? bytes.data + bytes.size : bytes.data};
}

static inline size_t mqtt_cursor_left(const struct mqtt_cursor *cursor)
{
    return (size_t)(cursor->end - cursor->at);
}

static inline struct bytes mqtt_cursor_rest(const struct mqtt_cursor *cursor)
{
    return bytes_of(cursor->at, mqtt_cursor_left(cursor));
}

static inline bool mqtt_read_u8(struct mqtt_cursor *cursor, uint8_t *ret)
{
    if (mqtt_cursor_left(cursor) < 1)
        return false;
    *ret = *cursor->at++;
    return true;
}

static inline bool mqtt_read_u16(struct mqtt_cursor *cursor, uint16_t *ret)
{
    if (mqtt_cursor_left(cursor) < 2)
        return false;
    *ret = get_u16_be(cursor->at);
    cursor->at += 2;
    return true;
}

static inline bool mqtt_read_u32(struct mqtt_cursor *cursor, uint32_t *ret)
{
    if (mqtt_cursor_left(cursor) < 4)
        return false;
    *ret = get_u32_be(cursor->at);
    cursor->at += 4;
    return true;
}

/* Binary data or a string not yet checked: two bytes of length, then that many. ret->data is not NULL. */
static inline bool mqtt_read_binary(struct mqtt_cursor *cursor, struct bytes *ret)
{
    uint16_t size;
    if (!mqtt_read_u16(cursor, &size) || mqtt_cursor_left(cursor) < size)
        return false;
    *ret = bytes_of(cursor->at, size);
    cursor->at += size;
    return true;
}

/* A UTF-8 string. `text_short` and `text_invalid` say what is wrong with which field. */
static inline enum status mqtt_read_string(struct mqtt_cursor *cursor, struct bytes *ret,
    const char *text_short, const char *text_invalid, struct mqtt_fault *ret_fault)
{
    if (!mqtt_read_binary(cursor, ret))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, text_short);
    if (!utf8_valid(*ret))
        return mqtt_fault_set(ret_fault, MQTT_MALFORMED_PACKET, text_invalid);
    return STATUS_OK;
}

#endif
