/*
 * Publishing wills: now, after their delay, after their worker. Worker process; never logs.
 *
 *   wills_put → in the table
 *   wills_end, or found in a table → waiting (its delay runs) → asking (is the client back?) → due (published
 * at the end of a turn, when there is room) → published (its entry is cleared at the end of the next turn)
 *
 * The list on which a pending will stands is its state.
 */
#include "cluster/wills.h"

#include "shared/clock.h"
#include "shared/hash_table.h"

#include <stdlib.h>
#include <unistd.h>

struct pending {
    struct list link;
    struct wills *wills;
    struct will_table *table; /* borrowed */
    will_handle handle;
    uint64_t connection;
    uint64_t due_us; /* monotonic */
    bool ask;
    struct claim claim;
    uint8_t *client_id; /* owned, while asking */
};

struct adopted {
    struct list link;
    struct will_table *table; /* owned */
    unsigned slot;
};

struct seen {
    uint64_t publisher;
    uint64_t will;
};

struct wills {
    struct bus *bus;
    struct claims *claims;
    void *context;
    enum status (*publish)(void *context, struct publication_view *view);
    bool (*settled)(void *context);
    struct will_table *table;
    bool own_table; /* made here */
    bool started;
    struct list waiting;
    struct list asking;
    struct list due;
    struct list published;
    struct list adopted;
    uint32_t pending;
    uint64_t next_us; /* no delay ends before this */
    struct block_buffer buffer;
    struct hash_table seen_table;
    struct seen seen[WILLS_SEEN_MAX]; /* a ring: the oldest is forgotten first */
    uint32_t seen_at;
};

static enum status make_table(struct wills *wills);
static void take_all(struct wills *wills, struct will_table *table);
static struct pending *pending_new(
    struct wills *wills, struct will_table *table, will_handle handle, const struct will *will, bool now);
static void pending_free(struct pending *pending);
static void drop_table(struct wills *wills, struct will_table *table);
static void delays_end(struct wills *wills, uint64_t now_us);
static void ask(struct pending *pending, const struct will *will);
static void answered(struct claim *claim);
static bool publish_one(struct wills *wills, struct pending *pending);
static void clear_published(struct wills *wills);
static void close_empty(struct wills *wills);
static uint64_t identity_hash(uint64_t publisher, uint64_t will);
static bool same_seen(const void *value, const void *key);
static void on_turn_ending(void *context);
static void on_tick(void *context);

enum status wills_new(const struct wills_settings *settings, struct wills **ret_wills)
{
    struct wills *wills = calloc(1, sizeof *wills);
    if (wills == NULL)
        return STATUS_NO_MEMORY;
    wills->bus = settings->bus;
    wills->claims = settings->claims;
    wills->context = settings->context;
    wills->publish = settings->publish;
    wills->settled = settings->settled;
    wills->table = settings->table;
    wills->next_us = UINT64_MAX;
    list_init(&wills->waiting);
    list_init(&wills->asking);
    list_init(&wills->due);
    list_init(&wills->published);
    list_init(&wills->adopted);
    enum status status = wills->table == NULL ? make_table(wills) : STATUS_OK;
    if (status != STATUS_OK) {
        free(wills);
        return status;
    }
    bus_watch(
        wills->bus, &(struct bus_watcher){.context = wills, .turn_ending = on_turn_ending, .tick = on_tick});
    *ret_wills = wills;
    return STATUS_OK;
}

void wills_free(struct wills **wills)
{
    struct wills *it = *wills;
    *wills = NULL;
    if (it == NULL)
        return;
    list_for_each(&it->adopted, element, following)
    {
        struct adopted *adopted = list_entry(element, struct adopted, link);
        drop_table(it, adopted->table);
        will_table_close(&adopted->table);
        free(adopted);
    }
    drop_table(it, it->table);
    if (it->own_table)
        will_table_close(&it->table);
    hash_table_done(&it->seen_table);
    free(it->buffer.data);
    free(it);
}

void wills_start(struct wills *wills)
{
    if (!wills->started)
        take_all(wills, wills->table);
    wills->started = true;
}

void wills_adopt(struct wills *wills, struct will_table *table, unsigned slot)
{
    struct adopted *adopted = malloc(sizeof *adopted);
    if (adopted == NULL) {
        will_table_close(&table);
        return;
    }
    adopted->table = table;
    adopted->slot = slot;
    list_append(&wills->adopted, &adopted->link);
    take_all(wills, table);
}

void wills_release_adopted(struct wills *wills, unsigned slot)
{
    list_for_each(&wills->adopted, element, following)
    {
        struct adopted *adopted = list_entry(element, struct adopted, link);
        if (adopted->slot != slot)
            continue;
        drop_table(wills, adopted->table);
        will_table_close(&adopted->table);
        list_remove(&adopted->link);
        free(adopted);
    }
}

enum status wills_put(struct wills *wills, const struct will *will, will_handle *ret_handle)
{
    return will_table_put(wills->table, will, ret_handle);
}

