/*
 * CONNECT to CONNACK: the client's identifier, its claim, its session from here or from another worker, the
 * will, and the answer [MQTT 3.1, 3.2]. Worker process. The connection is not read meanwhile.
 */
#include "node/session_connect.h"
#include "node/enhanced_auth.h"
#include "node/topic_alias.h"
#include "node/worker_context.h"

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/mqtt_decode.h"
#include "shared/mqtt_encode.h"
#include "shared/mqtt_properties.h"

#include <assert.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>

#define SPARE_BODY       128 /* bytes of CONNECT that fit a block that is kept for the next one */
#define CONNACK_HEAD_MAX 6   /* fixed header, flags, reason, property length */

static struct bytes printable_id(const struct connecting *connecting)
{
    return connecting->client_id;
}

/* Refusing
 * ---------------------------------------------------------------------------------------------------- */

static void send_connack(struct connection *connection, bool session_present, uint8_t reason,
    const struct mqtt_properties *properties)
{
    size_t room = 16 + (properties == NULL ? 0 : mqtt_properties_size(properties));
    uint8_t *to = connection_reserve(connection, room);
    if (to == NULL)
        return;
    size_t size =
        mqtt_encode_connack(to, (enum mqtt_version)connection->version, session_present, reason, properties);
    if (size > connection->maximum_packet_size) { /* [MQTT-3.1.2-24]: closed without a word then */
        connection_unreserve(connection, room);
        return;
    }
    connection_unreserve(connection, room - size);
    connection->worker->counters->packets_sent++;
}

/* Left out where the packet would be larger than the client takes [MQTT-3.2.2-19]. */
static bool reason_string_fits(const struct connection *connection, const char *text)
{
    return strlen(text) + 16 <= connection->maximum_packet_size;
}

void connect_refuse(struct connection *connection, enum mqtt_reason reason, const char *text)
{
    struct bytes id = connection->connecting == NULL ? BYTES_NONE : printable_id(connection->connecting);
    log_info("%s (client %.*s): refused: %s (0x%02x %s)", connection_peer(connection),
        id.size > 0 ? (int)id.size : 1, id.size > 0 ? (const char *)id.data : "-", text, (unsigned)reason,
        mqtt_reason_text((uint8_t)reason));
    if (connection->version == MQTT_5_0) {
        struct mqtt_properties properties;
        mqtt_properties_init(&properties);
        if (connection->problem_information && reason_string_fits(connection, text)) {
            properties.present = PROPERTY_BIT(PROPERTY_REASON_STRING);
            properties.reason_string = bytes_of_text(text);
        }
        send_connack(connection, false, (uint8_t)reason, &properties);
    } else if (connection->version != 0) {
        send_connack(connection, false, mqtt_connack_return_code(reason), NULL);
    }
    connection_goodbye(connection, false);
}

static void refuse_undecodable(
    struct connection *connection, const struct mqtt_connect *connect, const struct mqtt_fault *fault)
{
    connection->worker->counters->protocol_errors++;
    connection->problem_information = true;
    if (fault->reason == MQTT_UNSUPPORTED_PROTOCOL_VERSION) {
        /* Answered in a form that clients of either age understand [MQTT-3.1.2-2]. */
        connection->version = connect->version >= MQTT_5_0 ? MQTT_5_0 : MQTT_3_1_1;
        connect_refuse(connection, fault->reason, fault->text);
    } else if (connection->version == MQTT_5_0 || fault->reason == MQTT_CLIENT_IDENTIFIER_NOT_VALID) {
        connect_refuse(connection, fault->reason, fault->text); /* [MQTT-3.1.3-8 of 3.1.1]: return code 2 */
    } else {
        connection_close(connection, fault->reason, fault->text); /* version 3: closed without a CONNACK */
    }
}

/* Who it is
 * --------------------------------------------------------------------------------------------------- */

static enum status assign_client_id(struct connecting *connecting)
{
    uint64_t random[2];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return STATUS_SYSTEM;
    snprintf(connecting->assigned, sizeof connecting->assigned, "shoal-%016llx%04x",
        (unsigned long long)random[0], (unsigned)(random[1] & 0xffff));
    connecting->client_id = bytes_of_text(connecting->assigned);
    return STATUS_OK;
}

