/*
 * Makes run_dir and data_dir (mode 0700, owned by the node's user) and keeps their locks. Runs as root on
 * paths that the node's user can write: never follows a symbolic link in them, never takes over a folder that
 * is somebody else's. Master only.
 */
#include "node/master_folders.h"

#include "node/descriptor.h"
#include "shared/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_FILE "master.state"
#define LOCK_FILE  "lock"
/* The children of a killed master exit within a second; one that was just stopped may take a little longer.
 */
#define LOCK_WAIT_MS 3000
#define LOCK_STEP_MS 20
/* Incarnations reserved at a time: one write to disk per this many starts of a child. */
#define RESERVE 1000000

/* ---- the user -------------------------------------------------------------------------------------------
 */

static enum status resolve_user(const struct config *config, struct master_folders *folders)
{
    folders->uid = geteuid();
    folders->gid = getegid();
    if (geteuid() != 0)
        return STATUS_OK; /* node.user says whom root becomes */
    const struct passwd *user = getpwnam(config->node.user);
    if (user == NULL) {
        log_error(
            "%s: node.user: no user \"%s\" on this machine; make it (useradd --system %s) or name another",
            config->file, config->node.user, config->node.user);
        return STATUS_REFUSED;
    }
    folders->uid = user->pw_uid;
    folders->gid = user->pw_gid;
    folders->drop = user->pw_uid != 0;
    if (!folders->drop)
        log_warning("the workers run as root, since node.user is \"%s\": name a user without rights instead",
            config->node.user);
    return STATUS_OK;
}

/* ---- folders --------------------------------------------------------------------------------------------
 */

void master_folders_make_parents(const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL)
        return;
    for (char *slash = strchr(copy + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0755) != 0 && errno != EEXIST)
            break;
        *slash = '/';
    }
    free(copy);
}

/* Ours to change: empty, or with a file in it that a master made. */
static bool folder_is_ours(int folder)
{
    int fd = dup(folder);
    DIR *listing = fd >= 0 ? fdopendir(fd) : NULL;
    if (listing == NULL) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool empty = true, marked = false;
    for (const struct dirent *entry; (entry = readdir(listing)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        empty = false;
        marked = marked || strcmp(entry->d_name, STATE_FILE) == 0 || strcmp(entry->d_name, LOCK_FILE) == 0;
    }
    closedir(listing);
    return empty || marked;
}

static enum status claim_folder(
    const struct master_folders *folders, const char *key, const char *path, int folder)
{
    struct stat info;
    if (fstat(folder, &info) != 0)
        return STATUS_SYSTEM;
    bool fits = info.st_uid == folders->uid && (info.st_mode & 0777) == 0700;
    if (fits)
        return STATUS_OK;
    if (!folder_is_ours(folder)) {
        log_error(
            "%s %s exists with other things in it and is not private to the node's user (uid %u): choose "
            "another folder, or chown and chmod 0700 this one",
            key, path, (unsigned)folders->uid);
        return STATUS_REFUSED;
    }
    if ((info.st_uid != folders->uid && fchown(folder, folders->uid, folders->gid) != 0) ||
        fchmod(folder, 0700) != 0) {
        log_error("%s %s: cannot make it private to uid %u: %s", key, path, (unsigned)folders->uid,
            strerror(errno));
        return STATUS_SYSTEM;
    }
    return STATUS_OK;
}

static enum status open_folder(
    const struct master_folders *folders, const char *key, const char *path, int *ret_fd)
{
    master_folders_make_parents(path);
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        log_error("%s: cannot make %s: %s", key, path, strerror(errno));
        return STATUS_SYSTEM;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        log_error("%s: cannot open the folder %s: %s", key, path, strerror(errno));
        return STATUS_SYSTEM;
    }
    enum status status = claim_folder(folders, key, path, fd);
    if (status != STATUS_OK) {
        close(fd);
        return status;
    }
    *ret_fd = fd;
    return STATUS_OK;
}

