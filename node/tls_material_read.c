/*
 * The files of an ssl listener, checked in the order in which a person would: can they be read, do they
 * parse, do they belong together, are they valid today, and does a handshake work with them. Master only.
 */
#include "node/tls_material_read.h"

#include "shared/clock.h"
#include "shared/tls_context.h"
#include "shared/tls_peer.h"
#include "shared/tls_pem.h"
#include "shared/tls_revoked.h"
#include "shared/tls_summary.h"

#include "node/tls_material.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The largest file that is read: the CAs of the whole web are a quarter of a megabyte, a CRL of 100,000
 * entries some megabytes. */
#define FILE_SIZE_MAX ((size_t)32 * 1024 * 1024)
#define SUBJECT_SIZE  160

struct reading {
    const struct config_context *context;
    const struct config_listener *listener;
    const struct tls_known_files *known; /* NULL: none */
    bool failed;
};

static void key_path(const struct reading *reading, const char *key, char to[CONFIG_PATH_TEXT_MAX])
{
    const char *name = reading->listener->key;
    snprintf(to, CONFIG_PATH_TEXT_MAX, "%s%s%s%s", strcmp(name, TLS_FILES_LINK) == 0 ? "" : "listeners.",
        name, *key ? "." : "", key);
}

/* Adds "FILE: listeners.NAME.KEY: …" as an error (or a warning) of this listener. */
static void complain(struct reading *reading, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void complain(struct reading *reading, const char *key, const char *format, ...)
{
    char path[CONFIG_PATH_TEXT_MAX], text[TLS_ERROR_SIZE + 600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    key_path(reading, key, path);
    config_complain(reading->context, path, "%s", text);
    reading->failed = true;
}

static void warn(struct reading *reading, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void warn(struct reading *reading, const char *key, const char *format, ...)
{
    char path[CONFIG_PATH_TEXT_MAX], text[TLS_ERROR_SIZE + 600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    key_path(reading, key, path);
    config_warn(reading->context, path, "%s", text);
}

static void wipe(struct bytes *bytes)
{
    if (bytes->size > 0)
        OPENSSL_cleanse((void *)bytes->data, bytes->size);
    free((void *)bytes->data);
    *bytes = BYTES_NONE;
}

void tls_files_done(struct tls_files *files)
{
    wipe(&files->key);
    wipe(&files->chain);
    wipe(&files->authorities);
    wipe(&files->revoked);
}

bool tls_files_digest(struct bytes content, uint8_t ret_digest[TLS_DIGEST_SIZE])
{
    bool made = EVP_Digest(content.data, content.size, ret_digest, NULL, EVP_sha256(), NULL) == 1;
    ERR_clear_error();
    return made;
}

/* Is this file part of the running configuration already? */
static bool is_known(const struct reading *reading, struct bytes content)
{
    uint8_t digest[TLS_DIGEST_SIZE];
    if (reading->known == NULL || !tls_files_digest(content, digest))
        return false;
    for (size_t i = 0; i < reading->known->count; i++)
        if (memcmp(reading->known->digests[i], digest, sizeof digest) == 0)
            return true;
    return false;
}

static bool read_all(int fd, uint8_t *to, size_t size)
{
    size_t got = 0;
    while (got < size) {
        ssize_t part = read(fd, to + got, size - got);
        if (part < 0 && errno == EINTR)
            continue;
        if (part <= 0)
            return false;
        got += (size_t)part;
    }
    return true;
}

/* A regular file as a whole; BYTES_NONE and a complaint if that fails. *ret_mode may be NULL. */
static struct bytes read_file(struct reading *reading, const char *key, const char *path, mode_t *ret_mode)
{
    struct bytes content = BYTES_NONE;
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &about) != 0) {
        complain(reading, key, "%s: cannot be opened: %s", path, strerror(errno));
    } else if (!S_ISREG(about.st_mode)) {
        complain(reading, key, "%s: is not a file", path);
    } else if (about.st_size == 0 || (size_t)about.st_size > FILE_SIZE_MAX) {
        complain(reading, key, "%s: %s", path, about.st_size == 0 ? "is empty" : "is larger than 32 MiB");
    } else {
        uint8_t *data = malloc((size_t)about.st_size);
        content = bytes_of(data, data ? (size_t)about.st_size : 0);
        if (!data || !read_all(fd, data, content.size)) {
            complain(reading, key, "%s: cannot be read: %s", path, data ? strerror(errno) : "out of memory");
            wipe(&content);
        }
        if (ret_mode)
            *ret_mode = about.st_mode;
    }
    if (fd >= 0)
        close(fd);
    return content;
}

/* The private key -------------------------------------------------------------------------------------------
 */

struct password {
    char text[1024];
    int size;
    bool asked;
};

static int on_password_asked(char *to, int size, int for_writing, void *context)
{
    struct password *password = context;
    (void)for_writing;
    password->asked = true;
    if (password->size <= 0 || password->size > size)
        return -1;
    memcpy(to, password->text, (size_t)password->size);
    return password->size;
}

/* From `password`, or the first line of `password_file`. False: complained. */
static bool find_password(struct reading *reading, struct password *password)
{
    const struct config_tls *tls = &reading->listener->tls;
    struct bytes file = BYTES_NONE;
    struct bytes text = bytes_of_text(tls->password);
    const char *key = "password";
    if (tls->password_file) {
        key = "password_file";
        file = text = read_file(reading, key, tls->password_file, NULL);
        if (text.size == 0)
            return false;
        const uint8_t *end = memchr(text.data, '\n', text.size);
        if (end)
            text.size = (size_t)(end - text.data);
        if (text.size > 0 && text.data[text.size - 1] == '\r')
            text.size--;
    }
    bool fits = text.size < sizeof password->text;
    if (fits && text.size > 0)
        memcpy(password->text, text.data, text.size);
    password->size = fits ? (int)text.size : 0;
    wipe(&file);
    if (!fits)
        complain(reading, key, "is longer than %zu bytes", sizeof password->text - 1);
    return fits;
}

static void complain_of_key(struct reading *reading, const struct password *password)
{
    const char *path = reading->listener->tls.keyfile;
    if (password->asked && password->size == 0)
        complain(
            reading, "keyfile", "%s: the key is encrypted; allowed: with password or password_file", path);
    else if (password->asked)
        complain(reading, "keyfile", "%s: the key is encrypted and the password does not open it", path);
    else
        complain(reading, "keyfile",
            "%s: there is no readable private key in it; allowed: an RSA or EC key in PEM "
            "(\"-----BEGIN PRIVATE KEY-----\")",
            path);
    ERR_clear_error();
}

static EVP_PKEY *read_key(struct reading *reading)
{
    const char *path = reading->listener->tls.keyfile;
    if (path == NULL)
        return NULL;
    struct password password = {.size = 0};
    mode_t mode = 0;
    EVP_PKEY *key = NULL;
    bool known = find_password(reading, &password);
    struct bytes pem = read_file(reading, "keyfile", path, &mode);
    if (known && pem.size > 0) {
        BIO *text = BIO_new_mem_buf(pem.data, (int)pem.size);
        key = text ? PEM_read_bio_PrivateKey(text, NULL, on_password_asked, &password) : NULL;
        BIO_free(text);
        if (!key)
            complain_of_key(reading, &password);
        else if (mode & S_IROTH)
            warn(reading, "keyfile", "%s: everybody on this machine may read the private key; chmod 600",
                path);
    }
    OPENSSL_cleanse(&password, sizeof password);
    wipe(&pem);
    return key;
}

static enum status key_as_der(EVP_PKEY *key, struct bytes *ret_der)
{
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
    int size = info ? i2d_PKCS8_PRIV_KEY_INFO(info, NULL) : 0;
    uint8_t *der = size > 0 ? malloc((size_t)size) : NULL;
    if (der) {
        unsigned char *end = der;
        *ret_der = bytes_of(der, (size_t)i2d_PKCS8_PRIV_KEY_INFO(info, &end));
    }
    PKCS8_PRIV_KEY_INFO_free(info);
    ERR_clear_error();
    return der ? STATUS_OK : STATUS_INVALID;
}

/* Certificates ----------------------------------------------------------------------------------------------
 */

static const char *subject_of(const X509 *certificate, char to[SUBJECT_SIZE])
{
    to[0] = '\0';
    X509_NAME_oneline(X509_get_subject_name(certificate), to, SUBJECT_SIZE);
    return to;
}

static const char *date_text(const ASN1_TIME *time, char to[32])
{
    struct tm parts;
    if (ASN1_TIME_to_tm(time, &parts) != 1 || strftime(to, 32, "%Y-%m-%d", &parts) == 0)
        snprintf(to, 32, "an unreadable date");
    return to;
}

static STACK_OF(X509) *
    read_certificates(struct reading *reading, const char *key, const char *path, struct bytes *ret_pem)
{
    char error[TLS_ERROR_SIZE];
    STACK_OF(X509) *certificates = NULL;
    *ret_pem = read_file(reading, key, path, NULL);
    if (ret_pem->size > 0 && tls_pem_certificates(*ret_pem, &certificates, error) != STATUS_OK)
        complain(reading, key, "%s: %s", path, error);
    return certificates;
}

enum validity { VALID, ENDS_SOON, EXPIRED, NOT_YET_VALID };

static enum validity validity_of(const X509 *certificate)
{
    time_t now = (time_t)(clock_real_us() / 1000000);
    time_t soon = now + (time_t)TLS_MATERIAL_WARN_DAYS * 86400;
    if (X509_cmp_time(X509_get0_notBefore(certificate), &now) > 0)
        return NOT_YET_VALID;
    if (X509_cmp_time(X509_get0_notAfter(certificate), &now) <= 0)
        return EXPIRED;
    return X509_cmp_time(X509_get0_notAfter(certificate), &soon) <= 0 ? ENDS_SOON : VALID;
}

/* `refuse`: a certificate out of its time is an error, otherwise it is a warning. */
static void check_date(struct reading *reading, const X509 *certificate, int number, bool refuse)
{
    const char *path = reading->listener->tls.certfile;
    char subject[SUBJECT_SIZE], date[32], text[SUBJECT_SIZE + 100];
    enum validity validity = validity_of(certificate);
    const ASN1_TIME *time =
        validity == NOT_YET_VALID ? X509_get0_notBefore(certificate) : X509_get0_notAfter(certificate);
    static const char *const words[] = {[VALID] = "is valid until",
        [ENDS_SOON] = "expires on",
        [EXPIRED] = "expired on",
        [NOT_YET_VALID] = "is not valid before"};
    snprintf(text, sizeof text, "certificate %d (%s) %s %s", number, subject_of(certificate, subject),
        words[validity], date_text(time, date));
    if ((validity == EXPIRED || validity == NOT_YET_VALID) && refuse)
        complain(reading, "certfile", "%s: %s", path, text);
    else if (validity != VALID)
        warn(reading, "certfile", "%s: %s%s", path, text,
            validity == ENDS_SOON ? "" : "; it is in use already, and stays so until the file is replaced");
}

static void check_dates(struct reading *reading, const STACK_OF(X509) * chain, struct bytes content)
{
    bool refuse = !is_known(reading, content);
    for (int i = 0; i < sk_X509_num(chain); i++)
        check_date(reading, sk_X509_value(chain, i), i + 1, refuse);
}

/* Each certificate must be signed by the next one. */
static void check_links(struct reading *reading, const STACK_OF(X509) * chain)
{
    char lower[SUBJECT_SIZE], upper[SUBJECT_SIZE];
    for (int i = 0; i + 1 < sk_X509_num(chain); i++) {
        X509 *signed_one = sk_X509_value(chain, i);
        X509 *signer = sk_X509_value(chain, i + 1);
        if (X509_check_issued(signer, signed_one) == X509_V_OK &&
            X509_verify(signed_one, X509_get0_pubkey(signer)) == 1)
            continue;
        complain(reading, "certfile",
            "%s: certificate %d (%s) is not signed by the one after it, %d (%s); allowed: the server's "
            "certificate first, each followed by the one that signed it",
            reading->listener->tls.certfile, i + 1, subject_of(signed_one, lower), i + 2,
            subject_of(signer, upper));
    }
    ERR_clear_error();
}

static void check_match(struct reading *reading, const STACK_OF(X509) * chain, const EVP_PKEY *key)
{
    const struct config_tls *tls = &reading->listener->tls;
    for (int i = 0; i < sk_X509_num(chain); i++) {
        if (X509_check_private_key(sk_X509_value(chain, i), key) != 1)
            continue;
        if (i > 0)
            complain(reading, "certfile",
                "%s: the key belongs to certificate %d of it; allowed: it comes first", tls->certfile, i + 1);
        ERR_clear_error();
        return;
    }
    ERR_clear_error();
    complain(reading, "keyfile", "%s: the key does not belong to the certificate in %s", tls->keyfile,
        tls->certfile);
}

static void read_key_and_chain(struct reading *reading, struct tls_files *files)
{
    const char *certfile = reading->listener->tls.certfile;
    EVP_PKEY *key = read_key(reading);
    STACK_OF(X509) *chain =
        certfile == NULL ? NULL : read_certificates(reading, "certfile", certfile, &files->chain);
    if (chain) {
        check_dates(reading, chain, files->chain);
        check_links(reading, chain);
    }
    if (chain && key)
        check_match(reading, chain, key);
    if (key && key_as_der(key, &files->key) != STATUS_OK)
        complain(reading, "keyfile", "%s: this type of key cannot be used", reading->listener->tls.keyfile);
    EVP_PKEY_free(key);
    sk_X509_pop_free(chain, X509_free);
}

/* A bundle may hold an expired CA beside its successor; one that holds expired ones only lets nobody in. */
static void read_authorities(struct reading *reading, struct tls_files *files)
{
    const char *path = reading->listener->tls.cacertfile;
    char subject[SUBJECT_SIZE], date[32];
    STACK_OF(X509) *authorities = read_certificates(reading, "cacertfile", path, &files->authorities);
    int count = authorities ? sk_X509_num(authorities) : 0, expired = 0;
    for (int i = 0; i < count; i++) {
        const X509 *authority = sk_X509_value(authorities, i);
        if (validity_of(authority) != EXPIRED)
            continue;
        expired++;
        warn(reading, "cacertfile", "%s: CA %d (%s) expired on %s", path, i + 1,
            subject_of(authority, subject), date_text(X509_get0_notAfter(authority), date));
    }
    if (count > 0 && expired == count && !is_known(reading, files->authorities))
        complain(reading, "cacertfile", "%s: every CA in it has expired", path);
    sk_X509_pop_free(authorities, X509_free);
}

/* Revocation ------------------------------------------------------------------------------------------------
 */

/* A list that ran out in use stays in force: refusing everybody would help nobody. */
static void check_list_dates(
    struct reading *reading, const struct tls_files *files, const struct tls_revoked_facts *facts)
{
    const char *path = reading->listener->tls.crlfile;
    int64_t now_s = (int64_t)(clock_real_us() / 1000000);
    char date[TLS_DATE_TEXT_SIZE];
    if (facts->from_s > now_s)
        complain(reading, "crlfile", "%s: is not valid before %s", path, tls_date_text(facts->from_s, date));
    else if (facts->until_s <= now_s && !is_known(reading, files->revoked))
        complain(reading, "crlfile", "%s: its next update was due on %s; allowed: a current list", path,
            tls_date_text(facts->until_s, date));
    else if (facts->until_s <= now_s)
        warn(reading, "crlfile", "%s: its next update was due on %s; it stays in force until it is replaced",
            path, tls_date_text(facts->until_s, date));
}

static void read_revoked(struct reading *reading, struct tls_files *files)
{
    const char *path = reading->listener->tls.crlfile;
    char error[TLS_ERROR_SIZE];
    struct tls_revoked_facts facts;
    struct bytes pem = read_file(reading, "crlfile", path, NULL);
    if (pem.size == 0 || files->authorities.size == 0)
        goto done; /* complained of */
    if (tls_revoked_make(pem, files->authorities, &files->revoked, &facts, error) != STATUS_OK) {
        complain(reading, "crlfile", "%s: %s", path, error);
        goto done;
    }
    check_list_dates(reading, files, &facts);
    if (facts.unlisted > 0)
        warn(reading, "crlfile", "%s: has no list of CA %s%s: nothing that it signs can be revoked", path,
            facts.first_unlisted, facts.unlisted > 1 ? " (and of others)" : "");
done:
    wipe(&pem);
}

/* The whole
 * --------------------------------------------------------------------------------------------------- */

struct tls_settings tls_settings_of(const struct config_listener *listener, const struct tls_files *files,
    struct tls_tickets *tickets, struct tls_revoked *revoked)
{
    const struct config_tls *tls = &listener->tls;
    return (struct tls_settings){
        .listener = listener->key,
        .key = files->key,
        .chain = files->chain,
        .authorities = files->authorities,
        .versions = (tls->versions & CONFIG_TLS_1_2 ? (unsigned)TLS_VERSION_1_2 : 0) |
                    (tls->versions & CONFIG_TLS_1_3 ? (unsigned)TLS_VERSION_1_3 : 0),
        .ciphers = tls->ciphers,
        .ciphersuites = tls->ciphersuites,
        .honor_cipher_order = tls->honor_cipher_order,
        .verify_peer = tls->verify == CONFIG_VERIFY_PEER,
        .fail_if_no_peer_cert = tls->fail_if_no_peer_cert,
        .depth = tls->depth,
        .revoked = revoked,
        .partial_chain = tls->partial_chain,
        .tickets = tls->session_tickets ? tickets : NULL,
        .alpn_http = config_listener_has_websocket(listener),
    };
}

static void try_handshake(struct reading *reading, const struct tls_files *files)
{
    char error[TLS_ERROR_SIZE];
    SSL_CTX *context = NULL;
    struct tls_settings settings = tls_settings_of(reading->listener, files, NULL, NULL);
    enum status status = tls_context_new(&settings, &context, error);
    if (status == STATUS_OK)
        status = tls_context_prove(context, settings.versions, error);
    if (status != STATUS_OK)
        complain(reading, "", "%s", error);
    SSL_CTX_free(context);
}

enum status tls_files_read(const struct config_context *context, const struct config_listener *listener,
    const struct tls_known_files *known, struct tls_files *ret_files)
{
    struct reading reading = {.context = context, .listener = listener, .known = known};
    struct tls_files files = {BYTES_NONE, BYTES_NONE, BYTES_NONE, BYTES_NONE};
    ERR_clear_error();
    reading.failed =
        listener->tls.keyfile == NULL || listener->tls.certfile == NULL; /* complained of already */
    read_key_and_chain(&reading, &files);
    if (listener->tls.cacertfile)
        read_authorities(&reading, &files);
    if (listener->tls.crlfile)
        read_revoked(&reading, &files);
    if (!reading.failed)
        try_handshake(&reading, &files);
    if (reading.failed) {
        tls_files_done(&files);
        return STATUS_INVALID;
    }
    *ret_files = files;
    return STATUS_OK;
}

enum status tls_files_check_name(const struct config_context *context, const struct config_listener *listener,
    const struct tls_files *files, const char *node)
{
    struct reading reading = {.context = context, .listener = listener};
    char error[TLS_ERROR_SIZE], names[TLS_NODE_NAMES_SIZE];
    STACK_OF(X509) *chain = NULL;
    if (tls_pem_certificates(files->chain, &chain, error) != STATUS_OK)
        return STATUS_INVALID;
    const X509 *certificate = sk_X509_value(chain, 0);
    if (!tls_peer_is_node(certificate, node)) {
        tls_peer_node_names(certificate, names);
        complain(&reading, "certfile",
            "%s: names %s; allowed: a certificate that names the node, %s (a DNS name in subjectAltName, or "
            "the common "
            "name)",
            listener->tls.certfile, names, node);
    }
    sk_X509_pop_free(chain, X509_free);
    return reading.failed ? STATUS_INVALID : STATUS_OK;
}