/* Sets connecting->client_id. False: refused. */
static bool choose_client_id(struct connection *connection, struct connecting *connecting)
{
    const struct mqtt_connect *connect = &connecting->connect;
    const struct connection_identity *identity = connection->identity;
    connecting->client_id = connect->client_id;
    if (identity != NULL && identity->client_id != NULL)
        connecting->client_id = bytes_of_text(identity->client_id);
    if (connecting->client_id.size > connection->worker->config->mqtt.max_clientid_length ||
        connecting->client_id.size > CLAIMS_CLIENT_ID_MAX) {
        connect_refuse(connection, MQTT_CLIENT_IDENTIFIER_NOT_VALID,
            "client identifier longer than mqtt.max_clientid_length");
        return false;
    }
    if (connecting->client_id.size > 0)
        return true;
    if (connect->version == MQTT_3_1 || (connect->version == MQTT_3_1_1 && !connect->clean_start)) {
        connect_refuse(connection, MQTT_CLIENT_IDENTIFIER_NOT_VALID,
            "empty client identifier without clean session"); /* [MQTT-3.1.3-8] */
        return false;
    }
    if (assign_client_id(connecting) == STATUS_OK)
        return true;
    connect_refuse(connection, MQTT_SERVER_UNAVAILABLE, "no random bytes for a client identifier");
    return false;
}

/* The end of CONNECT: CONNACK 0
 * -------------------------------------------------------------------------------- */

static uint32_t wanted_expiry_s(const struct connection *connection, const struct mqtt_connect *connect)
{
    if (connect->version != MQTT_5_0)
        return connect->clean_start ? 0 : connection->worker->config->mqtt.session_expiry_v3_s;
    return connect->properties.session_expiry_interval;
}

static uint16_t keep_alive_s(const struct worker *worker, const struct mqtt_connect *connect)
{
    uint32_t maximum = worker->config->mqtt.keepalive_max_s;
    if (connect->version != MQTT_5_0 || maximum == 0)
        return connect->keep_alive_s;
    return connect->keep_alive_s == 0 || connect->keep_alive_s > maximum ? (uint16_t)maximum
                                                                         : connect->keep_alive_s;
}

/* What this broker tells a version 5 client about itself and this session [MQTT 3.2.2.3]. */
static void fill_connack(const struct connection *connection, const struct connecting *connecting,
    struct mqtt_properties *properties)
{
    const struct config_mqtt *limits = &connection->config->mqtt;
    const struct mqtt_connect *connect = &connecting->connect;
    mqtt_properties_init(properties);
#define SAY(property, field, value)                                                                          \
    do {                                                                                                     \
        properties->present |= PROPERTY_BIT(property);                                                       \
        properties->field = (value);                                                                         \
    } while (0)
    if (connecting->session->expiry_s != connect->properties.session_expiry_interval)
        SAY(PROPERTY_SESSION_EXPIRY_INTERVAL, session_expiry_interval, connecting->session->expiry_s);
    if (limits->receive_maximum < 65535)
        SAY(PROPERTY_RECEIVE_MAXIMUM, receive_maximum, (uint16_t)limits->receive_maximum);
    if (limits->max_qos < 2)
        SAY(PROPERTY_MAXIMUM_QOS, maximum_qos, (uint8_t)limits->max_qos);
    if (!limits->retain_available)
        SAY(PROPERTY_RETAIN_AVAILABLE, retain_available, 0);
    SAY(PROPERTY_MAXIMUM_PACKET_SIZE, maximum_packet_size, (uint32_t)limits->max_packet_size);
    if (connect->client_id.size == 0)
        SAY(PROPERTY_ASSIGNED_CLIENT_IDENTIFIER, assigned_client_identifier, connecting->client_id);
    if (limits->max_topic_alias > 0)
        SAY(PROPERTY_TOPIC_ALIAS_MAXIMUM, topic_alias_maximum, (uint16_t)limits->max_topic_alias);
    if (!limits->wildcard_subscription)
        SAY(PROPERTY_WILDCARD_SUBSCRIPTION_AVAILABLE, wildcard_subscription_available, 0);
    if (limits->response_information != NULL && connect->properties.request_response_information)
        SAY(PROPERTY_RESPONSE_INFORMATION, response_information, bytes_of_text(limits->response_information));
    if (!limits->shared_subscription)
        SAY(PROPERTY_SHARED_SUBSCRIPTION_AVAILABLE, shared_subscription_available, 0);
    if (connection->keep_alive_s != connect->keep_alive_s)
        SAY(PROPERTY_SERVER_KEEP_ALIVE, server_keep_alive, connection->keep_alive_s);
#undef SAY
    enhanced_auth_fill_connack(connection, properties);
}

