/* The certificate that a client of a listener presents. */
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/mem.h"
#include "engine/net/certificate.h"
#include "engine/net/tls_server_priv.h"

#define SPEC_MAX 512

static bool dates_hold(gnutls_x509_crt_t crt, struct tls_peer *out)
{
    int64_t now = clock_unix();

    if (gnutls_x509_crt_get_activation_time(crt) > now)
        snprintf(out->why, sizeof(out->why), "the client's certificate is not yet valid");
    else if (gnutls_x509_crt_get_expiration_time(crt) < now)
        snprintf(out->why, sizeof(out->why), "the client's certificate has expired");
    else
        return true;
    return false;
}

static bool is_revoked(const struct tls_server *t, gnutls_x509_crt_t crt, struct tls_peer *out)
{
    if (!t->crl_count || gnutls_x509_crt_check_revocation(crt, t->crls, t->crl_count) != 1)
        return false;
    snprintf(out->why, sizeof(out->why), "the client's certificate is revoked");
    return true;
}

static bool chain_holds(gnutls_session_t session, const struct tls_server *t, struct tls_peer *out)
{
    gnutls_typed_vdata_st purpose = {GNUTLS_DT_KEY_PURPOSE_OID,
                                     (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT, 0};
    gnutls_datum_t text = {0};
    unsigned status = 0;

    if (!t->has_client_ca) {
        snprintf(out->why, sizeof(out->why), "no client_ca vouches for clients here");
        return false;
    }
    int rc = gnutls_certificate_verify_peers(session, &purpose, 1, &status);
    if (rc >= 0 && status == 0)
        return true;
    if (rc >= 0)
        gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0);
    snprintf(out->why, sizeof(out->why), "%.*s",
             (int)(text.data ? MIN_OF(text.size, (unsigned)sizeof(out->why) - 1) : 40),
             text.data ? (const char *)text.data : gnutls_strerror(rc));
    gnutls_free(text.data);
    return false;
}

static void take_fingerprint(gnutls_x509_crt_t crt, char out[TLS_FINGERPRINT_BYTES])
{
    unsigned char digest[32];
    size_t size = sizeof(digest);

    if (gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, digest, &size) < 0)
        return;
    for (size_t i = 0; i < size; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

static enum tls_client_certificates wanted_of(gnutls_session_t session)
{
    return ((const struct session_extra *)gnutls_session_get_ptr(session))->server->client_certificates;
}

bool tls_peer_is_asked(gnutls_session_t session)
{
    return wanted_of(session) != TLS_CLIENT_CERTIFICATES_OFF;
}

bool tls_peer_is_required(gnutls_session_t session)
{
    return wanted_of(session) == TLS_CLIENT_CERTIFICATES_REQUIRE;
}

void tls_peer_read(gnutls_session_t session, struct tls_peer *out)
{
    const struct session_extra *extra = gnutls_session_get_ptr(session);
    unsigned count = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);

    *out = (struct tls_peer){0};
    if (!tls_peer_is_asked(session) || !chain || !count)
        return;
    gnutls_x509_crt_init(&out->leaf);
    if (gnutls_x509_crt_import(out->leaf, chain, GNUTLS_X509_FMT_DER) < 0) {
        tls_peer_fini(out);
        snprintf(out->why, sizeof(out->why), "the client's certificate is malformed");
        return;
    }
    take_fingerprint(out->leaf, out->fingerprint);
    out->in_time = dates_hold(out->leaf, out) && !is_revoked(extra->server, out->leaf, out);
    out->verified =
        out->in_time && count <= CERTIFICATE_CHAIN_MAX && chain_holds(session, extra->server, out);
}

void tls_peer_fini(struct tls_peer *p)
{
    if (p->leaf)
        gnutls_x509_crt_deinit(p->leaf);
    *p = (struct tls_peer){0};
}

/* ---- what accounts name ---- */

/* A subjectAltName of this type is exactly the text; the domain of an address in any case. */
static bool has_san(gnutls_x509_crt_t crt, gnutls_x509_subject_alt_name_t type, struct bytes want)
{
    char text[SPEC_MAX];

    for (unsigned i = 0; i < 64; i++) {
        size_t size = sizeof(text);
        int got = gnutls_x509_crt_get_subject_alt_name(crt, i, text, &size, NULL);
        if (got == GNUTLS_E_SHORT_MEMORY_BUFFER)
            continue;
        if (got < 0)
            return false;
        if (got != (int)type)
            continue;
        struct bytes have = bytes_make(text, size);
        size_t at = type == GNUTLS_SAN_RFC822NAME ? bytes_find(want, '@') : want.len;
        if (have.len == want.len && bytes_eq(bytes_first(have, at), bytes_first(want, at)) &&
            bytes_ieq(bytes_skip(have, at), bytes_skip(want, at)))
            return true;
    }
    return false;
}

