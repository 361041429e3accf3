/*
 * The WebSocket layer of a connection. Workers.
 * What it owes the client besides the caller's bytes (the answer to the opening request, pongs, the close
 * frame) goes out at once if the kernel takes it, else waits in `owed`; never inside of a data frame that has
 * begun. Each MQTT packet has a data frame of its own: a frame may hold several [MQTT-6.0.0-2], but Paho's
 * client for C and some for browsers then see the first one only. A data frame whose payload the kernel took
 * in part goes on with the next write: `announced` bytes are still to come, and the caller offers them first
 * (transport.h).
 */
#include "shared/transport_websocket.h"

#include "shared/transport_bio.h"
#include "shared/transport_tls.h"
#include "shared/websocket_batch.h"

#include <assert.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <sys/socket.h>

enum websocket_state {
    STATE_BELOW,   /* from init until the handshake below (TLS) is done */
    STATE_REQUEST, /* until the opening request has come and is answered */
    STATE_OPEN,    /* until either side ends it */
    STATE_ENDED,   /* the client's close frame came, and is answered: nothing more may be sent */
    STATE_BROKEN,  /* the client broke the protocol, `fault` says how; what waits may still be sent */
    STATE_REFUSED, /* the opening request was refused */
    STATE_GOODBYE, /* our close frame was sent */
};

#define PIECES_MAX 32 /* of one frame, its header included */
/* Under TLS the header shares a record with the payload's beginning: that needs a copy. */
#define STAGE_SIZE TRANSPORT_RECORD_SIZE
/* Pongs owed to a client that pings and does not read; more are not answered. */
#define OWED_MAX 1024

struct transport_websocket {
    const struct transport_ops *below;
    const struct websocket_settings *settings; /* borrowed */
    struct websocket_frames *frames;           /* borrowed */
    struct websocket_incoming incoming;
    struct transport_rest *early; /* owned: the opening request so far, or frames that came along with it */
    struct transport_rest *owed;  /* owned: bytes of ours that the kernel did not take */
    uint64_t announced;           /* payload of a begun data frame that was not taken yet */
    struct websocket_fault fault; /* STATE_BROKEN */
    uint8_t state;                /* enum websocket_state */
    uint8_t header_size, header_sent;
    uint8_t header[WEBSOCKET_HEADER_MAX]; /* of the begun data frame */
};

static void set_failure(const struct transport_websocket *websocket, enum tls_failure_cause cause,
    struct tls_failure *ret_failure)
{
    tls_failure_set(ret_failure, cause, "%s", websocket->fault.text ? websocket->fault.text : "");
}

/* What is owed
 * ---------------------------------------------------------------------------------------------- */

/* Sends what is owed. STATUS_AGAIN: some is left. */
static enum status send_owed(struct transport *transport)
{
    struct transport_websocket *websocket = transport->websocket;
    struct transport_rest *owed = websocket->owed;
    if (owed == NULL)
        return STATUS_OK;
    if (websocket->announced > 0)
        return STATUS_AGAIN;
    struct iovec piece = {owed->data + owed->start, owed->size - owed->start};
    size_t taken = 0;
    enum status status = websocket->below->writev(transport, &piece, 1, &taken);
    if (status != STATUS_OK)
        return status;
    owed->start += taken;
    if (owed->start < owed->size)
        return STATUS_AGAIN;
    free(owed);
    websocket->owed = NULL;
    return STATUS_OK;
}

/* Bytes of ours, to be sent as soon as may be. */
static enum status owe(struct transport *transport, const void *bytes, size_t size)
{
    enum status status = transport_rest_keep(&transport->websocket->owed, bytes, size);
    return status == STATUS_OK ? send_owed(transport) : status;
}

/* Whether it went out or waits, or the connection is broken, the next call will tell. */
static void send_control(struct transport *transport, enum websocket_opcode opcode, struct bytes payload)
{
    struct transport_websocket *websocket = transport->websocket;
    uint8_t frame[WEBSOCKET_HEADER_MAX + WEBSOCKET_CONTROL_MAX];
    const struct transport_rest *owed = websocket->owed;
    if (owed != NULL && owed->size - owed->start > OWED_MAX)
        return;
    size_t size = websocket_put_header(websocket->frames, opcode, payload.size, frame);
    if (payload.size > 0)
        memcpy(frame + size, payload.data, payload.size);
    size += payload.size;
    if (owed == NULL && websocket->announced == 0) { /* the usual way, without a block */
        struct iovec piece = {frame, size};
        size_t taken = 0;
        if (websocket->below->writev(transport, &piece, 1, &taken) != STATUS_OK || taken == size)
            return;
        (void)!transport_rest_keep(&websocket->owed, frame + taken, size - taken);
        return;
    }
    (void)!owe(transport, frame, size);
}

