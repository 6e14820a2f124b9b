/* The self-signed certificate that stands in until the operator has one. */
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/mem.h"
#include "engine/net/tls_server.h"

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
