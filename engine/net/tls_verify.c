/* What PKIX says of the certificates that a server presented. */
#include <gnutls/x509.h>

#include "engine/net/tls_priv.h"

#define RSA_BITS_MIN 2048

/* GnuTLS 3.7.9 accepts weaker keys than `verify` should, and a name that stands in the CN alone. */
static enum tls_verify check_leaf(const gnutls_datum_t *der, const char *name)
{
    gnutls_x509_crt_t crt;
    enum tls_verify v = TLS_VERIFY_PKIX;
    unsigned bits = 0;

    if (gnutls_x509_crt_init(&crt) < 0)
        return TLS_VERIFY_BAD;
    if (gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER) < 0) {
        gnutls_x509_crt_deinit(crt);
        return TLS_VERIFY_BAD;
    }
    int pk = gnutls_x509_crt_get_pk_algorithm(crt, &bits);
    char san[256];
    size_t len = sizeof(san);
    bool has_san = gnutls_x509_crt_get_subject_alt_name(crt, 0, san, &len, NULL) !=
                   GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE;
    if (!has_san || (name && !gnutls_x509_crt_check_hostname2(crt, name, 0)))
        v = TLS_VERIFY_WRONG_NAME;
    else if ((pk == GNUTLS_PK_RSA || pk == GNUTLS_PK_RSA_PSS) && bits < RSA_BITS_MIN)
        v = TLS_VERIFY_WEAK;
    gnutls_x509_crt_deinit(crt);
    return v;
}

static bool is_self_signed(const gnutls_datum_t *der, unsigned count)
{
    gnutls_x509_crt_t crt;
    bool self = false;

    if (count != 1 || gnutls_x509_crt_init(&crt) < 0)
        return false;
    if (gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER) >= 0)
        self = gnutls_x509_crt_check_issuer(crt, crt) != 0;
    gnutls_x509_crt_deinit(crt);
    return self;
}

enum tls_verify tls_verify_now(gnutls_session_t session, const char *name)
{
    unsigned count = 0, status = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    gnutls_typed_vdata_st data[] = {
        {.type = GNUTLS_DT_DNS_HOSTNAME, .data = (void *)(uintptr_t)name},
        {.type = GNUTLS_DT_KEY_PURPOSE_OID, .data = (void *)(uintptr_t)GNUTLS_KP_TLS_WWW_SERVER},
    };

    if (!chain || !count)
        return TLS_VERIFY_NO_CERT;
    if (gnutls_certificate_verify_peers(session, data, 2, &status) < 0)
        return TLS_VERIFY_BAD;
    if (status & GNUTLS_CERT_REVOKED)
        return TLS_VERIFY_REVOKED;
    if (status & GNUTLS_CERT_EXPIRED)
        return TLS_VERIFY_EXPIRED;
    if (status & GNUTLS_CERT_NOT_ACTIVATED)
        return TLS_VERIFY_NOT_YET_VALID;
    if (status & GNUTLS_CERT_SIGNER_NOT_FOUND)
        return is_self_signed(chain, count) ? TLS_VERIFY_SELF_SIGNED : TLS_VERIFY_UNKNOWN_CA;
    if (status & GNUTLS_CERT_UNEXPECTED_OWNER)
        return TLS_VERIFY_WRONG_NAME;
    if (status & GNUTLS_CERT_INSECURE_ALGORITHM)
        return TLS_VERIFY_WEAK;
    if (status)
        return TLS_VERIFY_BAD;
    return check_leaf(chain, name);
}
