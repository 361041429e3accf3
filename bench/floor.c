/*
 * The relay without broker logic. It trusts its clients: they are shoal-bench's own. One process, epoll; a
 * packet is copied once per delivery; what a connection got in a turn is written at the end of the turn.
 */
#include "bench/floor.h"

#include "shared/bytes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE 65536
#define TOPICS    4096 /* buckets */
#define EVENTS    512

struct relay_client {
    int fd;
    SSL *ssl; /* NULL: plain */
    bool dirty, writing, closing;
    uint8_t version;
    uint16_t next_id;
    uint8_t *in; /* an incomplete packet */
    size_t in_size;
    uint8_t *out;
    size_t out_size, out_sent, out_capacity;
    struct relay_client *next_dirty;
};

struct relay_topic {
    struct relay_topic *next;
    struct relay_client **subscribers;
    size_t count, capacity;
    size_t size;
    uint8_t name[];
};

struct relay {
    int epoll;
    int listener;
    SSL_CTX *context;
    struct relay_client *dirty;
    struct relay_topic *topics[TOPICS];
    uint8_t scratch[READ_SIZE * 2];
};

static struct relay_topic *topic_find(struct relay *relay, const uint8_t *name, size_t size, bool make)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ name[i]) * 16777619u;
    struct relay_topic **bucket = &relay->topics[hash % TOPICS];
    for (struct relay_topic *topic = *bucket; topic != NULL; topic = topic->next) {
        if (topic->size == size && memcmp(topic->name, name, size) == 0)
            return topic;
    }
    if (!make)
        return NULL;
    struct relay_topic *topic = calloc(1, sizeof *topic + size);
    topic->size = size;
    memcpy(topic->name, name, size);
    topic->next = *bucket;
    return *bucket = topic;
}

static uint8_t *put(struct relay *relay, struct relay_client *client, size_t size)
{
    if (client->out_size + size > client->out_capacity) {
        client->out_capacity = (client->out_size + size) * 2 + 4096;
        client->out = realloc(client->out, client->out_capacity);
    }
    if (!client->dirty) {
        client->dirty = true;
        client->next_dirty = relay->dirty;
        relay->dirty = client;
    }
    uint8_t *to = client->out + client->out_size;
    client->out_size += size;
    return to;
}

static void put_acknowledgement(
    struct relay *relay, struct relay_client *client, uint8_t type, const uint8_t *id)
{
    uint8_t *to = put(relay, client, 4);
    to[0] = type;
    to[1] = 2;
    to[2] = id[0];
    to[3] = id[1];
}

static void on_publish(
    struct relay *relay, struct relay_client *client, const uint8_t *packet, size_t head, size_t size)
{
    uint8_t qos = (packet[0] >> 1) & 3;
    size_t topic_size = get_u16_be(packet + head);
    const uint8_t *id = packet + head + 2 + topic_size;
    if (qos == 1)
        put_acknowledgement(relay, client, 0x40, id);
    if (qos == 2)
        put_acknowledgement(relay, client, 0x50, id);
    struct relay_topic *topic = topic_find(relay, packet + head + 2, topic_size, false);
    for (size_t i = 0; topic != NULL && i < topic->count; i++) {
        struct relay_client *subscriber = topic->subscribers[i];
        uint8_t *to = put(relay, subscriber, size);
        memcpy(to, packet, size);
        if (qos > 0) {
            if (++subscriber->next_id == 0)
                subscriber->next_id = 1;
            put_u16_be(to + head + 2 + topic_size, subscriber->next_id);
        }
    }
}

static void on_subscribe(struct relay *relay, struct relay_client *client, const uint8_t *body, size_t size)
{
    size_t at = 2;
    if (client->version == 5)
        at += 1u + body[2]; /* shoal-bench sends no long properties */
    size_t topic_size = get_u16_be(body + at);
    struct relay_topic *topic = topic_find(relay, body + at + 2, topic_size, true);
    if (topic->count == topic->capacity) {
        topic->capacity = topic->capacity * 2 + 4;
        topic->subscribers = realloc(topic->subscribers, topic->capacity * sizeof(struct relay_client *));
    }
    topic->subscribers[topic->count++] = client;
    uint8_t qos = body[size - 1] & 3;
    size_t answer = client->version == 5 ? 6 : 5;
    uint8_t *to = put(relay, client, answer);
    to[0] = 0x90;
    to[1] = (uint8_t)(answer - 2);
    to[2] = body[0];
    to[3] = body[1];
    to[4] = 0;
    to[answer - 1] = qos;
}

static void on_connect(struct relay *relay, struct relay_client *client, const uint8_t *body)
{
    client->version = body[6];
    size_t answer = client->version == 5 ? 5 : 4;
    uint8_t *to = put(relay, client, answer);
    memset(to, 0, answer);
    to[0] = 0x20;
    to[1] = (uint8_t)(answer - 2);
}

static void on_packet(
    struct relay *relay, struct relay_client *client, const uint8_t *packet, size_t head, size_t size)
{
    switch (packet[0] >> 4) {
    case 1:
        on_connect(relay, client, packet + head);
        break;
    case 3:
        on_publish(relay, client, packet, head, size);
        break;
    case 5:
        put_acknowledgement(relay, client, 0x62, packet + head);
        break;
    case 6:
        put_acknowledgement(relay, client, 0x70, packet + head);
        break;
    case 8:
        on_subscribe(relay, client, packet + head, size - head);
        break;
    case 12: {
        uint8_t *to = put(relay, client, 2);
        to[0] = 0xd0;
        to[1] = 0;
        break;
    }
    case 14:
        client->closing = true;
        break;
    default: /* PUBACK and PUBCOMP of subscribers: nothing to do */
        break;
    }
}