/* A plain file with one name, so that nobody who can write the folder leads us to another file. */
static int open_file(const struct master_folders *folders, int folder, const char *name)
{
    int fd = openat(folder, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    struct stat info;
    if (fd < 0)
        return -1;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_nlink != 1) {
        close(fd);
        errno = EPERM;
        return -1;
    }
    /* So that the same node can be started by its user later. */
    if (info.st_uid != folders->uid && fchown(fd, folders->uid, folders->gid) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* ---- locks ----------------------------------------------------------------------------------------------
 */

static enum status lock_data_dir(const struct config *config, struct master_folders *folders)
{
    folders->state = open_file(folders, folders->data_dir, STATE_FILE);
    if (folders->state < 0) {
        log_error("cannot open %s/" STATE_FILE ": %s", config->node.data_dir, strerror(errno));
        return STATUS_SYSTEM;
    }
    if (flock(folders->state, LOCK_EX | LOCK_NB) == 0)
        return STATUS_OK;
    if (errno == EWOULDBLOCK)
        log_error("another shoald runs with data_dir %s: stop it first, or give this node its own data_dir",
            config->node.data_dir);
    else
        log_error("cannot lock %s/" STATE_FILE ": %s", config->node.data_dir, strerror(errno));
    return STATUS_REFUSED;
}

static enum status lock_run_dir(const struct config *config, struct master_folders *folders)
{
    int fd = open_file(folders, folders->run_dir, LOCK_FILE);
    /* The children get a descriptor that can only read. */
    folders->lock =
        fd < 0 ? -1 : openat(folders->run_dir, LOCK_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    if (folders->lock < 0) {
        log_error("cannot open %s/" LOCK_FILE ": %s", config->node.run_dir, strerror(errno));
        return STATUS_SYSTEM;
    }
    for (int waited = 0;; waited += LOCK_STEP_MS) {
        if (flock(folders->lock, LOCK_EX | LOCK_NB) == 0)
            return STATUS_OK;
        if (errno != EWOULDBLOCK || waited >= LOCK_WAIT_MS)
            break;
        poll(NULL, 0, LOCK_STEP_MS);
    }
    log_error(
        "run_dir %s is in use by another shoald, or by workers that one left behind (fuser %s/" LOCK_FILE
        " names them): end them, or give this node its own run_dir",
        config->node.run_dir, config->node.run_dir);
    return STATUS_REFUSED;
}

/* ---- incarnations ---------------------------------------------------------------------------------------
 */

static enum status reserve_incarnations(struct master_folders *folders)
{
    char text[32] = {0};
    uint64_t reserved = folders->incarnation_next + RESERVE;
    int size = snprintf(text, sizeof text, "%020llu\n", (unsigned long long)reserved);
    if (pwrite(folders->state, text, (size_t)size, 0) != size || fdatasync(folders->state) != 0)
        return STATUS_SYSTEM;
    folders->incarnation_reserved = reserved;
    return STATUS_OK;
}

static enum status start_incarnations(const struct config *config, struct master_folders *folders)
{
    char text[32] = {0};
    if (pread(folders->state, text, sizeof text - 1, 0) < 0)
        return STATUS_SYSTEM;
    uint64_t given = strtoull(text, NULL, 10);
    uint64_t now = clock_real_us();
    folders->incarnation_next = now > given ? now : given;
    enum status status = reserve_incarnations(folders);
    if (status != STATUS_OK)
        log_error("cannot write %s/" STATE_FILE ": %s", config->node.data_dir, strerror(errno));
    return status;
}

enum status master_folders_incarnation(struct master_folders *folders, uint64_t *ret_incarnation)
{
    if (folders->incarnation_next >= folders->incarnation_reserved) {
        enum status status = reserve_incarnations(folders);
        if (status != STATUS_OK)
            return status;
    }
    *ret_incarnation = folders->incarnation_next++;
    return STATUS_OK;
}

/* ---- keys -----------------------------------------------------------------------------------------------
 */

/* Whole or not at all: written under another name first. */
static bool make_key(const struct master_folders *folders, const char *name, uint8_t key[MASTER_KEY_SIZE])
{
    char fresh[64];
    snprintf(fresh, sizeof fresh, "%s.new", name);
    if (getrandom(key, MASTER_KEY_SIZE, 0) != MASTER_KEY_SIZE)
        return false;
    unlinkat(folders->data_dir, fresh, 0);
    int fd = open_file(folders, folders->data_dir, fresh);
    bool done = fd >= 0 && write(fd, key, MASTER_KEY_SIZE) == MASTER_KEY_SIZE && fsync(fd) == 0 &&
                renameat(folders->data_dir, fresh, folders->data_dir, name) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return done && fsync(folders->data_dir) == 0;
}

enum status master_folders_key(const struct config *config, const struct master_folders *folders,
    const char *name, uint8_t ret_key[MASTER_KEY_SIZE])
{
    uint8_t key[MASTER_KEY_SIZE + 1];
    int fd = openat(folders->data_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t size = MASTER_KEY_SIZE;
    if (fd >= 0) {
        size = read(fd, key, sizeof key);
        close(fd);
    } else if (errno != ENOENT || !make_key(folders, name, key)) {
        size = -1;
    }
    if (size < 0) {
        log_error("cannot read or make %s/%s: %s", config->node.data_dir, name, strerror(errno));
        return STATUS_SYSTEM;
    }
    if (size != MASTER_KEY_SIZE) {
        log_error("%s/%s is no key of %d bytes: remove it, or put back the one that was there",
            config->node.data_dir, name, MASTER_KEY_SIZE);
        return STATUS_REFUSED;
    }
    memcpy(ret_key, key, MASTER_KEY_SIZE);
    explicit_bzero(key, sizeof key);
    return STATUS_OK;
}

/* ---- all of it ------------------------------------------------------------------------------------------
 */

enum status master_folders_open(const struct config *config, struct master_folders *ret_folders)
{
    struct master_folders folders = {.run_dir = -1, .data_dir = -1, .lock = -1, .state = -1};
    enum status status = resolve_user(config, &folders);
    if (status == STATUS_OK)
        status = open_folder(&folders, "data_dir", config->node.data_dir, &folders.data_dir);
    if (status == STATUS_OK)
        status = lock_data_dir(config, &folders);
    if (status == STATUS_OK)
        status = open_folder(&folders, "run_dir", config->node.run_dir, &folders.run_dir);
    if (status == STATUS_OK)
        status = lock_run_dir(config, &folders);
    if (status == STATUS_OK)
        status = start_incarnations(config, &folders);
    if (status != STATUS_OK) {
        master_folders_close(&folders);
        return status;
    }
    *ret_folders = folders;
    return STATUS_OK;
}

void master_folders_close(struct master_folders *folders)
{
    descriptor_close(&folders->lock);
    descriptor_close(&folders->run_dir);
    descriptor_close(&folders->state);
    descriptor_close(&folders->data_dir);
}
