/*
 * A client of Paho for C that a test drives: its options as JSON in the first argument, commands as JSON
 * lines on standard input, events as JSON lines on standard output, as e2e/mqttjs_client.js has them. Built
 * where Debian's libpaho-mqtt-dev is. Main thread: commands, which block until the server has answered;
 * Paho's thread: messages.
 */
#include <MQTTClient.h>
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MS 30000

static MQTTClient client;
static bool version_5;
static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;

/* Publications that the server has acknowledged, by packet identifier. (MQTTClient_waitForCompletion() looks
   only every 100 ms.) */
static bool done[65536];
static pthread_mutex_t done_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done_changed = PTHREAD_COND_INITIALIZER;

/* Events
 * ------------------------------------------------------------------------------------------------------- */

/* Takes the event. */
static void say(json_t *event)
{
    char *text = json_dumps(event, JSON_COMPACT);
    json_decref(event);
    if (text == NULL)
        abort();
    pthread_mutex_lock(&output);
    puts(text);
    fflush(stdout);
    pthread_mutex_unlock(&output);
    free(text);
}

static void fail(const char *what, int code)
{
    const char *text = MQTTClient_strerror(code);
    say(json_pack("{ss ss si ss*}", "event", "error", "text", what, "code", code, "reason", text));
    _exit(1);
}

static json_t *text_of(MQTTLenString text)
{
    return json_stringn(text.data, (size_t)text.len);
}

/* The properties of a message that the tests look at; NULL: none of them. */
static json_t *properties_json(MQTTProperties *properties)
{
    json_t *made = json_object(), *user = json_object();
    for (int i = 0; i < properties->count; i++) {
        const MQTTProperty *property = &properties->array[i];
        if (property->identifier == MQTTPROPERTY_CODE_CONTENT_TYPE)
            json_object_set_new(made, "contentType", text_of(property->value.data));
        else if (property->identifier == MQTTPROPERTY_CODE_RESPONSE_TOPIC)
            json_object_set_new(made, "responseTopic", text_of(property->value.data));
        else if (property->identifier == MQTTPROPERTY_CODE_USER_PROPERTY)
            json_object_setn_new(user, property->value.data.data, (size_t)property->value.data.len,
                text_of(property->value.value));
    }
    if (json_object_size(user) > 0)
        json_object_set(made, "userProperties", user);
    json_decref(user);
    return made;
}

static int on_message(void *context, char *topic, int topic_size, MQTTClient_message *message)
{
    (void)context;
    size_t size = topic_size > 0 ? (size_t)topic_size : strlen(topic);
    say(json_pack("{ss ss% ss% si sb sb so}", "event", "message", "topic", topic, size, "payload",
        (const char *)message->payload, (size_t)message->payloadlen, "qos", message->qos, "retain",
        message->retained, "dup", message->dup, "properties", properties_json(&message->properties)));
    MQTTClient_freeMessage(&message);
    MQTTClient_free(topic);
    return 1;
}

static void on_delivered(void *context, MQTTClient_deliveryToken token)
{
    (void)context;
    pthread_mutex_lock(&done_lock);
    done[token & 0xffff] = true;
    pthread_cond_signal(&done_changed);
    pthread_mutex_unlock(&done_lock);
}

static void wait_delivered(MQTTClient_deliveryToken token)
{
    pthread_mutex_lock(&done_lock);
    while (!done[token & 0xffff])
        pthread_cond_wait(&done_changed, &done_lock); /* whoever drives us has a deadline */
    done[token & 0xffff] = false;
    pthread_mutex_unlock(&done_lock);
}

static void on_lost(void *context, char *cause)
{
    (void)context;
    (void)cause;
    say(json_pack("{ss}", "event", "close"));
}

/* Connection
 * --------------------------------------------------------------------------------------------------- */

