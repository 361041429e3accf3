/*
 * The spare descriptor and what is told of it. Worker process; no logging here, the caller does. Another
 * thread of the process may take the descriptor while it is given up: then refusing fails and is tried later.
 */
#include "node/descriptor_reserve.h"

#include "node/child_descriptors.h"
#include "node/descriptor.h"

#include <fcntl.h>
#include <sys/socket.h>

#define TELL_US UINT64_C(10000000)

static void take(struct descriptor_reserve *reserve)
{
    if (reserve->fd < 0)
        reserve->fd = fcntl(CHILD_FD_NULL, F_DUPFD_CLOEXEC, CHILD_FD_FIRST_OTHER);
}

void descriptor_reserve_init(struct descriptor_reserve *reserve)
{
    *reserve = (struct descriptor_reserve){.fd = -1};
    take(reserve);
}

void descriptor_reserve_done(struct descriptor_reserve *reserve)
{
    descriptor_close(&reserve->fd);
}

bool descriptor_reserve_refuse(struct descriptor_reserve *reserve, int listening_fd)
{
    descriptor_close(&reserve->fd);
    int client = accept4(listening_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    bool refused = client >= 0;
    descriptor_close(&client);
    take(reserve);
    reserve->refused += refused;
    return refused;
}

bool descriptor_reserve_tell(struct descriptor_reserve *reserve, uint64_t now_us, uint32_t *ret_refused)
{
    if (reserve->logged_us != 0 && now_us - reserve->logged_us < TELL_US)
        return false;
    *ret_refused = reserve->refused;
    reserve->logged_us = now_us;
    reserve->refused = 0;
    return true;
}
