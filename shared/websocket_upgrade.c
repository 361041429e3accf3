/*
 * The opening handshake of WebSocket, the server's side. Strict where leniency has bitten others: no line
 * folding, no bare line ends, no space before a colon, no body, no field twice that may stand once. Workers;
 * pure.
 */
#include "shared/websocket_upgrade.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <strings.h>

#define KEY_SIZE 24 /* 16 bytes in base64 */

static const char accept_suffix[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 section 1.3 */

enum field {
    FIELD_HOST,
    FIELD_UPGRADE,
    FIELD_CONNECTION,
    FIELD_KEY,
    FIELD_VERSION,
    FIELD_PROTOCOL,
    FIELD_ORIGIN,
    FIELD_LENGTH,
    FIELD_CODING,
    FIELDS,
};

static const struct {
    const char *name;
    bool list; /* may stand several times: the same as one with commas */
} fields[FIELDS] = {
    [FIELD_HOST] = {"Host", false},
    [FIELD_UPGRADE] = {"Upgrade", true},
    [FIELD_CONNECTION] = {"Connection", true},
    [FIELD_KEY] = {"Sec-WebSocket-Key", false},
    [FIELD_VERSION] = {"Sec-WebSocket-Version", false},
    [FIELD_PROTOCOL] = {"Sec-WebSocket-Protocol", true},
    [FIELD_ORIGIN] = {"Origin", false},
    [FIELD_LENGTH] = {"Content-Length", false},
    [FIELD_CODING] = {"Transfer-Encoding", true},
};

static const char *const protocols[] = {"mqtt", "mqttv3.1"}; /* the better ones first */
#define PROTOCOLS (sizeof protocols / sizeof *protocols)

struct request {
    struct bytes method, target, version;
    struct bytes value[FIELDS]; /* the last of its kind; data NULL: absent */
    bool websocket;             /* Upgrade names it */
    bool upgrade;               /* Connection names it */
    bool offered[PROTOCOLS];
};

static enum status refuse(struct websocket_refusal *refusal, unsigned http_status, const char *text)
{
    *refusal = (struct websocket_refusal){http_status, text};
    return STATUS_REFUSED;
}

/* Bytes
 * ----------------------------------------------------------------------------------------------------- */

static bool same_word(struct bytes word, const char *text)
{
    return word.size == strlen(text) && strncasecmp((const char *)word.data, text, word.size) == 0;
}

static bool same_text(struct bytes word, const char *text)
{
    return bytes_equal(word, bytes_of_text(text));
}

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

static struct bytes trim(struct bytes text)
{
    while (text.size > 0 && is_blank(text.data[0]))
        text = bytes_of(text.data + 1, text.size - 1);
    while (text.size > 0 && is_blank(text.data[text.size - 1]))
        text.size--;
    return text;
}

/* Takes what stands before `separator` off the front, and the separator; all of it if there is none. */
static struct bytes take_until(struct bytes *rest, uint8_t separator)
{
    const uint8_t *end = rest->size > 0 ? memchr(rest->data, separator, rest->size) : NULL;
    size_t size = end ? (size_t)(end - rest->data) : rest->size;
    struct bytes taken = bytes_of(rest->data, size);
    size_t used = end ? size + 1 : size;
    *rest = bytes_of(rest->data + used, rest->size - used);
    return taken;
}

/* The next line without its end. False: a CR or LF that ends no line. */
static bool take_line(struct bytes *rest, struct bytes *ret_line)
{
    struct bytes line = take_until(rest, '\n');
    if (line.size == 0 || line.data[line.size - 1] != '\r')
        return false;
    line.size--;
    *ret_line = line;
    return line.size == 0 || memchr(line.data, '\r', line.size) == NULL;
}

/* Calls for each element of a comma-separated list. */
static void for_each_word(
    struct bytes list, struct request *request, void (*on_word)(struct request *request, struct bytes word))
{
    while (list.size > 0)
        on_word(request, trim(take_until(&list, ',')));
}

/* The header as a whole
 * ------------------------------------------------------------------------------------- */

/* What HTTP never holds, known before the request is whole: a client of another protocol would wait. */
static enum status check_bytes(struct bytes input, struct websocket_refusal *refusal)
{
    if (input.size > 0 && input.data[0] == 0x16)
        return refuse(refusal, 0, "TLS on a WebSocket port without TLS");
    if (input.size > 0 && input.data[0] == 0x10)
        return refuse(refusal, 0, "MQTT without WebSocket on a WebSocket port");
    if (input.size > 0 && (input.data[0] < 'A' || input.data[0] > 'Z'))
        return refuse(refusal, 0, "what the client sent is not HTTP");
    for (size_t i = 0; i < input.size; i++) {
        uint8_t byte = input.data[i];
        if ((byte < ' ' && byte != '\r' && byte != '\n' && byte != '\t') || byte == 0x7f)
            return refuse(refusal, 400, "a control character in the request");
    }
    return STATUS_OK;
}

/* Size of the request with the empty line at its end. */
static enum status find_end(struct bytes input, size_t *ret_size, struct websocket_refusal *refusal)
{
    size_t limit = input.size < WEBSOCKET_UPGRADE_MAX ? input.size : WEBSOCKET_UPGRADE_MAX;
    const uint8_t *end = limit > 0 ? memmem(input.data, limit, "\r\n\r\n", 4) : NULL;
    enum status status = check_bytes(bytes_of(input.data, end ? (size_t)(end - input.data) : limit), refusal);
    if (status != STATUS_OK)
        return status;
    if (end == NULL && limit == WEBSOCKET_UPGRADE_MAX)
        return refuse(refusal, 431, "the request's header is longer than 8 KiB");
    if (end == NULL)
        return STATUS_AGAIN;
    *ret_size = (size_t)(end - input.data) + 4;
    return STATUS_OK;
}

/* Fields
 * ---------------------------------------------------------------------------------------------------- */

static void on_upgrade(struct request *request, struct bytes word)
{
    request->websocket = request->websocket || same_word(word, "websocket");
}

static void on_connection(struct request *request, struct bytes word)
{
    request->upgrade = request->upgrade || same_word(word, "upgrade");
}

static void on_protocol(struct request *request, struct bytes word)
{
    for (size_t i = 0; i < PROTOCOLS; i++)
        request->offered[i] = request->offered[i] || same_text(word, protocols[i]);
}

static bool is_token(struct bytes name)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < name.size; i++) {
        uint8_t byte = name.data[i];
        uint8_t lower = byte | 0x20;
        bool plain = (lower >= 'a' && lower <= 'z') || (byte >= '0' && byte <= '9');
        if (!plain && (byte == '\0' || strchr(others, byte) == NULL))
            return false;
    }
    return name.size > 0;
}

