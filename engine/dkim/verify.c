#include "engine/dkim/verify.h"

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <string.h>

#include "base/base64.h"
#include "base/mem.h"
#include "engine/dkim/canon.h"
#include "engine/dkim/record.h"
#include "policy/domain.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

size_t dkim_signatures_find(struct bytes message, struct bytes fields[DKIM_CHECKED_MAX])
{
    struct bytes field;
    size_t count = 0;

    for (size_t i = 0; i < DKIM_FIELDS_MAX && count < DKIM_CHECKED_MAX && dkim_field_next(&message, &field);
         i++)
        if (bytes_ieq(dkim_field_name(field), BYTES("DKIM-Signature")))
            fields[count++] = field;
    return count;
}

/* ---- reading: a tag list, RFC 6376 §3.2, §3.5 ---- */

enum tag { TAG_V, TAG_A, TAG_B, TAG_BH, TAG_C, TAG_D, TAG_H, TAG_I, TAG_L, TAG_S, TAG_X, TAGS };
static const char *const tag_names[TAGS] = {"v", "a", "b", "bh", "c", "d", "h", "i", "l", "s", "x"};

struct tags {
    bool given[TAGS];
    struct bytes values[TAGS]; /* without white space, in the arena */
};

static struct bytes without_space(struct bytes s, struct arena *arena)
{
    char *to = arena_alloc(arena, s.len + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++)
        if (!is_space(s.at[i]))
            to[n++] = s.at[i];
    to[n] = '\0';
    return bytes_make(to, n);
}

static int tag_of(struct bytes name)
{
    for (int i = 0; i < TAGS; i++)
        if (bytes_eq(name, bytes_of(tag_names[i])))
            return i;
    return TAGS; /* unknown ones are passed over */
}

static const char *take_tag(struct bytes spec, struct arena *arena, struct tags *t, struct dkim_signature *s)
{
    size_t equals = bytes_find(spec, '=');
    struct bytes name = without_space(bytes_first(spec, equals), arena), value = bytes_skip(spec, equals + 1);
    int tag = tag_of(name);

    if (equals == spec.len)
        return name.len ? "it is not a list of tags" : NULL; /* nothing behind the last ';' */
    if (tag == TAGS)
        return NULL;
    if (t->given[tag])
        return "a tag stands twice";
    t->given[tag] = true;
    t->values[tag] = without_space(value, arena);
    if (tag == TAG_B) {
        s->b_at = (size_t)(value.at - s->field.at);
        s->b_len = value.len;
    }
    return NULL;
}

static const char *read_tags(struct arena *arena, struct tags *t, struct dkim_signature *s)
{
    struct bytes rest = bytes_skip(s->field, bytes_find(s->field, ':') + 1);
    const char *why = NULL;

    while (rest.len && !why) {
        struct bytes spec = bytes_first(rest, bytes_find(rest, ';'));
        rest = bytes_skip(rest, spec.len + 1);
        why = take_tag(spec, arena, t, s);
    }
    return why;
}

static bool has_name(struct bytes list, struct bytes name)
{
    while (list.len) {
        struct bytes item = bytes_first(list, bytes_find(list, ':'));
        if (bytes_ieq(item, name))
            return true;
        list = bytes_skip(list, item.len + 1);
    }
    return false;
}

static const char *take_canonicalization(const struct tags *t, struct dkim_signature *s)
{
    struct bytes c = t->given[TAG_C] ? t->values[TAG_C] : BYTES("simple/simple");
    struct bytes header = bytes_first(c, bytes_find(c, '/')), body = bytes_skip(c, header.len + 1);

    if (!body.len)
        body = BYTES("simple");
    s->simple_header = bytes_ieq(header, BYTES("simple"));
    s->simple_body = bytes_ieq(body, BYTES("simple"));
    return (s->simple_header || bytes_ieq(header, BYTES("relaxed"))) &&
                   (s->simple_body || bytes_ieq(body, BYTES("relaxed")))
               ? NULL
               : "its canonicalization is not known here";
}

/* i= is of the domain, or below it (§3.5). */
static bool identity_fits(const struct tags *t, const char *domain)
{
    struct bytes of = domain_of_address(t->values[TAG_I]);
    BUF_LOCAL(suffix);

    buf_putf(&suffix, ".%s", domain);
    return !t->given[TAG_I] || bytes_ieq(of, bytes_of(domain)) || bytes_iends(of, buf_bytes(&suffix));
}

static const char *take_signer(const struct tags *t, struct arena *arena, struct dkim_signature *s)
{
    char domain[DOMAIN_MAX_BYTES + 1];

    if (domain_normalise(t->values[TAG_D], domain) != OK || domain_is_literal(bytes_of(domain)))
        return "d= is no domain";
    if (!dkim_selector_is_valid(t->values[TAG_S]))
        return "s= is no selector";
    s->domain = arena_strdup(arena, domain);
    s->selector = arena_dup(arena, t->values[TAG_S]);
    return identity_fits(t, domain) ? NULL : "i= is not of the domain in d=";
}