static void add_number(MQTTProperties *to, enum MQTTPropertyCodes identifier, unsigned value)
{
    MQTTProperty property = {.identifier = identifier, .value.integer4 = value};
    if (MQTTProperties_add(to, &property) != 0)
        fail("property", (int)identifier);
}

static const char *text_option(const json_t *options, const char *name)
{
    return json_string_value(json_object_get(options, name));
}

static void set_will(const json_t *will, MQTTClient_willOptions *ret_will)
{
    ret_will->topicName = text_option(will, "topic");
    ret_will->message = text_option(will, "payload");
    ret_will->qos = (int)json_integer_value(json_object_get(will, "qos"));
    ret_will->retained = json_is_true(json_object_get(will, "retain"));
}

/* CONNECT. Takes the session present flag from the answer, which this API tells in version 3.1.1 only: else
 * null. */
static json_t *connect_to_server(const json_t *options, MQTTClient_connectOptions *connect)
{
    int code;
    if (!version_5) {
        code = MQTTClient_connect(client, connect);
    } else {
        MQTTProperties properties = MQTTProperties_initializer;
        const json_t *expiry = json_object_get(options, "expiry");
        if (json_is_integer(expiry))
            add_number(
                &properties, MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, (unsigned)json_integer_value(expiry));
        MQTTResponse response = MQTTClient_connect5(client, connect, &properties, NULL);
        code = response.reasonCode;
        MQTTResponse_free(response);
        MQTTProperties_free(&properties);
    }
    if (code != MQTTCLIENT_SUCCESS)
        fail("connect", code);
    return version_5 ? json_null() : json_boolean(connect->returned.sessionPresent);
}

static void begin(const json_t *options)
{
    MQTTClient_createOptions create = MQTTClient_createOptions_initializer;
    MQTTClient_connectOptions connect = MQTTClient_connectOptions_initializer;
    MQTTClient_connectOptions connect_5 = MQTTClient_connectOptions_initializer5;
    MQTTClient_SSLOptions tls = MQTTClient_SSLOptions_initializer;
    MQTTClient_willOptions will = MQTTClient_willOptions_initializer;
    create.MQTTVersion = (int)json_integer_value(json_object_get(options, "version"));
    version_5 = create.MQTTVersion == MQTTVERSION_5;
    int code = MQTTClient_createWithOptions(&client, text_option(options, "uri"),
        text_option(options, "clientId"), MQTTCLIENT_PERSISTENCE_NONE, NULL, &create);
    if (code == MQTTCLIENT_SUCCESS)
        code = MQTTClient_setCallbacks(client, NULL, on_lost, on_message, on_delivered);
    if (code != MQTTCLIENT_SUCCESS)
        fail("create", code);
    MQTTClient_setCommandTimeout(client, ANSWER_MS);
    bool clean = json_is_true(json_object_get(options, "clean"));
    if (version_5)
        connect = connect_5;
    connect.cleansession = !version_5 && clean;
    connect.cleanstart = version_5 && clean;
    connect.MQTTVersion = create.MQTTVersion;
    connect.reliable = 0;
    tls.trustStore = text_option(options, "ca");
    tls.verify = 1; /* the host's name too */
    if (tls.trustStore != NULL)
        connect.ssl = &tls;
    if (json_object_get(options, "will") != NULL) {
        set_will(json_object_get(options, "will"), &will);
        connect.will = &will;
    }
    say(json_pack("{ss so}", "event", "connect", "sessionPresent", connect_to_server(options, &connect)));
}

/* Commands
 * ----------------------------------------------------------------------------------------------------- */

static void subscribe(const json_t *command)
{
    char *topic = (char *)text_option(command, "topic");
    int qos = (int)json_integer_value(json_object_get(command, "qos"));
    if (version_5) {
        MQTTResponse response = MQTTClient_subscribe5(client, topic, qos, NULL, NULL);
        qos = response.reasonCode;
        MQTTResponse_free(response);
    } else {
        int code = MQTTClient_subscribeMany(client, 1, &topic, &qos); /* sets qos to what was granted */
        if (code != MQTTCLIENT_SUCCESS)
            fail("subscribe", code);
    }
    say(json_pack("{ss ss s[{si}]}", "event", "subscribed", "topic", topic, "granted", "qos", qos));
}

