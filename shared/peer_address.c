/* Client addresses, compact and as text. Worker process. */
#include "shared/peer_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

void peer_address_set(struct peer_address *address, const struct sockaddr *from)
{
    memset(address, 0, sizeof *address);
    if (from->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)from;
        address->family = AF_INET;
        address->port = ntohs(in->sin_port);
        memcpy(address->bytes, &in->sin_addr, 4);
    } else if (from->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)from;
        address->family = AF_INET6;
        address->port = ntohs(in6->sin6_port);
        memcpy(address->bytes, in6->sin6_addr.s6_addr, 16);
        peer_address_unmap(address);
    }
}

void peer_address_unmap(struct peer_address *address)
{
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
    if (address->family != AF_INET6 || memcmp(address->bytes, prefix, sizeof prefix) != 0)
        return;
    address->family = AF_INET;
    memmove(address->bytes, address->bytes + sizeof prefix, 4);
    memset(address->bytes + 4, 0, sizeof address->bytes - 4);
}

void peer_address_set_local(struct peer_address *address, pid_t process, uid_t user)
{
    uint32_t numbers[2] = {(uint32_t)process, user};
    memset(address, 0, sizeof *address);
    address->family = AF_UNIX;
    memcpy(address->bytes, numbers, sizeof numbers);
}

const char *peer_address_host(const struct peer_address *address, char to[PEER_TEXT_SIZE])
{
    bool internet = address->family == AF_INET || address->family == AF_INET6;
    if (!internet || inet_ntop(address->family, address->bytes, to, PEER_TEXT_SIZE) == NULL)
        to[0] = '\0';
    return to;
}

const char *peer_address_text(const struct peer_address *address, char to[PEER_TEXT_SIZE])
{
    char host[INET6_ADDRSTRLEN] = "";
    uint32_t numbers[2];
    memcpy(numbers, address->bytes, sizeof numbers);
    if (address->family == AF_UNIX)
        snprintf(to, PEER_TEXT_SIZE, "unix(process %u, user %u)", numbers[0], numbers[1]);
    else if (address->family == AF_UNSPEC ||
             inet_ntop(address->family, address->bytes, host, sizeof host) == NULL)
        snprintf(to, PEER_TEXT_SIZE, "unknown address");
    else
        snprintf(to, PEER_TEXT_SIZE, address->family == AF_INET6 ? "[%s]:%u" : "%s:%u", host, address->port);
    return to;
}
