/* Mosquitto's access files: parsing, the rights of one client, decisions. Pure. */
#include "shared/acl.h"

#include "shared/topic_name.h"
#include "shared/topic_relation.h"

#include <stdio.h>
#include <stdlib.h>

#define PROBLEM_MAX 256
#define FILTER_MAX  65535

struct rule {
    struct bytes filter; /* into acl->text, or behind the rights */
    uint8_t access;      /* bits of enum acl_access; 0: denial */
};

struct rules { /* denials first */
    struct rule *entries;
    size_t count, capacity;
};

struct user {
    struct bytes name;
    unsigned line; /* of its `user` line */
    struct rules rules;
};

struct acl {
    size_t references; /* whoever parsed it, and each client's rights */
    char *text;        /* owned copy */
    struct rules anonymous;
    struct rules patterns;
    struct user *users; /* sorted by name, once parsed */
    size_t count, capacity;
};

struct acl_rights {
    struct acl *acl;         /* shared */
    const struct rules *own; /* NULL: no lines of its own */
    bool ambiguous;          /* its name or identifier has a wildcard: no pattern speaks for it */
    size_t pattern_count;
    struct rule patterns[]; /* filled in; their bytes behind them */
};

/* Parsing
 * ----------------------------------------------------------------------------------------------------- */

struct parsing {
    struct acl *acl;
    text_problem *problem;
    void *context;
    unsigned line;
    bool failed;
};

static void complain(struct parsing *parsing, const char *before, struct bytes found, const char *behind)
{
    char text[PROBLEM_MAX];
    int size = found.size < 80 ? (int)found.size : 80;
    snprintf(text, sizeof text, "%s\"%.*s%s\"%s", before, size, (const char *)found.data,
        found.size > 80 ? "…" : "", behind);
    parsing->failed = true;
    parsing->problem(parsing->context, parsing->line, text);
}

static enum status rules_add(struct rules *rules, struct rule rule)
{
    if (rules->count == rules->capacity) {
        size_t capacity = rules->capacity == 0 ? 4 : rules->capacity * 2;
        struct rule *entries = realloc(rules->entries, capacity * sizeof *entries);
        if (entries == NULL)
            return STATUS_NO_MEMORY;
        rules->entries = entries;
        rules->capacity = capacity;
    }
    rules->entries[rules->count++] = rule;
    return STATUS_OK;
}

/* A `user` line begins an entry; entries of one user are joined at the end. */
static enum status add_user(struct acl *acl, struct bytes name, unsigned line)
{
    if (acl->count == acl->capacity) {
        size_t capacity = acl->capacity == 0 ? 16 : acl->capacity * 2;
        struct user *users = realloc(acl->users, capacity * sizeof *users);
        if (users == NULL)
            return STATUS_NO_MEMORY;
        acl->users = users;
        acl->capacity = capacity;
    }
    acl->users[acl->count++] = (struct user){.name = name, .line = line};
    return STATUS_OK;
}

static bool access_of(struct bytes word, uint8_t *ret_access)
{
    static const struct {
        const char *word;
        uint8_t access;
    } words[] = {
        {"read", ACL_READ}, {"write", ACL_WRITE}, {"readwrite", ACL_READ | ACL_WRITE}, {"deny", ACL_DENY}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (text_is(word, words[i].word)) {
            *ret_access = words[i].access;
            return true;
        }
    }
    return false;
}

/* [ACCESS] FILTER; one word is the filter. */
static enum status parse_rule(struct parsing *parsing, struct rules *rules, struct bytes line)
{
    struct bytes word, filter;
    struct rule rule = {.access = ACL_READ | ACL_WRITE};
    text_split_word(line, &word, &filter);
    if (filter.size == 0) {
        filter = word;
    } else if (!access_of(word, &rule.access)) {
        complain(parsing, "found ", word,
            " before the topic filter; allowed: read, write, readwrite, deny, or none of them");
        return STATUS_OK;
    }
    struct bytes group, shared;
    if (!topic_filter_valid(filter) || topic_filter_shared(filter, &group, &shared)) {
        complain(parsing, "found ", filter,
            "; allowed: a topic filter ('+' and '#' alone in their level, '#' last, no $share)");
        return STATUS_OK;
    }
    rule.filter = filter;
    return rules_add(rules, rule);
}

static enum status parse_line(struct parsing *parsing, struct bytes line)
{
    struct bytes word, rest;
    text_split_word(line, &word, &rest);
    struct acl *acl = parsing->acl;
    if (text_is(word, "topic"))
        return parse_rule(
            parsing, acl->count == 0 ? &acl->anonymous : &acl->users[acl->count - 1].rules, rest);
    if (text_is(word, "pattern"))
        return parse_rule(parsing, &acl->patterns, rest);
    if (!text_is(word, "user")) {
        complain(parsing, "found ", word, "; allowed: topic, pattern or user at the start of a line");
        return STATUS_OK;
    }
    if (rest.size == 0 || !utf8_valid(rest)) {
        complain(parsing, "found ", rest, " behind user; allowed: a user name in UTF-8");
        return STATUS_OK;
    }
    return add_user(acl, rest, parsing->line);
}

