/*
 * A field as it is written, and what of it is known when:
 *
 *     DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 *     <tab>d=example.com; s=s2026; t=1763770000; x=…;
 *     <tab>h=From:From:To:…
 *     <tab>:…;
 *     <tab>bh=<44 octets, when the body has ended>;
 *     <tab>b=<as many as the key makes, in lines of 72: when it has been signed>
 *
 * Each signature covers the same fields and body, and itself with an empty b=; none covers another one.
 */
#include "engine/dkim/signing.h"

#include "base/base64.h"
#include "base/clock.h"
#include "base/mem.h"
#include "engine/dkim/from.h"

#define LINE_MAX_OCTETS 72
#define HASH_TEXT       44 /* of SHA-256, in base64 */
#define GATHER_BYTES    2048

struct signature {
    const struct dkim_entry *entry; /* borrowed: of the keyring */
    size_t at, end;                 /* in `text`, with its CRLF */
    size_t hash_at;                 /* of bh= */
    size_t signature_at;            /* of b= */
    unsigned char digest[SHA256_BYTES];
};

struct dkim_signing {
    struct dkim_keyring *ring; /* counted */
    struct sha256 *hash;
    char gathered[GATHER_BYTES]; /* short runs on their way into it: a call of the library costs more than a
                                    copy */
    size_t gathered_len;
    struct dkim_canon_body body;
    struct buf header; /* the signed fields in canonical form */
    struct buf text;   /* our fields, one after the other */
    struct signature signatures[DKIM_ALGORITHMS];
    size_t count;
};

const char *dkim_refusal_text(enum dkim_refusal r)
{
    switch (r) {
    case DKIM_SIGNABLE: return "it is signed";
    case DKIM_NO_FROM: return "there is no From with a domain";
    case DKIM_MANY_FROM: return "From stands more than once";
    case DKIM_NO_KEY: return "there is no key for its domain";
    case DKIM_NOT_ALLOWED: return "the account may not send as its domain";
    case DKIM_MANY_FIELDS: return "there are too many fields to sign";
    }
    return "";
}

/* ---- which fields, in which order ---- */

struct chosen {
    struct bytes fields[DKIM_FIELDS_MAX]; /* as they stand in the message */
    uint16_t row[DKIM_FIELDS_MAX];        /* of the keyring's table */
    size_t count;
    struct bytes from;
    size_t from_count;
    bool too_many;
};

static int row_of(const struct dkim_keyring *ring, struct bytes name)
{
    for (size_t i = 0; i < ring->field_count; i++)
        if (ring->fields[i].len == name.len &&
            bytes_ieq(name, bytes_make(ring->fields[i].name, ring->fields[i].len)))
            return (int)i;
    return -1;
}

static void choose(const struct dkim_keyring *ring, struct bytes section, struct chosen *c)
{
    struct bytes field;

    while (dkim_field_next(&section, &field)) {
        struct bytes name = dkim_field_name(field);
        int row = row_of(ring, name);
        if (bytes_ieq(name, BYTES("From"))) {
            c->from = bytes_skip(field, bytes_find(field, ':') + 1);
            c->from_count++;
        }
        if (row < 0)
            continue;
        if (c->count == DKIM_FIELDS_MAX) {
            c->too_many = true;
            return;
        }
        c->fields[c->count] = field;
        c->row[c->count++] = (uint16_t)row;
    }
}

/* Of fields of one name the last one comes first (RFC 6376 §5.4.2).  Writes h= and hashes in the same order.
 */
static void list_fields(const struct dkim_keyring *ring, const struct chosen *c, struct buf *names,
                        struct buf *canonical)
{
    size_t line = 3; /* tab, "h=" */

    for (size_t row = 0; row < ring->field_count; row++) {
        const struct dkim_field *f = &ring->fields[row];
        size_t times = 0;
        for (size_t i = c->count; i-- > 0;) {
            if (c->row[i] != row)
                continue;
            dkim_canon_field(c->fields[i], true, canonical);
            times++;
        }
        if (f->oversign == OVERSIGN_ALWAYS || (f->oversign == OVERSIGN_PRESENT && times))
            times++;
        for (; times; times--) {
            if (names->len && line + f->len + 2 > LINE_MAX_OCTETS) {
                buf_puts(names, "\r\n\t");
                line = 1;
            }
            if (names->len)
                buf_putc(names, ':');
            buf_put(names, bytes_make(f->name, f->len));
            line += f->len + 1;
        }
    }
}

/* ---- the text, with room ---- */

static void put_room(struct buf *text, size_t base64_len)
{
    for (size_t i = 0; i < base64_len; i++) {
        if (i && i % LINE_MAX_OCTETS == 0)
            buf_puts(text, "\r\n\t");
        buf_putc(text, 'A');
    }
}

static void add_signature(struct dkim_signing *s, const struct dkim_entry *entry, struct bytes names,
                          int64_t now)
{
    struct signature *g = &s->signatures[s->count++];
    enum dkim_algorithm a = dkim_key_algorithm(entry->key);

    g->entry = entry;
    g->at = s->text.len;
    buf_putf(&s->text, "DKIM-Signature: v=1; a=%s; c=relaxed/relaxed;\r\n\td=%s; s=%s;",
             dkim_algorithm_name(a), entry->domain, entry->selector);
    if (s->ring->timestamp)
        buf_putf(&s->text, " t=%lld;", (long long)now);
    if (s->ring->timestamp && s->ring->expire_s)
        buf_putf(&s->text, " x=%lld;", (long long)(now + (int64_t)s->ring->expire_s));
    buf_puts(&s->text, "\r\n\th=");
    buf_put(&s->text, names);
    buf_puts(&s->text, ";\r\n\tbh=");
    g->hash_at = s->text.len;
    put_room(&s->text, HASH_TEXT);
    buf_puts(&s->text, ";\r\n\tb=");
    g->signature_at = s->text.len;
    put_room(&s->text, (dkim_key_signature_bytes(entry->key) + 2) / 3 * 4);
    buf_puts(&s->text, "\r\n");
    g->end = s->text.len;
}

