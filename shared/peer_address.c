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
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
        address->family = mapped ? AF_INET : AF_INET6;
        address->port = ntohs(in6->sin6_port);
        memcpy(address->bytes, in6->sin6_addr.s6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
    }
}

const char *peer_address_text(const struct peer_address *address, char to[PEER_TEXT_SIZE])
{
    char host[INET6_ADDRSTRLEN] = "";
    if (address->family == AF_UNSPEC || inet_ntop(address->family, address->bytes, host, sizeof host) == NULL)
        snprintf(to, PEER_TEXT_SIZE, "unknown address");
    else
        snprintf(to, PEER_TEXT_SIZE, address->family == AF_INET6 ? "[%s]:%u" : "%s:%u", host, address->port);
    return to;
}
