/*
 * The books of the load checker. Publications stand in one growing array per publisher, by sequence; each
 * has a small mark per subscriber that it may reach: one destination and the watchers.
 */
#include "tests/load/books.h"

#include <stdio.h>
#include <stdlib.h>

#define PAYLOAD_HEAD     20
#define PAYLOAD_MAGIC    0x53484c44u
#define FIRST_MAX        40
#define WATCHERS_MARKS   (BOOKS_WATCHERS_MAX + 1)
#define DESTINATION_MARK BOOKS_WATCHERS_MAX /* the others: watchers */

struct mark { /* arrivals at one subscriber */
    uint16_t life;
    uint8_t count;
};

struct publication_record {
    uint64_t sent_us, accepted_us; /* accepted 0: not acknowledged */
    uint32_t destination, connection, payload_size;
    uint8_t qos;
    bool refused;
    struct mark marks[WATCHERS_MARKS];
};

struct will_record {
    uint64_t alive_us;
    uint32_t client, connection;
    bool due;
    uint8_t count[BOOKS_WATCHERS_MAX];
};

struct publisher {
    struct publication_record *records;
    uint32_t count, capacity;
};

struct subscriber {
    uint16_t life; /* 0: never yet */
    bool alive;
    uint64_t since_us;
    uint64_t missing, missing_first_us, missing_last_us;
    uint32_t *last; /* highest sequence + 1 by [topic][publisher][QoS - 1]; topic only for watchers */
};

struct books {
    uint32_t clients, watchers;
    struct publisher *publishers;
    struct subscriber *subscribers;
    struct will_record *wills;
    uint32_t will_count, will_capacity;
    uint64_t arrived, repeated;
    uint64_t violations[VIOLATION_KINDS];
    struct violation first[FIRST_MAX];
    uint32_t first_count;
    uint8_t *payload;
    size_t payload_capacity;
    char topic[24];
};

static const char *const kind_texts[VIOLATION_KINDS] = {
    [VIOLATION_MISSING] = "missing",
    [VIOLATION_DOUBLE] = "double",
    [VIOLATION_ORDER] = "order",
    [VIOLATION_CONTENT] = "content",
    [VIOLATION_STRAY] = "stray",
    [VIOLATION_WILL] = "will",
    [VIOLATION_WILL_TWICE] = "will_twice",
    [VIOLATION_WILL_WRONG] = "will_wrong",
    [VIOLATION_REFUSED] = "refused",
    [VIOLATION_SESSION] = "session",
};

const char *violation_text(enum violation_kind kind)
{
    return kind_texts[kind];
}

static void *zeroed(size_t count, size_t size)
{
    void *made = calloc(count, size);
    if (made == NULL)
        abort();
    return made;
}

static void *grown(void *old, size_t count, size_t size)
{
    void *made = reallocarray(old, count, size);
    if (made == NULL)
        abort();
    return made;
}

struct books *books_new(uint32_t clients, uint32_t watchers, size_t large_size)
{
    struct books *books = zeroed(1, sizeof *books);
    books->clients = clients;
    books->watchers = watchers;
    books->publishers = zeroed(clients, sizeof *books->publishers);
    books->subscribers = zeroed(clients, sizeof *books->subscribers);
    for (uint32_t i = 0; i < clients; i++)
        books->subscribers[i].last =
            zeroed((size_t)(i < watchers ? clients : 1) * clients * 2, sizeof(uint32_t));
    books->payload_capacity = (large_size > 4096 ? large_size : 4096) + PAYLOAD_HEAD;
    books->payload = zeroed(1, books->payload_capacity);
    return books;
}

void books_free(struct books *books)
{
    for (uint32_t i = 0; i < books->clients; i++) {
        free(books->publishers[i].records);
        free(books->subscribers[i].last);
    }
    free(books->publishers);
    free(books->subscribers);
    free(books->wills);
    free(books->payload);
    free(books);
}

void books_violation(struct books *books, const struct violation *violation)
{
    books->violations[violation->kind]++;
    if (books->first_count < FIRST_MAX)
        books->first[books->first_count++] = *violation;
}

/* Publications
 * ------------------------------------------------------------------------------------------------- */