static void send_close(struct transport *transport, enum websocket_code code)
{
    uint8_t payload[2];
    put_u16_be(payload, (uint16_t)code);
    send_control(transport, WEBSOCKET_CLOSE, bytes_of(payload, sizeof payload));
}

/* Opening
 * --------------------------------------------------------------------------------------------------- */

static enum status refuse_request(
    struct transport *transport, const struct websocket_refusal *refusal, struct tls_failure *ret_failure)
{
    char answer[WEBSOCKET_ANSWER_MAX];
    size_t size = websocket_upgrade_refuse(refusal, answer);
    transport->websocket->state = STATE_REFUSED;
    if (size > 0)
        (void)!owe(transport, answer, size);
    if (refusal->http_status != 0)
        tls_failure_set(ret_failure, TLS_FAILURE_UPGRADE, "%u: %s", refusal->http_status, refusal->text);
    else
        tls_failure_set(ret_failure, TLS_FAILURE_UPGRADE, "%s", refusal->text);
    return STATUS_PROTOCOL;
}

/* Answers the request at the start of `input`, or keeps it until it is whole. */
static enum status take_request(
    struct transport *transport, struct bytes input, struct tls_failure *ret_failure)
{
    struct transport_websocket *websocket = transport->websocket;
    struct websocket_upgrade upgrade;
    struct websocket_refusal refusal = {500, "out of memory"};
    char answer[WEBSOCKET_ANSWER_MAX];
    enum status status = websocket_upgrade_parse(input, &websocket->settings->rules, &upgrade, &refusal);
    if (status == STATUS_OK)
        input = bytes_of(input.data + upgrade.size, input.size - upgrade.size);
    if ((status == STATUS_OK || status == STATUS_AGAIN) && input.size > 0 &&
        transport_rest_keep(&websocket->early, input.data, input.size) != STATUS_OK)
        status = STATUS_REFUSED;
    if (status == STATUS_REFUSED)
        return refuse_request(transport, &refusal, ret_failure);
    if (status != STATUS_OK)
        return status;
    websocket->state = STATE_OPEN;
    status = owe(transport, answer, websocket_upgrade_answer(&upgrade, answer));
    if (status == STATUS_OK || status == STATUS_AGAIN)
        return STATUS_OK;
    websocket->below->failure(transport, ret_failure);
    return status;
}

/* One read, behind what came before. */
static enum status read_request(struct transport *transport, struct tls_failure *ret_failure)
{
    struct transport_websocket *websocket = transport->websocket;
    uint8_t input[WEBSOCKET_UPGRADE_MAX + TRANSPORT_READ_MIN];
    size_t before = websocket->early ? websocket->early->size : 0;
    size_t size = 0;
    assert(before < WEBSOCKET_UPGRADE_MAX);
    enum status status =
        websocket->below->read(transport, input + before, sizeof input - WEBSOCKET_UPGRADE_MAX, &size);
    if (status == STATUS_CLOSED)
        tls_failure_set(ret_failure, TLS_FAILURE_CLIENT_GONE, "%s", "before the opening request was whole");
    else if (status != STATUS_OK && status != STATUS_AGAIN)
        websocket->below->failure(transport, ret_failure);
    if (status != STATUS_OK)
        return status;
    if (before > 0)
        memcpy(input, websocket->early->data, before);
    free(websocket->early);
    websocket->early = NULL;
    return take_request(transport, bytes_of(input, before + size), ret_failure);
}

static enum status websocket_handshake(struct transport *transport, struct tls_failure *ret_failure)
{
    struct transport_websocket *websocket = transport->websocket;
    enum status status;
    if (websocket->state == STATE_BELOW) {
        status = websocket->below->handshake(transport, ret_failure);
        if (status != STATUS_OK)
            return status;
        websocket->state = STATE_REQUEST;
    } else {
        status = websocket->below->flush(transport); /* the end of the handshake below */
        if (status != STATUS_OK && status != STATUS_AGAIN) {
            websocket->below->failure(transport, ret_failure);
            return status;
        }
    }
    return read_request(transport, ret_failure);
}

/* Reading
 * --------------------------------------------------------------------------------------------------- */

static void on_control(void *context, enum websocket_opcode opcode, struct bytes payload)
{
    struct transport *transport = context;
    struct transport_websocket *websocket = transport->websocket;
    if (opcode == WEBSOCKET_PING)
        send_control(transport, WEBSOCKET_PONG, payload);
    else if (opcode == WEBSOCKET_CLOSE && websocket->announced == 0)
        send_control(transport, WEBSOCKET_CLOSE, bytes_of(payload.data, payload.size < 2 ? 0 : 2));
}

