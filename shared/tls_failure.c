/*
 * The causes of failed TLS connections: tables from OpenSSL's reasons, alerts and verification results to
 * causes, and their texts. Any process; pure but for the note that a callback leaves about the certificate
 * that failed.
 */
#include "shared/tls_failure.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>

static const struct {
    const char *name;
    const char *text;
    const char *usual;
} causes[TLS_FAILURE_CAUSES] = {
    [TLS_FAILURE_NONE] = {"none", "no failure", "nothing"},
    [TLS_FAILURE_PLAIN_MQTT] = {"plain_mqtt", "plain MQTT on a TLS port",
        "the client is set up without TLS (mosquitto: no --cafile), or with the port of the TLS listener"},
    [TLS_FAILURE_PLAIN_HTTP] = {"plain_http", "plain HTTP on a TLS port",
        "a browser, a health check or a scanner on the MQTT port"},
    [TLS_FAILURE_NOT_TLS] = {"not_tls", "what the client sent is not TLS",
        "a client of some other protocol, a load balancer that sends a PROXY header, or a scanner"},
    [TLS_FAILURE_CLIENT_GONE] = {"client_gone", "the client closed the connection during the handshake",
        "a health check that only connects, a client that gave up waiting, or one that rejects our "
        "certificate "
        "without saying so"},
    [TLS_FAILURE_TIMEOUT] = {"timeout", "the handshake was not over within handshake_timeout",
        "a client that expects plain MQTT and waits, a scanner, or a very slow network"},
    [TLS_FAILURE_VERSION] = {"version", "no TLS version in common",
        "an old client library; the listener's \"versions\" say what is served (TLS 1.2 and newer)"},
    [TLS_FAILURE_CIPHER] = {"cipher", "no cipher suite, group or signature algorithm in common",
        "the listener's \"ciphers\" are too narrow for the client, or the client cannot use this type of key "
        "(RSA or EC)"},
    [TLS_FAILURE_ALPN] = {"alpn", "the client asks for another application protocol than mqtt (ALPN)",
        "a browser, or a client that was set up for another service's port 443"},
    [TLS_FAILURE_CERTIFICATE_MISSING] = {"certificate_missing", "the client sent no certificate",
        "the client is set up without certificate and key (mosquitto: --cert, --key), and the listener "
        "demands "
        "one (fail_if_no_peer_cert)"},
    [TLS_FAILURE_CERTIFICATE_UNKNOWN_CA] = {"certificate_unknown_ca",
        "the client's certificate is signed by a CA that is not trusted here",
        "it comes from another CA than those in the listener's cacertfile, or the client does not send its "
        "intermediate certificates"},
    [TLS_FAILURE_CERTIFICATE_SELF_SIGNED] = {"certificate_self_signed",
        "the client's certificate is self-signed",
        "a test certificate; have it signed by a CA in the listener's cacertfile"},
    [TLS_FAILURE_CERTIFICATE_EXPIRED] = {"certificate_expired",
        "the client's certificate, or one of its CAs, is expired or not yet valid",
        "a certificate that was not renewed in time, or a wrong clock here"},
    [TLS_FAILURE_CERTIFICATE_REVOKED] = {"certificate_revoked",
        "the client's certificate, or one of its CAs, is revoked",
        "a device that was given up, or a certificate that was replaced; the listener's crlfile names it"},
    [TLS_FAILURE_CERTIFICATE_DEPTH] = {"certificate_depth", "the client's certificate chain is too long",
        "more intermediate CAs than the listener's \"depth\" allows"},
    [TLS_FAILURE_CERTIFICATE_PURPOSE] = {"certificate_purpose",
        "the client's certificate is not made for client authentication",
        "a server certificate used by a client; its extended key usage lacks clientAuth"},
    [TLS_FAILURE_CERTIFICATE_INVALID] = {"certificate_invalid", "the client's certificate was refused",
        "a weak key or signature, or a damaged certificate"},
    [TLS_FAILURE_CLIENT_REJECTS_CA] = {"client_rejects_ca",
        "the client does not trust the CA of our certificate",
        "the client was given another CA file than the one that signed certfile, or certfile lacks the "
        "intermediate certificates"},
    [TLS_FAILURE_CLIENT_REJECTS_CERTIFICATE] = {"client_rejects_certificate",
        "the client rejects our certificate",
        "the host name or address that the client connects to is not in certfile's subjectAltName, or the "
        "client "
        "does not know its CA"},
    [TLS_FAILURE_CLIENT_REJECTS_EXPIRED] = {"client_rejects_expired",
        "the client says that our certificate is expired or not yet valid",
        "certfile was not renewed, or the device's clock is wrong (often after a power cut)"},
    [TLS_FAILURE_CLIENT_ALERT] = {"client_alert", "the client ended the connection with a TLS alert",
        "the client's settings; its own log says more"},
    [TLS_FAILURE_PROTOCOL] = {"protocol", "what the client sent breaks TLS",
        "a broken client, a scanner, or something in between that changes the bytes"},
    [TLS_FAILURE_UPGRADE] = {"upgrade", "the WebSocket opening request was refused",
        "a browser, a health check or a scanner, or a client that is set up with another path or without "
        "WebSocket"},
    [TLS_FAILURE_WEBSOCKET] = {"websocket", "what the client sent breaks WebSocket",
        "a broken client, or something in between that changes the bytes"},
    [TLS_FAILURE_SYSTEM] = {"system", "the connection broke", "the network, or a client that was ended"},
};

