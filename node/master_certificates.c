/* A look at the end dates once an hour; each threshold is told when it is passed, by the time of the look
 * before. */
#include "node/master_certificates.h"

#include "node/master_private.h"
#include "shared/clock.h"

#include <stdlib.h>

#define DAY_S  86400
#define LOOK_S 3600

struct master_certificates {
    struct master *master; /* borrowed */
    struct event *timer;   /* owned */
    int64_t looked_s;      /* real time of the look before */
};

uint32_t master_certificates_threshold(int64_t left_before_s, int64_t left_s)
{
    static const uint32_t days[] = {0, 1, 7, 30};
    for (size_t i = 0; i < sizeof days / sizeof *days; i++) {
        int64_t at_s = (int64_t)days[i] * DAY_S;
        if (left_s <= at_s && left_before_s > at_s)
            return days[i];
    }
    return UINT32_MAX;
}

static void look_at(const json_t *certificate, int64_t before_s, int64_t now_s)
{
    int64_t ends_s = json_integer_value(json_object_get(certificate, "ends_s"));
    uint32_t days = master_certificates_threshold(ends_s - before_s, ends_s - now_s);
    const char *listener = json_string_value(json_object_get(certificate, "listener"));
    const char *file = json_string_value(json_object_get(certificate, "file"));
    const char *date = json_string_value(json_object_get(certificate, "chain_ends"));
    if (days == 0)
        log_error("listener %s: %s has expired (%s): clients refuse it; replace it and reload", listener,
            file, date);
    else if (days != UINT32_MAX)
        log_warning(
            "listener %s: %s, or a certificate of its chain, expires within %u day%s, on %s; replace it and "
            "reload",
            listener, file, (unsigned)days, days == 1 ? "" : "s", date);
}

static void on_look(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct master_certificates *certificates = argument;
    int64_t now_s = (int64_t)(clock_real_us() / 1000000);
    size_t i;
    const json_t *entry;
    json_array_foreach(certificates->master->running->certificates, i, entry)
    {
        look_at(entry, certificates->looked_s, now_s);
    }
    certificates->looked_s = now_s;
}

enum status master_certificates_open(struct master *master, struct master_certificates **ret_certificates)
{
    const struct timeval interval = {.tv_sec = LOOK_S};
    struct master_certificates *certificates = calloc(1, sizeof *certificates);
    if (certificates == NULL)
        return STATUS_NO_MEMORY;
    certificates->master = master;
    certificates->looked_s = (int64_t)(clock_real_us() / 1000000); /* loading has warned of what ends soon */
    certificates->timer = event_new(master->base, -1, EV_PERSIST, on_look, certificates);
    if (certificates->timer == NULL || event_add(certificates->timer, &interval) != 0) {
        master_certificates_close(&certificates);
        return STATUS_NO_MEMORY;
    }
    *ret_certificates = certificates;
    return STATUS_OK;
}

void master_certificates_close(struct master_certificates **certificates)
{
    if (*certificates == NULL)
        return;
    if ((*certificates)->timer != NULL)
        event_free((*certificates)->timer);
    free(*certificates);
    *certificates = NULL;
}
