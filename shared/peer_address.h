/* A client's address in 20 bytes, and as text for log lines. Pure. */
#ifndef SHARED_PEER_ADDRESS_H
#define SHARED_PEER_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define PEER_TEXT_SIZE 56 /* "[IPv6 address]:65535" and its end */

struct peer_address {
    uint16_t port;     /* host order */
    uint8_t family;    /* AF_INET, AF_INET6, or AF_UNSPEC: unknown */
    uint8_t bytes[16]; /* network order; the first 4 for AF_INET */
};

/* IPv4 mapped into IPv6 becomes IPv4. */
void peer_address_set(struct peer_address *address, const struct sockaddr *from);
/* Writes "192.0.2.1:1883" or "[2001:db8::1]:1883"; returns `to`. */
const char *peer_address_text(const struct peer_address *address, char to[PEER_TEXT_SIZE]);

#endif