uint32_t books_publish(struct books *books, uint32_t publisher, uint32_t connection, uint32_t destination,
    uint8_t qos, size_t payload_size, uint64_t now_us)
{
    struct publisher *own = &books->publishers[publisher];
    if (own->count == own->capacity) {
        own->capacity = own->capacity * 2 + 64;
        own->records = grown(own->records, own->capacity, sizeof *own->records);
    }
    own->records[own->count] = (struct publication_record){.sent_us = now_us,
        .destination = destination,
        .connection = connection,
        .payload_size = (uint32_t)(payload_size < PAYLOAD_HEAD ? PAYLOAD_HEAD : payload_size),
        .qos = qos};
    return own->count++;
}

void books_content(struct books *books, uint32_t publisher, uint32_t sequence, struct bytes *ret_topic,
    struct bytes *ret_payload, uint8_t *ret_qos)
{
    const struct publication_record *record = &books->publishers[publisher].records[sequence];
    snprintf(books->topic, sizeof books->topic, "t/%u", record->destination);
    uint8_t *to = books->payload;
    put_u32_be(to, PAYLOAD_MAGIC);
    put_u32_be(to + 4, publisher);
    put_u32_be(to + 8, sequence);
    put_u32_be(to + 12, record->destination);
    put_u32_be(to + 16, record->payload_size);
    memset(to + PAYLOAD_HEAD, (int)(sequence & 0xff), record->payload_size - PAYLOAD_HEAD);
    *ret_topic = bytes_of_text(books->topic);
    *ret_payload = bytes_of(to, record->payload_size);
    *ret_qos = record->qos;
}

uint64_t books_accepted(struct books *books, uint32_t publisher, uint32_t connection, uint32_t sequence,
    bool good, uint64_t now_us)
{
    struct publication_record *record = &books->publishers[publisher].records[sequence];
    if (good)
        record->accepted_us = now_us;
    else
        record->refused = true;
    return record->connection == connection ? now_us - record->sent_us : 0;
}

/* Subscribers
 * --------------------------------------------------------------------------------------------------- */

void books_life(struct books *books, uint32_t subscriber, uint64_t now_us)
{
    struct subscriber *own = &books->subscribers[subscriber];
    own->life++;
    own->alive = true;
    own->since_us = now_us;
    size_t topics = subscriber < books->watchers ? books->clients : 1;
    memset(own->last, 0, topics * books->clients * 2 * sizeof *own->last);
}

void books_life_ended(struct books *books, uint32_t subscriber)
{
    books->subscribers[subscriber].alive = false;
}

static bool intact(struct bytes payload, uint32_t sequence)
{
    if (get_u32_be(payload.data) != PAYLOAD_MAGIC || get_u32_be(payload.data + 16) != payload.size)
        return false;
    for (size_t i = PAYLOAD_HEAD; i < payload.size; i++)
        if (payload.data[i] != (uint8_t)sequence)
            return false;
    return true;
}

static void complain(struct books *books, enum violation_kind kind, uint32_t subscriber, uint32_t publisher,
    uint32_t sequence, int detail, uint64_t at_us)
{
    struct violation violation = {.kind = kind,
        .subscriber = subscriber,
        .publisher = publisher,
        .sequence = sequence,
        .detail = detail,
        .at_us = at_us};
    books_violation(books, &violation);
}

static struct will_record *will_of(struct books *books, uint32_t client, uint32_t connection)
{
    for (uint32_t i = books->will_count; i-- > 0;)
        if (books->wills[i].client == client && books->wills[i].connection == connection)
            return &books->wills[i];
    if (books->will_count == books->will_capacity) {
        books->will_capacity = books->will_capacity * 2 + 64;
        books->wills = grown(books->wills, books->will_capacity, sizeof *books->wills);
    }
    books->wills[books->will_count] =
        (struct will_record){.client = client, .connection = connection, .alive_us = UINT64_MAX};
    return &books->wills[books->will_count++];
}

void books_will(struct books *books, uint32_t client, uint32_t connection, bool due, uint64_t alive_us)
{
    struct will_record *will = will_of(books, client, connection);
    will->due = due;
    will->alive_us = alive_us;
}

