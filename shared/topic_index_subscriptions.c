/*
 * What hangs below an entry of the topic index: subscriptions, shared groups, peers. Worker process; pure.
 * Each array element knows its position, so that removing one of a million takes no search.
 */
#include "shared/heap_size.h"
#include "shared/topic_index_private.h"

#include <assert.h>
#include <stdlib.h>

static enum status grow(struct topic_index *index, struct subscription ***array, uint32_t *capacity,
    struct subscription **inline_element);
static void shrink(
    struct topic_index *index, struct subscription ***array, uint32_t *capacity, uint32_t count);
static void array_free(struct topic_index *index, struct subscription **array, uint32_t capacity);
static void group_free(struct topic_index *index, struct topic_group *group);
static void group_forget_peer(struct topic_index *index, struct topic_group *group, unsigned peer);
static uint64_t group_hash(const struct topic_index *index, struct topic_group *group);
static size_t group_size(size_t name_size);
static uint64_t peer_bit(unsigned peer);

enum status topic_index_insert(struct topic_index *index, struct topic_filter *filter,
    struct topic_group *group, struct subscription *subscription)
{
    assert(subscription->filter == NULL);
    assert(group == NULL || group->filter == filter);
    struct subscription ***array = group == NULL ? &filter->subscriptions : &group->members;
    uint32_t *count = group == NULL ? &filter->count : &group->count;
    uint32_t *capacity = group == NULL ? &filter->capacity : &group->capacity;
    if (*count == *capacity) {
        struct subscription **inline_element = group == NULL ? &topic_entry_of(filter)->inline_element : NULL;
        enum status status = grow(index, array, capacity, inline_element);
        if (status != STATUS_OK)
            return status;
    }
    subscription->filter = filter;
    subscription->group = group;
    subscription->position = *count;
    (*array)[(*count)++] = subscription;
    return STATUS_OK;
}

void topic_index_remove(struct topic_index *index, struct subscription *subscription)
{
    struct topic_filter *filter = subscription->filter;
    struct topic_group *group = subscription->group;
    assert(filter != NULL);
    struct subscription ***array = group == NULL ? &filter->subscriptions : &group->members;
    uint32_t *count = group == NULL ? &filter->count : &group->count;
    assert(subscription->position < *count && (*array)[subscription->position] == subscription);
    if (group != NULL)
        topic_index_set_connected(subscription, false); /* among the others, who are in no order */
    struct subscription *last = (*array)[--*count];
    (*array)[subscription->position] = last;
    last->position = subscription->position;
    subscription->filter = NULL;
    subscription->group = NULL;
    shrink(index, array, group == NULL ? &filter->capacity : &group->capacity, *count);
    topic_index_release(index, filter);
}

void topic_index_set_connected(struct subscription *member, bool connected)
{
    struct topic_group *group = member->group;
    assert(group != NULL);
    if ((member->position < group->connected) == connected)
        return;
    if (!connected && group->sticky == member)
        group->sticky = NULL;
    /* It changes places with the first of the others, or the last of its own kind. */
    uint32_t border = connected ? group->connected++ : --group->connected;
    struct subscription *other = group->members[border];
    group->members[member->position] = other;
    other->position = member->position;
    group->members[border] = member;
    member->position = border;
}

struct topic_group *topic_index_find_group(const struct topic_filter *filter, struct bytes name)
{
    for (struct topic_group *group = filter->groups; group != NULL; group = group->next) {
        if (bytes_equal(bytes_of_text(group->name), name))
            return group;
    }
    return NULL;
}

void topic_index_hold_group(struct topic_group *group)
{
    group->holds++;
}

void topic_index_unhold_group(struct topic_index *index, struct topic_group *group)
{
    assert(group->holds > 0);
    if (--group->holds == 0)
        topic_index_release(index, group->filter);
}

enum status topic_index_group(
    struct topic_index *index, struct topic_filter *filter, struct bytes name, struct topic_group **ret_group)
{
    assert(name.size >= 1 && name.size <= UINT16_MAX);
    *ret_group = topic_index_find_group(filter, name);
    if (*ret_group != NULL)
        return STATUS_OK;
    struct topic_group *group = calloc(1, group_size(name.size));
    if (group == NULL)
        return STATUS_NO_MEMORY;
    memcpy(group->name, name.data, name.size);
    index->memory += heap_size(group_size(name.size));
    group->filter = filter;
    group->hash = group_hash(index, group);
    group->next = filter->groups;
    filter->groups = group;
    *ret_group = group;
    return STATUS_OK;
}

void topic_index_set_peer(struct topic_index *index, struct topic_filter *filter, unsigned peer, bool durable)
{
    (void)index;
    filter->peers |= peer_bit(peer);
    if (durable)
        filter->durable_peers |= peer_bit(peer);
    else
        filter->durable_peers &= ~peer_bit(peer);
}

void topic_index_clear_peer(struct topic_index *index, struct topic_filter *filter, unsigned peer)
{
    (void)index;
    filter->peers &= ~peer_bit(peer);
    filter->durable_peers &= ~peer_bit(peer);
}

