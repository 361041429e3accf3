/* Names of the status values, for log lines. Any process. */
#include "shared/status.h"

const char *status_text(enum status status)
{
    static const char *const texts[] = {
        [STATUS_OK] = "ok",
        [STATUS_AGAIN] = "not yet",
        [STATUS_PROTOCOL] = "protocol error",
        [STATUS_LIMIT] = "limit exceeded",
        [STATUS_SYSTEM] = "system error",
        [STATUS_NO_MEMORY] = "out of memory",
        [STATUS_NOT_FOUND] = "not found",
        [STATUS_EXISTS] = "exists already",
        [STATUS_REFUSED] = "refused",
        [STATUS_CLOSED] = "closed",
        [STATUS_INVALID] = "invalid",
    };
    if ((unsigned)status >= sizeof texts / sizeof *texts)
        return "unknown status";
    return texts[status];
}
