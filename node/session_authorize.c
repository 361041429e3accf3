/*
 * Whether a client may connect, and as whom: by its certificate, by user name and password, by enhanced
 * authentication (enhanced_auth), or as anybody where the listener allows that; then its rights, and whether
 * its will may be published. Worker process. A password's hash is made off the event loop (password_check);
 * the connection is not read meanwhile.
 */
#include "node/enhanced_auth.h"
#include "node/session_connect.h"
#include "node/session_rewrite.h"
#include "node/worker_context.h"
#include "node/worker_listen.h"

#include "shared/log.h"
#include "shared/mqtt_properties.h"
#include "shared/topic_name.h"

#include <stdlib.h>

static void refuse_identity(struct connecting *connecting, enum mqtt_reason reason, const char *text)
{
    connecting->connection->worker->counters->connects_denied++;
    connect_refuse(connecting->connection, reason, text);
}

/* Its rights
 * ---------------------------------------------------------------------------------------------------- */

/* False: refused. */
static bool find_rights(struct connecting *connecting)
{
    struct acl *acl = connecting->connection->worker->access.acl;
    if (acl == NULL)
        return true;
    connecting->rights = acl_rights_new(acl, connecting->user, connecting->client_id);
    if (connecting->rights == NULL)
        connect_refuse(connecting->connection, MQTT_SERVER_BUSY, "out of memory");
    return connecting->rights != NULL;
}

/* False: refused. */
static bool rewrite_will(struct connecting *connecting)
{
    struct connection *connection = connecting->connection;
    struct bytes topic = connecting->connect.will_topic;
    if (connection->worker->rewrite == NULL || !connecting->connect.has_will || topic.data[0] == '$')
        return true;
    if (!session_rewrite_name(connection->worker, connecting->client_id, connecting->user, &topic)) {
        connect_refuse(
            connection, MQTT_TOPIC_NAME_INVALID, "rewrite.rules make no valid topic of its will's topic");
        return false;
    }
    connecting->will_topic = malloc(topic.size);
    if (connecting->will_topic == NULL) {
        connect_refuse(connection, MQTT_SERVER_BUSY, "out of memory");
        return false;
    }
    memcpy(connecting->will_topic, topic.data, topic.size);
    connecting->connect.will_topic = bytes_of(connecting->will_topic, topic.size);
    return true;
}

/* False: refused. */
static bool check_will(struct connecting *connecting)
{
    struct connection *connection = connecting->connection;
    const struct mqtt_connect *connect = &connecting->connect;
    const struct config_mqtt *limits = &connection->worker->config->mqtt;
    if (!connect->has_will)
        return true;
    if (connect->will_qos > limits->max_qos)
        connect_refuse(
            connection, MQTT_QOS_NOT_SUPPORTED, "will QoS above mqtt.max_qos"); /* [MQTT-3.2.2-12] */
    else if (connect->will_retain && !limits->retain_available)
        connect_refuse(
            connection, MQTT_RETAIN_NOT_SUPPORTED, "retained will although mqtt.retain_available is false");
    else if (connect->will_topic.data[0] == '$' || connect->will_topic.size > limits->max_topic_length ||
             topic_levels(connect->will_topic) > limits->max_topic_levels ||
             connect->will_topic.size + session_mount_bytes(connecting->mount).size > MOUNTED_TOPIC_MAX)
        connect_refuse(connection, MQTT_TOPIC_NAME_INVALID, "will topic not allowed");
    else if (limits->validate_payload_format && connect->will_properties.payload_format_indicator == 1 &&
             !utf8_valid(connect->will_payload))
        connect_refuse(connection, MQTT_PAYLOAD_FORMAT_INVALID, "will payload is called UTF-8 and is not");
    else if (connecting->rights != NULL && !acl_allows(connecting->rights, ACL_WRITE, connect->will_topic))
        refuse_identity(connecting, MQTT_NOT_AUTHORIZED, "it may not publish to the topic of its will");
    else
        return true;
    return false;
}

/* False: refused. */
static bool find_mount(struct connecting *connecting)
{
    struct connection *connection = connecting->connection;
    const char *mountpoint = worker_listener_config(connection->listener)->mountpoint;
    if (mountpoint == NULL)
        return true;
    struct topic_values values = {.client_id = connecting->client_id, .user = connecting->user};
    enum topic_template_fault fault;
    enum status status = session_mount_new(mountpoint, &values, &connecting->mount, &fault);
    if (status == STATUS_OK)
        return true;
    if (status != STATUS_INVALID)
        connect_refuse(connection, MQTT_SERVER_BUSY, "out of memory");
    else if (fault == TOPIC_TEMPLATE_CLIENT_ID)
        refuse_identity(connecting, MQTT_CLIENT_IDENTIFIER_NOT_VALID,
            "its client identifier cannot be a level of the listener's mountpoint");
    else
        refuse_identity(connecting, MQTT_NOT_AUTHORIZED,
            "it has no user name, or one that cannot be a level of the listener's mountpoint");
    return false;
}

