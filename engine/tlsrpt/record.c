/*
 *     tlsrpt-record = "v=TLSRPTv1" 1*(field-delim field) [field-delim]        RFC 8460 §3
 *     field-delim   = *WSP ";" *WSP
 *     field         = "rua=" uri *(*WSP "," *WSP uri) / name "=" value
 *
 * "," "!" and ";" inside of an URI are percent-encoded.  Where "!" stands in clear it is the size limit that
 * DMARC knows ("!10m") and this standard does not: it is cut off.
 */
#include "engine/tlsrpt/record.h"

#include "policy/domain.h"

#define TXT_BYTES_MAX 16384 /* of one record */
#define LOCAL_MAX     64

static const char version[] = "v=TLSRPTv1";

const char *tlsrpt_record_kind_name(enum tlsrpt_record_kind k)
{
    static const char *const names[] = {"none", "found", "several", "broken"};

    return names[k];
}

/* ---- one URI ---- */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decoding (RFC 3986 §2.1): false at a bad escape. */
static bool decode_percent(struct bytes in, struct buf *out)
{
    for (size_t i = 0; i < in.len; i++) {
        char c = in.at[i];
        if (c == '%') {
            int high = i + 2 < in.len ? hex(in.at[i + 1]) : -1, low = i + 2 < in.len ? hex(in.at[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        buf_putc(out, c);
    }
    return true;
}

bool tlsrpt_is_address(struct bytes address)
{
    struct bytes domain = domain_of_address(address);
    char normal[DOMAIN_MAX_BYTES + 1];

    for (size_t i = 0; i < address.len; i++) /* quoted local parts and UTF-8: nobody has reports sent there */
        if (address.at[i] <= ' ' || address.at[i] >= 0x7f || strchr("<>()[]\\,;:\"", address.at[i]))
            return false;

    if (domain.len == 0 || address.len < domain.len + 2 || address.len - domain.len - 1 > LOCAL_MAX)
        return false;
    return bytes_find(address, '@') == address.len - domain.len - 1 && domain_normalise(domain, normal) == OK;
}

/* "addr" of "mailto:addr?subject=x".  A list of addresses has a comma, which would have ended the URI. */
static bool take_mailto(struct bytes rest, struct arena *arena, struct tlsrpt_rua *out)
{
    BUF_LOCAL(address);

    if (!decode_percent(bytes_first(rest, bytes_find(rest, '?')), &address) ||
        !tlsrpt_is_address(buf_bytes(&address)))
        return false;
    *out = (struct tlsrpt_rua){.to = arena_dup(arena, buf_bytes(&address))};
    return true;
}

static bool take_https(struct bytes uri, struct bytes rest, struct arena *arena, struct tlsrpt_rua *out)
{
    if (rest.len == 0 || rest.at[0] == '/' || rest.at[0] == ':')
        return false; /* no host */
    for (size_t i = 0; i < uri.len; i++)
        if (uri.at[i] <= ' ' || uri.at[i] >= 0x7f || strchr("\"<>\\^`{|}", uri.at[i]))
            return false;
    *out = (struct tlsrpt_rua){.https = true, .to = arena_dup(arena, uri)};
    return true;
}

static bool after_scheme(struct bytes uri, struct bytes scheme, struct bytes *rest)
{
    if (!bytes_istarts(uri, scheme))
        return false;
    *rest = bytes_skip(uri, scheme.len);
    return true;
}

bool tlsrpt_uri_parse(struct bytes uri, struct arena *arena, struct tlsrpt_rua *out)
{
    struct bytes rest;

    uri = bytes_first(uri, bytes_find(uri, '!'));
    if (uri.len > TLSRPT_URI_BYTES)
        return false;
    if (after_scheme(uri, BYTES("mailto:"), &rest))
        return take_mailto(rest, arena, out);
    if (after_scheme(uri, BYTES("https://"), &rest))
        return take_https(uri, rest, arena, out);
    return false;
}

/* ---- one record ---- */

static void take_rua(struct bytes value, struct arena *arena, struct tlsrpt_record *out)
{
    while (value.len && out->count < TLSRPT_RUA_MAX) {
        size_t end = bytes_find(value, ',');
        if (tlsrpt_uri_parse(bytes_trim(bytes_first(value, end)), arena, &out->rua[out->count]))
            out->count++;
        value = bytes_skip(value, end + 1);
    }
}

static bool is_name(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = ascii_lower(name.at[i]);
        bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!alnum && (i == 0 || !strchr("_-.", c)))
            return false;
    }
    return name.len > 0;
}

bool tlsrpt_record_parse_text(struct bytes text, struct arena *arena, struct tlsrpt_record *out)
{
    struct tlsrpt_record r = {0};

    if (!bytes_starts(text, bytes_of(version)))
        return false;
    text = bytes_skip(text, sizeof(version) - 1);
    text = bytes_trim(text);
    while (text.len) {
        if (text.at[0] != ';')
            return false; /* "v=TLSRPTv10" is another version */
        text = bytes_skip(text, 1);
        struct bytes field = bytes_trim(bytes_first(text, bytes_find(text, ';')));
        text = bytes_skip(text, bytes_find(text, ';'));
        if (!field.len)
            continue; /* ";;" and a ";" at the end */
        size_t equals = bytes_find(field, '=');
        if (equals == field.len || !is_name(bytes_trim(bytes_first(field, equals))))
            return false;
        if (bytes_eq(bytes_trim(bytes_first(field, equals)), BYTES("rua")))
            take_rua(bytes_skip(field, equals + 1), arena, &r);
    }
    if (!r.count)
        return false;
    *out = r;
    return true;
}

/* ---- all records ---- */

/* False: the strings run over the end. */
static bool join_strings(struct bytes rdata, struct buf *out)
{
    while (rdata.len) {
        size_t len = (unsigned char)rdata.at[0];
        if (len + 1 > rdata.len || out->len + len > TXT_BYTES_MAX)
            return false;
        buf_put(out, bytes_make(rdata.at + 1, len));
        rdata = bytes_skip(rdata, len + 1);
    }
    return true;
}

/* §3: "v=TLSRPTv1;" begins it. */
static bool is_ours(struct bytes text)
{
    struct bytes rest = bytes_skip(text, sizeof(version) - 1);

    return bytes_starts(text, bytes_of(version)) && bytes_trim(rest).len && bytes_trim(rest).at[0] == ';';
}

enum tlsrpt_record_kind tlsrpt_record_parse(const struct bytes *rdata, size_t count, struct arena *arena,
                                            struct tlsrpt_record *out)
{
    size_t ours = 0;
    bool good = false;

    for (size_t i = 0; i < count; i++) {
        BUF_LOCAL(text);
        if (!join_strings(rdata[i], &text) || !is_ours(buf_bytes(&text)))
            continue;
        if (++ours == 1)
            good = tlsrpt_record_parse_text(buf_bytes(&text), arena, out);
    }
    if (ours > 1)
        return TLSRPT_RECORD_SEVERAL;
    if (!ours)
        return TLSRPT_RECORD_NONE;
    return good ? TLSRPT_RECORD_FOUND : TLSRPT_RECORD_BROKEN;
}