static bool has_subject(gnutls_x509_crt_t crt, struct bytes want)
{
    gnutls_datum_t dn = {0};

    if (gnutls_x509_crt_get_dn3(crt, &dn, 0) < 0)
        return false;
    bool same = bytes_eq(bytes_make((const char *)dn.data, dn.size), want);
    gnutls_free(dn.data);
    return same;
}

bool tls_peer_matches(const struct tls_peer *p, const char *spec)
{
    struct bytes all = bytes_of(spec), kind = bytes_first(all, bytes_find(all, ':'));
    struct bytes value = bytes_skip(all, kind.len + 1);

    if (!p->leaf || !value.len)
        return false;
    if (bytes_eq(kind, BYTES("sha256")))
        return p->in_time && bytes_ieq(value, bytes_of(p->fingerprint));
    if (!p->verified)
        return false;
    if (bytes_eq(kind, BYTES("dns"))) /* a machine's own name, not one that a wildcard covers */
        return has_san(p->leaf, GNUTLS_SAN_DNSNAME, value);
    if (bytes_eq(kind, BYTES("email")))
        return has_san(p->leaf, GNUTLS_SAN_RFC822NAME, value);
    if (bytes_eq(kind, BYTES("uri")))
        return has_san(p->leaf, GNUTLS_SAN_URI, value);
    return bytes_eq(kind, BYTES("subject")) && has_subject(p->leaf, value);
}

static char *fingerprint_of_pem(const char *pem)
{
    gnutls_datum_t data = {(unsigned char *)(uintptr_t)pem, (unsigned)strlen(pem)};
    char hex[TLS_FINGERPRINT_BYTES] = "";
    gnutls_x509_crt_t crt;

    gnutls_x509_crt_init(&crt);
    if (gnutls_x509_crt_import(crt, &data, GNUTLS_X509_FMT_PEM) >= 0)
        take_fingerprint(crt, hex);
    gnutls_x509_crt_deinit(crt);
    return hex[0] ? text_format("sha256:%s", hex) : NULL;
}

/* "AB:CD:…" or "abcd…" */
static char *normal_fingerprint(struct bytes hex)
{
    BUF_LOCAL(out);

    for (size_t i = 0; i < hex.len; i++) {
        char c = ascii_lower(hex.at[i]);
        if (c == ':' || c == ' ')
            continue;
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return NULL;
        buf_putc(&out, c);
    }
    return out.len == TLS_FINGERPRINT_BYTES - 1 ? text_format("sha256:%s", buf_str(&out)) : NULL;
}

static bool is_plain(struct bytes value, bool blanks)
{
    for (size_t i = 0; i < value.len; i++)
        if ((unsigned char)value.at[i] < ' ' || value.at[i] == 0x7f || (!blanks && value.at[i] == ' '))
            return false;
    return value.len && value.len < SPEC_MAX;
}

char *tls_peer_spec_normalise(const char *spec)
{
    static const char *const kinds[] = {"dns", "email", "uri", "subject"};
    struct bytes all = bytes_trim(bytes_of(spec)), kind = bytes_first(all, bytes_find(all, ':'));
    struct bytes value = bytes_trim(bytes_skip(all, kind.len + 1));

    if (strstr(spec, "-----BEGIN CERTIFICATE-----"))
        return fingerprint_of_pem(spec);
    if (bytes_ieq(kind, BYTES("sha256")))
        return normal_fingerprint(value);
    if (kind.len == 2 || kind.len == all.len) /* openssl x509 -fingerprint, or bare hex */
        return normal_fingerprint(all);
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        if (!bytes_ieq(kind, bytes_of(kinds[i])) || !is_plain(value, i == 3))
            continue;
        char *out = text_format("%s:%.*s", kinds[i], (int)value.len, value.at);
        for (char *c = out; i == 0 && *c; c++)
            *c = ascii_lower(*c);
        return out;
    }
    return NULL;
}
