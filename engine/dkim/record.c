#include "engine/dkim/record.h"

#include "base/base64.h"

#define STRING_MAX 255 /* of one string of a TXT record */

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool dkim_selector_is_valid(struct bytes selector)
{
    size_t label = 0;

    for (size_t i = 0; i < selector.len; i++) {
        char c = selector.at[i];
        if (c == '.') {
            if (label == 0)
                return false;
            label = 0;
        } else if ((!is_alnum(c) && c != '-' && c != '_') || ++label > 63) {
            return false;
        }
    }
    return label > 0 && selector.len <= 120;
}

void dkim_record_name(const char *selector, const char *domain, struct buf *out)
{
    buf_putf(out, "%s._domainkey.%s", selector, domain);
}

void dkim_record_format(const struct dkim_key *k, struct buf *out)
{
    BUF_LOCAL(key);

    dkim_key_public(k, &key);
    buf_putf(out, "v=DKIM1; k=%s; p=", dkim_algorithm_key_type(dkim_key_algorithm(k)));
    base64_encode(buf_bytes(&key), out);
}

void dkim_record_zone(const char *name, struct bytes text, struct buf *out)
{
    buf_putf(out, "%s. IN TXT (", name);
    while (text.len) {
        struct bytes part = bytes_first(text, STRING_MAX);
        buf_puts(out, " \"");
        buf_put(out, part);
        buf_putc(out, '"');
        text = bytes_skip(text, part.len);
    }
    buf_puts(out, " )");
}

/* ---- reading: a tag list, RFC 6376 §3.2 ---- */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct bytes trim(struct bytes s)
{
    while (s.len && is_space(s.at[0]))
        s = bytes_skip(s, 1);
    while (s.len && is_space(s.at[s.len - 1]))
        s.len--;
    return s;
}

static bool next_tag(struct bytes *rest, struct bytes *name, struct bytes *value, bool *whole)
{
    struct bytes tag = trim(bytes_first(*rest, bytes_find(*rest, ';')));
    bool any = rest->len > 0;

    *rest = bytes_skip(*rest, bytes_find(*rest, ';') + 1);
    size_t equals = bytes_find(tag, '=');
    *whole = equals < tag.len;
    *name = trim(bytes_first(tag, equals));
    *value = trim(bytes_skip(tag, equals + 1));
    return any;
}

static bool list_has(struct bytes list, struct bytes word)
{
    while (list.len) {
        struct bytes item = trim(bytes_first(list, bytes_find(list, ':')));
        if (bytes_ieq(item, word))
            return true;
        list = bytes_skip(list, bytes_find(list, ':') + 1);
    }
    return false;
}

static bool take_key(struct dkim_record *r, struct bytes value)
{
    BUF_LOCAL(base64);

    r->has_key = true;
    for (size_t i = 0; i < value.len; i++)
        if (!is_space(value.at[i]))
            buf_putc(&base64, value.at[i]);
    r->revoked = base64.len == 0;
    buf_clear(&r->key);
    return base64_decode(buf_bytes(&base64), &r->key);
}

static const char *take_tag(struct dkim_record *r, struct bytes name, struct bytes value, bool first)
{
    if (name.len != 1)
        return NULL; /* unknown tags are ignored */
    switch (name.at[0]) {
    case 'v':
        r->has_version = true;
        r->version_first = first;
        r->version = value;
        break;
    case 'k': r->key_type = value; break;
    case 'h': r->hashes = value; break;
    case 's': r->services = value; break;
    case 't': r->testing = list_has(value, BYTES("y")); break;
    case 'p':
        if (r->has_key)
            return "p= stands twice";
        if (!take_key(r, value))
            return "p= is not base64";
        break;
    default: break;
    }
    return NULL;
}

enum err dkim_record_parse(struct bytes text, struct dkim_record *out, const char **why)
{
    struct dkim_record r = {0};
    struct bytes name, value;
    bool whole, first = true;

