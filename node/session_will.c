/*
 * The will of a session's connection [MQTT 3.1.2.5]: into the slot's table before CONNACK, out of it by a
 * normal DISCONNECT or a timely return; when and how often it is published is the business of
 * cluster/wills.h. Worker process.
 */
#include "node/session.h"
#include "node/worker_context.h"

#include "shared/mqtt_properties.h"

#include <stdlib.h>

enum status session_will_set(struct session *session, const struct mqtt_connect *connect)
{
    const struct mqtt_properties *properties = &connect->will_properties;
    uint8_t *forward = NULL;
    struct will will = {.connection = session->stamp,
        .publisher = session->hash,
        .expiry_s = WILL_NO_EXPIRY,
        .qos = connect->will_qos,
        .retain = connect->will_retain,
        .client_id = session_client_id(session),
        .topic = connect->will_topic,
        .payload = connect->will_payload};
    uint8_t mounted[MOUNTED_TOPIC_MAX];
    if (session->mount != NULL)
        will.topic = session_mount_topic(session->mount, will.topic, mounted);
    if (connect->version == MQTT_5_0 && properties->raw.size > 0) {
        forward = malloc(properties->raw.size);
        if (forward == NULL)
            return STATUS_NO_MEMORY;
        will.properties = bytes_of(forward, mqtt_properties_forward(forward, properties->raw));
        will.delay_s = properties->will_delay_interval;
        if (properties->present & PROPERTY_BIT(PROPERTY_MESSAGE_EXPIRY_INTERVAL))
            will.expiry_s = properties->message_expiry_interval;
    }
    if (will.delay_s > session->expiry_s)
        will.delay_s = session->expiry_s; /* published when the session ends, at the latest [MQTT-3.1.3-9] */
    enum status status = wills_put(session->worker->wills, &will, &session->will);
    if (status == STATUS_OK) {
        session->will_connection = session->stamp;
        session->will_delayed = will.delay_s > 0;
    }
    free(forward);
    return status;
}

void session_will_clear(struct session *session)
{
    if (session->will != 0)
        wills_remove(session->worker->wills, session->will, session->will_connection);
    session->will = 0;
}

void session_will_due(struct session *session)
{
    if (session->will == 0)
        return;
    wills_end(session->worker->wills, session->will, session->will_connection, !session->will_delayed);
    if (!session->will_delayed)
        session->will = 0;
}

void session_will_now(struct session *session)
{
    if (session->will != 0)
        wills_end(session->worker->wills, session->will, session->will_connection, true);
    session->will = 0;
}
