/*
 * A publication: one PUBLISH accepted from a client, on its way. In two shapes:
 *  - struct publication_view borrows everything (from the read scratch, a bus frame, a retained message) and
 *    lives for one call; a QoS 0 publication to connected sessions never becomes more than that;
 *  - struct publication is one immutable reference-counted heap object for whatever must be kept: queues,
 *    in-flight windows, retained messages.
 * Worker process (and tests). Not thread-safe: processes have one thread.
 */
#ifndef SHARED_PUBLICATION_H
#define SHARED_PUBLICATION_H

#include "shared/bytes.h"
#include "shared/status.h"

/* Who accepted a publication. Incarnations are never used again, also across restarts. */
struct publication_origin {
    uint64_t incarnation;
    uint16_t node; /* index in the cluster file; 0 for a node alone */
    uint16_t slot; /* worker slot */
};

/* What travels with topic and payload. Identity = (origin, sequence). */
struct publication_meta {
    struct publication_origin origin;
    uint64_t sequence; /* counts up per origin, never 0 */
    uint64_t
        publisher;  /* keyed hash of the publishing client identifier, for No Local; 0: the broker itself */
    uint64_t stamp; /* hybrid logical clock, set when the retained store must order it; else 0 */
    uint64_t
        expires_ms; /* real time in ms when the Message Expiry Interval runs out; 0: never [MQTT-3.3.2-5] */
    /* Of what may be published twice, and is dropped the second time: the identity of the connection whose
       will this is, or of a delayed publication; 0: neither. */
    uint64_t will;
    uint8_t qos;      /* as published: 0, 1, 2 */
    bool retain;      /* RETAIN flag as published */
    bool shares_only; /* on the bus only: ordinary subscriptions have had it, it is for those who were picked
                       */
};

struct publication_view {
    struct publication_meta meta;
    struct bytes topic;      /* valid UTF-8 topic name, 1..65535 bytes */
    struct bytes properties; /* encoded MQTT 5 properties to forward, without Topic Alias, Message Expiry
                                Interval, Subscription Identifier and without the length in front */
    struct bytes payload;
    const uint8_t *shares; /* on the bus only: who was picked from shared groups, beginning with a u32 of its
                              own size (cluster/share_record.h); NULL: nobody. One pointer, since this struct
                              is zeroed for every publication */
};

struct publication {
    struct publication_meta meta;
    uint32_t references;
    uint32_t topic_size;
    uint32_t properties_size;
    uint32_t payload_size;
    uint8_t data[]; /* topic, properties, payload */
};

static inline struct bytes publication_shares(const struct publication_view *view)
{
    return view->shares == NULL ? BYTES_NONE : bytes_of(view->shares, get_u32_le(view->shares));
}

/* A heap copy with one reference, or NULL when out of memory. */
struct publication *publication_new(const struct publication_view *view) CHECK_RESULT;

static inline struct publication *publication_ref(struct publication *publication)
{
    publication->references++;
    return publication;
}

/* Drops one reference and nulls the pointer; frees with the last. NULL is allowed. */
void publication_unref(struct publication **publication);

/* A view of the object, valid while the caller holds a reference. */
static inline struct publication_view publication_view(const struct publication *publication)
{
    return (struct publication_view){
        .meta = publication->meta,
        .topic = bytes_of(publication->data, publication->topic_size),
        .properties = bytes_of(publication->data + publication->topic_size, publication->properties_size),
        .payload = bytes_of(publication->data + publication->topic_size + publication->properties_size,
            publication->payload_size),
    };
}

/* Heap bytes that the object takes, for queue accounting. */
static inline size_t publication_size(const struct publication *publication)
{
    return sizeof *publication + publication->topic_size + publication->properties_size +
           publication->payload_size;
}

#endif