/* Denials to the front; the order among equals stays. */
static enum status put_denials_first(struct rules *rules)
{
    if (rules->count < 2)
        return STATUS_OK;
    struct rule *sorted = malloc(rules->count * sizeof *sorted);
    if (sorted == NULL)
        return STATUS_NO_MEMORY;
    size_t to = 0;
    for (int denials = 1; denials >= 0; denials--)
        for (size_t i = 0; i < rules->count; i++)
            if ((rules->entries[i].access == ACL_DENY) == (denials == 1))
                sorted[to++] = rules->entries[i];
    free(rules->entries);
    rules->entries = sorted;
    rules->capacity = rules->count;
    return STATUS_OK;
}

static int compare_names(struct bytes a, struct bytes b)
{
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int compare_users(const void *a_pointer, const void *b_pointer)
{
    const struct user *a = a_pointer, *b = b_pointer;
    int order = compare_names(a->name, b->name);
    return order != 0 ? order : (a->line > b->line) - (a->line < b->line);
}

/* Entries of one user stand beside each other: the rules of the later ones go behind the first one's. */
static enum status join_users(struct acl *acl)
{
    size_t kept = 0;
    for (size_t i = 1; i < acl->count; i++) {
        struct user *first = &acl->users[kept], *other = &acl->users[i];
        if (!bytes_equal(first->name, other->name)) {
            struct user moved = *other;
            *other = (struct user){.name = moved.name};
            acl->users[++kept] = moved;
            continue;
        }
        for (size_t k = 0; k < other->rules.count; k++) {
            enum status status = rules_add(&first->rules, other->rules.entries[k]);
            if (status != STATUS_OK)
                return status;
        }
        free(other->rules.entries);
        other->rules = (struct rules){0};
    }
    if (acl->count > 0)
        acl->count = kept + 1;
    return STATUS_OK;
}

static enum status finish(struct acl *acl)
{
    if (acl->count > 1)
        qsort(acl->users, acl->count, sizeof *acl->users, compare_users);
    enum status status = join_users(acl);
    if (status == STATUS_OK)
        status = put_denials_first(&acl->anonymous);
    if (status == STATUS_OK)
        status = put_denials_first(&acl->patterns);
    for (size_t i = 0; status == STATUS_OK && i < acl->count; i++)
        status = put_denials_first(&acl->users[i].rules);
    return status;
}

enum status acl_parse(struct bytes text, text_problem *problem, void *context, struct acl **ret_acl)
{
    struct acl *acl = calloc(1, sizeof *acl);
    if (acl != NULL) {
        acl->references = 1;
        acl->text = malloc(text.size + 1);
    }
    enum status status = acl == NULL || acl->text == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK) {
        if (text.size > 0)
            memcpy(acl->text, text.data, text.size);
        struct parsing parsing = {.acl = acl, .problem = problem, .context = context};
        struct text_lines lines = {.rest = bytes_of(acl->text, text.size)};
        struct bytes line;
        while (status == STATUS_OK && text_lines_next(&lines, &line)) {
            parsing.line = lines.number;
            status = parse_line(&parsing, line);
        }
        if (status == STATUS_OK)
            status = parsing.failed ? STATUS_INVALID : finish(acl);
    }
    if (status != STATUS_OK) {
        acl_free(&acl);
        return status;
    }
    *ret_acl = acl;
    return STATUS_OK;
}

void acl_free(struct acl **acl_pointer)
{
    struct acl *acl = *acl_pointer;
    *acl_pointer = NULL;
    if (acl == NULL || --acl->references > 0)
        return;
    for (size_t i = 0; i < acl->count; i++)
        free(acl->users[i].rules.entries);
    free(acl->users);
    free(acl->anonymous.entries);
    free(acl->patterns.entries);
    free(acl->text);
    free(acl);
}

bool acl_has_users(const struct acl *acl)
{
    return acl->count > 0;
}

/* The rights of one client
 * ------------------------------------------------------------------------------------ */

