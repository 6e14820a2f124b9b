/*
 *   TLSA rdata    usage(1) selector(1) matching(1) certificate association data(1 or more)     RFC 6698 §2.1
 */
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "engine/dane/dane_priv.h"
#include "engine/net/certificate.h"

#define HEAD_BYTES 3

const char *dane_state_name(enum dane_state s)
{
    switch (s) {
    case DANE_ABSENT: return "absent";
    case DANE_UNUSABLE: return "unusable";
    case DANE_USABLE: return "usable";
    case DANE_FAILED: return "failed";
    }
    return "unknown";
}

/* ---- one record ---- */

bool tlsa_parse(struct bytes rdata, struct tlsa *out)
{
    const uint8_t *p = (const uint8_t *)rdata.at;

    if (rdata.len <= HEAD_BYTES)
        return false;
    *out = (struct tlsa){p[0], p[1], p[2], bytes_skip(rdata, HEAD_BYTES)};
    return true;
}

static gnutls_datum_t datum_of(struct bytes b)
{
    return (gnutls_datum_t){(unsigned char *)(uintptr_t)b.at, (unsigned)b.len};
}

static bool certificate_parses(struct bytes der)
{
    struct certificate_parts parts;
    gnutls_datum_t datum = datum_of(der);
    gnutls_x509_crt_t crt;

    if (!certificate_split(der, &parts) || gnutls_x509_crt_init(&crt) < 0)
        return false;
    bool good = gnutls_x509_crt_import(crt, &datum, GNUTLS_X509_FMT_DER) >= 0;
    gnutls_x509_crt_deinit(crt);
    return good;
}

static bool key_parses(struct bytes der)
{
    gnutls_datum_t datum = datum_of(der);
    gnutls_pubkey_t key;

    if (gnutls_pubkey_init(&key) < 0)
        return false;
    bool good = gnutls_pubkey_import(key, &datum, GNUTLS_X509_FMT_DER) >= 0;
    gnutls_pubkey_deinit(key);
    return good;
}

bool tlsa_is_usable(const struct tlsa *t)
{
    if ((t->usage != DANE_USAGE_TA && t->usage != DANE_USAGE_EE) || t->selector > DANE_SELECTOR_KEY)
        return false;
    switch (t->matching) {
    case DANE_MATCHING_FULL:
        return t->selector == DANE_SELECTOR_KEY ? key_parses(t->data) : certificate_parses(t->data);
    case DANE_MATCHING_SHA256: return t->data.len == 32;
    case DANE_MATCHING_SHA512: return t->data.len == 64;
    default: return false;
    }
}

bool tlsa_matches(const struct tlsa *t, struct bytes certificate, struct bytes spki)
{
    struct bytes what = t->selector == DANE_SELECTOR_KEY ? spki : certificate;
    char digest[64];

    if (!what.len)
        return false;
    if (t->matching == DANE_MATCHING_FULL)
        return bytes_eq(what, t->data);
    gnutls_digest_algorithm_t algorithm =
        t->matching == DANE_MATCHING_SHA512 ? GNUTLS_DIG_SHA512 : GNUTLS_DIG_SHA256;
    return gnutls_hash_fast(algorithm, what.at, what.len, digest) >= 0 &&
           bytes_eq(bytes_make(digest, (size_t)gnutls_hash_get_len(algorithm)), t->data);
}

char *tlsa_format_short(const struct tlsa *t, char out[TLSA_SHORT_BYTES])
{
    size_t len = (size_t)snprintf(out, TLSA_SHORT_BYTES, "%u %u %u ", t->usage, t->selector, t->matching);

    for (size_t i = 0; i < MIN_OF(t->data.len, (size_t)4); i++)
        len += (size_t)snprintf(out + len, TLSA_SHORT_BYTES - len, "%02x", (uint8_t)t->data.at[i]);
    snprintf(out + len, TLSA_SHORT_BYTES - len, "%s", t->data.len > 4 ? "…" : "");
    return out;
}

/* ---- sets ---- */

struct dane_records *dane_records_ref(struct dane_records *r)
{
    atomic_fetch_add(&r->refs, 1);
    return r;
}

void dane_records_unref(struct dane_records *r)
{
    if (!r || atomic_fetch_sub(&r->refs, 1) != 1)
        return;
    mem_free(r->base);
    mem_free(r->records);
    mem_free(r->octets);
    mem_free(r->text);
    mem_free(r->why);
    mem_free(r);
}

static uint64_t hash_of(const struct dane_records *r)
{
    BUF_LOCAL(all);

    buf_putf(&all, "%d|%s|%zu", (int)r->state, r->base, r->count);
    for (size_t i = 0; i < r->count; i++) {
        const struct tlsa *t = &r->records[i];
        buf_putf(&all, "|%u %u %u %zu ", t->usage, t->selector, t->matching, t->data.len);
        buf_put(&all, t->data);
    }
    return hash_bytes(buf_bytes(&all));
}