static enum status take_field(struct request *request, struct bytes line, struct websocket_refusal *refusal)
{
    struct bytes value = line;
    struct bytes name = take_until(&value, ':');
    if (name.size == line.size || !is_token(name))
        return refuse(refusal, 400, "a malformed header field");
    value = trim(value);
    for (unsigned i = 0; i < FIELDS; i++) {
        if (!same_word(name, fields[i].name))
            continue;
        if (request->value[i].data != NULL && !fields[i].list)
            return refuse(refusal, 400, "a header field twice");
        request->value[i] = value;
        if (i == FIELD_UPGRADE)
            for_each_word(value, request, on_upgrade);
        else if (i == FIELD_CONNECTION)
            for_each_word(value, request, on_connection);
        else if (i == FIELD_PROTOCOL)
            for_each_word(value, request, on_protocol);
    }
    return STATUS_OK;
}

static enum status take_request(
    struct request *request, struct bytes header, struct websocket_refusal *refusal)
{
    struct bytes line;
    if (!take_line(&header, &line))
        return refuse(refusal, 400, "a malformed request line");
    request->method = take_until(&line, ' ');
    request->target = take_until(&line, ' ');
    request->version = line;
    for (;;) {
        if (!take_line(&header, &line))
            return refuse(refusal, 400, "a malformed line end in the header");
        if (line.size == 0)
            return STATUS_OK;
        enum status status = take_field(request, line, refusal);
        if (status != STATUS_OK)
            return status;
    }
}

/* What it asks for
 * ------------------------------------------------------------------------------------------ */

/* The path of "/mqtt?query" or of "https://host/mqtt"; empty if there is none. */
static struct bytes path_of(struct bytes target)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t size = strlen(schemes[i]);
        if (target.size <= size || strncasecmp((const char *)target.data, schemes[i], size) != 0)
            continue;
        const uint8_t *slash = memchr(target.data + size, '/', target.size - size);
        size_t before = slash ? (size_t)(slash - target.data) : target.size;
        target = bytes_of(target.data + before, target.size - before);
    }
    return take_until(&target, '?');
}

static bool origin_is_allowed(const struct websocket_rules *rules, struct bytes origin)
{
    for (size_t i = 0; i < rules->origin_count; i++)
        if (same_word(origin, rules->origins[i]))
            return true;
    return rules->origin_count == 0 || origin.data == NULL;
}

static bool is_key(struct bytes key)
{
    if (key.size != KEY_SIZE || memcmp(key.data + KEY_SIZE - 2, "==", 2) != 0)
        return false;
    for (size_t i = 0; i < KEY_SIZE - 2; i++) {
        uint8_t byte = key.data[i];
        uint8_t lower = byte | 0x20;
        if (!(lower >= 'a' && lower <= 'z') && !(byte >= '0' && byte <= '9') && byte != '+' && byte != '/')
            return false;
    }
    return true;
}

