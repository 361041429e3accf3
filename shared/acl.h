/*
 * Who may publish and read what: access rights in Mosquitto's format.
 *
 *     topic [read|write|readwrite|deny] FILTER      rights of the `user` above it, before any of clients
 *     user NAME                                     without a user name
 *     pattern [read|write|readwrite|deny] FILTER    rights of every client; %c is its identifier, %u its name
 *
 * A client's own lines are asked first, then the patterns, denials before the rest in both; the first line
 * that fits the topic and the kind of access decides, and none fits: denied. Pure: text in, decisions out.
 */
#ifndef SHARED_ACL_H
#define SHARED_ACL_H

#include "shared/bytes.h"
#include "shared/status.h"
#include "shared/text_lines.h"

enum acl_access { ACL_DENY = 0, ACL_READ = 1, ACL_WRITE = 2 };

struct acl;

/* As password_file_parse(). */
enum status acl_parse(
    struct bytes text, text_problem *problem, void *context, struct acl **ret_acl) CHECK_RESULT;
/* The memory stays as long as some client's rights need it. */
void acl_free(struct acl **acl);
/* Does it name a user? */
bool acl_has_users(const struct acl *acl);

/* What one client may do. Shares the acl, which may be freed before it. */
struct acl_rights;

/* `user.data` NULL: a client without a user name. NULL: no memory. */
struct acl_rights *acl_rights_new(struct acl *acl, struct bytes user, struct bytes client_id);
void acl_rights_free(struct acl_rights **rights);

/* May it publish to (ACL_WRITE) or get messages of (ACL_READ) the topic? Hot with rights set; cost by the
   number of lines that apply to the client. */
bool acl_allows(const struct acl_rights *rights, enum acl_access access, struct bytes topic);

/* What it may read of the topics of a filter (not shared): all of them, so that no message needs to be asked
   for; none, so that the subscription would be in vain; or perhaps some. */
enum acl_extent { ACL_NONE, ACL_SOME, ACL_ALL };
enum acl_extent acl_readable(const struct acl_rights *rights, struct bytes filter);

#endif
