/*
 * Loads configurations: text to JSON, JSON to the struct, checks of the whole; and hands them on. The master
 * and the tools load files, the children what the master hands them. Nothing is kept between calls.
 */
#include "shared/config.h"

#include "shared/config_address.h"
#include "shared/config_check.h"
#include "shared/config_cluster.h"
#include "shared/config_context.h"
#include "shared/config_lines.h"
#include "shared/config_parse.h"
#include "shared/config_path.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_FILE_MAX (4u << 20) /* bytes; a file that is larger is some other file */

static void complain_repeated(void *context, const char *path, unsigned line, unsigned first_line)
{
    config_complain_line(
        context, line, "%s: given twice, on line %u already; allowed: each key once", path, first_line);
}

/* jansson stops at the first mistake in the syntax. Keys that stand twice it would report without a path. */
json_t *config_decode(const struct config_context *context, const char *text, size_t size)
{
    json_error_t error;
    json_t *root = json_loadb(text, size, 0, &error);
    if (root == NULL)
        config_complain_line(context, error.line > 0 ? (unsigned)error.line : 0,
            "no valid JSON: %s, column %d", error.text, error.column);
    else if (!context->handed)
        config_find_repeated(text, size, complain_repeated, (void *)context);
    return root;
}

enum status config_build(const struct config_context *context, const json_t *root,
    struct config_cluster *cluster, struct config **ret_config)
{
    struct config *config = calloc(1, sizeof *config);
    if (config == NULL)
        return STATUS_NO_MEMORY;
    config->file = strdup(context->file);
    assert(config->file != NULL);
    if (cluster != NULL) {
        config->cluster = *cluster;
        *cluster = (struct config_cluster){0};
    }
    config_parse(context, root, config);
    if (json_is_object(root))
        config_check(context, config);
    if (config_errors_failures(context->errors) > 0) {
        if (context->errors->further != NULL)
            context->errors->further(context->errors->context, config, context->errors);
        config_free(&config);
        return STATUS_INVALID;
    }
    *ret_config = config;
    return STATUS_OK;
}

static enum status load_document(
    struct config_context *context, const char *text, size_t size, struct config **ret_config)
{
    struct config_cluster cluster = {0};
    json_t *root = config_decode(context, text, size);
    if (root == NULL)
        return STATUS_INVALID;
    context->text = text;
    context->size = size;
    if (context->handed)
        config_cluster_take(root, &cluster);
    enum status status = STATUS_INVALID;
    if (json_is_array(json_object_get(root, "nodes")))
        config_complain(context, "nodes",
            "this is the file of a cluster; allowed: shoald --cluster FILE --node NAME, and the same for "
            "shoalctl");
    else
        status = config_build(context, root, &cluster, ret_config);
    json_decref(root);
    config_cluster_done(&cluster);
    return status;
}

enum status config_load_text(
    const char *text, size_t size, const char *name, struct config **ret_config, struct config_errors *errors)
{
    enum status status = STATUS_SYSTEM;
    char *file = config_path_absolute(name);
    char *base = file ? config_path_base(file, "conf") : NULL;
    if (base != NULL) {
        struct config_context context = {.file = file, .base = base, .errors = errors};
        status = load_document(&context, text, size, ret_config);
    }
    free(base);
    free(file);
    return status;
}

enum status config_load_handed(
    const char *text, size_t size, struct config **ret_config, struct config_errors *errors)
{
    struct config_context context = {
        .file = "configuration from the master", .base = "/", .handed = true, .errors = errors};
    return load_document(&context, text, size, ret_config);
}

char *config_read_file(const struct config_context *context, size_t *ret_size)
{
    int fd = open(context->file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    char *text = fd >= 0 ? malloc(CONFIG_FILE_MAX + 1) : NULL;
    size_t size = 0;
    ssize_t got = text != NULL ? 1 : -1;
    while (got > 0 && size <= CONFIG_FILE_MAX) {
        got = read(fd, text + size, CONFIG_FILE_MAX + 1 - size);
        if (got > 0)
            size += (size_t)got;
        else if (got < 0 && errno == EINTR)
            got = 1;
    }
    if (got < 0)
        config_complain(context, "", "%s; allowed: a readable JSON file", strerror(errno));
    else if (size > CONFIG_FILE_MAX)
        config_complain(
            context, "", "larger than %u bytes; allowed: a JSON file with a configuration", CONFIG_FILE_MAX);
    if (fd >= 0)
        close(fd);
    if (got < 0 || size > CONFIG_FILE_MAX) {
        free(text);
        return NULL;
    }
    *ret_size = size;
    return text;
}

enum status config_load(const char *path, struct config **ret_config, struct config_errors *errors)
{
    char *file = config_path_absolute(path);
    if (file == NULL)
        return STATUS_SYSTEM;
    struct config_context context = {.file = file, .errors = errors};
    enum status status = STATUS_INVALID;
    size_t size;
    char *text = config_read_file(&context, &size);
    if (text != NULL)
        status = config_load_text(text, size, path, ret_config, errors);
    free(text);
    free(file);
    return status;
}

char *config_to_json(const struct config *config)
{
    json_t *root = config_unparse(config);
    config_cluster_give(&config->cluster, root);
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    json_decref(root);
    return text;
}

struct config *config_share(const struct config *config)
{
    struct config *shared = (struct config *)(uintptr_t)config; /* the count is all that changes */
    shared->sharers++;
    return shared;
}

void config_free(struct config **config)
{
    if (*config == NULL)
        return;
    if ((*config)->sharers > 0) {
        (*config)->sharers--;
        *config = NULL;
        return;
    }
    config_parse_done(*config);
    config_cluster_done(&(*config)->cluster);
    free((*config)->file);
    free(*config);
    *config = NULL;
}

bool config_listener_has_tls(const struct config_listener *listener)
{
    return listener->type == CONFIG_LISTENER_SSL || listener->type == CONFIG_LISTENER_WSS;
}

bool config_listener_has_websocket(const struct config_listener *listener)
{
    return listener->type == CONFIG_LISTENER_WS || listener->type == CONFIG_LISTENER_WSS;
}

bool config_listener_allows_anonymous(const struct config *config, const struct config_listener *listener)
{
    if (config->auth.allow_anonymous != CONFIG_ANONYMOUS_AUTO)
        return config->auth.allow_anonymous == CONFIG_ANONYMOUS_YES;
    if (config->auth.password_file != NULL)
        return false;
    bool local = config_bind_is_loopback(&listener->bind) && !listener->proxy_protocol;
    return local || (listener->tls.verify == CONFIG_VERIFY_PEER && listener->tls.fail_if_no_peer_cert);
}

uint32_t config_listener_methods(const struct config *config, const struct config_listener *listener)
{
    if (config->auth.password_file == NULL)
        return 0;
    bool bindable = config_listener_has_tls(listener) && (listener->tls.versions & CONFIG_TLS_1_3);
    return bindable ? config->auth.methods : config->auth.methods & ~(uint32_t)CONFIG_AUTH_SCRAM_SHA_256_PLUS;
}
