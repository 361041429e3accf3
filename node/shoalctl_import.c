/*
 * shoalctl's import of an emq.conf: reads the file, converts it, writes the result and says what a person
 * still has to look at. Needs no running node. Never overwrites a file.
 */
#include "node/shoalctl_import.h"

#include "node/shoalctl.h"

#include "shared/config.h"
#include "shared/emq_import.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EMQ_FILE_MAX (1u << 20) /* bytes; the stock file has 20 KB */

static int usage(void)
{
    fputs(
        "usage: shoalctl import-emq FILE [-o OUT]\n"
        "Converts a configuration of EMQ 2.x into one of Shoal, on standard output or in the new file OUT.\n",
        stderr);
    return SHOALCTL_EXIT_USAGE;
}

/* The file's text, to free(); NULL: said why on standard error. */
static char *read_file(const char *path, size_t *ret_size)
{
    FILE *file = fopen(path, "re");
    char *text = file ? malloc(EMQ_FILE_MAX + 1) : NULL;
    size_t size = text ? fread(text, 1, EMQ_FILE_MAX + 1, file) : 0;
    const char *reason = NULL;
    if (text == NULL || ferror(file))
        reason = strerror(errno);
    else if (size > EMQ_FILE_MAX)
        reason = "too large for a configuration";
    if (file != NULL)
        fclose(file);
    if (reason != NULL) {
        fprintf(stderr, "%s: %s\n", path, reason);
        free(text);
        return NULL;
    }
    *ret_size = size;
    return text;
}

static int write_json(const char *json, const char *path)
{
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640) : STDOUT_FILENO;
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool written = file != NULL && fprintf(file, "%s\n", json) > 0;
    if (file != NULL)
        written = fclose(file) == 0 && written;
    if (!written)
        fprintf(stderr, "%s: %s\n", path ? path : "standard output", strerror(errno));
    return written ? SHOALCTL_EXIT_OK : SHOALCTL_EXIT_CONFIG;
}

/*
 * Loads the result as shoald would, and says what is in the way. SHOALCTL_EXIT_OK unless the configuration
 * itself is wrong: a key or certificate that is still to be brought here is no failure of the conversion.
 */
static int check_json(const char *json, const char *name)
{
    struct config *config = NULL;
    struct config_errors errors = {0};
    if (config_load_text(json, strlen(json), name, &config, &errors) != STATUS_OK)
        fputs("Before shoald takes the result:\n", stderr);
    config_errors_print(&errors, stderr);
    config_errors_done(&errors);
    config_free(&config);
    enum status apart_from_files = config_load_handed(json, strlen(json), &config, &errors);
    config_errors_done(&errors);
    config_free(&config);
    return apart_from_files == STATUS_OK ? SHOALCTL_EXIT_OK : SHOALCTL_EXIT_CONFIG;
}

static int import(const char *path, const char *out)
{
    size_t size;
    char *json = NULL;
    struct config_errors warnings = {0};
    char *text = read_file(path, &size);
    if (text == NULL)
        return SHOALCTL_EXIT_CONFIG;
    enum status status = emq_import(text, size, path, &json, &warnings);
    free(text);
    config_errors_print(&warnings, stderr);
    config_errors_done(&warnings);
    if (status != STATUS_OK) {
        fprintf(stderr, "%s: %s\n", path, status_text(status));
        return SHOALCTL_EXIT_CONFIG;
    }
    int code = write_json(json, out);
    if (code == SHOALCTL_EXIT_OK)
        code = check_json(json, out ? out : "imported.json");
    free(json);
    return code;
}

int shoalctl_import_emq(int argc, char **argv)
{
    const char *out = NULL;
    int option;
    optind = 1;
    while ((option = getopt(argc, argv, "o:")) != -1) {
        if (option != 'o')
            return usage();
        out = optarg;
    }
    return optind == argc - 1 ? import(argv[optind], out) : usage();
}