static enum status read_below(struct transport *transport, uint8_t *to, size_t size, size_t *ret_size)
{
    struct transport_rest *early = transport->websocket->early;
    if (early == NULL)
        return transport->websocket->below->read(transport, to, size, ret_size);
    assert(early->size <= size);
    *ret_size = early->size;
    memcpy(to, early->data, early->size);
    free(early);
    transport->websocket->early = NULL;
    return STATUS_OK;
}

static enum status websocket_read(struct transport *transport, uint8_t *to, size_t size, size_t *ret_size)
{
    struct transport_websocket *websocket = transport->websocket;
    size_t got = 0;
    if (websocket->state != STATE_OPEN)
        return websocket->state == STATE_BROKEN ? STATUS_PROTOCOL : STATUS_CLOSED;
    enum status status = read_below(transport, to, size, &got);
    if (status != STATUS_OK)
        return status;
    status = websocket_receive(websocket->frames, &websocket->incoming, websocket->settings->max_message_size,
        to, got, on_control, transport, &got, &websocket->fault);
    if (status == STATUS_CLOSED)
        websocket->state = STATE_ENDED;
    else if (status != STATUS_OK)
        websocket->state = STATE_BROKEN;
    if (got == 0)
        return status == STATUS_OK ? STATUS_AGAIN : status;
    /* The bytes first. The socket stays readable, so that the caller comes back for the end of the stream. */
    if (status != STATUS_OK)
        shutdown(transport->fd, SHUT_RD);
    *ret_size = got;
    return STATUS_OK;
}

/* Writing
 * --------------------------------------------------------------------------------------------------- */

static size_t total_of(const struct iovec *pieces, int count)
{
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += pieces[i].iov_len;
    return total;
}

/* Books what the layer below took of a frame; returns how much of that was the caller's. */
static size_t frame_taken(struct transport_websocket *websocket, size_t taken)
{
    if (taken == 0 && websocket->header_sent == 0 && websocket->header_size > 0) {
        websocket->announced = websocket->header_size = 0; /* not begun: the next may be larger */
        return 0;
    }
    size_t header = (size_t)(websocket->header_size - websocket->header_sent);
    if (taken < header) {
        websocket->header_sent = (uint8_t)(websocket->header_sent + taken);
        return 0;
    }
    websocket->header_size = websocket->header_sent = 0;
    websocket->announced -= taken - header;
    return taken - header;
}

/* Books what the layer below took of a batch; returns how much of that was the caller's. */
static size_t batch_taken(
    struct transport_websocket *websocket, const struct websocket_batch *batch, size_t taken)
{
    const uint8_t *at = batch->bytes;
    size_t payload = 0;
    for (unsigned i = 0; i < batch->count && taken > 0; i++) {
        size_t header_size = batch->frames[i].header_size, payload_size = batch->frames[i].payload_size;
        if (taken < header_size + payload_size) { /* begun: goes on with the next write */
            memcpy(websocket->header, at, header_size);
            websocket->header_size = (uint8_t)header_size;
            websocket->header_sent = 0;
            websocket->announced = payload_size;
            return payload + frame_taken(websocket, taken);
        }
        payload += payload_size;
        taken -= header_size + payload_size;
        at += header_size + payload_size;
    }
    return payload;
}

static enum status write_batch(
    struct transport *transport, const struct websocket_batch *batch, size_t *ret_taken, bool *ret_whole)
{
    struct iovec piece = {(uint8_t *)batch->bytes, batch->size};
    size_t taken = 0;
    enum status status = transport->websocket->below->writev(transport, &piece, 1, &taken);
    if (status != STATUS_OK)
        return status;
    *ret_taken = batch_taken(transport->websocket, batch, taken);
    *ret_whole = taken == batch->size;
    return STATUS_OK;
}

/* Copies the beginning of the frame into one piece, so that it makes one TLS record. */
static int stage_pieces(struct iovec *pieces, int count, uint8_t stage[STAGE_SIZE])
{
    size_t size = 0;
    int used = 0;
    while (used < count && size < STAGE_SIZE) {
        size_t part = STAGE_SIZE - size < pieces[used].iov_len ? STAGE_SIZE - size : pieces[used].iov_len;
        memcpy(stage + size, pieces[used].iov_base, part);
        size += part;
        if (part < pieces[used].iov_len) {
            pieces[used].iov_base = (uint8_t *)pieces[used].iov_base + part;
            pieces[used].iov_len -= part;
            break;
        }
        used++;
    }
    memmove(pieces + 1, pieces + used, (size_t)(count - used) * sizeof *pieces);
    pieces[0] = (struct iovec){stage, size};
    return 1 + count - used;
}

/* Writes one packet's frame, or the rest of the begun one, as far as it is here, with one call. *ret_whole:
   the kernel took all of that. */