static void connecting_free(struct connection *connection)
{
    struct connecting *connecting = connection->connecting;
    connection->connecting = NULL;
    acl_rights_free(&connecting->rights);
    free(connecting->mount);
    free(connecting->will_topic);
    explicit_bzero(connecting->body, connecting->body_size); /* there may be a password in it */
    struct worker *worker = connection->worker;
    if (connecting->body_size <= SPARE_BODY && worker->spare_count < WORKER_SPARES_MAX)
        worker->spares[worker->spare_count++] = connecting;
    else
        free(connecting);
}

/* Zeroed, from the spare ones if it can be: a block that is freed for each CONNECT would be cut up for the
 * connections that come next, and leave a hole beside each. */
static struct connecting *connecting_alloc(struct worker *worker, size_t body_size)
{
    if (body_size > SPARE_BODY || worker->spare_count == 0)
        return calloc(1, sizeof(struct connecting) + (body_size > SPARE_BODY ? body_size : SPARE_BODY));
    struct connecting *connecting = worker->spares[--worker->spare_count];
    return memset(connecting, 0, sizeof *connecting);
}

/* The will, CONNACK, and the client is served. */
static void answer(struct connecting *connecting)
{
    struct connection *connection = connecting->connection;
    const struct mqtt_connect *connect = &connecting->connect;
    struct session *session = connecting->session;
    uint64_t auto_retained = connecting->auto_retained;
    struct mqtt_properties properties;
    connection->keep_alive_s = keep_alive_s(connection->worker, connect);
    fill_connack(connection, connecting, &properties);
    if (connection->version == MQTT_5_0 &&
        mqtt_properties_size(&properties) + CONNACK_HEAD_MAX > connection->maximum_packet_size) {
        connect_refuse(connection, MQTT_PACKET_TOO_LARGE, "CONNACK is larger than its Maximum Packet Size");
        return;
    }
    if (connect->has_will) {
        enum status status = session_will_set(session, connect);
        if (status != STATUS_OK) {
            connect_refuse(connection, MQTT_QUOTA_EXCEEDED, "no room for its will: raise bus.will_table");
            return;
        }
    }
    connection->receive_maximum = connect->properties.receive_maximum;
    connection->aliases_out = topic_aliases_out_new(connect->properties.topic_alias_maximum);
    connection_enter(connection, CONNECTION_ACTIVE);
    connection->read_us = connection->worker->now_us;
    bool present = connecting->session_present && connection->version != MQTT_3_1;
    send_connack(connection, present, 0, connection->version == MQTT_5_0 ? &properties : NULL);
    log_info("%s: client %.*s connected (MQTT %s, %s, keep alive %u s%s%s%s)", connection_peer(connection),
        (int)session->client_id_size, session->client_id,
        connection->version == MQTT_5_0 ? "5.0" : (connection->version == MQTT_3_1_1 ? "3.1.1" : "3.1"),
        connecting->session_present ? "session present" : "new session", (unsigned)connection->keep_alive_s,
        connect->has_will ? ", will" : "", connection->auth_method != AUTH_METHOD_NONE ? ", " : "",
        enhanced_auth_method_text(connection->auth_method));
    session->connecting = NULL;
    connecting->session = NULL;
    connecting_free(connection);
    enhanced_auth_end(connection);
    connection_identity_free(&connection->identity);
    session_connected(session, connection);
    if (auto_retained != 0)
        auto_subscribe_retained(connection, auto_retained);
    connection_release(connection, HOLD_CLAIM);
}

static void finish_when_routed(struct connecting *connecting);

/* The session is here and whole. */
static void finish(struct connecting *connecting)
{
    struct connection *connection = connecting->connection;
    connecting->session->version = connection->version;
    session_set_expiry(connecting->session, wanted_expiry_s(connection, &connecting->connect));
    if (connecting->auto_subscribed || connection->worker->config->auto_subscribe.topics.count == 0) {
        answer(connecting);
        return;
    }
    connecting->auto_subscribed = true;
    auto_subscribe(connecting);
    finish_when_routed(connecting); /* CONNACK is its SUBACK, too */
}