enum status topic_index_set_group_peer(
    struct topic_index *index, struct topic_group *group, unsigned peer, uint32_t members)
{
    uint64_t bit = peer_bit(peer);
    if (members == 0) {
        group_forget_peer(index, group, peer);
        return STATUS_OK;
    }
    size_t size = TOPIC_INDEX_PEERS_MAX * sizeof *group->peer_members;
    if (group->peer_members == NULL) {
        group->peer_members = calloc(1, size);
        if (group->peer_members == NULL)
            return STATUS_NO_MEMORY;
        index->memory += heap_size(size);
    }
    group->peers |= bit;
    group->peer_members[peer] = members;
    return STATUS_OK;
}

void topic_index_set_group_state(struct topic_group *group, unsigned peer, bool away, bool durable)
{
    uint64_t bit = peer_bit(peer);
    assert((group->peers & bit) != 0);
    group->away_peers = away ? group->away_peers | bit : group->away_peers & ~bit;
    group->durable_peers = durable ? group->durable_peers | bit : group->durable_peers & ~bit;
}

void topic_index_release_groups(struct topic_index *index, struct topic_filter *filter)
{
    for (struct topic_group **at = &filter->groups; *at != NULL;) {
        struct topic_group *group = *at;
        if (group->count > 0 || group->peers != 0 || group->owner_data != NULL || group->holds > 0) {
            at = &group->next;
            continue;
        }
        *at = group->next;
        group_free(index, group);
    }
}

void topic_index_free_arrays(struct topic_index *index, struct topic_filter *filter)
{
    while (filter->groups != NULL) {
        struct topic_group *group = filter->groups;
        filter->groups = group->next;
        group_free(index, group);
    }
    if (filter->capacity > 1)
        array_free(index, filter->subscriptions, filter->capacity);
    filter->subscriptions = NULL;
    filter->capacity = 0;
}

void topic_index_forget_peer(struct topic_index *index, struct topic_filter *filter, unsigned peer)
{
    topic_index_clear_peer(index, filter, peer);
    for (struct topic_group *group = filter->groups; group != NULL; group = group->next)
        group_forget_peer(index, group, peer);
}

/* Half as much again: what a filter wastes stays small, and so does the number of copies. */
static enum status grow(struct topic_index *index, struct subscription ***array, uint32_t *capacity,
    struct subscription **inline_element)
{
    bool was_inline = inline_element != NULL && *array == inline_element;
    uint32_t larger = *capacity < 3 ? *capacity + 2 : *capacity + *capacity / 2;
    struct subscription **grown = realloc(was_inline ? NULL : *array, larger * sizeof(struct subscription *));
    if (grown == NULL)
        return STATUS_NO_MEMORY;
    if (was_inline)
        grown[0] = *inline_element;
    index->memory += heap_size(larger * sizeof(struct subscription *));
    if (!was_inline && *capacity > 0)
        index->memory -= heap_size(*capacity * sizeof(struct subscription *));
    *array = grown;
    *capacity = larger;
    return STATUS_OK;
}

/* Gives memory back once three quarters are free; if realloc cannot, the larger array stays. */
static void shrink(
    struct topic_index *index, struct subscription ***array, uint32_t *capacity, uint32_t count)
{
    if (*capacity < 8 || count > *capacity / 4)
        return;
    uint32_t smaller = *capacity / 2;
    struct subscription **shrunk = realloc(*array, smaller * sizeof(struct subscription *));
    if (shrunk == NULL)
        return;
    index->memory -= heap_size(*capacity * sizeof(struct subscription *)) -
                     heap_size(smaller * sizeof(struct subscription *));
    *array = shrunk;
    *capacity = smaller;
}

static void array_free(struct topic_index *index, struct subscription **array, uint32_t capacity)
{
    if (array == NULL)
        return;
    index->memory -= heap_size(capacity * sizeof(struct subscription *));
    free(array);
}

static void group_free(struct topic_index *index, struct topic_group *group)
{
    for (unsigned peer = 0; group->peers != 0; peer++)
        group_forget_peer(index, group, peer);
    array_free(index, group->members, group->capacity);
    index->memory -= heap_size(group_size(strlen(group->name)));
    free(group);
}

static void group_forget_peer(struct topic_index *index, struct topic_group *group, unsigned peer)
{
    group->peers &= ~peer_bit(peer);
    group->away_peers &= ~peer_bit(peer);
    group->durable_peers &= ~peer_bit(peer);
    if (group->peer_members == NULL)
        return;
    group->peer_members[peer] = 0;
    if (group->peers != 0)
        return;
    index->memory -= heap_size(TOPIC_INDEX_PEERS_MAX * sizeof *group->peer_members);
    free(group->peer_members);
    group->peer_members = NULL;
}

static uint64_t group_hash(const struct topic_index *index, struct topic_group *group)
{
    const struct topic_entry *entry = topic_entry_of(group->filter);
    uint64_t of_filter = keyed_hash_of(&index->hash, bytes_of(entry->text, entry->text_size));
    return of_filter * 3 + keyed_hash_of(&index->hash, bytes_of_text(group->name));
}

static size_t group_size(size_t name_size)
{
    return sizeof(struct topic_group) + name_size + 1;
}

static uint64_t peer_bit(unsigned peer)
{
    assert(peer < TOPIC_INDEX_PEERS_MAX);
    return UINT64_C(1) << peer;
}
