/*
 * The bytes that a connection owes its client: one contiguous buffer for everything small, payloads above
 * OUTPUT_COPY_MAX by reference between its bytes, one flush per loop turn. Worker process. Never blocks,
 * never frees the connection.
 */
#include "node/connection.h"
#include "node/worker_context.h"

#include <assert.h>
#include <stdlib.h>

/* The first buffer of a turn: enough for a CONNACK or a lone message, so that thousands of clients that get
   one packet each do not take a pool buffer each. */
#define OUTPUT_SMALL 256u

static void buffer_give_back(struct worker *worker, struct output *output)
{
    if (output->capacity == WORKER_BUFFER_SIZE && worker->buffer_count < WORKER_BUFFERS_MAX)
        worker->buffers[worker->buffer_count++] = output->data;
    else
        free(output->data);
    output->data = NULL;
    output->capacity = output->size = output->sent = 0;
}

/* A buffer from the pool instead of the small one that a lone packet gets. */
static bool buffer_from_pool(struct worker *worker, struct output *output)
{
    uint8_t *data =
        worker->buffer_count > 0 ? worker->buffers[--worker->buffer_count] : malloc(WORKER_BUFFER_SIZE);
    if (data == NULL)
        return false;
    if (output->data != NULL) {
        memcpy(data, output->data, output->size);
        free(output->data);
    }
    output->data = data;
    output->capacity = WORKER_BUFFER_SIZE;
    return true;
}

static bool buffer_grow(struct worker *worker, struct output *output, size_t needed)
{
    if (output->data == NULL && needed <= OUTPUT_SMALL) {
        output->data = malloc(OUTPUT_SMALL);
        output->capacity = output->data == NULL ? 0 : OUTPUT_SMALL;
        return output->data != NULL;
    }
    if (output->capacity <= OUTPUT_SMALL && needed <= WORKER_BUFFER_SIZE)
        return buffer_from_pool(worker, output);
    size_t capacity = WORKER_BUFFER_SIZE;
    while (capacity < needed)
        capacity *= 2;
    if (capacity > UINT32_MAX / 2)
        return false;
    uint8_t *data = realloc(output->data, capacity);
    if (data == NULL)
        return false;
    output->data = data;
    output->capacity = (uint32_t)capacity;
    return true;
}

uint8_t *connection_reserve(struct connection *connection, size_t size)
{
    struct output *output = &connection->output;
    size_t needed = output->size + size;
    if (needed > output->capacity && !buffer_grow(connection->worker, output, needed))
        return NULL;
    if (list_empty(&connection->dirty))
        list_append(&connection->worker->dirty, &connection->dirty);
    uint8_t *to = output->data + output->size;
    output->size = (uint32_t)needed;
    output->waiting += size;
    return to;
}

void connection_unreserve(struct connection *connection, size_t size)
{
    assert(connection->output.size - connection->output.sent >= size);
    connection->output.size -= (uint32_t)size;
    connection->output.waiting -= size;
}

/* Room for one more segment. */
static bool segments_grow(struct output *output)
{
    struct output_segments *segments = output->segments;
    if (segments != NULL && segments->count < segments->capacity)
        return true;
    uint32_t capacity = segments == NULL ? 8 : segments->capacity * 2;
    bool fresh = segments == NULL;
    segments = realloc(segments, sizeof *segments + capacity * sizeof segments->array[0]);
    if (segments == NULL)
        return false;
    if (fresh)
        segments->count = segments->first = 0;
    segments->capacity = capacity;
    output->segments = segments;
    return true;
}

enum status connection_append_payload(struct connection *connection, struct publication *publication)
{
    struct output *output = &connection->output;
    if (!segments_grow(output))
        return STATUS_NO_MEMORY;
    output->segments->array[output->segments->count++] = (struct output_segment){
        .position = output->size, .sent = 0, .publication = publication_ref(publication)};
    output->waiting += publication->payload_size;
    return STATUS_OK;
}

void output_clear(struct worker *worker, struct output *output)
{
    struct output_segments *segments = output->segments;
    for (uint32_t i = segments == NULL ? 0 : segments->first; segments != NULL && i < segments->count; i++)
        publication_unref(&segments->array[i].publication);
    free(segments);
    if (output->data != NULL)
        buffer_give_back(worker, output);
    memset(output, 0, sizeof *output);
}

/* Pieces in order: buffer, payload, buffer …; as many as one call takes. */
#define PIECES_MAX 16

static int gather(const struct output *output, struct iovec *pieces)
{
    int count = 0;
    uint32_t at = output->sent;
    const struct output_segments *segments = output->segments;
    uint32_t segment_count = segments == NULL ? 0 : segments->count;
    for (uint32_t i = segments == NULL ? 0 : segments->first; count < PIECES_MAX - 1; i++) {
        bool segment = i < segment_count;
        uint32_t end = segment ? segments->array[i].position : output->size;
        if (end > at)
            pieces[count++] = (struct iovec){output->data + at, end - at};
        at = end;
        if (!segment)
            break;
        struct publication *publication = segments->array[i].publication;
        uint32_t skip = segments->array[i].sent;
        pieces[count++] =
            (struct iovec){publication->data + publication->topic_size + publication->properties_size + skip,
                publication->payload_size - skip};
    }
    return count;
}

static void advance(struct output *output, size_t taken)
{
    output->waiting -= taken;
    while (taken > 0) {
        struct output_segments *segments = output->segments;
        bool segment = segments != NULL && segments->first < segments->count;
        uint32_t end = segment ? segments->array[segments->first].position : output->size;
        size_t bytes = end - output->sent < taken ? end - output->sent : taken;
        output->sent += (uint32_t)bytes;
        taken -= bytes;
        if (!segment || output->sent < end)
            continue;
        struct output_segment *first = &segments->array[segments->first];
        size_t left = first->publication->payload_size - first->sent;
        size_t payload = left < taken ? left : taken;
        first->sent += (uint32_t)payload;
        taken -= payload;
        if (payload == left) {
            publication_unref(&first->publication);
            segments->first++;
        }
    }
}

/* Moves what is unwritten to the front, once it is worth it. */
static void output_compact(struct output *output)
{
    struct output_segments *segments = output->segments;
    if (segments != NULL && segments->first > segments->count / 2) {
        segments->count -= segments->first;
        memmove(
            segments->array, segments->array + segments->first, segments->count * sizeof *segments->array);
        segments->first = 0;
    }
    if (output->sent < output->capacity / 2)
        return;
    memmove(output->data, output->data + output->sent, output->size - output->sent);
    for (uint32_t i = segments == NULL ? 0 : segments->first; segments != NULL && i < segments->count; i++)
        segments->array[i].position -= output->sent;
    output->size -= output->sent;
    output->sent = 0;
}

enum status output_write(struct connection *connection)
{
    struct output *output = &connection->output;
    while (output->waiting > 0) {
        struct iovec pieces[PIECES_MAX];
        int count = gather(output, pieces);
        size_t size = 0;
        for (int i = 0; i < count; i++)
            size += pieces[i].iov_len;
        size_t taken = 0;
        enum status status = transport_writev(&connection->transport, pieces, count, &taken);
        if (status != STATUS_OK)
            return status;
        advance(output, taken);
        connection->worker->counters->bytes_sent += taken;
        if (taken < size)
            break;
    }
    if (output->waiting > 0) {
        output_compact(output);
        return STATUS_AGAIN;
    }
    output_clear(connection->worker, output);
    return transport_wants_write(&connection->transport) ? STATUS_AGAIN : STATUS_OK;
}
