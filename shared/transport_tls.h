/* Between the layers of a transport (plain, TLS, WebSocket): the table of operations. Nobody else includes
 * this. */
#ifndef SHARED_TRANSPORT_TLS_H
#define SHARED_TRANSPORT_TLS_H

#include "shared/transport.h"

struct transport_ops { /* contracts as the functions of transport.h that call them */
    enum status (*handshake)(struct transport *transport, struct tls_failure *ret_failure);
    enum status (*read)(struct transport *transport, uint8_t *to, size_t size, size_t *ret_size);
    enum status (*writev)(
        struct transport *transport, const struct iovec *pieces, int count, size_t *ret_taken);
    enum status (*flush)(struct transport *transport);
    /* The last bytes before shutdown(SHUT_WR). STATUS_AGAIN: not yet all in the kernel. */
    enum status (*say_goodbye)(struct transport *transport);
    void (*failure)(const struct transport *transport, struct tls_failure *ret_failure);
};

/* After a failed system call: STATUS_AGAIN if it would have waited, else STATUS_SYSTEM with errno kept. */
enum status transport_socket_status(struct transport *transport) CHECK_RESULT;

/* errno's text. Only after a failed system call. */
void transport_socket_failure(const struct transport *transport, struct tls_failure *ret_failure);

/* Accepts a plain transport. */
void transport_tls_done(struct transport *transport);

#endif
