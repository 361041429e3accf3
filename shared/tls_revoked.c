/* CRLs in, a sorted table out, and its binary search. Master and workers. */
#include "shared/tls_revoked.h"

#include "shared/tls_context.h"
#include "shared/tls_pem.h"
#include "shared/tls_summary.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define ID_SIZE  TLS_CERTIFICATE_ID_SIZE
#define KEY_SIZE 32 /* digest of an issuer's key */

static bool key_digest(const X509 *issuer, uint8_t ret_digest[KEY_SIZE])
{
    unsigned size = 0;
    return X509_pubkey_digest(issuer, EVP_sha256(), ret_digest, &size) == 1 && size == KEY_SIZE;
}

static bool id_of(const uint8_t issuer[KEY_SIZE], const ASN1_INTEGER *serial, uint8_t ret_id[ID_SIZE])
{
    uint8_t digest[EVP_MAX_MD_SIZE], text[KEY_SIZE + 64] = {0};
    int size = ASN1_STRING_length(serial);
    if (size < 0 || size > 63) /* 20 bytes are the most that is allowed */
        return false;
    memcpy(text, issuer, KEY_SIZE);
    text[KEY_SIZE] = ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER;
    memcpy(text + KEY_SIZE + 1, ASN1_STRING_get0_data(serial), (size_t)size);
    if (EVP_Digest(text, KEY_SIZE + 1 + (size_t)size, digest, NULL, EVP_sha256(), NULL) != 1)
        return false;
    memcpy(ret_id, digest, ID_SIZE);
    return true;
}

bool tls_certificate_id(const X509 *certificate, const X509 *issuer, uint8_t ret_id[ID_SIZE])
{
    uint8_t digest[KEY_SIZE];
    return key_digest(issuer, digest) && id_of(digest, X509_get0_serialNumber(certificate), ret_id);
}

/* Making
 * ---------------------------------------------------------------------------------------------------------
 */

struct making {
    STACK_OF(X509) * authorities; /* owned */
    bool *listed;                 /* owned, by authority */
    uint8_t *ids;                 /* owned */
    size_t count, capacity;
    struct tls_revoked_facts facts;
    char *error;
};

/* Who has signed it: by name and signature; -1: none of them. */
static int find_signer(const struct making *making, X509_CRL *list)
{
    for (int i = 0; i < sk_X509_num(making->authorities); i++) {
        X509 *authority = sk_X509_value(making->authorities, i);
        if (X509_NAME_cmp(X509_get_subject_name(authority), X509_CRL_get_issuer(list)) == 0 &&
            X509_CRL_verify(list, X509_get0_pubkey(authority)) == 1)
            return i;
    }
    ERR_clear_error();
    return -1;
}

static enum status add_entries(struct making *making, X509_CRL *list, const X509 *signer)
{
    uint8_t issuer[KEY_SIZE];
    STACK_OF(X509_REVOKED) *entries = X509_CRL_get_REVOKED(list);
    size_t more = entries == NULL ? 0 : (size_t)sk_X509_REVOKED_num(entries);
    uint8_t *larger = realloc(making->ids, (making->count + more + 1) * ID_SIZE);
    if (larger == NULL || !key_digest(signer, issuer))
        return STATUS_NO_MEMORY;
    making->ids = larger;
    for (size_t i = 0; i < more; i++) {
        const X509_REVOKED *entry = sk_X509_REVOKED_value(entries, (int)i);
        if (id_of(issuer, X509_REVOKED_get0_serialNumber(entry), making->ids + making->count * ID_SIZE))
            making->count++;
    }
    return STATUS_OK;
}

static enum status add_list(struct making *making, X509_CRL *list)
{
    char issuer[160] = "";
    int critical = 0;
    size_t number = ++making->facts.lists;
    X509_NAME_oneline(X509_CRL_get_issuer(list), issuer, sizeof issuer);
    void *scope = X509_CRL_get_ext_d2i(list, NID_issuing_distribution_point, &critical, NULL);
    bool partial = scope != NULL && ((ISSUING_DIST_POINT *)scope)->indirectCRL > 0;
    ISSUING_DIST_POINT_free(scope);
    if (partial || X509_CRL_get_ext_by_NID(list, NID_delta_crl, -1) >= 0) {
        snprintf(making->error, TLS_ERROR_SIZE,
            "CRL %zu (%s) is %s; allowed: complete CRLs of the CAs themselves", number, issuer,
            partial ? "indirect" : "a delta CRL");
        return STATUS_INVALID;
    }
    int signer = find_signer(making, list);
    if (signer < 0) {
        snprintf(making->error, TLS_ERROR_SIZE, "CRL %zu (%s) is signed by none of the CAs in cacertfile",
            number, issuer);
        return STATUS_INVALID;
    }
    making->listed[signer] = true;
    int64_t from_s = tls_time_seconds(X509_CRL_get0_lastUpdate(list), INT64_MAX);
    int64_t until_s = X509_CRL_get0_nextUpdate(list) == NULL
                          ? INT64_MAX
                          : tls_time_seconds(X509_CRL_get0_nextUpdate(list), INT64_MIN);
    making->facts.from_s = from_s > making->facts.from_s ? from_s : making->facts.from_s;
    making->facts.until_s = until_s < making->facts.until_s ? until_s : making->facts.until_s;
    return add_entries(making, list, sk_X509_value(making->authorities, signer));
}