/* OpenSSL's reasons for what the server itself found wrong. Alerts of the client are 1000 + alert. */
static const struct {
    int reason;
    enum tls_failure_cause cause;
} reasons[] = {
    {SSL_R_HTTP_REQUEST, TLS_FAILURE_PLAIN_HTTP},
    {SSL_R_HTTPS_PROXY_REQUEST, TLS_FAILURE_PLAIN_HTTP},
    {SSL_R_UNSUPPORTED_PROTOCOL, TLS_FAILURE_VERSION},
    {SSL_R_NO_PROTOCOLS_AVAILABLE, TLS_FAILURE_VERSION},
    {SSL_R_VERSION_TOO_LOW, TLS_FAILURE_VERSION},
    {SSL_R_VERSION_TOO_HIGH, TLS_FAILURE_VERSION},
    {SSL_R_WRONG_SSL_VERSION, TLS_FAILURE_VERSION},
    {SSL_R_INAPPROPRIATE_FALLBACK, TLS_FAILURE_VERSION},
    {SSL_R_NO_SHARED_CIPHER, TLS_FAILURE_CIPHER},
    {SSL_R_NO_SHARED_GROUPS, TLS_FAILURE_CIPHER},
    {SSL_R_NO_SUITABLE_KEY_SHARE, TLS_FAILURE_CIPHER},
    {SSL_R_NO_SUITABLE_GROUPS, TLS_FAILURE_CIPHER},
    {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, TLS_FAILURE_CIPHER},
    {SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, TLS_FAILURE_CIPHER},
    {SSL_R_NO_APPLICATION_PROTOCOL, TLS_FAILURE_ALPN},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, TLS_FAILURE_CERTIFICATE_MISSING},
    {SSL_R_UNEXPECTED_EOF_WHILE_READING, TLS_FAILURE_CLIENT_GONE},
    {SSL_AD_REASON_OFFSET + SSL3_AD_BAD_CERTIFICATE, TLS_FAILURE_CLIENT_REJECTS_CERTIFICATE},
    {SSL_AD_REASON_OFFSET + SSL3_AD_UNSUPPORTED_CERTIFICATE, TLS_FAILURE_CLIENT_REJECTS_CERTIFICATE},
    {SSL_AD_REASON_OFFSET + SSL3_AD_CERTIFICATE_REVOKED, TLS_FAILURE_CLIENT_REJECTS_CERTIFICATE},
    {SSL_AD_REASON_OFFSET + SSL3_AD_CERTIFICATE_UNKNOWN, TLS_FAILURE_CLIENT_REJECTS_CERTIFICATE},
    {SSL_AD_REASON_OFFSET + SSL3_AD_CERTIFICATE_EXPIRED, TLS_FAILURE_CLIENT_REJECTS_EXPIRED},
    {SSL_AD_REASON_OFFSET + TLS1_AD_UNKNOWN_CA, TLS_FAILURE_CLIENT_REJECTS_CA},
    {SSL_AD_REASON_OFFSET + TLS1_AD_PROTOCOL_VERSION, TLS_FAILURE_VERSION},
    {SSL_AD_REASON_OFFSET + SSL3_AD_HANDSHAKE_FAILURE, TLS_FAILURE_CIPHER},
};

