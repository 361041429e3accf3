/* The load checker's summary: one JSON object on stdout. */
#include "tests/load/scenario.h"

#include <jansson.h>
#include <stdio.h>

#define FIRST_SHOWN 40

static json_t *figures_of(const struct scenario *scenario, const struct books_figures *figures)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",                 /**/
        "published", (json_int_t)figures->published, "accepted", (json_int_t)figures->accepted,           /**/
        "refused", (json_int_t)figures->refused, "unknown", (json_int_t)figures->unknown,                 /**/
        "arrived", (json_int_t)figures->arrived, "repeated", (json_int_t)figures->repeated,               /**/
        "expected", (json_int_t)figures->expected, "missing", (json_int_t)figures->missing,               /**/
        "wills_due", (json_int_t)figures->wills_due, "wills_arrived", (json_int_t)figures->wills_arrived, /**/
        "subscribers_whole", (json_int_t)figures->subscribers_whole, "moved", (json_int_t)scenario->moved,
        "clients", (json_int_t)scenario->count);
}

static json_t *first_of(const struct books *books)
{
    struct violation first[FIRST_SHOWN];
    uint32_t count = books_first(books, first, FIRST_SHOWN);
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:i, s:i, s:i, s:i, s:I, s:I, s:i, s:i}", "kind",
                      violation_text(first[i].kind), "subscriber", (int)first[i].subscriber, "publisher",
                      (int)first[i].publisher, "sequence", (int)first[i].sequence, "detail", first[i].detail,
                      "at_us", (json_int_t)first[i].at_us, "accepted_us", (json_int_t)first[i].accepted_us,
                      "size", (int)first[i].size, "destination", (int)first[i].destination));
    return list;
}

static json_t *missing_of(const struct scenario *scenario)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < scenario->count; i++) {
        uint64_t first_us, last_us;
        uint64_t count = books_missing_at(scenario->books, i, &first_us, &last_us);
        if (count > 0)
            json_array_append_new(
                list, json_pack("{s:i, s:I, s:I, s:I}", "client", (int)i, "missing", (json_int_t)count,
                          "first_us", (json_int_t)first_us, "last_us", (json_int_t)last_us));
    }
    return list;
}

static json_t *losses_of(const struct scenario *scenario)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < scenario->loss_count; i++) {
        const struct loss *loss = &scenario->losses[i];
        json_array_append_new(
            list, json_pack("{s:I, s:I, s:i, s:i, s:i, s:i, s:s, s:b, s:b}", "at_us", (json_int_t)loss->at_us,
                      "opened_us", (json_int_t)loss->opened_us, "client", (int)loss->client, "connection",
                      (int)loss->connection, "port", (int)loss->port, "reason", loss->reason, "why",
                      loss->why, "connected", loss->connected, "overtaken", loss->overtaken));
    }
    return list;
}

/* How each client that is connected was served on its connection. */
static json_t *clients_of(const struct scenario *scenario)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < scenario->count; i++) {
        const struct member *member = &scenario->members[i];
        if (member->client->state != CLIENT_READY)
            continue;
        json_array_append_new(
            list, json_pack("{s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:I}", "client", (int)i, "port",
                      (int)member->client->port, "connection", (int)member->client->connection, "opened_us",
                      (json_int_t)member->client->opened_us, "connect_us", (json_int_t)member->connect_us,
                      "suback_us", (json_int_t)member->suback_us, "exchange_us",
                      (json_int_t)member->exchange_us, "exchange_at_us", (json_int_t)member->exchange_at_us));
    }
    return list;
}

bool report(struct scenario *scenario)
{
    struct books_figures figures;
    books_close(scenario->books, &figures);
    json_t *kinds = json_object();
    uint64_t all = 0;
    for (enum violation_kind kind = 0; kind < VIOLATION_KINDS; kind++) {
        uint64_t count = books_violations(scenario->books, kind);
        all += count;
        if (count > 0)
            json_object_set_new(kinds, violation_text(kind), json_integer((json_int_t)count));
    }
    uint32_t unserved = 0;
    for (uint32_t i = 0; i < scenario->count; i++)
        unserved += scenario->members[i].client->state != CLIENT_READY;
    json_t *all_of_it = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:{s:I, s:I, s:I}}", "event",
        "summary", "figures", figures_of(scenario, &figures), "violations", kinds, "first",
        first_of(scenario->books), "missing", missing_of(scenario), "losses", losses_of(scenario), "clients",
        clients_of(scenario), "unserved", (int)unserved, "longest", "connect_us",
        (json_int_t)scenario->connect_us, "suback_us", (json_int_t)scenario->suback_us, "exchange_us",
        (json_int_t)scenario->exchange_us);
    json_dumpf(all_of_it, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
    printf("\n");
    fflush(stdout);
    json_decref(all_of_it);
    return all == 0 && unserved == 0;
}
