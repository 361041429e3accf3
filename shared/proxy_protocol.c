/* PROXY protocol headers. Strict: one that leaves a doubt is refused, since it says who a client is. Pure. */
#include "shared/proxy_protocol.h"

#include "shared/crc32c.h"

#include <arpa/inet.h>

/* Version 1: one line of text. */
#define V1_MAX   107 /* with its end */
#define V1_WORDS 6   /* PROXY TCP4 source destination port port */
static const char v1_begin[] = "PROXY ";

/* Version 2: signature, version and command, family and transport, length of the rest. */
#define V2_BEGIN_SIZE 16
static const uint8_t v2_signature[12] = {
    0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
enum { V2_LOCAL = 0x20, V2_PROXY = 0x21 };
enum { V2_UNSPECIFIED = 0x00, V2_TCP4 = 0x11, V2_TCP6 = 0x21 };

/* Extensions: type, length, value. */
enum { EXTENSION_CRC32C = 0x03, EXTENSION_TLS = 0x20, EXTENSION_TLS_COMMON_NAME = 0x22 };
#define TLS_BEGIN_SIZE 5 /* client's flags, result of the verification */
enum { TLS_SPOKEN = 0x01, TLS_CERTIFICATE_NOW = 0x02, TLS_CERTIFICATE_EARLIER = 0x04 };

static enum status wrong(const char **ret_error, const char *error)
{
    *ret_error = error;
    return STATUS_PROTOCOL;
}

/* Version 1
 * ------------------------------------------------------------------------------------------------- */

/* "65535", no sign, no leading zero. */
static bool take_port(const char *text, uint16_t *ret_port)
{
    uint32_t port = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits] != '\0' || (digits > 1 && text[0] == '0'))
        return false;
    for (size_t i = 0; i < digits; i++)
        port = port * 10 + (uint32_t)(text[i] - '0');
    *ret_port = (uint16_t)port;
    return port <= UINT16_MAX;
}

/* Cuts at single spaces. False: there are not exactly V1_WORDS, none of them empty. */
static bool cut_words(char *line, char *words[V1_WORDS])
{
    for (int i = 0; i < V1_WORDS; i++) {
        words[i] = line;
        size_t size = strcspn(line, " ");
        if (size == 0 || (line[size] == '\0') != (i == V1_WORDS - 1))
            return false;
        line[size] = '\0';
        line += size + 1;
    }
    return true;
}

static enum status parse_v1_line(char *line, struct peer_address *ret_address, const char **ret_error)
{
    static const char malformed[] = "a malformed PROXY line";
    char *words[V1_WORDS];
    uint8_t destination[16];
    uint16_t destination_port;
    struct peer_address address = {.family = AF_UNSPEC};
    if (strcmp(line, "PROXY UNKNOWN") == 0 || strncmp(line, "PROXY UNKNOWN ", 14) == 0) {
        *ret_address = address;
        return STATUS_OK;
    }
    if (!cut_words(line, words))
        return wrong(ret_error, malformed);
    if (strcmp(words[1], "TCP4") == 0)
        address.family = AF_INET;
    else if (strcmp(words[1], "TCP6") == 0)
        address.family = AF_INET6;
    else
        return wrong(ret_error, malformed);
    if (inet_pton(address.family, words[2], address.bytes) != 1 ||
        inet_pton(address.family, words[3], destination) != 1 || !take_port(words[4], &address.port) ||
        !take_port(words[5], &destination_port))
        return wrong(ret_error, malformed);
    *ret_address = address;
    return STATUS_OK;
}

static enum status parse_v1(struct bytes input, struct proxy_header *ret_header, const char **ret_error)
{
    char line[V1_MAX];
    size_t limit = input.size < V1_MAX ? input.size : V1_MAX;
    const uint8_t *end = memchr(input.data, '\n', limit);
    if (end == NULL)
        return limit < V1_MAX ? STATUS_AGAIN : wrong(ret_error, "a PROXY line without end");
    size_t size = (size_t)(end - input.data) + 1;
    if (size < 2 || input.data[size - 2] != '\r' || memchr(input.data, '\0', size) != NULL)
        return wrong(ret_error, "a malformed PROXY line");
    memcpy(line, input.data, size - 2);
    line[size - 2] = '\0';
    struct proxy_header header = {.size = size};
    enum status status = parse_v1_line(line, &header.address, ret_error);
    if (status != STATUS_OK)
        return status;
    peer_address_unmap(&header.address);
    *ret_header = header;
    return STATUS_OK;
}

/* Version 2
 * ------------------------------------------------------------------------------------------------- */

/* The sum covers the whole header with its own four bytes as zeros. */
static bool checksum_holds(struct bytes header, struct bytes sum)
{
    static const uint8_t zeros[4];
    size_t before = (size_t)(sum.data - header.data);
    uint32_t crc = crc32c(0, header.data, before);
    crc = crc32c(crc, zeros, sizeof zeros);
    crc = crc32c(crc, sum.data + 4, header.size - before - 4);
    return crc == get_u32_be(sum.data);
}

/* Takes one extension off the front. */
static bool take_extension(struct bytes *rest, uint8_t *ret_type, struct bytes *ret_value)
{
    if (rest->size < 3)
        return false;
    size_t size = get_u16_be(rest->data + 1);
    if (rest->size - 3 < size)
        return false;
    *ret_type = rest->data[0];
    *ret_value = bytes_of(rest->data + 3, size);
    *rest = bytes_of(rest->data + 3 + size, rest->size - 3 - size);
    return true;
}

