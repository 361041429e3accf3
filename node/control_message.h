/*
 * The messages between the master and a child, and their encoding: version, type, size, then the type's
 * fields in the order of one table. Pure: no socket. What does not decode exactly is STATUS_PROTOCOL; the
 * master restarts the child that sent it, a child ends.
 */
#ifndef NODE_CONTROL_MESSAGE_H
#define NODE_CONTROL_MESSAGE_H

#include "node/child_descriptors.h"
#include "shared/bytes.h"
#include "shared/config.h"
#include "shared/status.h"
#include "shared/tls_tickets.h"

#define CONTROL_VERSION         1
#define CONTROL_TEXT_MAX        400 /* bytes of a text in a message, its end included */
#define CONTROL_SIZE_MAX        512 /* bytes of one encoded message */
#define CONTROL_DESCRIPTORS_MAX (SLOT_FD_FIRST_SOCKET + CONFIG_LISTENERS_MAX)

enum control_type {
    /* master → child: the start-up, in this order */
    CONTROL_START = 1,       /* role, slot, workers, listeners, drop, uid, gid, incarnation, number:
                                generation, node_key, decoy_key, places */
    CONTROL_OWN_SLOT = 2,    /* slot, places */
    CONTROL_LANE = 3,        /* slot: the peer */
    CONTROL_BEGIN = 4,       /* the last one: nothing; CONTROL_PEER_STARTED may stand before it */
    CONTROL_ROUTE_TABLE = 5, /* slot: whose it is; before CONTROL_BEGIN */
    CONTROL_NODE_LANE = 6,   /* slot: the worker, peer: the node. To the worker itself and to the link */
    CONTROL_NODE_WINDOW = 7, /* peer: the node. To the link */
    /* master → child: while it runs */
    CONTROL_PEER_STARTED = 10, /* slot, incarnation */
    CONTROL_PEER_DIED = 11,    /* slot */
    CONTROL_ADOPT = 12,        /* slot, places */
    CONTROL_UNADOPT = 13,      /* slot; wants CONTROL_UNADOPTED */
    CONTROL_PING = 14,         /* number; wants CONTROL_PONG */
    CONTROL_STOP = 15,         /* say goodbye and exit */
    CONTROL_GENERATION =
        16, /* number, places; switch to this one; wants CONTROL_SWITCHED or CONTROL_REFUSED */
    CONTROL_TICKET_KEY = 18, /* number: from when on (seconds), ticket_key; also before CONTROL_BEGIN */
    CONTROL_SOCKETS = 17,    /* slot, places: those of the slot that were not there before */
    /* child → master */
    CONTROL_READY = 30,       /* serves */
    CONTROL_PONG = 31,        /* number of the ping */
    CONTROL_UNADOPTED = 32,   /* slot */
    CONTROL_SWITCHED = 33,    /* number: serves with this generation now */
    CONTROL_REFUSED = 34,     /* number, text: stays with the generation that it had */
    CONTROL_NODE_STATUS = 36, /* peer, text: what the link tells of a node, as JSON */
    CONTROL_TYPES = 40,
};

struct control_message {
    enum control_type type;
    uint16_t role; /* enum child_role */
    uint16_t slot;
    uint16_t workers;
    uint16_t listeners;
    uint16_t nodes; /* of the cluster, this one included; 0: a node alone */
    uint16_t peer;  /* number on the bus */
    uint16_t drop;  /* 1: become uid and gid */
    uint32_t uid;
    uint32_t gid;
    uint64_t incarnation;
    uint64_t number;
    uint64_t life; /* of the node: the same for all children of this master */
    uint8_t node_key[32];
    uint8_t decoy_key[32];
    uint8_t ticket_key[TLS_TICKET_KEY_SIZE];
    uint8_t places[CONFIG_LISTENERS_MAX]; /* of the listeners, in the order of descriptors and configuration;
                                             255 behind the last */
    char text[CONTROL_TEXT_MAX];          /* terminated; cut when sent, if need be */
    unsigned descriptor_count;
    int descriptors[CONTROL_DESCRIPTORS_MAX]; /* borrowed when sent, owned by whoever received them */
};

/*
 * Of the first bytes of an encoded message: it may be taken out of turn, from within any event of a child's
 * loop, because it neither brings descriptors nor ends anything that such an event may be about.
 */
bool control_is_news(struct bytes bytes);

/* Name for log lines; "unknown" for a type that is none. */
const char *control_type_name(enum control_type type);

/* Encodes what the type has (the rest of the struct is not looked at); returns the size. */
size_t control_encode(const struct control_message *message, uint8_t to[CONTROL_SIZE_MAX]);

/*
 * Decodes; fields that the type lacks are 0. The caller has put the descriptors that came along into
 * `descriptors`: a number of them that the type cannot have is STATUS_PROTOCOL, too.
 */
enum status control_decode(struct bytes bytes, const int *descriptors, unsigned descriptor_count,
    struct control_message *ret_message) CHECK_RESULT;

#endif