/* What is pending for it finds nothing any more and goes by itself. */
void wills_remove(struct wills *wills, will_handle handle, uint64_t connection)
{
    will_table_remove(wills->table, handle, connection);
}

void wills_end(struct wills *wills, will_handle handle, uint64_t connection, bool now)
{
    struct will will;
    if (will_table_get(wills->table, handle, &wills->buffer, &will) != STATUS_OK ||
        will.connection != connection)
        return;
    if (will.ended_us == 0)
        will.ended_us = clock_real_us();
    will_table_ended(wills->table, handle, will.ended_us);
    /* Without memory the entry stays: the next incarnation publishes it. */
    (void)pending_new(wills, wills->table, handle, &will, now);
}

bool wills_seen(struct wills *wills, const struct publication_meta *meta)
{
    struct seen key = {meta->publisher, meta->will};
    uint64_t hash = identity_hash(key.publisher, key.will);
    if (hash_table_find(&wills->seen_table, hash, same_seen, &key) != NULL)
        return true;
    struct seen *slot = &wills->seen[wills->seen_at++ % WILLS_SEEN_MAX];
    if (slot->will != 0)
        hash_table_remove(&wills->seen_table, identity_hash(slot->publisher, slot->will), slot);
    *slot = key;
    if (hash_table_insert(&wills->seen_table, hash, slot) != STATUS_OK)
        slot->will = 0; /* a double may get through */
    return false;
}

bool wills_known(const struct wills *wills, const struct publication_meta *meta)
{
    struct seen key = {meta->publisher, meta->will};
    return hash_table_find(&wills->seen_table, identity_hash(key.publisher, key.will), same_seen, &key) !=
           NULL;
}

uint64_t wills_next_us(const struct wills *wills)
{
    return wills->next_us;
}

uint32_t wills_pending(const struct wills *wills)
{
    return wills->pending;
}

static enum status make_table(struct wills *wills)
{
    int fd;
    enum status status = will_table_create(WILL_TABLE_DEFAULT, &fd);
    if (status != STATUS_OK)
        return status;
    status = will_table_open(fd, &wills->table);
    close(fd);
    wills->own_table = status == STATUS_OK;
    return status;
}

/* A connection that had not ended as far as the table knows ended with its worker: about now. */
static void take_all(struct wills *wills, struct will_table *table)
{
    for (will_handle at = will_table_next(table, 0); at != 0; at = will_table_next(table, at)) {
        struct will will;
        if (will_table_get(table, at, &wills->buffer, &will) != STATUS_OK)
            continue;
        if (will.ended_us == 0) {
            will.ended_us = clock_real_us();
            will_table_ended(table, at, will.ended_us);
        }
        (void)pending_new(wills, table, at, &will, false);
    }
}

static struct pending *pending_new(
    struct wills *wills, struct will_table *table, will_handle handle, const struct will *will, bool now)
{
    struct pending *pending = calloc(1, sizeof *pending);
    if (pending == NULL)
        return NULL;
    uint64_t real_us = clock_real_us();
    uint64_t end_us = will->ended_us + (uint64_t)will->delay_s * 1000000;
    uint64_t left_us = end_us > real_us && !now ? end_us - real_us : 0;
    pending->wills = wills;
    pending->table = table;
    pending->handle = handle;
    pending->connection = will->connection;
    pending->ask = will->delay_s > 0 && !now;
    pending->due_us = clock_monotonic_us() + left_us;
    list_init(&pending->claim.link);
    list_append(left_us > 0 || pending->ask ? &wills->waiting : &wills->due, &pending->link);
    if (pending->ask && pending->due_us < wills->next_us)
        wills->next_us = pending->due_us;
    wills->pending++;
    return pending;
}

static void pending_free(struct pending *pending)
{
    if (pending->client_id != NULL)
        claims_cancel(pending->wills->claims, &pending->claim);
    list_remove(&pending->link);
    pending->wills->pending--;
    free(pending->client_id);
    free(pending);
}

static void drop_from(struct list *list, const struct will_table *table)
{
    list_for_each(list, element, following)
    {
        struct pending *pending = list_entry(element, struct pending, link);
        if (pending->table == table)
            pending_free(pending);
    }
}

static void drop_table(struct wills *wills, struct will_table *table)
{
    drop_from(&wills->waiting, table);
    drop_from(&wills->asking, table);
    drop_from(&wills->due, table);
    drop_from(&wills->published, table);
}

