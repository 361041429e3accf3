/*
 * Reads affinity and control group quotas for `"workers": "auto"`. The master calls it once per load of the
 * configuration. A quota may stand at any level of the group's path, so all levels are asked.
 */
#include "shared/cpu_count.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool read_text(const char *path, char *to, size_t room)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t size = fread(to, 1, room - 1, file);
    to[size] = '\0';
    fclose(file);
    return size > 0;
}

unsigned cpu_count_of_quota(const char *text)
{
    long long quota;
    long long period;
    if (sscanf(text, "%lld %lld", &quota, &period) != 2 || quota <= 0 || period <= 0)
        return 0;
    long long cpus = quota / period + (quota % period != 0);
    return cpus > INT_MAX ? 0 : (unsigned)cpus;
}

/* The quota that one folder of the hierarchy states, in the notation of version 2. */
static unsigned quota_of_folder(const char *folder)
{
    char path[PATH_MAX + 32];
    char text[128];
    char quota[64];
    char period[32];
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    if (read_text(path, text, sizeof text))
        return cpu_count_of_quota(text);
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (!read_text(path, quota, sizeof quota))
        return 0;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    if (!read_text(path, period, sizeof period))
        return 0;
    snprintf(text, sizeof text, "%s %s", quota, period);
    return cpu_count_of_quota(text);
}

/* Lowers *cpus to the least quota on the way from mount/group up to the mount. */
static void apply_quotas(const char *mount, const char *group, unsigned *cpus)
{
    char folder[PATH_MAX];
    if ((size_t)snprintf(folder, sizeof folder, "%s%s", mount, group) >= sizeof folder)
        return;
    while (strlen(folder) >= strlen(mount)) {
        unsigned quota = quota_of_folder(folder);
        if (quota != 0 && quota < *cpus)
            *cpus = quota;
        char *slash = strrchr(folder, '/');
        if (slash == NULL)
            return;
        *slash = '\0';
    }
}

/* One line of /proc/self/cgroup: "0::/path" (version 2) or "4:cpu,cpuacct:/path" (version 1). */
static void apply_group_line(char *line, unsigned *cpus)
{
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (group == NULL)
        return;
    *group++ = '\0';
    controllers++;
    if (*controllers == '\0')
        apply_quotas("/sys/fs/cgroup", group, cpus);
    else if (strcmp(controllers, "cpu") == 0 || strstr(controllers, "cpu,") || strstr(controllers, ",cpu"))
        apply_quotas("/sys/fs/cgroup/cpu", group, cpus);
}

unsigned cpu_count(void)
{
    cpu_set_t set;
    unsigned cpus = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        cpus = (unsigned)CPU_COUNT(&set);
    FILE *groups = fopen("/proc/self/cgroup", "re");
    if (groups == NULL)
        return cpus;
    char line[PATH_MAX];
    while (fgets(line, sizeof line, groups) != NULL)
        apply_group_line(line, &cpus);
    fclose(groups);
    return cpus;
}
