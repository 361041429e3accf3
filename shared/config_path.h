/*
 * Paths in a configuration: absolute from the start, so that no message is ambiguous and no later change of
 * the working directory matters. Looks at files, never changes one.
 */
#ifndef SHARED_CONFIG_PATH_H
#define SHARED_CONFIG_PATH_H

#include <stdbool.h>

/* `path` itself if absolute, otherwise below `base`. To free(); NULL: no memory. */
char *config_path_join(const char *base, const char *path);

/* The absolute form of a file's name. To free(); NULL: no memory, or no working directory. */
char *config_path_absolute(const char *path);

/*
 * The folder that relative paths in the file start from: the parent of its folder if that is named
 * `folder_name`
 * ("conf"), otherwise the working directory. `file` is absolute. To free().
 */
char *config_path_base(const char *file, const char *folder_name);

/* NULL if this is a file with bytes that this process may read, otherwise why not. */
const char *config_path_unreadable(const char *path);

/* NULL if this is a folder or nothing yet, otherwise what it is. */
const char *config_path_not_folder(const char *path);

#endif
