/*
 * The key material of a node as a whole, and its block of bytes. Master: load, serialize. Worker: a context
 * out of the block.
 *
 * The block, little-endian: magic "STLS", version (4 bytes), number of ssl listeners (4), and for each of
 * them its name, key (PKCS#8 DER), chain (PEM) and CAs (PEM), each as length (4) and bytes. Nothing else.
 */
#include "node/tls_material.h"

#include "node/tls_material_read.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#define BLOCK_MAGIC       0x534c5453u /* "STLS" */
#define BLOCK_VERSION     2u
#define BLOCK_HEADER_SIZE (4 + 4 + 4)

struct material_listener {
    char *name; /* owned */
    struct tls_files files;
};

struct tls_material {
    size_t count;
    struct material_listener listeners[CONFIG_LISTENERS_MAX];
    struct material_listener link; /* no name: a node alone */
};

void tls_material_free(struct tls_material **material)
{
    struct tls_material *old = *material;
    if (!old)
        return;
    for (size_t i = 0; i < old->count; i++) {
        free(old->listeners[i].name);
        tls_files_done(&old->listeners[i].files);
    }
    tls_files_done(&old->link.files);
    OPENSSL_cleanse(old, sizeof *old);
    free(old);
    *material = NULL;
}

static enum status load_listener(struct tls_material *material, const struct config_context *context,
    const struct config_listener *listener, const struct tls_known_files *known)
{
    struct material_listener *entry = &material->listeners[material->count];
    entry->name = strdup(listener->key);
    if (!entry->name)
        return STATUS_NO_MEMORY;
    enum status status = tls_files_read(context, listener, known, &entry->files);
    material->count++;
    return status;
}

/* The link's, read as those of a listener that serves and demands certificates by TLS 1.3 alone. */
static enum status load_link(struct tls_material *material, const struct config_context *context,
    const struct config *config, const struct tls_known_files *known)
{
    const struct config_bus *bus = &config->bus;
    if (config->cluster.count == 0)
        return STATUS_OK;
    if (bus->keyfile == NULL || bus->certfile == NULL || bus->cacertfile == NULL)
        return STATUS_INVALID;
    char key[] = TLS_FILES_LINK;
    const struct config_listener as_listener = {.key = key,
        .type = CONFIG_LISTENER_SSL,
        .tls = {.keyfile = bus->keyfile,
            .certfile = bus->certfile,
            .cacertfile = bus->cacertfile,
            .password_file = bus->password_file,
            .verify = CONFIG_VERIFY_PEER,
            .fail_if_no_peer_cert = true,
            .versions = CONFIG_TLS_1_3,
            .depth = 10}};
    enum status status = tls_files_read(context, &as_listener, known, &material->link.files);
    if (status != STATUS_OK)
        return status;
    return tls_files_check_name(
        context, &as_listener, &material->link.files, config->cluster.nodes[config->cluster.self].name);
}

enum status tls_material_load(const struct config *config, const struct tls_material_past *past,
    struct tls_material **ret_material, struct config_errors *errors)
{
    struct config_context context = {.file = config->file, .node = config->cluster.path, .errors = errors};
    const struct tls_known_files *known = past != NULL ? &past->known : NULL;
    struct tls_material *material = calloc(1, sizeof *material);
    if (!material)
        return STATUS_NO_MEMORY;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < config->listener_count; i++) {
        if (!config_listener_has_tls(&config->listeners[i]))
            continue;
        enum status one = load_listener(material, &context, &config->listeners[i], known);
        status = status == STATUS_OK ? one : status; /* and on: all errors at once */
    }
    enum status link = load_link(material, &context, config, known);
    status = status == STATUS_OK ? link : status;
    if (status == STATUS_OK) {
        *ret_material = material;
        return STATUS_OK;
    }
    tls_material_free(&material);
    return status;
}

bool tls_material_any(const struct tls_material *material)
{
    return material->count > 0;
}

const struct tls_files *tls_material_files(const struct tls_material *material, const char *listener)
{
    for (size_t i = 0; i < material->count; i++)
        if (strcmp(material->listeners[i].name, listener) == 0)
            return &material->listeners[i].files;
    return NULL;
}

static void remember_file(struct tls_known_files *known, struct bytes content)
{
    if (content.size > 0 && tls_files_digest(content, known->digests[known->count]))
        known->count++;
}

void tls_material_remember(const struct tls_material *material, struct tls_material_past *ret_past)
{
    memset(ret_past, 0, sizeof *ret_past);
    for (size_t i = 0; i < material->count; i++) {
        remember_file(&ret_past->known, material->listeners[i].files.chain);
        remember_file(&ret_past->known, material->listeners[i].files.authorities);
        remember_file(&ret_past->known, material->listeners[i].files.revoked);
    }
    remember_file(&ret_past->known, material->link.files.chain);
    remember_file(&ret_past->known, material->link.files.authorities);
}

static bool is_remembered(const struct tls_known_files *known, struct bytes content)
{
    uint8_t digest[TLS_DIGEST_SIZE];
    if (content.size == 0)
        return true;
    if (!tls_files_digest(content, digest))
        return false;
    for (size_t i = 0; i < known->count; i++)
        if (memcmp(known->digests[i], digest, sizeof digest) == 0)
            return true;
    return false;
}

bool tls_material_link_is_known(const struct tls_material *material, const struct tls_material_past *past)
{
    return is_remembered(&past->known, material->link.files.chain) &&
           is_remembered(&past->known, material->link.files.authorities);
}

static size_t field_size(struct bytes field)
{
    return 4 + field.size;
}