/* Its session
 * -------------------------------------------------------------------------------------------------- */

static void on_routes_settled(struct routes_waiter *waiter, uint64_t silent)
{
    struct connecting *connecting = list_entry(waiter, struct connecting, routes);
    if (silent != 0)
        log_warning("client %.*s: CONNACK went out without an answer from workers 0x%llx within 1 s",
            (int)connecting->client_id.size, (const char *)connecting->client_id.data,
            (unsigned long long)silent);
    finish(connecting);
}

static void finish_when_routed(struct connecting *connecting)
{
    if (routes_wait(connecting->connection->worker->routes, &connecting->routes))
        finish(connecting);
}

/* From here on the session is its client's, with its client's rights. False: refused. */
static bool attach(struct connecting *connecting, struct session *session)
{
    connecting->session = session;
    session->connecting = connecting;
    session->queueing = true;
    if (!connect_admit_again(connecting))
        return false;
    session_set_mount(session, &connecting->mount);
    if (session_set_user(session, connecting->user, &connecting->rights) == STATUS_OK)
        return true;
    connect_refuse(connecting->connection, MQTT_SERVER_BUSY, "out of memory");
    return false;
}

void connect_take_away(struct session *session, const char *text)
{
    if (session->connection != NULL) {
        session->worker->counters->sessions_taken_over++;
        connection_close(session->connection, MQTT_SESSION_TAKEN_OVER, text);
    } else if (session->connecting != NULL) {
        connect_refuse(
            session->connecting->connection, MQTT_SERVER_BUSY, text); /* CONNACK has no other word */
    }
}

/* Ends the connection that has the session now, or is about to, and lets the session go on or end as the new
 * CONNECT says. */
static struct session *take_over_here(
    struct worker *worker, struct connecting *connecting, struct session *session)
{
    /* If it ends with its connection it releases its own stamp, which is not the record's any more. */
    connect_take_away(session, "its client connected again");
    session = session_find(worker, connecting->client_id);
    if (session == NULL)
        return NULL;
    session->stamp = connecting->claim.stamp;
    if (connecting->connect.clean_start ||
        !session_mount_is(session->mount, session_mount_bytes(connecting->mount))) {
        session_will_now(session);
        session_discard(&session);
        return NULL;
    }
    session_will_clear(session); /* delayed, and the client is back [MQTT-3.1.3-9] */
    return session;
}

/* A session of the client that another worker has claimed away but not yet asked for. */
static bool park(struct worker *worker, struct connecting *connecting, struct session *session)
{
    connect_take_away(session, "its client connected again");
    session = session_find(worker, connecting->client_id);
    if (session == NULL)
        return true;
    if (connecting->connect.clean_start) {
        session_will_now(session);
        session_discard(&session);
        return true;
    }
    session_will_clear(session);
    session_leave(session);
    session->move_out = session_move_park(
        worker->moves, session, connecting->client_id, session->stamp, connecting->claim.previous);
    if (session->move_out != NULL)
        return true;
    session_discard(&session);
    return false;
}

/* One more session of the node, moves and take-overs aside. False: refused. */
static bool has_room_for_session(struct connecting *connecting)
{
    struct connection *connection = connecting->connection;
    struct worker *worker = connection->worker;
    uint32_t limit = worker->config->mqtt.max_sessions;
    if (limit == 0 || counters_sessions(worker->child->counters_base, worker->child->counters_pages) < limit)
        return true;
    worker->counters->sessions_limit++;
    claims_release(worker->claims, connecting->client_id, connecting->claim.stamp);
    connect_refuse(connection, MQTT_QUOTA_EXCEEDED, "the node has mqtt.max_sessions sessions");
    return false;
}

static bool make_session(struct connecting *connecting)
{
    struct connection *connection = connecting->connection;
    struct session *session =
        session_new(connection->worker, connecting->client_id, connection->version, connecting->claim.stamp);
    if (session == NULL) {
        claims_release(connection->worker->claims, connecting->client_id, connecting->claim.stamp);
        connect_refuse(connection, MQTT_SERVER_BUSY, "out of memory");
        return false;
    }
    session->began_clean = connecting->connect.clean_start;
    return attach(connecting, session);
}

