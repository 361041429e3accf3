/*
 * Addresses in the configuration: where a listener binds and whom its access rules let in. Literal addresses
 * only: a name would need a resolver, which may block and may answer differently tomorrow. Pure functions.
 */
#ifndef SHARED_CONFIG_ADDRESS_H
#define SHARED_CONFIG_ADDRESS_H

#include "shared/config.h"

/* "8883", "0.0.0.0:8883", "[::1]:8883". Fills everything but `text`. STATUS_INVALID. */
enum status config_bind_parse(const char *text, struct config_bind *ret_bind) CHECK_RESULT;

/* The path of a Unix socket, absolute. Fills everything but `text`. STATUS_LIMIT: too long for an address. */
enum status config_bind_set_socket(const char *path, struct config_bind *ret_bind) CHECK_RESULT;

/* True if both would take the same connections: same port, and addresses that meet; the same path. */
bool config_bind_overlaps(const struct config_bind *a, const struct config_bind *b);

/* True if only this machine can connect. */
bool config_bind_is_loopback(const struct config_bind *bind);

/* "allow all", "deny 10.0.0.0/8", "allow ::1". STATUS_INVALID. */
enum status config_access_rule_parse(const char *text, struct config_access_rule *ret_rule) CHECK_RESULT;

/* The same, but clears address bits behind the prefix ("10.1.2.3/8"), which the other refuses. */
enum status config_access_rule_parse_masked(
    const char *text, struct config_access_rule *ret_rule) CHECK_RESULT;

/* The same as config_access_allows() for an address in network order, AF_INET6 never a mapped IPv4. */
bool config_access_allows_address(
    const struct config_access *access, sa_family_t family, const uint8_t *address);

#define CONFIG_ACCESS_RULE_TEXT_MAX 64
void config_access_rule_format(const struct config_access_rule *rule, char to[CONFIG_ACCESS_RULE_TEXT_MAX]);

#endif
