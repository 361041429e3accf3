/*
 * The HTTP/1.1 request that opens a WebSocket (RFC 6455 section 4) on a server of MQTT alone: parsed
 * strictly, answered with 101 or with a refusal that a person understands. Workers; pure: bytes in, bytes
 * out. Texts are static: nothing of the request comes back in an answer.
 */
#ifndef SHARED_WEBSOCKET_UPGRADE_H
#define SHARED_WEBSOCKET_UPGRADE_H

#include "shared/bytes.h"
#include "shared/status.h"

/* The request line and all header fields: a browser's with cookies fits. */
#define WEBSOCKET_UPGRADE_MAX ((size_t)8192)
/* Room for either answer. */
#define WEBSOCKET_ANSWER_MAX ((size_t)512)

struct websocket_rules { /* what a listener serves; borrowed */
    const char *path;    /* "/mqtt"; a query behind it in the request does not count */
    /* Web pages of these origins may connect; none listed: all. A request without Origin comes from no
       browser, so that no page can misuse a person's cookies or network by it: it is let in. */
    const char *const *origins;
    size_t origin_count;
};

struct websocket_upgrade {
    size_t size;          /* bytes of the request; what follows are frames */
    const char *protocol; /* the one chosen, static: "mqtt" if offered [MQTT-6.0.0-4], else "mqttv3.1" */
    char accept[29];      /* Sec-WebSocket-Accept */
};

struct websocket_refusal {
    unsigned http_status; /* 0: the client speaks no HTTP, which an answer could only confuse */
    const char *text;     /* static: for the log line and the answer's body */
};

/*
 * STATUS_AGAIN: the request is not whole yet, and so far nothing is wrong with it. STATUS_REFUSED:
 * *ret_refusal is written, and nothing else. Never asks for more than WEBSOCKET_UPGRADE_MAX bytes.
 */
enum status websocket_upgrade_parse(struct bytes input, const struct websocket_rules *rules,
    struct websocket_upgrade *ret_upgrade, struct websocket_refusal *ret_refusal) CHECK_RESULT;

/* Writes the answer, returns its size. */
size_t websocket_upgrade_answer(const struct websocket_upgrade *upgrade, char to[WEBSOCKET_ANSWER_MAX]);
/* The same for a refusal; 0 if there is nothing to say. */
size_t websocket_upgrade_refuse(const struct websocket_refusal *refusal, char to[WEBSOCKET_ANSWER_MAX]);

#endif
