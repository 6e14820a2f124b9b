#include "engine/probe/report.h"

#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

void probe_judge(const struct probe_view *view, const struct group *group, struct verdict *out)
{
    bool wants_dane = rule_wants_dane(group, TLS_WISH_NONE, view->host);
    struct verdict_input in = {
        .rule = {.group = group,
                 .wish = TLS_WISH_NONE,
                 .security = view->security,
                 .dane = wants_dane ? view->dane : NULL,
                 .implicit_tls = view->implicit_tls},
        .looked_up = view->looked_up,
        .ip_secure = view->ip_secure,
        .host = view->host,
        .domain = view->domain,
        .facts = view->facts,
        .now_unix = clock_unix(),
    };

    verdict_find(&in, out);
}

json_t *probe_verdict_json(const struct verdict *v)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "verdict", verdict_kind_name(v->kind), "level",
                     tls_level_name(v->level), "why", tls_why_name(v->why), "verify",
                     tls_verify_name(v->verify), "text", v->text);
}

void probe_put_verdicts(json_t *out, const struct probe_view *view)
{
    static const struct {
        const char *name;
        enum tls_level starttls;
        enum dane_mode dane;
        enum sts_mode sts;
    } rows[] = {
        {"off", TLS_OFF, DANE_OFF, STS_OFF},         {"on", TLS_ON, DANE_OFF, STS_OFF},
        {"require", TLS_REQUIRE, DANE_OFF, STS_OFF}, {"verify", TLS_VERIFY, DANE_OFF, STS_OFF},
        {"mta-sts", TLS_ON, DANE_OFF, STS_TRY},      {"dane", TLS_ON, DANE_TRY, STS_OFF},
        {"dane-only", TLS_ON, DANE_ONLY, STS_OFF},
    };
    json_t *levels = json_object();
    struct verdict v;

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct group as = *view->group; /* borrowed texts: only its levels differ */
        as.starttls = rows[i].starttls;
        as.dane = rows[i].dane;
        as.mta_sts = rows[i].sts;
        probe_judge(view, &as, &v);
        json_object_set_new(levels, rows[i].name, probe_verdict_json(&v));
    }
    json_object_set_new(out, "levels", levels);
    probe_judge(view, view->group, &v);
    json_object_set_new(out, "live", probe_verdict_json(&v));
}

/* ---- certificates ---- */

static void put_hex(json_t *out, const char *key, const unsigned char *octets, size_t n)
{
    BUF_LOCAL(hex);

    for (size_t i = 0; i < n; i++)
        buf_putf(&hex, "%02x", octets[i]);
    json_object_set_new(out, key, json_string(buf_str(&hex)));
}

static void put_name(json_t *out, const char *key, gnutls_x509_crt_t crt,
                     int (*get)(gnutls_x509_crt_t crt, gnutls_datum_t *dn, unsigned flags))
{
    gnutls_datum_t dn = {0};

    if (get(crt, &dn, 0) < 0)
        return;
    json_object_set_new(out, key, json_stringn_nocheck((const char *)dn.data, dn.size));
    gnutls_free(dn.data);
}

static json_t *dns_names(gnutls_x509_crt_t crt)
{
    json_t *names = json_array();
    char name[256];

    for (unsigned i = 0; i < 100; i++) {
        size_t len = sizeof(name);
        int type = gnutls_x509_crt_get_subject_alt_name(crt, i, name, &len, NULL);
        if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            break;
        if (type == GNUTLS_SAN_DNSNAME)
            json_array_append_new(names, json_stringn(name, strnlen(name, len)));
    }
    return names;
}

