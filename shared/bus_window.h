/*
 * The window of a lane: two sealed memfds that outlive both processes (BUS rules 1). The *ring* holds the
 * frames and the head, written by the sender only; the *cursor* is written by the receiver only. Each side
 * has the other's file read-only. The master makes them; sender and receiver map them. The ring is mapped
 * twice back to back, so that every frame is contiguous wherever it starts. Offsets count bytes since the
 * lane was made and never go back. What stands in the other side's file is hostile: it is copied first, then
 * checked, by the caller.
 */
#ifndef SHARED_BUS_WINDOW_H
#define SHARED_BUS_WINDOW_H

#include "shared/status.h"

#include <stddef.h>
#include <stdint.h>

#define BUS_WINDOW_MIN ((size_t)1 << 12)
#define BUS_WINDOW_MAX ((size_t)1 << 30)

/*
 * Makes the two files of one lane, sealed against any change of size, close-on-exec. `size`: a power of two
 * from BUS_WINDOW_MIN to BUS_WINDOW_MAX (else STATUS_INVALID). Master.
 */
enum status bus_window_create(size_t size, int *ret_ring_fd, int *ret_cursor_fd) CHECK_RESULT;

/* A second descriptor of the same file that can only read; close-on-exec. Master, for the other side. */
enum status bus_window_reopen_readonly(int fd, int *ret_fd) CHECK_RESULT;

/* The largest power of two not above `size`, within the limits: what bus_window_create takes. */
size_t bus_window_round(size_t size);

/*
 * What a sender that passes on other lanes' frames has taken from them, as of a head: two entries per source,
 * written in turn, so that one always holds. bus_lane_out.h has the rules.
 */
#define BUS_WINDOW_SOURCES 64
struct bus_window_taken {
    uint64_t number; /* counts up; 0: nothing was written */
    uint64_t id;     /* whose offsets these are: a source that begins anew has another */
    uint64_t head;   /* of this ring, once what was taken lies in it */
    uint64_t offset; /* of the source, up to which it was taken */
};

/* A mapped window. Embedded in the lane; the members are hot. */
struct bus_window {
    uint8_t *ring;    /* `size` bytes twice back to back; readable only at the receiver */
    size_t size;      /* power of two */
    uint64_t *head;   /* in the ring's file, as the next */
    uint64_t *behind; /* not 0: the sender has kept control records back, the receiver must ask for all */
    struct bus_window_taken (*taken)[2]; /* [BUS_WINDOW_SOURCES]; in the ring's file */
    uint64_t *cursor;                    /* in the cursor's file, as the next three */
    uint64_t *trying;                    /* offset of the frame that the receiver is applying, + 1; 0: none */
    uint64_t *tries;                     /* how often it was begun */
    uint64_t *naps; /* odd: the receiver sleeps, or is about to; grows with every change */
};

enum status bus_window_map_sender(int ring_fd, int cursor_fd, struct bus_window *ret_window) CHECK_RESULT;
enum status bus_window_map_receiver(int ring_fd, int cursor_fd, struct bus_window *ret_window) CHECK_RESULT;
/* Unmaps what is mapped; harmless on a zeroed one. */
void bus_window_unmap(struct bus_window *window);

static inline uint64_t bus_window_load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void bus_window_store(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* Where the byte at this offset lies; up to `size` bytes follow it contiguously. */
static inline uint8_t *bus_window_at(const struct bus_window *window, uint64_t offset)
{
    return window->ring + (offset & (window->size - 1));
}

#endif