static void will_arrived(struct books *books, uint32_t subscriber, struct bytes payload, uint64_t now_us)
{
    if (payload.size != 8 || subscriber >= books->watchers || get_u32_be(payload.data) >= books->clients) {
        complain(books, VIOLATION_CONTENT, subscriber, 0, 0, 0, now_us);
        return;
    }
    uint32_t client = get_u32_be(payload.data), connection = get_u32_be(payload.data + 4);
    uint8_t *count = &will_of(books, client, connection)->count[subscriber];
    if (++*count > 1)
        complain(books, VIOLATION_WILL_TWICE, subscriber, client, connection, *count, now_us);
}

/* The first time in this life that a publication comes: is it behind what came? */
static void check_order(struct books *books, uint32_t subscriber, uint32_t publisher, uint32_t sequence,
    const struct publication_record *record, uint64_t now_us)
{
    size_t topic = subscriber < books->watchers ? record->destination : 0;
    uint32_t *last =
        &books->subscribers[subscriber].last[(topic * books->clients + publisher) * 2 + (record->qos - 1u)];
    if (sequence + 1 > *last) {
        *last = sequence + 1;
        return;
    }
    const struct publication_record *later = &books->publishers[publisher].records[*last - 1];
    if (later->connection == record->connection)
        complain(books, VIOLATION_ORDER, subscriber, publisher, sequence, (int)(*last - 1), now_us);
}

static struct mark *mark_of(struct books *books, struct publication_record *record, uint32_t subscriber)
{
    if (subscriber < books->watchers)
        return &record->marks[subscriber];
    return record->destination == subscriber ? &record->marks[DESTINATION_MARK] : NULL;
}

void books_arrived(struct books *books, uint32_t subscriber, struct bytes topic, struct bytes payload,
    uint8_t qos, uint64_t now_us)
{
    if (topic.size >= 2 && topic.data[0] == 'w') {
        will_arrived(books, subscriber, payload, now_us);
        return;
    }
    uint32_t publisher = payload.size < PAYLOAD_HEAD ? UINT32_MAX : get_u32_be(payload.data + 4);
    uint32_t sequence = payload.size < PAYLOAD_HEAD ? 0 : get_u32_be(payload.data + 8);
    if (publisher >= books->clients || sequence >= books->publishers[publisher].count ||
        !intact(payload, sequence) || books->publishers[publisher].records[sequence].qos != qos) {
        complain(books, VIOLATION_CONTENT, subscriber, publisher, sequence, qos, now_us);
        return;
    }
    struct publication_record *record = &books->publishers[publisher].records[sequence];
    struct mark *mark = mark_of(books, record, subscriber);
    struct subscriber *own = &books->subscribers[subscriber];
    if (mark == NULL) {
        complain(books, VIOLATION_STRAY, subscriber, publisher, sequence, (int)record->destination, now_us);
        return;
    }
    books->arrived++;
    if (mark->life != own->life)
        *mark = (struct mark){.life = own->life};
    if (mark->count == 0)
        check_order(books, subscriber, publisher, sequence, record, now_us);
    else if (qos == 2)
        complain(books, VIOLATION_DOUBLE, subscriber, publisher, sequence, mark->count, now_us);
    else
        books->repeated++;
    if (mark->count < UINT8_MAX)
        mark->count++;
}

/* The end
 * ----------------------------------------------------------------------------------------------------- */

/* Must this publication have reached that subscriber? */
static bool owed(const struct books *books, const struct publication_record *record, uint32_t subscriber)
{
    const struct subscriber *own = &books->subscribers[subscriber];
    return record->accepted_us != 0 && own->alive && record->sent_us > own->since_us;
}

static bool has(const struct books *books, const struct publication_record *record, uint32_t subscriber)
{
    const struct mark *mark = &record->marks[subscriber < books->watchers ? subscriber : DESTINATION_MARK];
    return mark->life == books->subscribers[subscriber].life && mark->count > 0;
}

