/*
 * The shared BIO and its buffers. One BIO serves all connections of a worker because only one of them is in
 * OpenSSL at a time: it saves each connection the BIO, its lock and its buffers. OpenSSL pushes a buffering
 * BIO of the connection in front of it during a handshake; that touches only the (unused) back pointer in
 * here.
 */
#include "shared/transport_bio.h"

#include "shared/transport_tls.h"

#include <assert.h>
#include <errno.h>
#include <openssl/bio.h>
#include <stdlib.h>
#include <sys/socket.h>

bool transport_bio_receive(struct transport_scratch *scratch)
{
    if (scratch->in_limit > scratch->in_size) {
        ssize_t got;
        do
            got = recv(scratch->current->fd, scratch->in + scratch->in_size,
                scratch->in_limit - scratch->in_size, 0);
        while (got < 0 && errno == EINTR);
        if (got > 0)
            scratch->in_size += (size_t)got;
        else if (got == 0)
            scratch->in_ended = true;
        else if (errno != EAGAIN && errno != EWOULDBLOCK)
            scratch->in_error = errno;
        scratch->in_limit = 0;
    }
    return scratch->in_start < scratch->in_size;
}

static int on_bio_read(BIO *bio, char *to, int size)
{
    struct transport_scratch *scratch = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (scratch->in_start == scratch->in_size && !transport_bio_receive(scratch)) {
        if (scratch->in_ended)
            return 0;
        if (scratch->in_error == 0)
            BIO_set_retry_read(bio);
        return -1;
    }
    size_t available = scratch->in_size - scratch->in_start;
    size_t taken = (size_t)size < available ? (size_t)size : available;
    memcpy(to, scratch->in + scratch->in_start, taken);
    scratch->in_start += taken;
    return (int)taken;
}

static int on_bio_write(BIO *bio, const char *from, int size)
{
    struct transport_scratch *scratch = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    size_t room = sizeof scratch->out - scratch->out_size;
    size_t taken = (size_t)size < room ? (size_t)size : room;
    if (taken == 0) {
        BIO_set_retry_write(bio);
        return -1;
    }
    memcpy(scratch->out + scratch->out_size, from, taken);
    scratch->out_size += taken;
    return (int)taken;
}

/* BIO_CTRL_EOF is not answered: the end of the stream is then no error of OpenSSL's, to which it would send
   an alert. */
static long on_bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static enum status make_bio(struct transport_scratch *scratch)
{
    scratch->method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "shoal transport");
    if (!scratch->method || !BIO_meth_set_read(scratch->method, on_bio_read) ||
        !BIO_meth_set_write(scratch->method, on_bio_write) ||
        !BIO_meth_set_ctrl(scratch->method, on_bio_ctrl))
        return STATUS_NO_MEMORY;
    scratch->bio = BIO_new(scratch->method);
    if (!scratch->bio)
        return STATUS_NO_MEMORY;
    BIO_set_data(scratch->bio, scratch);
    BIO_set_init(scratch->bio, 1);
    return STATUS_OK;
}

enum status transport_scratch_new(struct transport_scratch **ret_scratch)
{
    struct transport_scratch *scratch = calloc(1, sizeof *scratch);
    if (!scratch)
        return STATUS_NO_MEMORY;
    enum status status = make_bio(scratch);
    if (status != STATUS_OK)
        transport_scratch_free(&scratch);
    else
        *ret_scratch = scratch;
    return status;
}

void transport_scratch_free(struct transport_scratch **scratch)
{
    if (!*scratch)
        return;
    transport_settle_done(*scratch);
    BIO_free((*scratch)->bio);
    BIO_meth_free((*scratch)->method);
    free(*scratch);
    *scratch = NULL;
}

void transport_bio_begin(struct transport *transport, size_t in_limit)
{
    struct transport_scratch *scratch = transport->scratch;
    assert(scratch->current == NULL);
    scratch->current = transport;
    scratch->in_limit = in_limit < sizeof scratch->in ? in_limit : sizeof scratch->in;
    scratch->in_start = scratch->in_size = scratch->out_size = 0;
    scratch->in_ended = false;
    scratch->in_error = 0;
    struct transport_rest *kept = transport->input;
    if (kept) {
        scratch->in_size = kept->size;
        memcpy(scratch->in, kept->data, kept->size);
        free(kept);
        transport->input = NULL;
    }
}

enum status transport_rest_keep(struct transport_rest **block, const uint8_t *from, size_t size)
{
    struct transport_rest *old = *block;
    size_t start = old ? old->start : 0;
    size_t before = old ? old->size - start : 0;
    struct transport_rest *grown = malloc(sizeof *grown + before + size);
    if (!grown)
        return STATUS_NO_MEMORY;
    grown->start = 0;
    grown->size = before + size;
    if (before > 0)
        memcpy(grown->data, old->data + start, before);
    memcpy(grown->data + before, from, size);
    free(old);
    *block = grown;
    return STATUS_OK;
}

enum status transport_bio_end(struct transport_scratch *scratch)
{
    struct transport *transport = scratch->current;
    scratch->current = NULL;
    assert(scratch->out_size == 0);
    if (scratch->in_start == scratch->in_size)
        return STATUS_OK;
    return transport_rest_keep(
        &transport->input, scratch->in + scratch->in_start, scratch->in_size - scratch->in_start);
}

/* What the kernel takes now: *ret_sent, 0 if it takes nothing. */
static enum status send_some(struct transport *transport, const uint8_t *from, size_t size, size_t *ret_sent)
{
    ssize_t sent;
    do
        sent = send(transport->fd, from, size, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        enum status status = transport_socket_status(transport);
        if (status != STATUS_AGAIN)
            return status;
        sent = 0;
    }
    *ret_sent = (size_t)sent;
    return STATUS_OK;
}

enum status transport_bio_send_kept(struct transport *transport)
{
    struct transport_rest *kept = transport->output;
    if (!kept)
        return STATUS_OK;
    size_t sent = 0;
    enum status status = send_some(transport, kept->data + kept->start, kept->size - kept->start, &sent);
    if (status != STATUS_OK)
        return status;
    kept->start += sent;
    if (kept->start < kept->size)
        return STATUS_AGAIN;
    free(kept);
    transport->output = NULL;
    return STATUS_OK;
}

enum status transport_bio_send(struct transport_scratch *scratch)
{
    struct transport *transport = scratch->current;
    size_t size = scratch->out_size;
    size_t sent = 0;
    if (size == 0)
        return transport->output ? STATUS_AGAIN : STATUS_OK;
    scratch->out_size = 0;
    enum status status = transport_bio_send_kept(transport);
    if (status != STATUS_OK && status != STATUS_AGAIN)
        return status;
    if (status == STATUS_OK) {
        status = send_some(transport, scratch->out, size, &sent);
        if (status != STATUS_OK || sent == size)
            return status;
    }
    const struct transport_rest *kept = transport->output;
    if (kept && kept->size - kept->start + size - sent > TRANSPORT_KEPT_MAX)
        return STATUS_LIMIT;
    status = transport_rest_keep(&transport->output, scratch->out + sent, size - sent);
    return status == STATUS_OK ? STATUS_AGAIN : status;
}
