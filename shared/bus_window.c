/*
 * Sealed memfds as windows of lanes: made by the master, mapped by both sides. The seals are checked before
 * mapping: a file that could shrink would turn every access into a possible SIGBUS.
 */
#include "shared/bus_window.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The ring's file: one page with the head, one with what was taken from other lanes, then the data. The
 * cursor's file: one page. */
#define PAGE      4096
#define HEAD_SIZE (2 * PAGE)

_Static_assert(BUS_WINDOW_SOURCES * 2 * sizeof(struct bus_window_taken) == PAGE, "fits its page");

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

struct cursor_page {
    uint64_t cursor;
    uint64_t trying;
    uint64_t tries;
    uint8_t apart[512]; /* from what changes with every frame */
    uint64_t naps;
};

static enum status create_sealed(const char *name, size_t size, int *ret_fd)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return STATUS_SYSTEM;
    /* Only the owner may open it again for writing: a child with another user that has it read-only cannot.
     */
    if (fchmod(fd, S_IRUSR | S_IWUSR) != 0 || ftruncate(fd, (off_t)size) != 0 ||
        fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
        close(fd);
        return STATUS_SYSTEM;
    }
    *ret_fd = fd;
    return STATUS_OK;
}

static bool size_allowed(size_t size)
{
    return size >= BUS_WINDOW_MIN && size <= BUS_WINDOW_MAX && (size & (size - 1)) == 0;
}

enum status bus_window_create(size_t size, int *ret_ring_fd, int *ret_cursor_fd)
{
    if (!size_allowed(size))
        return STATUS_INVALID;
    int ring, cursor;
    enum status status = create_sealed("shoal-lane-ring", HEAD_SIZE + size, &ring);
    if (status != STATUS_OK)
        return status;
    status = create_sealed("shoal-lane-cursor", PAGE, &cursor);
    if (status != STATUS_OK) {
        close(ring);
        return status;
    }
    *ret_ring_fd = ring;
    *ret_cursor_fd = cursor;
    return STATUS_OK;
}

enum status bus_window_reopen_readonly(int fd, int *ret_fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDONLY | O_CLOEXEC);
    if (again < 0)
        return STATUS_SYSTEM;
    *ret_fd = again;
    return STATUS_OK;
}

size_t bus_window_round(size_t size)
{
    size_t rounded = BUS_WINDOW_MIN;
    while (rounded < BUS_WINDOW_MAX && rounded * 2 <= size)
        rounded *= 2;
    return rounded;
}

/* The size of a file that nobody can change any more. */
static enum status sealed_size(int fd, size_t *ret_size)
{
    struct stat about;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || fstat(fd, &about) != 0)
        return STATUS_SYSTEM;
    if ((seals & SEALS) != SEALS || about.st_size < PAGE)
        return STATUS_INVALID;
    *ret_size = (size_t)about.st_size;
    return STATUS_OK;
}

/* In the head page, apart from the head, which changes all the time. */
#define BEHIND_AT 512

/* Head pages, data, and the data once more behind it. */
static enum status map_ring(int fd, int protection, struct bus_window *window)
{
    size_t file_size;
    enum status status = sealed_size(fd, &file_size);
    if (status != STATUS_OK)
        return status;
    if (file_size < HEAD_SIZE)
        return STATUS_INVALID;
    size_t size = file_size - HEAD_SIZE;
    if (!size_allowed(size))
        return STATUS_INVALID;
    uint8_t *base =
        mmap(NULL, HEAD_SIZE + 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return STATUS_SYSTEM;
    if (mmap(base, HEAD_SIZE + size, protection, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
        mmap(base + HEAD_SIZE + size, size, protection, MAP_SHARED | MAP_FIXED, fd, HEAD_SIZE) ==
            MAP_FAILED) {
        munmap(base, HEAD_SIZE + 2 * size);
        return STATUS_SYSTEM;
    }
    window->ring = base + HEAD_SIZE;
    window->size = size;
    window->head = (uint64_t *)(void *)base;
    window->taken = (struct bus_window_taken(*)[2])(void *)(base + PAGE);
    window->behind = (uint64_t *)(void *)(base + BEHIND_AT);
    return STATUS_OK;
}

static enum status map_cursor(int fd, int protection, struct bus_window *window)
{
    size_t file_size;
    enum status status = sealed_size(fd, &file_size);
    if (status != STATUS_OK)
        return status;
    struct cursor_page *page = mmap(NULL, PAGE, protection, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return STATUS_SYSTEM;
    window->cursor = &page->cursor;
    window->trying = &page->trying;
    window->tries = &page->tries;
    window->naps = &page->naps;
    return STATUS_OK;
}

static enum status map_both(
    int ring_fd, int ring_protection, int cursor_fd, int cursor_protection, struct bus_window *ret_window)
{
    struct bus_window window = {0};
    enum status status = map_ring(ring_fd, ring_protection, &window);
    if (status == STATUS_OK)
        status = map_cursor(cursor_fd, cursor_protection, &window);
    if (status != STATUS_OK) {
        bus_window_unmap(&window);
        return status;
    }
    *ret_window = window;
    return STATUS_OK;
}

enum status bus_window_map_sender(int ring_fd, int cursor_fd, struct bus_window *ret_window)
{
    return map_both(ring_fd, PROT_READ | PROT_WRITE, cursor_fd, PROT_READ, ret_window);
}

enum status bus_window_map_receiver(int ring_fd, int cursor_fd, struct bus_window *ret_window)
{
    return map_both(ring_fd, PROT_READ, cursor_fd, PROT_READ | PROT_WRITE, ret_window);
}

void bus_window_unmap(struct bus_window *window)
{
    if (window->head != NULL)
        munmap(window->head, HEAD_SIZE + 2 * window->size);
    if (window->cursor != NULL)
        munmap(window->cursor, PAGE);
    memset(window, 0, sizeof *window);
}
