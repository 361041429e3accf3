/* TLS contexts of the load generator and of the floor. */
#include "bench/tls_files.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>

SSL_CTX *tls_client_context(const struct tls_files *files)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL)
        return NULL;
    bool good = true;
    if (files->cafile != NULL) {
        good = SSL_CTX_load_verify_locations(context, files->cafile, NULL) == 1;
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    }
    if (good && files->certfile != NULL)
        good = SSL_CTX_use_certificate_chain_file(context, files->certfile) == 1 &&
               SSL_CTX_use_PrivateKey_file(context, files->keyfile, SSL_FILETYPE_PEM) == 1;
    if (good && files->version != 0)
        good = SSL_CTX_set_min_proto_version(context, files->version) == 1 &&
               SSL_CTX_set_max_proto_version(context, files->version) == 1;
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    if (good)
        return context;
    SSL_CTX_free(context);
    return NULL;
}

/* A self-signed P-256 certificate for an hour. */
static bool use_fresh_pair(SSL_CTX *context)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_NAME *name = certificate == NULL ? NULL : X509_get_subject_name(certificate);
    bool good = key != NULL && name != NULL && X509_set_version(certificate, 2) == 1 &&
                ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1 &&
                X509_gmtime_adj(X509_getm_notBefore(certificate), -60) != NULL &&
                X509_gmtime_adj(X509_getm_notAfter(certificate), 3600 * 24) != NULL &&
                X509_NAME_add_entry_by_txt(
                    name, "CN", MBSTRING_ASC, (const unsigned char *)"floor", -1, -1, 0) == 1 &&
                X509_set_issuer_name(certificate, name) == 1 && X509_set_pubkey(certificate, key) == 1 &&
                X509_sign(certificate, key, EVP_sha256()) > 0 &&
                SSL_CTX_use_certificate(context, certificate) == 1 &&
                SSL_CTX_use_PrivateKey(context, key) == 1;
    X509_free(certificate);
    EVP_PKEY_free(key);
    return good;
}

SSL_CTX *tls_server_context(const struct tls_files *files)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL)
        return NULL;
    bool good = files->certfile == NULL
                    ? use_fresh_pair(context)
                    : SSL_CTX_use_certificate_chain_file(context, files->certfile) == 1 &&
                          SSL_CTX_use_PrivateKey_file(context, files->keyfile, SSL_FILETYPE_PEM) == 1;
    SSL_CTX_set_mode(context,
        SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_num_tickets(context, 1);
    SSL_CTX_set_session_id_context(context, (const unsigned char *)"floor", 5);
    if (good)
        return context;
    SSL_CTX_free(context);
    return NULL;
}
