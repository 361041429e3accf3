/* Closing of descriptors that may not be open. Any process. */
#ifndef NODE_DESCRIPTOR_H
#define NODE_DESCRIPTOR_H

#include <unistd.h>

/* Closes it if it is open and sets it to -1. */
static inline void descriptor_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

#endif
