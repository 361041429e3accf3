/*
 * The node's folders and what the master keeps in them: data_dir/master.state (locked: one shoald per
 * data_dir; holds the incarnations given out) and run_dir/lock (locked by master and children together: a
 * next master waits until the last child of a killed one has gone). Resolves the user whom the children
 * become. Master only.
 */
#ifndef NODE_MASTER_FOLDERS_H
#define NODE_MASTER_FOLDERS_H

#include "shared/config.h"
#include "shared/status.h"

#include <sys/types.h>

struct master_folders {
    int run_dir; /* owned; -1: not open. So are the next three */
    int data_dir;
    int lock;  /* run_dir/lock; the children hold it as well */
    int state; /* data_dir/master.state */
    bool drop; /* the children become uid and gid */
    uid_t uid; /* the node's user, also when it does not change */
    gid_t gid;
    uint64_t incarnation_next;
    uint64_t incarnation_reserved; /* written to the state file: nothing from here on was ever given out */
};

/* Makes and locks them. Logs what is wrong and what to do about it; STATUS_SYSTEM or STATUS_REFUSED. */
enum status master_folders_open(const struct config *config, struct master_folders *ret_folders) CHECK_RESULT;
/* Makes what is missing above the last component of an absolute path; errors show when that is opened. */
void master_folders_make_parents(const char *path);
void master_folders_close(struct master_folders *folders);

/* A random key that the node keeps in data_dir under that name: read, or made at the first time. Logs what is
 * wrong; STATUS_SYSTEM or STATUS_REFUSED. */
#define MASTER_KEY_SIZE 32
enum status master_folders_key(const struct config *config, const struct master_folders *folders,
    const char *name, uint8_t ret_key[MASTER_KEY_SIZE]) CHECK_RESULT;

/* A number that no process of this node ever had, also before restarts and whatever the clock did. */
enum status master_folders_incarnation(
    struct master_folders *folders, uint64_t *ret_incarnation) CHECK_RESULT;

#endif