    *why = NULL;
    while (!*why && next_tag(&text, &name, &value, &whole)) {
        if (!whole && name.len)
            *why = "it is not a list of tags, like v=DKIM1; k=rsa; p=...";
        else if (whole)
            *why = take_tag(&r, name, value, first);
        first = false;
    }
    if (!*why && r.has_version && (!r.version_first || !bytes_eq(r.version, BYTES("DKIM1"))))
        *why = "v= must come first and say DKIM1";
    if (!*why && !r.has_key)
        *why = "it has no p=";
    if (*why) {
        dkim_record_fini(&r);
        return ERR_INVALID;
    }
    *out = r;
    return OK;
}

void dkim_record_fini(struct dkim_record *r)
{
    buf_fini(&r->key);
}

/* ---- comparing ---- */

const char *dkim_verdict_name(enum dkim_verdict v)
{
    static const char *const names[] = {"good",    "testing",    "missing",   "several",   "broken",
                                        "revoked", "other-type", "other-key", "restricted"};
    return names[v];
}

/* Some publish RSAPublicKey, as RFC 6376 §3.6.1 has it, in place of SubjectPublicKeyInfo, whose end it is. */
static bool is_same_key(struct bytes ours, struct bytes published, enum dkim_algorithm a)
{
    if (bytes_eq(ours, published))
        return true;
    return a == DKIM_RSA && published.len > DKIM_RSA_BITS_MIN / 8 && published.len < ours.len &&
           bytes_eq(bytes_skip(ours, ours.len - published.len), published);
}

static enum dkim_verdict judge(const struct dkim_key *k, const struct dkim_record *r, struct buf *explain)
{
    enum dkim_algorithm a = dkim_key_algorithm(k);
    struct bytes type = r->key_type.len ? r->key_type : BYTES("rsa");
    BUF_LOCAL(ours);

    if (r->revoked) {
        buf_puts(explain, "p= is empty: the key is revoked, and receivers reject its signatures");
        return DKIM_RECORD_REVOKED;
    }
    if (!bytes_eq(type, bytes_of(dkim_algorithm_key_type(a)))) {
        buf_putf(explain, "k= says %.*s, and the key is %s", (int)MIN_OF(type.len, (size_t)40), type.at,
                 dkim_algorithm_key_type(a));
        return DKIM_RECORD_OTHER_TYPE;
    }
    dkim_key_public(k, &ours);
    if (!is_same_key(buf_bytes(&ours), buf_bytes(&r->key), a)) {
        buf_puts(explain,
                 "p= is another key: publish ours, or name the file that belongs to the one published");
        return DKIM_RECORD_OTHER_KEY;
    }
    if (r->hashes.len && !list_has(r->hashes, BYTES("sha256"))) {
        buf_puts(explain, "h= leaves out sha256, which is what we sign with");
        return DKIM_RECORD_RESTRICTED;
    }
    if (r->services.len && !list_has(r->services, BYTES("*")) && !list_has(r->services, BYTES("email"))) {
        buf_puts(explain, "s= leaves out email: the key is for other services");
        return DKIM_RECORD_RESTRICTED;
    }
    if (r->testing) {
        buf_puts(explain, "t=y says that you are testing: receivers may treat the mail as unsigned");
        return DKIM_RECORD_TESTING;
    }
    return DKIM_RECORD_GOOD;
}

enum dkim_verdict dkim_record_compare(const struct dkim_key *k, const struct bytes *texts, size_t count,
                                      struct buf *explain)
{
    struct dkim_record record;
    const char *why;

    if (count == 0) {
        buf_puts(explain, "there is no TXT record at this name: publish the one shown");
        return DKIM_RECORD_MISSING;
    }
    if (count > 1) {
        buf_putf(explain, "%zu TXT records stand at this name: leave one", count);
        return DKIM_RECORD_SEVERAL;
    }
    if (dkim_record_parse(texts[0], &record, &why) != OK) {
        buf_putf(explain, "the TXT record is no DKIM key: %s", why);
        return DKIM_RECORD_BROKEN;
    }
    enum dkim_verdict v = judge(k, &record, explain);
    dkim_record_fini(&record);
    return v;
}
