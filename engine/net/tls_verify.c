/* What PKIX, or a pin, says of the certificates that a server presented. */
#include <gnutls/crypto.h>
#include <gnutls/ocsp.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>

#include "engine/net/certificate.h"
#include "engine/net/tls_priv.h"

/* The whole path: RSA from 2048 bits on, no SHA-1 and no MD5 in what is relied upon. */
#define STRENGTH GNUTLS_PROFILE_TO_VFLAGS(GNUTLS_PROFILE_MEDIUM)

struct presented {
    gnutls_x509_crt_t list[CERTIFICATE_CHAIN_MAX]; /* owned */
    unsigned count;
};

static void presented_fini(struct presented *p)
{
    for (unsigned i = 0; i < p->count; i++)
        gnutls_x509_crt_deinit(p->list[i]);
}

static bool is_excessive(gnutls_x509_crt_t crt)
{
    gnutls_pubkey_t key;

    if (gnutls_pubkey_init(&key) < 0)
        return true;
    bool excessive = gnutls_pubkey_import_x509(key, crt, 0) >= 0 && pubkey_is_excessive(key);
    gnutls_pubkey_deinit(key);
    return excessive;
}

/* false: not all of them can be read, or one would be too much work. */
static bool read_all(struct presented *p, const gnutls_datum_t *chain, unsigned count)
{
    while (p->count < count) {
        gnutls_x509_crt_t crt;
        if (gnutls_x509_crt_init(&crt) < 0)
            return false;
        p->list[p->count++] = crt;
        if (gnutls_x509_crt_import(crt, &chain[p->count - 1], GNUTLS_X509_FMT_DER) < 0 || is_excessive(crt))
            return false;
    }
    return true;
}

static bool is_self_signed(const struct presented *p)
{
    return p->count == 1 && gnutls_x509_crt_check_issuer(p->list[0], p->list[0]);
}

/* ---- stapled answers: RFC 6066 section 8, RFC 6960 ---- */

/* Signed by this issuer, or by whom it appointed: only then does the answer count. */
static bool issuer_signed(gnutls_ocsp_resp_t answer, gnutls_x509_crt_t issuer)
{
    unsigned wrong = 0;

    return gnutls_ocsp_resp_verify_direct(answer, issuer, &wrong, 0) >= 0 && !wrong;
}

/* What is old still counts: a revocation does not pass. */
static bool names_as_revoked(gnutls_ocsp_resp_t answer, gnutls_x509_crt_t crt)
{
    unsigned state;

    for (unsigned i = 0;
         gnutls_ocsp_resp_get_single(answer, i, NULL, NULL, NULL, NULL, &state, NULL, NULL, NULL, NULL) >= 0;
         i++)
        if (state == GNUTLS_OCSP_CERT_REVOKED && gnutls_ocsp_resp_check_crt(answer, i, crt) >= 0)
            return true;
    return false;
}

/* The issuer may stand among what was presented, in any order, or be a root that only we have. */
static bool issuer_of_vouches(const struct presented *p, unsigned at, gnutls_x509_trust_list_t trusted,
                              gnutls_ocsp_resp_t answer)
{
    gnutls_x509_crt_t root;

    for (unsigned i = 0; i < p->count; i++)
        if (i != at && gnutls_x509_crt_check_issuer(p->list[at], p->list[i]) &&
            issuer_signed(answer, p->list[i]))
            return true;
    return gnutls_x509_trust_list_get_issuer(trusted, p->list[at], &root, 0) >= 0 &&
           issuer_signed(answer, root);
}

/* A server that staples an answer of its authority may be telling us that its certificate was revoked. GnuTLS
 * looks for the issuer in the chain alone, and does not find a root that was left out of it. */
static bool is_revoked(gnutls_session_t session, gnutls_x509_trust_list_t trusted, const struct presented *p)
{
    bool revoked = false;

    for (unsigned i = 0; i < p->count && !revoked; i++) {
        gnutls_datum_t der;
        gnutls_ocsp_resp_t answer;
        if (gnutls_ocsp_status_request_get2(session, i, &der) < 0 || gnutls_ocsp_resp_init(&answer) < 0)
            continue;
        revoked = gnutls_ocsp_resp_import2(answer, &der, GNUTLS_X509_FMT_DER) >= 0 &&
                  gnutls_ocsp_resp_get_status(answer) == GNUTLS_OCSP_RESP_SUCCESSFUL &&
                  names_as_revoked(answer, p->list[i]) && issuer_of_vouches(p, i, trusted, answer);
        gnutls_ocsp_resp_deinit(answer);
    }
    return revoked;
}