/* The request line, and what HTTP itself demands. */
static enum status check_http(
    const struct request *request, const struct websocket_rules *rules, struct websocket_refusal *refusal)
{
    bool http = request->version.size == 8 && memcmp(request->version.data, "HTTP/", 5) == 0;
    if (!http || request->target.size == 0)
        return refuse(refusal, 400, "a malformed request line");
    if (!same_text(request->version, "HTTP/1.1"))
        return refuse(refusal, 505, "another version of HTTP than 1.1");
    if (!same_text(request->method, "GET"))
        return refuse(refusal, 405, "another method than GET");
    if (request->value[FIELD_HOST].data == NULL)
        return refuse(refusal, 400, "no Host in the request");
    struct bytes length = request->value[FIELD_LENGTH];
    if (request->value[FIELD_CODING].data != NULL || (length.data != NULL && !same_text(length, "0")))
        return refuse(refusal, 400, "a request with a body");
    if (!same_text(path_of(request->target), rules->path))
        return refuse(refusal, 404, "another path than the listener's");
    return STATUS_OK;
}

static enum status check_websocket(
    const struct request *request, const struct websocket_rules *rules, struct websocket_refusal *refusal)
{
    struct bytes version = request->value[FIELD_VERSION];
    if (!request->websocket)
        return refuse(refusal, 426, "an ordinary HTTP request: only MQTT over WebSocket is served here");
    if (!request->upgrade)
        return refuse(refusal, 400, "Connection does not say Upgrade: is there a proxy that drops it?");
    if (version.data == NULL)
        return refuse(refusal, 400, "no Sec-WebSocket-Version");
    if (!same_text(version, "13"))
        return refuse(refusal, 426, "another Sec-WebSocket-Version than 13");
    if (!is_key(request->value[FIELD_KEY]))
        return refuse(refusal, 400, "no Sec-WebSocket-Key of 16 bytes");
    if (!origin_is_allowed(rules, request->value[FIELD_ORIGIN]))
        return refuse(refusal, 403, "an Origin that is not on the listener's list");
    return STATUS_OK;
}

/* [MQTT-6.0.0-3]: the client must offer mqtt; older ones say mqttv3.1. */
static enum status choose_protocol(
    const struct request *request, const char **ret_protocol, struct websocket_refusal *refusal)
{
    for (size_t i = 0; i < PROTOCOLS; i++) {
        if (request->offered[i]) {
            *ret_protocol = protocols[i];
            return STATUS_OK;
        }
    }
    return refuse(refusal, 400, "neither mqtt nor mqttv3.1 in Sec-WebSocket-Protocol");
}

static enum status put_accept(struct bytes key, char accept[29], struct websocket_refusal *refusal)
{
    uint8_t text[KEY_SIZE + sizeof accept_suffix - 1];
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    memcpy(text, key.data, KEY_SIZE);
    memcpy(text + KEY_SIZE, accept_suffix, sizeof accept_suffix - 1);
    if (EVP_Digest(text, sizeof text, digest, &size, EVP_sha1(), NULL) != 1 || size != 20)
        return refuse(refusal, 500, "this machine's OpenSSL has no SHA-1");
    EVP_EncodeBlock((unsigned char *)accept, digest, (int)size);
    return STATUS_OK;
}

enum status websocket_upgrade_parse(struct bytes input, const struct websocket_rules *rules,
    struct websocket_upgrade *ret_upgrade, struct websocket_refusal *ret_refusal)
{
    struct websocket_upgrade upgrade;
    struct request request = {0};
    enum status status = find_end(input, &upgrade.size, ret_refusal);
    if (status != STATUS_OK)
        return status;
    status = take_request(&request, bytes_of(input.data, upgrade.size), ret_refusal);
    if (status == STATUS_OK)
        status = check_http(&request, rules, ret_refusal);
    if (status == STATUS_OK)
        status = check_websocket(&request, rules, ret_refusal);
    if (status == STATUS_OK)
        status = choose_protocol(&request, &upgrade.protocol, ret_refusal);
    if (status == STATUS_OK)
        status = put_accept(request.value[FIELD_KEY], upgrade.accept, ret_refusal);
    if (status == STATUS_OK)
        *ret_upgrade = upgrade;
    return status;
}

/* Answers
 * --------------------------------------------------------------------------------------------------- */

size_t websocket_upgrade_answer(const struct websocket_upgrade *upgrade, char to[WEBSOCKET_ANSWER_MAX])
{
    return (size_t)snprintf(to, WEBSOCKET_ANSWER_MAX,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
        upgrade->accept, upgrade->protocol);
}

static const char *phrase_of(unsigned http_status)
{
    switch (http_status) {
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed\r\nAllow: GET";
    case 426:
        return "Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Bad Request";
    }
}

size_t websocket_upgrade_refuse(const struct websocket_refusal *refusal, char to[WEBSOCKET_ANSWER_MAX])
{
    if (refusal->http_status == 0)
        return 0;
    const char *connection = refusal->http_status == 426 ? "Upgrade, close" : "close";
    return (size_t)snprintf(to, WEBSOCKET_ANSWER_MAX,
        "HTTP/1.1 %u %s\r\nConnection: %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%s\n",
        refusal->http_status, phrase_of(refusal->http_status), connection, strlen(refusal->text) + 1,
        refusal->text);
}
