/*
 * UTF-8, topic name and topic filter rules [MQTT 1.5.4, 4.7, 4.8.2]. Worker process; bench. Pure.
 * Sixteen bytes are judged at once with the compiler's vector types; only text that has a byte outside ASCII,
 * a NUL or (in a topic name) a wildcard is looked at byte by byte.
 */
#include "shared/topic_name.h"

typedef int8_t vector __attribute__((vector_size(16)));
typedef uint64_t halves __attribute__((vector_size(16)));

#define TOPIC_SIZE_MAX 65535
#define SHARE_PREFIX   "$share/"

/* What a text must not contain besides bad UTF-8 and U+0000. */
enum scan_rule { SCAN_TEXT, SCAN_NAME /* '+' and '#' */ };

static inline bool scan(const uint8_t *at, size_t size, enum scan_rule rule);
static bool levels_valid(const uint8_t *at, size_t size);

static bool is_share(struct bytes filter)
{
    size_t size = sizeof SHARE_PREFIX - 1;
    return filter.size >= size && memcmp(filter.data, SHARE_PREFIX, size) == 0;
}

bool utf8_valid(struct bytes text)
{
    return scan(text.data, text.size, SCAN_TEXT);
}

bool topic_name_valid(struct bytes topic)
{
    return topic.size - 1 < TOPIC_SIZE_MAX && scan(topic.data, topic.size, SCAN_NAME);
}

bool topic_filter_valid(struct bytes filter)
{
    if (filter.size - 1 >= TOPIC_SIZE_MAX || !utf8_valid(filter))
        return false;
    struct bytes group, rest = filter;
    if (is_share(filter) && (!topic_filter_shared(filter, &group, &rest) || is_share(rest)))
        return false;
    return levels_valid(rest.data, rest.size);
}

unsigned topic_levels(struct bytes topic)
{
    unsigned levels = 1;
    for (size_t i = 0; i < topic.size; i++)
        levels += topic.data[i] == '/';
    return levels;
}

bool topic_filter_shared(struct bytes filter, struct bytes *ret_group, struct bytes *ret_filter)
{
    if (!is_share(filter))
        return false;
    const uint8_t *name = filter.data + sizeof SHARE_PREFIX - 1;
    const uint8_t *end = filter.data + filter.size;
    const uint8_t *at = name;
    while (at < end && *at != '/' && *at != '+' && *at != '#')
        at++;
    /* A group of at least one character and a filter of at least one [MQTT-4.8.2-1, -2]. */
    if (at == name || end - at < 2 || *at != '/')
        return false;
    *ret_group = bytes_of(name, (size_t)(at - name));
    *ret_filter = bytes_of(at + 1, (size_t)(end - at) - 1);
    return true;
}

/* The level at *at, without its '/'; *at moves behind the '/', or to NULL after the last level. */
static struct bytes next_level(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *start = *at;
    const uint8_t *slash = start < end ? memchr(start, '/', (size_t)(end - start)) : NULL;
    *at = slash ? slash + 1 : NULL;
    return bytes_of(start, (size_t)((slash ? slash : end) - start));
}

static bool is_wildcard(struct bytes level, char wildcard)
{
    return level.size == 1 && level.data[0] == (uint8_t)wildcard;
}

bool topic_filter_matches(struct bytes filter, struct bytes topic)
{
    if (filter.size == 0 || topic.size == 0)
        return false;
    if (topic.data[0] == '$' && (filter.data[0] == '+' || filter.data[0] == '#'))
        return false;
    const uint8_t *filter_at = filter.data, *filter_end = filter.data + filter.size;
    const uint8_t *topic_at = topic.data, *topic_end = topic.data + topic.size;
    while (filter_at != NULL) {
        struct bytes wanted = next_level(&filter_at, filter_end);
        if (is_wildcard(wanted, '#'))
            return true; /* also for the parent level, where the topic has ended [MQTT 4.7.1.2] */
        if (topic_at == NULL)
            return false;
        struct bytes level = next_level(&topic_at, topic_end);
        if (!is_wildcard(wanted, '+') && !bytes_equal(wanted, level))
            return false;
    }
    return topic_at == NULL;
}

/* '+' and '#' stand alone in their level, '#' in the last one [MQTT-4.7.1-1, -2]. */
static bool levels_valid(const uint8_t *at, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (at[i] != '+' && at[i] != '#')
            continue;
        if (i > 0 && at[i - 1] != '/')
            return false;
        if (i + 1 < size && (at[i] == '#' || at[i + 1] != '/'))
            return false;
    }
    return true;
}

static inline uint64_t load_u64(const uint8_t *from)
{
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline uint32_t load_u32(const uint8_t *from)
{
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

/* All sixteen bytes are ASCII, not NUL and (in a name) no wildcard: '#' is '+' without bit 3. */
static inline bool plain(vector bytes, enum scan_rule rule)
{
    vector odd = bytes < 1;
    if (rule == SCAN_NAME)
        odd |= (bytes | 8) == '+';
    halves both = (halves)odd;
    return (both[0] | both[1]) == 0;
}

/* Short texts as one vector: the loads overlap instead of passing the end. */
static inline vector load_short(const uint8_t *at, size_t size)
{
    uint64_t low, high;
    if (size >= 8) {
        low = load_u64(at);
        high = load_u64(at + size - 8);
    } else if (size >= 4) {
        low = high = load_u32(at) | (uint64_t)load_u32(at + size - 4) << 32;
    } else {
        low = high =
            at[0] | (uint64_t)at[size / 2] << 8 | (uint64_t)at[size - 1] << 16 | UINT64_C(0x4141414141000000);
    }
    return (vector)(halves){low, high};
}

/* Bytes of the well-formed character at `at` (a lead byte outside ASCII), 0 if it is none: no overlong form,
   no surrogate, nothing above U+10FFFF [Unicode, table 3-7]. */
static size_t character_size(const uint8_t *at, size_t left)
{
    uint8_t lead = at[0];
    size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (lead < 0xC2 || lead > 0xF4 || left < size)
        return 0;
    uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < size; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    return size;
}

/* Byte by byte from `done` on: judges at least up to `until`, then to that character's end. Returns how far
   it came, or 0 (`until` is greater) when the text is refused. */
static __attribute__((noinline)) size_t scan_slowly(
    const uint8_t *at, size_t size, size_t done, size_t until, enum scan_rule rule)
{
    while (done < until) {
        uint8_t byte = at[done];
        size_t step = byte < 0x80 ? 1 : character_size(at + done, size - done);
        if (step == 0 || byte == 0 || (rule == SCAN_NAME && (byte == '+' || byte == '#')))
            return 0;
        done += step;
    }
    return done;
}

static inline __attribute__((always_inline)) bool scan(const uint8_t *at, size_t size, enum scan_rule rule)
{
    if (size < 16)
        return size == 0 || plain(load_short(at, size), rule) || scan_slowly(at, size, 0, size, rule) > 0;
    size_t done = 0;
    vector bytes;
    while (done + 16 <= size) {
        memcpy(&bytes, at + done, sizeof bytes);
        size_t step = done + 16;
        done = __builtin_expect(plain(bytes, rule), 1) ? step : scan_slowly(at, size, done, step, rule);
        if (done == 0)
            return false;
    }
    if (done == size)
        return true;
    memcpy(&bytes, at + size - 16, sizeof bytes);
    return plain(bytes, rule) || scan_slowly(at, size, done, size, rule) > 0;
}