static enum status write_frame(
    struct transport *transport, const struct websocket_source *source, size_t *ret_taken, bool *ret_whole)
{
    struct transport_websocket *websocket = transport->websocket;
    struct iovec pieces[PIECES_MAX + 1];
    uint8_t stage[STAGE_SIZE];
    bool begins = websocket->announced == 0;
    if (begins) {
        uint64_t size = websocket_packet_size(source);
        websocket->announced = size > 0 ? size : websocket_source_size(source);
    }
    int count = websocket_source_pieces(source, websocket->announced, pieces + 1, PIECES_MAX - 1);
    if (begins) {
        websocket->header_size = (uint8_t)websocket_put_header(
            websocket->frames, WEBSOCKET_BINARY, websocket->announced, websocket->header);
    }
    pieces[0] = (struct iovec){websocket->header + websocket->header_sent,
        (size_t)(websocket->header_size - websocket->header_sent)};
    count++;
    size_t total = total_of(pieces, count);
    if (transport->ssl != NULL && pieces[0].iov_len > 0)
        count = stage_pieces(pieces, count, stage);
    size_t taken = 0;
    enum status status = websocket->below->writev(transport, pieces, count, &taken);
    if (status != STATUS_OK)
        return status;
    *ret_taken = frame_taken(websocket, taken);
    *ret_whole = taken == total;
    return STATUS_OK;
}

static enum status websocket_writev(
    struct transport *transport, const struct iovec *pieces, int count, size_t *ret_taken)
{
    struct transport_websocket *websocket = transport->websocket;
    struct websocket_source source = {.pieces = pieces, .count = count};
    size_t taken = 0;
    bool whole = true;
    if (websocket->state != STATE_OPEN && websocket->state != STATE_BROKEN)
        return STATUS_CLOSED;
    enum status status = STATUS_OK;
    if (websocket->owed != NULL && websocket->announced == 0)
        status = send_owed(transport);
    websocket_source_advance(&source, 0); /* empty pieces */
    while (status == STATUS_OK && whole && source.count > 0) {
        struct websocket_batch batch;
        size_t part = 0;
        batch.count = 0;
        if (websocket->announced == 0)
            websocket_batch_fill(websocket->frames, source, &batch);
        status = batch.count > 0 ? write_batch(transport, &batch, &part, &whole)
                                 : write_frame(transport, &source, &part, &whole);
        websocket_source_advance(&source, part);
        taken += part;
    }
    if (status != STATUS_OK && status != STATUS_AGAIN)
        return status;
    *ret_taken = taken;
    return STATUS_OK;
}

static enum status websocket_flush(struct transport *transport)
{
    enum status status = transport->websocket->below->flush(transport);
    return status == STATUS_OK ? send_owed(transport) : status;
}

/* The end
 * --------------------------------------------------------------------------------------------------- */

static enum status websocket_say_goodbye(struct transport *transport)
{
    struct transport_websocket *websocket = transport->websocket;
    if (websocket->state == STATE_OPEN || websocket->state == STATE_BROKEN) {
        if (websocket->announced == 0)
            send_close(transport, websocket->state == STATE_OPEN ? WEBSOCKET_NORMAL : websocket->fault.code);
        websocket->state = STATE_GOODBYE;
    }
    enum status status = websocket->announced == 0 ? send_owed(transport) : STATUS_OK;
    return status == STATUS_OK ? websocket->below->say_goodbye(transport) : status;
}

static void websocket_failure(const struct transport *transport, struct tls_failure *ret_failure)
{
    const struct transport_websocket *websocket = transport->websocket;
    if (websocket->state == STATE_BROKEN)
        set_failure(websocket, TLS_FAILURE_WEBSOCKET, ret_failure);
    else
        websocket->below->failure(transport, ret_failure);
}

static const struct transport_ops websocket_ops = {
    .handshake = websocket_handshake,
    .read = websocket_read,
    .writev = websocket_writev,
    .flush = websocket_flush,
    .say_goodbye = websocket_say_goodbye,
    .failure = websocket_failure,
};

enum status transport_add_websocket(
    struct transport *transport, const struct websocket_settings *settings, struct websocket_frames *frames)
{
    struct transport_websocket *websocket = calloc(1, sizeof *websocket);
    if (websocket == NULL)
        return STATUS_NO_MEMORY;
    websocket->below = transport->ops;
    websocket->settings = settings;
    websocket->frames = frames;
    transport->websocket = websocket;
    transport->ops = &websocket_ops;
    return STATUS_OK;
}

bool transport_websocket_wants_write(const struct transport *transport)
{
    return transport->websocket->owed != NULL;
}

void transport_websocket_done(struct transport *transport)
{
    struct transport_websocket *websocket = transport->websocket;
    websocket_incoming_done(websocket->frames, &websocket->incoming);
    free(websocket->early);
    free(websocket->owed);
    free(websocket);
    transport->websocket = NULL;
}
