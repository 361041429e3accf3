/* Takes a generation out of its memfds. Any child; must have dropped its privileges before. */
#include "node/child_generation.h"

#include "shared/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* A sealed memfd, read-only; BYTES_NONE and nothing mapped for an empty one. */
static enum status map_block(int fd, struct bytes *ret_block)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return STATUS_SYSTEM;
    if (info.st_size == 0) {
        *ret_block = BYTES_NONE;
        return STATUS_OK;
    }
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return STATUS_SYSTEM;
    *ret_block = bytes_of(data, (size_t)info.st_size);
    return STATUS_OK;
}

static void unmap_block(struct bytes *block)
{
    if (block->size > 0)
        munmap((void *)(uintptr_t)block->data, block->size);
    *block = BYTES_NONE;
}

static enum status load_config(int fd, struct config **ret_config)
{
    struct bytes text;
    enum status status = map_block(fd, &text);
    if (status != STATUS_OK)
        return status;
    struct config_errors errors = {0};
    status = config_load_handed((const char *)text.data, text.size, ret_config, &errors);
    if (status != STATUS_OK)
        config_errors_print(&errors, stderr);
    config_errors_done(&errors);
    unmap_block(&text);
    return status;
}

static enum status take_secret(int fd, struct bytes *ret_block, bool lock)
{
    enum status status = map_block(fd, ret_block);
    if (status != STATUS_OK || ret_block->size == 0)
        return status;
    void *data = (void *)(uintptr_t)ret_block->data;
    madvise(data, ret_block->size, MADV_DONTDUMP);
    if (lock && mlock(data, ret_block->size) != 0)
        log_warning("key material may be swapped out, since locking it failed: %s (raise the memlock limit)",
            strerror(errno));
    return STATUS_OK;
}

enum status child_generation_take(uint64_t number, const uint8_t places[CONFIG_LISTENERS_MAX], int config,
    int secrets, int access, int revoked, struct child_generation *ret_generation, const char **ret_what)
{
    struct child_generation generation = {.number = number};
    memcpy(generation.places, places, sizeof generation.places);
    const char *what = "read the configuration that the master handed over";
    enum status status = load_config(config, &generation.config);
    if (status == STATUS_OK) {
        what = "map the key material";
        status = take_secret(secrets, &generation.secrets, true);
    }
    if (status == STATUS_OK) {
        what = "map the access files";
        status = take_secret(access, &generation.access, false);
    }
    if (status == STATUS_OK) {
        what = "map the revoked certificates";
        status = tls_revoked_map(revoked, &generation.revoked);
    }
    if (status != STATUS_OK) {
        child_generation_done(&generation);
        *ret_what = what;
        return status;
    }
    *ret_generation = generation;
    return STATUS_OK;
}

void child_generation_forget(struct child_generation *generation)
{
    unmap_block(&generation->secrets);
    unmap_block(&generation->access);
    tls_revoked_unref(&generation->revoked);
}

void child_generation_done(struct child_generation *generation)
{
    child_generation_forget(generation);
    config_free(&generation->config);
    *generation = (struct child_generation){0};
}
