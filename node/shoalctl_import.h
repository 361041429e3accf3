/*
 * `shoalctl import-emq FILE [-o OUT]`: a configuration of EMQ 2.x as one of Shoal.
 */
#ifndef NODE_SHOALCTL_IMPORT_H
#define NODE_SHOALCTL_IMPORT_H

/*
 * argv[0] is "import-emq". Prints the JSON to standard output, or writes OUT (which must not exist), and the
 * warnings to standard error. Returns the exit code: 0 converted (also with warnings), 1 the result needs a
 * hand (files missing, no listener) or something failed, 2 wrong usage.
 */
int shoalctl_import_emq(int argc, char **argv);

#endif