static uint64_t missing_of(const struct books *books, const struct publication_record *record)
{
    uint64_t missing = 0;
    for (uint32_t watcher = 0; watcher < books->watchers; watcher++)
        missing += owed(books, record, watcher) && !has(books, record, watcher);
    uint32_t to = record->destination;
    return missing + (to >= books->watchers && owed(books, record, to) && !has(books, record, to));
}

uint64_t books_missing(const struct books *books)
{
    uint64_t missing = 0;
    for (uint32_t i = 0; i < books->clients; i++)
        for (uint32_t at = 0; at < books->publishers[i].count; at++)
            missing += missing_of(books, &books->publishers[i].records[at]);
    return missing;
}

static void close_pair(struct books *books, uint32_t publisher, uint32_t sequence, uint32_t subscriber,
    struct books_figures *figures)
{
    const struct publication_record *record = &books->publishers[publisher].records[sequence];
    if (!owed(books, record, subscriber))
        return;
    figures->expected++;
    if (has(books, record, subscriber))
        return;
    figures->missing++;
    struct subscriber *own = &books->subscribers[subscriber];
    if (own->missing++ == 0 || record->sent_us < own->missing_first_us)
        own->missing_first_us = record->sent_us;
    if (record->sent_us > own->missing_last_us)
        own->missing_last_us = record->sent_us;
    struct violation violation = {.kind = VIOLATION_MISSING,
        .subscriber = subscriber,
        .publisher = publisher,
        .sequence = sequence,
        .detail = record->qos,
        .at_us = record->sent_us,
        .accepted_us = record->accepted_us,
        .size = record->payload_size,
        .destination = record->destination};
    books_violation(books, &violation);
}

static void close_publication(
    struct books *books, uint32_t publisher, uint32_t sequence, struct books_figures *figures)
{
    const struct publication_record *record = &books->publishers[publisher].records[sequence];
    figures->published++;
    figures->accepted += record->accepted_us != 0;
    figures->refused += record->refused;
    figures->unknown += record->accepted_us == 0 && !record->refused;
    for (uint32_t watcher = 0; watcher < books->watchers; watcher++)
        close_pair(books, publisher, sequence, watcher, figures);
    if (record->destination >= books->watchers)
        close_pair(books, publisher, sequence, record->destination, figures);
}

static void close_will(struct books *books, const struct will_record *will, struct books_figures *figures)
{
    for (uint32_t watcher = 0; watcher < books->watchers; watcher++) {
        const struct subscriber *own = &books->subscribers[watcher];
        bool expected = will->due && own->alive && own->since_us < will->alive_us;
        figures->wills_due += expected;
        figures->wills_arrived += will->count[watcher] > 0;
        if (expected && will->count[watcher] == 0)
            complain(books, VIOLATION_WILL, watcher, will->client, will->connection, 0, will->alive_us);
        if (will->alive_us == UINT64_MAX && will->count[watcher] > 0)
            complain(books, VIOLATION_WILL_WRONG, watcher, will->client, will->connection, 0, 0);
    }
}

void books_close(struct books *books, struct books_figures *ret_figures)
{
    struct books_figures figures = {.arrived = books->arrived, .repeated = books->repeated};
    for (uint32_t i = 0; i < books->clients; i++) {
        figures.subscribers_whole += books->subscribers[i].alive && books->subscribers[i].life == 1;
        for (uint32_t at = 0; at < books->publishers[i].count; at++)
            close_publication(books, i, at, &figures);
    }
    for (uint32_t i = 0; i < books->will_count; i++)
        close_will(books, &books->wills[i], &figures);
    *ret_figures = figures;
}

uint64_t books_missing_at(
    const struct books *books, uint32_t subscriber, uint64_t *ret_first_us, uint64_t *ret_last_us)
{
    const struct subscriber *own = &books->subscribers[subscriber];
    *ret_first_us = own->missing_first_us;
    *ret_last_us = own->missing_last_us;
    return own->missing;
}

uint64_t books_violations(const struct books *books, enum violation_kind kind)
{
    return books->violations[kind];
}

uint32_t books_first(const struct books *books, struct violation *to, uint32_t room)
{
    uint32_t count = books->first_count < room ? books->first_count : room;
    memcpy(to, books->first, count * sizeof *to);
    return count;
}