static uint8_t *put_field(uint8_t *to, struct bytes field)
{
    put_u32_le(to, (uint32_t)field.size);
    if (field.size > 0)
        memcpy(to + 4, field.data, field.size);
    return to + 4 + field.size;
}

static enum status serialize(
    const struct material_listener *listeners, size_t count, uint8_t **ret_block, size_t *ret_size)
{
    size_t size = BLOCK_HEADER_SIZE;
    for (size_t i = 0; i < count; i++) {
        const struct material_listener *listener = &listeners[i];
        size += field_size(bytes_of_text(listener->name)) + field_size(listener->files.key) +
                field_size(listener->files.chain) + field_size(listener->files.authorities);
    }
    uint8_t *block = malloc(size);
    if (!block)
        return STATUS_NO_MEMORY;
    put_u32_le(block, BLOCK_MAGIC);
    put_u32_le(block + 4, BLOCK_VERSION);
    put_u32_le(block + 8, (uint32_t)count);
    uint8_t *end = block + BLOCK_HEADER_SIZE;
    for (size_t i = 0; i < count; i++) {
        const struct material_listener *listener = &listeners[i];
        end = put_field(end, bytes_of_text(listener->name));
        end = put_field(end, listener->files.key);
        end = put_field(end, listener->files.chain);
        end = put_field(end, listener->files.authorities);
    }
    *ret_block = block;
    *ret_size = size;
    return STATUS_OK;
}

enum status tls_material_serialize(const struct tls_material *material, uint8_t **ret_block, size_t *ret_size)
{
    return serialize(material->listeners, material->count, ret_block, ret_size);
}

enum status tls_material_serialize_link(
    const struct tls_material *material, uint8_t **ret_block, size_t *ret_size)
{
    char name[] = TLS_FILES_LINK;
    const struct material_listener link = {.name = name, .files = material->link.files};
    return serialize(&link, 1, ret_block, ret_size);
}

enum status tls_material_serialize_revoked(
    const struct tls_material *material, uint8_t **ret_block, size_t *ret_size)
{
    size_t size = 0;
    for (size_t i = 0; i < material->count; i++)
        size += field_size(bytes_of_text(material->listeners[i].name)) +
                field_size(material->listeners[i].files.revoked);
    uint8_t *block = malloc(size + 1), *end = block;
    if (!block)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < material->count; i++) {
        end = put_field(end, bytes_of_text(material->listeners[i].name));
        end = put_field(end, material->listeners[i].files.revoked);
    }
    *ret_block = block;
    *ret_size = size;
    return STATUS_OK;
}

void tls_material_wipe(uint8_t **block, size_t size)
{
    if (*block)
        OPENSSL_cleanse(*block, size);
    free(*block);
    *block = NULL;
}

/* Takes one field off the front; false if the block ends before it. */
static bool take_field(struct bytes *rest, struct bytes *ret_field)
{
    if (rest->size < 4)
        return false;
    size_t size = get_u32_le(rest->data);
    if (rest->size - 4 < size)
        return false;
    *ret_field = bytes_of(rest->data + 4, size);
    *rest = bytes_of(rest->data + 4 + size, rest->size - 4 - size);
    return true;
}

/* Finds a listener's fields, and walks to the end all the same: a block is consumed exactly. */
static enum status find_listener(struct bytes block, const char *name, struct tls_files *ret_files)
{
    if (block.size < BLOCK_HEADER_SIZE || get_u32_le(block.data) != BLOCK_MAGIC ||
        get_u32_le(block.data + 4) != BLOCK_VERSION)
        return STATUS_PROTOCOL;
    uint32_t count = get_u32_le(block.data + 8);
    struct bytes rest = bytes_of(block.data + BLOCK_HEADER_SIZE, block.size - BLOCK_HEADER_SIZE);
    enum status status = STATUS_NOT_FOUND;
    for (uint32_t i = 0; i < count; i++) {
        struct bytes its_name;
        struct tls_files files = {.revoked = BYTES_NONE};
        if (!take_field(&rest, &its_name) || !take_field(&rest, &files.key) ||
            !take_field(&rest, &files.chain) || !take_field(&rest, &files.authorities))
            return STATUS_PROTOCOL;
        if (bytes_equal(its_name, bytes_of_text(name))) {
            *ret_files = files;
            status = STATUS_OK;
        }
    }
    return rest.size == 0 ? status : STATUS_PROTOCOL;
}

enum status tls_material_context(struct bytes block, const struct config *config, size_t listener,
    struct tls_tickets *tickets, struct tls_revoked *revoked, SSL_CTX **ret_context, char *error)
{
    const struct config_listener *wanted = &config->listeners[listener];
    struct tls_files files;
    enum status status = find_listener(block, wanted->key, &files);
    if (status != STATUS_OK) {
        snprintf(error, TLS_ERROR_SIZE, "the key material from the master %s",
            status == STATUS_NOT_FOUND ? "lacks this listener" : "is damaged");
        return STATUS_PROTOCOL;
    }
    struct tls_settings settings = tls_settings_of(wanted, &files, tickets, revoked);
    return tls_context_new(&settings, ret_context, error);
}

enum status tls_material_link(
    struct bytes block, struct bytes *ret_key, struct bytes *ret_chain, struct bytes *ret_authorities)
{
    struct tls_files files;
    if (find_listener(block, TLS_FILES_LINK, &files) != STATUS_OK)
        return STATUS_PROTOCOL;
    *ret_key = files.key;
    *ret_chain = files.chain;
    *ret_authorities = files.authorities;
    return STATUS_OK;
}
