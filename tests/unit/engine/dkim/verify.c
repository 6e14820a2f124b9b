#include "tests/unit/engine/dkim/verify.h"

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base64.h"
#include "base/mem.h"
#include "engine/dkim/canon.h"

bool verify_digest(const struct dkim_key *k, const unsigned char digest[SHA256_BYTES], struct bytes signature)
{
    const gnutls_datum_t data = {(unsigned char *)(uintptr_t)digest, SHA256_BYTES};
    const gnutls_datum_t made = {(unsigned char *)(uintptr_t)signature.at, (unsigned)signature.len};
    gnutls_pubkey_t public;
    BUF_LOCAL(octets);
    int code;

    dkim_key_public(k, &octets);
    const gnutls_datum_t der = {(unsigned char *)octets.at, (unsigned)octets.len};
    assert_int_equal(gnutls_pubkey_init(&public), 0);
    if (dkim_key_algorithm(k) == DKIM_RSA) {
        assert_int_equal(gnutls_pubkey_import(public, &der, GNUTLS_X509_FMT_DER), 0);
        code = gnutls_pubkey_verify_hash2(public, GNUTLS_SIGN_RSA_SHA256, 0, &data, &made);
    } else {
        assert_int_equal(octets.len, 32);
        assert_int_equal(gnutls_pubkey_import_ecc_raw(public, GNUTLS_ECC_CURVE_ED25519, &der, NULL), 0);
        code = gnutls_pubkey_verify_data2(public, GNUTLS_SIGN_EDDSA_ED25519, 0, &data, &made);
    }
    gnutls_pubkey_deinit(public);
    return code >= 0;
}

/* ---- a verifier of a hundred lines ---- */

#define FIELDS_MAX 1000

struct parsed {
    struct bytes fields[FIELDS_MAX];
    size_t count;
    struct bytes body;
};

static void parse(struct bytes message, struct parsed *p)
{
    p->count = 0;
    while (p->count < FIELDS_MAX && dkim_field_next(&message, &p->fields[p->count]))
        p->count++;
    p->body = bytes_skip(message, 2);
}

static bool is_signature(struct bytes field)
{
    return bytes_ieq(dkim_field_name(field), BYTES("DKIM-Signature"));
}

static void tag_of(struct bytes field, const char *tag, struct buf *out)
{
    struct bytes rest = bytes_skip(field, bytes_find(field, ':') + 1);

    while (rest.len) {
        struct bytes one = bytes_first(rest, bytes_find(rest, ';'));
        BUF_LOCAL(plain);
        rest = bytes_skip(rest, one.len + 1);
        for (size_t i = 0; i < one.len; i++)
            if (!strchr(" \t\r\n", one.at[i]))
                buf_putc(&plain, one.at[i]);
        size_t len = strlen(tag);
        if (plain.len > len && memcmp(plain.at, tag, len) == 0 && plain.at[len] == '=') {
            buf_put(out, bytes_skip(buf_bytes(&plain), len + 1));
            return;
        }
    }
}

void message_tag(struct bytes message, size_t nth, const char *tag, struct buf *out)
{
    static struct parsed p;

    parse(message, &p);
    for (size_t i = 0; i < p.count; i++)
        if (is_signature(p.fields[i]) && nth-- == 0)
            tag_of(p.fields[i], tag, out);
}

static void add(void *hash, struct bytes run)
{
    gnutls_hash(hash, run.at, run.len);
}

static bool body_agrees(const struct parsed *p, struct bytes field)
{
    unsigned char digest[SHA256_BYTES];
    struct dkim_canon_body c = {0};
    gnutls_hash_hd_t hash;
    BUF_LOCAL(said);
    BUF_LOCAL(is);

    gnutls_hash_init(&hash, GNUTLS_DIG_SHA256);
    dkim_canon_body_put(&c, p->body, add, hash);
    dkim_canon_body_end(&c, add, hash);
    gnutls_hash_deinit(hash, digest);
    base64_encode(bytes_make(digest, sizeof(digest)), &is);
    tag_of(field, "bh", &said);
    return bytes_eq(buf_bytes(&said), buf_bytes(&is));
}

/* The fields that h= names, each from the bottom up; then the signature without the value of b=. */
static void signed_text(const struct parsed *p, struct bytes field, struct buf *out)
{
    bool used[FIELDS_MAX] = {false};
    BUF_LOCAL(names);
    BUF_LOCAL(own);

    tag_of(field, "h", &names);
    for (struct bytes rest = buf_bytes(&names); rest.len;) {
        struct bytes name = bytes_first(rest, bytes_find(rest, ':'));
        rest = bytes_skip(rest, name.len + 1);
        for (size_t i = p->count; i-- > 0;) {
            if (used[i] || !bytes_ieq(dkim_field_name(p->fields[i]), name))
                continue;
            used[i] = true;
            dkim_canon_field(p->fields[i], true, out);
            break;
        }
    }
    dkim_canon_field(field, false, &own);
    const char *b = strstr(buf_str(&own), " b=");
    assert_non_null(b);
    own.len = (size_t)(b - own.at) + 3;
    buf_put(out, buf_bytes(&own));
}

static bool holds(const struct parsed *p, struct bytes field, const struct dkim_key *k)
{
    unsigned char digest[SHA256_BYTES];
    BUF_LOCAL(text);
    BUF_LOCAL(b);
    BUF_LOCAL(signature);

    signed_text(p, field, &text);
    gnutls_hash_fast(GNUTLS_DIG_SHA256, text.at, text.len, digest);
    tag_of(field, "b", &b);
    return base64_decode(buf_bytes(&b), &signature) && body_agrees(p, field) &&
           verify_digest(k, digest, buf_bytes(&signature));
}

int verify_message(struct bytes message, struct dkim_key *const *keys, size_t key_count)
{
    static struct parsed p;
    int count = 0;

    parse(message, &p);
    for (size_t i = 0; i < p.count; i++) {
        BUF_LOCAL(a);
        bool right = false;
        if (!is_signature(p.fields[i]))
            continue;
        tag_of(p.fields[i], "a", &a);
        for (size_t k = 0; k < key_count && !right; k++)
            right = strcmp(buf_str(&a), dkim_algorithm_name(dkim_key_algorithm(keys[k]))) == 0 &&
                    holds(&p, p.fields[i], keys[k]);
        if (!right)
            return -1;
        count++;
    }
    return count;
}

char *make_key_file(const char *dir, const char *name, enum dkim_algorithm a, struct dkim_key **key)
{
    char *path = text_format("%s/%s.pem", dir, name), *why = NULL;
    const char *unfit = NULL;
    BUF_LOCAL(pem);

    assert_int_equal(dkim_key_generate(a, &pem), OK);
    assert_int_equal(dkim_key_write(path, buf_bytes(&pem), &why), OK);
    if (key)
        assert_int_equal(dkim_key_parse(buf_bytes(&pem), key, &unfit), OK);
    return path;
}