static const struct rules *find_user(const struct acl *acl, struct bytes name)
{
    size_t low = 0, high = acl->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_names(name, acl->users[middle].name);
        if (order == 0)
            return &acl->users[middle].rules;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static bool has_wildcard(struct bytes text)
{
    return text.size > 0 &&
           (memchr(text.data, '+', text.size) != NULL || memchr(text.data, '#', text.size) != NULL);
}

/* The size of a pattern with name and identifier in it; 0: it needs a name and there is none, or it is longer
   than any topic. Written to `to` unless that is NULL. */
static size_t fill_in(struct bytes pattern, struct bytes user, struct bytes client_id, uint8_t *to)
{
    size_t size = 0;
    for (size_t i = 0; i < pattern.size; i++) {
        struct bytes piece = bytes_of(pattern.data + i, 1);
        bool placeholder = pattern.data[i] == '%' && i + 1 < pattern.size &&
                           (pattern.data[i + 1] == 'c' || pattern.data[i + 1] == 'u');
        if (placeholder) {
            piece = pattern.data[++i] == 'c' ? client_id : user;
            if (piece.data == NULL)
                return 0;
        }
        if (size + piece.size > FILTER_MAX)
            return 0;
        if (to != NULL && piece.size > 0)
            memcpy(to + size, piece.data, piece.size);
        size += piece.size;
    }
    return size;
}

struct acl_rights *acl_rights_new(struct acl *acl, struct bytes user, struct bytes client_id)
{
    size_t bytes = 0;
    for (size_t i = 0; i < acl->patterns.count; i++)
        bytes += fill_in(acl->patterns.entries[i].filter, user, client_id, NULL);
    struct acl_rights *rights =
        calloc(1, sizeof *rights + acl->patterns.count * sizeof rights->patterns[0] + bytes);
    if (rights == NULL)
        return NULL;
    rights->acl = acl;
    acl->references++;
    rights->own = user.data == NULL ? &acl->anonymous : find_user(acl, user);
    rights->ambiguous = has_wildcard(user) || has_wildcard(client_id);
    uint8_t *to = (uint8_t *)(rights->patterns + acl->patterns.count);
    for (size_t i = 0; i < acl->patterns.count && !rights->ambiguous; i++) {
        const struct rule *pattern = &acl->patterns.entries[i];
        size_t size = fill_in(pattern->filter, user, client_id, NULL);
        if (size == 0)
            continue; /* and no room was made for what it might begin with */
        fill_in(pattern->filter, user, client_id, to);
        rights->patterns[rights->pattern_count++] =
            (struct rule){.filter = bytes_of(to, size), .access = pattern->access};
        to += size;
    }
    return rights;
}

void acl_rights_free(struct acl_rights **rights)
{
    if (*rights != NULL)
        acl_free(&(*rights)->acl);
    free(*rights);
    *rights = NULL;
}

/* Decisions
 * --------------------------------------------------------------------------------------------------- */

enum verdict { SILENT, DENIED, ALLOWED };

static enum verdict ask(const struct rule *rules, size_t count, enum acl_access access, struct bytes topic)
{
    for (size_t i = 0; i < count; i++) {
        if (rules[i].access != ACL_DENY && !(rules[i].access & (uint8_t)access))
            continue;
        if (topic_filter_matches(rules[i].filter, topic))
            return rules[i].access == ACL_DENY ? DENIED : ALLOWED;
    }
    return SILENT;
}

bool acl_allows(const struct acl_rights *rights, enum acl_access access, struct bytes topic)
{
    enum verdict verdict = SILENT;
    if (rights->own != NULL)
        verdict = ask(rights->own->entries, rights->own->count, access, topic);
    if (verdict == SILENT)
        verdict = ask(rights->patterns, rights->pattern_count, access, topic);
    return verdict == ALLOWED;
}

/* What a list of rules says of a filter as a whole, after what the list before it said. */
struct extent {
    bool denied_some; /* a denial meets it */
    bool allowed_some;
    enum acl_extent extent;
    bool decided;
};

static void measure(const struct rule *rules, size_t count, struct bytes filter, struct extent *extent)
{
    for (size_t i = 0; i < count && !extent->decided; i++) {
        if (rules[i].access == ACL_WRITE || !topic_filter_overlaps(rules[i].filter, filter))
            continue;
        bool whole = topic_filter_covers(rules[i].filter, filter);
        if (rules[i].access == ACL_DENY) {
            extent->denied_some = true;
            extent->decided = whole; /* what is not allowed by now never will be */
        } else {
            extent->allowed_some = true;
            extent->decided = whole;
            if (whole && !extent->denied_some)
                extent->extent = ACL_ALL;
        }
    }
}

enum acl_extent acl_readable(const struct acl_rights *rights, struct bytes filter)
{
    struct extent extent = {.extent = ACL_SOME};
    if (rights->own != NULL)
        measure(rights->own->entries, rights->own->count, filter, &extent);
    measure(rights->patterns, rights->pattern_count, filter, &extent);
    return extent.allowed_some ? extent.extent : ACL_NONE;
}
