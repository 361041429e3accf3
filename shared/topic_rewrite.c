/* Topics by regular expressions. Worker process; configuration checks. Pure but for memory. */
#include "shared/topic_rewrite.h"

#include "shared/topic_name.h"

#include <stdio.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* Steps of one match: hundreds of times what a sensible expression takes for a sensible topic, and a fraction
 * of a millisecond. Beyond, the topic is refused: left as it is, it would evade the rule. */
#define STEPS_MAX    20000u
#define HEAP_MAX_KIB 1024u
#define GROUPS       10 /* the whole and $1 … $9 */

/* A '$' is the end and nothing else, a '.' also a line end: a topic may have those, and must not evade by it.
 */
#define OPTIONS (PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY | PCRE2_DOTALL)

struct rule {
    unsigned actions;
    struct bytes source;
    struct bytes dest;
    pcre2_code *code; /* owned */
    uint32_t groups;
};

struct topic_rewrite {
    pcre2_match_data *match;      /* owned */
    pcre2_match_context *context; /* owned */
    size_t count;
    uint8_t text[TOPIC_REWRITE_TOPIC_MAX];
    struct rule rules[];
};

static pcre2_code *compile(const char *re, int *ret_error, PCRE2_SIZE *ret_offset)
{
    return pcre2_compile((PCRE2_SPTR)re, PCRE2_ZERO_TERMINATED, OPTIONS, ret_error, ret_offset, NULL);
}

static uint32_t groups_of(const pcre2_code *code)
{
    uint32_t groups = 0;
    (void)pcre2_pattern_info(code, PCRE2_INFO_CAPTURECOUNT, &groups);
    return groups;
}

/* Of "$1" … "$9" at `at`: the number; 0: something else. */
static uint32_t reference(struct bytes dest, size_t at)
{
    if (at + 1 >= dest.size || dest.data[at] != '$')
        return 0;
    uint8_t digit = dest.data[at + 1];
    return digit >= '1' && digit <= '9' ? (uint32_t)(digit - '0') : 0;
}

