#include "ca.h"

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/ip.h"
#include "base/mem.h"

#define DAY 86400

static bool has(const char *words, const char *word)
{
    size_t len = strlen(word);

    for (const char *at = words; at && (at = strstr(at, word)); at += len)
        if ((at == words || at[-1] == ' ') && (at[len] == '\0' || at[len] == ' '))
            return true;
    return false;
}

static void must(int rc)
{
    if (rc < 0)
        fail_msg("GnuTLS: %s", gnutls_strerror(rc));
}

void ca_start(struct ca *ca, int64_t now_unix)
{
    memset(ca, 0, sizeof(*ca));
    ca->now_unix = now_unix;
}

const struct ca_made *ca_find(const struct ca *ca, const char *id)
{
    for (size_t i = 0; i < ca->count; i++)
        if (strcmp(ca->made[i].wish->id, id) == 0)
            return &ca->made[i];
    fail_msg("no certificate %s", id);
    return NULL;
}

static void make_key(const struct ca *ca, struct ca_made *m)
{
    const char *options = m->wish->options;

    must(gnutls_x509_privkey_init(&m->key));
    if (m->wish->key) {
        must(gnutls_x509_privkey_cpy(m->key, ca_find(ca, m->wish->key)->key));
        return;
    }
    if (has(options, "rsa1024") || has(options, "rsa2048"))
        must(gnutls_x509_privkey_generate(m->key, GNUTLS_PK_RSA, has(options, "rsa1024") ? 1024 : 2048, 0));
    else
        must(gnutls_x509_privkey_generate(m->key, GNUTLS_PK_ECDSA,
                                          GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
}

static void set_names(gnutls_x509_crt_t crt, const char *names)
{
    char *copy = mem_strdup(names), *save = NULL;

    for (char *name = strtok_r(copy, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
        struct ip ip;
        if (strncmp(name, "ip:", 3) == 0 && ip_parse(bytes_of(name + 3), &ip))
            must(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, ip.octets,
                                                      ip.family == 4 ? 4 : 16, GNUTLS_FSAN_APPEND));
        else
            must(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name, (unsigned)strlen(name),
                                                      GNUTLS_FSAN_APPEND));
    }
    mem_free(copy);
}

static void set_dates(const struct ca *ca, gnutls_x509_crt_t crt, const char *options)
{
    int64_t from = ca->now_unix - 10 * DAY, until = ca->now_unix + 100 * DAY;

    if (has(options, "expired"))
        until = ca->now_unix - DAY;
    if (has(options, "future"))
        from = ca->now_unix + DAY;
    gnutls_x509_crt_set_activation_time(crt, from);
    gnutls_x509_crt_set_expiration_time(crt, until);
}

static void set_key_ids(gnutls_x509_crt_t crt, const struct ca_made *m, const struct ca_made *issuer)
{
    uint8_t id[64];
    size_t len = sizeof(id);

    must(gnutls_x509_crt_get_key_id(crt, 0, id, &len));
    must(gnutls_x509_crt_set_subject_key_id(crt, id, len));
    len = sizeof(id);
    if (issuer == m || issuer->crt) {
        must(gnutls_x509_crt_get_key_id(issuer->crt, 0, id, &len));
        must(gnutls_x509_crt_set_authority_key_id(crt, id, len));
    }
}

static void set_constraint(gnutls_x509_crt_t crt)
{
    gnutls_x509_name_constraints_t nc;
    gnutls_datum_t other = {(unsigned char *)(uintptr_t) "other.test", 10};

    must(gnutls_x509_name_constraints_init(&nc));
    must(gnutls_x509_name_constraints_add_permitted(nc, GNUTLS_SAN_DNSNAME, &other));
    must(gnutls_x509_crt_set_name_constraints(crt, nc, 1));
    gnutls_x509_name_constraints_deinit(nc);
}

/* Who signs with a key alone has no certificate, but the certificate that it signs names it. */
static gnutls_x509_crt_t issuer_crt(const struct ca_made *issuer, gnutls_x509_crt_t *made)
{
    if (issuer->crt)
        return issuer->crt;
    must(gnutls_x509_crt_init(made));
    must(gnutls_x509_crt_set_dn_by_oid(*made, GNUTLS_OID_X520_COMMON_NAME, 0, issuer->wish->id,
                                       (unsigned)strlen(issuer->wish->id)));
    must(gnutls_x509_crt_set_key(*made, issuer->key));
    return *made;
}

static void sign(struct ca_made *m, const struct ca_made *issuer)
{
    gnutls_x509_crt_t stand_in = NULL;
    gnutls_digest_algorithm_t digest = has(m->wish->options, "sha1") ? GNUTLS_DIG_SHA1 : GNUTLS_DIG_SHA256;

    must(gnutls_x509_crt_sign2(m->crt, issuer_crt(issuer, &stand_in), issuer->key, digest, 0));
    if (stand_in)
        gnutls_x509_crt_deinit(stand_in);
}

static void make_certificate(struct ca *ca, struct ca_made *m)
{
    const struct ca_wish *w = m->wish;
    const char *name = w->name ? w->name : w->id;
    const struct ca_made *issuer = w->issuer ? ca_find(ca, w->issuer) : m;
    unsigned char serial[8];

    must(gnutls_x509_crt_init(&m->crt));
    must(gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial)));
    serial[0] = (unsigned char)((serial[0] & 0x3f) | 0x40);
    must(gnutls_x509_crt_set_version(m->crt, has(w->options, "v1") ? 1 : 3));
    must(gnutls_x509_crt_set_serial(m->crt, serial, sizeof(serial)));
    must(gnutls_x509_crt_set_dn_by_oid(m->crt, GNUTLS_OID_X520_COMMON_NAME, 0, name, (unsigned)strlen(name)));
    set_dates(ca, m->crt, w->options);
    must(gnutls_x509_crt_set_key(m->crt, m->key));
    if (!has(w->options, "v1")) {
        bool is_ca = has(w->options, "ca");
        must(gnutls_x509_crt_set_basic_constraints(m->crt, is_ca, has(w->options, "path0") ? 0 : -1));
        unsigned usage =
            is_ca && !has(w->options, "uncertsign") ? GNUTLS_KEY_KEY_CERT_SIGN : GNUTLS_KEY_DIGITAL_SIGNATURE;
        must(gnutls_x509_crt_set_key_usage(
            m->crt, usage | (has(w->options, "encipher") ? GNUTLS_KEY_KEY_ENCIPHERMENT : 0)));
        if (!is_ca)
            must(gnutls_x509_crt_set_key_purpose_oid(
                m->crt, has(w->options, "client") ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER, 0));
        if (w->san)
            set_names(m->crt, w->san);
        if (has(w->options, "nc"))
            set_constraint(m->crt);
        if (!has(w->options, "noids"))
            set_key_ids(m->crt, m, issuer);
    }
    sign(m, issuer);
    must(gnutls_x509_crt_export2(m->crt, GNUTLS_X509_FMT_DER, &m->der));
}

