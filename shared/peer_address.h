/* A client's address in 20 bytes, and as text for log lines. Pure. */
#ifndef SHARED_PEER_ADDRESS_H
#define SHARED_PEER_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define PEER_TEXT_SIZE 56 /* "[IPv6 address]:65535" and its end */

struct peer_address {
    uint16_t port;     /* host order */
    uint8_t family;    /* AF_INET, AF_INET6, AF_UNIX, or AF_UNSPEC: unknown */
    uint8_t bytes[16]; /* network order; the first 4 for AF_INET; process and user of AF_UNIX, 4 bytes each */
};

/* IPv4 mapped into IPv6 becomes IPv4. */
void peer_address_set(struct peer_address *address, const struct sockaddr *from);
/* The process and the user at the other end of a Unix socket. */
void peer_address_set_local(struct peer_address *address, pid_t process, uid_t user);
/* IPv4 mapped into IPv6 becomes IPv4. */
void peer_address_unmap(struct peer_address *address);
/* Writes the address alone, "192.0.2.1" or "2001:db8::1", or nothing if there is none. Returns `to`. */
const char *peer_address_host(const struct peer_address *address, char to[PEER_TEXT_SIZE]);
/* Writes "192.0.2.1:1883", "[2001:db8::1]:1883" or "unix(process 42, user 1000)"; returns `to`. */
const char *peer_address_text(const struct peer_address *address, char to[PEER_TEXT_SIZE]);

#endif
