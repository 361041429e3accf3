/*
 * Loads a generation in the order in which its parts depend on each other. Secrets are in the heap only until
 * they lie in a sealed memfd, then they are wiped: nothing here outlives a load but what may be shown.
 */
#include "node/master_generation.h"

#include "node/descriptor.h"
#include "node/sealed_block.h"
#include "shared/config_path.h"
#include "shared/tls_pem.h"
#include "shared/tls_summary.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

/* ---- the blocks for the children -------------------------------------------------------------------------
 */

/* Passwords of keys are for the master alone: the text is made from a copy of the listeners without them. */
static enum status make_config(const struct config *config, int *ret_fd)
{
    struct config handed = *config;
    handed.listeners = calloc(config->listener_count + 1, sizeof *handed.listeners);
    if (handed.listeners == NULL)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < config->listener_count; i++) {
        handed.listeners[i] = config->listeners[i];
        handed.listeners[i].tls.password = NULL;
        handed.listeners[i].tls.password_file = NULL;
    }
    handed.bus.password_file = NULL;
    char *text = config_to_json(&handed);
    free(handed.listeners);
    if (text == NULL)
        return STATUS_NO_MEMORY;
    enum status status = sealed_block_make("shoal-config", bytes_of_text(text), ret_fd);
    free(text);
    return status;
}

/* Of the listeners, or of the link. */
static enum status make_secrets(const struct tls_material *material, bool link, int *ret_fd)
{
    uint8_t *block = NULL;
    size_t size = 0;
    enum status status = link ? tls_material_serialize_link(material, &block, &size)
                              : tls_material_serialize(material, &block, &size);
    if (status == STATUS_OK)
        status = sealed_block_make("shoal-secrets", bytes_of(block, size), ret_fd);
    tls_material_wipe(&block, size);
    return status;
}

static enum status make_revoked(const struct tls_material *material, int *ret_fd)
{
    uint8_t *block = NULL;
    size_t size = 0;
    enum status status = tls_material_serialize_revoked(material, &block, &size);
    if (status == STATUS_OK)
        status = sealed_block_make("shoal-revoked", bytes_of(block, size), ret_fd);
    tls_material_wipe(&block, size);
    return status;
}

/* ---- certificates ----------------------------------------------------------------------------------------
 */

static json_t *date_json(int64_t time_s)
{
    char text[TLS_DATE_TEXT_SIZE];
    return json_string(tls_date_text(time_s, text));
}

static json_t *describe_certificate(const struct config_listener *listener, const struct tls_files *files)
{
    char error[TLS_ERROR_SIZE];
    STACK_OF(X509) *chain = NULL;
    if (tls_pem_certificates(files->chain, &chain, error) != STATUS_OK)
        return NULL; /* it was parsed before: no memory */
    struct tls_summary summary;
    tls_summary_of_chain(chain, &summary);
    sk_X509_pop_free(chain, X509_free);
    json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "listener", listener->key, "file",
        listener->tls.certfile, "subject", summary.subject, "names", summary.names, "issuer", summary.issuer,
        "key", summary.key, "serial", summary.serial, "fingerprint", summary.fingerprint);
    json_object_set_new(object, "not_before", date_json(summary.from_s));
    json_object_set_new(object, "not_after", date_json(summary.until_s));
    json_object_set_new(object, "chain_ends", date_json(summary.chain_until_s));
    json_object_set_new(object, "ends_s", json_integer(summary.chain_until_s));
    return object;
}

static json_t *describe_certificates(const struct config *config, const struct tls_material *material)
{
    json_t *array = json_array();
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct tls_files *files = tls_material_files(material, config->listeners[i].key);
        json_t *entry = files == NULL ? NULL : describe_certificate(&config->listeners[i], files);
        if (entry != NULL)
            json_array_append_new(array, entry);
    }
    return array;
}

/* ---- loading ---------------------------------------------------------------------------------------------
 */

