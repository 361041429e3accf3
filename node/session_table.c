/*
 * The worker's sessions by client identifier: linear hashing (Litwin 1980), so that growing splits one bucket
 * per insert and never pauses the loop. Keyed hash: clients cannot choose collisions. Worker process.
 */
#include "node/session.h"
#include "node/worker_context.h"

#include <stdlib.h>

#define FIRST_BUCKETS 64u

enum status session_table_init(struct session_table *table)
{
    memset(table, 0, sizeof *table);
    table->buckets = calloc(FIRST_BUCKETS, sizeof *table->buckets);
    table->capacity = table->level = FIRST_BUCKETS;
    return table->buckets == NULL ? STATUS_NO_MEMORY : STATUS_OK;
}

void session_table_done(struct session_table *table)
{
    free(table->buckets);
    memset(table, 0, sizeof *table);
}

static uint32_t bucket_of(const struct session_table *table, uint64_t hash)
{
    uint32_t bucket = (uint32_t)hash & (table->level - 1);
    return bucket < table->split ? (uint32_t)hash & (table->level * 2 - 1) : bucket;
}

/* Splits one bucket. No memory: chains get longer, nothing else. */
static void split_one(struct session_table *table)
{
    uint32_t fresh = table->level + table->split;
    if (fresh >= table->capacity) {
        struct session **buckets = realloc(table->buckets, table->capacity * 2 * sizeof(struct session *));
        if (buckets == NULL)
            return;
        table->buckets = buckets;
        table->capacity *= 2;
    }
    struct session *session = table->buckets[table->split];
    table->buckets[table->split] = NULL;
    table->buckets[fresh] = NULL;
    while (session != NULL) {
        struct session *next = session->next_in_bucket;
        uint32_t to = (uint32_t)session->hash & (table->level * 2 - 1);
        session->next_in_bucket = table->buckets[to];
        table->buckets[to] = session;
        session = next;
    }
    if (++table->split == table->level) {
        table->level *= 2;
        table->split = 0;
    }
}

void session_table_insert(struct session_table *table, struct session *session)
{
    uint32_t bucket = bucket_of(table, session->hash);
    session->next_in_bucket = table->buckets[bucket];
    table->buckets[bucket] = session;
    if (++table->count > table->level + table->split)
        split_one(table);
}

void session_table_remove(struct session_table *table, struct session *session)
{
    struct session **link = &table->buckets[bucket_of(table, session->hash)];
    while (*link != session)
        link = &(*link)->next_in_bucket;
    *link = session->next_in_bucket;
    table->count--;
}

struct session *session_find(struct worker *worker, struct bytes client_id)
{
    uint64_t hash = keyed_hash_of(&worker->hash, client_id);
    struct session *session = worker->sessions.buckets[bucket_of(&worker->sessions, hash)];
    while (session != NULL && !(session->hash == hash && bytes_equal(session_client_id(session), client_id)))
        session = session->next_in_bucket;
    return session;
}

void session_for_each(
    struct worker *worker, void (*visit)(void *context, struct session *session), void *context)
{
    struct session_table *table = &worker->sessions;
    for (uint32_t i = 0; i < table->level + table->split; i++) {
        for (struct session *session = table->buckets[i], *next; session != NULL; session = next) {
            next = session->next_in_bucket;
            visit(context, session);
        }
    }
}

uint32_t session_for_some(struct worker *worker, uint32_t bucket, uint32_t count,
    void (*visit)(void *context, struct session *session), void *context)
{
    struct session_table *table = &worker->sessions;
    uint32_t end = table->level + table->split;
    for (; count > 0 && bucket < end; count--, bucket++) {
        for (struct session *session = table->buckets[bucket], *next; session != NULL; session = next) {
            next = session->next_in_bucket;
            visit(context, session);
        }
    }
    return bucket < end ? bucket : 0;
}
