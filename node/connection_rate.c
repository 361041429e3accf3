/*
 * The rates that a listener allows each of its clients: who sends more is not read until its debt is paid.
 * Nothing is dropped. Worker process.
 */
#include "node/connection_rate.h"
#include "node/worker_context.h"
#include "node/worker_listen.h"

bool connection_rate_wanted(const struct config_listener *listener)
{
    return listener->messages_rate > 0 || listener->bytes_rate > 0;
}

static struct connection_rate *rate_of(struct connection *connection)
{
    return (struct connection_rate *)(void *)(connection + 1);
}

static void on_paid(struct timer_wheel *wheel, struct timer *timer)
{
    (void)wheel;
    struct connection_rate *rate = timer_owner(timer, struct connection_rate, timer);
    connection_release(rate->connection, HOLD_RATE);
}

void connection_rate_open(struct connection *connection)
{
    struct connection_rate *rate = rate_of(connection);
    connection->limited = true;
    rate->connection = connection;
    timer_init(&rate->timer, on_paid);
}

void connection_rate_close(struct connection *connection)
{
    if (connection->limited)
        timer_wheel_cancel(&connection->worker->wheel, &rate_of(connection)->timer);
}

void connection_charge(struct connection *connection, unsigned messages, size_t bytes)
{
    if (!connection->limited || connection->state != CONNECTION_ACTIVE)
        return;
    struct worker *worker = connection->worker;
    const struct config_listener *listener = worker_listener_config(connection->listener);
    struct connection_rate *rate = rate_of(connection);
    uint64_t wait_us = 0;
    if (listener->messages_rate > 0 && messages > 0) {
        token_bucket_take(&rate->messages, listener->messages_rate, worker->now_us, messages);
        wait_us = token_bucket_wait_us(&rate->messages, listener->messages_rate);
    }
    if (listener->bytes_rate > 0 && bytes > 0) {
        token_bucket_take(&rate->bytes, (double)listener->bytes_rate, worker->now_us, (double)bytes);
        uint64_t other_us = token_bucket_wait_us(&rate->bytes, (double)listener->bytes_rate);
        wait_us = other_us > wait_us ? other_us : wait_us;
    }
    if (wait_us == 0)
        return;
    uint64_t until_us = worker->now_us + wait_us;
    if (connection->hold & HOLD_RATE) { /* for the other of the two already */
        if (until_us > rate->until_us)
            timer_wheel_add(&worker->wheel, &rate->timer, rate->until_us = until_us);
        return;
    }
    worker->counters->rate_holds++;
    rate->until_us = until_us;
    timer_wheel_add(&worker->wheel, &rate->timer, until_us);
    connection_hold(connection, HOLD_RATE);
}
