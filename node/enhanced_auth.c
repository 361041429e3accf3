/*
 * The exchange of AUTH packets, and what its outcome means before and after CONNACK. A client stays who it
 * is: authenticating again as another user fails, since its session, its will and its subscriptions are those
 * of the user who connected. Worker process.
 */
#include "node/enhanced_auth.h"
#include "node/worker_context.h"
#include "node/worker_listen.h"

#include "shared/log.h"
#include "shared/mqtt_encode.h"
#include "shared/mqtt_properties.h"
#include "shared/scram.h"

#include <assert.h>
#include <stdlib.h>

struct auth_exchange {
    struct connection *connection; /* owner */
    struct scram_exchange *scram;  /* owned */
    struct bytes final;            /* into scram: what proves to the client that it is us */
    bool answered;                 /* its first message was one */
    struct timer timer;            /* after CONNACK; before, the connection's own timer covers it */
};

/* Methods
 * ------------------------------------------------------------------------------------------------------ */

static const struct {
    const char *text;
    uint32_t configured;
} methods[] = {
    [AUTH_METHOD_NONE] = {"", 0},
    [AUTH_METHOD_SCRAM_SHA_256] = {"SCRAM-SHA-256", CONFIG_AUTH_SCRAM_SHA_256},
    [AUTH_METHOD_SCRAM_SHA_256_PLUS] = {"SCRAM-SHA-256-PLUS", CONFIG_AUTH_SCRAM_SHA_256_PLUS},
};

const char *enhanced_auth_method_text(uint8_t method)
{
    return methods[method].text;
}

/* What this connection has of the channel binding; NULL: SCRAM-SHA-256-PLUS is not to be had on it. */
static const uint8_t *find_binding(const struct connection *connection, uint8_t room[SCRAM_BINDING_SIZE])
{
    _Static_assert(TRANSPORT_BINDING_SIZE == SCRAM_BINDING_SIZE, "one is the other");
    uint32_t allowed =
        config_listener_methods(connection->worker->config, worker_listener_config(connection->listener));
    bool bindable =
        (allowed & CONFIG_AUTH_SCRAM_SHA_256_PLUS) && transport_binding(&connection->transport, room);
    return bindable ? room : NULL;
}

/* AUTH_METHOD_NONE with a reason when the method cannot be used here. */
static enum auth_method choose_method(
    const struct connection *connection, struct bytes name, bool bindable, const char **ret_wrong)
{
    const struct worker *worker = connection->worker;
    uint32_t allowed = config_listener_methods(worker->config, worker_listener_config(connection->listener));
    enum auth_method method = AUTH_METHOD_NONE;
    for (size_t i = 1; i < sizeof methods / sizeof *methods; i++)
        if (bytes_equal(name, bytes_of_text(methods[i].text)))
            method = (enum auth_method)i;
    if (method == AUTH_METHOD_NONE)
        *ret_wrong = "its Authentication Method is unknown";
    else if (worker->access.passwords == NULL || password_file_scram_count(worker->access.passwords) == 0)
        *ret_wrong = "its Authentication Method has no users: no line of auth.password_file serves it";
    else if (method == AUTH_METHOD_SCRAM_SHA_256_PLUS && !bindable)
        *ret_wrong = "its Authentication Method takes TLS 1.3 and a place in auth.methods";
    else if (!(allowed & methods[method].configured))
        *ret_wrong = "its Authentication Method is not one of auth.methods";
    else
        return method;
    return AUTH_METHOD_NONE;
}

/* One exchange
 * ------------------------------------------------------------------------------------------------- */

static bool find_user(void *context, struct bytes user, struct password_hash *ret_hash)
{
    const struct worker *worker = context;
    if (worker->access.passwords == NULL) { /* a reload has taken it away */
        *ret_hash = (struct password_hash){
            .kind = PASSWORD_SCRAM_SHA_256, .iterations = PASSWORD_SCRAM_ITERATIONS_MIN, .salt_size = 16};
        return false;
    }
    return password_file_scram(worker->access.passwords, worker->child->decoy_key, user, ret_hash);
}

static void on_timeout(struct timer_wheel *wheel, struct timer *timer)
{
    (void)wheel;
    struct auth_exchange *exchange = list_entry(timer, struct auth_exchange, timer);
    struct connection *connection = exchange->connection;
    connection->worker->counters->reauthentications_denied++;
    connection_close(connection, MQTT_NOT_AUTHORIZED, "it began to authenticate again and did not go on");
}

static enum status exchange_new(struct connection *connection, const uint8_t *binding)
{
    struct worker *worker = connection->worker;
    struct auth_exchange *exchange = calloc(1, sizeof *exchange);
    const struct scram_settings settings = {
        .plus = connection->auth_method == AUTH_METHOD_SCRAM_SHA_256_PLUS,
        .binding = binding,
        .find = find_user,
        .context = worker,
    };
    if (exchange == NULL || scram_start(worker->scram, &settings, &exchange->scram) != STATUS_OK) {
        free(exchange);
        return STATUS_NO_MEMORY;
    }
    exchange->connection = connection;
    timer_init(&exchange->timer, on_timeout);
    connection->exchange = exchange;
    return STATUS_OK;
}