static const struct {
    long result;
    enum tls_failure_cause cause;
} verify_results[] = {
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, TLS_FAILURE_CERTIFICATE_UNKNOWN_CA},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, TLS_FAILURE_CERTIFICATE_UNKNOWN_CA},
    {X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, TLS_FAILURE_CERTIFICATE_UNKNOWN_CA},
    {X509_V_ERR_CERT_SIGNATURE_FAILURE, TLS_FAILURE_CERTIFICATE_UNKNOWN_CA},
    {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, TLS_FAILURE_CERTIFICATE_UNKNOWN_CA},
    {X509_V_ERR_CERT_UNTRUSTED, TLS_FAILURE_CERTIFICATE_UNKNOWN_CA},
    {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, TLS_FAILURE_CERTIFICATE_SELF_SIGNED},
    {X509_V_ERR_CERT_HAS_EXPIRED, TLS_FAILURE_CERTIFICATE_EXPIRED},
    {X509_V_ERR_CERT_NOT_YET_VALID, TLS_FAILURE_CERTIFICATE_EXPIRED},
    {X509_V_ERR_CERT_REVOKED, TLS_FAILURE_CERTIFICATE_REVOKED},
    {X509_V_ERR_CERT_CHAIN_TOO_LONG, TLS_FAILURE_CERTIFICATE_DEPTH},
    {X509_V_ERR_PATH_LENGTH_EXCEEDED, TLS_FAILURE_CERTIFICATE_DEPTH},
    {X509_V_ERR_INVALID_PURPOSE, TLS_FAILURE_CERTIFICATE_PURPOSE},
};

/* fatal, level 2: handshake_failure; record version 3.1, as before any negotiation */
static const uint8_t plain_port_alert[] = {0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x28};
const struct bytes tls_plain_port_alert = {plain_port_alert, sizeof plain_port_alert};
const char *const tls_on_plain_port_text = "TLS on a plain MQTT port; usually: the client is set up with TLS "
                                           "(mosquitto: --cafile) and the port of the listener without";

/* What a callback knew about the failure that the call which ran it is about to report. One thread a process.
 */
static char noted[160];

void tls_failure_note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(noted, sizeof noted, format, arguments);
    va_end(arguments);
}

void tls_failure_set(
    struct tls_failure *failure, enum tls_failure_cause cause, const char *detail_format, ...)
{
    failure->cause = cause;
    va_list arguments;
    va_start(arguments, detail_format);
    vsnprintf(failure->detail, sizeof failure->detail, detail_format, arguments);
    va_end(arguments);
}

static enum tls_failure_cause cause_of_reason(int reason)
{
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].reason == reason)
            return reasons[i].cause;
    return reason > SSL_AD_REASON_OFFSET ? TLS_FAILURE_CLIENT_ALERT : TLS_FAILURE_PROTOCOL;
}

static enum tls_failure_cause cause_of_verification(long result)
{
    for (size_t i = 0; i < sizeof verify_results / sizeof *verify_results; i++)
        if (verify_results[i].result == result)
            return verify_results[i].cause;
    return TLS_FAILURE_CERTIFICATE_INVALID;
}

static const char *version_name(int version)
{
    static const char *const names[] = {"SSL 3.0", "TLS 1.0", "TLS 1.1", "TLS 1.2", "TLS 1.3"};
    unsigned index = (unsigned)version - SSL3_VERSION;
    return index < sizeof names / sizeof *names ? names[index] : "an unknown version";
}

