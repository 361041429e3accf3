/*
 * Reading PROXY headers. They are peeked at first, since what follows belongs to TLS or MQTT; what is there
 * of an incomplete one is taken out of the socket at once, or the event loop would find it readable for ever.
 * Worker process.
 */
#include "node/worker_proxy.h"
#include "node/connection.h"
#include "node/worker_context.h"
#include "node/worker_listen.h"

#include "shared/config_address.h"
#include "shared/log.h"
#include "shared/proxy_protocol.h"
#include "shared/tls_peer.h"
#include "shared/topic_name.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

static ssize_t receive(int fd, uint8_t *to, size_t size, int flags)
{
    ssize_t got;
    do
        got = recv(fd, to, size, flags);
    while (got < 0 && errno == EINTR);
    return got;
}

static enum status refuse(const struct connection *connection, const char *why)
{
    log_warning(
        "%s: refused on listener %s: %s; usually: the client is not behind the load balancer, or that "
        "does not send the header (HAProxy: send-proxy-v2)",
        connection_peer(connection), worker_listener_config(connection->listener)->key, why);
    return STATUS_REFUSED;
}

/* A name that can be a user name: no NUL, valid UTF-8. The caller frees it. */
static char *copy_name(struct bytes name)
{
    if (name.size >= TLS_IDENTITY_SIZE || memchr(name.data, '\0', name.size) != NULL || !utf8_valid(name))
        return NULL;
    return strndup((const char *)name.data, name.size);
}

/* The name in the certificate that the proxy has verified, as the listener asks for it. */
static enum status take_identity(struct connection *connection, struct bytes name)
{
    const struct config_listener *listener = worker_listener_config(connection->listener);
    bool user = listener->tls.peer_cert_as_username == CONFIG_PEER_CERT_CN;
    bool client = listener->tls.peer_cert_as_clientid == CONFIG_PEER_CERT_CN;
    if (config_listener_has_tls(listener) || name.size == 0 || !(user || client))
        return STATUS_OK; /* with TLS here, its certificate counts */
    struct connection_identity *identity = calloc(1, sizeof *identity);
    if (identity == NULL)
        return STATUS_NO_MEMORY;
    connection->identity = identity;
    if (user)
        identity->user_name = copy_name(name);
    if (client)
        identity->client_id = copy_name(name);
    if ((user && identity->user_name == NULL) || (client && identity->client_id == NULL))
        return refuse(connection, "the common name in the PROXY header cannot be a user name");
    return STATUS_OK;
}

static enum status take_header(struct connection *connection, const struct proxy_header *header)
{
    const struct config_listener *listener = worker_listener_config(connection->listener);
    char proxy[PEER_TEXT_SIZE];
    peer_address_text(&connection->address, proxy);
    if (header->address.family != AF_UNSPEC)
        connection->address = header->address;
    log_debug("%s: announced by the proxy %s", connection_peer(connection), proxy);
    if (!config_access_allows_address(
            &listener->access, connection->address.family, connection->address.bytes)) {
        log_info(
            "%s: refused by the access rules of listener %s", connection_peer(connection), listener->key);
        return STATUS_REFUSED;
    }
    return take_identity(connection, header->common_name);
}

/* Puts what came so far behind what was kept. */
static enum status keep(struct connection *connection, const uint8_t *from, size_t size)
{
    uint8_t *input = realloc(connection->input, connection->input_size + size);
    if (input == NULL)
        return STATUS_NO_MEMORY;
    memcpy(input + connection->input_size, from, size);
    connection->input = input;
    connection->input_size += (uint32_t)size;
    connection->input_capacity = connection->input_size;
    return STATUS_AGAIN;
}

static void forget_kept(struct connection *connection)
{
    free(connection->input);
    connection->input = NULL;
    connection->input_size = connection->input_capacity = 0;
}

/* Nothing came: is there nothing yet, or never? */
static enum status nothing_came(const struct connection *connection, ssize_t got)
{
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return STATUS_AGAIN;
    log_debug("%s: ended before its PROXY header was whole", connection_peer(connection)); /* health checks */
    return STATUS_CLOSED;
}

enum status worker_proxy_receive(struct connection *connection)
{
    int fd = connection->transport.fd;
    uint8_t input[PROXY_HEADER_MAX];
    size_t before = connection->input_size;
    struct proxy_header header;
    const char *error;
    if (before > 0)
        memcpy(input, connection->input, before);
    ssize_t got = receive(fd, input + before, sizeof input - before, MSG_PEEK);
    if (got <= 0)
        return nothing_came(connection, got);
    enum status status = proxy_protocol_parse(bytes_of(input, before + (size_t)got), &header, &error);
    if (status != STATUS_OK && status != STATUS_AGAIN) {
        connection->worker->counters->proxy_refused++;
        return refuse(connection, error);
    }
    size_t used = status == STATUS_OK ? header.size - before : (size_t)got;
    if (receive(fd, input + before, used, 0) != (ssize_t)used)
        return STATUS_SYSTEM;
    if (status == STATUS_AGAIN)
        return keep(connection, input + before, used);
    forget_kept(connection);
    return take_header(connection, &header);
}