static bool decode(struct bytes text, struct arena *arena, struct bytes *out)
{
    BUF_LOCAL(octets);
    bool good = base64_decode(text, &octets);

    *out = bytes_make(arena_dup(arena, buf_bytes(&octets)), octets.len);
    return good;
}

static const char *take_values(const struct tags *t, struct arena *arena, struct dkim_signature *s)
{
    uint64_t expires = 0;

    for (enum tag i = 0; i < TAGS; i++)
        if (!t->given[i] && i != TAG_C && i != TAG_I && i != TAG_L && i != TAG_X)
            return "a tag that must be there is missing";
    if (!bytes_eq(t->values[TAG_V], BYTES("1")))
        return "its version is not 1";
    if (t->given[TAG_L])
        return "l= leaves a part of the body unsigned";
    if (bytes_ieq(t->values[TAG_A], BYTES("rsa-sha256")))
        s->algorithm = DKIM_RSA;
    else if (bytes_ieq(t->values[TAG_A], BYTES("ed25519-sha256")))
        s->algorithm = DKIM_ED25519;
    else
        return "its algorithm is not taken";
    if (t->given[TAG_X] && (!bytes_parse_u64(t->values[TAG_X], &expires) || expires > INT64_MAX))
        return "x= is no time";
    s->expires_unix = (int64_t)expires;
    s->names = t->values[TAG_H];
    if (!has_name(s->names, BYTES("From")))
        return "From is not signed";
    if (!decode(t->values[TAG_BH], arena, &s->body_hash) || !decode(t->values[TAG_B], arena, &s->signature) ||
        !s->signature.len)
        return "b= or bh= is not base64";
    return NULL;
}

enum err dkim_signature_parse(struct bytes field, struct arena *arena, struct dkim_signature *out,
                              const char **why)
{
    struct dkim_signature s = {.field = {NULL, 0}};
    struct tags tags = {0};

    *why = field.len > DKIM_FIELD_MAX ? "it is too long" : NULL;
    if (!*why) {
        s.field = bytes_make(arena_dup(arena, field), field.len);
        *why = read_tags(arena, &tags, &s);
    }
    if (!*why)
        *why = take_values(&tags, arena, &s);
    if (!*why)
        *why = take_canonicalization(&tags, &s);
    if (!*why)
        *why = take_signer(&tags, arena, &s);
    if (*why)
        return ERR_INVALID;
    *out = s;
    return OK;
}

/* ---- what was signed ---- */

static void add(void *hash, struct bytes run)
{
    gnutls_hash(hash, run.at, run.len);
}

/* §3.4.3: empty lines at the end are one line end. */
static void hash_simple_body(struct bytes body, gnutls_hash_hd_t hash)
{
    while (body.len >= 2 && memcmp(body.at + body.len - 2, "\r\n", 2) == 0)
        body.len -= 2;
    add(hash, body);
    add(hash, BYTES("\r\n"));
}

static bool body_agrees(const struct dkim_signature *s, struct bytes body)
{
    unsigned char digest[SHA256_BYTES];
    struct dkim_canon_body canon = {0};
    gnutls_hash_hd_t hash;

    if (gnutls_hash_init(&hash, GNUTLS_DIG_SHA256) < 0)
        return false;
    if (s->simple_body) {
        hash_simple_body(body, hash);
    } else {
        dkim_canon_body_put(&canon, body, add, hash);
        dkim_canon_body_end(&canon, add, hash);
    }
    gnutls_hash_deinit(hash, digest);
    return bytes_eq(s->body_hash, bytes_make(digest, sizeof(digest)));
}

static void put_field(const struct dkim_signature *s, struct bytes field, bool crlf, struct buf *out)
{
    if (!s->simple_header) {
        dkim_canon_field(field, crlf, out);
        return;
    }
    while (field.len && (field.at[field.len - 1] == '\r' || field.at[field.len - 1] == '\n'))
        field.len--;
    buf_put(out, field);
    if (crlf)
        buf_puts(out, "\r\n");
}