/* Takes over from the running one what a reload cannot change, and says so. */
static enum status follow(
    struct generation *next, const struct generation *running, struct config_errors *errors)
{
    const struct config_context context = {
        .file = next->config->file, .node = next->config->cluster.path, .errors = errors};
    config_compare(running->config, next->config, &next->differences);
    for (size_t i = 0; i < next->differences.count; i++) {
        const struct config_difference *difference = &next->differences.entries[i];
        if (difference->effect == CONFIG_EFFECT_RESTART)
            config_warn(&context, difference->path,
                "becomes %s by a restart of shoald alone; until then it stays %s",
                difference->becomes != NULL ? difference->becomes : "absent",
                difference->was != NULL ? difference->was : "absent");
    }
    config_keep_running(running->config, next->config);
    return STATUS_OK;
}

static enum status load_files(
    struct generation *next, const struct generation *running, struct config_errors *errors)
{
    struct tls_material *material = NULL;
    uint8_t *access = NULL;
    size_t access_size = 0;
    enum status status =
        tls_material_load(next->config, running != NULL ? &running->past : NULL, &material, errors);
    enum status other = access_files_load(next->config, &access, &access_size, &next->users, errors);
    status = status == STATUS_OK ? other : status;
    if (status == STATUS_OK && running != NULL && !tls_material_link_is_known(material, &running->past)) {
        const struct config_context context = {.file = next->config->file, .errors = errors};
        config_warn(&context, "bus.certfile",
            "the link's certificate or CAs are others now; it goes on with the former ones until it is "
            "restarted");
    }
    if (status == STATUS_OK) {
        tls_material_remember(material, &next->past);
        next->certificates = describe_certificates(next->config, material);
        status = make_secrets(material, false, &next->secrets_fd);
        if (status == STATUS_OK)
            status = make_revoked(material, &next->revoked_fd);
        if (status == STATUS_OK && next->config->cluster.count > 0)
            status = make_secrets(material, true, &next->link_secrets_fd);
    }
    if (status == STATUS_OK && !tls_files_digest(bytes_of(access, access_size), next->access_digest))
        status = STATUS_NO_MEMORY;
    if (status == STATUS_OK)
        status = sealed_block_make("shoal-access", bytes_of(access, access_size), &next->access_fd);
    tls_material_free(&material);
    access_files_wipe(&access, access_size);
    return status;
}

/* What cannot be read at all was complained of when the configuration was parsed. */
static char *if_readable(char *path)
{
    return path != NULL && config_path_unreadable(path) == NULL ? path : NULL;
}

static void leave_out_unreadable(struct config *config)
{
    for (size_t i = 0; i < config->listener_count; i++) {
        struct config_tls *tls = &config->listeners[i].tls;
        bool no_password = tls->password_file != NULL && if_readable(tls->password_file) == NULL;
        tls->keyfile = no_password ? NULL : if_readable(tls->keyfile);
        tls->certfile = if_readable(tls->certfile);
        tls->cacertfile = if_readable(tls->cacertfile);
        tls->crlfile = if_readable(tls->crlfile);
    }
    config->bus.keyfile = if_readable(config->bus.keyfile);
    config->bus.certfile = if_readable(config->bus.certfile);
    config->bus.cacertfile = if_readable(config->bus.cacertfile);
    config->auth.password_file = if_readable(config->auth.password_file);
    config->auth.acl_file = if_readable(config->auth.acl_file);
}

/* The files of a configuration that is refused for other mistakes: all errors at once. */
static void check_files(void *context, const struct config *config, struct config_errors *errors)
{
    const struct generation *running = context;
    struct tls_material *material = NULL;
    uint8_t *access = NULL;
    size_t access_size = 0;
    struct config rest = *config;
    rest.listeners = calloc(config->listener_count + 1, sizeof *rest.listeners);
    if (rest.listeners == NULL)
        return;
    if (config->listener_count > 0)
        memcpy(rest.listeners, config->listeners, config->listener_count * sizeof *rest.listeners);
    leave_out_unreadable(&rest);
    enum status status = tls_material_load(&rest, running != NULL ? &running->past : NULL, &material, errors);
    struct access_summary users;
    enum status other = access_files_load(&rest, &access, &access_size, &users, errors);
    (void)status;
    (void)other;
    tls_material_free(&material);
    access_files_wipe(&access, access_size);
    free(rest.listeners);
}