static enum status check_references(struct bytes dest, uint32_t groups, char error[TOPIC_REWRITE_ERROR_SIZE])
{
    for (size_t i = 0; i < dest.size; i++) {
        if (reference(dest, i) <= groups)
            continue;
        snprintf(error, TOPIC_REWRITE_ERROR_SIZE, "it has %u groups, dest_topic names $%u", (unsigned)groups,
            (unsigned)reference(dest, i));
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

enum status topic_rewrite_check(const char *re, const char *dest, char error[TOPIC_REWRITE_ERROR_SIZE])
{
    int code;
    PCRE2_SIZE offset;
    PCRE2_UCHAR text[TOPIC_REWRITE_ERROR_SIZE - 40];
    pcre2_code *compiled = compile(re, &code, &offset);
    if (compiled != NULL) {
        uint32_t groups = groups_of(compiled);
        pcre2_code_free(compiled);
        return check_references(bytes_of_text(dest), groups, error);
    }
    (void)pcre2_get_error_message(code, text, sizeof text);
    snprintf(error, TOPIC_REWRITE_ERROR_SIZE, "%s (at character %zu)", (const char *)text, (size_t)offset);
    return STATUS_INVALID;
}

static enum status add(struct topic_rewrite *rewrite, const struct topic_rewrite_rule *rule)
{
    int error;
    PCRE2_SIZE offset;
    pcre2_code *code = compile(rule->re, &error, &offset);
    if (code == NULL)
        return STATUS_INVALID;
    rewrite->rules[rewrite->count++] = (struct rule){.actions = rule->actions,
        .source = bytes_of_text(rule->source),
        .dest = bytes_of_text(rule->dest),
        .code = code,
        .groups = groups_of(code)};
    return STATUS_OK;
}

enum status topic_rewrite_new(
    const struct topic_rewrite_rule *rules, size_t count, struct topic_rewrite **ret_rewrite)
{
    struct topic_rewrite *rewrite = calloc(1, sizeof *rewrite + count * sizeof rewrite->rules[0]);
    if (rewrite == NULL)
        return STATUS_NO_MEMORY;
    rewrite->match = pcre2_match_data_create(GROUPS, NULL);
    rewrite->context = pcre2_match_context_create(NULL);
    enum status status = rewrite->match == NULL || rewrite->context == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = add(rewrite, &rules[i]);
    if (status != STATUS_OK) {
        topic_rewrite_free(&rewrite);
        return status;
    }
    pcre2_set_match_limit(rewrite->context, STEPS_MAX);
    pcre2_set_depth_limit(rewrite->context, STEPS_MAX);
    pcre2_set_heap_limit(rewrite->context, HEAP_MAX_KIB);
    *ret_rewrite = rewrite;
    return STATUS_OK;
}

void topic_rewrite_free(struct topic_rewrite **rewrite)
{
    struct topic_rewrite *it = *rewrite;
    *rewrite = NULL;
    if (it == NULL)
        return;
    for (size_t i = 0; i < it->count; i++)
        pcre2_code_free(it->rules[i].code);
    pcre2_match_data_free(it->match);
    pcre2_match_context_free(it->context);
    free(it);
}

/* The last rule of the list that has the action and whose source matches. */
static const struct rule *rule_for(
    const struct topic_rewrite *rewrite, enum topic_rewrite_action action, struct bytes topic)
{
    for (size_t i = rewrite->count; i > 0; i--) {
        const struct rule *rule = &rewrite->rules[i - 1];
        if ((rule->actions & action) != 0 && topic_filter_matches(rule->source, topic))
            return rule;
    }
    return NULL;
}

/* What group `number` caught; nothing if it is not there or took no part. */
static struct bytes caught(
    const struct topic_rewrite *rewrite, const struct rule *rule, struct bytes topic, uint32_t number)
{
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(rewrite->match);
    if (number > rule->groups || ends[2 * number] == PCRE2_UNSET || ends[2 * number + 1] < ends[2 * number])
        return BYTES_NONE;
    return bytes_of(topic.data + ends[2 * number], ends[2 * number + 1] - ends[2 * number]);
}

struct writer {
    uint8_t *text;
    size_t size;
    bool failed;
};

static void write(struct writer *writer, struct bytes piece)
{
    if (piece.size > TOPIC_REWRITE_TOPIC_MAX - writer->size)
        writer->failed = true;
    if (writer->failed || piece.size == 0)
        return;
    memcpy(writer->text + writer->size, piece.data, piece.size);
    writer->size += piece.size;
}

/* Writes a piece of the destination that has no groups. */
static void write_template(struct writer *writer, struct bytes piece, const struct topic_values *values)
{
    size_t size = 0;
    if (writer->failed || topic_template_expand(piece, values, writer->text + writer->size,
                              TOPIC_REWRITE_TOPIC_MAX - writer->size, &size) != TOPIC_TEMPLATE_FINE)
        writer->failed = true;
    else
        writer->size += size;
}

static struct bytes fill_in(struct topic_rewrite *rewrite, const struct rule *rule, struct bytes topic,
    const struct topic_values *values, size_t from)
{
    struct writer writer = {.text = rewrite->text, .size = from};
    size_t begin = 0;
    for (size_t i = 0; i < rule->dest.size; i++) {
        uint32_t number = reference(rule->dest, i);
        if (number == 0)
            continue;
        write_template(&writer, bytes_of(rule->dest.data + begin, i - begin), values);
        write(&writer, caught(rewrite, rule, topic, number));
        begin = ++i + 1;
    }
    write_template(&writer, bytes_of(rule->dest.data + begin, rule->dest.size - begin), values);
    return writer.failed ? BYTES_NONE : bytes_of(rewrite->text + from, writer.size - from);
}

/* Writes the new text behind `from` bytes of rewrite->text. */
static enum topic_rewrite_result apply(struct topic_rewrite *rewrite, enum topic_rewrite_action action,
    const struct topic_values *values, size_t from, struct bytes *topic)
{
    const struct rule *rule = rule_for(rewrite, action, *topic);
    if (rule == NULL)
        return TOPIC_REWRITE_SAME;
    int groups = pcre2_match(
        rule->code, topic->data, topic->size, 0, PCRE2_NO_UTF_CHECK, rewrite->match, rewrite->context);
    if (groups == PCRE2_ERROR_NOMATCH)
        return TOPIC_REWRITE_SAME;
    if (groups < 0)
        return TOPIC_REWRITE_FAILED;
    struct bytes made = fill_in(rewrite, rule, *topic, values, from);
    if (made.size == 0 || (made.data[0] == '$' && topic->data[0] != '$'))
        return TOPIC_REWRITE_FAILED;
    *topic = made;
    return TOPIC_REWRITE_CHANGED;
}

enum topic_rewrite_result topic_rewrite_name(
    struct topic_rewrite *rewrite, const struct topic_values *values, struct bytes *topic)
{
    struct bytes made = *topic;
    enum topic_rewrite_result result = apply(rewrite, TOPIC_REWRITE_PUBLISH, values, 0, &made);
    if (result == TOPIC_REWRITE_CHANGED && !topic_name_valid(made))
        return TOPIC_REWRITE_FAILED;
    *topic = made;
    return result;
}

enum topic_rewrite_result topic_rewrite_filter(
    struct topic_rewrite *rewrite, const struct topic_values *values, struct bytes *filter)
{
    struct bytes group, inner = *filter;
    (void)topic_filter_shared(*filter, &group, &inner);
    size_t head = filter->size - inner.size;
    enum topic_rewrite_result result = apply(rewrite, TOPIC_REWRITE_SUBSCRIBE, values, head, &inner);
    if (result != TOPIC_REWRITE_CHANGED)
        return result;
    memcpy(rewrite->text, filter->data, head);
    struct bytes whole = bytes_of(rewrite->text, head + inner.size);
    if (!topic_filter_valid(whole))
        return TOPIC_REWRITE_FAILED;
    *filter = whole;
    return TOPIC_REWRITE_CHANGED;
}