void enhanced_auth_end(struct connection *connection)
{
    struct auth_exchange *exchange = connection->exchange;
    connection->exchange = NULL;
    if (exchange == NULL)
        return;
    timer_wheel_cancel(&connection->worker->wheel, &exchange->timer);
    scram_end(&exchange->scram);
    free(exchange);
}

/* Outcomes
 * ----------------------------------------------------------------------------------------------------- */

static bool is_connecting(const struct connection *connection)
{
    return connection->state == CONNECTION_AUTHENTICATING;
}

/* CONNACK or DISCONNECT with the reason; the exchange goes with the connection. */
static void end(struct connection *connection, enum mqtt_reason reason, const char *text)
{
    if (is_connecting(connection))
        connect_refuse(connection, reason, text);
    else
        connection_close(connection, reason, text);
}

static void deny(struct connection *connection, const char *text) /* [MQTT-4.12.0-4, 4.12.1-2] */
{
    struct counters *counters = connection->worker->counters;
    if (is_connecting(connection))
        counters->connects_denied++;
    else
        counters->reauthentications_denied++;
    end(connection, MQTT_NOT_AUTHORIZED, text);
}

static void set_properties(
    const struct connection *connection, struct bytes data, struct mqtt_properties *properties)
{
    properties->present |= PROPERTY_BIT(PROPERTY_AUTHENTICATION_METHOD); /* [MQTT-4.12.0-5] */
    properties->authentication_method = bytes_of_text(methods[connection->auth_method].text);
    if (data.size == 0)
        return;
    properties->present |= PROPERTY_BIT(PROPERTY_AUTHENTICATION_DATA);
    properties->authentication_data = data;
}

/* False: the connection has ended. */
static bool send_auth(struct connection *connection, enum mqtt_reason reason, struct bytes data)
{
    struct mqtt_properties properties;
    mqtt_properties_init(&properties);
    set_properties(connection, data, &properties);
    size_t room = 16 + mqtt_properties_size(&properties);
    uint8_t *to = connection_reserve(connection, room);
    if (to == NULL) {
        end(connection, MQTT_SERVER_BUSY, "out of memory");
        return false;
    }
    size_t size = mqtt_encode_disconnect(to, MQTT_AUTH, reason, &properties);
    if (size > connection->maximum_packet_size) {
        connection_unreserve(connection, room);
        end(connection, MQTT_PACKET_TOO_LARGE, "AUTH is larger than its Maximum Packet Size");
        return false;
    }
    connection_unreserve(connection, room - size);
    connection->worker->counters->packets_sent++;
    return true;
}

/* Where the certificate is the user name, both proofs must name the same. */
static bool agrees_with_certificate(const struct connection *connection, struct bytes user)
{
    const struct connection_identity *identity = connection->identity;
    return identity == NULL || identity->user_name == NULL ||
           bytes_equal(user, bytes_of_text(identity->user_name));
}

static bool connect_authenticated(struct connection *connection)
{
    struct connecting *connecting = connection->connecting;
    struct bytes user = scram_user(connection->exchange->scram);
    if (!agrees_with_certificate(connection, user)) {
        deny(connection, "it authenticated as another user than its certificate names");
        return false;
    }
    connecting->user = user;
    connecting->by_password = true;
    connection_hold(connection, HOLD_CLAIM);
    connect_admit(connecting);
    return connection->state < CONNECTION_DRAINING;
}

static bool authenticated_again(struct connection *connection)
{
    const struct session *session = connection->session;
    struct bytes user = scram_user(connection->exchange->scram);
    if (!bytes_equal(user, bytes_of(session->user, session->user_size))) {
        deny(connection, "it authenticated again as another user than it connected as");
        return false;
    }
    if (!send_auth(connection, MQTT_SUCCESS, connection->exchange->final))
        return false;
    connection->worker->counters->reauthentications++;
    log_info("%s: client %.*s authenticated again (%s)", connection_peer(connection),
        (int)session->client_id_size, session->client_id, methods[connection->auth_method].text);
    enhanced_auth_end(connection);
    return true;
}