bool connect_admit_again(struct connecting *connecting)
{
    const struct worker *worker = connecting->connection->worker;
    const struct mqtt_connect *connect = &connecting->connect;
    if (connecting->access_turn == worker->access_turn)
        return true;
    connecting->access_turn = worker->access_turn;
    acl_rights_free(&connecting->rights);
    if (!find_rights(connecting))
        return false;
    if (connecting->by_password &&
        (worker->access.passwords == NULL ||
            password_file_find(worker->access.passwords, connecting->user) == NULL))
        refuse_identity(connecting, MQTT_BAD_USER_NAME_OR_PASSWORD, "its user is gone meanwhile");
    else if (connecting->rights != NULL && connect->has_will &&
             !acl_allows(connecting->rights, ACL_WRITE, connect->will_topic))
        refuse_identity(connecting, MQTT_NOT_AUTHORIZED, "it may not publish to the topic of its will");
    else
        return true;
    return false;
}

void connect_admit(struct connecting *connecting)
{
    connecting->access_turn = connecting->connection->worker->access_turn;
    if (!find_mount(connecting) || !find_rights(connecting) || !rewrite_will(connecting) ||
        !check_will(connecting))
        return;
    connection_enter(connecting->connection, CONNECTION_CLAIMING);
    connect_authorized(connecting);
}

/* Who it is
 * --------------------------------------------------------------------------------------------------- */

static void on_password_checked(void *owner, bool good)
{
    struct connecting *connecting = owner;
    connecting->check = NULL;
    if (connecting->access_turn != connecting->connection->worker->access_turn) {
        connect_authorize(connecting); /* it was held against a former file */
        return;
    }
    connecting->by_password = good;
    if (good)
        connect_admit(connecting);
    else
        refuse_identity(connecting, MQTT_BAD_USER_NAME_OR_PASSWORD, "wrong user name or password");
}

static void on_unknown_checked(void *owner, bool good)
{
    (void)good;
    on_password_checked(owner, false);
}

/* An unknown user is told so as late as one whose password is wrong, so that nobody learns who exists. */
static void check_password(struct connecting *connecting)
{
    struct worker *worker = connecting->connection->worker;
    const struct password_hash *hash = password_file_find(worker->access.passwords, connecting->user);
    bool known = hash != NULL;
    enum status status = password_check_start(worker->passwords,
        known ? hash : password_file_decoy(worker->access.passwords), connecting->connect.password,
        known ? on_password_checked : on_unknown_checked, connecting, &connecting->check);
    if (status == STATUS_OK)
        return;
    if (status != STATUS_LIMIT)
        log_error("passwords cannot be checked: %s", status_text(status));
    connect_refuse(connecting->connection, MQTT_SERVER_BUSY,
        status == STATUS_LIMIT ? "auth.max_waiting clients wait for their password to be checked already"
                               : "its password cannot be checked now");
}

static void log_in(struct connecting *connecting)
{
    if (connecting->connection->worker->config->auth.methods & CONFIG_AUTH_PASSWORD)
        check_password(connecting);
    else
        refuse_identity(
            connecting, MQTT_BAD_AUTHENTICATION_METHOD, "auth.methods takes no password of CONNECT");
}

void connect_authorize(struct connecting *connecting)
{
    struct connection *connection = connecting->connection;
    const struct worker *worker = connection->worker;
    const struct mqtt_connect *connect = &connecting->connect;
    bool anonymous =
        config_listener_allows_anonymous(worker->config, worker_listener_config(connection->listener));
    connecting->user = connect->user_name;
    connecting->access_turn = worker->access_turn;
    uint32_t properties = worker->config->mqtt.max_user_properties;
    if (connect->properties.user_properties > properties ||
        connect->will_properties.user_properties > properties) {
        worker->counters->properties_refused++;
        connect_refuse(connection, MQTT_QUOTA_EXCEEDED, "more user properties than mqtt.max_user_properties");
    } else if (connect->properties.present & PROPERTY_BIT(PROPERTY_AUTHENTICATION_METHOD)) {
        enhanced_auth_begin(connecting);
    } else if (connection->identity != NULL && connection->identity->user_name != NULL) {
        connecting->user = bytes_of_text(connection->identity->user_name); /* known by its certificate */
        connect_admit(connecting);
    } else if (connecting->user.data != NULL && worker->access.passwords != NULL) {
        log_in(connecting);
    } else if (anonymous) {
        connect_admit(connecting); /* its name, if it has one, at its word: nothing here could check it */
    } else if (connecting->user.data != NULL) {
        refuse_identity(connecting, MQTT_BAD_USER_NAME_OR_PASSWORD, "no such user");
    } else {
        refuse_identity(
            connecting, MQTT_NOT_AUTHORIZED, "anonymous clients are not allowed on this listener");
    }
}

void connect_timed_out(struct connection *connection)
{
    if (connection->state == CONNECTION_AUTHENTICATING)
        connect_refuse(connection, MQTT_NOT_AUTHORIZED, "it did not authenticate within connect_timeout");
    else
        connect_refuse(
            connection, MQTT_SERVER_BUSY, "its password could not be checked within connect_timeout");
}