/* What the proxy knows of the client's TLS. The name counts only if its certificate was verified. */
static bool parse_tls(struct bytes value, struct proxy_header *header)
{
    if (value.size < TLS_BEGIN_SIZE)
        return false;
    uint8_t client = value.data[0];
    bool verified = get_u32_be(value.data + 1) == 0;
    bool certificate = (client & (TLS_CERTIFICATE_NOW | TLS_CERTIFICATE_EARLIER)) != 0;
    struct bytes rest = bytes_of(value.data + TLS_BEGIN_SIZE, value.size - TLS_BEGIN_SIZE);
    header->tls = (client & TLS_SPOKEN) != 0;
    while (rest.size > 0) {
        uint8_t type;
        struct bytes part;
        if (!take_extension(&rest, &type, &part))
            return false;
        if (type == EXTENSION_TLS_COMMON_NAME && header->tls && certificate && verified)
            header->common_name = part;
    }
    return true;
}

static enum status parse_extensions(
    struct bytes whole, struct bytes rest, struct proxy_header *header, const char **ret_error)
{
    bool tls = false;
    while (rest.size > 0) {
        uint8_t type;
        struct bytes value;
        if (!take_extension(&rest, &type, &value))
            return wrong(ret_error, "a PROXY header with a malformed extension");
        if (type == EXTENSION_CRC32C && (value.size != 4 || !checksum_holds(whole, value)))
            return wrong(ret_error, "a PROXY header with a wrong checksum");
        if (type == EXTENSION_TLS && (tls || !parse_tls(value, header)))
            return wrong(ret_error, "a PROXY header with a malformed TLS extension");
        tls = tls || type == EXTENSION_TLS;
    }
    return STATUS_OK;
}

/* Bytes of the addresses (source, destination, ports) by family; SIZE_MAX: no such family. */
static size_t addresses_size(uint8_t family)
{
    static const size_t sizes[] = {0, 12, 36, 216};
    bool known = family >> 4 < 4 && (family & 0x0f) < 3;
    return known ? sizes[family >> 4] : SIZE_MAX;
}

static void take_address(uint8_t family, const uint8_t *from, struct peer_address *ret_address)
{
    if (family == V2_TCP4) {
        ret_address->family = AF_INET;
        memcpy(ret_address->bytes, from, 4);
        ret_address->port = get_u16_be(from + 8);
    } else if (family == V2_TCP6) {
        ret_address->family = AF_INET6;
        memcpy(ret_address->bytes, from, 16);
        ret_address->port = get_u16_be(from + 32);
        peer_address_unmap(ret_address);
    }
}

static enum status parse_v2_rest(struct bytes whole, struct proxy_header *ret_header, const char **ret_error)
{
    uint8_t command = whole.data[12], family = whole.data[13];
    struct proxy_header header = {.size = whole.size, .address = {.family = AF_UNSPEC}};
    struct bytes rest = bytes_of(whole.data + V2_BEGIN_SIZE, whole.size - V2_BEGIN_SIZE);
    if (command == V2_PROXY) { /* what LOCAL has behind it is nobody's: skipped */
        size_t addresses = addresses_size(family);
        if (addresses == SIZE_MAX)
            return wrong(ret_error, "a PROXY header with an unknown address family");
        if (rest.size < addresses)
            return wrong(ret_error, "a PROXY header too short for its addresses");
        take_address(family, rest.data, &header.address);
        rest = bytes_of(rest.data + addresses, rest.size - addresses);
        enum status status = parse_extensions(whole, rest, &header, ret_error);
        if (status != STATUS_OK)
            return status;
    }
    *ret_header = header;
    return STATUS_OK;
}

static enum status parse_v2(struct bytes input, struct proxy_header *ret_header, const char **ret_error)
{
    if (input.size < V2_BEGIN_SIZE)
        return STATUS_AGAIN;
    if (input.data[12] != V2_LOCAL && input.data[12] != V2_PROXY)
        return wrong(ret_error, "a PROXY header of an unknown version or command");
    size_t size = V2_BEGIN_SIZE + (size_t)get_u16_be(input.data + 14);
    if (size > PROXY_HEADER_MAX) {
        *ret_error = "a PROXY header of more than 8 KiB";
        return STATUS_LIMIT;
    }
    if (input.size < size)
        return STATUS_AGAIN;
    return parse_v2_rest(bytes_of(input.data, size), ret_header, ret_error);
}

/* Both begin alike as far as there are bytes. */
static bool begins(struct bytes input, const void *begin, size_t size)
{
    return memcmp(input.data, begin, input.size < size ? input.size : size) == 0;
}

enum status proxy_protocol_parse(struct bytes input, struct proxy_header *ret_header, const char **ret_error)
{
    if (input.size == 0)
        return STATUS_AGAIN;
    if (begins(input, v2_signature, sizeof v2_signature))
        return parse_v2(input, ret_header, ret_error);
    if (begins(input, v1_begin, sizeof v1_begin - 1))
        return parse_v1(input, ret_header, ret_error);
    return wrong(ret_error, "no PROXY header");
}