const struct ca_made *ca_make(struct ca *ca, const struct ca_wish *wish)
{
    assert_true(ca->count < CA_MADE_MAX);
    struct ca_made *m = &ca->made[ca->count];
    gnutls_privkey_t key;
    gnutls_pubkey_t pub;

    m->wish = wish;
    make_key(ca, m);
    if (!has(wish->options, "key"))
        make_certificate(ca, m);
    must(gnutls_privkey_init(&key));
    must(gnutls_privkey_import_x509(key, m->key, GNUTLS_PRIVKEY_IMPORT_COPY));
    must(gnutls_pubkey_init(&pub));
    must(gnutls_pubkey_import_privkey(pub, key, 0, 0));
    must(gnutls_pubkey_export2(pub, GNUTLS_X509_FMT_DER, &m->spki));
    gnutls_pubkey_deinit(pub);
    gnutls_privkey_deinit(key);
    ca->count++;
    return m;
}

void ca_end(struct ca *ca)
{
    for (size_t i = 0; i < ca->count; i++) {
        struct ca_made *m = &ca->made[i];
        gnutls_x509_privkey_deinit(m->key);
        if (m->crt)
            gnutls_x509_crt_deinit(m->crt);
        gnutls_free(m->der.data);
        gnutls_free(m->spki.data);
    }
}

unsigned ca_chain(const struct ca *ca, const char *ids, gnutls_datum_t *out, unsigned max)
{
    char *copy = mem_strdup(ids), *save = NULL;
    unsigned n = 0;

    for (char *id = strtok_r(copy, " ", &save); id; id = strtok_r(NULL, " ", &save)) {
        assert_true(n < max);
        out[n++] = ca_find(ca, id)->der;
    }
    mem_free(copy);
    return n;
}

void ca_tlsa(const struct ca *ca, const char *text, struct buf *out)
{
    unsigned usage, selector, matching;
    char whose[64], digest[64];
    size_t start = out->len;

    assert_int_equal(sscanf(text, "%u %u %u %63s", &usage, &selector, &matching, whose), 4);
    bool wrong = whose[0] == '!', cut = strncmp(whose, "short:", 6) == 0;
    const struct ca_made *m = ca_find(ca, whose + (wrong ? 1 : cut ? 6 : 0));
    const gnutls_datum_t *what = selector == 1 ? &m->spki : &m->der;

    buf_putc(out, (char)usage);
    buf_putc(out, (char)selector);
    buf_putc(out, (char)matching);
    if (matching == 1 || matching == 2) {
        gnutls_digest_algorithm_t algorithm = matching == 2 ? GNUTLS_DIG_SHA512 : GNUTLS_DIG_SHA256;
        must(gnutls_hash_fast(algorithm, what->data, what->size, digest));
        buf_put(out, bytes_make(digest, gnutls_hash_get_len(algorithm)));
    } else {
        buf_put(out, bytes_make(what->data, what->size));
    }
    if (wrong)
        out->at[start + 20] ^= 1;
    if (cut)
        out->len--;
}