/* ---- PKIX ---- */

static enum tls_verify of_status(unsigned status, const struct presented *p)
{
    if (status & GNUTLS_CERT_REVOKED)
        return TLS_VERIFY_REVOKED;
    if (status & GNUTLS_CERT_EXPIRED)
        return TLS_VERIFY_EXPIRED;
    if (status & GNUTLS_CERT_NOT_ACTIVATED)
        return TLS_VERIFY_NOT_YET_VALID;
    if (status & GNUTLS_CERT_SIGNER_NOT_FOUND)
        return is_self_signed(p) ? TLS_VERIFY_SELF_SIGNED : TLS_VERIFY_UNKNOWN_CA;
    if (status & GNUTLS_CERT_INSECURE_ALGORITHM)
        return TLS_VERIFY_WEAK;
    return status ? TLS_VERIFY_BAD : TLS_VERIFY_PKIX;
}

static enum tls_verify by_pkix(gnutls_session_t session, const struct session_extra *extra,
                               const struct presented *p)
{
    gnutls_typed_vdata_st server = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                    .data = (void *)(uintptr_t)GNUTLS_KP_TLS_WWW_SERVER};
    gnutls_x509_crt_t list[CERTIFICATE_CHAIN_MAX];
    gnutls_x509_trust_list_t trusted;
    unsigned status = 0;

    memcpy(list, p->list, sizeof(list));
    gnutls_certificate_get_trust_list(tls_trust_credentials(extra->trust), &trusted);
    if (gnutls_x509_trust_list_verify_crt2(trusted, list, p->count, &server, 1, STRENGTH, &status, NULL) < 0)
        return TLS_VERIFY_BAD;
    enum tls_verify v = of_status(status, p);
    if (v != TLS_VERIFY_PKIX)
        return v;
    if (is_revoked(session, trusted, p))
        return TLS_VERIFY_REVOKED;
    if (!certificate_find_name(p->list[0], (const char *const *)extra->names, extra->name_count))
        return TLS_VERIFY_WRONG_NAME;
    /* A root that stands in the trust file itself passes GnuTLS by that alone. */
    return certificate_key_is_weak(p->list[0]) ? TLS_VERIFY_WEAK : TLS_VERIFY_PKIX;
}

/* ---- pins ---- */

static void fingerprint(struct bytes octets, char out[65])
{
    uint8_t digest[32] = {0};

    gnutls_hash_fast(GNUTLS_DIG_SHA256, octets.at, octets.len, digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

static enum tls_verify by_pin(const struct session_extra *extra, const gnutls_datum_t *leaf)
{
    struct bytes der = bytes_make(leaf->data, leaf->size);
    struct certificate_parts parts;
    char certificate[65], key[65];

    if (!certificate_split(der, &parts))
        return TLS_VERIFY_PIN_MISMATCH;
    fingerprint(der, certificate);
    fingerprint(parts.spki, key);
    for (size_t i = 0; i < extra->pin_count; i++) {
        struct bytes pin = bytes_of(extra->pins[i]);
        bool of_key = bytes_starts(pin, BYTES("spki:"));
        if (bytes_ieq(of_key ? bytes_skip(pin, 5) : pin, bytes_of(of_key ? key : certificate)))
            return TLS_VERIFY_PIN;
    }
    return TLS_VERIFY_PIN_MISMATCH;
}

enum tls_verify tls_verify_now(gnutls_session_t session, const struct session_extra *extra)
{
    struct presented p = {.count = 0};
    unsigned count = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);

    if (!chain || !count)
        return TLS_VERIFY_NO_CERT;
    if (extra->pin_count)
        return by_pin(extra, chain);
    if (count > CERTIFICATE_CHAIN_MAX)
        return TLS_VERIFY_BAD;
    enum tls_verify v = read_all(&p, chain, count) ? by_pkix(session, extra, &p) : TLS_VERIFY_BAD;
    presented_fini(&p);
    return v;
}