/* One message of the client. False: the connection has ended. */
static bool step(struct connection *connection, struct bytes data)
{
    struct auth_exchange *exchange = connection->exchange;
    struct bytes answer;
    switch (scram_step(exchange->scram, data, &answer)) {
    case STATUS_AGAIN:
        exchange->answered = exchange->answered || data.size > 0;
        return send_auth(connection, MQTT_CONTINUE_AUTHENTICATION, answer); /* [MQTT-4.12.0-2] */
    case STATUS_OK:
        exchange->final = answer;
        return is_connecting(connection) ? connect_authenticated(connection)
                                         : authenticated_again(connection);
    case STATUS_NO_MEMORY:
        end(connection, MQTT_SERVER_BUSY, "out of memory");
        return false;
    case STATUS_PROTOCOL:
        deny(connection, "what it says is not SCRAM");
        return false;
    default:
        deny(connection, exchange->answered
                             ? "wrong user name or password"
                             : "its channel binding, or its user name, is none that it may have");
        return false;
    }
}

/* Packets
 * ------------------------------------------------------------------------------------------------------ */

void enhanced_auth_begin(struct connecting *connecting)
{
    struct connection *connection = connecting->connection;
    const struct mqtt_properties *properties = &connecting->connect.properties;
    uint8_t room[SCRAM_BINDING_SIZE];
    const uint8_t *binding = find_binding(connection, room);
    const char *wrong = NULL;
    enum auth_method method =
        choose_method(connection, properties->authentication_method, binding != NULL, &wrong);
    if (method == AUTH_METHOD_NONE) {
        connection->worker->counters->connects_denied++;
        connect_refuse(connection, MQTT_BAD_AUTHENTICATION_METHOD, wrong); /* [MQTT-4.12.0-1] */
        return;
    }
    connection->auth_method = (uint8_t)method;
    if (exchange_new(connection, binding) != STATUS_OK) {
        connect_refuse(connection, MQTT_SERVER_BUSY, "out of memory");
        return;
    }
    connection_enter(connection, CONNECTION_AUTHENTICATING);
    connection_release(connection, HOLD_CLAIM); /* its AUTH packets are read */
    step(connection, properties->authentication_data);
}

/* From the client: 0x19 begins, 0x18 goes on, nothing else exists. NULL: fits. */
static const char *misplaced(const struct connection *connection, enum mqtt_reason reason)
{
    if (reason == MQTT_SUCCESS)
        return "AUTH 0x00, which only servers send";
    if (reason == MQTT_CONTINUE_AUTHENTICATION)
        return connection->exchange == NULL ? "AUTH 0x18 although no authentication is under way" : NULL;
    if (is_connecting(connection))
        return "AUTH 0x19 before CONNACK";
    return connection->exchange != NULL ? "AUTH 0x19 while an authentication is under way" : NULL;
}

static bool begin_again(struct connection *connection)
{
    uint8_t room[SCRAM_BINDING_SIZE];
    if (exchange_new(connection, find_binding(connection, room)) != STATUS_OK) {
        end(connection, MQTT_SERVER_BUSY, "out of memory");
        return false;
    }
    uint64_t timeout_us = (uint64_t)worker_listener_config(connection->listener)->connect_timeout_ms * 1000;
    timer_wheel_add(
        &connection->worker->wheel, &connection->exchange->timer, connection->worker->now_us + timeout_us);
    return true;
}

static bool break_off(struct connection *connection, enum mqtt_reason reason, const char *text)
{
    connection->worker->counters->protocol_errors++;
    end(connection, reason, text);
    return false;
}

bool enhanced_auth_received(struct connection *connection, const struct mqtt_disconnect *auth)
{
    const struct mqtt_properties *properties = &auth->properties;
    assert(is_connecting(connection) || connection->state == CONNECTION_ACTIVE);
    if (connection->auth_method == AUTH_METHOD_NONE) /* [MQTT-4.12.0-7] */
        return break_off(connection, MQTT_PROTOCOL_ERROR, "AUTH without an Authentication Method in CONNECT");
    const char *wrong = misplaced(connection, auth->reason);
    if (wrong != NULL)
        return break_off(connection, MQTT_PROTOCOL_ERROR, wrong);
    /* [MQTT-4.12.0-5, 4.12.1-1]; the list of DISCONNECT's reasons [3.14.2.1] has no 0x8C */
    if (!bytes_equal(properties->authentication_method, bytes_of_text(methods[connection->auth_method].text)))
        return break_off(connection,
            is_connecting(connection) ? MQTT_BAD_AUTHENTICATION_METHOD : MQTT_PROTOCOL_ERROR,
            "AUTH with another Authentication Method than CONNECT");
    if (properties->user_properties > connection->worker->config->mqtt.max_user_properties) {
        connection->worker->counters->properties_refused++;
        end(connection, MQTT_QUOTA_EXCEEDED, "more user properties than mqtt.max_user_properties");
        return false;
    }
    if (auth->reason == MQTT_REAUTHENTICATE && !begin_again(connection))
        return false;
    return step(connection, properties->authentication_data);
}

void enhanced_auth_fill_connack(const struct connection *connection, struct mqtt_properties *properties)
{
    if (connection->auth_method != AUTH_METHOD_NONE)
        set_properties(connection, connection->exchange->final, properties);
}
