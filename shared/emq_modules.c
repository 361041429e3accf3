/* EMQ 2's numbered topic settings as lists of Shoal's configuration. For shoalctl; touches no file. */
#include "shared/emq_modules.h"

#include <stdlib.h>
#include <string.h>

#define ITEMS_MAX 256
#define WORD_MAX  1024

struct modules {
    const struct config_context *context;
    const struct emq_file *file;
    json_t *root;
    emq_fits fits;
    void *fits_context;
};

bool emq_is_module(const char *key)
{
    return emq_key_matches(key, "module.subscription.**") || emq_key_matches(key, "module.rewrite.**");
}

static void warn(const struct modules *modules, const struct emq_directive *directive, const char *text)
{
    config_warn_line(modules->context, directive->line, "%s: %s", directive->key, text);
}

static bool is_on(const struct modules *modules, const char *key)
{
    const struct emq_directive *directive = emq_file_find(modules->file, key);
    return directive != NULL && strcmp(directive->value, "on") == 0;
}

/* N of module.subscription.N.topic and module.rewrite.rule.N, the third or the fourth word. */
static long number_of(const struct emq_directive *directive)
{
    const char *at = strpbrk(directive->key, "0123456789");
    return at == NULL ? 0 : strtol(at, NULL, 10);
}

static int compare(const void *a, const void *b)
{
    long left = number_of(a), right = number_of(b);
    return left < right ? -1 : left > right;
}

/* The directives of a pattern by their numbers; copies that borrow the texts. */
static size_t find(const struct modules *modules, const char *pattern, struct emq_directive found[ITEMS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < modules->file->count && count < ITEMS_MAX; i++)
        if (emq_key_matches(modules->file->directives[i].key, pattern))
            found[count++] = modules->file->directives[i];
    qsort(found, count, sizeof *found, compare);
    return count;
}

/* Takes the item if the list may have it. */
static void take(struct modules *modules, const struct emq_directive *directive, const char *path,
    json_t *item, json_t *list, bool first)
{
    json_t *alone = json_pack("[O]", item);
    if (alone == NULL || !modules->fits(modules->fits_context, path, alone))
        warn(modules, directive, "nothing that Shoal takes, left out");
    else if (first)
        json_array_insert(list, 0, item);
    else
        json_array_append(list, item);
    json_decref(alone);
    json_decref(item);
}

static void put(struct modules *modules, const char *section, const char *key, json_t *list)
{
    if (json_array_size(list) > 0)
        json_object_set(json_object_get(modules->root, section), key, list);
    json_decref(list);
}

static void take_subscriptions(struct modules *modules)
{
    struct emq_directive found[ITEMS_MAX];
    size_t count = find(modules, "module.subscription.*.topic", found);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        char key[64];
        snprintf(key, sizeof key, "module.subscription.%ld.qos", number_of(&found[i]));
        const struct emq_directive *qos = emq_file_find(modules->file, key);
        if (!is_on(modules, "module.subscription")) {
            warn(modules, &found[i], "left out, the file does not say module.subscription = on");
            continue;
        }
        if (found[i].value[0] == '$')
            warn(modules, &found[i], "no client can publish to a topic that begins with $");
        take(modules, &found[i], "auto_subscribe.topics",
            json_pack("{s:s, s:i}", "topic", found[i].value, "qos", qos == NULL ? 0 : atoi(qos->value)), list,
            false);
    }
    put(modules, "auto_subscribe", "topics", list);
}

/* `x/# ^x/y/(.+)$ z/y/$1`, perhaps in quotes, perhaps behind the word `rewrite`. NULL: something else. */
static json_t *rule_of(const char *text)
{
    char copy[WORD_MAX];
    const char *words[5] = {NULL};
    size_t count = 0;
    if (strlen(text) >= sizeof copy)
        return NULL;
    strcpy(copy, text);
    char *rest = NULL;
    for (char *word = strtok_r(copy, " \t\"", &rest); word != NULL && count < 5;
         word = strtok_r(NULL, " \t\"", &rest))
        words[count++] = word;
    size_t from = count == 4 && strcmp(words[0], "rewrite") == 0 ? 1 : 0;
    if (count - from != 3)
        return NULL;
    return json_pack("{s:s, s:s, s:s, s:s}", "action", "all", "source_topic", words[from], "re",
        words[from + 1], "dest_topic", words[from + 2]);
}

/* In EMQ 2 the first rule that matches decides, in EMQX and here the last one: the list is turned round. */
static void take_rules(struct modules *modules)
{
    struct emq_directive found[ITEMS_MAX];
    size_t count = find(modules, "module.rewrite.rule.*", found);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *rule = rule_of(found[i].value);
        if (!is_on(modules, "module.rewrite")) {
            warn(modules, &found[i], "left out, the file does not say module.rewrite = on");
            json_decref(rule);
        } else if (rule == NULL) {
            warn(modules, &found[i], "no rule such as x/# ^x/y/(.+)$ z/y/$1, left out");
        } else {
            take(modules, &found[i], "rewrite.rules", rule, list, true);
        }
    }
    put(modules, "rewrite", "rules", list);
}

void emq_take_modules(const struct config_context *context, const struct emq_file *file, json_t *root,
    emq_fits fits, void *fits_context)
{
    struct modules modules = {context, file, root, fits, fits_context};
    take_subscriptions(&modules);
    take_rules(&modules);
}
