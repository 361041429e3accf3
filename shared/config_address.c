/*
 * Parses bind addresses and access rules and answers the questions about them. Pure functions; access rules
 * are asked once per accepted connection by the workers. Never resolves a name, never opens a socket.
 */
#include "shared/config_address.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define ADDRESS_TEXT_MAX 64

/* A decimal number of 1 to 5 digits and nothing else, 0..maximum. */
static bool parse_decimal(const char *text, unsigned maximum, unsigned *ret_value)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits] != '\0')
        return false;
    unsigned long value = strtoul(text, NULL, 10);
    if (value > maximum)
        return false;
    *ret_value = (unsigned)value;
    return true;
}

static void bind_set_ipv6(struct config_bind *bind, const struct in6_addr *address)
{
    struct sockaddr_in6 *to = (struct sockaddr_in6 *)&bind->address;
    to->sin6_family = AF_INET6;
    to->sin6_port = htons(bind->port);
    to->sin6_addr = *address;
    bind->address_size = sizeof *to;
}

static void bind_set_ipv4(struct config_bind *bind, struct in_addr address)
{
    struct sockaddr_in *to = (struct sockaddr_in *)&bind->address;
    to->sin_family = AF_INET;
    to->sin_port = htons(bind->port);
    to->sin_addr = address;
    bind->address_size = sizeof *to;
}

enum status config_bind_parse(const char *text, struct config_bind *ret_bind)
{
    struct config_bind bind = {.text = ret_bind->text};
    const char *colon = strrchr(text, ':');
    unsigned port;
    if (!parse_decimal(colon ? colon + 1 : text, UINT16_MAX, &port) || port == 0)
        return STATUS_INVALID;
    bind.port = (uint16_t)port;
    if (colon == NULL) {
        bind.both_families = true;
        bind_set_ipv6(&bind, &in6addr_any);
        *ret_bind = bind;
        return STATUS_OK;
    }

    char host[ADDRESS_TEXT_MAX];
    size_t size = (size_t)(colon - text);
    bool brackets = size >= 2 && text[0] == '[' && text[size - 1] == ']';
    if (brackets) {
        text++;
        size -= 2;
    }
    if (size >= sizeof host)
        return STATUS_INVALID;
    memcpy(host, text, size);
    host[size] = '\0';
    struct in_addr ipv4;
    struct in6_addr ipv6;
    if (brackets && inet_pton(AF_INET6, host, &ipv6) == 1)
        bind_set_ipv6(&bind, &ipv6);
    else if (!brackets && inet_pton(AF_INET, host, &ipv4) == 1)
        bind_set_ipv4(&bind, ipv4);
    else
        return STATUS_INVALID;
    *ret_bind = bind;
    return STATUS_OK;
}

enum status config_bind_set_socket(const char *path, struct config_bind *ret_bind)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return STATUS_LIMIT;
    memcpy(address.sun_path, path, strlen(path));
    struct config_bind bind = {.text = ret_bind->text, .address_size = sizeof address};
    memcpy(&bind.address, &address, sizeof address);
    *ret_bind = bind;
    return STATUS_OK;
}

static bool bind_is_wildcard(const struct config_bind *bind)
{
    static const uint8_t zeros[16];
    if (bind->address.ss_family == AF_INET)
        return ((const struct sockaddr_in *)&bind->address)->sin_addr.s_addr == INADDR_ANY;
    return memcmp(&((const struct sockaddr_in6 *)&bind->address)->sin6_addr, zeros, sizeof zeros) == 0;
}

bool config_bind_overlaps(const struct config_bind *a, const struct config_bind *b)
{
    bool socket = a->address.ss_family == AF_UNIX;
    if (socket || b->address.ss_family == AF_UNIX)
        return socket && memcmp(&a->address, &b->address, sizeof a->address) == 0;
    if (a->port != b->port)
        return false;
    if (a->both_families || b->both_families)
        return true;
    if (a->address.ss_family != b->address.ss_family)
        return false;
    return bind_is_wildcard(a) || bind_is_wildcard(b) ||
           memcmp(&a->address, &b->address, a->address_size) == 0;
}

bool config_bind_is_loopback(const struct config_bind *bind)
{
    if (bind->both_families)
        return false;
    if (bind->address.ss_family == AF_UNIX)
        return true;
    if (bind->address.ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)&bind->address)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)&bind->address;
    return IN6_IS_ADDR_LOOPBACK(&ipv6->sin6_addr);
}

