/* Reads /proc: schedstat for CPU (nanoseconds), smaps_rollup for memory. */
#include "bench/process_cpu.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define TREE_MAX 256

static pid_t parent_of(pid_t pid)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -1;
    size_t size = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[size] = '\0';
    const char *end = strrchr(line, ')'); /* the name may hold anything */
    int parent = -1;
    if (end != NULL)
        sscanf(end + 1, " %*c %d", &parent);
    return parent;
}

/* The process and its descendants; returns how many. */
static unsigned tree(pid_t root, pid_t *members)
{
    unsigned count = 0;
    members[count++] = root;
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    while (proc != NULL && (entry = readdir(proc)) != NULL) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        pid_t parent = pid > 0 && pid != root ? parent_of(pid) : -1;
        for (int up = 0; up < 4 && parent > 1 && parent != root; up++)
            parent = parent_of(parent);
        if (parent == root && count < TREE_MAX)
            members[count++] = pid;
    }
    if (proc != NULL)
        closedir(proc);
    return count;
}

static uint64_t process_cpu_ns(pid_t pid)
{
    char path[300];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    uint64_t sum = 0;
    DIR *tasks = opendir(path);
    struct dirent *entry;
    while (tasks != NULL && (entry = readdir(tasks)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.16s/schedstat", pid, entry->d_name);
        FILE *file = fopen(path, "re");
        unsigned long long ns = 0;
        if (file != NULL) {
            if (fscanf(file, "%llu", &ns) == 1)
                sum += ns;
            fclose(file);
        }
    }
    if (tasks != NULL)
        closedir(tasks);
    return sum;
}

uint64_t process_tree_cpu_us(pid_t pid)
{
    pid_t members[TREE_MAX];
    unsigned count = tree(pid, members);
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += process_cpu_ns(members[i]);
    return sum / 1000;
}

void process_tree_memory(pid_t pid, uint64_t *ret_pss, uint64_t *ret_private)
{
    pid_t members[TREE_MAX];
    unsigned count = tree(pid, members);
    *ret_pss = *ret_private = 0;
    for (unsigned i = 0; i < count; i++) {
        char path[64], line[256];
        snprintf(path, sizeof path, "/proc/%d/smaps_rollup", members[i]);
        FILE *file = fopen(path, "re");
        while (file != NULL && fgets(line, sizeof line, file) != NULL) {
            unsigned long long kb;
            if (sscanf(line, "Pss: %llu kB", &kb) == 1)
                *ret_pss += kb * 1024;
            if (sscanf(line, "Private_Clean: %llu kB", &kb) == 1 ||
                sscanf(line, "Private_Dirty: %llu kB", &kb) == 1)
                *ret_private += kb * 1024;
        }
        if (file != NULL)
            fclose(file);
    }
}

uint64_t own_cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}
