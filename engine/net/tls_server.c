/* Server side: the certificate of a listener, and the self-signed one that stands in for it. */
#include "engine/net/tls_priv.h"

#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/mem.h"

/* RFC 9325: 1.3 and 1.2, forward secrecy and AEAD only on our side of the door. */
#define SERVER_PRIORITY                                                                                      \
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:"                            \
    "-CIPHER-ALL:+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:%SERVER_PRECEDENCE"
#define SERVER_PRIORITY_13                                                                                   \
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:%SERVER_"        \
    "PRECEDENCE"

struct tls_server {
    atomic_uint refs;
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
    gnutls_datum_t ticket_key;
    int64_t expires_unix;
};

void tls_server_unref(struct tls_server *t)
{
    if (!t || atomic_fetch_sub(&t->refs, 1) != 1)
        return;
    if (t->credentials)
        gnutls_certificate_free_credentials(t->credentials);
    if (t->priority)
        gnutls_priority_deinit(t->priority);
    gnutls_free(t->ticket_key.data);
    mem_free(t);
}
DEFINE_CLEANUP(struct tls_server *, tls_server_unref)

struct tls_server *tls_server_ref(struct tls_server *t)
{
    atomic_fetch_add(&t->refs, 1);
    return t;
}

static int64_t leaf_expires(gnutls_certificate_credentials_t credentials)
{
    gnutls_x509_crt_t *chain = NULL;
    unsigned count = 0;
    int64_t at = 0;

    if (gnutls_certificate_get_x509_crt(credentials, 0, &chain, &count) < 0)
        return 0;
    if (count)
        at = gnutls_x509_crt_get_expiration_time(chain[0]);
    for (unsigned i = 0; i < count; i++)
        gnutls_x509_crt_deinit(chain[i]);
    gnutls_free(chain);
    return at;
}

enum err tls_server_load(const char *certificate, const char *key, const char *priority, bool tls13_only,
                         struct tls_server **out, char **why)
{
    CLEANUP(tls_server_unref) struct tls_server *t = MEM_NEW(struct tls_server);
    const char *error_at = NULL;
    const char *wanted = priority ? priority : tls13_only ? SERVER_PRIORITY_13 : SERVER_PRIORITY;

    atomic_init(&t->refs, 1);
    if (access(certificate, R_OK) != 0) {
        *why = text_format("cannot read the TLS certificate %s: %m; name a PEM file that the daemon may read",
                           certificate);
        return ERR_IO;
    }
    if (access(key, R_OK) != 0) {
        *why = text_format("cannot read the TLS key %s: %m; name a PEM file that the daemon may read", key);
        return ERR_IO;
    }
    gnutls_certificate_allocate_credentials(&t->credentials);
    int rc = gnutls_certificate_set_x509_key_file(t->credentials, certificate, key, GNUTLS_X509_FMT_PEM);
    if (rc < 0) {
        *why = text_format("TLS certificate %s with key %s: %s", certificate, key, gnutls_strerror(rc));
        return ERR_INVALID;
    }
    rc = gnutls_priority_init(&t->priority, wanted, &error_at);
    if (rc < 0) {
        *why = text_format("TLS priority string is not understood from \"%s\": %s",
                           error_at ? error_at : wanted, gnutls_strerror(rc));
        return ERR_INVALID;
    }
    gnutls_session_ticket_key_generate(&t->ticket_key);
    t->expires_unix = leaf_expires(t->credentials);
    *out = TAKE(t);
    return OK;
}

int64_t tls_server_expires_unix(const struct tls_server *t)
{
    return t->expires_unix;
}

gnutls_session_t tls_server_session(struct tls_server *t)
{
    gnutls_session_t session;
    struct session_extra *extra = MEM_NEW(struct session_extra);

    gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    gnutls_priority_set(session, t->priority);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, t->credentials);
    gnutls_certificate_server_set_request(session, GNUTLS_CERT_IGNORE);
    gnutls_session_ticket_enable_server(session, &t->ticket_key);
    gnutls_handshake_set_timeout(session, GNUTLS_INDEFINITE_TIMEOUT); /* the connection's deadline rules */
    extra->role = SESSION_SERVER;
    extra->server = tls_server_ref(t);
    gnutls_session_set_ptr(session, extra);
    return session;
}

static enum err write_file(const char *path, const gnutls_datum_t *data, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    if (fd < 0)
        return ERR_IO;
    bool ok = write(fd, data->data, data->size) == (ssize_t)data->size && fsync(fd) == 0;
    return close(fd) == 0 && ok ? OK : ERR_IO;
}

static int make_certificate(const char *host_name, gnutls_datum_t *cert_pem, gnutls_datum_t *key_pem)
{
    gnutls_x509_privkey_t key = NULL;
    gnutls_x509_crt_t crt = NULL;
    unsigned char serial[16];
    int64_t now = clock_unix();
    int rc = gnutls_x509_privkey_init(&key);

    gnutls_x509_crt_init(&crt);
    gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial));
    serial[0] &= 0x7f;
    if (rc >= 0)
        rc = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                          GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    gnutls_x509_crt_set_version(crt, 3);
    gnutls_x509_crt_set_serial(crt, serial, sizeof(serial));
    gnutls_x509_crt_set_activation_time(crt, now - 3600);
    gnutls_x509_crt_set_expiration_time(crt, now + (int64_t)3650 * 86400);
    gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, host_name,
                                  (unsigned)MIN_OF(strlen(host_name), (size_t)64));
    gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, host_name, (unsigned)strlen(host_name),
                                         GNUTLS_FSAN_SET);
    gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE);
    gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0);
    gnutls_x509_crt_set_basic_constraints(crt, 0, -1);
    if (rc >= 0)
        rc = gnutls_x509_crt_set_key(crt, key);
    if (rc >= 0)
        rc = gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
    if (rc >= 0)
        rc = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, cert_pem);
    if (rc >= 0)
        rc = gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, key_pem);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    return rc;
}

enum err tls_self_signed_ensure(const char *dir, const char *host_name, char **certificate, char **key,
                                char **why)
{
    char *cert_path = text_format("%s/tls-cert.pem", dir), *key_path = text_format("%s/tls-key.pem", dir);
    gnutls_datum_t cert_pem = {0}, key_pem = {0};
    enum err e = OK;

    if (access(cert_path, F_OK) != 0 || access(key_path, F_OK) != 0) {
        int rc = make_certificate(host_name, &cert_pem, &key_pem);
        if (rc < 0) {
            *why = text_format("cannot make a self-signed certificate: %s", gnutls_strerror(rc));
            e = ERR_TLS;
        } else {
            e = write_file(key_path, &key_pem, 0600);
            if (!e)
                e = write_file(cert_path, &cert_pem, 0644);
            if (e)
                *why = text_format("cannot write %s: %m; the data directory must be writable", cert_path);
        }
        gnutls_free(cert_pem.data);
        gnutls_free(key_pem.data);
    }
    if (e) {
        mem_free(cert_path);
        mem_free(key_path);
        return e;
    }
    *certificate = cert_path;
    *key = key_path;
    return OK;
}