/* Whole packets at the start of the bytes; returns the size used. */
static size_t on_bytes(struct relay *relay, struct relay_client *client, const uint8_t *data, size_t size)
{
    size_t used = 0;
    while (size - used >= 2) {
        size_t remaining = 0, head = 1;
        unsigned shift = 0;
        bool whole = false;
        while (head < size - used && head < 5) {
            uint8_t byte = data[used + head++];
            remaining |= (size_t)(byte & 0x7f) << shift;
            shift += 7;
            if ((byte & 0x80) == 0) {
                whole = true;
                break;
            }
        }
        if (!whole || size - used < head + remaining)
            break;
        on_packet(relay, client, data + used, head, head + remaining);
        used += head + remaining;
    }
    return used;
}

static ssize_t client_read(struct relay_client *client, uint8_t *to, size_t size)
{
    if (client->ssl == NULL)
        return read(client->fd, to, size);
    size_t got = 0;
    while (got < size) {
        int n = SSL_read(client->ssl, to + got, (int)(size - got));
        if (n > 0) {
            got += (size_t)n;
            continue;
        }
        int error = SSL_get_error(client->ssl, n);
        if (got == 0 && error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
            return 0;
        break;
    }
    errno = EAGAIN;
    return got > 0 ? (ssize_t)got : -1;
}

static ssize_t client_write(struct relay_client *client, const uint8_t *from, size_t size)
{
    if (client->ssl == NULL)
        return write(client->fd, from, size);
    size_t done = 0;
    while (done < size) {
        int n = SSL_write(client->ssl, from + done, (int)(size - done));
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    errno = EAGAIN;
    return done > 0 ? (ssize_t)done : -1;
}

static void client_free(struct relay *relay, struct relay_client *client)
{
    for (size_t i = 0; i < TOPICS; i++) {
        for (struct relay_topic *topic = relay->topics[i]; topic != NULL; topic = topic->next) {
            for (size_t k = 0; k < topic->count; k++) {
                if (topic->subscribers[k] == client)
                    topic->subscribers[k--] = topic->subscribers[--topic->count];
            }
        }
    }
    SSL_free(client->ssl);
    close(client->fd);
    free(client->in);
    free(client->out);
    free(client);
}

static void watch(struct relay *relay, struct relay_client *client, bool writing)
{
    if (client->writing == writing)
        return;
    client->writing = writing;
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = client};
    epoll_ctl(relay->epoll, EPOLL_CTL_MOD, client->fd, &event);
}

static void client_flush(struct relay *relay, struct relay_client *client)
{
    while (client->out_sent < client->out_size) {
        ssize_t n = client_write(client, client->out + client->out_sent, client->out_size - client->out_sent);
        if (n <= 0) {
            if (errno != EAGAIN)
                client->closing = true;
            break;
        }
        client->out_sent += (size_t)n;
    }
    bool left = client->out_sent < client->out_size;
    if (!left)
        client->out_size = client->out_sent = 0;
    watch(relay, client, left);
}

static void client_readable(struct relay *relay, struct relay_client *client)
{
    memcpy(relay->scratch, client->in == NULL ? relay->scratch : client->in, client->in_size);
    ssize_t n = client_read(client, relay->scratch + client->in_size, READ_SIZE);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        client->closing = true;
        return;
    }
    if (n < 0)
        return;
    size_t size = client->in_size + (size_t)n;
    size_t used = on_bytes(relay, client, relay->scratch, size);
    free(client->in);
    client->in = NULL;
    client->in_size = size - used;
    if (client->in_size > 0) {
        client->in = malloc(client->in_size);
        memcpy(client->in, relay->scratch + used, client->in_size);
    }
}

static void accept_clients(struct relay *relay)
{
    int fd;
    while ((fd = accept4(relay->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct relay_client *client = calloc(1, sizeof *client);
        client->fd = fd;
        if (relay->context != NULL) {
            client->ssl = SSL_new(relay->context);
            SSL_set_fd(client->ssl, fd);
            SSL_set_accept_state(client->ssl);
        }
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
        epoll_ctl(relay->epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

static void relay_turn(struct relay *relay)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(relay->epoll, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
        struct relay_client *client = events[i].data.ptr;
        if (client == NULL) {
            accept_clients(relay);
            continue;
        }
        if (events[i].events & EPOLLOUT)
            client_flush(relay, client);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            client_readable(relay, client);
    }
    while (relay->dirty != NULL) {
        struct relay_client *client = relay->dirty;
        relay->dirty = client->next_dirty;
        client->dirty = false;
        client_flush(relay, client);
    }
    ERR_clear_error();
    for (int i = 0; i < count; i++) {
        struct relay_client *client = events[i].data.ptr;
        if (client != NULL && client->closing)
            client_free(relay, client);
    }
}

void floor_run(int listen_fd, const struct tls_files *tls)
{
    static struct relay relay;
    signal(SIGPIPE, SIG_IGN);
    relay.listener = listen_fd;
    relay.epoll = epoll_create1(EPOLL_CLOEXEC);
    relay.context = tls == NULL ? NULL : tls_server_context(tls);
    if (relay.epoll < 0 || (tls != NULL && relay.context == NULL)) {
        fprintf(stderr, "shoal-bench: the floor cannot start\n");
        _exit(3);
    }
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(relay.epoll, EPOLL_CTL_ADD, listen_fd, &event);
    for (;;)
        relay_turn(&relay);
}

static int listen_somewhere(uint16_t *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, 4096) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &size) == 0) {
        *ret_port = ntohs(address.sin_port);
        return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

pid_t floor_start(const struct tls_files *tls, uint16_t *ret_port)
{
    int fd = listen_somewhere(ret_port);
    if (fd < 0)
        return -1;
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(0);
        floor_run(fd, tls);
    }
    close(fd);
    return pid;
}
