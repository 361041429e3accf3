/*
 * One spare descriptor of a worker, given up for a moment when there is none left: so that a client for which
 * there is no room is told so by a closed connection, instead of waiting in the backlog until its own
 * time-out. Worker process.
 */
#ifndef NODE_DESCRIPTOR_RESERVE_H
#define NODE_DESCRIPTOR_RESERVE_H

#include <stdbool.h>
#include <stdint.h>

struct descriptor_reserve {
    int fd;             /* owned; -1: used up */
    uint64_t logged_us; /* when the shortage was last logged; 0: never */
    uint32_t refused;   /* since then */
};

void descriptor_reserve_init(struct descriptor_reserve *reserve);
void descriptor_reserve_done(struct descriptor_reserve *reserve);
/* Closes the connection that waits longest on the listening socket. False: not even that is possible now. */
bool descriptor_reserve_refuse(struct descriptor_reserve *reserve, int listening_fd);
/* Whether the shortage is to be logged now, which is every ten seconds at most. *ret_refused: connections
 * refused since it was last. */
bool descriptor_reserve_tell(struct descriptor_reserve *reserve, uint64_t now_us, uint32_t *ret_refused);

#endif
