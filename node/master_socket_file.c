/*
 * Unix sockets in the file system. Whether a socket's file is in use is found out by connecting: a refused
 * connection means that whoever made it has gone. The mode is right from the first moment on, by umask.
 * Master.
 */
#include "node/master_socket_file.h"

#include "node/descriptor.h"
#include "node/master_folders.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

static int socket_new(void)
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* Does nobody listen there any more? */
static bool is_stale(const struct config_bind *bind)
{
    int fd = socket_new();
    if (fd < 0)
        return false;
    bool refused = connect(fd, (const struct sockaddr *)&bind->address, bind->address_size) != 0 &&
                   errno == ECONNREFUSED;
    descriptor_close(&fd);
    return refused;
}

static enum status clear_way(const struct config_bind *bind, const char **ret_error)
{
    struct stat info;
    if (lstat(bind->text, &info) != 0)
        return STATUS_OK; /* nothing there, or bind() will say why not */
    if (!S_ISSOCK(info.st_mode)) {
        *ret_error = "a file that is no socket is there already; move it, or choose another path";
        return STATUS_EXISTS;
    }
    if (!is_stale(bind)) {
        *ret_error = "another program listens there; stop that or choose another path";
        return STATUS_EXISTS;
    }
    return unlink(bind->text) == 0 || errno == ENOENT ? STATUS_OK : STATUS_SYSTEM;
}

/* Bound, with the mode, before anybody can connect: it does not listen yet. */
static enum status bind_file(int fd, const struct config_listener *listener)
{
    mode_t before = umask((mode_t)~listener->mode & 0777);
    int bound = bind(fd, (const struct sockaddr *)&listener->bind.address, listener->bind.address_size);
    int error = errno;
    umask(before);
    errno = error;
    return bound == 0 ? STATUS_OK : STATUS_SYSTEM;
}

/* Root gives the file away, and the folder may be the node's user's: it must be what was just bound, not what
   somebody has put in its place. */
static enum status own_file(
    const struct config_listener *listener, uid_t uid, gid_t gid, struct master_socket_file *ret_file)
{
    struct stat info;
    int fd = open(listener->bind.text, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return STATUS_SYSTEM;
    bool good = fstat(fd, &info) == 0;
    if (good && (!S_ISSOCK(info.st_mode) || info.st_uid != geteuid() || info.st_nlink != 1)) {
        errno = EPERM;
        good = false;
    }
    if (good && (info.st_uid != uid || info.st_gid != gid))
        good = fchownat(fd, "", uid, gid, AT_EMPTY_PATH) == 0;
    int error = errno;
    descriptor_close(&fd);
    errno = error;
    if (!good)
        return STATUS_SYSTEM;
    *ret_file = (struct master_socket_file){info.st_dev, info.st_ino};
    return STATUS_OK;
}

enum status master_socket_file_open(const struct config_listener *listener, uid_t uid, gid_t gid,
    struct master_socket_file *ret_file, int *ret_fd, const char **ret_error)
{
    struct master_socket_file file = {0};
    master_folders_make_parents(listener->bind.text);
    enum status status = clear_way(&listener->bind, ret_error);
    if (status != STATUS_OK)
        return status;
    int fd = socket_new();
    if (fd < 0)
        return STATUS_SYSTEM;
    status = bind_file(fd, listener);
    if (status == STATUS_OK)
        status = own_file(listener, uid, gid, &file);
    if (status == STATUS_OK && listen(fd, (int)listener->backlog) != 0)
        status = STATUS_SYSTEM;
    if (status != STATUS_OK) {
        int error = errno;
        master_socket_file_remove(listener, &file);
        close(fd);
        errno = error;
        return status;
    }
    *ret_file = file;
    *ret_fd = fd;
    return STATUS_OK;
}

enum status master_socket_file_mode(
    const struct config_listener *listener, const struct master_socket_file *file)
{
    char path[64];
    struct stat info;
    int fd = open(listener->bind.text, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    bool good = fd >= 0 && fstat(fd, &info) == 0;
    if (good && (info.st_dev != file->device || info.st_ino != file->number)) {
        errno = ESTALE;
        good = false;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    good = good && chmod(path, listener->mode) == 0;
    int error = errno;
    descriptor_close(&fd);
    errno = error;
    return good ? STATUS_OK : STATUS_SYSTEM;
}

void master_socket_file_remove(const struct config_listener *listener, struct master_socket_file *file)
{
    struct stat info;
    if (file->number != 0 && lstat(listener->bind.text, &info) == 0 && info.st_dev == file->device &&
        info.st_ino == file->number)
        unlink(listener->bind.text);
    *file = (struct master_socket_file){0};
}