/* Clears address bits behind the prefix; true if there were any. */
static bool clear_host_bits(struct config_access_rule *rule)
{
    unsigned bits = rule->family == AF_UNSPEC ? 0 : rule->family == AF_INET ? 32 : 128;
    bool any = false;
    for (unsigned i = rule->prefix_bits; i < bits; i++) {
        uint8_t bit = (uint8_t)(0x80 >> (i % 8));
        any = any || (rule->address[i / 8] & bit) != 0;
        rule->address[i / 8] &= (uint8_t)~bit;
    }
    return any;
}

/* "10.0.0.0/8" or a single address into the rule. */
static bool parse_network(const char *text, struct config_access_rule *rule)
{
    char host[ADDRESS_TEXT_MAX];
    const char *slash = strchr(text, '/');
    size_t size = slash ? (size_t)(slash - text) : strlen(text);
    if (size >= sizeof host)
        return false;
    memcpy(host, text, size);
    host[size] = '\0';
    if (inet_pton(AF_INET, host, rule->address) == 1)
        rule->family = AF_INET;
    else if (inet_pton(AF_INET6, host, rule->address) == 1)
        rule->family = AF_INET6;
    else
        return false;
    unsigned bits = rule->family == AF_INET ? 32 : 128;
    if (slash != NULL && !parse_decimal(slash + 1, bits, &bits))
        return false;
    rule->prefix_bits = (uint8_t)bits;
    return true;
}

static bool parse_rule(const char *text, struct config_access_rule *ret_rule)
{
    struct config_access_rule rule = {.family = AF_UNSPEC};
    size_t word = strcspn(text, " ");
    if (word == 5 && strncmp(text, "allow", word) == 0)
        rule.allow = true;
    else if (word != 4 || strncmp(text, "deny", word) != 0)
        return false;
    text += word;
    text += strspn(text, " ");
    if (strcmp(text, "all") != 0 && !parse_network(text, &rule))
        return false;
    *ret_rule = rule;
    return true;
}

enum status config_access_rule_parse(const char *text, struct config_access_rule *ret_rule)
{
    struct config_access_rule rule;
    /* "10.1.2.3/8" is a slip of the pen that must not pass: which of both was meant? */
    if (!parse_rule(text, &rule) || clear_host_bits(&rule))
        return STATUS_INVALID;
    *ret_rule = rule;
    return STATUS_OK;
}

enum status config_access_rule_parse_masked(const char *text, struct config_access_rule *ret_rule)
{
    if (!parse_rule(text, ret_rule))
        return STATUS_INVALID;
    (void)clear_host_bits(ret_rule);
    return STATUS_OK;
}

void config_access_rule_format(const struct config_access_rule *rule, char to[CONFIG_ACCESS_RULE_TEXT_MAX])
{
    const char *verb = rule->allow ? "allow" : "deny";
    char host[INET6_ADDRSTRLEN] = "";
    if (rule->family == AF_UNSPEC) {
        snprintf(to, CONFIG_ACCESS_RULE_TEXT_MAX, "%s all", verb);
        return;
    }
    inet_ntop(rule->family, rule->address, host, sizeof host);
    snprintf(to, CONFIG_ACCESS_RULE_TEXT_MAX, "%s %s/%u", verb, host, rule->prefix_bits);
}

static bool rule_fits(const struct config_access_rule *rule, sa_family_t family, const uint8_t *address)
{
    if (rule->family == AF_UNSPEC)
        return true;
    if (rule->family != family)
        return false;
    unsigned whole = rule->prefix_bits / 8;
    unsigned rest = rule->prefix_bits % 8;
    if (memcmp(rule->address, address, whole) != 0)
        return false;
    return rest == 0 || (rule->address[whole] ^ address[whole]) >> (8 - rest) == 0;
}

bool config_access_allows_address(
    const struct config_access *access, sa_family_t family, const uint8_t *address)
{
    for (size_t i = 0; i < access->count; i++)
        if (rule_fits(&access->rules[i], family, address))
            return access->rules[i].allow;
    return false;
}

bool config_access_allows(const struct config_access *access, const struct sockaddr *peer)
{
    sa_family_t family = peer->sa_family;
    const uint8_t *address = NULL;
    if (family == AF_INET) {
        address = (const uint8_t *)&((const struct sockaddr_in *)peer)->sin_addr;
    } else if (family == AF_INET6) {
        const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)peer;
        address = (const uint8_t *)&ipv6->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(&ipv6->sin6_addr)) {
            family = AF_INET;
            address += 12;
        }
    } else {
        return false;
    }
    return config_access_allows_address(access, family, address);
}
