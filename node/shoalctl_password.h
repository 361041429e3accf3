/* shoalctl hash-password: a user's line for auth.password_file, out of a password. */
#ifndef NODE_SHOALCTL_PASSWORD_H
#define NODE_SHOALCTL_PASSWORD_H

/* The command with its arguments, the first being "hash-password". Returns an exit code of shoalctl.h. */
int shoalctl_hash_password(int count, char **arguments);

#endif