/* §3.7: the fields that h= names, each from the bottom up, then the signature without the value of b=. */
static bool signed_text(const struct dkim_signature *s, struct bytes message, struct buf *out)
{
    struct bytes *fields = mem_alloc(DKIM_FIELDS_MAX * sizeof(*fields));
    size_t count = 0;
    BUF_LOCAL(own);

    while (count < DKIM_FIELDS_MAX && dkim_field_next(&message, &fields[count]))
        if (!bytes_eq(fields[count], s->field)) /* it does not sign itself */
            count++;
    bool whole = count < DKIM_FIELDS_MAX;
    for (struct bytes rest = s->names; rest.len;) {
        struct bytes name = bytes_first(rest, bytes_find(rest, ':'));
        rest = bytes_skip(rest, name.len + 1);
        for (size_t i = count; i-- > 0;) {
            if (!fields[i].len || !bytes_ieq(dkim_field_name(fields[i]), name))
                continue;
            put_field(s, fields[i], true, out);
            fields[i].len = 0; /* used */
            break;
        }
    }
    mem_free(fields);
    buf_put(&own, bytes_first(s->field, s->b_at));
    buf_put(&own, bytes_skip(s->field, s->b_at + s->b_len));
    put_field(s, buf_bytes(&own), false, out);
    return whole;
}

/* ---- the key ---- */

static bool is_allowed(struct bytes list, struct bytes word)
{
    while (list.len) {
        struct bytes item = bytes_trim(bytes_first(list, bytes_find(list, ':')));
        if (bytes_eq(item, BYTES("*")) || bytes_ieq(item, word))
            return true;
        list = bytes_skip(list, bytes_find(list, ':') + 1);
    }
    return false;
}

static const char *key_unfit(const struct dkim_signature *s, const struct dkim_record *r,
                             struct bytes service)
{
    struct bytes type = r->key_type.len ? r->key_type : BYTES("rsa");

    if (r->revoked)
        return "its key was revoked";
    if (r->testing)
        return "its key is being tested only";
    if (!bytes_ieq(type, bytes_of(dkim_algorithm_key_type(s->algorithm))))
        return "its key is of another kind";
    if (r->hashes.len && !is_allowed(r->hashes, BYTES("sha256")))
        return "its key is not for sha256";
    if (r->services.len && !is_allowed(r->services, service) && !is_allowed(r->services, BYTES("email")))
        return "its key is for another service";
    return NULL;
}

static bool read_key(const struct dkim_signature *s, const struct buf *octets, gnutls_pubkey_t key)
{
    const gnutls_datum_t der = {(unsigned char *)octets->at, (unsigned)octets->len};
    unsigned bits = 0;

    if (s->algorithm == DKIM_ED25519)
        return octets->len == 32 &&
               gnutls_pubkey_import_ecc_raw(key, GNUTLS_ECC_CURVE_ED25519, &der, NULL) >= 0;
    return gnutls_pubkey_import(key, &der, GNUTLS_X509_FMT_DER) >= 0 &&
           gnutls_pubkey_get_pk_algorithm(key, &bits) == GNUTLS_PK_RSA && bits >= DKIM_VERIFY_RSA_MIN &&
           bits <= DKIM_VERIFY_RSA_MAX;
}

static bool key_verifies(const struct dkim_signature *s, gnutls_pubkey_t key, struct bytes text)
{
    unsigned char digest[SHA256_BYTES];
    const gnutls_datum_t data = {digest, sizeof(digest)};
    const gnutls_datum_t made = {(unsigned char *)(uintptr_t)s->signature.at, (unsigned)s->signature.len};

    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, text.at, text.len, digest) < 0)
        return false;
    return (s->algorithm == DKIM_RSA
                ? gnutls_pubkey_verify_hash2(key, GNUTLS_SIGN_RSA_SHA256, 0, &data, &made)
                : gnutls_pubkey_verify_data2(key, GNUTLS_SIGN_EDDSA_ED25519, 0, &data, &made)) >= 0;
}

static const char *check_by(const struct dkim_signature *s, struct bytes text, struct bytes record,
                            struct bytes service)
{
    struct dkim_record r;
    gnutls_pubkey_t key;
    const char *why;

    if (dkim_record_parse(record, &r, &why) != OK)
        return "the record of its key is malformed";
    why = key_unfit(s, &r, service);
    if (!why && gnutls_pubkey_init(&key) >= 0) {
        if (!read_key(s, &r.key, key))
            why = "its key cannot be used";
        else if (!key_verifies(s, key, text))
            why = "header fields were changed, or its key is another";
        gnutls_pubkey_deinit(key);
    }
    dkim_record_fini(&r);
    return why;
}

const char *dkim_signature_check(const struct dkim_signature *s, struct bytes message,
                                 const struct bytes *texts, size_t count, struct bytes service,
                                 int64_t now_unix)
{
    const char *why = "there is no key for it in DNS";
    BUF_LOCAL(text);

    if (s->expires_unix && s->expires_unix < now_unix)
        return "it has expired";
    if (!body_agrees(s, bytes_skip(message, dkim_header_length(message) + 2)))
        return "the body was changed";
    if (!signed_text(s, message, &text))
        return "the message has too many header fields";
    for (size_t i = 0; i < count; i++) {
        why = check_by(s, buf_bytes(&text), texts[i], service);
        if (!why)
            return NULL;
    }
    return why;
}
