#include "engine/dkim/canon.h"

/* ---- header fields ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct bytes dkim_field_name(struct bytes field)
{
    size_t colon = bytes_find(field, ':');

    if (colon == field.len)
        return (struct bytes){0};
    return bytes_trim(bytes_first(field, colon));
}

bool dkim_field_next(struct bytes *rest, struct bytes *field)
{
    size_t len = 0;

    if (rest->len == 0 || is_blank(rest->at[0]) || rest->at[0] == '\r' || rest->at[0] == '\n')
        return false;
    do
        len += bytes_find(bytes_skip(*rest, len), '\n') + 1;
    while (len < rest->len && is_blank(rest->at[len]));
    *field = bytes_first(*rest, len);
    *rest = bytes_skip(*rest, len);
    return true;
}

size_t dkim_header_length(struct bytes message)
{
    size_t at = 0;

    while (at < message.len) {
        size_t line = bytes_find(bytes_skip(message, at), '\n') + 1;
        if (line <= 2)
            return at;
        at += line;
    }
    return message.len;
}

/* Without its line ends, each run of blanks as one, and none at the end. */
static void put_value(struct bytes value, struct buf *out)
{
    char *to = buf_reserve(out, value.len);
    size_t n = 0;
    bool blank = false;

    for (size_t i = 0; i < value.len; i++) {
        char c = value.at[i];
        if (c == '\r' && i + 1 < value.len && value.at[i + 1] == '\n') {
            i++;
        } else if (is_blank(c)) {
            blank = n > 0;
        } else {
            if (blank)
                to[n++] = ' ';
            blank = false;
            to[n++] = c;
        }
    }
    out->len += n;
}

void dkim_canon_field(struct bytes field, bool crlf, struct buf *out)
{
    struct bytes name = dkim_field_name(field);

    for (size_t i = 0; i < name.len; i++)
        buf_putc(out, ascii_lower(name.at[i]));
    buf_putc(out, ':');
    put_value(bytes_skip(field, bytes_find(field, ':') + 1), out);
    if (crlf)
        buf_puts(out, "\r\n");
}

/* ---- body ---- */

#define NEWLINES 32
static const char newlines[2 * NEWLINES + 1] =
    "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n"
    "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n";

/* Something follows: what was held back counts. */
static void release(struct dkim_canon_body *c, dkim_canon_fn fn, void *arg)
{
    for (uint64_t n; c->lines; c->lines -= n) {
        n = MIN_OF(c->lines, (uint64_t)NEWLINES);
        fn(arg, bytes_make(newlines, (size_t)n * 2));
    }
    if (c->blank)
        fn(arg, BYTES(" "));
    c->blank = false;
    c->any = true;
}

/* How much of `in`, which begins with an octet that counts, is canonical as it stands: most text is, to its
 * end. */
static size_t plain_length(struct bytes in)
{
    const unsigned char *begin = (const unsigned char *)in.at, *p = begin, *end = begin + in.len;

    while (p < end) {
        if (*p > ' ')
            p++;
        else if (*p == ' ' && end - p > 1 && p[1] > ' ')
            p += 2;
        else if (*p == '\r' && end - p > 2 && p[1] == '\n' && p[2] > ' ')
            p += 3;
        else
            break;
    }
    return (size_t)(p - begin);
}

void dkim_canon_body_put(struct dkim_canon_body *c, struct bytes in, dkim_canon_fn fn, void *arg)
{
    while (in.len) {
        char octet = in.at[0];
        size_t used = 1;
        if (c->cr && octet == '\n') {
            c->cr = c->blank = false;
            c->lines++;
        } else if (c->cr) { /* it stood alone */
            c->cr = false;
            release(c, fn, arg);
            fn(arg, BYTES("\r"));
            used = 0;
        } else if (octet == '\r') {
            c->cr = true;
        } else if (is_blank(octet)) {
            c->blank = true;
        } else {
            used = MAX_OF(plain_length(in), (size_t)1);
            release(c, fn, arg);
            fn(arg, bytes_first(in, used));
        }
        in = bytes_skip(in, used);
    }
}

void dkim_canon_body_end(struct dkim_canon_body *c, dkim_canon_fn fn, void *arg)
{
    if (c->cr) {
        release(c, fn, arg);
        fn(arg, BYTES("\r"));
    }
    if (c->any)
        fn(arg, BYTES("\r\n"));
}