static void describe_reason(struct tls_failure *failure, SSL *ssl, unsigned long error)
{
    int reason = ERR_GET_REASON(error);
    const char *text = ERR_reason_error_string(error);
    if (!text)
        text = "unknown reason";
    if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        long result = SSL_get_verify_result(ssl);
        tls_failure_set(failure, cause_of_verification(result), "%s%s%s",
            X509_verify_cert_error_string(result), *noted ? ": " : "", noted);
        return;
    }
    enum tls_failure_cause cause =
        ERR_GET_LIB(error) == ERR_LIB_SSL ? cause_of_reason(reason) : TLS_FAILURE_PROTOCOL;
    if (cause == TLS_FAILURE_VERSION && reason < SSL_AD_REASON_OFFSET &&
        SSL_client_version(ssl) >= SSL3_VERSION)
        tls_failure_set(
            failure, cause, "%s: the client offers %s", text, version_name(SSL_client_version(ssl)));
    else
        tls_failure_set(failure, cause, "%s%s%s", text, *noted ? ": " : "", noted);
}

void tls_failure_from_ssl(struct tls_failure *failure, SSL *ssl, int errno_value)
{
    unsigned long error = ERR_peek_error();
    if (error != 0)
        describe_reason(failure, ssl, error);
    else if (errno_value != 0)
        tls_failure_set(failure, TLS_FAILURE_SYSTEM, "%s", strerror(errno_value));
    else
        tls_failure_set(failure, TLS_FAILURE_CLIENT_GONE, "%s", "");
    ERR_clear_error();
    noted[0] = '\0';
}

static bool begins(struct bytes bytes, const char *text)
{
    size_t length = strlen(text);
    return bytes.size >= length && memcmp(bytes.data, text, length) == 0;
}

/* CONNECT: 0x10, remaining length of 1 to 4 bytes, then the length-prefixed name of the protocol. */
static bool is_mqtt_connect(struct bytes first)
{
    if (first.size < 2 || first.data[0] != 0x10)
        return false;
    size_t name = 1;
    while (name < first.size && name < 4 && (first.data[name] & 0x80) != 0)
        name++;
    name++;
    if (name >= first.size)
        return true;
    struct bytes rest = {first.data + name, first.size - name};
    static const char *const names[] = {"\0\4MQTT", "\0\6MQIsdp"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t length = 2 + (size_t)names[i][1];
        if (memcmp(rest.data, names[i], rest.size < length ? rest.size : length) == 0)
            return true;
    }
    return false;
}

static bool is_http(struct bytes first)
{
    static const char *const methods[] = {"GET ", "POST ", "HEAD ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ",
        "TRACE ", "CONNECT ", "PRI * HTTP"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (begins(first, methods[i]))
            return true;
    return false;
}

enum tls_failure_cause tls_failure_first_bytes(struct bytes first)
{
    if (first.size > 0 && first.data[0] == 0x16 && (first.size == 1 || first.data[1] == 0x03))
        return TLS_FAILURE_NONE;
    if (is_mqtt_connect(first))
        return TLS_FAILURE_PLAIN_MQTT;
    return is_http(first) ? TLS_FAILURE_PLAIN_HTTP : TLS_FAILURE_NOT_TLS;
}

bool tls_is_client_hello(struct bytes first)
{
    return first.size >= 3 && first.data[0] == 0x16 && first.data[1] == 0x03 && first.data[2] <= 0x04;
}

const char *tls_failure_name(enum tls_failure_cause cause)
{
    return (unsigned)cause < TLS_FAILURE_CAUSES ? causes[cause].name : "unknown";
}

const char *tls_failure_text(enum tls_failure_cause cause)
{
    return (unsigned)cause < TLS_FAILURE_CAUSES ? causes[cause].text : "unknown failure";
}

const char *tls_failure_usual_cause(enum tls_failure_cause cause)
{
    return (unsigned)cause < TLS_FAILURE_CAUSES ? causes[cause].usual : "unknown";
}

const char *tls_failure_line(const struct tls_failure *failure, char *to, size_t size)
{
    bool detailed = failure->detail[0] != '\0';
    snprintf(to, size, "%s%s%s%s; usually: %s", tls_failure_text(failure->cause), detailed ? " (" : "",
        failure->detail, detailed ? ")" : "", tls_failure_usual_cause(failure->cause));
    return to;
}
