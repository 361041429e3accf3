/* The promises, checked from outside. */
#include "tests/unit/simulation/oracle.h"

#include "tests/unit/simulation/client.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void oracle_init(struct oracle *oracle)
{
    for (unsigned client = 0; client < ORACLE_CLIENTS; client++)
        oracle_new_session(oracle, client, 0);
    oracle_tell(oracle, &(struct told){.acked_us = ORACLE_NEVER}); /* number 0 is nothing */
}

void oracle_done(struct oracle *oracle)
{
    free(oracle->told);
}

uint32_t oracle_tell(struct oracle *oracle, const struct told *told)
{
    if (oracle->count == oracle->capacity) {
        oracle->capacity = oracle->capacity == 0 ? 1024 : oracle->capacity * 2;
        oracle->told = realloc(oracle->told, oracle->capacity * sizeof *oracle->told);
    }
    oracle->told[oracle->count] = *told;
    return oracle->count++;
}

/* The first failure counts. */
void oracle_fail(struct oracle *oracle, const char *format, ...)
{
    if (oracle->failure[0] != '\0')
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(oracle->failure, sizeof oracle->failure, format, arguments);
    va_end(arguments);
}

void oracle_new_session(struct oracle *oracle, unsigned client, uint64_t now_us)
{
    struct heard *heard = &oracle->heard[client];
    memset(heard, 0, sizeof *heard);
    heard->session_us = now_us;
    for (unsigned topic = 0; topic <= ORACLE_TOPICS; topic++)
        heard->subscribed_us[topic] = ORACLE_NEVER;
    for (uint32_t i = 0; i < oracle->count; i++) {
        oracle->told[i].received[client] = oracle->told[i].fresh[client] = 0;
        oracle->told[i].late[client] = false;
    }
}

void oracle_connack(struct oracle *oracle, unsigned client, uint64_t now_us)
{
    struct heard *heard = &oracle->heard[client];
    if (!heard->forgive_at_connack)
        return;
    heard->forgive_at_connack = false;
    heard->forgiven_us = now_us;
    oracle->forgiven++;
}

static void check_order(struct oracle *oracle, unsigned client, const struct told *told, uint32_t number)
{
    if (told->topic >= ORACLE_TOPICS || told->sends != 1 || told->sent_us < oracle->heard[client].session_us)
        return;
    struct heard *heard = &oracle->heard[client];
    uint32_t *last = &heard->last_sequence[told->client][told->topic][told->qos];
    uint64_t *connection = &heard->last_connection[told->client][told->topic][told->qos];
    if (*connection == told->connection && *last > told->sequence)
        oracle_fail(oracle,
            "order: client %u got publication %" PRIu32 " (%" PRIu32 " of client %u) behind %" PRIu32, client,
            number, told->sequence, told->client, *last);
    *connection = told->connection;
    *last = told->sequence;
}

/*
 * Who got «no session» after a time-out is served before his older part turns up. Most doubles are found out
 * then, not all (session_move.h): they are counted.
 */
static void double_received(struct oracle *oracle, unsigned client, uint32_t number)
{
    const struct told *told = &oracle->told[number];
    if (told->late[client])
        oracle->late_doubles++;
    else
        oracle_fail(oracle, "double: client %u got QoS %u publication %" PRIu32 " of client %u twice", client,
            told->qos, number, told->client);
}

void oracle_received(struct oracle *oracle, unsigned client, const struct packet *packet)
{
    uint32_t number = packet->number;
    if (number == 0 || number >= oracle->count) {
        oracle_fail(oracle, "client %u got a publication that nobody sent: %" PRIu32, client, number);
        return;
    }
    struct told *told = &oracle->told[number];
    oracle->delivered++;
    told->late[client] |= packet->late;
    if (told->received[client] == 0 && !packet->late)
        check_order(oracle, client, told, number);
    if (told->received[client] < 255)
        told->received[client]++;
    if (!packet->flag && told->fresh[client] < 255)
        told->fresh[client]++;
    /* QoS 1: once more with DUP is what the protocol allows. */
    bool will = told->topic >= ORACLE_TOPICS;
    if ((told->qos == 2 && told->received[client] > (will ? told->sends : 1)) ||
        (told->sends == 1 && told->fresh[client] > 1))
        double_received(oracle, client, number);
}

/* At least once: again only if the first that published it died before that was noted. */
void oracle_will_published(struct oracle *oracle, uint32_t number)
{
    struct told *told = &oracle->told[number];
    oracle->wills++;
    if (told->sends++ > 0 && oracle->killed == 0)
        oracle_fail(oracle, "double: will %" PRIu32 " was published twice, though no worker died", number);
}

static bool is_owed(const struct oracle *oracle, const struct told *told, unsigned client)
{
    const struct heard *heard = &oracle->heard[client];
    return told->acked_us != ORACLE_NEVER && told->qos > 0 &&
           heard->subscribed_us[told->topic] < told->sent_us && heard->session_us < told->sent_us;
}

void oracle_check_deliveries(struct oracle *oracle, unsigned clients)
{
    uint64_t missing = 0;
    char first[200] = "";
    for (uint32_t number = 1; number < oracle->count; number++) {
        const struct told *told = &oracle->told[number];
        uint32_t places = 0; /* where one is counted already */
        oracle->acknowledged += told->acked_us != ORACLE_NEVER;
        for (unsigned client = 0; client < clients; client++) {
            if (!is_owed(oracle, told, client) || told->received[client] > 0)
                continue;
            const struct heard *heard = &oracle->heard[client];
            if (heard->forgiven_us >= told->sent_us || heard->forgive_at_connack) {
                oracle->forgiven_lost++;
                continue;
            }
            /* A lane's loss is one publication, however many at its other end were to have it. */
            uint32_t place = told->place[client] > 0 ? 1u << told->place[client] : 0;
            if ((places & place) != 0)
                continue;
            places |= place;
            if (missing++ == 0)
                snprintf(first, sizeof first,
                    "client %u never got QoS %u publication %" PRIu32
                    " of client %u on topic %u, sent at %" PRIu64,
                    client, told->qos, number, told->client, told->topic, told->sent_us);
        }
    }
    if (missing > oracle->lost_counted)
        oracle_fail(oracle, "lost: %" PRIu64 " deliveries, counted %" PRIu64 "; %s", missing,
            oracle->lost_counted, first);
}