enum status generation_load(const struct config_source *source, const struct generation *running,
    struct config_errors *errors, struct generation **ret_generation)
{
    struct generation *next = malloc(sizeof *next);
    if (next == NULL)
        return STATUS_NO_MEMORY;
    *next = (struct generation){.number = running != NULL ? running->number + 1 : 1,
        .config_fd = -1,
        .secrets_fd = -1,
        .link_secrets_fd = -1,
        .access_fd = -1,
        .revoked_fd = -1};
    errors->further = check_files;
    errors->context = (void *)running;
    enum status status = config_load_source(source, &next->config, errors);
    if (status == STATUS_OK && running != NULL)
        status = follow(next, running, errors);
    if (status == STATUS_OK)
        status = load_files(next, running, errors);
    if (status == STATUS_OK)
        status = make_config(next->config, &next->config_fd);
    if (status != STATUS_OK)
        generation_free(&next);
    else
        *ret_generation = next;
    return status;
}

void generation_free(struct generation **generation)
{
    struct generation *old = *generation;
    if (old == NULL)
        return;
    descriptor_close(&old->config_fd);
    descriptor_close(&old->secrets_fd);
    descriptor_close(&old->link_secrets_fd);
    descriptor_close(&old->access_fd);
    descriptor_close(&old->revoked_fd);
    json_decref(old->certificates);
    config_differences_done(&old->differences);
    config_free(&old->config);
    OPENSSL_cleanse(&old->past, sizeof old->past);
    free(old);
    *generation = NULL;
}

/* ---- reports ---------------------------------------------------------------------------------------------
 */

static json_t *text_or_null(const char *text)
{
    return text != NULL ? json_string(text) : json_null();
}

json_t *generation_changes(const struct generation *generation, const struct generation *running)
{
    json_t *array = json_array();
    for (size_t i = 0; i < generation->differences.count; i++) {
        const struct config_difference *difference = &generation->differences.entries[i];
        json_t *entry = json_pack(
            "{s:s, s:b}", "path", difference->path, "restart", difference->effect == CONFIG_EFFECT_RESTART);
        json_object_set_new(entry, "was", text_or_null(difference->was));
        json_object_set_new(entry, "becomes", text_or_null(difference->becomes));
        json_array_append_new(array, entry);
    }
    if (memcmp(generation->access_digest, running->access_digest, TLS_DIGEST_SIZE) != 0)
        json_array_append_new(array, json_pack("{s:s, s:b, s:s, s:s}", "path", "users and rights", "restart",
                                         0, "was", "as they were", "becomes", "what the files say now"));
    return array;
}

/* The certificate of the same listener in another generation. */
static const json_t *counterpart(const struct generation *generation, const json_t *certificate)
{
    size_t i;
    json_t *other;
    json_array_foreach(generation->certificates, i, other)
    {
        if (json_equal(json_object_get(other, "listener"), json_object_get(certificate, "listener")))
            return other;
    }
    return NULL;
}

json_t *generation_certificates(const struct generation *generation, const struct generation *running)
{
    json_t *array = json_deep_copy(generation->certificates);
    size_t i;
    json_t *entry;
    json_array_foreach(array, i, entry)
    {
        const json_t *before = counterpart(running, entry);
        bool same = before != NULL &&
                    json_equal(json_object_get(before, "fingerprint"), json_object_get(entry, "fingerprint"));
        json_object_set_new(entry, "changed", json_boolean(!same));
    }
    return array;
}
