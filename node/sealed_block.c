/* Makes a memfd, fills it and seals it, before any child sees it. Master only. */
#include "node/sealed_block.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static enum status write_whole(int fd, const uint8_t *from, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, from, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return STATUS_SYSTEM;
        from += written;
        size -= (size_t)written;
    }
    return STATUS_OK;
}

enum status sealed_block_make(const char *name, struct bytes content, int *ret_fd)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return STATUS_SYSTEM;
    enum status status = write_whole(fd, content.data, content.size);
    if (status == STATUS_OK &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | F_SEAL_WRITE) != 0)
        status = STATUS_SYSTEM;
    if (status != STATUS_OK) {
        int error = errno;
        close(fd);
        errno = error;
        return status;
    }
    *ret_fd = fd;
    return STATUS_OK;
}