static enum status add_lists(struct making *making, struct bytes pem)
{
    enum status status = STATUS_OK;
    BIO *text = pem.size > INT32_MAX ? NULL : BIO_new_mem_buf(pem.data, (int)pem.size);
    X509_CRL *list;
    ERR_clear_error();
    while (text != NULL && status == STATUS_OK &&
           (list = PEM_read_bio_X509_CRL(text, NULL, NULL, NULL)) != NULL) {
        status = add_list(making, list);
        X509_CRL_free(list);
    }
    BIO_free(text);
    unsigned long code = ERR_peek_last_error();
    if (status == STATUS_OK && code != 0 &&
        (ERR_GET_LIB(code) != ERR_LIB_PEM || ERR_GET_REASON(code) != PEM_R_NO_START_LINE)) {
        snprintf(making->error, TLS_ERROR_SIZE, "CRL %zu in it is damaged", making->facts.lists + 1);
        tls_pem_add_reason(making->error);
        status = STATUS_INVALID;
    } else if (status == STATUS_OK && making->facts.lists == 0) {
        snprintf(making->error, TLS_ERROR_SIZE, "there is no CRL in it (PEM, \"-----BEGIN X509 CRL-----\")");
        status = STATUS_INVALID;
    }
    ERR_clear_error();
    return status;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, ID_SIZE);
}

static void note_unlisted(struct making *making)
{
    for (int i = 0; i < sk_X509_num(making->authorities); i++) {
        if (making->listed[i])
            continue;
        if (making->facts.unlisted++ == 0)
            X509_NAME_oneline(X509_get_subject_name(sk_X509_value(making->authorities, i)),
                making->facts.first_unlisted, sizeof making->facts.first_unlisted);
    }
}

enum status tls_revoked_make(struct bytes pem, struct bytes authorities, struct bytes *ret_table,
    struct tls_revoked_facts *ret_facts, char *error)
{
    struct making making = {.facts = {.from_s = INT64_MIN, .until_s = INT64_MAX}, .error = error};
    error[0] = '\0';
    enum status status = tls_pem_certificates(authorities, &making.authorities, error);
    if (status != STATUS_OK)
        return status;
    making.listed = calloc((size_t)sk_X509_num(making.authorities) + 1, sizeof *making.listed);
    status = making.listed == NULL ? STATUS_NO_MEMORY : add_lists(&making, pem);
    if (status == STATUS_OK) {
        note_unlisted(&making);
        making.facts.entries = making.count;
        qsort(making.ids, making.count, ID_SIZE, compare_ids);
        *ret_table = bytes_of(making.ids, making.count * ID_SIZE);
        *ret_facts = making.facts;
    } else {
        if (status == STATUS_NO_MEMORY)
            snprintf(error, TLS_ERROR_SIZE, "out of memory");
        free(making.ids);
    }
    sk_X509_pop_free(making.authorities, X509_free);
    free(making.listed);
    return status;
}

/* Using
 * ----------------------------------------------------------------------------------------------------------
 */

struct tls_revoked {
    size_t references;
    struct bytes mapped;
};

/* Takes a length and so many bytes off the front. */
static bool take(struct bytes *rest, struct bytes *ret_field)
{
    if (rest->size < 4 || rest->size - 4 < get_u32_le(rest->data))
        return false;
    *ret_field = bytes_of(rest->data + 4, get_u32_le(rest->data));
    *rest = bytes_of(rest->data + 4 + ret_field->size, rest->size - 4 - ret_field->size);
    return true;
}

static bool is_whole(struct bytes block)
{
    struct bytes name, table;
    while (block.size > 0)
        if (!take(&block, &name) || !take(&block, &table) || table.size % ID_SIZE != 0)
            return false;
    return true;
}

enum status tls_revoked_map(int fd, struct tls_revoked **ret_revoked)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return STATUS_SYSTEM;
    struct tls_revoked *revoked = calloc(1, sizeof *revoked);
    if (revoked == NULL)
        return STATUS_NO_MEMORY;
    revoked->references = 1;
    if (info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED) {
            free(revoked);
            return STATUS_SYSTEM;
        }
        revoked->mapped = bytes_of(data, (size_t)info.st_size);
    }
    if (!is_whole(revoked->mapped)) {
        tls_revoked_unref(&revoked);
        return STATUS_PROTOCOL;
    }
    *ret_revoked = revoked;
    return STATUS_OK;
}

struct tls_revoked *tls_revoked_ref(struct tls_revoked *revoked)
{
    revoked->references++;
    return revoked;
}

void tls_revoked_unref(struct tls_revoked **revoked_pointer)
{
    struct tls_revoked *revoked = *revoked_pointer;
    *revoked_pointer = NULL;
    if (revoked == NULL || --revoked->references > 0)
        return;
    if (revoked->mapped.size > 0)
        munmap((void *)(uintptr_t)revoked->mapped.data, revoked->mapped.size);
    free(revoked);
}

struct bytes tls_revoked_table(const struct tls_revoked *revoked, const char *name)
{
    struct bytes rest = revoked->mapped, its_name, table;
    while (rest.size > 0) {
        bool good = take(&rest, &its_name) && take(&rest, &table);
        assert(good); /* checked when it was mapped, and sealed */
        if (bytes_equal(its_name, bytes_of_text(name)))
            return table;
    }
    return BYTES_NONE;
}

bool tls_revoked_has(struct bytes table, const uint8_t id[ID_SIZE])
{
    return table.size > 0 && bsearch(id, table.data, table.size / ID_SIZE, ID_SIZE, compare_ids) != NULL;
}