static MQTTLenString len_string(const char *text)
{
    return (MQTTLenString){.len = (int)strlen(text), .data = (char *)text};
}

static void add_properties(const json_t *from, MQTTProperties *to)
{
    static const struct {
        const char *name;
        enum MQTTPropertyCodes identifier;
    } texts[] = {
        {"contentType", MQTTPROPERTY_CODE_CONTENT_TYPE}, {"responseTopic", MQTTPROPERTY_CODE_RESPONSE_TOPIC}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (text_option(from, texts[i].name) == NULL)
            continue;
        MQTTProperty property = {.identifier = texts[i].identifier};
        property.value.data = len_string(text_option(from, texts[i].name));
        MQTTProperties_add(to, &property);
    }
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(from, "userProperties"), key, value)
    {
        MQTTProperty property = {.identifier = MQTTPROPERTY_CODE_USER_PROPERTY};
        property.value.data = len_string(key);
        property.value.value = len_string(json_string_value(value));
        MQTTProperties_add(to, &property);
    }
}

static void publish(const json_t *command)
{
    const json_t *payload = json_object_get(command, "payload");
    MQTTClient_message message = MQTTClient_message_initializer;
    message.payload = (void *)json_string_value(payload);
    message.payloadlen = (int)json_string_length(payload);
    message.qos = (int)json_integer_value(json_object_get(command, "qos"));
    message.retained = json_is_true(json_object_get(command, "retain"));
    MQTTClient_deliveryToken token = 0;
    const char *topic = text_option(command, "topic");
    int code;
    if (version_5) {
        add_properties(json_object_get(command, "properties"), &message.properties);
        MQTTResponse response = MQTTClient_publishMessage5(client, topic, &message, &token);
        code = response.reasonCode;
        MQTTResponse_free(response);
    } else {
        code = MQTTClient_publishMessage(client, topic, &message, &token);
    }
    MQTTProperties_free(&message.properties);
    if (code != MQTTCLIENT_SUCCESS)
        fail("publish", code);
    if (message.qos > 0)
        wait_delivered(token);
    say(json_pack("{ss ss sO}", "event", "published", "topic", topic, "payload", payload));
}

static void end(const json_t *command)
{
    (void)command;
    int code = version_5 ? MQTTClient_disconnect5(client, ANSWER_MS, MQTTREASONCODE_SUCCESS, NULL)
                         : MQTTClient_disconnect(client, ANSWER_MS);
    if (code != MQTTCLIENT_SUCCESS)
        fail("disconnect", code);
    _exit(0);
}

/* The connection ends without DISCONNECT. */
static void destroy(const json_t *command)
{
    (void)command;
    _exit(0);
}

static void obey(const char *line)
{
    static const struct {
        const char *name;
        void (*run)(const json_t *command);
    } commands[] = {{"subscribe", subscribe}, {"publish", publish}, {"end", end}, {"destroy", destroy}};
    json_t *command = json_loads(line, 0, NULL);
    const char *name = text_option(command, "do");
    for (size_t i = 0; name != NULL && i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(name, commands[i].name) == 0) {
            commands[i].run(command);
            json_decref(command);
            return;
        }
    fail("no such command", 0);
}

int main(int count, char **arguments)
{
    json_t *options = count == 2 ? json_loads(arguments[1], 0, NULL) : NULL;
    if (options == NULL) {
        fprintf(stderr, "usage: shoal-paho-client OPTIONS-AS-JSON\n");
        return 2;
    }
    begin(options);
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, stdin) > 0)
        obey(line);
    _exit(0); /* whoever drove it has gone */
}