/* Asks for the content of a new session; CONNACK waits for it. */
static void fetch(struct connecting *connecting, unsigned previous)
{
    struct worker *worker = connecting->connection->worker;
    struct session *session = connecting->session;
    const struct claim *claim = &connecting->claim;
    session->move_in = session_move_in(worker->moves, session, connecting->client_id, claim->stamp, previous,
        claim->begun_us + (uint64_t)worker->config->session.claim_timeout_ms * 1000, false, NULL);
    session->arriving = session->move_in != NULL;
    if (!session->arriving && claim->outcome == CLAIM_UNANSWERED) /* who had it may turn up late */
        session->move_in = session_move_in(
            worker->moves, session, connecting->client_id, claim->stamp, BUS_PEERS_MAX, 0, true, NULL);
    if (!session->arriving)
        finish(connecting);
}

/* Another worker has the session. */
static void move_here(struct worker *worker, struct connecting *connecting)
{
    struct claim *claim = &connecting->claim;
    struct session *stale = session_find(worker, connecting->client_id);
    if (stale != NULL && !park(worker, connecting, stale)) {
        connect_refuse(connecting->connection, MQTT_SERVER_BUSY, "out of memory");
        return;
    }
    if (!make_session(connecting))
        return;
    if (connecting->connect.clean_start) {
        session_move_discard(worker->moves, connecting->client_id, claim->stamp, claim->previous);
        finish(connecting);
        return;
    }
    fetch(connecting, claim->previous);
}

void connect_moved(struct session *session, enum session_move_outcome outcome)
{
    struct connecting *connecting = session->connecting;
    if (!session->arriving)
        return; /* answered already: an older move that this one took over */
    session->arriving = false;
    if (connecting == NULL) { /* its client has gone meanwhile */
        if (session->connection == NULL && session->move_out == NULL)
            session_disconnected(session, true);
        return;
    }
    connecting->session_present = outcome == SESSION_MOVE_FOUND && !session->foreign;
    if (outcome == SESSION_MOVE_SILENT)
        log_warning(
            "client %.*s: worker %u, which has its session, did not answer in time: it gets a new one",
            (int)session->client_id_size, session->client_id, connecting->claim.previous);
    finish_when_routed(connecting);
}

static void claim_settled(struct connecting *connecting)
{
    struct connection *connection = connecting->connection;
    struct worker *worker = connection->worker;
    const struct claim *claim = &connecting->claim;
    if (claim->outcome == CLAIM_SUPERSEDED) {
        connect_refuse(connection, MQTT_SERVER_BUSY, "the same client connected elsewhere meanwhile");
        return;
    }
    if (claim->outcome == CLAIM_UNANSWERED)
        log_warning("client %.*s: its registrar did not answer in time", (int)connecting->client_id.size,
            (const char *)connecting->client_id.data);
    if (claim->outcome == CLAIM_GRANTED && claim->previous < BUS_PEERS_MAX &&
        claim->previous != bus_self(worker->bus)) {
        move_here(worker, connecting);
        return;
    }
    struct session *session = session_find(worker, connecting->client_id);
    if (session != NULL)
        session = take_over_here(worker, connecting, session);
    else if (!has_room_for_session(connecting))
        return;
    if (session == NULL && !make_session(connecting))
        return;
    if (session == NULL && !connecting->connect.clean_start) {
        fetch(connecting, bus_self(worker->bus)); /* on its way to a worker that has died, perhaps */
        return;
    }
    connecting->session_present = session != NULL;
    if (session != NULL && !attach(connecting, session))
        return;
    if (connecting->session->arriving)
        return; /* connect_moved() goes on */
    if (connecting->session->move_in != NULL)
        finish_when_routed(connecting);
    else
        finish(connecting);
}

static void on_claim_answered(struct claim *claim)
{
    claim_settled(list_entry(claim, struct connecting, claim));
}

/* Hooks of claims.h
 * --------------------------------------------------------------------------------------------- */

void connect_superseded(void *context, struct bytes client_id, uint64_t stamp, unsigned owner)
{
    struct worker *worker = context;
    struct session *session = session_find(worker, client_id);
    if (session == NULL || session->stamp >= stamp)
        return;
    log_debug("client %.*s: worker %u has it now", (int)client_id.size, (const char *)client_id.data, owner);
    connect_take_away(session, "its client connected again at another worker");
}

