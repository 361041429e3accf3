/*
 * The header with which a load balancer announces whose connection it passes on: PROXY protocol, versions 1
 * and 2 (haproxy.org, proxy-protocol.txt). Workers; pure: bytes in, header out. Whoever can reach a listener
 * that expects the header can announce what he likes; who that may be is the operator's to bound.
 */
#ifndef SHARED_PROXY_PROTOCOL_H
#define SHARED_PROXY_PROTOCOL_H

#include "shared/bytes.h"
#include "shared/peer_address.h"
#include "shared/status.h"

/* A header with all its extensions; the protocol would allow 64 KiB, proxies send some hundred bytes. */
#define PROXY_HEADER_MAX ((size_t)8192)

struct proxy_header {
    size_t size;                 /* bytes of the header; what follows is the client's */
    struct peer_address address; /* the client's; AF_UNSPEC: not announced (LOCAL, UNKNOWN, other families),
                                    the connection's own counts */
    bool tls;                    /* the client speaks TLS with the proxy */
    struct bytes common_name;    /* of the client's certificate, which the proxy has verified; points into the
                                    input; size 0: none */
};

/*
 * STATUS_AGAIN: so far it is a header, and not yet whole; never for PROXY_HEADER_MAX bytes or more.
 * STATUS_PROTOCOL: no header, or a damaged one; STATUS_LIMIT: a larger one. *ret_error, static, says what is
 * wrong (the only cases in which it is written).
 */
enum status proxy_protocol_parse(
    struct bytes input, struct proxy_header *ret_header, const char **ret_error) CHECK_RESULT;

#endif
