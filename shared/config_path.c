/*
 * Resolves and looks at the paths of a configuration. Called while one is loaded, by the master and the
 * tools; blocks only as the file system does (a FIFO in a file's place is opened without waiting).
 */
#include "shared/config_path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *config_path_join(const char *base, const char *path)
{
    char *joined = NULL;
    if (*path == '/')
        return strdup(path);
    while (strncmp(path, "./", 2) == 0)
        path += 2;
    if (asprintf(&joined, "%s/%s", strcmp(base, "/") == 0 ? "" : base, path) < 0)
        return NULL;
    return joined;
}

char *config_path_absolute(const char *path)
{
    char *current = getcwd(NULL, 0);
    if (current == NULL)
        return NULL;
    char *absolute = config_path_join(current, path);
    free(current);
    return absolute;
}

/* Cuts the last component off: "/a/b" becomes "/a", "/a" becomes "/". */
static void cut_component(char *path)
{
    char *slash = strrchr(path, '/');
    slash[slash == path ? 1 : 0] = '\0';
}

char *config_path_base(const char *file, const char *folder_name)
{
    char *folder = strdup(file);
    if (folder == NULL)
        return NULL;
    cut_component(folder);
    char *real = realpath(folder, NULL); /* "conf/.", "x/../conf" */
    if (real != NULL) {
        free(folder);
        folder = real;
    }
    if (strcmp(strrchr(folder, '/') + 1, folder_name) != 0) {
        free(folder);
        return getcwd(NULL, 0);
    }
    cut_component(folder);
    return folder;
}

const char *config_path_unreadable(const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return strerror(errno);
    const char *reason = NULL;
    if (fstat(fd, &status) != 0)
        reason = strerror(errno);
    else if (S_ISDIR(status.st_mode))
        reason = "a folder";
    else if (S_ISREG(status.st_mode) && status.st_size == 0)
        reason = "an empty file";
    close(fd);
    return reason;
}

const char *config_path_not_folder(const char *path)
{
    struct stat status;
    if (stat(path, &status) == 0)
        return S_ISDIR(status.st_mode) ? NULL : "not a folder";
    return errno == ENOENT ? NULL : strerror(errno);
}