static struct dane_records *create(enum dane_state state, const char *base, uint32_t ttl_s, char *why)
{
    struct dane_records *r = MEM_NEW(struct dane_records);

    atomic_init(&r->refs, 1);
    r->state = state;
    r->base = mem_strdup(base);
    r->ttl_s = ttl_s;
    r->text = mem_strdup("");
    r->why = why;
    r->hash = hash_of(r);
    return r;
}

struct dane_records *dane_records_without(enum dane_state state, uint32_t ttl_s, const char *why)
{
    return create(state, "", ttl_s, mem_strdup(why));
}

static int by_octets(const void *a, const void *b)
{
    const struct bytes *x = a, *y = b;
    int order = memcmp(x->at, y->at, MIN_OF(x->len, y->len));

    return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* A copy of the answer in the records' own memory, sorted and each but once: the order in DNS means nothing.
 */
static size_t copy_sorted(struct dane_records *r, const struct bytes *rdata, size_t count, struct bytes *out)
{
    size_t total = 0, kept = 0;

    for (size_t i = 0; i < count; i++)
        total += rdata[i].len;
    r->octets = mem_alloc(total + 1);
    total = 0;
    for (size_t i = 0; i < count; i++) {
        if (rdata[i].len)
            memcpy(r->octets + total, rdata[i].at, rdata[i].len);
        out[i] = bytes_make(r->octets + total, rdata[i].len);
        total += rdata[i].len;
    }
    qsort(out, count, sizeof(*out), by_octets);
    for (size_t i = 0; i < count; i++)
        if (!kept || !bytes_eq(out[kept - 1], out[i]))
            out[kept++] = out[i];
    return kept;
}

static void put_text(struct buf *text, struct bytes rdata)
{
    struct tlsa t;

    if (text->len)
        buf_putc(text, '\n');
    if (!tlsa_parse(rdata, &t)) {
        buf_puts(text, "\\# ");
        buf_putf(text, "%zu ", rdata.len); /* RFC 3597 §5: what has no form of its own */
        t.data = rdata;
    } else {
        buf_putf(text, "%u %u %u ", t.usage, t.selector, t.matching);
    }
    for (size_t i = 0; i < t.data.len; i++)
        buf_putf(text, "%02x", (uint8_t)t.data.at[i]);
}

/* RFC 7671 §9: of a usage and selector only the strongest digest counts; full data always does. */
static bool is_outdone(const struct tlsa *t, const struct tlsa *all, size_t count)
{
    for (size_t i = 0; t->matching == DANE_MATCHING_SHA256 && i < count; i++)
        if (all[i].usage == t->usage && all[i].selector == t->selector &&
            all[i].matching == DANE_MATCHING_SHA512)
            return true;
    return false;
}

static void keep_strongest(struct dane_records *r, const struct tlsa *usable, size_t count)
{
    r->records = mem_alloc((count + 1) * sizeof(*r->records));
    for (size_t i = 0; i < count; i++)
        if (!is_outdone(&usable[i], usable, count))
            r->records[r->count++] = usable[i];
}

struct dane_records *dane_records_make(const char *base, const struct bytes *rdata, size_t count,
                                       uint32_t ttl_s)
{
    struct bytes sorted[DANE_RECORDS_MAX];
    struct tlsa usable[DANE_RECORDS_MAX];
    size_t usable_count = 0;
    struct buf text = {0};

    if (!count)
        return dane_records_without(DANE_ABSENT, ttl_s, "no TLSA records");
    if (count > DANE_RECORDS_MAX)
        return create(
            DANE_FAILED, "", ttl_s,
            text_format("%zu TLSA records at %s; no more than %d are read", count, base, DANE_RECORDS_MAX));
    struct dane_records *r = create(DANE_UNUSABLE, base, ttl_s, NULL);
    size_t kept = copy_sorted(r, rdata, count, sorted);
    for (size_t i = 0; i < kept; i++) {
        struct tlsa t;
        put_text(&text, sorted[i]);
        if (tlsa_parse(sorted[i], &t) && tlsa_is_usable(&t))
            usable[usable_count++] = t;
    }
    mem_free(r->text);
    r->text = buf_take(&text);
    keep_strongest(r, usable, usable_count);
    if (r->count)
        r->state = DANE_USABLE;
    else
        r->why = text_format("none of the %zu TLSA records is usable for SMTP (RFC 7672, 3.1)", kept);
    r->hash = hash_of(r);
    return r;
}