static json_t *certificate_json(const gnutls_datum_t *der)
{
    json_t *out = json_object();
    gnutls_x509_crt_t crt;
    unsigned char id[64];
    unsigned bits = 0;
    size_t len = sizeof(id);

    if (gnutls_x509_crt_init(&crt) < 0)
        return out;
    if (gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER) < 0) {
        json_object_set_new(out, "error", json_string("not a certificate"));
        gnutls_x509_crt_deinit(crt);
        return out;
    }
    put_name(out, "subject", crt, gnutls_x509_crt_get_dn3);
    put_name(out, "issuer", crt, gnutls_x509_crt_get_issuer_dn3);
    json_object_set_new(out, "names", dns_names(crt));
    json_object_set_new(out, "not_before_unix", json_integer(gnutls_x509_crt_get_activation_time(crt)));
    json_object_set_new(out, "not_after_unix", json_integer(gnutls_x509_crt_get_expiration_time(crt)));
    const char *algorithm =
        gnutls_pk_get_name((gnutls_pk_algorithm_t)gnutls_x509_crt_get_pk_algorithm(crt, &bits));
    const char *signature =
        gnutls_sign_get_name((gnutls_sign_algorithm_t)gnutls_x509_crt_get_signature_algorithm(crt));
    json_object_set_new(out, "key", json_string(algorithm ? algorithm : "unknown"));
    json_object_set_new(out, "key_bits", json_integer(bits));
    json_object_set_new(out, "signature", json_string(signature ? signature : "unknown"));
    if (gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, id, &len) >= 0)
        put_hex(out, "sha256", id, len);
    len = sizeof(id);
    if (gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, id, &len) >= 0)
        put_hex(out, "spki_sha256", id, len);
    gnutls_x509_crt_deinit(crt);
    return out;
}

static const char *starttls_word(const struct probe_facts *f)
{
    if (f->version)
        return "works";
    switch (f->event) {
    case TLS_EVENT_NOT_OFFERED: return "not offered";
    case TLS_EVENT_REFUSED: return "refused";
    case TLS_EVENT_CLOSING: return "closing";
    case TLS_EVENT_REFUSED_UNCLEAN: return "answered wrongly";
    default: return "handshake failed";
    }
}

static void put_tls(json_t *out, const struct probe_view *view)
{
    const struct probe_facts *f = view->facts;
    json_t *chain = json_array();

    for (unsigned i = 0; i < f->chain_count; i++)
        json_array_append_new(chain, certificate_json(&f->chain[i]));
    json_object_set_new(out, "tls",
                        json_pack("{s:s, s:s, s:s, s:s, s:I, s:o}", "version", f->version, "cipher",
                                  f->cipher, "kx", f->kx, "verify", tls_verify_name(f->verify),
                                  "expires_unix", (json_int_t)f->expires_unix, "chain", chain));
}

static void put_versions(json_t *out, const struct probe_facts *f)
{
    static const char *const names[] = {"TLS1.0", "TLS1.1", "TLS1.2", "TLS1.3"};
    json_t *versions = json_object();

    for (int i = 0; i < 4; i++)
        if (f->versions[i] >= 0)
            json_object_set_new(versions, names[i], json_boolean(f->versions[i]));
    if (json_object_size(versions))
        json_object_set_new(out, "versions", versions);
    else
        json_decref(versions);
}

void probe_put_facts(json_t *out, const struct probe_view *view)
{
    const struct probe_facts *f = view->facts;

    json_object_set_new(out, "connected", json_boolean(f->connected));
    json_object_set_new(out, "ms", json_integer(f->ms));
    if (f->error[0])
        json_object_set_new(out, "error", json_string(f->error));
    if (!f->connected)
        return;
    json_object_set_new(out, "banner", json_string(f->banner));
    json_object_set_new(out, "starttls", json_string(starttls_word(f)));
    json_object_set_new(out, "requiretls", json_boolean(f->requiretls));
    if (f->reply[0])
        json_object_set_new(out, "starttls_reply", json_string(f->reply));
    if (f->tls_error[0])
        json_object_set_new(out, "tls_error", json_string(f->tls_error));
    if (f->version)
        put_tls(out, view);
    put_versions(out, f);
}