/* Over the room that put_room() made, its line ends included. */
static void fill_room(struct buf *text, size_t at, struct bytes octets)
{
    BUF_LOCAL(base64);
    char *to = text->at + at;

    base64_encode(octets, &base64);
    for (size_t i = 0; i < base64.len; i++) {
        if (i && i % LINE_MAX_OCTETS == 0)
            to += 3;
        *to++ = base64.at[i];
    }
}

/* ---- public ---- */

static bool account_allows(const struct account *account, struct bytes domain)
{
    if (!account || !account->name || account->sender_domain_count == 0)
        return true;
    for (size_t i = 0; i < account->sender_domain_count; i++) {
        struct bytes row = bytes_of(account->sender_domains[i]);
        if (bytes_starts(row, BYTES(".")) ? domain_has_suffix(domain, row) : bytes_ieq(domain, row))
            return true;
    }
    return false;
}

enum dkim_refusal dkim_signing_make(struct dkim_keyring *ring, const struct bytes *sections, size_t count,
                                    const struct account *account, int64_t now_unix,
                                    struct dkim_signing **out)
{
    char domain[DOMAIN_MAX_BYTES + 1];
    struct chosen c;

    c.count = c.from_count = 0;
    c.too_many = false;
    for (size_t i = 0; i < count; i++)
        choose(ring, sections[i], &c);
    if (c.from_count > 1)
        return DKIM_MANY_FROM;
    if (c.too_many)
        return DKIM_MANY_FIELDS;
    if (c.from_count == 0 || !dkim_from_domain(c.from, domain))
        return DKIM_NO_FROM;
    const struct dkim_signers *signers = dkim_keyring_find(ring, domain);
    if (!signers)
        return DKIM_NO_KEY;
    if (!account_allows(account, bytes_of(domain)))
        return DKIM_NOT_ALLOWED;
    struct dkim_signing *s = MEM_NEW(struct dkim_signing);
    BUF_LOCAL(names);
    bool exact = strcmp(signers->domain, domain) == 0;
    s->ring = dkim_keyring_ref(ring);
    s->hash = sha256_create();
    list_fields(ring, &c, &names, &s->header);
    for (size_t a = 0; a < DKIM_ALGORITHMS; a++) {
        const struct dkim_entry *e = signers->by_algorithm[a];
        if (e && (exact || e->subdomains))
            add_signature(s, e, buf_bytes(&names), now_unix);
    }
    *out = s;
    return DKIM_SIGNABLE;
}

struct bytes dkim_signing_fields(const struct dkim_signing *s)
{
    return buf_bytes(&s->text);
}

size_t dkim_signing_count(const struct dkim_signing *s)
{
    return s->count;
}

static void hash_gathered(struct dkim_signing *s)
{
    sha256_put(s->hash, bytes_make(s->gathered, s->gathered_len));
    s->gathered_len = 0;
}

static void hash_run(void *signing, struct bytes run)
{
    struct dkim_signing *s = signing;

    if (run.len > sizeof(s->gathered) - s->gathered_len)
        hash_gathered(s);
    if (run.len > sizeof(s->gathered) / 2) {
        hash_gathered(s);
        sha256_put(s->hash, run);
        return;
    }
    memcpy(s->gathered + s->gathered_len, run.at, run.len);
    s->gathered_len += run.len;
}

void dkim_signing_body(struct dkim_signing *s, struct bytes octets)
{
    dkim_canon_body_put(&s->body, octets, hash_run, s);
}

void dkim_signing_seal(struct dkim_signing *s)
{
    unsigned char hash[SHA256_BYTES];
    BUF_LOCAL(own);

    dkim_canon_body_end(&s->body, hash_run, s);
    hash_gathered(s);
    sha256_finish(s->hash, hash);
    for (size_t i = 0; i < s->count; i++) {
        struct signature *g = &s->signatures[i];
        fill_room(&s->text, g->hash_at, bytes_make(hash, sizeof(hash)));
        buf_clear(&own);
        dkim_canon_field(bytes_make(s->text.at + g->at, g->signature_at - g->at), false, &own);
        sha256_put(s->hash, buf_bytes(&s->header));
        sha256_put(s->hash, buf_bytes(&own));
        sha256_finish(s->hash, g->digest);
    }
}

enum err dkim_signing_sign(struct dkim_signing *s)
{
    unsigned char signature[DKIM_SIGNATURE_MAX];

    for (size_t i = 0; i < s->count; i++) {
        struct signature *g = &s->signatures[i];
        enum err e = dkim_key_sign(g->entry->key, g->digest, signature);
        if (e)
            return e;
        fill_room(&s->text, g->signature_at, bytes_make(signature, dkim_key_signature_bytes(g->entry->key)));
    }
    return OK;
}

void dkim_signing_destroy(struct dkim_signing *s)
{
    if (!s)
        return;
    dkim_keyring_unref(s->ring);
    sha256_destroy(s->hash);
    buf_fini(&s->header);
    buf_fini(&s->text);
    mem_free(s);
}