static void delays_end(struct wills *wills, uint64_t now_us)
{
    if (now_us < wills->next_us)
        return;
    struct list ended;
    list_init(&ended);
    wills->next_us = UINT64_MAX;
    list_for_each(&wills->waiting, element, following)
    {
        struct pending *pending = list_entry(element, struct pending, link);
        if (pending->due_us > now_us) {
            if (pending->due_us < wills->next_us)
                wills->next_us = pending->due_us;
            continue;
        }
        list_remove(&pending->link);
        list_append(&ended, &pending->link);
    }
    while (!list_empty(&ended)) {
        struct pending *pending = list_entry(ended.next, struct pending, link);
        struct will will;
        if (will_table_get(pending->table, pending->handle, &wills->buffer, &will) != STATUS_OK ||
            will.connection != pending->connection)
            pending_free(pending); /* removed meanwhile: the client is back */
        else
            ask(pending, &will);
    }
}

/* A will is not for a client that is back, wherever that is [MQTT-3.1.3-9]. */
static void ask(struct pending *pending, const struct will *will)
{
    struct wills *wills = pending->wills;
    list_remove(&pending->link);
    list_append(&wills->asking, &pending->link);
    pending->client_id = malloc(will->client_id.size > 0 ? will->client_id.size : 1);
    if (wills->claims == NULL || pending->client_id == NULL || will->client_id.size == 0 ||
        will->client_id.size > CLAIMS_CLIENT_ID_MAX) {
        list_remove(&pending->link);
        list_append(&wills->due, &pending->link);
        return;
    }
    memcpy(pending->client_id, will->client_id.data, will->client_id.size);
    pending->claim.client_id = bytes_of(pending->client_id, will->client_id.size);
    pending->claim.answered = answered;
    if (claims_ask(wills->claims, &pending->claim))
        answered(&pending->claim);
}

static void answered(struct claim *claim)
{
    struct pending *pending = list_entry(claim, struct pending, claim);
    struct wills *wills = pending->wills;
    bool back = claim->outcome == CLAIM_GRANTED && claim->previous != BUS_PEERS_MAX &&
                claim->stamp > pending->connection;
    if (back) {
        will_table_remove(pending->table, pending->handle, pending->connection);
        pending_free(pending);
        return;
    }
    list_remove(&pending->link);
    list_append(&wills->due, &pending->link);
}

/* False: no room, again later. */
static bool publish_one(struct wills *wills, struct pending *pending)
{
    struct will will;
    if (will_table_get(pending->table, pending->handle, &wills->buffer, &will) != STATUS_OK ||
        will.connection != pending->connection) {
        pending_free(pending);
        return true;
    }
    struct publication_view view = {
        .meta = {.publisher = will.publisher,
            .will = will.connection,
            .qos = will.qos,
            .retain = will.retain},
        .topic = will.topic,
        .properties = will.properties,
        .payload = will.payload,
    };
    if (will.expiry_s != WILL_NO_EXPIRY)
        view.meta.expires_ms = clock_real_us() / 1000 + (uint64_t)will.expiry_s * 1000;
    if (!wills_known(wills, &view.meta)) {
        struct block_buffer buffer =
            wills->buffer; /* what the view borrows: not to be written to meanwhile */
        wills->buffer = (struct block_buffer){0};
        enum status status = wills->publish(wills->context, &view);
        free(buffer.data);
        if (status == STATUS_AGAIN)
            return false;
        (void)wills_seen(wills, &view.meta);
    }
    list_remove(&pending->link);
    list_append(&wills->published, &pending->link);
    return true;
}

/* Published in an earlier turn: the heads of the windows were published since. */
static void clear_published(struct wills *wills)
{
    if (list_empty(&wills->published) || (wills->settled != NULL && !wills->settled(wills->context)))
        return;
    list_for_each(&wills->published, element, following)
    {
        struct pending *pending = list_entry(element, struct pending, link);
        will_table_remove(pending->table, pending->handle, pending->connection);
        pending_free(pending);
    }
}

static void close_empty(struct wills *wills)
{
    list_for_each(&wills->adopted, element, following)
    {
        struct adopted *adopted = list_entry(element, struct adopted, link);
        if (will_table_count(adopted->table) > 0)
            continue;
        drop_table(wills, adopted->table);
        will_table_close(&adopted->table);
        list_remove(&adopted->link);
        free(adopted);
    }
}

static uint64_t identity_hash(uint64_t publisher, uint64_t will)
{
    uint64_t mixed = (publisher ^ will * UINT64_C(0xff51afd7ed558ccd)) * UINT64_C(0x9e3779b97f4a7c15);
    return mixed ^ mixed >> 32;
}

static bool same_seen(const void *value, const void *key)
{
    const struct seen *a = value, *b = key;
    return a->publisher == b->publisher && a->will == b->will;
}

static void on_turn_ending(void *context)
{
    struct wills *wills = context;
    clear_published(wills);
    if (list_empty(&wills->due) || !wills->started)
        return;
    unsigned budget = WILLS_PER_TURN;
    while (!list_empty(&wills->due) && budget-- > 0) {
        if (!publish_one(wills, list_entry(wills->due.next, struct pending, link)))
            return;
    }
}

static void on_tick(void *context)
{
    struct wills *wills = context;
    delays_end(wills, clock_monotonic_us());
    close_empty(wills);
}
