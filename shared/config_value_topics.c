/* Types of configuration values that are about topics. No I/O. */
#include "shared/config_value_list.h"

#include "shared/config.h"
#include "shared/topic_name.h"
#include "shared/topic_rewrite.h"
#include "shared/topic_template.h"

#include <string.h>

#define TOPIC_MAX 65535

/* Mountpoints -----------------------------------------------------------------------------------------------
 */

static bool parse_mountpoint(const struct value *value, void *field)
{
    const char *text = json_string_value(value->json);
    if (text == NULL || strlen(text) != json_string_length(value->json) ||
        (double)strlen(text) > value->row->maximum || !topic_template_is_prefix(bytes_of_text(text)))
        return config_value_refuse(value, NULL);
    *(char **)field = config_copy_text(text);
    return true;
}

static void mountpoint_allowed(const struct config_row *row, char *to, size_t room)
{
    config_value_append(to, room,
        "whole levels of a topic, at most %.0f bytes, such as \"tenant1/\" or \"devices/%%c/\": \"/\" at the "
        "end, no "
        "+ or #, no $ at the start",
        row->maximum);
}

/* Subscriptions ---------------------------------------------------------------------------------------------
 */

static const char *check_subscription(const void *item, const char **ret_key)
{
    const struct config_subscription *it = item;
    struct bytes group, filter;
    *ret_key = "topic";
    if (!topic_template_is_filter(bytes_of_text(it->topic)))
        return "which is no topic filter";
    *ret_key = "no_local";
    if (it->no_local && topic_filter_shared(bytes_of_text(it->topic), &group, &filter))
        return "which shared subscriptions cannot have";
    return NULL;
}

static const struct config_member subscription_members[] = {
    {"topic", CONFIG_MEMBER_TEXT, offsetof(struct config_subscription, topic), true, TOPIC_MAX, NULL},
    {"qos", CONFIG_MEMBER_NUMBER, offsetof(struct config_subscription, qos), false, 2, NULL},
    {"no_local", CONFIG_MEMBER_FLAG, offsetof(struct config_subscription, no_local), false, 0, NULL},
    {"retain_as_published", CONFIG_MEMBER_FLAG, offsetof(struct config_subscription, retain_as_published),
        false, 0, NULL},
    {"retain_handling", CONFIG_MEMBER_NUMBER, offsetof(struct config_subscription, retain_handling), false, 2,
        NULL},
};

static const struct config_list_type subscriptions = {
    .members = subscription_members,
    .member_count = sizeof subscription_members / sizeof *subscription_members,
    .item_size = sizeof(struct config_subscription),
    .items_max = CONFIG_AUTO_SUBSCRIBE_MAX,
    .check = check_subscription,
};

static bool parse_subscriptions(const struct value *value, void *field)
{
    return config_list_parse(value, &subscriptions, field);
}

static json_t *subscriptions_to_json(const struct config_row *row, const void *field)
{
    (void)row;
    return config_list_to_json(&subscriptions, field);
}

static void subscriptions_done(void *field)
{
    config_list_done(&subscriptions, field);
}

static void subscriptions_allowed(const struct config_row *row, char *to, size_t room)
{
    (void)row;
    config_value_append(to, room,
        "a list of at most %d objects with topic (a filter) and, if you want, qos (0 to 2), no_local, "
        "retain_as_published (true or false) and retain_handling (0 to 2)",
        CONFIG_AUTO_SUBSCRIBE_MAX);
}

/* Rewrite rules ---------------------------------------------------------------------------------------------
 */

static const char *check_rule(const void *item, const char **ret_key)
{
    static char error[TOPIC_REWRITE_ERROR_SIZE]; /* until the next call */
    const struct config_rewrite_rule *rule = item;
    *ret_key = "source_topic";
    if (!topic_filter_valid(bytes_of_text(rule->source_topic)) ||
        strncmp(rule->source_topic, "$share/", 7) == 0)
        return "which is no topic filter";
    *ret_key = "dest_topic";
    if (!utf8_valid(bytes_of_text(rule->dest_topic)) || strstr(rule->dest_topic, "%h") != NULL)
        return "which has something else than text, $1 to $9, %c and %u";
    *ret_key = "re";
    return topic_rewrite_check(rule->re, rule->dest_topic, error) == STATUS_OK ? NULL : error;
}

static const struct config_choice action_words[] = {
    {"publish", TOPIC_REWRITE_PUBLISH},
    {"subscribe", TOPIC_REWRITE_SUBSCRIBE},
    {"all", TOPIC_REWRITE_PUBLISH | TOPIC_REWRITE_SUBSCRIBE},
    {NULL, 0},
};

static const struct config_member rule_members[] = {
    {"action", CONFIG_MEMBER_WORD, offsetof(struct config_rewrite_rule, actions), true, 0, action_words},
    {"source_topic", CONFIG_MEMBER_TEXT, offsetof(struct config_rewrite_rule, source_topic), true, TOPIC_MAX,
        NULL},
    {"re", CONFIG_MEMBER_TEXT, offsetof(struct config_rewrite_rule, re), true, 4096, NULL},
    {"dest_topic", CONFIG_MEMBER_TEXT, offsetof(struct config_rewrite_rule, dest_topic), true, TOPIC_MAX,
        NULL},
};

static const struct config_list_type rules = {
    .members = rule_members,
    .member_count = sizeof rule_members / sizeof *rule_members,
    .item_size = sizeof(struct config_rewrite_rule),
    .items_max = CONFIG_REWRITE_MAX,
    .check = check_rule,
};

static bool parse_rules(const struct value *value, void *field)
{
    return config_list_parse(value, &rules, field);
}

static json_t *rules_to_json(const struct config_row *row, const void *field)
{
    (void)row;
    return config_list_to_json(&rules, field);
}

static void rules_done(void *field)
{
    config_list_done(&rules, field);
}

static void rules_allowed(const struct config_row *row, char *to, size_t room)
{
    (void)row;
    config_value_append(to, room,
        "a list of at most %d objects with action (\"publish\", \"subscribe\" or \"all\"), source_topic (a "
        "filter), re "
        "(a regular expression) and dest_topic (a topic with $1 to $9, %%c and %%u)",
        CONFIG_REWRITE_MAX);
}

/* The types -------------------------------------------------------------------------------------------------
 */

const struct type_handlers *config_topic_type_handlers(enum config_type type)
{
    static const struct type_handlers types[CONFIG_TYPES] = {
        [CONFIG_TYPE_MOUNTPOINT] = {parse_mountpoint, config_string_to_json, config_string_done,
            mountpoint_allowed},
        [CONFIG_TYPE_SUBSCRIPTIONS] = {parse_subscriptions, subscriptions_to_json, subscriptions_done,
            subscriptions_allowed},
        [CONFIG_TYPE_REWRITE_RULES] = {parse_rules, rules_to_json, rules_done, rules_allowed},
    };
    return types[type].parse != NULL ? &types[type] : NULL;
}