uint64_t connect_owned(void *context, struct bytes client_id)
{
    struct session *session = session_find(context, client_id);
    return session == NULL ? 0 : session->stamp;
}

static void report_session(void *report, struct session *session)
{
    claims_report_add(report, session_client_id(session), session->stamp);
}

void connect_report_owned(void *context, struct claims_report *report)
{
    session_for_each(context, report_session, report);
}

bool connect_late(void *context, struct bytes client_id, uint64_t stamp, unsigned previous)
{
    struct worker *worker = context;
    struct session *session = session_find(worker, client_id);
    if (session == NULL)
        return false;
    if (session->stamp < stamp)
        session->stamp = stamp;
    if (previous < BUS_PEERS_MAX && previous != bus_self(worker->bus) && session->began_clean) {
        session_move_discard(worker->moves, client_id, session->stamp, previous);
    } else if (previous < BUS_PEERS_MAX && previous != bus_self(worker->bus)) {
        session->move_in = session_move_in(
            worker->moves, session, client_id, session->stamp, previous, 0, true, session->move_in);
    }
    return true;
}

void connect_authorized(struct connecting *connecting)
{
    connecting->claim.client_id = connecting->client_id;
    if (claims_claim(connecting->connection->worker->claims, &connecting->claim))
        claim_settled(connecting);
}

/* CONNECT
 * ------------------------------------------------------------------------------------------------------- */

void connect_abandon(struct connection *connection)
{
    struct connecting *connecting = connection->connecting;
    if (connecting == NULL)
        return;
    struct worker *worker = connection->worker;
    if (connecting->check != NULL)
        password_check_cancel(worker->passwords, &connecting->check);
    claims_cancel(worker->claims, &connecting->claim);
    routes_wait_cancel(&connecting->routes);
    struct session *session = connecting->session;
    connecting->session = NULL;
    connecting_free(connection);
    if (session == NULL)
        return;
    session->connecting = NULL;
    session->queueing = false;
    /* What it has got by now is as good as a session whose client is gone again. What it has not got yet
       decides how long it lives: connect_moved(). */
    if (!session->arriving)
        session_disconnected(session, true);
}

/* When CONNECT reached this machine: long ago if this process stood still. Sockets that cannot tell: now. */
static uint64_t arrived_us(const struct connection *connection)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    uint64_t now_us = clock_monotonic_us();
    if (getsockopt(connection->transport.fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
        size < offsetof(struct tcp_info, tcpi_last_data_recv) + sizeof info.tcpi_last_data_recv)
        return now_us;
    uint64_t age_us = (uint64_t)info.tcpi_last_data_recv * 1000;
    return age_us < now_us ? now_us - age_us : 1;
}

void connect_received(struct connection *connection, struct bytes body)
{
    struct mqtt_connect first;
    struct mqtt_fault fault;
    memset(&first, 0, sizeof first);
    enum status status = mqtt_decode_connect(body, &first, &fault);
    connection->version = (uint8_t)(first.version == 0 ? MQTT_3_1_1 : first.version);
    connection->maximum_packet_size = first.properties.maximum_packet_size < MQTT_PACKET_SIZE_MAX
                                          ? first.properties.maximum_packet_size
                                          : MQTT_PACKET_SIZE_MAX;
    if (status != STATUS_OK) {
        refuse_undecodable(connection, &first, &fault);
        return;
    }
    struct connecting *connecting = connecting_alloc(connection->worker, body.size);
    if (connecting == NULL) {
        connect_refuse(connection, MQTT_SERVER_BUSY, "out of memory");
        return;
    }
    connection->connecting = connecting;
    connecting->connection = connection;
    connecting->body_size = body.size;
    memcpy(connecting->body, body.data, body.size);
    status = mqtt_decode_connect(bytes_of(connecting->body, body.size), &connecting->connect, &fault);
    assert(status == STATUS_OK);
    list_init(&connecting->claim.link);
    list_init(&connecting->routes.link);
    connecting->claim.since_us = arrived_us(connection);
    connecting->claim.answered = on_claim_answered;
    connecting->routes.settled = on_routes_settled;
    connection->problem_information = first.properties.request_problem_information != 0;
    connection_enter(connection, CONNECTION_AUTHORIZING);
    connection_hold(connection, HOLD_CLAIM);
    if (choose_client_id(connection, connecting))
        connect_authorize(connecting);
}
