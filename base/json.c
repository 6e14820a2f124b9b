#include "base/json.h"

/* A value never ends in one of these, so the last octet tells whether one stands before. */
static void put_key(struct buf *out, const char *key)
{
    char last = out->len ? out->at[out->len - 1] : '[';

    if (last != '{' && last != '[' && last != ':' && last != '\n')
        buf_putc(out, ',');
    if (key)
        buf_putf(out, "\"%s\":", key);
}

/* Octets of the UTF-8 sequence at the start, or 0: bad, cut, overlong, surrogate, above U+10FFFF (RFC 3629
 * §4). */
static size_t utf8_length(struct bytes s)
{
    const unsigned char *p = (const unsigned char *)s.at;
    size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

    if (len > s.len)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool beyond = (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f);
    return overlong || beyond ? 0 : len;
}

static void put_string(struct buf *out, struct bytes s)
{
    buf_putc(out, '"');
    while (s.len) {
        size_t len = utf8_length(s);
        unsigned char c = (unsigned char)*s.at;
        if (len == 0)
            buf_puts(out, "\xef\xbf\xbd");
        else if (c == '"' || c == '\\')
            buf_putf(out, "\\%c", c);
        else if (c == '\n')
            buf_puts(out, "\\n");
        else if (c < 0x20 || c == 0x7f)
            buf_putf(out, "\\u%04x", c);
        else
            buf_put(out, bytes_first(s, len));
        s = bytes_skip(s, MAX_OF(len, (size_t)1));
    }
    buf_putc(out, '"');
}

void json_begin(struct buf *out, const char *key, char bracket)
{
    put_key(out, key);
    buf_putc(out, bracket);
}

void json_end(struct buf *out, char bracket)
{
    buf_putc(out, bracket);
}

void json_put_bytes(struct buf *out, const char *key, struct bytes value)
{
    put_key(out, key);
    put_string(out, value);
}

void json_put_text(struct buf *out, const char *key, const char *value)
{
    if (value)
        json_put_bytes(out, key, bytes_of(value));
    else
        json_put_null(out, key);
}

void json_put_int(struct buf *out, const char *key, int64_t value)
{
    put_key(out, key);
    buf_putf(out, "%lld", (long long)value);
}

void json_put_count(struct buf *out, const char *key, uint64_t value)
{
    put_key(out, key);
    buf_putf(out, "%llu", (unsigned long long)value);
}

void json_put_bool(struct buf *out, const char *key, bool value)
{
    put_key(out, key);
    buf_puts(out, value ? "true" : "false");
}

void json_put_null(struct buf *out, const char *key)
{
    put_key(out, key);
    buf_puts(out, "null");
}

void json_put_raw(struct buf *out, const char *key, struct bytes json)
{
    put_key(out, key);
    buf_put(out, json);
}
